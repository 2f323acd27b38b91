"""What an arm is in the comparison: its baseline, its role, whether it borrowed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from synthgain.downstream.options import Arm
from synthgain.statistics.metric_registry import MACRO, MAIN, MainEndpoint

if TYPE_CHECKING:
    from synthgain.pools.options import Pool
    from synthgain.study.schema import Study

# Known-answer pools in which copies are not sought: they are the training images by design.
EXEMPT_KINDS = ("reconstructed",)
# Known-answer pools without information of their own: an arm on one must not help.
NEGATIVE_KINDS = ("noise", "label_shuffled")


def source_dataset(study: Study, pool: str) -> str | None:
    """Return the data set whose rows a pool copies (through `of`), or None for an imported one without rows_of."""
    config = study.pools.get(pool)
    if config is None:
        return None
    if config.of is not None:
        return source_dataset(study, config.of)
    return config.rows_of


def reference_dataset(study: Study, pool: str) -> str:
    """Return the real data that a pool is held against: its source, or the real data of an arm that uses it."""
    source = source_dataset(study, pool)
    if source is not None:
        return source
    real = [arm.real for arm in study.arms.values() if arm.synthetic == pool and arm.real is not None]
    split = [name for name, dataset in study.datasets.items() if dataset.split is not None]
    return (real or split)[0]


def base_pool(study: Study, pool: str) -> str:
    """Return the name of the pool at the end of the `of` chain: the one whose images were drawn."""
    of = study.pools[pool].of
    return pool if of is None else base_pool(study, of)


def judging(study: Study, pool: str, spaces: Sequence[str]) -> list[str]:
    """Return which of these feature spaces may judge a pool: not the one that styled its images."""
    styling = root_pool(study, pool).styling
    return [space for space in spaces if styling is None or space != styling.space]


def prompt_of(study: Study, pool: Pool) -> str | None:
    """Return the prompt that a pool is drawn for: its own, or its generator's; None without a text."""
    return pool.prompt or (None if pool.from_ is None else study.generators[pool.from_].prompt_name)


def root_pool(study: Study, pool: str) -> Pool:
    """Return the pool at the end of the `of` chain."""
    return study.pools[base_pool(study, pool)]


def cleaned(study: Study, name: str) -> bool:
    """True if the arm's pool lost all images that the gate flagged, copies too: its warning does not apply to it."""
    return _without_flagged(study.pools.get(study.arms[name].synthetic or ""))


def _without_flagged(pool: Pool | None) -> bool:
    """True for a pool that keeps what is not flagged; another cut on the memorisation scores may leave copies."""
    kept = None if pool is None else pool.filter
    return kept is not None and (kept.scores, kept.column, kept.keep) == ("memorisation", "flagged", "false")


def is_plain(arm: Arm) -> bool:
    """True for real images alone, trained in the standard way: what others are compared with."""
    return arm.plain


def baseline_of(study: Study, name: str) -> str | None:
    """Return the arm that `name` is compared with: declared, or the plain arm of the same real images."""
    arm = study.arms[name]
    if arm.baseline is not None:
        return arm.baseline
    if is_plain(arm):
        return None
    real = arm.real or source_dataset(study, arm.synthetic or "")
    for other, config in study.arms.items():
        same = (config.real_fraction, config.label_fraction) == (arm.real_fraction, arm.label_fraction)
        if is_plain(config) and config.real == real and same:
            return other
    return None


def validation_dataset(study: Study, name: str) -> str | None:
    """Return the data set whose validation part selects the arm's checkpoint."""
    arm = study.arms[name]
    if arm.real is not None:
        return arm.real
    baseline = baseline_of(study, name)
    return source_dataset(study, arm.synthetic or "") or (study.arms[baseline].real if baseline else None)


def role_of(study: Study, name: str) -> str:
    """Return baseline, repeated, real_long, real_strong, negative_control, supplemented, synthetic_only or other."""
    arm = study.arms[name]
    if is_plain(arm):
        return "baseline"
    if arm.repeat:
        return "repeated"
    if arm.synthetic is not None:
        pool = root_pool(study, arm.synthetic)
        if pool.shuffled or pool.misaligned or pool.known in NEGATIVE_KINDS:
            return "negative_control"
        return "supplemented" if arm.real is not None else "synthetic_only"
    if arm.balance is not None:
        return "other"
    if arm.steps_factor > 1:
        return "real_long"
    return "real_strong" if arm.augmentation == "strong" else "other"


