"""Measure the error rates of the whole verdict, and of the paired t and DeLong beside it, on stored-score models.

`python workflow_scripts/simulate_errors.py docs/statistics_errors.json` writes the JSON that the tables in
docs/statistics.md are made from (`--table` prints them from the JSON). The seed is fixed.
"""

import argparse
import sys
from pathlib import Path

from synthgain.runtime.files import read_json, write_json
from synthgain.seeds import random_generator
from synthgain.statistics import error_rates
from synthgain.statistics.error_rates import CASES
from synthgain.statistics.simulation import DECLARED_RUNS, SETTINGS, markdown_table, rejection_rates


def main() -> None:
    """Run every setting, or print the table of an existing file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--runs", type=int, default=DECLARED_RUNS)
    parser.add_argument("--table", action="store_true", help="print the Markdown table of an existing file")
    arguments = parser.parse_args()
    if not arguments.table:
        random = {
            setting.name: random_generator(study=0, step="simulate_errors", name=setting.name) for setting in SETTINGS
        }
        results = [rejection_rates(setting, arguments.runs, random[setting.name]) for setting in SETTINGS]
        verdict = []
        for case in CASES:
            of_case = random_generator(study=0, step="simulate_errors", name=case.name)
            verdict.append(error_rates.error_rates(case, of_case))
            print(case.name, *error_rates.misses(verdict[-1]), sep="; ", file=sys.stderr, flush=True)
        write_json(arguments.output, {"seed": 0, "results": results, "verdict": verdict})
    found = read_json(arguments.output)
    print(error_rates.markdown_table(found["verdict"]), markdown_table(found["results"]), sep="\n\n")


if __name__ == "__main__":
    main()
