"""Unpacking a downloaded ZIP archive: all of it or nothing, never outside its folder, never without bound."""

import shutil
import stat
import zipfile
import zlib
from pathlib import Path

from synthgain.datasets.files import is_below
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.listing import RECORD

MAX_MEMBERS = 200_000
MAX_BYTES = 1 << 36  # 64 GiB unpacked: above any published set that is fetched here
# Images and masks are compressed already; DEFLATE gains at most 1032 to 1 on zeros, masks of one colour near that.
MAX_RATIO = 200
# Others (bzip2, LZMA: up to 4 GiB of dictionary from a header) stand in no published archive.
COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def unpack(path: Path, folder: Path, checksum: str) -> Path:
    """Unpack `path` to `folder` (which must not exist), record `checksum` in it, and return it.

    A single folder that holds everything in the archive is taken as `folder` itself. Raises SynthGainError for a
    damaged archive, members outside their folder, links, encryption, absurd sizes, or too little space.
    """
    temporary = folder.with_name(f".{folder.name}.unpacking")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(path) as archive:
            members = _checked(path, archive)
            _check_space(path, folder.parent, members)
            for member in members:
                _write(archive, member, temporary / member.filename)
        inner = [entry for entry in temporary.iterdir() if not entry.name.startswith(".")]
        top = inner[0] if len(inner) == 1 and inner[0].is_dir() else temporary
        (top / RECORD).write_text(checksum, encoding="ascii")
        top.replace(folder)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, ValueError) as error:
        raise SynthGainError(f"{path}: cannot be unpacked ({error}); delete it and run again") from error
    except OSError as error:
        raise SynthGainError(f"{folder}: cannot be written ({error.strerror}); mend that and run again") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _checked(path: Path, archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """Return the files to write; what systems add (folders, hidden files, __MACOSX) is left out."""
    listed = archive.infolist()
    if len(listed) > MAX_MEMBERS:
        raise SynthGainError(f"{path}: {len(listed):,} members (limit {MAX_MEMBERS:,}); it is not the published file")
    for member in listed:
        kind = stat.S_IFMT(member.external_attr >> 16)
        if not is_below(member.filename) or kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise SynthGainError(
                f"{path}: member {member.filename[:80]!r} would leave its folder; nothing was unpacked"
            )
        if member.flag_bits & 1:
            raise SynthGainError(f"{path}: member {member.filename[:80]!r} is encrypted; nothing was unpacked")
        if member.compress_type not in COMPRESSIONS:
            raise SynthGainError(
                f"{path}: member {member.filename[:80]!r} is compressed by method {member.compress_type}, which is not "
                "read; nothing was unpacked"
            )
    wanted = [
        member
        for member in listed
        if not member.is_dir()
        and not any(part.startswith(".") or part == "__MACOSX" for part in Path(member.filename).parts)
    ]
    size = sum(member.file_size for member in wanted)
    packed = min(sum(member.compress_size for member in wanted), path.stat().st_size)  # members may overlap
    if not wanted or size > MAX_BYTES or size > MAX_RATIO * max(packed, 1):
        raise SynthGainError(
            f"{path}: promises {size:,} bytes from {packed:,} (limits {MAX_BYTES:,} and {MAX_RATIO} to 1); "
            "nothing was unpacked"
        )
    return wanted


def _check_space(path: Path, folder: Path, members: list[zipfile.ZipInfo]) -> None:
    size, free = sum(member.file_size for member in members), shutil.disk_usage(folder).free
    if size > free:
        raise SynthGainError(f"{folder}: {size:,} bytes needed for {path.name}, {free:,} free; free some and run again")


def _write(archive: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path) -> None:
    """Write one member; zipfile checks its CRC and stops at the size that its header promises."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(member) as source, target.open("wb") as written:
        shutil.copyfileobj(source, written)
