"""What the study cost, by rule and device, the price of a point, and what was forecast before the run."""

import math

import pandas as pd

from synthgain.report.blocks import Block, Column, Facts, Section, Text, make_table, number
from synthgain.report.costs import NOT_RECORDED, device_hours, rule_times, synthesis_hours
from synthgain.report.evidence import Evidence
from synthgain.report.facts import ForecastFacts, GeneratorFacts, RunFacts
from synthgain.statistics.metric_registry import metric_label

GENERATOR, DOWNSTREAM = "train_generator", "train_downstream"
SECONDS_A_MINUTE, MINUTES_AN_HOUR = 60.0, 60.0
IN_ALL, REPORT = "in all", "write_report"
START_ONLY, PARTLY = "start-up only", "not all forecast"
MARKS = {START_ONLY: " *", PARTLY: " †", "": ""}
NOTHING_RECORDED = {"jobs": 0, "hours": math.nan, "cpu_hours": math.nan}
ABSENT = "No forecast: rehearsals and single seeds of a study have none; that of the study: snakemake plan."


def cost_section(evidence: Evidence) -> Section:
    """Return hours of every rule, by device, and what a point gained has cost."""
    section = Section("cost", "Cost", lead="Measured by Snakemake on the jobs whose files are in this run's folder.")
    times = rule_times(evidence.benchmarks)
    if not len(times):
        section.blocks.append(Text("Not done: no benchmark files in the run's folder.", "missing"))
        return section
    total, synthesis = float(times["hours"].sum()), synthesis_hours(times, evidence.stages)
    facts = [
        ("Job hours in all", f"{number(total, 2)} h ({number(times['cpu_hours'].sum(), 2)} h of CPU time)"),
        ("of these for generators and pools", f"{number(synthesis, 2)} h"),
    ]
    devices = device_hours(times, recorded_seconds(evidence), evidence.stages)
    if len(devices):
        facts.append(("of all, on a GPU", _gpu_hours(devices)))
    facts.append(("Price of a point", _price(evidence, synthesis)))
    columns = [
        Column("rule", "Rule"),
        Column("jobs", "Jobs", "count"),
        Column("hours", "Hours", "number"),
        Column("cpu_hours", "CPU hours", "number"),
        Column("longest_minutes", "Longest job (min)", "number", 1),
        Column("memory_gb", "Largest memory (GiB)", "number", 2),
    ]
    section.blocks += [Facts(facts), make_table("Run times", times, columns, "run_times.csv")]
    if len(devices):
        shown = [Column("rule", "Rule"), Column("device", "Device"), Column("hours", "Hours", "number")]
        note = "The device is what the jobs themselves recorded; the hours of a rule are shared out by it."
        section.blocks.append(make_table("Hours by device", devices, shown, "device_hours.csv", note=note))
    section.blocks += forecast_blocks(evidence, times)
    return section


def recorded_seconds(evidence: Evidence) -> dict[str, dict[str, float]]:
    """Return {rule: {device: seconds}} as generators and downstream trainings wrote them into their manifests."""
    found: dict[str, dict[str, float]] = {}
    runs: list[tuple[str, GeneratorFacts | RunFacts]] = [(GENERATOR, facts) for facts in evidence.generators.values()]
    for training in (training for model in evidence.models for training in model.trainings):
        runs += [(DOWNSTREAM, run) for run in training.replicates.values()]
    for rule, run in runs:
        if run.environments and run.seconds:
            hours = found.setdefault(rule, {})
            device = run.environments[-1].device
            hours[device] = hours.get(device, 0.0) + run.seconds
    return found


def _gpu_hours(devices: pd.DataFrame) -> str:
    on_gpu = devices[~devices["device"].isin(["cpu", NOT_RECORDED])]
    unknown = float(devices.loc[devices["device"] == NOT_RECORDED, "hours"].sum())
    rest = f" (the device of {number(unknown, 2)} h is not recorded)" if unknown else ""
    return f"{number(on_gpu['hours'].sum(), 2)} h{rest}" if len(on_gpu) else f"none recorded{rest}"


