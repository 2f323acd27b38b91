"""All benchmarks as one table, ours against stock parts in the same run.

python benchmarks/run.py [--small] [--only NAME …] [--threads N] [--size PX] [--patients N] [--generator FOLDER]
                         [--run FOLDER] --json FILE

On the CPU, unless SYNTHGAIN_DEVICE=cuda.
"""

import argparse
import importlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
for place in (ROOT / "benchmarks", ROOT / "workflow_scripts"):
    sys.path.insert(0, str(place))

# In the order of the table; each is a module here with `measure(options) -> Row`.
NAMES = (
    "sampling", "latents", "accepted_quality", "pool_draws", "downstream_training", "generator_training",
    "job_overhead", "planning", "memory", "tables", "waiting", "whole_sweep",
)  # fmt: skip

# What compares on a GPU too.
ON_GPU = ("sampling", "latents", "downstream_training", "generator_training")


def main() -> None:
    """Run the chosen benchmarks, print the table and write the JSON after every row."""
    parsed = _parse()
    os.environ["OMP_NUM_THREADS"] = str(parsed.threads)
    os.environ.setdefault("SYNTHGAIN_DEVICE", "cpu")
    import torch
    from measure import Options, machine

    torch.set_num_threads(parsed.threads)
    options = Options(parsed.small, parsed.threads, parsed.generator, parsed.run, parsed.size, parsed.patients)
    found: dict[str, Any] = {"small": parsed.small, "machine": machine(parsed.threads), "rows": []}
    failed: list[str] = []
    for name in parsed.only or (NAMES if os.environ["SYNTHGAIN_DEVICE"] == "cpu" else ON_GPU):
        began = time.perf_counter()
        try:
            row = importlib.import_module(name).measure(options)
        except Exception as problem:  # the other rows are worth having
            failed.append(f"{name}: {type(problem).__name__}: {problem}")
            print(failed[-1], flush=True)
            continue
        found["rows"].append({**row.as_json(), "seconds": round(time.perf_counter() - began, 1)})
        print(line_of(row), flush=True)
        if parsed.json is not None:
            parsed.json.parent.mkdir(parents=True, exist_ok=True)
            parsed.json.write_text(json.dumps(found, indent=1) + "\n")
    print("\n" + table_of(found))
    if failed:
        sys.exit("not measured: " + "; ".join(failed))


def table_of(found: dict[str, Any]) -> str:
    """Return what `docs/performance.md` shows of a JSON file: machine and rows, as Markdown."""
    facts = ", ".join(f"{name} {value}" for name, value in found["machine"].items())
    lines = [
        facts + (", small mode" if found["small"] else ""), "",
        "| what | ours | theirs | ratio (lowest to highest) | reach | met |", "| --- | --- | --- | --- | --- | --- |",
    ]  # fmt: skip
    for row in found["rows"]:
        ratio = "" if row["ratio"] is None else "{:.2f} ({:.2f} to {:.2f})".format(*row["ratio"])
        met = {True: "yes", False: "no", None: "not told"}[row["met"]] + (f": {row['note']}" if row["note"] else "")
        lines.append(f"| {row['what']} | {row['ours']} | {row['theirs']} | {ratio} | {row['reach']} | {met} |")
    return "\n".join(lines)


def line_of(row: Any) -> str:
    """Return one row as a line for the console."""
    ratio = "" if row.ratio is None else "{:.2f}x ({:.2f} to {:.2f})".format(*row.ratio)
    met = {True: "met", False: "MISSED", None: "not told here"}[row.met]
    return f"{row.name}: ours {row.ours}; theirs {row.theirs}; {ratio} reach {row.reach}: {met}. {row.note}"


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Benchmarks of SynthGain against stock parts.")
    parser.add_argument("--small", action="store_true", help="each under a minute on an idle core")
    parser.add_argument("--only", nargs="+", choices=NAMES, metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--generator", type=Path, help="a trained diffusion generator's folder; else one is trained")
    parser.add_argument("--size", type=int, help="px of images, for sampling and training, instead of the study's")
    parser.add_argument("--patients", type=int, help="of the whole sweep instead of 400")
    parser.add_argument("--run", type=Path, help="a finished default study, for job_overhead")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
