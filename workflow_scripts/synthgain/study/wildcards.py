"""Whether the file that somebody asked Snakemake for belongs to the study: one line where it does not."""

from collections.abc import Collection, Mapping

from synthgain.entry import nearest
from synthgain.runtime.errors import SynthGainError
from synthgain.study.planner import Planner, look_folders
from synthgain.study.roles import root_pool, trainings_of
from synthgain.study.stage import LOOK, NUMBERS
from synthgain.study.stages.generators import snapshots_of
from synthgain.study.stages.pools import shards_of
from synthgain.study.stages.table import STAGES

NAME, NUMBER, LOOKS = "[a-z][a-z0-9_]*", r"\d+", r"(?:look-[1-9]\d*/)?"


def wildcards_of_stages() -> dict[str, str]:
    """Return {wildcard: its regular expression} of all stages."""
    names = {name for stage in STAGES.values() for name in stage.wildcards}
    return {name: LOOKS if name == LOOK else NUMBER if name in NUMBERS else NAME for name in sorted(names)}


def check_wildcards(plan: Planner, rule: str, wildcards: Mapping[str, str]) -> None:
    """Raise SynthGainError, naming what there is, for the first wildcard whose value is not defined in the study."""
    plan = plan.at(look_folders(plan.study)[-1])
    for name, value in wildcards.items():
        known = _known(plan, rule, name, wildcards)
        if isinstance(known, range):
            if not (value == str(int(value)) and int(value) in known):
                there = f"there are {known[0]} to {known[-1]}" if len(known) > 1 else f"there is {known[0]} alone"
                raise SynthGainError(f"{rule}: no {name} {value} in study {plan.study.study}; {there}")
        elif value not in known:
            raise SynthGainError(f"{rule}: no {name} {value!r} in study {plan.study.study}; {_hint(value, known)}")


def _hint(value: str, known: Collection[str]) -> str:
    return f"there are {', '.join(known)}" if value.isdigit() and known else nearest(value, known)


def _known(plan: Planner, rule: str, name: str, wildcards: Mapping[str, str]) -> range | Collection[str]:
    """Return the values of a wildcard, those before it in the path being valid."""
    study, fewer = plan.study, plan.stages[rule].values
    if name in fewer:
        return fewer[name](study)
    entries: dict[str, Collection[str]] = {
        "dataset": study.datasets,
        "clusters": study.clusters,
        "autoencoder": study.autoencoders,
        "generator": study.generators,
        "pool": study.pools,
        "model": study.models,
        "arm": study.arms,
        LOOK: look_folders(study),
    }
    if name in entries:
        return entries[name]
    if name == "index":
        return range(plan.pool_draws()) if "pool" in wildcards else trainings_of(study, wildcards["generator"])
    if name == "replica":
        return range(1, root_pool(study, wildcards["pool"]).replicas + 1)
    if name == "shard":
        return range(shards_of(study, study.pools[wildcards["pool"]]))
    if name == "ratio":
        return [str(ratio) for ratio in plan.ratios(wildcards["arm"])]
    if name == "chunk":
        return plan.chunks()
    if name == "snapshot":
        return [str(step) for step in snapshots_of(plan, wildcards["generator"])]
    raise KeyError(name)
