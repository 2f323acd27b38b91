"""What a call of Snakemake was given as its study: files and words, read here and laid over each other.

Snakemake reads them too, but passes over a key given twice, and makes numbers and maps of the names of folders.
"""

import ast
import copy
import shlex
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synthgain.runtime.errors import SynthGainError
from synthgain.study.schema import Study
from synthgain.study.yaml_files import Place, line_of, parse_yaml, read_yaml

WORDS = "--config"
_QUOTES = "'\""
_CHANGED_BY_SHELLS = "$`\\\n"  # between Snakemake and a job on a cluster lie up to three shells


@dataclass(frozen=True)
class Source:
    """A part of the study: the name of its file, or `--config`, and what it holds."""

    name: str
    values: dict[str, object]


def read_sources(
    configfiles: Sequence[Path | str], settings: Any, sent: bool = False, typed: Sequence[str] | None = None
) -> list[Source]:
    """Return what the study is made of, the lowest first.

    `configfiles` and `settings` are `workflow.configfiles` and `workflow.config_settings` of Snakemake: the files that
    the call gave, then that of the `configfile:` directive, which lies below them all. `sent`: jobs are sent to other
    machines, and get the words of `--config` through a shell. typed: the words of the command line, where known; a word
    of `--config` that is not among them stands in a profile, whose YAML Snakemake has read.
    """
    below = [] if settings.replace_workflow_config else configfiles[len(settings.configfiles) :]
    paths = [_short(Path(path)) for path in [*below, *settings.configfiles]]
    sources = [Source(str(path), read_yaml(path)) for path in paths]
    words = settings.config_args or []
    return [*sources, Source(WORDS, command_line(words, sent, typed))] if words else sources


def merged(configs: Iterable[Mapping[str, object]]) -> dict[str, object]:
    """Lay each config over those before it as Snakemake does: mappings key by key, all else whole."""
    result: dict[str, object] = {}
    for config in configs:
        _lay_over(result, config)
    return result


def blamed(sources: Sequence[Source], place: Place, line: bool = False) -> str:
    """Return the name of the source that gives what lies at a place; of a mapping, all that give a part of it.

    line: also the line at which it stands in a file.
    """
    found = [(*_follow(source.values, place), source.name) for source in sources]
    deepest = max((depth for depth, _, _ in found), default=0)
    names: list[str] = []
    for depth, value, name in found:
        if depth == deepest:
            names = [*names, name] if isinstance(value, dict) else [name]  # all but a mapping is replaced
    found_at = line_of(Path(names[0]), place) if line and len(names) == 1 and names[0] != WORDS else None
    return (", ".join(names) or "config") + (f": line {found_at}" if found_at else "")


def command_line(words: Iterable[str], sent: bool = False, typed: Sequence[str] | None = None) -> dict[str, object]:
    """Return what `key=value` words mean: text stays as it was typed, else numbers, YAML, or a map as Python writes it.

    Two maps for one key are laid over each other; any other key given twice is refused.
    """
    found: dict[str, object] = {}
    for word in words:
        key, _, text = word.partition("=")
        if sent and not _survives(word):
            raise SynthGainError(
                f"{WORDS} {key}: a shell would change {text!r} on its way to the jobs; write it in a config file"
            )
        if key in _TEXTS and typed is not None and word not in typed and _perhaps_changed(text):
            raise SynthGainError(
                f"{WORDS} {key}: {text!r} comes from a profile, whose YAML may have changed it (as it does 007 "
                "and yes); put it in quotes there"
            )
        value = _meant(key, text)
        if key in found and not (isinstance(value, dict) and isinstance(found[key], dict)):
            raise SynthGainError(f"{WORDS}: the key {key!r} is given twice; keep one")
        _lay_over(found, {key: value})
    return found


def _meant(key: str, text: str) -> object:
    bare = text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in _QUOTES else text
    if key in _TEXTS:
        return bare
    if not bare:
        return None
    for number in (int, float):
        with suppress(ValueError):
            return number(bare)
    try:
        value = parse_yaml(bare)
    except SynthGainError as error:
        raise SynthGainError(f"{WORDS} {key}: {error}") from None
    with suppress(ValueError, SyntaxError):  # Snakemake's manual asks for maps in Python's spelling: None, True
        value = ast.literal_eval(bare)
    return value


def _perhaps_changed(text: str) -> bool:
    """True for text that Snakemake may have made of another spelling: a number, a truth value, nothing."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text in ("inf", "nan", "-inf")
    return not isinstance(value, str) and str(value) == text


def _survives(word: str) -> bool:
    """Whether a word reaches a job that Snakemake starts elsewhere: it is handed on in Python's quotes."""
    if any(character in word for character in _CHANGED_BY_SHELLS):
        return False
    with suppress(ValueError):
        return shlex.split(repr(word)) == [word]
    return False


def _short(path: Path) -> Path:
    """Return a path as it is typed from here, where it lies below."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def _lay_over(below: dict[str, object], above: Mapping[str, object]) -> None:
    for key, value in above.items():
        if not isinstance(value, Mapping):
            below[key] = copy.deepcopy(value)
        elif isinstance(inner := below.setdefault(key, {}), dict):
            _lay_over(inner, value)
        elif value:  # an empty mapping leaves a plain value as it is
            below[key] = copy.deepcopy(dict(value))


def _follow(values: object, place: Place) -> tuple[int, object]:
    """Return how many keys of a place are here, and what the last one holds; a part that names a kind is no key."""
    depth = 0
    for part in place:
        if isinstance(values, dict) and part in values:
            values, depth = values[part], depth + 1
    return depth, values


_TEXTS = {name for name, field in Study.model_fields.items() if field.annotation in (str, str | None)}
