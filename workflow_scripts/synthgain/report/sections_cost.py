"""What the study cost, by rule and device, and the price of a point."""

import pandas as pd

from synthgain.report.blocks import Column, Facts, Section, Text, make_table, number
from synthgain.report.costs import NOT_RECORDED, device_hours, rule_times, synthesis_hours
from synthgain.report.evidence import Evidence
from synthgain.report.sections_forecast import forecast_blocks
from synthgain.report.style import metric_name

GENERATOR, DOWNSTREAM = "train_generator", "train_downstream"


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
    runs = [(GENERATOR, g.get("environments") or [], g.get("seconds")) for g in evidence.generators.values()]
    for training in (training for model in evidence.models for training in model.trainings):
        for run in (training.get("replicates") or {}).values():
            runs.append((DOWNSTREAM, run.get("environments") or [], run.get("seconds")))
    for rule, environments, seconds in runs:
        if environments and seconds:
            device = str(environments[-1].get("device", "not recorded"))
            hours = found.setdefault(rule, {})
            hours[device] = hours.get(device, 0.0) + float(seconds)
    return found


def _gpu_hours(devices: pd.DataFrame) -> str:
    on_gpu = devices[~devices["device"].isin(["cpu", NOT_RECORDED])]
    unknown = float(devices.loc[devices["device"] == NOT_RECORDED, "hours"].sum())
    rest = f" (device of {number(unknown, 2)} h not recorded)" if unknown else ""
    return f"{number(on_gpu['hours'].sum(), 2)} h{rest}" if len(on_gpu) else f"none of those that say so{rest}"


def _price(evidence: Evidence, hours: float) -> str:
    """Hours of synthesis per hundredth gained in the primary metric; no price where nothing was gained."""
    for model in evidence.models:
        verdict = model.facts.get("verdict") or {}
        row = verdict.get("primary")
        if row and verdict.get("verdict") == "helps" and not evidence.rehearsal:
            points = 100 * abs(float(row["difference"]))
            return f"{number(hours / points, 2)} job hours of synthesis per 0.01 of {metric_name(row['metric'])}"
    return "no gain was shown, so there is nothing to divide by"
