"""Take results as current whose code alone differs from the present one: after an upgrade that changes no number.

    snakemake accept
    snakemake accept --config accept=train_generator,draw_pool_shard

Prints what is accepted and what is not, and why. Writes accepted.json in the folder of each run and its list into
report.html, and touches no result: that would rerun what rests on it.
"""

import argparse
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from synthgain.report.accepted import with_accepted
from synthgain.runtime.accepted import Accepted, write_accepted
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import identity_of, read_json, write_text

LISTED = 40  # results of a run that are named on screen; the log names all


def accept(folder: Path, found: dict[str, Any]) -> list[str]:
    """Write what is accepted in a run's folder; return a line per result that is, and per one that is not."""
    refused = dict(found["refused"])
    entries: dict[str, Accepted] = {}
    for output, facts in found["accepted"].items():  # inputs come first
        entry = Accepted(**facts["entry"])
        lost = [name for name in facts["inputs"] if name in refused]
        reason = "rests on a result that is not accepted" if lost else _not_as_recorded(folder / output, entry)
        if reason:
            refused[output] = reason
        else:
            entries[output] = entry
    write_accepted(folder, entries.values())
    report = folder / "report.html"
    if report.exists():
        page = report.read_text(encoding="utf-8")
        listed = with_accepted(page, list(entries.values()))
        if listed != page:
            write_text(report, listed)
    lines = [
        f"{folder}/{entry.output}: accepted, made by code {entry.recorded[:8]}, taken as {entry.taken_as[:8]}"
        for entry in entries.values()
    ]
    return lines + [f"{folder}/{output}: not accepted: {reason}" for output, reason in sorted(refused.items())]


def _not_as_recorded(path: Path, entry: Accepted) -> str:
    """Return why the file is not the result that Snakemake recorded; "" where it is, or is gone."""
    if not path.exists():
        return ""
    try:
        identity = identity_of(path)
    except SynthGainError as error:
        return str(error)
    same = identity is None or identity == entry.identity
    return "" if same else "is not the file that .snakemake/metadata records"


def main() -> None:
    """Parse the command line, accept, and print what was."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--acceptable", type=Path, required=True)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--log", type=Path, required=True)
    arguments = parser.parse_args()
    lines: list[str] = []
    for run, found in read_json(arguments.acceptable).items():
        lines += accept(arguments.results / run, found)
    taken = sum(": accepted, " in line for line in lines)
    summary = f"accept: {taken} results of older code are taken as current, {len(lines) - taken} are not"
    write_text(arguments.log, "\n".join([*lines, summary]) + "\n")
    shown = lines
    if len(lines) > LISTED:
        counts = Counter(line.split(": ", 1)[1] for line in lines)
        shown = [f"{count} results: {words}" for words, count in counts.most_common(LISTED)]
        shown.append(f"(each of them in {arguments.log})")
    print("\n".join([*shown, summary]), file=sys.stderr)


if __name__ == "__main__":
    main()
