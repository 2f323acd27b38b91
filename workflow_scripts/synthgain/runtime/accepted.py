"""Results of older code that the user took as current: `accepted.json` in the folder of a run.

`snakemake accept` writes it, the planner passes the recorded digest of the results in it, the report lists them.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import digest, read_json, write_json

NAME = "accepted.json"


@dataclass(frozen=True)
class Accepted:
    """One result: its output (relative to the run folder), the digest of the code that made it, the one taken as equal.

    basis: digest of what the result rests on besides its code, so that another config is not accepted with it;
    identity: that of the result; date: when it was accepted (ISO).
    """

    output: str
    recorded: str
    taken_as: str
    basis: str
    identity: str
    date: str


def read_accepted(folder: Path) -> dict[str, Accepted]:
    """Return {output: what was accepted} of a run; SynthGainError where the file is damaged or was edited."""
    path = folder / NAME
    if not path.exists():
        return {}
    mend = f"delete it and run `snakemake accept` again, or compute the results of older code again: {path}"
    try:
        found = read_json(path)
        listed, seal = found["accepted"], found["digest"]
        entries = [Accepted(**{name: str(value) for name, value in entry.items()}) for entry in listed]
    except (SynthGainError, OSError, ValueError, KeyError, TypeError, AttributeError):
        raise SynthGainError(f"{NAME}: damaged; {mend}") from None
    if digest(listed) != seal:
        raise SynthGainError(f"{NAME}: was edited by hand; {mend}")
    return {entry.output: entry for entry in entries}


def write_accepted(folder: Path, entries: Iterable[Accepted]) -> None:
    """Write what is accepted in a run, in place of what was; no file where that is nothing."""
    listed = [asdict(entry) for entry in sorted(entries, key=lambda entry: entry.output)]
    if listed:
        write_json(folder / NAME, {"accepted": listed, "digest": digest(listed)})
    else:
        (folder / NAME).unlink(missing_ok=True)
