"""Measure what plans of looks err, find and cost, with patient variance beside that of replicates.

`python workflow_scripts/simulate_looks.py docs/looks.json` writes the JSON behind the table in docs/protocol.md
(`--table` prints that table from the JSON). The seed is fixed.
"""

import argparse
from pathlib import Path

from synthgain.runtime.files import read_json, write_json
from synthgain.statistics.look_rates import RUNS, look_rates, markdown_table


def main() -> None:
    """Simulate every plan, or print the table of an existing file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--table", action="store_true", help="print the Markdown table of an existing file")
    arguments = parser.parse_args()
    if not arguments.table:
        write_json(arguments.output, {"seed": 0, "runs": arguments.runs, "results": look_rates(arguments.runs)})
    print(markdown_table(read_json(arguments.output)["results"]))


if __name__ == "__main__":
    main()
