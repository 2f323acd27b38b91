"""Compares every fidelity number with the gain that was measured: does it predict usefulness here?"""

from typing import Any

import pandas as pd

from synthgain.attempts import Attempts
from synthgain.evaluation.relation import COLUMNS, relate
from synthgain.runtime.command import Job, run_script
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import read_json, read_table, write_manifest, write_text
from synthgain.seeds import random_generator

POINTS = ("configuration", "pool", "arm", "ratio", "replicate", "index", "gain")


def relate_fidelity(job: Job) -> None:
    """Write fidelity_utility/<model>/: points.csv (arm, ratio, replicate: gain), relation.csv, manifest.json.

    The relation only informs: where it cannot be computed the tables are empty and the manifest says why (`failed`).
    """
    settings, folder = job.slice, job.outputs[0].parent
    statistics = job.inputs.statistics[settings["model"]].folder()
    metrics, fidelity = read_table(statistics / "metrics.parquet"), _fidelity(job)
    attempt, nothing = Attempts(), (pd.DataFrame(columns=list(POINTS)), pd.DataFrame(columns=list(COLUMNS)))
    gains, found = attempt("relation", lambda: _relation(metrics, fidelity, settings), nothing)
    write_text(folder / "points.csv", gains.to_csv(index=False))
    write_text(folder / "relation.csv", found.to_csv(index=False))
    facts = {"model": settings["model"], "configurations": int(gains["configuration"].nunique())}
    facts |= {"failed": "; ".join(attempt.failed["relation"])} if attempt.failed else {}
    write_manifest(job.outputs[0], job.identity, ["points.csv", "relation.csv"], **facts)


def _relation(
    metrics: pd.DataFrame, fidelity: pd.DataFrame, settings: dict[str, Any]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the gains of every cell, and how each fidelity number goes with them."""
    gains = pd.concat([_gains(metrics, settings, arm) for arm in settings["arms"]], ignore_index=True)
    expanded = gains[["configuration", "pool"]].drop_duplicates().merge(fidelity, on="pool")
    rng = random_generator(study=settings["seed"], step="fidelity against utility", model=settings["model"])
    return gains, relate(expanded, gains, rng)


def _gains(metrics: pd.DataFrame, settings: dict[str, Any], arm: dict[str, Any]) -> pd.DataFrame:
    """Gain over the baseline per ratio and replicate; `index` is the pool's, replicate mod `indices`."""
    kept = metrics[
        (metrics["part"] == "test") & (metrics[["dataset", "label", "metric"]] == _endpoint(settings)).all(axis=1)
    ]
    own = kept[kept["arm"] == arm["name"]]
    baseline = kept[kept["arm"] == arm["baseline"]].set_index("replicate")["value"]
    if own.empty or baseline.empty:
        missing = arm["name"] if own.empty else arm["baseline"]
        raise SynthGainError(
            f"fidelity against utility: no {settings['metric']} of arm {missing}; compare_arms has none"
        )
    baseline = baseline[~baseline.index.duplicated()]
    return pd.DataFrame(
        {
            "configuration": arm["pool"],  # a pool is as near to real images at every ratio: ratios are no new points
            "pool": arm["pool"],
            "arm": arm["name"],
            "ratio": own["ratio"].to_numpy(),
            "replicate": own["replicate"].to_numpy(),
            "index": own["replicate"].to_numpy() % arm["indices"],
            "gain": own["value"].to_numpy() - baseline.reindex(own["replicate"]).to_numpy(),
        }
    )


def _endpoint(settings: dict[str, Any]) -> pd.Series:
    return pd.Series({"dataset": settings["test_set"], "label": settings["label"], "metric": settings["metric"]})


def _fidelity(job: Job) -> pd.DataFrame:
    tables = []
    for measured in job.inputs.fidelity.values():
        folder = measured.folder()
        manifest = read_json(folder / "manifest.json")
        table = pd.read_csv(folder / "fidelity.csv")
        tables.append(table[table["group"] == "all"].assign(pool=manifest["pool"], index=manifest["index"]))
    if not tables:
        raise SynthGainError("fidelity against utility: no fidelity among this job's inputs; the rule must list it")
    return pd.concat(tables, ignore_index=True)[["pool", "index", "space", "reference", "metric", "excess"]]


if __name__ == "__main__":
    run_script(relate_fidelity)
