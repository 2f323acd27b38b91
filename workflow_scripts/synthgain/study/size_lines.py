"""Which arms the plot of gain over the number of real patients joins by a line."""

import json

from synthgain.study.ladder import named_share
from synthgain.study.schema import Study

SHARES = {"real_fraction", "label_fraction"}


def size_lines(study: Study) -> dict[str, str]:
    """Return the arms with synthetic images that differ in their share of patients or labels alone: arm → line.

    With a ladder its rungs, which are one line. Without one a line holds arms whose recipe, pool and generator are the
    same but for the shares, and is called as its arm of most patients: a generator from random weights and a
    pretrained one are two lines, whatever their names.
    """
    arms = {name: arm for name, arm in study.arms.items() if arm.real is not None and arm.synthetic is not None}
    if study.ladder is not None:
        ladder = study.ladder
        drawn = {ladder.pool, *(f"{ladder.pool}_{named_share(share)}" for share in ladder.fractions)}
        real = study.pools[ladder.pool].rows_of
        return {name: ladder.pool for name, arm in arms.items() if arm.real == real and arm.synthetic in drawn}
    alike: dict[str, list[str]] = {}
    for name in arms:
        alike.setdefault(_recipe(study, name), []).append(name)
    several = [names for names in alike.values() if len({arms[name].fraction for name in names}) > 1]
    return {name: max(names, key=lambda name: arms[name].fraction) for names in several for name in names}


def _recipe(study: Study, name: str) -> str:
    """Everything that an arm is made with, shares of patients and labels left out."""
    arm = study.arms[name].model_dump(mode="json", exclude=SHARES | {"synthetic", "ratios", "baseline", "description"})
    made: list[object] = [arm]
    pool: str | None = study.arms[name].synthetic
    while pool is not None:
        entry = study.pools[pool]
        made.append(entry.model_dump(mode="json", exclude={"from_", "of", "replicas", "shards"}))
        generator = entry.from_
        while generator is not None:
            trained = study.generators[generator]
            made.append(trained.model_dump(mode="json", exclude={"train_on": SHARES, "init_from": True}))
            generator = trained.init_from
        pool = entry.of
    return json.dumps(made, sort_keys=True)
