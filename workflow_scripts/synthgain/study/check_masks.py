"""Cross-references of masks: structures exist, pools of pairs fit their generators, score tables fit the model."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from synthgain.downstream.kinds import TASK_KINDS
from synthgain.entry import nearest
from synthgain.readers.questions import questions_of
from synthgain.study.generation import Generator, family_of
from synthgain.study.roles import is_plain, root_pool, source_dataset

if TYPE_CHECKING:
    from synthgain.pools.options import Filter, Pool
    from synthgain.study.schema import Study

ONE_PASS = {"batch_size", "precision"}  # of sampling, all that a generator drawn in one pass takes


def check_masks(study: Study) -> None:
    """Raise ValueError, one line naming the place, at the first mask that leads nowhere."""
    for name, generator in study.generators.items():
        for dataset in generator.train_on.datasets:
            _known_structures(study, dataset, generator.structures, f"generators.{name}.structures")
    for name, model in study.models.items():
        if model.kind.masks:
            trained = {arm.real for arm in study.arms.values() if arm.real is not None}
            for dataset in dict.fromkeys([*study.evaluate_on, *sorted(trained)]):
                _known_structures(study, dataset, model.structures, f"models.{name}.structures")
        if model.window is not None and model.window > study.image.size:
            raise ValueError(f"models.{name}.window: {model.window} is above image.size {study.image.size}")
    for name, pool in study.pools.items():
        _check_pool(study, name, pool)
    for name in study.arms:
        _check_arm(study, name)


def _check_arm(study: Study, name: str) -> None:
    arm, place = study.arms[name], f"arms.{name}"
    segmented = [model for model, config in study.models.items() if config.kind.masks]
    if segmented and arm.balance is not None:
        raise ValueError(f"{place}.balance: for classification; model {segmented[0]!r} has no labels to balance")
    for label in arm.balance.targets if arm.balance is not None else ():
        for model, config in study.models.items():
            if len(config.targets) > 1 and label not in config.targets:  # of one target its levels may be meant
                hint = nearest(label, config.targets)
                raise ValueError(f"{place}.balance.targets: model {model!r} does not learn {label!r}; {hint}")
    pool = study.pools.get(arm.synthetic or "")
    if pool is None:
        return
    source = root_pool(study, arm.synthetic or "").from_
    if source is not None:
        drawn = study.generators[source].structures
        for model in segmented:
            missing = [structure for structure in study.models[model].structures if structure not in drawn]
            if missing:
                what = f"masks of {', '.join(missing)}" if drawn else "masks"
                raise ValueError(f"{place}.synthetic: pool {arm.synthetic!r} has no {what} for model {model!r}")
    if arm.sibling_probability is not None and (pool.rows_of != arm.real or pool.balance or pool.of):
        raise ValueError(
            f"{place}.sibling_probability: needs a pool with rows_of: {arm.real}, neither balanced nor filtered"
        )


def _check_pool(study: Study, name: str, pool: Pool) -> None:
    place = f"pools.{name}"
    if pool.filter is not None:
        _check_filter(study, pool, place)
    if pool.misaligned and pool.rows_of is not None and study.datasets[pool.rows_of].known_structures == set():
        raise ValueError(f"{place}.misaligned: data set {pool.rows_of!r} has no masks to permute")
    if pool.from_ is None:
        return
    generator = study.generators[pool.from_]
    given = pool.sampling.model_fields_set
    if not family_of(generator).denoises:
        kind = f"{pool.from_!r} is a {generator.family}"
        if pool.masks or pool.inpainting:
            raise ValueError(f"{place}: masks and inpainting need a generator that denoises; {kind}")
        if unused := sorted(given - ONE_PASS):
            raise ValueError(f"{place}.sampling.{unused[0]}: {kind}, drawn in one pass; leave it out")
        return
    if generator.output == "mask":
        raise ValueError(f"{place}.from: {pool.from_!r} draws masks alone; name it under masks.from of another pool")
    if pool.masks is not None:
        if not generator.mask_conditioned:
            raise ValueError(f"{place}.masks: generator {pool.from_!r} is not conditioned on masks")
        if pool.masks.from_ is not None:
            _check_mask_source(study, pool, generator, f"{place}.masks.from")
    if pool.inpainting is not None:
        if generator.autoencoder_name is not None:
            raise ValueError(
                f"{place}.inpainting: {pool.from_!r} draws latents, of which no region is kept; take one of pixels"
            )
        if generator.output != "image+mask":
            raise ValueError(f"{place}.inpainting: generator {pool.from_!r} must have output: image+mask")
        if pool.inpainting.structure not in generator.structures:
            hint = nearest(pool.inpainting.structure, generator.structures)
            raise ValueError(f"{place}.inpainting.structure: {pool.inpainting.structure!r}; {hint}")
        if "solver" in given:
            raise ValueError(f"{place}.sampling.solver: inpainting draws by RePaint, not by a solver; leave it out")
        if pool.inpainting.resamples > 1 and pool.inpainting.jump_length >= max(2, pool.sampling.steps):
            raise ValueError(
                f"{place}.inpainting.jump_length: {pool.inpainting.jump_length} of {pool.sampling.steps} steps "
                "(sampling.steps) leaves nothing to resample; lower it"
            )


def _check_mask_source(study: Study, pool: Pool, generator: Generator, place: str) -> None:
    assert pool.masks is not None
    assert pool.masks.from_ is not None
    source = study.generators.get(pool.masks.from_)
    if source is None:
        raise ValueError(f"{place}: there is no {pool.masks.from_!r}; {nearest(pool.masks.from_, study.generators)}")
    if source.output != "mask":
        raise ValueError(f"{place}: generator {pool.masks.from_!r} must have output: mask")
    if source.structures != generator.structures:
        raise ValueError(f"{place}: {pool.masks.from_!r} draws {source.structures}, wanted {generator.structures}")


def _check_filter(study: Study, pool: Pool, place: str) -> None:
    """The scores of a filter must be made in this study, of this pool."""
    assert pool.filter is not None
    SCORE_CHECKS[pool.filter.scores](study, pool, pool.filter, place)


def _copies_are_sought(study: Study, pool: Pool, rule: Filter, place: str) -> None:
    if study.evaluation.memorisation is None:
        raise ValueError(f"{place}.filter.scores: memorisation is not searched for (evaluation.memorisation: null)")
    root = root_pool(study, pool.of or "").from_
    latent = root is not None and getattr(study.generators[root], "autoencoder", None) is not None
    spaces = ["pixels", *(["features"] if study.evaluation.memorisation.space else []), *(["reconstructions"] * latent)]
    columns = [f"{score}_{space}" for score in ("similarity", "distance_ratio", "flagged", "copy") for space in spaces]
    _known_score(rule, ["flagged", "similarity_parent_pixels", *columns], place)


def _panel_rates(study: Study, pool: Pool, rule: Filter, place: str) -> None:
    """The panel must show the pool's images, and its kit must not wait for the filtered pool."""
    panel = study.readers.get(rule.name or "")
    if panel is None:
        raise ValueError(
            f"{place}.filter.name: there is no panel {rule.name!r}; {nearest(rule.name or '', study.readers)}"
        )
    if pool.of not in panel.items.pools:
        shown = ", ".join(panel.items.pools)
        raise ValueError(
            f"{place}.filter.name: readers of {rule.name!r} see {shown}, not {pool.of!r}; add it to items.pools"
        )
    asked = [q.name for q in questions_of(panel)]
    if rule.column not in asked:
        raise ValueError(
            f"{place}.filter.column: panel {rule.name!r} is not asked {rule.column!r}; {nearest(rule.column, asked)}"
        )
    if rule.threshold is not None and not 0 <= rule.threshold <= 1:
        raise ValueError(
            f"{place}.filter.threshold: {rule.threshold:g}; the scores of readers are ranks from 0 to 1, whatever the "
            "scale of the question"
        )
    if not panel.answers:
        raise ValueError(f"{place}.filter.name: readers.{rule.name}.ratings is missing: the folder of their answers")
    if max(study.replicates.generators, study.replicates.pools) > 1:
        raise ValueError(
            f"{place}.filter.scores: readers rate the first draw of a pool alone; give "
            "replicates.generators: 1 and pools: 1"
        )


