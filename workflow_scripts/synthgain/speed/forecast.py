"""From counts and measured rates to hours, disk and memory: of every group of jobs, stage and arm.

On a CPU the seconds are those of the job's own cores (CPU seconds / threads), so that a machine that was busy while it
was measured does not make the forecast longer; on a GPU they are the clock's.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from synthgain.speed.documents import Cost, Counted, Size, Speed, Term


def forecast_groups(groups: Iterable[Counted], speed: Speed, sizes: Mapping[str, Size]) -> list[Cost]:
    """Return the forecast of each group of jobs."""
    return [_forecast(group, speed, sizes) for group in groups]


def _forecast(group: Counted, speed: Speed, sizes: Mapping[str, Size]) -> Cost:
    gpu = speed.machine.gpu and group.gpu
    start = group.jobs * start_up(group, speed.start_up)
    missing: list[str] = []
    steps = passes = disk = wall = cpu = memory = gpu_memory = 0.0
    most_threads = 1
    for term in group.work:
        amount, reason = amount_of(term, sizes)
        steps += amount if term.unit == "step" else 0.0
        passes += amount * term.passes
        kind = speed.of(term.kind)
        reason = reason or (f"{term.kind}: {kind.error}" if kind.error else "")
        if reason:
            missing.append(reason)
            continue
        rate = kind.rate(term.unit)
        wall += amount * (rate.seconds if gpu else rate.cpu_seconds / kind.threads)
        cpu += amount * rate.cpu_seconds
        memory, gpu_memory = max(memory, kind.memory_gb), max(gpu_memory, kind.gpu_memory_gb)
        most_threads = max(most_threads, kind.threads)
    for term in group.disk:
        amount, reason = amount_of(term, sizes)
        disk += amount * (speed.of(term.kind).network_bytes if term.unit == "network" else 1)
        missing += [reason] if reason and term.unit == "bytes" else []
    return Cost(
        rule=group.rule,
        name=group.name,
        arm=group.arm,
        jobs=group.jobs,
        after=group.after,
        steps=steps,
        passes=passes,
        seconds=start + wall,
        cpu_seconds=start + cpu,
        gpu_seconds=start + wall if gpu else 0.0,
        start_up_seconds=start,
        longest_seconds=start / group.jobs + group.longest * wall,
        disk_bytes=disk,
        memory_gb=memory,
        gpu_memory_gb=gpu_memory,
        threads=most_threads,
        modelled=bool(group.work),
        missing=list(dict.fromkeys(missing)),
    )


def start_up(group: Counted, times: Mapping[str, float]) -> float:
    """Return the seconds that one job of a group takes to load its libraries and to wake its GPU."""
    libraries = times.get(group.loads, times["torch"])
    return libraries + (times.get("device", 0.0) if group.gpu else 0.0)


def amount_of(term: Term, sizes: Mapping[str, Size]) -> tuple[float, str]:
    """Return how much a term is, and why it is 0 where a size is not known."""
    if not term.images:
        return term.amount, ""
    total = 0.0
    for place, weight in term.images.items():
        name, _, part = place.partition("/")
        count = getattr(sizes[name], part) if name in sizes else None
        if count is None:
            return 0.0, f"{name}: how many images it has is not known before it is read"
        total += weight * count
    return term.amount * min(total, term.at_most or total), ""


def added(costs: Sequence[Cost], **name: str) -> Cost:
    """Return the sum of costs: their largest memory, all that is missing. name: the rule or arm of them all."""
    return Cost(
        **name,
        jobs=sum(cost.jobs for cost in costs),
        steps=sum(cost.steps for cost in costs),
        passes=sum(cost.passes for cost in costs),
        seconds=sum(cost.seconds for cost in costs),
        cpu_seconds=sum(cost.cpu_seconds for cost in costs),
        gpu_seconds=sum(cost.gpu_seconds for cost in costs),
        disk_bytes=sum(cost.disk_bytes for cost in costs),
        memory_gb=max((cost.memory_gb for cost in costs), default=0.0),
        gpu_memory_gb=max((cost.gpu_memory_gb for cost in costs), default=0.0),
        modelled=any(cost.modelled for cost in costs),
        missing=list(dict.fromkeys(reason for cost in costs for reason in cost.missing)),
        kept=sum(cost.kept for cost in costs),
    )


def by(costs: Sequence[Cost], key: Literal["rule", "arm"]) -> list[Cost]:
    """Return the sum of the costs of each rule or arm, those without one left out."""
    values = dict.fromkeys(getattr(cost, key) for cost in costs)
    return [added([cost for cost in costs if getattr(cost, key) == value], **{key: value}) for value in values if value]


def wall_seconds(
    costs: Sequence[Cost], cores: int, share: Sequence[float] | None = None, longest: Sequence[float] | None = None
) -> dict[str, float]:
    """Return {work, path}: two bounds below which no run of the groups can come, in seconds, on `cores` cores.

    work: all core seconds over the cores; path: the longest chain of jobs that wait for each other (of one group
    counts its longest job). share: of each group's jobs still to run; longest: how much of its longest job
    is, by default all of it.
    """
    share = share or [1.0] * len(costs)
    longest = longest or [1.0] * len(costs)
    work = sum(s * cost.seconds * min(cost.threads, cores) for cost, s in zip(costs, share, strict=True)) / cores
    ends: list[float] = []
    for cost, part, left in zip(costs, share, longest, strict=True):
        start = max((ends[number] for number in cost.after), default=0.0)
        ends.append(start + (cost.longest_seconds * left if part else 0.0))
    return {"work": work, "path": max(ends, default=0.0)}
