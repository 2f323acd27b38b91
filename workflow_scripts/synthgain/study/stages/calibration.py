"""The one job that looks over all study seeds: known answers next to found ones."""

from collections.abc import Mapping

from synthgain.study.planner import Planner, run_below
from synthgain.study.roles import baseline_of, role_of, root_pool
from synthgain.study.schema import Primary, Study
from synthgain.study.stage import Draft, Stage
from synthgain.study.stages.measured import measured_pools, searched_pools


def summarise_calibration(planners: Mapping[str, Planner]) -> Draft:
    """Draft the job of a study with `study_seeds`, {run folder: planner}; its inputs are wanted of every run."""
    first = next(iter(planners.values()))
    study = first.study
    declared = {entry.arm: entry for entry in study.analysis.primaries}
    synthetic = [study.arms[arm].synthetic for arm in declared]
    pools = [pool for pool in synthetic if pool is not None and pool in measured_pools(first)]
    gated = [pool for pool in pools if pool in searched_pools(first)]
    measured = pools if study.evaluation.fidelity is not None else []
    models = sorted({entry.model for entry in declared.values()})
    facts = {
        "study": study.study,
        "title": study.title or study.study,
        "runs": {run_below(study, run): plan.seed for run, plan in planners.items()},
        "models": models,
        "arms": {arm: _arm(study, primary, list(declared)) for arm, primary in declared.items()},
        "gated": gated,
        "draws": first.pool_draws(),
        "measured": measured,
        "alpha": study.analysis.alpha,
        "margin": study.analysis.margin,
        "replicates": study.replicates.count,
    }
    repeated = [(entry.model, arm, _repeated(study, entry)) for arm, entry in declared.items()]
    return Draft(
        facts,
        {
            "statistics": [{"model": model} for model in models],
            "memorisation": [{"pool": p, "index": i} for p in gated for i in range(first.pool_draws())],
            "fidelity": [{"pool": pool, "index": 0} for pool in measured],
            "predictions": [
                {"model": model, "arm": name}
                for model, arm, twin in repeated
                if twin is not None
                for name in (arm, twin)
            ],
        },
    )


def _arm(study: Study, primary: Primary, declared: list[str]) -> dict[str, object]:
    """What the summary needs to know of a declared arm: its pool's truth, and the arms that it is held against."""
    arm = primary.arm
    recipe = study.arms[arm]
    pool = root_pool(study, recipe.synthetic) if recipe.synthetic is not None else None
    return {
        "primary": primary.dump(),
        "kind": (pool.known if pool else None) or role_of(study, arm),
        "pool": recipe.synthetic,
        "drop": pool.known_options.drop if pool else {},
        "baseline": baseline_of(study, arm),
        "repeated": _repeated(study, primary),
        "oracle": next((name for name in declared if _is_oracle(study, name)), None),
    }


def _repeated(study: Study, primary: Primary) -> str | None:
    """Return the arm that repeats the real images of an arm on copies of them as often as that copies them."""
    pool = study.arms[primary.arm].synthetic
    if pool is None or root_pool(study, pool).known != "copier":
        return None
    baseline = baseline_of(study, primary.arm)
    for name in study.arms:
        same = baseline_of(study, name) == baseline and primary.ratio in study.arms[name].ratios
        if same and role_of(study, name) == "repeated":
            return name
    return None


def _is_oracle(study: Study, arm: str) -> bool:
    pool = study.arms[arm].synthetic
    return pool is not None and root_pool(study, pool).known == "oracle"


STAGES = (
    Stage(
        "summarise_calibration",
        "Comparing known and found answers",
        "calibration.json",
        summarise_calibration,
        {
            "statistics": "compare_arms",
            "memorisation": "check_memorisation",
            "fidelity": "measure_fidelity",
            "predictions": "collect_predictions",
        },
        over_runs=True,
    ),
)
