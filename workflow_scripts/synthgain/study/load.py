"""From a config to a validated study: one clear line for whatever is wrong."""

import re
from collections.abc import Callable, Mapping

from pydantic import ValidationError

from synthgain.entry import IN_QUOTES, LONGEST_SHOWN, UNSAFE, first_problem, shown
from synthgain.runtime.errors import SynthGainError
from synthgain.study.generation import family_of
from synthgain.study.limits import TooMuch, check_limits
from synthgain.study.schema import Study
from synthgain.study.yaml_files import Place


def parse_study(config: Mapping[str, object], source: str | Callable[..., str] = "config") -> Study:
    """Validate a config; SynthGainError with the first problem in one line. Rehearsals are made small here.

    `source` is what the config is called, or says for a place in it which file it was read from (and with a second
    argument that is true also the line).
    """
    try:
        study = Study.model_validate(dict(config))
    except ValidationError as error:
        keys, message = first_problem(error, config)
        unknown = re.match(r"unknown key '(\w+)'", message)
        place = (*keys, *(unknown.groups() if unknown else ()))
        raise SynthGainError(_said(source, place, keys, message)) from None
    _refuse_unsafe_text(config, source)
    try:
        check_limits(study)
    except TooMuch as problem:
        raise SynthGainError(_said(source, problem.place, list(problem.place), problem.message)) from None
    return rehearse(study) if study.rehearsal else study


def _said(source: str | Callable[..., str], place: Place, keys: list[str], message: str) -> str:
    named = source if isinstance(source, str) else source(place, IN_QUOTES in message)
    message = re.sub(rf"\S{{{LONGEST_SHOWN + 16},}}", lambda long: shown(long[0]), message)
    return ": ".join([named, *([".".join(keys)] if keys else []), message])


def _refuse_unsafe_text(config: Mapping[str, object], source: str | Callable[..., str]) -> None:
    """Raise SynthGainError where a key or a value holds a character that breaks or disguises what a reader sees."""
    waiting: list[tuple[Place, object]] = [((), config)]
    while waiting:
        place, value = waiting.pop()
        if isinstance(value, Mapping):
            waiting += [((*place, str(key)), part) for key, part in value.items()]
            waiting += [((*place, str(key)), str(key)) for key in value]
        elif isinstance(value, list | tuple):
            waiting += [((*place, str(number)), part) for number, part in enumerate(value)]
        elif isinstance(value, str) and place[:1] != ("data_root",):  # a folder is called as it is
            found = UNSAFE.search(value)
            if found:
                keys = [shown(key) for key in place]
                what = f"holds the character U+{ord(found[0]):04X}, which is not shown as it is; take it out"
                raise SynthGainError(_said(source, place, keys, what))


REHEARSED_CLUSTERS = 3  # where none is named by its number
REHEARSED_SAMPLES = 64  # of a steered generator
REHEARSED_ITEMS = 4  # of a reader kit, from each place


def rehearse(study: Study) -> Study:
    """Return the same study at a few steps, one replicate and one replica, without a primary comparison."""
    data = study.model_dump(by_alias=True)
    sizes = study.rehearsal_sizes
    for name, dataset in study.datasets.items():
        data["datasets"][name].update(dataset.rehearsed(sizes.patients))
    numbered = {g.train_on.cluster[0] for g in study.generators.values() if g.train_on.cluster is not None}
    for name, clusters in data["clusters"].items():
        k = clusters["k"] if name in numbered else min(clusters["k"], REHEARSED_CLUSTERS)
        clusters.update(k=k, smallest=1)
    for autoencoder in data["autoencoders"].values():
        if autoencoder["training"] is not None:
            autoencoder["training"].update(steps=min(autoencoder["training"]["steps"], sizes.generator_steps))
    for generator in data["generators"].values():
        generator["training"].update(steps=min(generator["training"]["steps"], sizes.generator_steps), snapshots=None)
        reward = generator.get("reward")
        if reward is not None and reward["scores"] == "readers":
            generator["reward"] = None  # nobody has rated the images of a rehearsal
        elif reward is not None:
            reward.update(rounds=1, samples=REHEARSED_SAMPLES, proxy_steps=sizes.model_steps)
    for name, pool in data["pools"].items():
        given = study.pools[name]
        # What was not set stays so: some pools refuse keys that mean nothing to them.
        pool.update(replicas=1, shards=1, snapshot=None, sampling=given.sampling.model_dump(exclude_unset=True))
        if given.from_ is not None and family_of(study.generators[given.from_]).denoises:
            steps = pool["sampling"]["steps"] = min(given.sampling.steps, sizes.sampling_steps)
            if given.inpainting is not None:
                pool["inpainting"]["jump_length"] = min(given.inpainting.jump_length, max(1, steps - 1))
    for panel in data["readers"].values():
        panel["common"] = 1.0  # a rehearsal has few patients, and no image is shown of one twice
        for counts in (panel["items"]["real"], panel["items"]["pools"]):
            counts.update({place: min(count, REHEARSED_ITEMS) for place, count in counts.items()})
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
