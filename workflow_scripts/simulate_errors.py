"""Measure the error rates of the primary test, of the paired t and of DeLong, on stored-score models.

`python workflow_scripts/simulate_errors.py docs/statistics_errors.json` writes the JSON that the table in
docs/statistics.md is made from (`--table` prints that table from the JSON). The seed is fixed.
"""

import argparse
from pathlib import Path

from synthgain.runtime.files import read_json, write_json
from synthgain.seeds import random_generator
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
        write_json(arguments.output, {"seed": 0, "results": results})
    print(markdown_table(read_json(arguments.output)["results"]))


if __name__ == "__main__":
    main()
