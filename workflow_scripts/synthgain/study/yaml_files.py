"""YAML and JSON as a study is written in them: read safely, within limits, each problem with its line.

An integer is decimal (or 0x…): YAML 1.1 makes 8 of 010 and 750 of 12:30, which nobody means. Keys and dates are the
text that is written.
"""

import json
import re
from collections import Counter
from collections.abc import Hashable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from synthgain.entry import shown
from synthgain.runtime.errors import SynthGainError

# What a config may hold, aliases written out: a study has hundreds of values, a list of its images some thousands.
MOST_VALUES = 200_000
DEEPEST = 64
LARGEST_FILE = 8 << 20  # bytes

Place = tuple[str, ...]  # keys from the top of a config down to a value
_TAG = "tag:yaml.org,2002:"
_MERGE, _TEXT, _INTEGER, _FLOAT, _DATE = (_TAG + name for name in ("merge", "str", "int", "float", "timestamp"))
_WHOLE = re.compile(r"^[-+]?(?:0|[1-9][0-9_]*|0x[0-9a-fA-F_]+)$")
_POINT = re.compile(
    r"^(?:[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+][0-9]+)?|\.[0-9][0-9_]*(?:[eE][-+][0-9]+)?|[-+]?\.(?:inf|Inf|INF)"
    r"|\.(?:nan|NaN|NAN))$"
)
_OWN = {_INTEGER: _WHOLE, _FLOAT: _POINT}


class _Loader(yaml.SafeLoader):
    """Keys are the text that is written, for a table may hold `yes` or 0; so are dates, times and octal numbers."""

    yaml_implicit_resolvers = {  # noqa: RUF012  (as in the class that it overrides)
        first: [(tag, _OWN.get(tag, pattern)) for tag, pattern in resolvers if tag != _DATE]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, object]:
        self.flatten_mapping(node)
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                key.tag = _TEXT
        return super().construct_mapping(node, deep=deep)


def _refuse_tag(loader: _Loader, node: yaml.Node) -> object:
    raise yaml.constructor.ConstructorError(
        None, None, f"{node.tag.replace(_TAG, '!!')} is not for studies; write a list, a map or text", node.start_mark
    )


for _kind in ("binary", "set", "omap", "pairs"):  # bytes, or what has no order: a study is text, lists and maps
    _Loader.add_constructor(_TAG + _kind, _refuse_tag)
for _kind in ("value", "merge"):  # a plain `=` or `<<` that is no key
    _Loader.yaml_constructors[_TAG + _kind] = _Loader.yaml_constructors[_TEXT]


class Repeated(SynthGainError):
    """A key given twice, which YAML and JSON would pass over in silence."""


def read_yaml(path: Path) -> dict[str, object]:
    """Read a YAML or JSON mapping; SynthGainError naming the file and the line where it is not one."""
    try:
        value = parse_yaml(_text(path))
    except SynthGainError as error:
        raise type(error)(f"{path}: {error}") from None
    if not isinstance(value, dict):
        raise SynthGainError(f"{path}: not a study config (a YAML mapping)")
    if "__use_yte__" in value:
        raise SynthGainError(f"{path}: templates (__use_yte__) are not for studies; write the values out")
    return value


def _text(path: Path) -> str:
    try:
        if not path.is_file():  # a pipe, a device or a folder: reading it may never end
            raise SynthGainError("not a file" if path.exists() else "No such file or directory")
        size = path.stat().st_size
        if size > LARGEST_FILE:
            raise SynthGainError(f"{size} bytes are no study config (at most {LARGEST_FILE})")
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:  # UnicodeDecodeError is a ValueError; so is NUL in a name
        raise SynthGainError(getattr(error, "strerror", None) or "not UTF-8 text") from None


def parse_yaml(text: str) -> object:
    """Return what a text holds, JSON before YAML as Snakemake reads it; SynthGainError with the line of a problem."""
    try:
        try:
            value = _json(text)
        except ValueError:
            return _yaml(text)
        _check_size(value)
        return value
    except RecursionError:
        raise SynthGainError("nested too deeply") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}: " if mark else ""
        raise SynthGainError(f"{place}{' '.join(str(error.problem or error.context).split())}") from None
    except (yaml.YAMLError, ValueError) as error:  # a number of too many digits
        raise SynthGainError(" ".join(str(error).split())) from None


