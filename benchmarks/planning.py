"""Time spent inside the Snakefile: reading the config, digesting the code, planning every job.

    python benchmarks/planning.py [study.yaml]

Prints CPU seconds of a fresh process, without and with the cache of code facts, and what was imported.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
CODE = """
import json, os, sys, time
start = time.process_time()
sys.path.insert(0, "{root}/workflow_scripts")
from pathlib import Path
from synthgain.study.load import read_yaml
from synthgain.study.session import Session
imported = time.process_time()
session = Session(read_yaml(Path("{study}")), Path("{root}"), Path("results"))
opened = time.process_time()
jobs = sum(len(found) for found in session.expected().values())
heavy = sorted(set(sys.modules) & {{"torch", "pandas", "numpy", "scipy", "diffusers", "monai"}})
print(json.dumps({{"imports": imported - start, "open": opened - imported,
                  "plan": time.process_time() - opened, "jobs": jobs, "heavy": heavy}}))
"""


def main() -> None:
    """Measure twice in one temporary folder: the second call finds the cache of the first."""
    study = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "config.yaml").resolve()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / ".snakemake").mkdir()
        for name in ("first call", "later calls"):
            command = [sys.executable, "-c", CODE.format(root=ROOT.resolve(), study=study)]
            done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
            found = json.loads(done.stdout)
            total = found["imports"] + found["open"] + found["plan"]
            parts = ", ".join(f"{key} {found[key]:.2f}" for key in ("imports", "open", "plan"))
            print(f"{name}: {total:.2f} s of CPU ({parts}) for {found['jobs']} jobs; heavy imports: {found['heavy']}")


if __name__ == "__main__":
    main()
