"""The forecast as text for a terminal: by stage, by generator and pool, by arm, and what it leaves out."""

from collections.abc import Mapping, Sequence
from textwrap import wrap

from synthgain.speed.documents import Cost, Forecast
from synthgain.speed.forecast import added, by, wall_seconds
from synthgain.statistics.units import GENERATORS_NEEDED

NAMED_STAGES = ("train_generator", "draw_pool_shard")
# Numbers of a cost that grow with the runs of a study.
SUMS = ("jobs", "steps", "passes", "seconds", "cpu_seconds", "gpu_seconds", "disk_bytes")
UNITS = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"))
START_ONLY = "start-up only"
WIDTH = 110  # of notes, about that of the tables


def plan_text(forecast: Forecast, kept: Sequence[int], cores: int, threads: Mapping[str, int]) -> str:
    """Return the whole text.

    kept: finished jobs of each group, over all runs; cores: jobs at once, 0: not known; threads: as the config has
    them now, by role.
    """
    groups = [over_runs(group, forecast.runs, done) for group, done in zip(forecast.groups, kept, strict=True)]
    shared, total = added([group for group in groups if group.arm is None]), added(groups)
    named = [group for group in groups if group.rule in NAMED_STAGES]
    head = ["jobs", "to do", "steps", "passes", "time", "to do", "disk", "memory", ""]
    lines = [_headline(forecast, total)]
    lines += ["", *_table(["stage", *head], [*(_row(s, s.rule) for s in by(groups, "rule")), _row(total, "in all")])]
    if named:
        lines += ["", *_table(["of these", *head], [_row(g, f"{g.rule} {g.name}") for g in named])]
    more = _generators(named, forecast.runs)
    rows = [*(_row(arm, str(arm.arm)) for arm in by(groups, "arm")), _row(shared, "shared by the arms")]
    lines += [
        "",
        *_table(["arm", *head], rows),
        *_looks(forecast),
        "",
        *_bounds(groups, cores),
        *_notes(forecast, total, threads, more),
    ]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _looks(forecast: Forecast) -> list[str]:
    """What is spent up to each planned look, and on average."""
    if not forecast.looks:
        return []
    heads = ["look", "replicates", "time up to it", "GPU time", "ends here: no difference", "a clear one"]
    rows = [
        [
            str(number),
            str(look.replicates),
            duration(look.seconds),
            duration(look.gpu_seconds),
            f"{100 * look.ends_without:.0f} %",
            f"{100 * look.ends_with:.0f} %",
        ]
        for number, look in enumerate(forecast.looks, start=1)
    ]
    none = sum(look.seconds * look.ends_without for look in forecast.looks)
    clear = sum(look.seconds * look.ends_with for look in forecast.looks)
    text = (
        f"On average {duration(none)} without a difference and {duration(clear)} with a clear one (three "
        "standard errors of the last look), one job after the other; the tables above are of all looks."
    )
    return ["", *_table(heads, rows), *wrap(text, WIDTH)]


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


def over_runs(group: Cost, runs: int, kept: int) -> Cost:
    """A group over all runs of the study (its seeds), which are the same work."""
    return group.model_copy(update={**{name: runs * getattr(group, name) for name in SUMS}, "kept": kept})


def _left(cost: Cost) -> float:
    """The share of the jobs that are still to run."""
    return 1 - cost.kept / max(cost.jobs, 1)


def _row(cost: Cost, name: str) -> list[str]:
    note = "" if cost.modelled else START_ONLY
    return [
        name,
        f"{cost.jobs:,.0f}",
        f"{cost.jobs - cost.kept:,.0f}",
        _count(cost.steps),
        _count(cost.passes),
        duration(cost.seconds),
        duration(_left(cost) * cost.seconds),
        size(cost.disk_bytes),
        f"{cost.memory_gb:.1f} GiB" if cost.memory_gb else "–",
        "not all forecast" if cost.missing else note,
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


def _headline(forecast: Forecast, total: Cost) -> str:
    machine = forecast.speed.machine
    threads = ", ".join(f"{role} {count}" for role, count in sorted(forecast.speed.threads.items()))
    seeds = f" over {forecast.runs} study seeds" if forecast.runs > 1 else ""
    hours = (total.gpu_seconds if machine.gpu else total.cpu_seconds) / 3600
    where = f"the GPU {machine.device}" if machine.gpu else f"the CPU ({machine.cores} cores)"
    return (
        f"Forecast of {forecast.study}{seeds}: {total.jobs:,} jobs, {total.kept:,} of them done; about "
        f"{hours:.2f} {'GPU' if machine.gpu else 'CPU'} hours, {size(total.disk_bytes)} on disk.\n"
        f"Speeds were measured on {where}, threads: {threads or 'one'}, at {machine.measured}."
    )


def _bounds(groups: Sequence[Cost], cores: int) -> list[str]:
    if cores < 1:
        return []
    bounds = wall_seconds(groups, cores, [_left(group) for group in groups])
    longest, work = duration(bounds["path"]), duration(bounds["work"])
    text = (
        f"What is to do takes at least {duration(max(bounds.values()))} by the clock with {cores} at once: shared by "
        f"{cores} the work takes {work}, and the longest chain of jobs that wait for each other {longest}."
    )
    return wrap(text, WIDTH)


def _generators(named: Sequence[Cost], runs: int) -> str:
    """What as many generators would cost as a claim about the way of making them needs, "" where they are planned."""
    trained = [group for group in named if group.rule == "train_generator"]
    fewest = min((round(group.jobs / runs) for group in trained), default=GENERATORS_NEEDED)
    if fewest >= GENERATORS_NEEDED:
        return ""
    seconds = sum(group.seconds for group in named) * (GENERATORS_NEEDED / fewest - 1)
    disk = sum(group.disk_bytes for group in named) * (GENERATORS_NEEDED / fewest - 1)
    which = "this generator" if fewest == 1 else f"these {fewest} generators"
    return (
        f"The verdict will be about {which} alone. {GENERATORS_NEEDED} trainings of each (replicates.generators: "
        f"{GENERATORS_NEEDED}), which a claim about generators of this kind needs, would take {duration(seconds)} and "
        f"{size(disk)} more."
    )


def _notes(forecast: Forecast, total: Cost, threads: Mapping[str, int], generators: str) -> list[str]:
    """What the numbers mean, what they leave out, and what may have changed since."""
    machine, notes = forecast.speed.machine, list[str]()
    guessed = [f"{name} {entry.known}" for name, entry in forecast.sizes.items() if entry.known != "read"]
    notes.append(
        "time: of all jobs one after the other, loading libraries included; passes: single images forward through a "
        "network; steps: forward and backward over a batch; disk: images and weights; memory: of the largest job."
    )
    notes.append(
        f"{START_ONLY}: what these jobs compute (tables, statistics, distances, figures) is not forecast. Saving, "
        "and the scheduler's own time between jobs, are not counted anywhere; networks are measured uncompiled."
    )
    notes += [generators] if generators else []
    if guessed:
        notes.append(f"Numbers of images: {', '.join(guessed)}; exact after `snakemake audit`.")
    notes += [f"Not forecast: {reason}." for reason in total.missing]
    if not machine.gpu and machine.busy > machine.cores:
        notes.append(
            f"The machine was busy while it was measured (load {machine.busy} on {machine.cores} cores): times "
            "are those of cores that a job has to itself."
        )
    if dict(threads) != forecast.speed.threads:
        notes.append("compute.*_threads changed since: measure anew with `snakemake plan --forcerun measure_speed`.")
    return [line for note in notes for line in wrap(f"- {note}", WIDTH, subsequent_indent="  ")]
