"""Finds the whole weights of a published generator."""

from pathlib import Path
from typing import Any

from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import check_file, read_manifest


def saved_parts(folder: Path, snapshot: int | None, parts: tuple[str, ...]) -> tuple[dict[str, Any], Path]:
    """Return a generator's manifest and the folder that holds `parts` of `snapshot` (None: the last).

    parts: names of subfolders, every file of which is compared with the manifest's checksum. Raises SynthGainError
    if one is damaged or there is no such snapshot.
    """
    manifest = read_manifest(folder / "manifest.json")
    steps = manifest["snapshots"]
    if snapshot is not None and snapshot not in steps:
        raise SynthGainError(f"{folder}: no snapshot {snapshot}; kept are {', '.join(map(str, steps))}")
    place = "" if snapshot is None else f"snapshots/{snapshot}/"
    for name, listed in manifest["files"].items():
        if name.startswith(tuple(f"{place}{part}/" for part in parts)):
            check_file(folder, name, listed)
    return manifest, folder / place
