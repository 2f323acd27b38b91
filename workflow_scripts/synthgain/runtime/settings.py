"""Settings that change how a job runs and nothing that it makes: in the environment, so that they rerun nothing."""

import json
import os
from typing import Any

from synthgain.runtime.errors import SynthGainError

VARIABLE = "SYNTHGAIN_SETTINGS"  # canonical JSON {section of the config: settings, or {entry: settings}}


def settings(section: str, entry: str | None = None) -> dict[str, Any]:
    """Return the settings of a section of the config, or of one entry of it; {} where the environment has none.

    Raises SynthGainError where SYNTHGAIN_SETTINGS is no JSON mapping.
    """
    text = os.environ.get(VARIABLE) or "{}"
    try:
        found = json.loads(text).get(section) or {}
        return dict(found if entry is None else found.get(entry) or {})
    except (ValueError, AttributeError, TypeError) as error:
        raise SynthGainError(f"{VARIABLE}={text[:80]!r}: not a JSON mapping; unset it, snakemake sets it") from error
