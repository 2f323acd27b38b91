"""What every entry of the study config is made of: unknown keys are refused with the nearest valid one.

The options of a network, a recipe or a pool are declared once, beside the code that uses them; the config is composed
of these types, and the job makes the same type again from its slice.
"""

import difflib
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Self, TypeVar, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    model_serializer,
    model_validator,
)
from pydantic.fields import FieldInfo

from synthgain.runtime.errors import SynthGainError

LONGEST_SHOWN = 64  # characters of a wrong name: as many as a right one may have

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
FreeOptions = Annotated[dict[str, Any], BeforeValidator(given)]


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
                    raise ValueError(
                        f"unknown key {shown(str(key))!r}; {nearest(str(key), {k for k in known if k != 'from_'})}"
                    )
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


class Options(Entry):
    """Options of which only those that were given are written out: a default that changes later is a job's own."""

    def given(self) -> dict[str, Any]:
        """Return the options that were given, as they were."""
        return {name: getattr(self, name) for name in type(self).model_fields if name in self.model_fields_set}

    @model_serializer
    def _as_given(self) -> Any:
        return self.given()


Made = TypeVar("Made", bound=BaseModel)


def checked(kind: type[Made], options: Mapping[str, Any], place: str) -> Made:
    """Return options of a job's slice as their type; SynthGainError with the first problem, after `place`."""
    try:
        return kind.model_validate(dict(options))
    except ValidationError as error:
        where, message = first_problem(error, options)
        raise SynthGainError(f"{'.'.join([place, *where])}: {message}") from None


def first_problem(error: ValidationError, config: Any) -> tuple[list[str], str]:
    """Return where the first problem of a config is (the keys down to it), and in one line what it is."""
    problem = error.errors()[0]
    message = problem["msg"].removeprefix("Value error, ")
    context = problem.get("ctx", {})
    if problem["type"] == "union_tag_invalid":
        known = [tag.strip("' ") for tag in context["expected_tags"].split(",")]
        kind, tag = context["discriminator"].strip("'"), context["tag"]
        message = f"unknown {kind} {shown(tag)!r}; {nearest(tag, known)} (known: {', '.join(known)})"
    elif problem["type"] == "literal_error" and isinstance(problem["input"], str):
        known = re.findall(r"'([^']*)'", context["expected"])
        hint = nearest(problem["input"], known)
        more = "" if hint.startswith("known") else f" (known: {', '.join(known)})"
        message = f"unknown {shown(problem['input'])!r}; {hint}{more}"
    elif problem["type"] == "string_pattern_mismatch":
        message = f"{shown(str(problem['input']))!r} is not a name: small letters, digits and _, starting with a letter"
    elif problem["type"] == "missing":
        message = "is missing"
    if error.error_count() > 1:
        message += f" (and {error.error_count() - 1} more)"
    return [shown(str(part)) for part in _keys(problem["loc"], config, problem["type"] == "missing")], message


def _keys(place: tuple[int | str, ...], config: Any, missing: bool) -> list[int | str]:
    """Return those parts of a place that are keys of the config; the others name a kind of entry."""
    keys: list[int | str] = []
    for position, part in enumerate(place):
        here = range(len(config)) if isinstance(config, list) else config if isinstance(config, Mapping) else ()
        if part in here:
            config = config[part]
        elif not (missing and position == len(place) - 1):
            continue
        keys.append(part)
    return keys


def shown(name: str) -> str:
    """Return a key or name short and without characters that steer a terminal."""
    short = name if len(name) <= LONGEST_SHOWN else f"{name[:LONGEST_SHOWN]}…"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in short)


def _number(value: Any) -> Any:
    """Refuse what is no number, and say how YAML wants it; an integer stays one."""
    if isinstance(value, bool):
        raise ValueError(f"{str(value).lower()} is no number")
    if isinstance(value, str):
        raise ValueError(_number_in_text(value))
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} is not finite")
    return value


def _number_in_text(text: str) -> str:
    try:
        value = float(text)
    except ValueError:
        return f"{shown(text)!r} is text, not a number"
    parts = re.fullmatch(r"\s*([-+]?\d+)(\.\d*)?[eE]([-+]?)(\d+)\s*", text)
    if parts is None or not math.isfinite(value):
        return f"{shown(text)!r} is text; write {shown(text.strip())}, without quotes"
    whole, point, sign, power = parts.groups()
    fraction = point if point and point != "." else ".0"
    return f"write {value!r} or {whole}{fraction}e{sign or '+'}{power}: YAML reads {shown(text)} as text"


Whole = Annotated[int, BeforeValidator(_number)]
Number = Annotated[int | float, BeforeValidator(_number)]


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