def line_of(path: Path, place: Place) -> int | None:
    """Return the line (from 1) at which a value stands in a file, or the last of the keys down to it that is there."""
    with suppress(SynthGainError, yaml.YAMLError, RecursionError):
        here, line = yaml.compose(_text(path), Loader=yaml.SafeLoader), None
        for part in place:
            if isinstance(here, yaml.MappingNode):
                here = next((value for key, value in here.value if key.value == part), None)
            elif isinstance(here, yaml.SequenceNode) and part.isdigit() and int(part) < len(here.value):
                here = here.value[int(part)]
            else:
                break
            if here is None:
                break
            line = here.start_mark.line + 1
        return line
    return None


def _json(text: str) -> object:
    """Read JSON; its tabs are blanks to YAML, which then knows the line of a key given twice."""
    repeated: list[str] = []

    def once(pairs: list[tuple[str, object]]) -> dict[str, object]:
        found = dict(pairs)
        if len(found) < len(pairs):
            repeated.extend(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        return found

    value = json.loads(text, object_pairs_hook=once)
    if repeated:
        with suppress(yaml.YAMLError):
            _yaml(text.replace("\t", " "))
        raise Repeated(_twice(repeated[0], repeated[0]))
    return value


def _yaml(text: str) -> object:
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        _check_size(node)
        _refuse_repeated_keys(node)
        return None if node is None else loader.construct_document(node)
    finally:
        loader.dispose()


def _check_size(root: Any) -> None:
    """Raise SynthGainError where nodes, or values, are too many with every alias written out, too deep, or endless.

    Each node is looked at once, however often an alias names it.
    """
    sizes: dict[int, tuple[int, int]] = {}  # of a node: values below and with it, and levels
    open_now: set[int] = set()
    waiting = [(root, False)]
    while waiting:
        node, seen = waiting.pop()
        key, parts = id(node), list(_parts(node))
        if key in sizes:
            continue
        if not seen and parts:
            open_now.add(key)
            waiting.append((node, True))
            for part in parts:
                if id(part) in open_now:
                    raise SynthGainError(f"{_where(part)}refers to itself")
                waiting.append((part, False))
            continue
        open_now.discard(key)
        below = [sizes[id(part)] for part in parts]
        values, levels = 1 + sum(size for size, _ in below), 1 + max((depth for _, depth in below), default=0)
        if levels > DEEPEST:
            raise SynthGainError(f"{_where(node)}nested too deeply (more than {DEEPEST} levels)")
        if values > MOST_VALUES:
            raise SynthGainError(
                f"{_where(node)}holds more than {MOST_VALUES} values, each alias (*) written out: too many for a study"
            )
        sizes[key] = values, levels


def _parts(node: Any) -> Iterator[Any]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield key
            yield value
    elif isinstance(node, yaml.SequenceNode):
        yield from node.value
    elif isinstance(node, dict):
        yield from node.values()
    elif isinstance(node, list):
        yield from node


def _where(node: Any) -> str:
    return f"line {node.start_mark.line + 1}: " if isinstance(node, yaml.Node) else ""


def _refuse_repeated_keys(root: yaml.Node | None) -> None:
    """Look through every mapping once, however often an alias names it; 1 and 01 are one key, as YAML has it."""
    values = yaml.SafeLoader("")
    waiting, seen = [root], set()
    while waiting:
        node = waiting.pop()
        if not isinstance(node, yaml.CollectionNode) or id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            first: dict[Any, str] = {}
            for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
                value = _as_yaml_reads(values, key)
                same = (type(value), value)
                if same in first:
                    raise Repeated(f"line {key.start_mark.line + 1}: {_twice(key.value, first[same])}")
                first[same] = key.value
            waiting += [part for pair in node.value for part in pair]
        else:
            waiting += node.value


def _as_yaml_reads(values: yaml.SafeLoader, key: yaml.ScalarNode) -> Any:
    """Return the value of a key in YAML 1.1, where a plain 01 is 1."""
    tag = key.tag if key.style else values.resolve(yaml.ScalarNode, key.value, (True, False))
    if key.tag == _MERGE or tag == _DATE:
        return key.value
    return values.construct_object(yaml.ScalarNode(tag, key.value, key.start_mark, key.end_mark))


def _twice(key: str, first: str) -> str:
    otherwise = "" if key == first else f" (first as {shown(first)!r})"
    return f"the key {shown(key)!r} is given twice{otherwise}; keep one"
