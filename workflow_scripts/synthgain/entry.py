"""What every entry of the study config is made of: unknown keys are refused with the nearest valid one.

The options of a network, a recipe or a pool are declared once, beside the code that uses them; the config is composed
of these types, and the job makes the same type again from its slice.
"""

import copy
import difflib
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from types import UnionType
from typing import Annotated, Any, Literal, Self, TypeVar, Union, get_args, get_origin

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    model_serializer,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic.main import IncEx
from pydantic_core import ErrorDetails

from synthgain.runtime.errors import SynthGainError

# Control characters but tab and line end, characters that change the direction of text, surrogates: no text needs them,
# and they break CSV (a lone carriage return), XML, terminals and the reader's eye (Unicode TR 36, 2.10).
UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff\ufffe\uffff]"
)
IN_QUOTES = "put it in quotes"
LONGEST_SHOWN = 64  # characters of a wrong name: as many as a right one may have

Share = Annotated[float, Field(ge=0, le=1)]
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

    value: object


_PLACED = re.compile(r"([a-z0-9_]+(?:\.[a-z0-9_]+)*): ")  # a message that names the place first
_FROM_SLICE = {"from_slice": True}


class Entry(BaseModel):
    """A part of the study config. A key with nothing behind it (null) is left out, where null means nothing else."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    @model_validator(mode="before")
    @classmethod
    def _known_keys_only(cls, data: object) -> object:
        if isinstance(data, dict):
            known = {field.alias or name for name, field in cls.model_fields.items()} | set(cls.model_fields)
            for key in data:
                if key not in known:
                    raise ValueError(
                        f"unknown key {shown(str(key))!r}; {nearest(str(key), {k for k in known if k != 'from_'})}"
                    )
            fields = {n: f for name, f in cls.model_fields.items() for n in (name, f.alias)}
            for key, value in data.items():
                problem = _misread(value, fields[key].annotation)
                if problem is not None:
                    raise ValueError(f"{key}.{problem}" if _PLACED.match(problem) else f"{key}: {problem}")
            return {key: value for key, value in data.items() if value is not None or _takes_null(fields[key])}
        return data

    @model_validator(mode="before")
    @classmethod
    def _absent_keys_of_a_slice(cls, data: object, info: ValidationInfo) -> object:
        if info.context is not _FROM_SLICE or not isinstance(data, dict):
            return data
        absent = {name: mark.value for name, key, mark in _marks(cls) if mark and not {name, key} & data.keys()}
        return {**data, **absent}

    @classmethod
    def from_slice(cls, values: Mapping[str, object]) -> Self:
        """Return the entry that `dump` wrote: a key that is not there has its frozen value, not the default of now."""
        return cls.model_validate(dict(values), context=_FROM_SLICE)

    def dump(
        self,
        include: set[str] | None = None,
        exclude: IncEx | None = None,
        mode: Literal["python", "json"] = "python",
        by_alias: bool = False,
        exclude_none: bool = False,
    ) -> dict[str, object]:
        """Return this entry for a slice, as `model_dump` does, without keys that have their frozen value."""
        whole = self.model_dump(
            include=include, exclude=exclude, mode=mode, by_alias=by_alias, exclude_none=exclude_none
        )
        return _without_omitted(self, whole)


class Options(Entry):
    """Options that are written out word for word as they were given: what was not given stays away."""

    _words: dict[str, object] = PrivateAttr(default_factory=dict)

    @model_validator(mode="wrap")
    @classmethod
    def _kept(cls, data: object, handler: ModelWrapValidatorHandler[Self]) -> Self:
        made = handler(data)
        if isinstance(data, Mapping):
            made._words = copy.deepcopy(dict(data))
        return made

    def given(self) -> dict[str, object]:
        """Return the options that were given, as they were."""
        return copy.deepcopy(self._words)

    @model_serializer
    def _as_given(self) -> object:
        return self.given()


Made = TypeVar("Made", bound=BaseModel)


def checked(kind: type[Made], options: Mapping[str, object], place: str, of_slice: bool = False) -> Made:
    """Return options of a job's slice as their type; SynthGainError with the first problem, after `place`.

    of_slice: they were written by `dump`, so that a key that is not there has its frozen value.
    """
    try:
        return kind.model_validate(dict(options), context=_FROM_SLICE if of_slice else None)
    except ValidationError as error:
        where, message = first_problem(error, options)
        raise SynthGainError(f"{'.'.join([place, *where])}: {message}") from None


def first_problem(error: ValidationError, config: object) -> tuple[list[str], str]:
    """Return where the first problem of a config is (the keys down to it), and in one line what it is."""
    problem = _deepest(error, config)
    message = problem["msg"].removeprefix("Value error, ")
    context = problem.get("ctx", {})
    if problem["type"] == "union_tag_invalid":
        known = [tag.strip("' ") for tag in context["expected_tags"].split(",")]
        kind, tag = context["discriminator"].strip("'"), context["tag"]
        message = f"unknown {kind} {shown(tag)!r}; {nearest(tag, known)} (known: {', '.join(known)})"
    elif problem["type"] == "literal_error" and isinstance(problem["input"], str):
        known = re.findall(r"'([^']*)'", context["expected"])
        message = f"unknown {shown(problem['input'])!r}; {nearest(problem['input'], known)}"
    elif problem["type"] == "string_pattern_mismatch":
        message = f"{shown(str(problem['input']))!r} is not a name: small letters, digits and _, starting with a letter"
    elif problem["type"] == "string_type" and isinstance(problem["input"], bool | int | float):
        value = problem["input"]
        message = f"is {str(value).lower() if isinstance(value, bool) else value} to YAML, not text; {IN_QUOTES}"
    elif problem["type"] == "string_type":
        message = f"is {_called(problem['input'])}, not text"
    elif problem["type"] in _WANTED:
        message = f"is {_called(problem['input'])}, not {_WANTED[problem['type']]}"
    elif problem["type"] == "union_tag_not_found":
        message = f"{context['discriminator'].strip(chr(39))}: is missing: it says of which kind this is"
    elif problem["type"] == "literal_error":
        message += f", not {_called(problem['input'])}"
    elif problem["type"] in _BOUNDS:
        message += f", not {shown(str(problem['input']))}"
    elif problem["type"] == "missing":
        message = "is missing"
    elif problem["type"] == "too_short" and not problem["input"]:
        message = f"is empty; give at least {context['min_length']}"
    if error.error_count() > 1:
        message += f" (and {error.error_count() - 1} more)"
    keys = [shown(str(part)) for part in _keys(problem["loc"], config, problem["type"] == "missing")[1]]
    inside = _PLACED.match(message)  # a check of an entry as a whole names what is wrong in it
    if inside and keys and not isinstance(_at(config, keys), Mapping | list):
        keys = keys[:-1]  # the kind of the entry, which has a key of that name
    return ([*keys, *inside[1].split(".")], message[inside.end() :]) if inside else (keys, message)


_MAP, _LIST = "a map {key: value}", "a list [a, b]"
_WANTED = {
    "dict_type": _MAP, "model_type": _MAP, "model_attributes_type": _MAP,
    "list_type": _LIST, "tuple_type": _LIST,
    "int_type": "a whole number", "int_from_float": "a whole number", "float_type": "a number",
    "bool_type": "true or false", "bool_parsing": "true or false",
}  # fmt: skip


def _called(value: object) -> str:
    """Return what a value of the wrong kind is called."""
    if isinstance(value, bool):
        return str(value).lower()
    names = {dict: "a map", list: "a list", type(None): "null"}
    return names[type(value)] if type(value) in names else shown(repr(value) if isinstance(value, str) else str(value))


_BOUNDS = ("less_than", "less_than_equal", "greater_than", "greater_than_equal", "multiple_of")


def _deepest(error: ValidationError, config: object) -> ErrorDetails:
    """Return the first problem, or of the kinds that its value may have the one that comes furthest in it."""
    problems = error.errors()
    places = [tuple(_keys(p["loc"], config, p["type"] == "missing")[1]) for p in problems]
    same = [n for n, place in enumerate(places) if place[: len(places[0])] == places[0]]
    return problems[max(same, key=lambda n: len(places[n]))]


def _at(config: object, keys: list[str]) -> object:
    for key in keys:
        if isinstance(config, list) and key.isdigit() and int(key) < len(config):
            config = config[int(key)]
        elif isinstance(config, Mapping) and key in config:
            config = config[key]
        else:
            return {}
    return config


def _keys(place: tuple[int | str, ...], config: object, missing: bool) -> tuple[bool, list[int | str]]:
    """Return those parts of a place that are keys of the config, and whether the last one is.

    The others name a kind of entry, which may be called as one of its keys is: `table`. What says most is taken.
    """
    if not place:
        return False, []
    part, rest = place[0], place[1:]
    found = [_keys(rest, config, missing)]
    inside = dict(enumerate(config)) if isinstance(config, list) else config if isinstance(config, Mapping) else {}
    if part in inside:
        last, keys = _keys(rest, inside[part], missing)
        found.append((last or not rest, [part, *keys]))
    elif missing and not rest and isinstance(config, Mapping):
        found.append((True, [part]))
    return max(found, key=lambda answer: (answer[0], len(answer[1])))


def shown(name: str) -> str:
    """Return a key or name short and without characters that steer a terminal."""
    short = name if len(name) <= LONGEST_SHOWN else f"{name[:LONGEST_SHOWN]}…"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in short)


Number = int | float  # an integer stays one


def _misread(value: object, annotation: object) -> str | None:
    """Return what is wrong where a number or a truth value is meant: text, an infinite number; `place: ` before it."""
    kinds = list(_alternatives(annotation))
    if isinstance(value, dict | list | tuple):
        for kind in kinds:
            for key, part, inner in _parts(value, kind):
                problem = _misread(part, inner)
                if problem is not None:
                    return f"{key}.{problem}" if _PLACED.match(problem) else f"{key}: {problem}"
        return None
    words = {word for kind in kinds if get_origin(kind) is Literal for word in get_args(kind)}
    numeric = int in kinds or float in kinds or any(type(word) is int for word in words)
    if isinstance(value, float) and not math.isfinite(value) and numeric:
        return f"{value} is not finite"
    if isinstance(value, bool) and numeric and bool not in kinds:
        written = str(value).lower()
        return f"is {written} to YAML; {IN_QUOTES} as the table has it" if str in kinds else f"{written} is no number"
    if str in kinds or Any in kinds:
        return None
    if isinstance(value, str) and value not in words:
        if numeric:
            return _number_in_text(value)
        if bool in kinds and value.lower() in ("true", "false"):
            return f"{shown(value)!r} is text; write {value.lower()}, without quotes"
        if bool in kinds:
            return f"unknown {shown(value)!r}; {nearest(value, {'true', 'false', *words})}"
    return None


def _alternatives(annotation: object) -> Iterator[object]:
    """Yield the types that an annotation allows."""
    if get_origin(annotation) is Annotated:
        yield from _alternatives(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, UnionType):
        for part in get_args(annotation):
            yield from _alternatives(part)
    else:
        yield annotation


def _parts(
    value: dict[object, object] | list[object] | tuple[object, ...], kind: object
) -> Iterator[tuple[object, object, object]]:
    """Yield (key, part, annotation of the part) of a value whose annotation is a mapping or a sequence."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is dict and isinstance(value, dict):
        yield from ((key, part, inner[1]) for key, part in value.items())
    elif origin in (list, tuple) and not isinstance(value, dict):
        one = origin is list or inner[-1] is Ellipsis
        yield from ((n, part, inner[0 if one else n]) for n, part in enumerate(value) if one or n < len(inner))


