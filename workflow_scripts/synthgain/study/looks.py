"""Which planned look a run is at, from its ledger."""

from pathlib import Path

from synthgain.runtime.ledger import Line, read_ledger
from synthgain.study.planner import look_folders
from synthgain.study.schema import Study


def look_now(study: Study, folder: Path) -> str:
    """Return the folder of the look to be made: the first one, the one that decided, or the one after the last made."""
    folders = look_folders(study)
    last = _last(study, folder)
    if last is None:
        return folders[0]
    made = min(last["look"], len(folders))
    return folders[made - 1] if last["decided"] or made == len(folders) else folders[made]


def told(study: Study, folder: Path) -> str:
    """Return how a study with planned looks stands, in a line; "" for one that is looked at once, or not yet."""
    last, looks = _last(study, folder), study.replicates.planned
    if last is None:
        return ""
    place = f"at look {last['look']} of {len(looks)} ({last['replicates']} replicates)"
    if last["decided"]:
        more = "; no more replicates are needed" * (last["look"] < len(looks))
        return f"decided {place}: {last['verdict']}{more}"
    if last["look"] >= len(looks):
        return f"undecided {place}, the last: {last['verdict'] or 'no verdict'}"
    return f"undecided {place}: run the same command to go on"


def _last(study: Study, folder: Path) -> Line | None:
    """Return the newest line of the farthest planned look that was made."""
    if study.replicates.looks is None:
        return None
    lines = [line for line in read_ledger(folder).entries if line["look"]]
    return max(lines, key=lambda line: (line["look"], line["line"]), default=None)
