"""A job's inputs by the names that its rule gives them: `job.inputs.splits["hospital_a"]`."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import read_manifest

Key = str | int | tuple[str | int, ...]  # of one wildcard its value, of several a tuple in the order of the path


@dataclass(frozen=True)
class Input:
    """One file that an earlier job made.

    name: the path relative to the run folder; path: where it lies; identity: the one that it must carry.
    """

    name: str
    path: Path
    identity: str

    def folder(self) -> Path:
        """Return the folder of a manifest after comparing its identity; SynthGainError where it differs."""
        read_manifest(self.path, self.identity)
        return self.path.parent

    def manifest(self) -> dict[str, Any]:
        """Return the manifest, or another JSON file with an identity, after comparing it."""
        return read_manifest(self.path, self.identity)


class NamedInputs(Mapping[Key, Input]):
    """The inputs of one name, in the order of the plan: {wildcards of the job that made it: input}."""

    def __init__(self, name: str, entries: Mapping[Key, Input]) -> None:
        self._name, self._entries = name, dict(entries)

    def __getitem__(self, key: Key) -> Input:
        if key not in self._entries:
            there = ", ".join(map(str, self._entries)) or "none"
            raise SynthGainError(f"this job has no {self._name} {key}; there are {there}: the rule must list it")
        return self._entries[key]

    def __contains__(self, key: object) -> bool:
        return key in self._entries

    def __iter__(self) -> Iterator[Key]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def keyed(self) -> Iterator[tuple[tuple[str | int, ...], Input]]:
        """Yield (key, input) with every key a tuple."""
        return ((parts_of(key), entry) for key, entry in self._entries.items())

    @property
    def only(self) -> Input:
        """The one input of a name that has just one."""
        if len(self._entries) != 1:
            raise SynthGainError(f"this job has {len(self._entries)} {self._name}, where one is read")
        return next(iter(self._entries.values()))

    def below(self, *first: str | int) -> "NamedInputs":
        """Return those whose keys start with these values."""
        found = {key: entry for key, entry in self._entries.items() if parts_of(key)[: len(first)] == first}
        return NamedInputs(self._name, found)


class Inputs:
    """All inputs of a job: an attribute for each name in its rule."""

    def __init__(self, named: Mapping[str, NamedInputs]) -> None:
        self._named = dict(named)

    def __getattr__(self, name: str) -> NamedInputs:
        if name.startswith("_") or name not in self._named:
            raise AttributeError(f"the rule names no input {name!r}; it names {', '.join(self.__dict__['_named'])}")
        return self._named[name]

    def all(self) -> list[Input]:
        """Return every input once."""
        return list({entry.name: entry for group in self._named.values() for entry in group.values()}.values())


def parts_of(key: Key) -> tuple[str | int, ...]:
    """Return a key as a tuple."""
    return key if isinstance(key, tuple) else (key,)


def inputs_of(fields: Mapping[str, Any], run: Path) -> Inputs:
    """Return the inputs of a job from its JSON: `named` {name: [[key, path]]} and `inputs` {path: identity}."""
    return Inputs(
        {
            name: NamedInputs(
                name, {_key(key): Input(path, run / path, fields["inputs"][path]) for key, path in entries}
            )
            for name, entries in fields["named"].items()
        }
    )


def _key(parts: list[str | int]) -> Key:
    return parts[0] if len(parts) == 1 else tuple(parts)
