"""Whole files or none: atomic writes, checksums, manifests, and tables that carry their identity."""

import contextlib
import errno
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from synthgain.runtime.errors import SynthGainError

if TYPE_CHECKING:  # loaded by what reads tables alone
    import pandas as pd

# Above this size a read checks only the length; the `verify` target checks every byte.
CHECKSUM_ON_READ_BYTES = 1 << 30
FULL_DISK_BYTES = 1 << 20  # less than this free after a failed write: the disk is full
SEAL = "seal"  # of a manifest: a digest of each of its other keys (`synthgain.runtime.seals`)
PART = ".part"  # in the names of files that are being written
_IDENTITY_KEY = b"synthgain_identity"
# A table's checksum lies between its pages and its footer, where no reader of Parquet looks.
_SEAL = b"SynthGain SHA-256:"
_SEAL_BYTES = len(_SEAL) + hashlib.sha256().digest_size


class Listed(TypedDict):
    """A file in a manifest."""

    bytes: int
    sha256: str


def canonical_json(value: object) -> str:
    """Return `value` as JSON with sorted keys and no white space: equal values give equal text.

    Raises ValueError for NaN or infinity, TypeError for what JSON cannot hold.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def digest(value: object) -> str:
    """Return the first 32 hex digits of the SHA-256 of `value`'s canonical JSON."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:32]


