"""The identity of a folder of files by names and sizes, so that planning reads none of their bytes."""

import hashlib
import os
from pathlib import Path

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
    lines = sorted(f"{name}\t{size}" for name, size in _files(str(folder), ""))
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def _files(folder: str, prefix: str) -> list[tuple[str, int]]:
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                found += _files(entry.path, f"{prefix}{entry.name}/")
            else:
                found.append((prefix + entry.name, entry.stat().st_size))
    return found
