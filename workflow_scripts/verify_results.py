"""Compare what lies in results/ with the present config and code, byte by byte, and with the source images and masks.

    snakemake verify

Prints one line per difference, then how many files were compared and what is not covered; exits 1 if anything differs
and changes nothing.
"""

import argparse
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from synthgain.data.image_set import image_hashes
from synthgain.datasets.source import Prepared
from synthgain.registry import ADAPTERS
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import read_json, read_table, write_text
from synthgain.runtime.loading import load
from synthgain.runtime.settings import settings
from synthgain.runtime.verification import NOT_COMPARED, SHOWN, Compared, compare_run

SOURCE_ID = {"prepare_dataset": "image_id", "draw_pool_shard": "source_image_id"}  # column that names the source


def compare(results: Path, expected: Mapping[str, Any]) -> Compared:
    """Compare every run, and read every source again that lies below the data root."""
    found = Compared()
    folders = frozenset(results / run for run in expected)
    for run, parts in expected.items():
        found.add(compare_run(results / run, parts["identities"], folders - {results / run}))
        fresh: dict[str, Prepared | str] = {}
        for relative, source in sorted(parts["sources"].items()):
            found.differences += _changed_source(results / run / relative, source, fresh)
    return found


def _changed_source(manifest: Path, source: Mapping[str, Any], fresh: dict[str, Prepared | str]) -> list[str]:
    """Name the first images, masks and rows of a data set, or of imported images, that differ from their source."""
    if not manifest.exists():
        return []
    key = source["name"]
    if key not in fresh:
        fresh[key] = _read(source)
    read = fresh[key]
    if isinstance(read, str):
        return [f"{manifest.parent}: source not readable now: {read}"]
    try:
        recorded = read_table(manifest.parent / "table.parquet")
    except SynthGainError:  # said before
        return []
    column = SOURCE_ID[source["rule"]]
    places = pd.Series(range(len(read.table)), index=read.table["image_id"])
    found, lines = places.reindex(recorded[column]), []
    gone = found.isna().to_numpy()
    there = found.to_numpy(dtype=float, na_value=-1).astype(int)
    hashes = np.array(image_hashes(read.images), dtype=object)
    images = gone | (hashes[there] != recorded["sha256"].to_numpy(dtype=object))
    masks = np.zeros(len(recorded), bool)
    if source["masks"] and read.masks is not None and (manifest.parent / "masks.npy").exists():
        kept = np.load(manifest.parent / "masks.npy", mmap_mode="r", allow_pickle=False)
        if kept.shape[1:] == read.masks.shape[1:] and len(kept) == len(recorded):
            masks = ~gone & np.array(
                [not np.array_equal(kept[row], read.masks[place]) for row, place in enumerate(there)], dtype=bool
            )
    shared = [name for name in read.table.columns if name in recorded and name not in _NOT_OF_A_SOURCE]
    then = recorded[shared].astype("str").fillna("").to_numpy()
    now = read.table[shared].iloc[there].astype("str").fillna("").to_numpy()
    rows = ~gone & (then != now).any(axis=1) & (source["rule"] == "prepare_dataset")
    for what, changed in (("source images", images), ("source masks", masks), ("rows of the source table", rows)):
        if changed.any():
            first = recorded[column].iloc[int(changed.argmax())]
            lines.append(f"{manifest.parent}: {changed.sum()} {what} changed since they were read, first {first!r}")
    added = set(read.table["image_id"]) - set(recorded[column]) if source["rule"] == "prepare_dataset" else set()
    if added:
        lines.append(f"{manifest.parent}: {len(added)} source images were added since, first {min(map(str, added))!r}")
    return lines


_NOT_OF_A_SOURCE = {"sha256", "origin"}


def _read(source: Mapping[str, Any]) -> Prepared | str:
    """Return a source as it reads now, or why it cannot be read."""
    root = os.environ.get("SYNTHGAIN_DATA")
    adapter = load(ADAPTERS, source["module"])
    options = {**source["options"], **settings("datasets", source["name"])}
    try:
        prepared: Prepared = adapter.prepare(options, source["image"], source["seed"], Path(root) if root else None)
    except SynthGainError as error:
        return str(error)
    return prepared


def not_covered(found: Compared) -> str:
    """Return in words what the comparison leaves out."""
    parts = [f"beside the results {', '.join(NOT_COMPARED)}"]
    if found.stale:
        names = ", ".join(map(str, found.stale[:SHOWN]))
        more = f" and {len(found.stale) - SHOWN} more" if len(found.stale) > SHOWN else ""
        parts.append(f"{len(found.stale)} files of results that this study does not make ({names}{more})")
    parts.append("whoever changes a file and then every seal that rests on it: seals hold no secret")
    return "not covered: " + "; ".join(parts)


def main() -> None:
    """Parse the command line and print the differences."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--expected", type=Path, required=True)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--log", type=Path, required=True)
    arguments = parser.parse_args()
    found = compare(arguments.results, read_json(arguments.expected))
    summary = (
        f"verify: {len(found.files)} files compared, {len(found.differences)} differ from the present config, code or "
        "source"
    )
    lines = [*found.differences, not_covered(found), summary]
    write_text(arguments.log, "\n".join(lines) + "\n")
    print("\n".join(lines), file=sys.stderr)
    sys.exit(1 if found.differences else 0)


if __name__ == "__main__":
    main()