def _number_in_text(text: str) -> str:
    try:
        value = float(text)
    except ValueError:
        return f"{shown(text)!r} is text, not a number"
    parts = re.fullmatch(r"\s*([-+]?\d+)(\.\d*)?[eE]([-+]?)(\d+)\s*", text)
    if re.fullmatch(r"\s*[-+]?0[\d_]+\s*", text):
        return f"{shown(text)} is octal to some who read YAML; write {int(value)}"
    if parts is None or not math.isfinite(value):
        return f"{shown(text)!r} is text; write {shown(text.strip())}, without quotes"
    whole, point, sign, power = parts.groups()
    fraction = point if point and point != "." else ".0"
    return f"write {value!r} or {whole}{fraction}e{sign or '+'}{power}: YAML reads {shown(text)} as text"


@cache
def _marks(kind: type[Entry]) -> tuple[tuple[str, str, OmittedWhen | None], ...]:
    """Return (field, key in the config, mark of a key that was added later) of an entry's fields."""
    return tuple(
        (name, field.alias or name, next((mark for mark in field.metadata if isinstance(mark, OmittedWhen)), None))
        for name, field in kind.model_fields.items()
    )


def _without_omitted(value: object, dumped: Any) -> Any:
    """Return what `dumped`, the dump of `value`, is without the keys that it and the entries in it leave out."""
    if isinstance(value, Entry) and isinstance(dumped, dict):
        for name, key, mark in _marks(type(value)):
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


def _takes_null(field: FieldInfo) -> bool:
    return type(None) in get_args(field.annotation)
