"""What was forecast before the run, beside what Snakemake and the jobs themselves recorded."""

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from synthgain.report.blocks import Column, Text, make_table
from synthgain.report.evidence import Evidence

SECONDS_A_MINUTE, MINUTES_AN_HOUR = 60.0, 60.0
IN_ALL, REPORT = "in all", "write_report"
START_ONLY, PARTLY = "start-up only", "not all forecast"
MARKS = {START_ONLY: " *", PARTLY: " †", "": ""}
ABSENT = "No forecast: rehearsals and single seeds of a study have none; `snakemake plan` prints that of the study."


def forecast_blocks(evidence: Evidence, times: pd.DataFrame) -> list[Any]:
    """Return tables of forecast and fact: minutes of every stage, and seconds of a training step.

    times: `rule_times` of the benchmark files. Where there is no forecast, one line says so.
    """
    if not evidence.forecast:
        return [Text(ABSENT, "missing")]
    blocks: list[Any] = [
        make_table(
            "Forecast and fact",
            stage_minutes(evidence.forecast, times),
            [
                Column("shown", "Stage"),
                Column("jobs", "Jobs forecast", "count"),
                Column("recorded", "recorded", "count"),
                Column("forecast", "Forecast (min)", "number", 1),
                Column("cpu_fact", "CPU time (min)", "number", 1),
                Column("cpu_ratio", "CPU time / forecast", "number", 2),
                Column("fact", "Run time (min)", "number", 1),
                Column("ratio", "Run time / forecast", "number", 2),
            ],
            "forecast.csv",
            note=_note(evidence.forecast),
        )
    ]
    steps = step_seconds(evidence)
    if len(steps):
        shown = [
            Column("kind", "Training of"),
            Column("steps", "Steps", "count"),
            Column("forecast", "Forecast (s a step)", "number"),
            Column("fact", "Fact (s a step)", "number"),
            Column("ratio", "Fact / forecast", "number", 2),
        ]
        note = "Fact: by the clock inside the jobs, of a downstream model with its validations."
        blocks.append(make_table("Seconds of a step", steps, shown, "forecast_steps.csv", note=note))
    return blocks


def stage_minutes(forecast: Mapping[str, Any], times: pd.DataFrame) -> pd.DataFrame:
    """Return stage, jobs, recorded, forecast, fact, ratio, cpu_fact, cpu_ratio (minutes), note; the last row is all.

    `shown` is the stage with a mark for its note. The job that writes the report has no run time yet and is left out.
    """
    found = times.set_index("rule")
    rows: list[dict[str, Any]] = []
    for rule in dict.fromkeys(group["rule"] for group in forecast["groups"] if group["rule"] != REPORT):
        groups = [group for group in forecast["groups"] if group["rule"] == rule]
        known = found.loc[rule] if rule in found.index else {"jobs": 0, "hours": math.nan, "cpu_hours": math.nan}
        partly = any(group["missing"] for group in groups)
        modelled = any(group["modelled"] for group in groups)
        rows.append(
            {
                "stage": rule,
                "jobs": sum(group["jobs"] for group in groups),
                "recorded": int(known["jobs"]),
                "forecast": sum(group["seconds"] for group in groups) / SECONDS_A_MINUTE,
                "fact": float(known["hours"]) * MINUTES_AN_HOUR,
                "cpu_fact": float(known["cpu_hours"]) * MINUTES_AN_HOUR,
                "note": PARTLY if partly else "" if modelled else START_ONLY,
            }
        )
    table = pd.DataFrame(rows)
    numbers = ["jobs", "recorded", "forecast", "fact", "cpu_fact"]
    table.loc[len(table)] = {"stage": IN_ALL, "note": "", **table[numbers].sum()}
    computing = table["note"] != START_ONLY  # the others' forecast is no guess at what they compute
    table["shown"] = table["stage"] + table["note"].map(MARKS)
    table["ratio"] = (table["fact"] / table["forecast"]).where(computing)
    table["cpu_ratio"] = (table["cpu_fact"] / table["forecast"]).where(computing)
    return table


def step_seconds(evidence: Evidence) -> pd.DataFrame:
    """Return kind, steps, forecast, fact, ratio of the trainings whose manifests tell their seconds."""
    speed = evidence.forecast["speed"]
    spent: dict[str, list[float]] = {}
    for name, generator in evidence.generators.items():
        _add(spent, f"generator {name.split('/')[0]}", generator)
    arms = evidence.config.get("arms") or {}
    for model in evidence.models:
        for training in model.trainings:
            recipe = (arms.get(training["arm"]) or {}).get("augmentation", "standard")
            for run in (training.get("replicates") or {}).values():
                _add(spent, f"model {model.name}, {recipe} augmentation", run)
    rows = []
    for kind, (steps, seconds) in spent.items():
        measured = speed["kinds"].get(kind, {})
        if "step" in measured and steps:
            rate = measured["step"]
            wanted = rate["seconds"] if speed["machine"]["gpu"] else rate["cpu_seconds"] / measured["threads"]
            fact = seconds / steps
            rows.append({"kind": kind, "steps": steps, "forecast": wanted, "fact": fact, "ratio": fact / wanted})
    return pd.DataFrame(rows, columns=["kind", "steps", "forecast", "fact", "ratio"])


def _add(spent: dict[str, list[float]], kind: str, facts: Mapping[str, Any]) -> None:
    if facts.get("steps") and facts.get("seconds"):
        total = spent.setdefault(kind, [0.0, 0.0])
        total[0] += facts["steps"]
        total[1] += facts["seconds"]


def _note(forecast: Mapping[str, Any]) -> str:
    machine, took = forecast["speed"]["machine"], forecast["speed"]["seconds"]
    when = str(machine["measured"])[:16].replace("T", " ")
    busy = f", load {machine['busy']} on {machine['cores']} cores" if machine["busy"] > machine["cores"] else ""
    clock = "seconds of the GPU's clock" if machine["gpu"] else "seconds of cores that a job has to itself"
    return (
        f"The forecast: counts of the plan times speeds measured on {machine['device']} on {when} UTC "
        f"(in {took:.0f} s{busy}), in {clock}. Beside jobs that share the cores the run time is longer. Facts are of "
        "the jobs whose run times stand in this folder (CPU time as Snakemake samples it, which misses a job's last "
        "moments); of a job that was stopped and went on, of its last part only. "
        f"*: {START_ONLY}, what they compute is not forecast. †: {PARTLY}, see `snakemake plan`."
    )
