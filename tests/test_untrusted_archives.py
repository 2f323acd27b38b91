"""Archives and downloads that lie about what they hold; see test_archive.py for paths, links and limits."""

import contextlib
import hashlib
import io
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from local_server import serving
from mutations import EDITS, damaged

from synthgain.datasets.archive import unpack
from synthgain.datasets.download import download
from synthgain.datasets.medmnist import check_archive, prepare
from synthgain.runtime.errors import SynthGainError

FUZZING = settings(max_examples=200, derandomize=True, database=None, deadline=None)


def zipped(members: list[tuple[str, bytes]], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return buffer.getvalue()


def claiming(content: bytes, size: int) -> bytes:
    """Return an archive of one member whose headers say that it unpacks to `size` bytes."""
    data = bytearray(content)
    struct.pack_into("<I", data, data.index(b"PK\3\4") + 22, size)
    struct.pack_into("<I", data, data.index(b"PK\1\2") + 24, size)
    return bytes(data)


def overlapping(copies: int) -> bytes:
    """Return an archive whose directory names the same bytes `copies` times (Fifield's bomb in small)."""
    kernel = zipped([("a0000", bytes(np.random.default_rng(0).integers(0, 256, 5_000, dtype=np.uint8)))])
    start = kernel.index(b"PK\1\2")
    entry = kernel[start : kernel.index(b"PK\5\6")]
    entries = b"".join(entry.replace(b"a0000", b"a%04d" % i) for i in range(copies))
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, copies, copies, len(entries), start, 0)
    return kernel[:start] + entries + end


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (claiming(zipped([("a.png", bytes(50_000_000))]), 5_000_000), "cannot be unpacked .*CRC"),
        (claiming(zipped([("a.png", b"abc" * 99)]), 20), "cannot be unpacked .*CRC"),  # stops at what was promised
        (overlapping(2_000), "promises 10,000,000 bytes from|cannot be unpacked"),
        (zipped([("a.png", bytes(9_000))], zipfile.ZIP_LZMA), "compressed by method 14"),
        (zipped([("a.png", bytes(9_000))], zipfile.ZIP_BZIP2), "compressed by method 12"),
        (zipped([("a", b"x"), ("a/b", b"x")]), "cannot be written"),
        (zipped([("x" * 300, b"x")]), "cannot be written .*too long"),
        (zipped([(".." + "/.." * 9 + "/etc/passwd", b"x")]), "would leave its folder"),
        (zipped([("..\\..\\evil.dll", b"x")]), "would leave its folder"),
    ],
)
def test_archives_that_lie_leave_nothing(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(SynthGainError, match=message) as error:
        unpack(tmp_path / "a.zip", tmp_path / "inner" / "Set", "1")
    assert "\n" not in str(error.value)
    assert {path.name for path in tmp_path.rglob("*")} <= {"a.zip", "inner"}


def test_damaged_archives_stay_in_their_folder(tmp_path_factory: pytest.TempPathFactory) -> None:
    base = tmp_path_factory.mktemp("damaged")
    whole = zipped([("Set/images/a.jpg", b"image" * 9), ("Set/masks/a.jpg", b"mask" * 9)])

    @FUZZING
    @given(EDITS)
    def run(edits: list[tuple[str, float, int, int]]) -> None:
        (base / "a.zip").write_bytes(damaged(whole, edits))
        with contextlib.suppress(SynthGainError):
            unpack(base / "a.zip", base / "in" / "Set", "1")
            for path in sorted((base / "in" / "Set").rglob("*"), reverse=True):
                path.unlink() if path.is_file() else path.rmdir()
            (base / "in" / "Set").rmdir()
        assert {path.name for path in base.iterdir()} <= {"a.zip", "in"}
        assert not list((base / "in").iterdir())

    run()


def test_damaged_npz_files_give_arrays_or_one_line(tmp_path_factory: pytest.TempPathFactory) -> None:
    """With the checksum of the damaged file, as if a user had declared it: the file itself must be no danger."""
    base = tmp_path_factory.mktemp("npz")
    buffer = io.BytesIO()
    arrays = {
        f"{part}_{what}": np.zeros((3, 28, 28) if what == "images" else (3, 1), np.uint8)
        for part in ("train", "val", "test")
        for what in ("images", "labels")
    }
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    whole, path = buffer.getvalue(), base / "medmnist" / "pneumoniamnist.npz"
    path.parent.mkdir()
    image = {"size": 28, "channels": 1, "fit": "pad", "intensity": "none"}
    said = []

    @FUZZING
    @given(EDITS, st.booleans())
    def run(edits: list[tuple[str, float, int, int]], whole_prepare: bool) -> None:
        path.write_bytes(damaged(whole, edits))
        try:
            if whole_prepare:
                md5 = hashlib.md5(path.read_bytes()).hexdigest()
                prepare({"name": "pneumoniamnist", "url": "http://127.0.0.1:9", "md5": md5}, image, 0, base)
            else:
                check_archive(path, 28, 1)
        except SynthGainError as error:
            said.append(str(error))

    run()
    assert said
    assert "\n" not in "".join(said)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("file:///etc/passwd", "only http and https"),
        ("ftp://host/a", "only http and https"),
        ("http://[bad", "not an address"),
        ("http://host/a b", "not an address"),
        ("http://host/\r\nX-Evil: 1", "not an address"),
    ],
)
def test_addresses_that_are_none(tmp_path: Path, url: str, message: str) -> None:
    with pytest.raises(SynthGainError, match=message):
        download(url, tmp_path / "a.zip", "0" * 32, pause=0)
    assert not (tmp_path / "a.zip").exists()


def test_a_server_does_not_choose_the_name(tmp_path: Path) -> None:
    content = zipped([("a.png", b"x")])
    checksum = hashlib.sha256(content).hexdigest()
    with serving(content) as server:
        path = download(f"{server.url}/..%2f..%2fevil.zip?file=/etc/passwd", tmp_path / "in" / "a.zip", checksum)
    assert path.read_bytes() == content
    assert {entry.name for entry in tmp_path.rglob("*") if entry.is_file()} == {"a.zip", ".a.zip.lock"}