def copies_real(study: Study, name: str) -> bool:
    """True if all the arm's images are its real ones, or exact copies of them that are declared as such.

    Two such arms may predict the same to the bit; any other two must not.
    """
    arm = study.arms[name]
    if arm.synthetic is None:
        return arm.real is not None and arm.balance is None
    pool = study.pools[arm.synthetic]
    changed = pool.shuffled or pool.misaligned or pool.balance is not None or bool(pool.known_options.given())
    plain = arm.pretrain is None and arm.sibling_probability is None and arm.mixing.mode == "concat"
    return pool.known == "copier" and pool.rows_of == arm.real and not changed and plain


def generated(study: Study, name: str) -> bool:
    """True if a generator of the study drew the arm's synthetic images: another training of it is another sample."""
    arm = study.arms[name]
    return arm.synthetic is not None and root_pool(study, arm.synthetic).from_ is not None


def borrowed(study: Study, name: str) -> bool:
    """True if the arm's generator saw real patients, or their labels, on which the arm's baseline does not train."""
    arm = study.arms[name]
    if arm.synthetic is None:
        return False
    reference = study.arms.get(baseline_of(study, name) or "")
    pool = root_pool(study, arm.synthetic)
    if reference is None or pool.imported is not None:
        return False
    seen: dict[str, float] = {}
    told: dict[str, float] = {}  # shares of the patients whose labels it saw
    for start in (pool.from_, pool.masks.from_ if pool.masks is not None else None):
        generator = start
        while generator is not None:
            config = study.generators[generator]
            for dataset in config.train_on.datasets:
                seen[dataset] = max(seen.get(dataset, 0.0), config.train_on.real_fraction)
                if config.condition_on or config.prompt_name is not None:
                    told[dataset] = max(told.get(dataset, 0.0), config.train_on.labelled)
            for dataset, share in _encoded(study, config.autoencoder_name):
                seen[dataset] = max(seen.get(dataset, 0.0), share)
            generator = config.init_from
    for dataset, share in _encoded(study, pool.autoencoder):
        seen[dataset] = max(seen.get(dataset, 0.0), share)
    if pool.known in ("copier", "jittered_copier", "part_copier", "reconstructed") and pool.rows_of is not None:
        seen[pool.rows_of] = 1.0
    patients = any(dataset != reference.real or share > reference.real_fraction for dataset, share in seen.items())
    return patients or any(share > reference.fraction for share in told.values())


def total_steps(study: Study, name: str) -> int:
    """Return the steps that a generator's weights have seen: its own, and those of the generators it started from."""
    generator = study.generators[name]
    before = 0 if generator.init_from is None else total_steps(study, generator.init_from)
    return generator.training.steps + before


def _encoded(study: Study, autoencoder: str | None) -> list[tuple[str, float]]:
    """Return which data sets, and which share of their training patients, an autoencoder was trained on here."""
    entry = None if autoencoder is None else study.autoencoders[autoencoder].train_on
    return [] if entry is None else [(dataset, entry.real_fraction) for dataset in entry.datasets]


def filtered_twin(study: Study, name: str) -> str | None:
    """Return the arm that trains as `name` does but on its pool without the samples that the gate flagged."""
    arm = study.arms[name]
    for other, config in study.arms.items():
        pool = study.pools.get(config.synthetic or "")
        if pool is None or not _without_flagged(pool) or pool.of != arm.synthetic:
            continue
        if arm.model_dump(exclude=_NOT_RECIPE) == config.model_dump(exclude=_NOT_RECIPE):
            return other
    return None


_NOT_RECIPE = {"synthetic", "ratios", "description", "baseline"}


def main_endpoint(study: Study, model: str) -> MainEndpoint:
    """Return the first endpoint declared for a model, else its task's usual one over all labels on the first set."""
    for entry in study.analysis.primaries:
        if entry.model == model:
            return MainEndpoint(entry.metric, entry.labels, entry.test_set, entry.arm, entry.ratio)
    return MainEndpoint(MAIN[study.models[model].kind.predictions], MACRO, study.evaluate_on[0])


def without_patients(study: Study, name: str) -> bool:
    """True for a data set without patient ids: its split is by image, which the report says."""
    return not study.datasets[name].has_patients


def clusters_of(study: Study, generator: str) -> int:
    """Return on how many clusters, each by itself, a generator is trained; 1 for any other generator."""
    per = study.generators[generator].train_on.per
    return 1 if per is None else study.clusters[per].k


def trainings_of(study: Study, generator: str) -> range:
    """Return the indices of a generator's trainings: those of training t on cluster c are t · clusters + c."""
    return range(study.replicates.generators * clusters_of(study, generator))
