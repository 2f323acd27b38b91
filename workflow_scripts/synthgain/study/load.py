"""From YAML to a validated study: one clear line for whatever is wrong."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from synthgain.runtime.errors import SynthGainError
from synthgain.study.entry import nearest
from synthgain.study.schema import Study

LONGEST_SHOWN = 64  # characters of a wrong name: as many as a right one may have
_MERGE = "tag:yaml.org,2002:merge"


class _UniqueKeys(yaml.SafeLoader):
    """A YAML loader that refuses a key given twice, which YAML itself would pass over in silence."""


def _mapping(loader: yaml.SafeLoader, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
    own = [key for key, _ in node.value if key.tag != _MERGE]  # `<<: *other` may give keys that are overridden here
    keys = [loader.construct_object(key, deep=deep) for key in own]
    for key in keys:
        if keys.count(key) > 1:
            raise SynthGainError(f"line {node.start_mark.line + 1}: the key {key!r} is given twice")
    return yaml.SafeLoader.construct_mapping(loader, node, deep=deep)


_UniqueKeys.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping; SynthGainError naming the file where it is not one."""
    try:
        value = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeys)  # a SafeLoader
    except (OSError, yaml.YAMLError, SynthGainError) as error:
        raise SynthGainError(f"{path}: {' '.join(str(error).split())}") from error
    if not isinstance(value, dict):
        raise SynthGainError(f"{path}: not a study config (a YAML mapping)")
    return value


def parse_study(config: Mapping[str, Any], source: str = "config") -> Study:
    """Validate a config; SynthGainError with the first problem in one line. Rehearsals are made small here."""
    try:
        study = Study.model_validate(dict(config))
    except ValidationError as error:
        raise SynthGainError(f"{source}: {_first_problem(error)}") from None
    return rehearse(study) if study.rehearsal else study


def rehearse(study: Study) -> Study:
    """Return the same study at a few steps, one replicate and one replica, without a primary comparison."""
    data = study.model_dump(by_alias=True)
    sizes = study.rehearsal_sizes
    for dataset in data["datasets"].values():
        if dataset["adapter"] == "phantom":
            dataset["patients"] = min(dataset["patients"], sizes.patients)
    for generator in data["generators"].values():
        generator["training"].update(steps=min(generator["training"]["steps"], sizes.generator_steps), snapshots=None)
    for name, pool in data["pools"].items():
        given = study.pools[name]
        # What was not set stays so: some pools refuse keys that mean nothing to them.
        pool.update(replicas=1, shards=1, snapshot=None, sampling=given.sampling.model_dump(exclude_unset=True))
        if given.from_ is not None and study.generators[given.from_].family == "diffusion":
            steps = pool["sampling"]["steps"] = min(given.sampling.steps, sizes.sampling_steps)
            if given.inpainting is not None:
                pool["inpainting"]["jump_length"] = min(given.inpainting.jump_length, max(1, steps - 1))
    for model in data["models"].values():
        steps = min(model["steps"], sizes.model_steps)
        model.update(steps=steps, validate_every=max(1, min(model["validate_every"], steps // 2)))
    for arm in data["arms"].values():
        if arm["ratios"]:
            arm["ratios"] = [min(100, min(arm["ratios"]))]
    data["replicates"].update(count=1, generators=1, pools=1)
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


def _first_problem(error: ValidationError) -> str:
    """One line for the first problem: where, what, and the nearest valid name."""
    problem = error.errors()[0]
    place = ".".join(_shown(str(part)) for part in problem["loc"] if part not in _TAGS)
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "union_tag_invalid":
        context = problem["ctx"]
        known = [tag.strip("' ") for tag in context["expected_tags"].split(",")]
        kind = context["discriminator"].strip("'")
        message = f"unknown {kind} {context['tag']!r}; {nearest(context['tag'], known)} (known: {', '.join(known)})"
    elif problem["type"] == "string_pattern_mismatch":
        message = (
            f"{_shown(str(problem['input']))!r} is not a name: small letters, digits and _, starting with a letter"
        )
    elif problem["type"] == "missing":
        message = "is missing"
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return f"{place}: {message}{more}" if place else f"{message}{more}"


def _shown(name: str) -> str:
    """Return a key or name short and without characters that steer a terminal."""
    short = name if len(name) <= LONGEST_SHOWN else f"{name[:LONGEST_SHOWN]}…"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in short)


_TAGS = ("phantom", "table", "medmnist", "diffusion", "[key]")
