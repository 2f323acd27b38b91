"""Plan of the one job that looks over all study seeds: known answers beside found ones."""

from collections.abc import Mapping
from typing import Any

from synthgain.study.plan_evaluation import measured_pools
from synthgain.study.planner import OUTPUTS, Acceptance, Made, PlannedJob, Planner, nothing_accepted
from synthgain.study.roles import baseline_of, role_of, root_pool
from synthgain.study.schema import Study

RULE = "summarise_calibration"


def plan_calibration(planners: Mapping[str, Planner], accepted: Acceptance = nothing_accepted) -> PlannedJob:
    """Return the job; its paths are relative to the study's folder, `seed-3/statistics/…`.

    planners: {run folder: planner} of a study with `study_seeds`.
    """
    first = next(iter(planners.values()))
    study = first.study
    declared = {entry.arm: entry.dump() for entry in study.analysis.primaries}
    arms = {arm: _arm(study, arm, primary, list(declared)) for arm, primary in declared.items()}
    pools = [facts["pool"] for facts in arms.values() if facts["pool"] in measured_pools(first)]
    gated = pools if study.evaluation.memorisation is not None else []
    measured = pools if study.evaluation.fidelity is not None else []
    models = sorted({entry["model"] for entry in declared.values()})
    facts = {
        "study": study.study,
        "title": study.title or study.study,
        "runs": {_below(study, run): plan.seed for run, plan in planners.items()},
        "models": models,
        "arms": arms,
        "gated": gated,
        "draws": first.pool_draws(),
        "measured": measured,
        "alpha": study.analysis.alpha,
        "margin": study.analysis.margin,
        "replicates": study.replicates.count,
    }
    wanted: list[tuple[str, dict[str, Any]]] = [
        *(("compare_arms", {"model": model}) for model in models),
        *(("check_memorisation", {"pool": p, "index": i}) for p in gated for i in range(first.pool_draws())),
        *(("measure_fidelity", {"pool": pool, "index": 0}) for pool in measured),
        *(
            ("collect_predictions", {"model": entry["primary"]["model"], "arm": arm})
            for name, entry in arms.items()
            if entry["repeated"] is not None
            for arm in (name, entry["repeated"])
        ),
    ]
    inputs = {
        f"{_below(study, run)}/{job.output}": job.identity
        for run, plan in planners.items()
        for job in (plan.job(rule, **wildcards) for rule, wildcards in wanted)
    }
    code = first.code.digest(f"{RULE}.py")
    return Made(RULE, OUTPUTS[RULE], facts, inputs, code).planned(accepted)


def _below(study: Study, run: str) -> str:
    return run.removeprefix(f"{study.study}/")


def _arm(study: Study, arm: str, primary: Mapping[str, Any], declared: list[str]) -> dict[str, Any]:
    """What the summary needs to know of a declared arm: its pool's truth, and the arms that it is held against."""
    recipe = study.arms[arm]
    pool = root_pool(study, recipe.synthetic) if recipe.synthetic is not None else None
    return {
        "primary": dict(primary),
        "kind": (pool.known if pool else None) or role_of(study, arm),
        "pool": recipe.synthetic,
        "drop": pool.known_options.given().get("drop", {}) if pool else {},
        "baseline": baseline_of(study, arm),
        "repeated": _repeated(study, arm, primary["ratio"]) if pool and pool.known == "copier" else None,
        "oracle": next((name for name in declared if _is_oracle(study, name)), None),
    }


def _repeated(study: Study, arm: str, ratio: int) -> str | None:
    """Return the arm that repeats the real images of `arm` as often as `arm` copies them."""
    baseline = baseline_of(study, arm)
    for name in study.arms:
        same = baseline_of(study, name) == baseline and ratio in study.arms[name].ratios
        if same and role_of(study, name) == "repeated":
            return name
    return None


def _is_oracle(study: Study, arm: str) -> bool:
    pool = study.arms[arm].synthetic
    return pool is not None and root_pool(study, pool).known == "oracle"
