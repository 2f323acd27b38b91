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
from synthgain.runtime.files import atomic_path, identity_of, read_json, write_text
from synthgain.runtime.seals import changed_page

LISTED = 40  # lines on screen; the log names every result
TAKEN = "accepted: made by code"


def accept(folder: Path, found: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Write what is accepted in a run's folder; return (rule, path, what became of it) of each result of older code."""
    refused = {output: (facts["rule"], facts["reason"]) for output, facts in found["refused"].items()}
    entries: dict[str, Accepted] = {}
    rules = {output: facts["rule"] for output, facts in found["accepted"].items()}
    for output, facts in found["accepted"].items():  # inputs come first
        entry = Accepted(**facts["entry"])
        lost = any(name in refused for name in facts["inputs"])
        reason = "rests on a result that is not accepted" if lost else _not_as_recorded(folder / output, entry)
        if reason:
            refused[output] = (rules[output], reason)
        else:
            entries[output] = entry
    write_accepted(folder, entries.values())
    for report in (folder / "report.html", *folder.glob("look-*/report.html")):
        _list_in_report(report, list(entries.values()))
    taken = [
        (
            rules[entry.output],
            f"{folder}/{entry.output}",
            f"{TAKEN} {entry.recorded[:8]}, taken as {entry.taken_as[:8]}",
        )
        for entry in entries.values()
    ]
    left = [(rule, f"{folder}/{output}", f"not accepted: {reason}") for output, (rule, reason) in refused.items()]
    return [*taken, *sorted(left)]


def _list_in_report(report: Path, entries: list[Accepted]) -> None:
    if report.exists():
        page = report.read_text(encoding="utf-8")
        listed = with_accepted(page, entries)
        if listed != page:
            content = changed_page(report, listed.encode())
            with atomic_path(report) as temporary:
                temporary.write_bytes(content)


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
    results: list[tuple[str, str, str]] = []
    for run, found in read_json(arguments.acceptable).items():
        results += accept(arguments.results / run, found)
    taken = sum(what.startswith(TAKEN) for _, _, what in results)
    lines = [f"{path}: {what}" for _, path, what in results]
    summary = f"accept: {taken} results of older code are taken as current, {len(lines) - taken} are not"
    write_text(arguments.log, "\n".join([*lines, summary]) + "\n")
    if len(lines) > LISTED:
        counts = Counter(f"{rule}: {what}" for rule, _, what in results)
        lines = [line.replace(":", f" ×{count}:", 1) for line, count in counts.items()][:LISTED]
        lines.append(f"(each of them in {arguments.log})")
    print("\n".join([*lines, summary]), file=sys.stderr)


if __name__ == "__main__":
    main()
