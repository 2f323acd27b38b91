"""The medmnist adapter against a local HTTP server: whole, broken, wrong, offline, hostile."""

import errno
import fcntl
import hashlib
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from local_server import Server, serving

from synthgain.datasets import download as download_module
from synthgain.datasets.download import download
from synthgain.datasets.medmnist import KNOWN, check_archive, prepare
from synthgain.runtime.errors import SynthGainError

IMAGE = {"size": 28, "channels": 1, "fit": "pad", "intensity": "none"}


def archive(labels: int = 1, channels: int = 1, codes: int = 2) -> bytes:
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for part, count in (("train", 40), ("val", 10), ("test", 12)):
        shape = (count, 28, 28) if channels == 1 else (count, 28, 28, channels)
        arrays[f"{part}_images"] = rng.integers(0, 256, shape, dtype=np.uint8)
        arrays[f"{part}_labels"] = rng.integers(0, codes, (count, labels), dtype=np.uint8)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(archive()) as running:
        yield running


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def test_prepare_downloads_once_and_reads(server: Server, tmp_path: Path) -> None:
    options = {"name": "pneumoniamnist", "url": server.url, "md5": md5(server.content)}
    got = prepare(options, IMAGE, 0, tmp_path)
    assert got.images.shape == (62, 28, 28, 1)
    with np.load(io.BytesIO(server.content)) as raw:
        assert np.array_equal(got.images[:40, :, :, 0], raw["train_images"])
        assert got.table["pneumonia"][:40].tolist() == raw["train_labels"][:, 0].tolist()
    counts = got.table["original_split"].value_counts().to_dict()
    assert counts == {"train": 40, "test": 12, "validation": 10}
    assert got.facts["split_unit"] == "image"
    prepare(options, {**IMAGE, "size": 16}, 0, tmp_path, threads=2)
    assert len(server.ranges) == 1


def test_multilabel_category_and_flipped_binary(server: Server, tmp_path: Path) -> None:
    server.content = archive(labels=14)
    got = prepare({"name": "chestmnist", "url": server.url, "md5": md5(server.content)}, IMAGE, 0, tmp_path)
    assert list(got.columns) == list(KNOWN["chestmnist"].classes)
    server.content = archive(channels=3, codes=8)
    got = prepare({"name": "bloodmnist", "url": server.url, "md5": md5(server.content)}, IMAGE, 0, tmp_path)
    assert set(got.table["label"]) <= set(KNOWN["bloodmnist"].classes)
    assert got.images.shape[-1] == 1
    server.content = archive()
    got = prepare({"name": "breastmnist", "url": server.url, "md5": md5(server.content)}, IMAGE, 0, tmp_path)
    with np.load(io.BytesIO(server.content)) as raw:
        assert got.table["malignant"][:40].tolist() == (1 - raw["train_labels"][:, 0]).tolist()


def test_what_is_there_needs_no_right_to_write(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.npz").write_bytes(server.content)

    def refused(path: Path, *_: Any, **__: Any) -> Any:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    with monkeypatch.context() as patch:  # root may write anywhere that is not mounted so
        patch.setattr(Path, "mkdir", refused)
        patch.setattr(fcntl, "flock", refused)
        download(f"{server.url}/a.npz", tmp_path / "a.npz", md5(server.content), pause=0)
    assert server.ranges == []
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]


def test_broken_transfer_resumes_within_one_run(server: Server, tmp_path: Path) -> None:
    server.breaks_left, server.break_after = 2, len(server.content) // 3
    path = download(f"{server.url}/a.npz", tmp_path / "a.npz", md5(server.content), pause=0)
    assert path.read_bytes() == server.content
    third = len(server.content) // 3
    assert server.ranges == [None, f"bytes={third}-", f"bytes={2 * third}-"]


