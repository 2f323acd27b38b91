"""Which pools, generators and models are measured: what the evaluation's jobs are, for all that read them."""

from synthgain.study.generation import family_of
from synthgain.study.planner import Planner
from synthgain.study.roles import EXEMPT_KINDS, is_plain, reference_dataset
from synthgain.study.stage import Wildcards
from synthgain.study.stages.generators import trainings


def measured_pools(plan: Planner) -> list[str]:
    """Return the pools on which fidelity and memorisation are measured: as configured, or all drawn ones."""
    chosen = plan.study.evaluation.pools
    return list(chosen) if chosen is not None else [n for n, p in plan.study.pools.items() if p.of is None]


def searched_pools(plan: Planner) -> list[str]:
    """Return the measured pools in which copies are looked for: not those that are training images by design."""
    if plan.study.evaluation.memorisation is None:
        return []
    return [name for name in measured_pools(plan) if plan.study.pools[name].known not in EXEMPT_KINDS]


def segmented(plan: Planner) -> list[str]:
    """Return the structures that the study's models segment, none in a study that only classifies."""
    models = [model for model in plan.study.models.values() if model.kind.masks]
    return list(dict.fromkeys(name for model in models for name in model.structures))


def draws_images(plan: Planner, generator: str) -> bool:
    """True for a denoiser of images alone, the kind of which snapshots are compared on a sample."""
    config = plan.study.generators[generator]
    return family_of(config).denoises and config.output == "image" and not config.mask_conditioned


def real_cell(plan: Planner, rows: str, index: int) -> Wildcards | None:
    """Return the job that trains the first model on all real images of `rows`, for replicate `index`."""
    for name, arm in plan.study.arms.items():
        if is_plain(arm) and arm.real == rows and arm.fraction == 1.0:
            chunk = plan.chunk_of(index)
            return {"model": next(iter(plan.study.models)), "arm": name, "ratio": 0, "chunk": chunk}
    return None


def _draws(plan: Planner) -> list[Wildcards]:
    """Return every draw of every measured pool."""
    return [{"pool": pool, "index": i} for pool in measured_pools(plan) for i in range(plan.pool_draws())]


def fidelity_draws(plan: Planner) -> list[Wildcards]:
    """Return the draws of pools whose fidelity is measured."""
    return _draws(plan) if plan.study.evaluation.fidelity is not None else []


def gated_draws(plan: Planner) -> list[Wildcards]:
    """Return the draws of pools in which copies are looked for."""
    return [{"pool": pool, "index": i} for pool in searched_pools(plan) for i in range(plan.pool_draws())]


def scored_draws(plan: Planner) -> list[Wildcards]:
    """Return the draws of pools whose labels or masks are held against the real-only model."""
    if not plan.study.evaluation.label_consistency:
        return []
    rows = {pool: reference_dataset(plan.study, pool) for pool in measured_pools(plan)}
    return [draw for draw in _draws(plan) if real_cell(plan, rows[str(draw["pool"])], int(draw["index"])) is not None]


def compared_snapshots(plan: Planner) -> list[Wildcards]:
    """Return the trainings whose snapshots are compared."""
    if not plan.study.evaluation.snapshots:
        return []
    return [training for training in trainings(plan) if draws_images(plan, str(training["generator"]))]


def related_models(plan: Planner) -> list[Wildcards]:
    """Return the models of which gain and fidelity are set side by side: none in a rehearsal."""
    if plan.study.evaluation.fidelity is None or plan.study.rehearsal:
        return []
    used = {arm.synthetic for arm in plan.study.arms.values() if arm.real is not None}
    return [{"model": model} for model in plan.study.models if used & set(measured_pools(plan))]