def _price(evidence: Evidence, hours: float) -> str:
    """Hours of synthesis per hundredth gained in the primary metric; no price where nothing was gained."""
    for model in evidence.models:
        row = model.verdict.primary
        if row and row.difference and model.verdict.verdict == "helps" and not evidence.rehearsal:
            points = 100 * abs(row.difference)
            return f"{number(hours / points, 2)} job hours of synthesis per 0.01 of {metric_label(row.metric)}"
    return "no gain was shown, so there is nothing to divide by"


def forecast_blocks(evidence: Evidence, times: pd.DataFrame) -> list[Block]:
    """Return tables of forecast and fact: minutes of every stage, and seconds of a training step.

    times: `rule_times` of the benchmark files. Where there is no forecast, one line says so.
    """
    forecast = evidence.forecast
    if forecast is None:
        return [Text(ABSENT, "missing")]
    blocks: list[Block] = [
        make_table(
            "Forecast and fact",
            stage_minutes(forecast, times),
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
            note=_note(forecast),
        )
    ]
    steps = step_seconds(evidence, forecast)
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


def stage_minutes(forecast: ForecastFacts, times: pd.DataFrame) -> pd.DataFrame:
    """Return stage, jobs, recorded, forecast, fact, ratio, cpu_fact, cpu_ratio (minutes), note; the last row is all.

    `shown` is the stage with a mark for its note. The job that writes the report has no run time yet and is left out.
    """
    found = times.set_index("rule")
    rows: list[dict[str, object]] = []
    for rule in dict.fromkeys(group.rule for group in forecast.groups if group.rule != REPORT):
        groups = [group for group in forecast.groups if group.rule == rule]
        known = found.loc[rule].to_dict() if rule in found.index else NOTHING_RECORDED
        partly = any(group.missing for group in groups)
        modelled = any(group.modelled for group in groups)
        rows.append(
            {
                "stage": rule,
                "jobs": sum(group.jobs for group in groups),
                "recorded": int(known["jobs"]),
                "forecast": sum(group.seconds for group in groups) / SECONDS_A_MINUTE,
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


def step_seconds(evidence: Evidence, forecast: ForecastFacts) -> pd.DataFrame:
    """Return kind, steps, forecast, fact, ratio of the trainings whose manifests tell their seconds."""
    spent: dict[str, list[float]] = {}
    for name, generator in evidence.generators.items():
        _add(spent, f"generator {name.split('/')[0]}", generator)
    for model in evidence.models:
        for training in model.trainings:
            recipe = evidence.study.arms[training.arm].augmentation
            for run in training.replicates.values():
                _add(spent, f"model {model.name}, {recipe} augmentation", run)
    rows = []
    for kind, (steps, seconds) in spent.items():
        measured = forecast.speed.kinds.get(kind)
        if measured is not None and measured.step is not None and steps:
            on_gpu = forecast.speed.machine.gpu
            wanted = measured.step.seconds if on_gpu else measured.step.cpu_seconds / measured.threads
            fact = seconds / steps
            rows.append({"kind": kind, "steps": steps, "forecast": wanted, "fact": fact, "ratio": fact / wanted})
    return pd.DataFrame(rows, columns=["kind", "steps", "forecast", "fact", "ratio"])


def _add(spent: dict[str, list[float]], kind: str, run: GeneratorFacts | RunFacts) -> None:
    if run.steps and run.seconds:
        total = spent.setdefault(kind, [0.0, 0.0])
        total[0] += run.steps
        total[1] += run.seconds


def _note(forecast: ForecastFacts) -> str:
    machine = forecast.speed.machine
    when = machine.measured[:16].replace("T", " ")
    busy = f", load {machine.busy} on {machine.cores} cores" if machine.busy > machine.cores else ""
    clock = "seconds of the GPU's clock" if machine.gpu else "seconds of cores that a job has to itself"
    return (
        f"The forecast: counts of the plan times speeds measured on {machine.device} on {when} UTC "
        f"(in {forecast.speed.seconds:.0f} s{busy}), in {clock}. Next to jobs that share the cores the run time is "
        "longer. Facts are of "
        "the jobs whose run times are in this folder (CPU time as Snakemake samples it, which misses a job's last "
        "moments); of a job that was stopped and went on, of its last part only. "
        f"*: {START_ONLY}, what they compute is not forecast. †: {PARTLY}, see snakemake plan."
    )