def _model_agrees(study: Study, pool: Pool, rule: Filter, place: str) -> None:
    """The scores come from the first model, trained on all real images of the pool's source."""
    first, model = next(iter(study.models.items()))
    if model.kind.agreement != rule.scores:
        wanted = " or ".join(name for name, kind in TASK_KINDS.items() if kind.agreement == rule.scores)
        raise ValueError(f"{place}.filter.scores: {rule.scores} needs a {wanted} model; {first!r} comes first")
    source = source_dataset(study, pool.of or "")
    plain = any(is_plain(a) and a.fraction == 1 and source in (None, a.real) for a in study.arms.values())
    if not plain:
        raise ValueError(f"{place}.filter: its scores need a plain arm {{real: {source}}} whose model gives them")
    if model.kind.masks:
        each = [f"{score}_{name}" for score in ("dice", "empty") for name in model.structures]
        _known_score(rule, ["dice", *each], place)
    elif len(model.targets) > 1 or not rule.column.startswith("score_"):  # the levels of one target: its files know
        _known_score(rule, ["agreement", *(f"score_{target}" for target in model.targets)], place)


def _known_score(rule: Filter, known: list[str], place: str) -> None:
    if rule.column not in known:
        raise ValueError(
            f"{place}.filter.column: {rule.scores} gives no {rule.column!r}; {nearest(rule.column, known)}"
        )


SCORE_CHECKS: dict[str, Callable[[Study, Pool, Filter, str], None]] = {
    "memorisation": _copies_are_sought,
    "label_consistency": _model_agrees,
    "mask_agreement": _model_agrees,
    "readers": _panel_rates,
}


def _known_structures(study: Study, dataset: str, structures: list[str], place: str) -> None:
    known = study.datasets[dataset].known_structures
    for structure in structures:
        if known is not None and structure not in known:
            raise ValueError(f"{place}: data set {dataset!r} has no mask {structure!r}; {nearest(structure, known)}")
