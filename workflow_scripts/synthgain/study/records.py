"""What Snakemake recorded of each result, held against the present plan: what changed, and what code alone changed."""

import ast
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from synthgain.runtime.differences import differences
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import canonical_json
from synthgain.runtime.job_pack import PACK, unpacked
from synthgain.study.stage import PlannedJob, Slice

SHOWN = 3  # differences of a job that are named
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
