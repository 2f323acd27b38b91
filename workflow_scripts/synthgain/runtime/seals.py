"""Seals: what a finished result held when its job ended, so that `snakemake verify` names what was changed since.

A manifest carries a digest of each of its keys, and what each of its inputs held (`made_from`); a page or a picture
that no manifest lists carries its checksum in a comment. There is no secret in a seal: it finds what was changed, not
who changes a file and then all that speaks of it.
"""

import hashlib
import json
import os
import re
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict, cast

from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import (
    SEAL,
    atomic_path,
    canonical_json,
    listed_files,
    read_json,
    seal_of,
    short_digest,
    table_checksum,
    write_json,
)
from synthgain.runtime.inputs import Inputs

MADE_FROM = "made_from"
_KEYWORD = b"SynthGain\x00"  # of a PNG's text chunk
_COMMENT = re.compile(rb"<!-- SynthGain (\{.*\}) -->\n\Z")
_IEND = struct.pack(">I", 0) + b"IEND" + struct.pack(">I", zlib.crc32(b"IEND"))


class Told(TypedDict):
    """What a page or a picture says of itself; made_from: {input: what it held}."""

    identity: str
    made_from: dict[str, str]


class Marked(Told):
    """A mark: what is told, and the SHA-256 of that and of the file without its mark."""

    sha256: str


class Sealing:
    """Seals what a job writes: opened before it works, finished after. A killed job leaves nothing sealed.

    outputs: declared ones, of which the first is sealed and lists all others, with what else the job wrote into a
    folder of its own (that of a manifest.json, or of audit/audit.json).
    """

    def __init__(self, outputs: Sequence[Path], identity: str, inputs: Inputs) -> None:
        self.outputs, self.identity, self.inputs = outputs, identity, inputs
        self._before = self._beside()

    def finish(self) -> None:
        """Seal the first output; of a job's several processes the first does so."""
        path = self.outputs[0]
        if os.environ.get("RANK", "0") != "0" or not path.exists():
            return
        made_from = {entry.name: link(entry.path) for entry in self.inputs.all() if entry.path.exists()}
        if path.suffix == ".json":
            manifest = read_json(path)
            if isinstance(manifest, dict) and "identity" in manifest:
                written = [name for name, when in self._beside().items() if self._before.get(name) != when]
                files = {**listed_files(path.parent, written), **manifest.get("files", {})}
                sealed = {**manifest, "files": files, MADE_FROM: made_from}
                write_json(path, {**sealed, SEAL: seal_of(sealed)})
        elif path.suffix in (".html", ".png"):
            with atomic_path(path) as temporary:
                temporary.write_bytes(with_mark(path, path.read_bytes(), self.identity, made_from))

    def _beside(self) -> dict[str, int]:
        """Return {name: when it was written, in ns} of the files that may be this job's besides its first output."""
        first = self.outputs[0]
        names = [path.relative_to(first.parent).as_posix() for path in self.outputs[1:] if path.exists()]
        if owns_folder(first):
            names += own_files(first)
        return {name: (first.parent / name).stat().st_mtime_ns for name in names}


def owns_folder(manifest: Path) -> bool:
    """True where all in a manifest's folder is its job's, but for folders in it that have a manifest themselves."""
    return manifest.name == "manifest.json" or (manifest.suffix == ".json" and manifest.stem == manifest.parent.name)


def own_files(manifest: Path) -> list[str]:
    """Return the files below a manifest's folder, relative to it, that are neither it nor those of another manifest."""
    found = []
    for folder, below, names in os.walk(manifest.parent):
        below[:] = [name for name in below if not (Path(folder) / name / "manifest.json").exists()]
        found += [(Path(folder) / name).relative_to(manifest.parent).as_posix() for name in names if name[0] != "."]
    return sorted(name for name in found if name != manifest.name)


def link(path: Path) -> str:
    """Return what stands for a result in the seals of those that rest on it; "" for what cannot be read.

    Of a replica its identity: cut into other shards it is written anew, and is the same.
    """
    try:
        if path.suffix == ".parquet":
            return short_digest(table_checksum(path))
        if path.suffix in (".html", ".png"):
            facts = mark_of(path, path.read_bytes())
            return "" if facts is None else short_digest(canonical_json(facts).encode())
        manifest = read_json(path)
        if "shards" in manifest:
            return str(manifest["identity"])[:16]
        return short_digest(canonical_json(manifest.get(SEAL, manifest)).encode())
    except (SynthGainError, OSError, ValueError, TypeError, AttributeError):
        return ""


def with_mark(path: Path, content: bytes, identity: str, made_from: dict[str, str]) -> bytes:
    """Return a page's or a picture's bytes with its mark, in place of one that is there."""
    plain = _parted(path, content)[0]
    facts: Told = {"identity": identity, "made_from": made_from}
    mark = canonical_json({**facts, "sha256": _checksum(plain, facts)}).encode()
    if path.suffix == ".png":
        body = b"tEXt" + _KEYWORD + mark
        chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
        return plain.removesuffix(_IEND) + chunk + _IEND
    return plain + b"<!-- SynthGain " + mark + b" -->\n"


def write_sealed_page(path: Path, text: str, identity: str) -> None:
    """Write a page that is no job's first output with its mark, so that what is changed in it is seen."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(with_mark(path, text.encode(), identity, {}))


def changed_page(path: Path, content: bytes) -> bytes:
    """Return a page that was written again on purpose with its mark made anew; without one where it had none."""
    facts = mark_of(path, path.read_bytes())
    return content if facts is None else with_mark(path, content, facts["identity"], facts["made_from"])


def mark_of(path: Path, content: bytes) -> Marked | None:
    """Return {identity, made_from, sha256} of a page's or a picture's mark; None where it has none."""
    mark = _parted(path, content)[1]
    try:
        facts = json.loads(mark) if mark is not None else None
    except ValueError:
        return None
    whole = isinstance(facts, dict) and Marked.__required_keys__ <= facts.keys()
    return cast("Marked", facts) if whole else None  # of other types it fails its checksum


def is_as_marked(path: Path, content: bytes) -> bool:
    """True where a page or a picture holds what it held when it was sealed."""
    facts = mark_of(path, content)
    if facts is None:
        return False
    told: Told = {"identity": facts["identity"], "made_from": facts["made_from"]}
    return bool(facts["sha256"] == _checksum(_parted(path, content)[0], told))


def _parted(path: Path, content: bytes) -> tuple[bytes, bytes | None]:
    """Return a file's bytes without its mark, and the mark's JSON."""
    if path.suffix == ".png":
        start = content.rfind(b"tEXt" + _KEYWORD)
        if start < 4:
            return content, None
        (length,) = struct.unpack(">I", content[start - 4 : start])
        end = start + 4 + length
        return content[: start - 4] + content[end + 4 :], content[start + 4 + len(_KEYWORD) : end]
    found = _COMMENT.search(content)
    return (content, None) if found is None else (content[: found.start()], found[1])


def _checksum(plain: bytes, facts: Told) -> str:
    return hashlib.sha256(canonical_json(facts).encode() + plain).hexdigest()
