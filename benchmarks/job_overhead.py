"""Job overhead: what start-up, imports and I/O take of the jobs that train, sample or predict, in a finished study.

Wall time of a job is Snakemake's benchmark file; the work inside is what its loop measured: the generator's log, the
manifests of downstream training, the progress lines of the others.
"""

import csv
import json
import re
from pathlib import Path

from measure import Options, Row
from study_jobs import ROOT

REACH = 0.15
LOOPS = ("train_generator", "draw_pool_shard", "train_downstream", "predict_downstream")
FINISHED = re.compile(r"\[(.+?)\] .*done in (?:(\d+):)?(\d+):(\d\d)")


def measure(options: Options) -> Row:
    """Read a finished run (`--run`, default results/phantom); without one this row cannot be told."""
    run = options.run or ROOT / "results/phantom"
    what = "job overhead of training, sampling and prediction jobs, default study"
    found = {rule: (jobs_seconds(run, rule), inner_seconds(run, rule)) for rule in LOOPS}
    wall, inner = (sum(pair[k] for pair in found.values()) for k in (0, 1))
    if wall == 0:
        note = "no finished default study: `make run` first, or --run FOLDER"
        return Row("job_overhead", what, "", "", f"<= {REACH:.0%}", None, None, note)
    share = 1 - inner / wall
    parts = ", ".join(f"{rule} {1 - work / whole:.0%}" for rule, (whole, work) in found.items() if whole)
    others = sum(jobs_seconds(run, place.name) for place in (run / "benchmarks").iterdir()) - wall
    details = {"wall_s": wall, "inner_s": inner, "other_jobs_s": others, "rules": found}
    return Row(
        "job_overhead", what, f"{share:.0%} of {wall:.0f} s", "", f"<= {REACH:.0%}", None, share <= REACH, parts,
        details,
    )  # fmt: skip


def jobs_seconds(run: Path, rule: str) -> float:
    """Return the wall seconds of all jobs of a rule, by Snakemake's benchmark files."""
    total = 0.0
    for path in sorted((run / "benchmarks" / rule).glob("*.tsv")):
        with path.open() as handle:
            total += sum(float(row["s"]) for row in csv.DictReader(handle, delimiter="\t"))
    return total


def inner_seconds(run: Path, rule: str) -> float:
    """Return the seconds inside the loops of all jobs of a rule."""
    if rule == "train_generator":
        logs = [list(csv.DictReader(path.open())) for path in run.glob("generators/*/*/training.csv")]
        return sum(float(rows[-1]["seconds"]) for rows in logs if rows)
    if rule == "train_downstream":
        manifests = [json.loads(path.read_text()) for path in run.glob("downstream/*/*/*/*/manifest.json")]
        return float(sum(part["seconds"] for found in manifests for part in found["replicates"].values()))
    return sum(progress_seconds(path) for path in sorted((run / "logs" / rule).glob("*.log")))


def progress_seconds(log: Path) -> float:
    """Return the seconds of the loops that a log saw end, the last one of each name."""
    found = {}
    for name, hours, minutes, seconds in FINISHED.findall(log.read_text()):
        found[name] = 3600 * int(hours or 0) + 60 * int(minutes) + int(seconds)
    return float(sum(found.values()))