def test_broken_transfer_resumes_in_the_next_run(server: Server, tmp_path: Path) -> None:
    server.breaks_left, server.break_after = download_module.ATTEMPTS, 100
    with pytest.raises(SynthGainError, match="not reachable"):
        download(f"{server.url}/a.npz", tmp_path / "a.npz", md5(server.content), pause=0)
    assert (tmp_path / "a.npz.part").stat().st_size == 100 * download_module.ATTEMPTS
    download(f"{server.url}/a.npz", tmp_path / "a.npz", md5(server.content), pause=0)
    assert server.ranges[-1] == f"bytes={100 * download_module.ATTEMPTS}-"
    assert (tmp_path / "a.npz").read_bytes() == server.content


@pytest.mark.parametrize("honours", [True, False])
def test_a_stale_part_is_fetched_afresh(server: Server, tmp_path: Path, honours: bool) -> None:
    server.honours_range = honours
    (tmp_path / "a.npz.part").write_bytes(b"of another file")
    download(f"{server.url}/a.npz", tmp_path / "a.npz", md5(server.content), pause=0)
    assert (tmp_path / "a.npz").read_bytes() == server.content


def test_wrong_checksum_keeps_nothing(server: Server, tmp_path: Path) -> None:
    with pytest.raises(SynthGainError, match="checksum differs"):
        prepare({"name": "pneumoniamnist", "url": server.url}, IMAGE, 0, tmp_path)
    assert not list((tmp_path / "medmnist").glob("pneumoniamnist*"))


def test_offline_and_missing_file_say_so(server: Server, tmp_path: Path) -> None:
    with pytest.raises(SynthGainError, match=r"404.*check the name"):
        download(f"{server.url}/missing.npz", tmp_path / "missing.npz", "0" * 32, pause=0)
    with pytest.raises(SynthGainError, match=r"not reachable .*go online .*a\.npz by hand"):
        download("http://127.0.0.1:9/a.npz", tmp_path / "a.npz", "0" * 32, pause=0)
    with pytest.raises(SynthGainError, match="only http"):
        download("file:///etc/passwd", tmp_path / "a.npz", "0" * 32)


def test_wrong_names_and_sizes() -> None:
    with pytest.raises(SynthGainError, match="known: pneumoniamnist"):
        prepare({"name": "mnist"}, IMAGE, 0, None)
    with pytest.raises(SynthGainError, match="no size 32"):
        prepare({"name": "pneumoniamnist", "size": 32}, IMAGE, 0, None)


def _rewritten(content: bytes, change: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as new:
        for info in old.infolist():
            new.writestr(info.filename, change.pop(info.filename, None) or old.read(info.filename))
        for name, data in change.items():
            new.writestr(name, data)
    return buffer.getvalue()


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def test_hostile_and_corrupt_archives_are_refused(tmp_path: Path) -> None:
    whole = archive()
    objects = _npy(np.array([[{"a": 1}]], dtype=object))
    bomb = _npy(np.zeros((2, 28, 28), np.uint8)).replace(b"(2, 28, 28)", b"(9, 28, 28)")
    cases = {
        "members": _rewritten(whole, {"../escape.npy": b"x"}),
        "train_labels": _rewritten(whole, {"train_labels.npy": objects}),
        "train_images": _rewritten(whole, {"train_images.npy": bomb}),
        "not a whole archive": whole[: len(whole) // 2],
        "val_images": _rewritten(whole, {"val_images.npy": _npy(np.zeros((2, 64, 64), np.uint8))}),
    }
    path = tmp_path / "a.npz"
    path.write_bytes(whole)
    check_archive(path, 28, 1)
    for message, content in cases.items():
        path.write_bytes(content)
        with pytest.raises(SynthGainError, match=message):
            check_archive(path, 28, 1)


def test_published_checksums_are_md5_of_distinct_files() -> None:
    sums = [value for known in KNOWN.values() for value in known.md5.values()]
    assert all(len(value) == 32 and int(value, 16) >= 0 for value in sums)
    assert len(set(sums)) == len(sums) == 4 * len(KNOWN)
