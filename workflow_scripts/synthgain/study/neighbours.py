"""What must stand beside a steered generator, so that its effect can be told from that of its parts."""

from collections.abc import Mapping

from synthgain.entry import nearest
from synthgain.generators.family import GeneratorBase
from synthgain.pools.options import Pool
from synthgain.readers.options import Panel
from synthgain.readers.questions import questions_of

LEAST_RATED = 200  # images; with fewer, ratings filter and steer nothing


def missing_neighbour(name: str, generators: Mapping[str, GeneratorBase], pools: Mapping[str, Pool]) -> str | None:
    """Return in words which neighbour the study lacks, None where all three are there.

    They are the same generator without reward at the same extra steps, a filtered pool of the unsteered generator, and
    the same generator steered by shuffled scores.
    """
    own = generators[name]
    reward = own.steered_by
    assert reward is not None
    alike = [other for other in generators.values() if own.trains_like(other)]
    if not any(other.steered_by is None for other in alike):
        return (
            f"the unsteered neighbour is missing: add a generator like {name!r} without reward (init_from: "
            f"{own.init_from}, training.steps: {own.training.steps}), so that more training is not taken for steering"
        )
    if own.shuffled_neighbour(generators) is None:
        return (
            f"the shuffled neighbour is missing: add a generator like {name!r} with reward.shuffled: true, to tell "
            "what the scores do from what training on own samples does"
        )
    plain = (key for key, other in generators.items() if other.steered_by is None and other in alike)
    unsteered = {own.init_from, *plain}
    if not any(pool.filter is not None and _drawn_by(pools, key) in unsteered for key, pool in pools.items()):
        return (
            f"the filtered neighbour is missing: add a pool with filter of one that {own.init_from!r} draws, of as "
            "many images as the arms use; steering must beat it"
        )
    return None


def panel_problem(panel: Panel, column: str) -> str | None:
    """Return in words why a panel cannot steer, None where it can."""
    asked = [question.name for question in questions_of(panel)]
    if column not in asked:
        return f"column: the panel is not asked {column!r}; {nearest(column, asked)}"
    if not panel.answers:
        return "name: its panel has no `ratings`, the folder of the readers' answers"
    counts = [*panel.items.pools.values(), *(panel.items.real.values() if panel.items.part == "train" else ())]
    rated = sum(panel.images_of(n) for n in counts)
    if rated < LEAST_RATED:
        return (
            f"name: the panel rates {rated} images of training patients; below {LEAST_RATED}, ratings filter a pool "
            "(filter: {scores: readers}) and do not steer"
        )
    return None


def _drawn_by(pools: Mapping[str, Pool], name: str) -> str | None:
    of = pools[name].of
    return pools[name].from_ if of is None or of not in pools else _drawn_by(pools, of)
