"""The forecast as text for a terminal: by stage, by generator and pool, by arm, and what it leaves out."""

from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import Any

from synthgain.speed.forecast import SUMS, added, by, wall_seconds

NAMED_STAGES = ("train_generator", "draw_pool_shard")
UNITS = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"))
START_ONLY = "start-up only"
WIDTH = 110  # of notes, about that of the tables


def plan_text(forecast: Mapping[str, Any], kept: Sequence[int], cores: int, threads: Mapping[str, int]) -> str:
    """Return the whole text.

    kept: finished jobs of each group, over all runs; cores: jobs at once, 0: not known; threads: as the config has
    them now, by role.
    """
    runs = forecast["runs"]
    groups = [_over_runs(group, runs, done) for group, done in zip(forecast["groups"], kept, strict=True)]
    stages = [_summed(stage, "rule", groups) for stage in by(groups, "rule")]
    arms = [_summed(arm, "arm", groups) for arm in by(groups, "arm")]
    rest = [group for group in groups if not group.get("arm")]
    shared = {**added(rest), "kept": sum(group["kept"] for group in rest)}
    total = {**added(groups), "kept": sum(kept)}
    named = [group for group in groups if group["rule"] in NAMED_STAGES]
    head = ["jobs", "to do", "steps", "passes", "time", "to do", "disk", "memory", ""]
    lines = [_headline(forecast, total)]
    lines += ["", *_table(["stage", *head], [*(_row(s, s["rule"]) for s in stages), _row(total, "in all")])]
    if named:
        lines += ["", *_table(["of these", *head], [_row(g, f"{g['rule']} {g['name']}") for g in named])]
    rows = [*(_row(arm, arm["arm"]) for arm in arms), _row(shared, "shared by the arms")]
    lines += ["", *_table(["arm", *head], rows), "", *_bounds(groups, cores), *_notes(forecast, total, threads)]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def duration(seconds: float) -> str:
    """Return 0.4 → `0.4 s`, 590 → `9.8 min`, 9000 → `2.5 h`."""
    if seconds < 1e-9:
        return "–"
    for limit, size, name in ((60, 1, "s"), (3600, 60, "min")):
        if seconds < limit:
            return f"{seconds / size:.1f} {name}"
    return f"{seconds / 3600:.1f} h"


def size(count: float) -> str:
    """Return bytes as `4.1 MB`."""
    for unit, name in UNITS:
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return "–"


def _over_runs(group: Mapping[str, Any], runs: int, kept: int) -> dict[str, Any]:
    """A group over all runs of the study (its seeds), which are the same work."""
    return {**group, **{key: runs * group[key] for key in SUMS}, "kept": kept}


def _summed(entry: dict[str, Any], key: str, groups: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {**entry, "kept": sum(group["kept"] for group in groups if group.get(key) == entry[key])}


def _row(entry: Mapping[str, Any], name: str) -> list[str]:
    left = 1 - entry["kept"] / max(entry["jobs"], 1)
    note = "" if entry["modelled"] else START_ONLY
    note = "not all forecast" if entry["missing"] else note
    return [
        name,
        f"{entry['jobs']:,.0f}",
        f"{entry['jobs'] - entry['kept']:,.0f}",
        _count(entry["steps"]),
        _count(entry["passes"]),
        duration(entry["seconds"]),
        duration(left * entry["seconds"]),
        size(entry["disk_bytes"]),
        f"{entry['memory_gb']:.1f} GiB" if entry["memory_gb"] else "–",
        note,
    ]


def _count(value: float) -> str:
    if value >= 1e6:
        return f"{value / 1e6:.2f} M"
    return f"{value:,.0f}" if value else "–"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return lines: names to the left, numbers to the right, a rule below the heads."""
    lines = [heads, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    last = len(heads) - 1
    shown = [
        "  ".join(
            c.ljust(w) if i in (0, last) else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    ]
    return [shown[0], "-" * len(shown[0].rstrip()), *shown[1:]]


def _headline(forecast: Mapping[str, Any], total: Mapping[str, Any]) -> str:
    speed, runs = forecast["speed"], forecast["runs"]
    machine = speed["machine"]
    threads = ", ".join(f"{role} {count}" for role, count in sorted(speed["threads"].items()))
    seeds = f" over {runs} study seeds" if runs > 1 else ""
    hours = total["gpu_seconds"] / 3600 if machine["gpu"] else total["cpu_seconds"] / 3600
    where = f"the GPU {machine['device']}" if machine["gpu"] else f"the CPU ({machine['cores']} cores)"
    return (
        f"Forecast of {forecast['study']}{seeds}: {total['jobs']:,} jobs, {total['kept']:,} of them done; about "
        f"{hours:.2f} {'GPU' if machine['gpu'] else 'CPU'} hours, {size(total['disk_bytes'])} on disk.\n"
        f"Speeds were measured on {where}, threads: {threads or 'one'}, at {machine['measured']}."
    )


def _bounds(groups: Sequence[Mapping[str, Any]], cores: int) -> list[str]:
    if cores < 1:
        return []
    left = [1 - group["kept"] / max(group["jobs"], 1) for group in groups]
    bounds = wall_seconds(groups, cores, left)
    longest, work = duration(bounds["path"]), duration(bounds["work"])
    text = (
        f"What is to do takes at least {duration(max(bounds.values()))} by the clock with {cores} at once: shared by "
        f"{cores} the work takes {work}, and the longest chain of jobs that wait for each other {longest}."
    )
    return wrap(text, WIDTH)


def _notes(forecast: Mapping[str, Any], total: Mapping[str, Any], threads: Mapping[str, int]) -> list[str]:
    """What the numbers mean, what they leave out, and what may have changed since."""
    speed, notes = forecast["speed"], []
    machine = speed["machine"]
    guessed = [f"{name} {entry['known']}" for name, entry in forecast["sizes"].items() if entry["known"] != "read"]
    notes.append(
        "time: of all jobs one after the other, loading libraries included; passes: single images forward through a "
        "network; steps: forward and backward over a batch; disk: images and weights; memory: of the largest job."
    )
    notes.append(
        f"{START_ONLY}: what these jobs compute (tables, statistics, distances, figures) is not forecast. Saving, "
        "and the scheduler's own time between jobs, are not counted anywhere; networks are measured uncompiled."
    )
    if guessed:
        notes.append(f"Numbers of images: {', '.join(guessed)}; exact after `snakemake audit`.")
    notes += [f"Not forecast: {reason}." for reason in total["missing"]]
    if not machine["gpu"] and machine["busy"] > machine["cores"]:
        notes.append(
            f"The machine was busy while it was measured (load {machine['busy']} on {machine['cores']} cores): times "
            "are those of cores that a job has to itself."
        )
    if dict(threads) != dict(speed["threads"]):
        notes.append("compute.*_threads changed since: measure anew with `snakemake plan --forcerun measure_speed`.")
    return [line for note in notes for line in wrap(f"- {note}", WIDTH, subsequent_indent="  ")]
