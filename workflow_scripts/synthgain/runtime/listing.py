"""The identity of a folder of files by names and sizes, so that planning reads none of their bytes."""

import hashlib
import os
from pathlib import Path

from synthgain.runtime.errors import SynthGainError

# Written into a folder that was unpacked from a checked archive: the archive's checksum is the folder's identity,
# before the download as after it.
RECORD = ".synthgain-archive"


def source_identity(folder: Path, archive: str | None = None) -> str | None:
    """Return what a published data set's rows depend on besides the code.

    The checksum recorded when the folder was unpacked, else its listing's; for a folder that is not there, that of
    the archive which will be unpacked (hex digits), or None where there is no such archive.
    """
    record = folder / RECORD
    if record.is_file():
        return record.read_text(encoding="ascii").strip()
    return listing_checksum(folder) if folder.is_dir() else archive


def listing_checksum(folder: Path) -> str:
    """Return the SHA-256 (64 hex digits) of the sorted relative names and sizes of all files below `folder`.

    Hidden files and folders do not count: systems leave them (.DS_Store).
    """
    lines = sorted(f"{name}\t{size}" for name, size in files_below(folder) if counts(name))
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def counts(name: str) -> bool:
    """True for a file of `files_below` that nothing hides."""
    return not name.endswith("/") and not name.rpartition("/")[2].startswith(".")


def files_below(folder: Path) -> list[tuple[str, int]]:
    """Return (relative path with /, bytes) of every file below `folder`, and (path ending in /, 0) of empty folders.

    A hidden folder stands as empty. Links are followed; a folder that holds itself raises SynthGainError.
    """
    return _below(str(folder), "", (os.path.realpath(folder),))


def _below(folder: str, prefix: str, above: tuple[str, ...]) -> list[tuple[str, int]]:
    found: list[tuple[str, int]] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir() and entry.name.startswith("."):
                found.append((f"{prefix}{entry.name}/", 0))
            elif entry.is_dir():
                real = os.path.realpath(entry.path)
                if real in above:
                    raise SynthGainError(f"{entry.path}: a link to a folder that holds it; remove the link")
                found += _below(entry.path, f"{prefix}{entry.name}/", (*above, real))
            elif entry.is_file():  # no broken link, no socket
                found.append((prefix + entry.name, entry.stat().st_size))
    return found or ([(prefix, 0)] if prefix else [])
