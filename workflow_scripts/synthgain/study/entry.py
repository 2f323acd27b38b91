"""The base of every config entry: unknown keys are refused with the nearest valid one, and slices are made of them."""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Self, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, StringConstraints, ValidationInfo, model_validator
from pydantic.fields import FieldInfo

# Names become folder names and wildcard values: nothing in them needs quoting anywhere.
Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,63}$")]


def nearest(word: str, known: Iterable[str]) -> str:
    """Return a hint: the nearest of `known`, or all of them where none is near."""
    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"known: {', '.join(known)}" if known else "there are none"


def given(options: Any) -> Any:
    """Return a mapping without its nulls: an option with nothing behind it is left out."""
    return {k: v for k, v in options.items() if v is not None} if isinstance(options, dict) else options


# Options of a module that checks them itself.
Options = Annotated[dict[str, Any], BeforeValidator(given)]


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
    """A part of the study config. A key with nothing behind it (null) is left out, where null means nothing else."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    @model_validator(mode="before")
    @classmethod
    def _known_keys_only(cls, data: Any) -> Any:
        if isinstance(data, dict):
            known = {field.alias or name for name, field in cls.model_fields.items()} | set(cls.model_fields)
            for key in data:
                if key not in known:
                    raise ValueError(f"unknown key {key!r}; {nearest(str(key), {k for k in known if k != 'from_'})}")
            fields = {n: f for name, f in cls.model_fields.items() for n in (name, f.alias)}
            return {key: value for key, value in data.items() if value is not None or _takes_null(fields[key])}
        return data

    @model_validator(mode="before")
    @classmethod
    def _absent_keys_of_a_slice(cls, data: Any, info: ValidationInfo) -> Any:
        if info.context is not _FROM_SLICE or not isinstance(data, dict):
            return data
        absent = {name: frozen for name, frozen in cls._omitted().items() if not {name, cls._key(name)} & data.keys()}
        return {**data, **absent}

    @classmethod
    def from_slice(cls, values: Mapping[str, Any]) -> Self:
        """Return the entry that `dump` wrote: a key that is not there has its frozen value, not the default of now."""
        return cls.model_validate(dict(values), context=_FROM_SLICE)

    def dump(self, **options: Any) -> dict[str, Any]:
        """Return this entry for a slice, as `model_dump(**options)`, without keys that have their frozen value."""
        return self._without_omitted(self.model_dump(**options))

    def _without_omitted(self, dumped: dict[str, Any]) -> dict[str, Any]:
        omitted = self._omitted()
        found = {}
        for name in type(self).model_fields:
            value, key = getattr(self, name), self._key(name) if self._key(name) in dumped else name
            if key in dumped and not (name in omitted and value == omitted[name]):
                found[key] = _dumped(value, dumped[key])
        return found

    @classmethod
    def _omitted(cls) -> dict[str, Any]:
        """Return {field: frozen value} of the keys that were added later."""
        marked = ((name, mark) for name, field in cls.model_fields.items() for mark in field.metadata)
        return {name: mark.value for name, mark in marked if isinstance(mark, OmittedWhen)}

    @classmethod
    def _key(cls, name: str) -> str:
        return cls.model_fields[name].alias or name


def _dumped(value: Any, dumped: Any) -> Any:
    """Return the dump of a field's value, with the entries in it without what they leave out."""
    if isinstance(value, Entry) and isinstance(dumped, dict):
        return value._without_omitted(dumped)
    if isinstance(value, dict) and isinstance(dumped, dict):
        return {key: _dumped(value.get(key), part) for key, part in dumped.items()}
    if isinstance(value, list | tuple) and isinstance(dumped, list | tuple) and len(value) == len(dumped):
        return type(dumped)(_dumped(one, part) for one, part in zip(value, dumped, strict=True))
    return dumped


def _takes_null(field: FieldInfo) -> bool:
    return type(None) in get_args(field.annotation)
