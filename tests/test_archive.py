"""Unpacking: whole, hostile and damaged archives; all of it or nothing."""

import io
import stat
import zipfile
from pathlib import Path

import pytest

from synthgain.datasets import archive as archive_module
from synthgain.datasets.archive import unpack
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.listing import RECORD, listing_checksum, source_identity


def zipped(members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


WHOLE = {"Set/images/a.jpg": b"image", "Set/masks/a.jpg": b"mask", "__MACOSX/Set/._a": b"x", "Set/.DS_Store": b"x"}


def test_a_single_folder_becomes_the_folder(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(zipped(WHOLE))
    folder = unpack(tmp_path / "a.zip", tmp_path / "data" / "Mine", "c0ffee")
    assert sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()) == [
        RECORD, "images/a.jpg", "masks/a.jpg",
    ]  # fmt: skip
    assert source_identity(folder) == "c0ffee"
    (tmp_path / "b.zip").write_bytes(zipped({"images/a.jpg": b"i", "masks/a.jpg": b"m"}))
    assert (unpack(tmp_path / "b.zip", tmp_path / "flat", "1") / "images/a.jpg").read_bytes() == b"i"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def broken() -> bytes:
    """A whole directory over a damaged DEFLATE stream."""
    content = bytearray(zipped({"a.png": bytes(range(256)) * 4}))
    content[60:90] = b"\xff" * 30
    return bytes(content)


def link() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        info = zipfile.ZipInfo("Set/images")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (zipped({"../escape.png": b"x"}), "would leave its folder"),
        (zipped({"a/../../escape.png": b"x"}), "would leave its folder"),
        (zipped({"/etc/escape.png": b"x"}), "would leave its folder"),
        (zipped({"C:\\escape.png": b"x"}), "would leave its folder"),
        (link(), "would leave its folder"),
        (zipped({"a.png": b"\0" * 2_000_000}), "promises 2,000,000 bytes"),
        (zipped({}), "promises 0 bytes"),
        (zipped(WHOLE)[:60], "cannot be unpacked"),
        (broken(), "cannot be unpacked"),
        (zipped(WHOLE, zipfile.ZIP_STORED).replace(b"jpgimage", b"jpgimago", 1), "cannot be unpacked .*CRC"),
    ],
    # Not the bytes: they hold the time.
    ids=["above", "above by a detour", "root", "drive", "link", "bomb", "empty", "cut", "broken", "changed"],
)
def test_hostile_and_damaged_archives_leave_nothing(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(SynthGainError, match=message):
        unpack(tmp_path / "a.zip", tmp_path / "inner" / "Set", "1")
    assert {path.name for path in tmp_path.rglob("*")} <= {"a.zip", "inner"}


def test_limits_on_members_size_and_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.zip").write_bytes(zipped(WHOLE))
    for name, value, message in (
        ("MAX_MEMBERS", 2, "4 members"),
        ("MAX_BYTES", 8, "promises 9 bytes"),
        ("shutil.disk_usage", lambda folder: type("Usage", (), {"free": 3}), "9 bytes needed for a.zip, 3 free"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(f"{archive_module.__name__}.{name}", value)
            with pytest.raises(SynthGainError, match=message):
                unpack(tmp_path / "a.zip", tmp_path / "Set", "1")
    assert not (tmp_path / "Set").exists()


def test_identity_follows_names_and_sizes_and_not_hidden_files(tmp_path: Path) -> None:
    folder = tmp_path / "Set"
    assert source_identity(folder) is None
    assert source_identity(folder, "abc") == "abc"
    (folder / "images").mkdir(parents=True)
    (folder / "images/a.png").write_bytes(b"12")
    before = source_identity(folder, "abc")
    assert before == listing_checksum(folder)
    assert before != "abc"
    (folder / ".DS_Store").write_bytes(b"x")
    (folder / "images/a.png").touch()
    assert listing_checksum(folder) == before
    (folder / "images/a.png").write_bytes(b"123")
    longer = listing_checksum(folder)
    (folder / "images/a.png").rename(folder / "images/b.png")
    assert len({before, longer, listing_checksum(folder)}) == 3
