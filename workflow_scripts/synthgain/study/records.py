"""What Snakemake recorded of each result, held against the present plan: what changed, and what code alone changed."""

import ast
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import canonical_json
from synthgain.runtime.job_pack import PACK, unpacked
from synthgain.study.stage import PlannedJob, Slice

LONGEST_VALUE = 40  # characters of a value that is shown
SHOWN = 3  # differences of a job that are named
_IDENTITY = re.compile(r"[0-9a-f]{32}")  # as `digest` writes it
# The params that Snakemake recorded for a path, each as Python writes it; None where there is no record.
Recorded = Callable[[str], list[str] | None]


class Record(NamedTuple):
    """A job as it was planned when its result was made."""

    slice: Slice
    inputs: Mapping[str, str]
    code: str
    identity: str


def record_of(params: list[str] | None) -> Record | None:
    """Return the job in Snakemake's record of a result; None without one, or where it is no job of ours."""
    try:
        (text,) = params or []
        fields = json.loads(ast.literal_eval(text))
        if PACK in fields:
            fields = json.loads(unpacked(Path(fields[PACK]), fields["digest"]))
        return Record(fields["slice"], fields["inputs"], fields["code"], fields["identity"])
    except (ValueError, SyntaxError, KeyError, TypeError, SynthGainError):
        return None


def differences(before: object, now: object, place: str = "") -> Iterator[str]:
    """Yield where two JSON values differ, as `training.steps 100, now 200`.

    Identities of other results are passed over: they differ since something else does.
    """
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for key in sorted({*before, *now}, key=str):
            inner = f"{place}.{key}" if place else str(key)
            if key not in now:
                yield f"{inner} {_shown(before[key])}, now gone"
            elif key not in before:
                yield f"{inner} new, {_shown(now[key])}"
            else:
                yield from differences(before[key], now[key], inner)
    elif before != now and not (_IDENTITY.fullmatch(str(before)) and _IDENTITY.fullmatch(str(now))):
        yield f"{place} {_shown(before)}, now {_shown(now)}"


def what_changed(before: Record, now: PlannedJob, modules: Callable[[str, str], list[str]]) -> list[str]:
    """Return why a job runs again by its own doing: keys of its slice, its code, its inputs; [] where only they differ.

    modules: names what differs between two digests of code.
    """
    found = list(differences(before.slice, json.loads(canonical_json(now.slice))))
    found = [*found[:SHOWN], *([f"{len(found) - SHOWN} more"] if len(found) > SHOWN else [])]
    if before.code != now.code:
        named = modules(before.code, now.code)
        found.append(f"code of {', '.join(named[:SHOWN])}{' …' if len(named) > SHOWN else ''}" if named else "code")
    added, gone = now.inputs.keys() - before.inputs.keys(), before.inputs.keys() - now.inputs.keys()
    if not found and (added or gone):
        found.append(f"inputs: {len(added)} more, {len(gone)} fewer")
    return found


def told(changed: Iterable[tuple[str, list[str]]], accepted_before: int = 0) -> str:
    """Return lines that say rule by rule what changed, for (rule, `what_changed`) of each job; "" for nothing.

    accepted_before: how many of them were accepted under code or config that is not the present one.
    """
    counts = Counter((rule, "; ".join(reasons)) for rule, reasons in changed if reasons)
    if not counts:
        return ""
    lines = ["what differs from when these results were made (what rests on them runs again too):"]
    lines += [f"  {rule} ×{count}: {reasons}" for (rule, reasons), count in counts.items()]
    if any(reasons.startswith("code") for _, reasons in counts):
        again = f" ({accepted_before} were accepted before a further change: they need it again)" * (
            accepted_before > 0
        )
        lines.append(f"`snakemake accept` takes results as current whose code alone differs{again}; docs/rerun.md")
    return "\n".join(lines)


def _shown(value: object) -> str:
    text = json.dumps(value, sort_keys=True)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}…"
