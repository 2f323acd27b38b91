"""Snapshots of a training run: kept in its state first, linked to their declared places at the end.

Snakemake deletes the declared outputs of a failed or restarted job, and must not delete these.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError

from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import atomic_path, check_file, read_manifest, write_manifest


def write_snapshot(folder: Path, step: int, identity: str, save: Callable[[Path], None]) -> None:
    """Let `save(path)` fill `folder/<step>`, whole or not at all."""
    target, temporary = folder / str(step), folder / f".{step}.part"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        save(temporary)
        write_manifest(temporary / "manifest.json", identity, _files_below(temporary), step=step)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise SynthGainError(f"{target}: cannot write ({error}); the earlier state is kept") from error
    shutil.rmtree(target, ignore_errors=True)
    temporary.replace(target)


def whole(folder: Path, step: int, identity: str) -> bool:
    """True where snapshot `step` is there, of this identity, with every byte as written."""
    try:
        manifest = read_manifest(folder / str(step) / "manifest.json", identity)
        for name, listed in manifest["files"].items():
            check_file(folder / str(step), name, listed, every_byte=True)
    except SynthGainError:
        return False
    return True


def publish(folder: Path, steps: list[int], target: Path) -> list[str]:
    """Link the snapshots below `target/snapshots` and the last one's parts into `target`; return the files' names."""
    for part in ("snapshots", "network", "condition_encoder", "control_network"):
        shutil.rmtree(target / part, ignore_errors=True)
    names = []
    for step in steps:
        source = folder / str(step)
        places = [f"snapshots/{step}/", *([""] if step == steps[-1] else [])]
        for name in _files_below(source):
            for place in places:
                _link(source / name, target / f"{place}{name}")
                names.append(f"{place}{name}")
    return names


def _files_below(folder: Path) -> list[str]:
    found = (path for path in folder.rglob("*") if path.is_file() and path != folder / "manifest.json")
    return sorted(path.relative_to(folder).as_posix() for path in found)


def _link(source: Path, target: Path) -> None:
    """Hard-link where the file system can, else copy."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        with atomic_path(target) as temporary:
            shutil.copyfile(source, temporary)
