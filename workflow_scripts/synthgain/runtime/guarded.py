"""State that survives kill, timeout, requeue and retry: whole or not there, and never another job's.

One protocol for all that a job keeps on its way: a manifest is written after the files that it names, and on reading
its identity and every byte of these files are compared. So work that is whole is never done twice: Snakemake deletes
the outputs of a job whose end it did not see (it was killed itself, or its node was), and runs the job again.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from synthgain.runtime.command import Job, logger
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import (
    atomic_folder,
    atomic_path,
    check_file,
    files_below,
    marked_identity,
    read_json,
    read_manifest,
    remove_parts,
    write_json,
    write_manifest,
)

KEPT = "finished.json"  # a finished job's manifest, in its state folder
MARKER = "identity.json"


def whole(manifest: Path, identity: str, folder: Path | None = None) -> dict[str, Any] | None:
    """Return a manifest if it has this identity and every byte of its files (in `folder`, or next to it) is as written.

    None where it is missing, of another identity, or one of its files is missing or damaged.
    """
    try:
        found = read_manifest(manifest, identity)
        for name, listed in found["files"].items():
            check_file(folder or manifest.parent, name, listed, every_byte=True)
    except (SynthGainError, KeyError, TypeError, AttributeError):
        return None
    return found


class GuardedFolder:
    """Entries of one identity: a file `name.x` with its manifest `name.json`, or a folder with its manifest inside.

    Opening it removes entries called `pattern` that another identity left, and what a killed process was writing: but
    not where it is `shared`, since another job may be writing there now.
    """

    def __init__(self, folder: Path, identity: str, pattern: str = "*", shared: bool = False) -> None:
        self.folder, self.identity, self.pattern = folder, identity, pattern
        marker = folder / MARKER
        if marker.exists() and marked_identity(marker) != identity:
            logger.info("state of another config or code in %s: starting afresh", folder)
            self.clear()
        if not marker.exists():
            write_json(marker, {"identity": identity})
        if not shared:
            remove_parts(folder, pattern)

    def keep(self, name: str, write: Callable[[Path], None], **facts: object) -> None:
        """Let `write(path)` make an entry, a folder where `name` has no suffix, and note its checksums and `facts`."""
        target = self.folder / name
        if target.suffix:
            with atomic_path(target) as temporary:
                write(temporary)
            write_manifest(target.with_suffix(".json"), self.identity, [name], **facts)
            return
        with atomic_folder(target) as temporary:
            write(temporary)
            write_manifest(temporary / "manifest.json", self.identity, files_below(temporary), **facts)

    def find(self, name: str) -> dict[str, Any] | None:
        """Return an entry's manifest; None where it is missing, damaged or of another identity."""
        target = self.folder / name
        return whole(target.with_suffix(".json") if target.suffix else target / "manifest.json", self.identity)

    def drop(self, name: str) -> None:
        """Remove an entry that is a file."""
        for path in (self.folder / name, (self.folder / name).with_suffix(".json")):
            path.unlink(missing_ok=True)

    def clear(self) -> None:
        """Remove all entries, once the declared outputs are written."""
        for path in [*self.folder.glob(self.pattern), self.folder / MARKER]:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


def keep_manifest(job: Job) -> None:
    """Copy the manifest of a finished job into its state folder."""
    write_json(job.state_folder() / KEPT, read_json(job.outputs[0]))


def put_manifest_back(job: Job) -> bool:
    """Write the manifest again and return True where an earlier try of this very job finished and every byte is there.

    Raises SynthGainError if the disk is full.
    """
    kept = job.state_folder() / KEPT
    manifest = whole(kept, job.identity, job.outputs[0].parent)
    if manifest is None:
        return False
    write_json(job.outputs[0], manifest)
    logger.info("finished before, every byte compared: taken over (to make it again, delete %s first)", kept)
    return True
