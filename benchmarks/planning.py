"""Planning: a quiet dry run of a study of 20,000 jobs, its memory, and the time inside the Snakefile.

Alone: `python benchmarks/planning.py [study.yaml]` prints the seconds inside the Snakefile for any study.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
REPLICATES, SMALL_REPLICATES = 715, 36  # with one replicate a job and two models: 28 jobs each
DRY_RUN_SECONDS, DRY_RUN_BYTES, SNAKEFILE_SECONDS = 60.0, 1e9, 1.0

INSIDE = """
import json, sys, time
start = time.process_time()
sys.path.insert(0, sys.argv[1] + "/workflow_scripts")
from pathlib import Path
from synthgain.study.yaml_files import read_yaml
from synthgain.study.session import Session
imported = time.process_time()
session = Session(read_yaml(Path(sys.argv[2])), Path(sys.argv[1]), Path("results"))
opened = time.process_time()
jobs = sum(len(found) for found in session.expected().values())
heavy = sorted(set(sys.modules) & {"torch", "pandas", "numpy", "scipy", "diffusers", "monai"})
print(json.dumps({"imports": imported - start, "open": opened - imported,
                  "plan": time.process_time() - opened, "jobs": jobs, "heavy": heavy}))
"""


def measure(options: Any) -> Any:
    """Time a dry run of the default study with a second model and so many replicates (small: a twentieth of them)."""
    from measure import Row
    from study_jobs import default_study

    count = SMALL_REPLICATES if options.small else REPLICATES
    config = default_study(replicates__count=count, replicates__per_job=1)
    config["models"]["second"] = dict(config["models"]["cnn"])
    with TemporaryDirectory() as name:
        folder = Path(name)
        study = folder / "study.yaml"
        study.write_text(yaml.safe_dump(config))
        (folder / ".snakemake").mkdir()
        inside_snakefile(study, folder)  # the first call fills the cache of facts about the code
        inside = inside_snakefile(study, folder)
        seconds, wall, peak = dry_run(study, folder)
    snakefile = inside["imports"] + inside["open"]
    met = seconds <= DRY_RUN_SECONDS and peak <= DRY_RUN_BYTES and snakefile < SNAKEFILE_SECONDS
    details = {"dry_run_wall_s": wall, "dry_run_cpu_s": seconds, "peak_bytes": peak, "inside": inside}
    jobs = f"{inside['jobs']} jobs {inside['plan']:.1f} s"
    ours = f"{seconds:.0f} s, {peak / 1e9:.2f} GB; Snakefile {snakefile:.2f} s, its {jobs}"
    return Row(
        "planning", f"planning, quiet dry run of {inside['jobs']} jobs, processor seconds", ours, "",
        "20,000 jobs: <= 60 s, <= 1 GB, < 1 s inside the Snakefile", None,
        None if options.small and met else met, "a twentieth of the jobs" if options.small else "", details,
    )  # fmt: skip


def inside_snakefile(study: Path, folder: Path) -> dict[str, Any]:
    """Return processor seconds of a fresh process that opens the study and plans every job, and what it imported."""
    command = [sys.executable, "-c", INSIDE, str(ROOT), str(study)]
    done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def dry_run(study: Path, folder: Path) -> tuple[float, float, int]:
    """Return (processor seconds, wall seconds, peak resident bytes) of `snakemake --dry-run --quiet`."""
    command = [sys.executable, "-m", "snakemake", "--dry-run", "--quiet", "--cores", "1", "--scheduler", "greedy"]
    command += ["--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder), "--configfile", str(study)]
    said, peak, done = folder / "said.txt", 0, 0
    began = time.perf_counter()
    with said.open("w") as output:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=output, cwd=folder)
    while not done:
        peak = max(peak, peak_bytes(process.pid))
        done, status, usage = os.wait4(process.pid, os.WNOHANG)
        time.sleep(0.1)
    if status:
        raise RuntimeError(f"the dry run failed: {said.read_text()[-2000:]}")
    return usage.ru_utime + usage.ru_stime, time.perf_counter() - began, peak


def peak_bytes(pid: int) -> int:
    """Return the peak resident bytes of a living process. Its `ru_maxrss` would count what it was forked from."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0)


def main() -> None:
    """Measure twice in one temporary folder: the second call finds the cache of the first."""
    study = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "config.yaml").resolve()
    with TemporaryDirectory() as folder:
        (Path(folder) / ".snakemake").mkdir()
        for name in ("first call", "later calls"):
            found = inside_snakefile(study, Path(folder))
            total = found["imports"] + found["open"] + found["plan"]
            parts = ", ".join(f"{key} {found[key]:.2f}" for key in ("imports", "open", "plan"))
            print(f"{name}: {total:.2f} s of CPU ({parts}) for {found['jobs']} jobs; heavy imports: {found['heavy']}")


if __name__ == "__main__":
    main()
