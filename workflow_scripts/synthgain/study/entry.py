"""The base of every config entry: unknown keys are refused with the nearest valid one, and slices are made of them."""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationInfo, model_validator

# Names become folder names and wildcard values: nothing in them needs quoting anywhere.
Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,63}$")]


def nearest(word: str, known: Iterable[str]) -> str:
    """Return a hint: the nearest of `known`, or all of them where none is near."""
    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"known: {', '.join(known)}" if known else "there are none"


@dataclass(frozen=True)
class OmittedWhen:
    """Marks a key that was added to an entry which studies already had, with the value that its absence stood for.

        churn: Annotated[float, OmittedWhen(0.0)] = Field(0.0, description=…)

    A slice leaves the key out where it has this value, so that adding it reruns nothing. The value never changes
    again: a new default is written, and reruns those that use it.
    """

    value: Any


_FROM_SLICE = {"from_slice": True}


class Entry(BaseModel):
    """A part of the study config."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    @model_validator(mode="before")
    @classmethod
    def _known_keys_only(cls, data: Any) -> Any:
        if isinstance(data, dict):
            known = {field.alias or name for name, field in cls.model_fields.items()} | set(cls.model_fields)
            for key in data:
                if key not in known:
                    raise ValueError(f"unknown key {key!r}; {nearest(str(key), {k for k in known if k != 'from_'})}")
        return data

    @model_validator(mode="before")
    @classmethod
    def _absent_keys_of_a_slice(cls, data: Any, info: ValidationInfo) -> Any:
        if info.context is not _FROM_SLICE or not isinstance(data, dict):
            return data
        absent = {name: mark.value for name, key, mark in _keys(cls) if mark and not {name, key} & data.keys()}
        return {**data, **absent}

    @classmethod
    def from_slice(cls, values: Mapping[str, Any]) -> Self:
        """Return the entry that `dump` wrote: a key that is not there has its frozen value, not the default of now."""
        return cls.model_validate(dict(values), context=_FROM_SLICE)

    def dump(self, **options: Any) -> dict[str, Any]:
        """Return this entry for a slice, as `model_dump(**options)`, without keys that have their frozen value."""
        return _without_omitted(self, self.model_dump(**options))


@cache
def _keys(kind: type[Entry]) -> tuple[tuple[str, str, OmittedWhen | None], ...]:
    """Return (field, key in the config, mark of a key that was added later) of an entry's fields."""
    return tuple(
        (name, field.alias or name, next((mark for mark in field.metadata if isinstance(mark, OmittedWhen)), None))
        for name, field in kind.model_fields.items()
    )


def _without_omitted(value: Any, dumped: Any) -> Any:
    """Return what `dumped`, the dump of `value`, is without the keys that it and the entries in it leave out."""
    if isinstance(value, Entry) and isinstance(dumped, dict):
        for name, key, mark in _keys(type(value)):
            own, place = getattr(value, name), key if key in dumped else name
            if mark is not None and own == mark.value:
                dumped.pop(place, None)
            elif isinstance(own, _HOLDERS) and place in dumped:
                dumped[place] = _without_omitted(own, dumped[place])
    elif isinstance(value, dict) and isinstance(dumped, dict):
        return {key: _without_omitted(value.get(key), part) for key, part in dumped.items()}
    elif isinstance(value, list | tuple) and isinstance(dumped, list | tuple) and len(value) == len(dumped):
        return type(dumped)(_without_omitted(one, part) for one, part in zip(value, dumped, strict=True))
    return dumped


_HOLDERS = (Entry, dict, list, tuple)  # what may hold an entry
