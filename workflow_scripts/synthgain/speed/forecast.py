"""From counts and measured rates to hours, disk and memory: of every group of jobs, stage and arm.

On a CPU the seconds are those of the job's own cores (CPU seconds / threads), so that a machine that was busy while it
was measured does not make the forecast longer; on a GPU they are the clock's.
"""

from collections.abc import Mapping, Sequence
from typing import Any

SUMS = ("jobs", "steps", "passes", "seconds", "cpu_seconds", "gpu_seconds", "disk_bytes")


def forecast_groups(
    groups: Sequence[Mapping[str, object]], speed: Mapping[str, object], sizes: Mapping[str, Mapping[str, object]]
) -> list[dict[str, object]]:
    """Return each group of jobs with its sums.

    {rule, name, arm, jobs, steps, passes, seconds, cpu_seconds, gpu_seconds, start_up_seconds, disk_bytes, memory_gb,
    gpu_memory_gb, longest_seconds, threads, after, modelled, missing: reasons}. seconds: of all jobs, one after the
    other; passes: single images forward through a network. What has no rate or no size counts as 0 and is named in
    `missing`; `modelled` is False where only the start of the jobs is known.
    """
    return [_forecast(group, speed, sizes) for group in groups]


def _forecast(
    group: Mapping[str, Any], speed: Mapping[str, Any], sizes: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    gpu = bool(speed["machine"]["gpu"]) and group["gpu"]
    found: dict[str, Any] = {key: group[key] for key in ("rule", "name", "arm", "jobs", "after") if key in group}
    start = group["jobs"] * start_up(group, speed["start_up"])
    found |= {"steps": 0.0, "passes": 0.0, "disk_bytes": 0.0, "threads": 1}
    missing: list[str] = []
    wall = cpu = memory = gpu_memory = 0.0
    for term in group["work"]:
        amount, reason = amount_of(term, sizes)
        found["steps"] += amount if term["unit"] == "step" else 0.0
        found["passes"] += amount * term.get("passes", 1)
        kind = speed["kinds"].get(term["kind"], {"error": "this kind of work is not measured beforehand"})
        reason = reason or (f"{term['kind']}: {kind['error']}" if "error" in kind else "")
        if reason:
            missing.append(reason)
            continue
        rate, threads = kind[term["unit"]], kind["threads"]
        wall += amount * (rate["seconds"] if gpu else rate["cpu_seconds"] / threads)
        cpu += amount * rate["cpu_seconds"]
        memory, gpu_memory = max(memory, kind["memory_gb"]), max(gpu_memory, kind.get("gpu_memory_gb", 0.0))
        found["threads"] = max(found["threads"], threads)
    for term in group["disk"]:
        amount, reason = amount_of(term, sizes)
        kind = speed["kinds"].get(term["kind"], {})
        found["disk_bytes"] += amount * (kind.get("network_bytes", 0) if term["unit"] == "network" else 1)
        missing += [reason] if reason and term["unit"] == "bytes" else []
    longest = start / group["jobs"] + group["longest"] * wall
    return {
        **found,
        "seconds": start + wall,
        "cpu_seconds": start + cpu,
        "gpu_seconds": start + wall if gpu else 0.0,
        "start_up_seconds": start,
        "longest_seconds": longest,
        "memory_gb": memory,
        "gpu_memory_gb": gpu_memory,
        "modelled": bool(group["work"]),
        "missing": list(dict.fromkeys(missing)),
    }


def start_up(group: Mapping[str, object], times: Mapping[str, float]) -> float:
    """Return the seconds that one job of a group takes to load its libraries and to wake its GPU."""
    libraries = times.get(str(group["loads"]), times["torch"])
    return libraries + (times.get("device", 0.0) if group["gpu"] else 0.0)


def amount_of(term: Mapping[str, Any], sizes: Mapping[str, Mapping[str, Any]]) -> tuple[float, str]:
    """Return how much a term is, and why it is 0 where a size is not known."""
    if not term.get("images"):
        return float(term["amount"]), ""
    total = 0.0
    for place, weight in term["images"].items():
        name, _, part = place.partition("/")
        count = sizes.get(name, {}).get(part)
        if count is None:
            return 0.0, f"{name}: how many images it has is not known before it is read"
        total += weight * count
    return term["amount"] * min(total, term.get("at_most") or total), ""


def added(groups: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the sums of groups, their largest memory, and what is missing."""
    total: dict[str, Any] = {key: sum(group[key] for group in groups) for key in SUMS}
    for key in ("memory_gb", "gpu_memory_gb"):
        total[key] = max((group[key] for group in groups), default=0.0)
    total["missing"] = list(dict.fromkeys(reason for group in groups for reason in group["missing"]))
    return {**total, "modelled": any(group["modelled"] for group in groups)}


def by(groups: Sequence[Mapping[str, Any]], key: str) -> list[dict[str, Any]]:
    """Return the sums of the groups of each value of `key` (rule or arm), groups without one left out."""
    values = list(dict.fromkeys(group[key] for group in groups if group.get(key)))
    return [{key: value, **added([g for g in groups if g.get(key) == value])} for value in values]


def wall_seconds(
    groups: Sequence[Mapping[str, Any]], cores: int, share: Sequence[float] | None = None
) -> dict[str, float]:
    """Return {work, path}: two bounds below which no run of the groups can come, in seconds, on `cores` cores.

    work: all core seconds over the cores; path: the longest chain of jobs that wait for each other (of one group
    counts its longest job). share: of each group's jobs still to run.
    """
    share = share or [1.0] * len(groups)
    work = sum(s * g["seconds"] * min(g["threads"], cores) for g, s in zip(groups, share, strict=True)) / cores
    ends: list[float] = []
    for group, part in zip(groups, share, strict=True):
        start = max((ends[number] for number in group["after"]), default=0.0)
        ends.append(start + (group["longest_seconds"] if part else 0.0))
    return {"work": work, "path": max(ends, default=0.0)}
