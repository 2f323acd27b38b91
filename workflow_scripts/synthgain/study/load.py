"""From YAML to a validated study: one clear line for whatever is wrong."""

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from synthgain.entry import first_problem, shown
from synthgain.runtime.errors import SynthGainError
from synthgain.study.generation import family_of
from synthgain.study.schema import Study

Place = tuple[str, ...]  # keys from the top of a config down to a value
_MERGE, _TEXT = "tag:yaml.org,2002:merge", "tag:yaml.org,2002:str"


class _Loader(yaml.SafeLoader):
    """Keys are the text that is written, for a table may hold `yes` or 0; so are dates."""

    yaml_implicit_resolvers = {  # noqa: RUF012  (as in the class that it overrides)
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        self.flatten_mapping(node)
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                key.tag = _TEXT
        return super().construct_mapping(node, deep=deep)


class Repeated(SynthGainError):
    """A key given twice, which YAML and JSON would pass over in silence."""


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML or JSON mapping; SynthGainError naming the file and the line where it is not one."""
    try:
        value = parse_yaml(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = "not UTF-8 text" if isinstance(error, UnicodeDecodeError) else error.strerror
        raise SynthGainError(f"{path}: {reason}") from None
    except SynthGainError as error:
        raise type(error)(f"{path}: {error}") from None
    if not isinstance(value, dict):
        raise SynthGainError(f"{path}: not a study config (a YAML mapping)")
    if "__use_yte__" in value:
        raise SynthGainError(f"{path}: templates (__use_yte__) are not for studies; write the values out")
    return value


def parse_yaml(text: str) -> Any:
    """Return what a text holds, JSON before YAML as Snakemake reads it; SynthGainError with the line of a problem."""
    try:
        try:
            return _json(text)
        except ValueError:
            return _yaml(text)
    except RecursionError:
        raise SynthGainError("nested too deeply") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}: " if mark else ""
        raise SynthGainError(f"{place}{' '.join(str(error.problem or error.context).split())}") from None
    except (yaml.YAMLError, ValueError) as error:  # a number of too many digits, a date that does not exist
        raise SynthGainError(" ".join(str(error).split())) from None


def _json(text: str) -> Any:
    """Read JSON; its tabs are blanks to YAML, which then knows the line of a key given twice."""
    repeated: list[str] = []

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
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


def _yaml(text: str) -> Any:
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        _refuse_repeated_keys(node)
        return None if node is None else loader.construct_document(node)
    finally:
        loader.dispose()


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
                value = key.value if key.tag == _MERGE else values.construct_object(key)
                same = (type(value), value)
                if same in first:
                    raise Repeated(f"line {key.start_mark.line + 1}: {_twice(key.value, first[same])}")
                first[same] = key.value
            waiting += [part for pair in node.value for part in pair]
        else:
            waiting += node.value


def _twice(key: str, first: str) -> str:
    otherwise = "" if key == first else f" (first as {shown(first)!r})"
    return f"the key {shown(key)!r} is given twice{otherwise}; keep one"


def parse_study(config: Mapping[str, Any], source: str | Callable[[Place], str] = "config") -> Study:
    """Validate a config; SynthGainError with the first problem in one line. Rehearsals are made small here.

    `source` is what the config is called, or says for a place in it which file it was read from.
    """
    try:
        study = Study.model_validate(dict(config))
    except ValidationError as error:
        keys, message = first_problem(error, config)
        unknown = re.match(r"unknown key '(\w+)'", message)
        named = source if isinstance(source, str) else source((*keys, *(unknown.groups() if unknown else ())))
        raise SynthGainError(": ".join([named, *([".".join(keys)] if keys else []), message])) from None
    return rehearse(study) if study.rehearsal else study


def rehearse(study: Study) -> Study:
    """Return the same study at a few steps, one replicate and one replica, without a primary comparison."""
    data = study.model_dump(by_alias=True)
    sizes = study.rehearsal_sizes
    for name, dataset in study.datasets.items():
        data["datasets"][name].update(dataset.rehearsed(sizes.patients))
    for generator in data["generators"].values():
        generator["training"].update(steps=min(generator["training"]["steps"], sizes.generator_steps), snapshots=None)
    for name, pool in data["pools"].items():
        given = study.pools[name]
        # What was not set stays so: some pools refuse keys that mean nothing to them.
        pool.update(replicas=1, shards=1, snapshot=None, sampling=given.sampling.model_dump(exclude_unset=True))
        if given.from_ is not None and family_of(study.generators[given.from_]).denoises:
            steps = pool["sampling"]["steps"] = min(given.sampling.steps, sizes.sampling_steps)
            if given.inpainting is not None:
                pool["inpainting"]["jump_length"] = min(given.inpainting.jump_length, max(1, steps - 1))
    for model in data["models"].values():
        steps = min(model["steps"], sizes.model_steps)
        model.update(steps=steps, validate_every=max(1, min(model["validate_every"], steps // 2)))
    for arm in data["arms"].values():
        if arm["ratios"]:
            arm["ratios"] = [min(100, min(arm["ratios"]))]
    data["replicates"].update(count=1, generators=1, pools=1, looks=None)
    data["analysis"]["primary"] = None
    data["study_seeds"] = None
    return Study.model_validate(data)


def run_names(study: Study) -> list[str]:
    """Return the folders below results/ that this study fills: one, or one per study seed."""
    if study.rehearsal:
        return [f"{study.study}-rehearsal"]
    if study.study_seeds is None:
        return [study.study]
    return [f"{study.study}/seed-{seed}" for seed in study.study_seeds]
