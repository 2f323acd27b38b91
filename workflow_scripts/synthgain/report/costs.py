"""What the run cost, from Snakemake's benchmark files."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

MEGABYTES_PER_GIGABYTE = 1024.0
NOT_RECORDED = "not recorded"


@dataclass(frozen=True)
class StageFacts:
    """What the table of stages says of one: its title, whether it may compute on a GPU, whether it is synthesis.

    synthesis: its work exists only because synthetic images were wanted.
    """

    title: str
    gpu: bool
    synthesis: bool


Stages = Mapping[str, StageFacts]  # by rule


def read_benchmarks(folder: Path) -> pd.DataFrame:
    """Return one row per job under `benchmarks/<rule>/`: rule, file, seconds, cpu_seconds, memory_gb.

    Snakemake writes NA for what it could not measure (jobs shorter than its first look); unreadable files are skipped.
    """
    rows = []
    for path in sorted(folder.glob("*/**/*.tsv")):
        try:
            table = pd.read_csv(path, sep="\t", na_values=["-", "NA"])
        except (OSError, ValueError):
            continue
        if not len(table) or "s" not in table:
            continue
        last = table.iloc[-1]
        rows.append(
            {
                "rule": path.relative_to(folder).parts[0],
                "file": str(path.relative_to(folder)),
                "seconds": _number(last, "s"),
                "cpu_seconds": _number(last, "cpu_time"),
                "memory_gb": _number(last, "max_rss") / MEGABYTES_PER_GIGABYTE,
            }
        )
    return pd.DataFrame(rows, columns=["rule", "file", "seconds", "cpu_seconds", "memory_gb"])


def _number(row: pd.Series, name: str) -> float:
    return float(pd.to_numeric(row.get(name, float("nan")), errors="coerce"))


def rule_times(jobs: pd.DataFrame) -> pd.DataFrame:
    """Return per rule: jobs, hours, cpu_hours, longest_minutes, memory_gb; the most expensive rule first."""
    if not len(jobs):
        return pd.DataFrame(columns=["rule", "jobs", "hours", "cpu_hours", "longest_minutes", "memory_gb"])
    grouped = jobs.groupby("rule")
    table = pd.DataFrame(
        {
            "jobs": grouped.size(),
            "hours": grouped["seconds"].sum() / 3600,
            "cpu_hours": grouped["cpu_seconds"].sum() / 3600,
            "longest_minutes": grouped["seconds"].max() / 60,
            "memory_gb": grouped["memory_gb"].max(),
        }
    )
    return table.sort_values("hours", ascending=False).reset_index()


def synthesis_hours(times: pd.DataFrame, stages: Stages) -> float:
    """Return the job hours spent on generators and pools."""
    synthesis = [rule for rule, stage in stages.items() if stage.synthesis]
    return float(times.loc[times["rule"].isin(synthesis), "hours"].sum())


def device_hours(times: pd.DataFrame, recorded: Mapping[str, Mapping[str, float]], stages: Stages) -> pd.DataFrame:
    """Return rule, device, hours: the hours of each rule that may use a GPU, shared out by its recorded seconds.

    recorded: {rule: {device: seconds}}; a rule without a record is "not recorded". Empty where nothing was recorded.
    """
    rows = []
    for rule, hours in zip(times["rule"], times["hours"], strict=True):
        seconds = recorded.get(rule) or {NOT_RECORDED: 1.0}
        total = sum(seconds.values())
        if rule in stages and stages[rule].gpu:
            rows += [(rule, device, hours * part / total) for device, part in seconds.items()]
    return pd.DataFrame(rows if recorded else [], columns=["rule", "device", "hours"])
