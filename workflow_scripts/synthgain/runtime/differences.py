"""Where two JSON values differ, in lines."""

import json
import re
from collections.abc import Iterator, Mapping

LONGEST_VALUE = 40  # characters of a value that is shown
_IDENTITY = re.compile(r"[0-9a-f]{32}")  # as `digest` writes it


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


def _shown(value: object) -> str:
    text = json.dumps(value, sort_keys=True)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}…"
