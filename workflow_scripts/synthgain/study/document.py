"""`python -m synthgain.study.document docs`: writes the config's reference page and JSON schema from the models."""

import json
import sys
import types
import typing
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from synthgain.runtime.files import write_text
from synthgain.study.schema import Study

HEAD = """# The study config, key by key

Made from the models in `workflow_scripts/synthgain/study/` by `make docs`; do not edit by hand.
The same as JSON schema: [config.schema.json](config.schema.json). A first example: `config.yaml`.
A wrong key or name stops the run before anything is planned, with the nearest valid one; so does a key given twice,
with its file and line. Several files (`--configfile a.yaml b.yaml`) lie over each other, the later over the earlier,
and `--config key=value` over all: mappings are merged key by key, lists and values replaced. Without data sets of their
own they lie over `config.yaml`. On the command line `data_root`, `study`, `title` and `description` are taken as typed,
whatever YAML would make of them.
"""


def schema_text() -> str:
    """Return the JSON schema of a study config."""
    return json.dumps(Study.model_json_schema(by_alias=True), indent=2, sort_keys=True) + "\n"


def page_text() -> str:
    """Return docs/config.md: one table per config entry, in the order in which a reader meets them."""
    done: list[type[BaseModel]] = []
    pending: list[type[BaseModel]] = [Study]
    parts = [HEAD]
    while pending:
        model = pending.pop(0)
        if model in done:
            continue
        done.append(model)
        parts.append(_section(model))
        for field in model.model_fields.values():
            pending += [found for found in _models(field.annotation) if found not in done]
    return "\n".join(parts)


def _section(model: type[BaseModel]) -> str:
    lines = [f"\n## {model.__name__}\n", (model.__doc__ or "").strip().splitlines()[0], ""]
    lines += ["| key | type | default | meaning |", "| --- | --- | --- | --- |"]
    for name, field in model.model_fields.items():
        kind = _type_text(field.annotation)
        limits = ", ".join(_limit(item) for item in field.metadata if _limit(item))
        kind = f"{kind} ({limits})" if limits else kind
        cells = [f"`{field.alias or name}`", kind, _default(field), field.description or ""]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _models(annotation: object) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in typing.get_args(annotation) for model in _models(part)]


def _type_text(annotation: object) -> str:
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return "name" if any("pattern" in repr(part) for part in parts[1:]) else _type_text(parts[0])
    if origin is typing.Literal:
        return " or ".join(f"`{part}`" for part in parts)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_type_text(part) for part in parts)
    if origin is dict:
        return f"map of {_type_text(parts[0])} to {_type_text(parts[1])}"
    if origin in (list, tuple):
        return f"list of {_type_text(parts[0])}"
    if annotation is type(None):
        return "null"
    if annotation is Any:
        return "any"
    assert isinstance(annotation, type)
    if issubclass(annotation, BaseModel):
        return f"[{annotation.__name__}](#{annotation.__name__.lower()})"
    words = {str: "text", int: "integer", float: "number", bool: "true/false"}
    return words.get(annotation, annotation.__name__)


def _limit(item: object) -> str:
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    return ", ".join(f"{sign} {getattr(item, key):g}" for key, sign in signs.items() if hasattr(item, key))


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "**required**"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return "its defaults"
    return f"`{json.dumps(value)}`"


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    write_text(folder / "config.md", page_text())
    write_text(folder / "config.schema.json", schema_text())
