"""Counts that the parts of a pool keep of what was drawn, and their sum over shards or clusters. No torch here."""

from collections.abc import Iterable, Mapping

Counts = dict[str, Mapping[str, float]]
SUMMED = ("mask_counts", "styled")  # facts of a shard that are such counts


def added(parts: Iterable[Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, float]]:
    """Return the sum of nested counts."""
    total: dict[str, dict[str, float]] = {}
    for part in parts:
        for name, levels in part.items():
            into = total.setdefault(name, {})
            for level, count in levels.items():
                into[level] = into.get(level, 0) + count
    return total
