"""Loads the module behind a registered name."""

import importlib
from collections.abc import Mapping
from types import ModuleType

from synthgain.runtime.errors import SynthGainError


def load(registry: Mapping[str, str], name: str) -> ModuleType:
    """Import the module that `registry`, a table of `synthgain.registry`, has under `name`.

    Raises SynthGainError for a name that it lacks: a manifest made by another version, or not by SynthGain.
    """
    if name not in registry:
        raise SynthGainError(f"{str(name)[:64]!r} is not registered; known: {', '.join(registry)}")
    return importlib.import_module(registry[name])
