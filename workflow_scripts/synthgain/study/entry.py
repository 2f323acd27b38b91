"""The base of every config entry: unknown keys are refused with the nearest valid one."""

import difflib
from collections.abc import Iterable
from typing import Annotated, Any, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, StringConstraints, model_validator
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


def _takes_null(field: FieldInfo) -> bool:
    return type(None) in get_args(field.annotation)
