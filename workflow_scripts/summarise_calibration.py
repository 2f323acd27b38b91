"""Compares what the studies on pools of known truth found with what is known, over all study seeds."""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from synthgain.report.calibration_page import calibration_page
from synthgain.runtime.command import Job, run_script
from synthgain.runtime.files import read_json, read_manifest, read_table, write_manifest, write_text
from synthgain.statistics import calibration_rates as known
from synthgain.statistics.tables import plain, write_csv


def summarise_calibration(job: Job) -> None:
    """Write calibration.json (a manifest with every study's numbers), calibration.html and calibration.csv."""
    folder = job.outputs[0].parent
    studies = [_study(job, run) for run in job.slice["runs"]]
    seen = [
        {"study": study["run"], "arm": arm, "kind": kind, "quantity": quantity, "seen": found}
        for study in studies
        for arm, kind, quantity, found in _observations(study)
    ]
    rates = known.rates(pd.DataFrame(seen))
    write_csv(folder / "calibration.csv", rates)
    facts = {name: job.slice[name] for name in ("study", "title", "alpha", "margin", "replicates")}
    found = plain({**facts, "studies": studies, "rates": rates.to_dict("records")})
    write_text(folder / "calibration.html", calibration_page(found))
    write_manifest(job.outputs[0], job.identity, ["calibration.csv", "calibration.html"], **found)


def _study(job: Job, run: str) -> dict[str, Any]:
    """One study: {run, seed, alarms: {name: raised}, arms: {arm: {kind, verdict, difference, …, seen}}}."""
    verdicts = {
        model: read_json(job.inputs.statistics[run, model].folder() / "verdict.json") for model in job.slice["models"]
    }
    arms = {}
    for arm, facts in job.slice["arms"].items():
        primary = facts["primary"]
        row = known.verdict_of_arm(verdicts[primary["model"]], primary)
        seen = {**known.seen_verdicts(row["verdict"]), **dict(_arm_observations(job, run, arm))}
        arms[arm] = {"kind": facts["kind"], "ratio": primary["ratio"], **row, "seen": seen}
    alarms = {
        name: any(verdict["alarms"][name]["raised"] for verdict in verdicts.values())
        for name in next(iter(verdicts.values()))["alarms"]
        if all(verdict["alarms"][name]["checked"] for verdict in verdicts.values())
    }
    return {"run": run, "seed": job.slice["runs"][run], "alarms": alarms, "arms": arms}


def _arm_observations(job: Job, run: str, arm: str) -> Iterator[tuple[str, bool]]:
    facts = job.slice["arms"][arm]
    kind, primary, pool = facts["kind"], facts["primary"], facts["pool"]
    if pool in job.slice["gated"]:
        draws = [job.inputs.memorisation[run, pool, index].folder() for index in range(job.slice["draws"])]
        yield known.GATE, any(read_json(folder / "gate.json")["exceeded"] for folder in draws)
    if facts["repeated"] is not None:
        tables = [_predictions(job, run, primary["model"], name) for name in (arm, facts["repeated"])]
        yield known.SAME, known.same_scores(*tables, primary["ratio"])
    statistics = job.inputs.statistics[run, primary["model"]].folder()
    if kind == "wrong_prevalence":
        table = pd.read_csv(statistics / "calibration.csv")
        yield from known.calibration_moved(table, primary, facts["baseline"]).items()
    if kind == "mode_dropper" and facts["oracle"] is not None:
        yield from _dropped(job, run, facts, pd.read_csv(statistics / "subgroups.csv"))


def _dropped(job: Job, run: str, facts: dict[str, Any], subgroups: pd.DataFrame) -> Iterator[tuple[str, bool]]:
    """What shows that a group is missing: recall and coverage, the group's images, its patients' gain."""
    oracle = job.slice["arms"][facts["oracle"]]
    if {facts["pool"], oracle["pool"]} <= set(job.slice["measured"]):
        folders = [job.inputs.fidelity[run, pool, 0].folder() for pool in (facts["pool"], oracle["pool"])]
        own, best = (pd.read_csv(folder / "fidelity.csv") for folder in folders)
        reference = read_manifest(folders[0] / "manifest.json")["reference"]
        yield from known.less_varied(own, best, reference).items()
        for column, level in facts["drop"].items():
            if (own["group"] == f"{column}={level}").any():
                yield known.MISSING, known.group_is_missing(own, f"{column}={level}")
    for column, level in facts["drop"].items():
        yield from known.less_gain(subgroups, facts["primary"], facts["oracle"], column, str(level)).items()


def _observations(study: dict[str, Any]) -> Iterator[tuple[str, str, str, bool]]:
    for arm, facts in study["arms"].items():
        for quantity, found in facts["seen"].items():
            yield arm, facts["kind"], quantity, found
    for name, raised in study["alarms"].items():
        yield "", "", f"{known.ALARM} {name}", raised


def _predictions(job: Job, run: str, model: str, arm: str) -> pd.DataFrame:
    collected = job.inputs.predictions[run, model, arm]
    table: pd.DataFrame = read_table(collected.path, collected.identity)
    return table


if __name__ == "__main__":
    run_script(summarise_calibration)