def short_digest(content: bytes) -> str:
    """Return the first 16 hex digits of the SHA-256 of some bytes."""
    return hashlib.sha256(content).hexdigest()[:16]


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes as 64 hex digits; SynthGainError where it cannot be read."""
    try:
        with path.open("rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()
    except OSError as error:
        raise SynthGainError(f"{path}: cannot be read ({error.strerror})") from error


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path next to `path`; on success flush it to disk and rename it into place.

    On any error the temporary file is removed and what stood at `path` stays. A full disk raises
    SynthGainError naming the folder.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{PART}{path.suffix}")
    temporary.touch(exist_ok=False)  # with the rights that the user's umask leaves, whoever writes it
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    except Exception as error:  # libraries report a full disk under many names (safetensors, torch, pyarrow)
        if _out_of_space(error, path.parent):
            raise SynthGainError(_full(path)) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder next to `path`; on success it takes the place of `path`, on any error it is removed."""
    temporary = path.with_name(f".{path.name}{PART}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        shutil.rmtree(path, ignore_errors=True)
        temporary.replace(path)
    except Exception as error:
        if _out_of_space(error, path.parent):
            raise SynthGainError(_full(path)) from error
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def files_below(folder: Path) -> list[str]:
    """Return the files below a folder but its manifest.json, as sorted relative paths."""
    found = (path for path in folder.rglob("*") if path.is_file() and path != folder / "manifest.json")
    return sorted(path.relative_to(folder).as_posix() for path in found)


def remove_parts(folder: Path, name: str = "*") -> None:
    """Remove what a killed process left of files called `name` that it was writing into `folder`.

    Only the job whose folder it is may call this, and before it writes: another's part would be gone as well.
    """
    for path in folder.glob(f".{name}.*{PART}*"):
        if path.is_file():
            path.unlink(missing_ok=True)


def _full(path: Path) -> str:
    return f"{path}: no space left in {path.parent}; free some and run again, finished work is kept"


def _out_of_space(error: Exception, folder: Path) -> bool:
    """True if a write failed for want of space; NumPy and torch say so without an error number."""
    if getattr(error, "errno", None) is not None:
        return getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
    return no_space_left(folder)


def no_space_left(folder: Path) -> bool:
    """True where the disk of a folder, or of the nearest one above that is there, is full."""
    there = next((place for place in (folder, *folder.absolute().parents) if place.exists()), Path.cwd())
    return shutil.disk_usage(there).free < FULL_DISK_BYTES


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: object) -> None:
    """Write readable JSON (sorted keys, two-space indent) atomically."""
    write_text(path, json.dumps(value, sort_keys=True, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file; SynthGainError where it is missing or not whole."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SynthGainError(f"{path}: missing; run snakemake again to make it") from error
    except ValueError as error:
        raise SynthGainError(f"{path}: not valid JSON ({error}); delete it and run snakemake again") from error


def marked_identity(marker: Path) -> str | None:
    """Return the identity in a marker file {"identity": …}; None where it is missing or its bytes are damaged."""
    try:
        return str(read_json(marker)["identity"])
    except (SynthGainError, KeyError, TypeError):
        return None


def listed_files(folder: Path, files: list[str]) -> dict[str, Listed]:
    """Return {name: {bytes, sha256}} of files relative to a folder, as a manifest lists them."""
    return {
        name: {"bytes": (folder / name).stat().st_size, "sha256": sha256_file(folder / name)} for name in sorted(files)
    }


def write_manifest(path: Path, identity: str, files: list[str], **facts: object) -> dict[str, object]:
    """Write `path` naming `files` (relative to its folder) with size and SHA-256, and return it.

    `facts` are JSON values. Written last, so that a manifest on disk means that its files are whole.
    """
    manifest = {"identity": identity, "files": listed_files(path.parent, files), **facts}
    write_json(path, manifest)
    return manifest


def seal_of(manifest: Mapping[str, object]) -> dict[str, str]:
    """Return {key: 16 hex digits of the SHA-256 of its value} of a manifest but for its seal."""
    return {key: short_digest(canonical_json(value).encode()) for key, value in manifest.items() if key != SEAL}


def changed_keys(manifest: Mapping[str, object]) -> list[str]:
    """Return the keys that were changed, added or removed since a manifest was sealed; none where it has no seal."""
    if SEAL not in manifest:
        return []
    then, now = manifest[SEAL], seal_of(manifest)
    if not isinstance(then, dict):
        return [SEAL]
    return sorted(key for key in {*then, *now} if then.get(key) != now.get(key))


def read_manifest(path: Path, identity: str | None = None) -> dict[str, Any]:
    """Read a manifest; SynthGainError if it is not the one that `identity` asks for, or was changed since its job."""
    manifest: dict[str, Any] = read_json(path)
    if not isinstance(manifest, dict) or "identity" not in manifest:
        raise SynthGainError(f"{path}: not a SynthGain manifest; delete it and run snakemake again")
    if identity is not None and manifest["identity"] != identity:
        raise SynthGainError(
            f"{path}: made by another config or code (identity {manifest['identity'][:8]}, expected {identity[:8]}); "
            "run snakemake without --touch, or delete the file"
        )
    changed = changed_keys(manifest)
    if changed:
        raise SynthGainError(
            f"{path}: changed after its job wrote it ({', '.join(changed)}); delete it and run snakemake again"
        )
    return manifest


def identity_of(path: Path) -> str | None:
    """Return the identity that a manifest or a table carries; None for other files. SynthGainError if unreadable."""
    if path.suffix == ".json":
        return str(read_manifest(path)["identity"])
    if path.suffix != ".parquet":
        return None
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return str((pq.read_schema(path).metadata or {}).get(_IDENTITY_KEY, b"").decode())
    except FileNotFoundError as error:
        raise SynthGainError(f"{path}: missing; run snakemake again to make it") from error
    except (pa.ArrowException, OSError) as error:
        raise SynthGainError(f"{path}: damaged ({str(error).splitlines()[0]}); delete it and rerun") from error


def check_file(folder: Path, name: str, listed: Listed, every_byte: bool = False) -> Path:
    """Return `folder / name` after comparing it with its manifest entry {bytes, sha256}."""
    path = folder / name
    if not path.exists():
        raise SynthGainError(f"{path}: missing although its manifest names it; delete {folder} and rerun")
    size = path.stat().st_size
    if size != listed["bytes"]:
        raise SynthGainError(f"{path}: {size} bytes, its manifest says {listed['bytes']}; delete {folder} and rerun")
    if (every_byte or size <= CHECKSUM_ON_READ_BYTES) and sha256_file(path) != listed["sha256"]:
        raise SynthGainError(f"{path}: bytes differ from the manifest's checksum; delete {folder} and rerun")
    return path


def table_checksum(path: Path) -> bytes:
    """Return the SHA-256 that a table of `write_table` carries of its own other bytes, without reading them."""
    with path.open("rb") as handle:
        handle.seek(-8, os.SEEK_END)
        footer = 8 + int.from_bytes(handle.read(4), "little")
        handle.seek(-footer - _SEAL_BYTES, os.SEEK_END)
        return handle.read(_SEAL_BYTES).removeprefix(_SEAL)


def write_table(path: Path, table: "pd.DataFrame", identity: str = "") -> None:
    """Write a pandas DataFrame as Parquet, atomically, with `identity` in the file's metadata and a checksum."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrow = pa.Table.from_pandas(table, preserve_index=False)
    arrow = arrow.replace_schema_metadata({**(arrow.schema.metadata or {}), _IDENTITY_KEY: identity.encode()})
    with atomic_path(path) as temporary:
        pq.write_table(arrow, temporary)
        temporary.write_bytes(_sealed(temporary.read_bytes()))


def read_table(path: Path, identity: str | None = None, columns: list[str] | None = None) -> "pd.DataFrame":
    """Read a table of `write_table` as a pandas DataFrame; checks every byte and, if given, the identity."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        content = path.read_bytes()
        if not _is_whole(content):
            raise SynthGainError(f"{path}: damaged (its checksum differs); delete it and run snakemake again")
        arrow = pq.read_table(pa.BufferReader(content), columns=columns)
    except FileNotFoundError as error:
        raise SynthGainError(f"{path}: missing; run snakemake again to make it") from error
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise SynthGainError(f"{path}: damaged ({reason}); delete it and run snakemake again") from error
    found = (arrow.schema.metadata or {}).get(_IDENTITY_KEY, b"").decode()
    if identity is not None and found != identity:
        raise SynthGainError(
            f"{path}: made by another config or code (identity {found[:8]}, expected {identity[:8]}); "
            "run snakemake without --touch, or delete the file"
        )
    return arrow.to_pandas()


def _sealed(content: bytes) -> bytes:
    """Return a Parquet file's bytes with their checksum before the footer."""
    edge = _footer_start(content)
    return content[:edge] + _SEAL + hashlib.sha256(content).digest() + content[edge:]


def _is_whole(content: bytes) -> bool:
    """True where a Parquet file carries the checksum of its other bytes."""
    edge = _footer_start(content)
    start = edge - _SEAL_BYTES
    if start < 0:
        return False
    expected = hashlib.sha256(content[:start])
    expected.update(content[edge:])
    return content[start:edge] == _SEAL + expected.digest()


def _footer_start(content: bytes) -> int:
    """A Parquet file ends with its footer, the footer's length (4 bytes, little endian) and "PAR1"."""
    return len(content) - 8 - int.from_bytes(content[-8:-4], "little")
