"""Measure the error rates of the whole verdict, and of the paired t and DeLong beside it, on stored-score models.

`python workflow_scripts/simulate_errors.py docs/statistics_errors.json` writes the JSON that the tables in
docs/statistics.md are made from (`--table` prints them from the JSON). Each setting has a fixed seed of its own; what
the file holds of the same setting is kept, so that a stopped call goes on. Delete the file to measure all anew.
"""

import argparse
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from synthgain.runtime.files import read_json, write_json
from synthgain.seeds import random_generator
from synthgain.statistics import error_cases, error_rates, simulation


def main() -> None:
    """Run every setting that the file does not hold, or print the tables of an existing file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--table", action="store_true", help="print the Markdown tables of an existing file")
    arguments = parser.parse_args()
    found = read_json(arguments.output) if arguments.output.exists() else {"seed": 0, "verdict": [], "results": []}
    if not arguments.table:
        runs = simulation.DECLARED_RUNS
        todo: list[tuple[str, str, Any, int, Callable[..., dict[str, Any]]]] = [
            *(("verdict", "case", case, case.runs, error_rates.error_rates) for case in error_cases.CASES),
            *(("results", "setting", setting, runs, simulation.rejection_rates) for setting in simulation.SETTINGS),
        ]
        for table, key, setting, count, measure in todo:
            if not any(row[key] == asdict(setting) and row["runs"] == count for row in found[table]):
                row = measure(setting, count, random_generator(study=0, step="simulate_errors", name=setting.name))
                same = [at for at, old in enumerate(found[table]) if old[key]["name"] == setting.name]
                found[table] = [old for at, old in enumerate(found[table]) if at not in same] + [row]
                write_json(arguments.output, found)
        for table, key, order in (("verdict", "case", error_cases.CASES), ("results", "setting", simulation.SETTINGS)):
            places = {entry.name: at for at, entry in enumerate(order)}
            rows = [row for row in found[table] if row[key]["name"] in places]
            found[table] = sorted(rows, key=lambda row: places[row[key]["name"]])
        write_json(arguments.output, found)
    print(error_rates.markdown_table(found["verdict"]), simulation.markdown_table(found["results"]), sep="\n\n")


if __name__ == "__main__":
    main()
