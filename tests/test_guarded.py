"""Guarded state: an entry is whole, of this identity, or not there."""

from collections.abc import Callable
from pathlib import Path

import pytest

from synthgain.runtime.guarded import GuardedFolder, whole


def three_bytes(path: Path) -> None:
    path.write_bytes(b"abc")


def two_files(folder: Path) -> None:
    (folder / "inside").mkdir()
    for name in ("a.txt", "inside/b.txt"):
        (folder / name).write_text(name)


ENTRIES: dict[str, Callable[[Path], None]] = {"batch-1.npy": three_bytes, "7": two_files}
FILES = {"batch-1.npy": "batch-1.npy", "7": "7/inside/b.txt"}


@pytest.mark.parametrize("name", list(ENTRIES))
class TestEntries:
    """A file with its manifest next to it, and a folder with its manifest inside."""

    def test_what_was_kept_is_found_with_its_facts(self, name: str, tmp_path: Path) -> None:
        GuardedFolder(tmp_path, "id").keep(name, ENTRIES[name], step=3)
        found = GuardedFolder(tmp_path, "id").find(name)
        assert found is not None
        assert found["step"] == 3
        assert not list(tmp_path.rglob(".*"))

    def test_one_changed_byte_or_a_missing_file_is_no_entry(self, name: str, tmp_path: Path) -> None:
        state = GuardedFolder(tmp_path, "id")
        for harm in (lambda path: path.write_bytes(path.read_bytes()[:-1] + b"x"), lambda path: path.unlink()):
            state.keep(name, ENTRIES[name])
            harm(tmp_path / FILES[name])
            assert state.find(name) is None

    def test_another_identity_removes_it(self, name: str, tmp_path: Path) -> None:
        GuardedFolder(tmp_path, "id").keep(name, ENTRIES[name])
        assert GuardedFolder(tmp_path, "other").find(name) is None
        assert [path.name for path in tmp_path.iterdir()] == ["identity.json"]

    def test_what_cannot_be_written_leaves_what_was_there(self, name: str, tmp_path: Path) -> None:
        state = GuardedFolder(tmp_path, "id")
        state.keep(name, ENTRIES[name], step=1)

        def fails(path: Path) -> None:
            ENTRIES[name](path)
            raise RuntimeError("broken off")

        with pytest.raises(RuntimeError, match="broken off"):
            state.keep(name, fails, step=2)
        found = state.find(name)
        assert found is not None
        assert found["step"] == 1

    def test_nothing_is_left_once_cleared(self, name: str, tmp_path: Path) -> None:
        state = GuardedFolder(tmp_path, "id")
        state.keep(name, ENTRIES[name])
        state.clear()
        assert not list(tmp_path.iterdir())


def test_only_entries_of_the_pattern_are_the_folders_own(tmp_path: Path) -> None:
    state = GuardedFolder(tmp_path, "id", "step-*")
    state.keep("step-1.pt", three_bytes)
    state.keep("finished", two_files)
    (tmp_path / "other.txt").write_text("x")
    later = GuardedFolder(tmp_path, "later", "step-*")
    assert later.find("finished") is None  # of another identity
    assert sorted(path.name for path in tmp_path.iterdir()) == ["finished", "identity.json", "other.txt"]


def test_a_shared_folder_leaves_what_another_job_is_writing(tmp_path: Path) -> None:
    part = tmp_path / ".features.npy.x.part.npy"
    part.write_bytes(b"half")
    GuardedFolder(tmp_path, "key", shared=True)
    assert part.exists()
    GuardedFolder(tmp_path, "key")
    assert not part.exists()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"identity": "id"}', '{"identity": "id", "files": [1]}', "nonsense"])
def test_a_damaged_manifest_is_no_entry(text: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(text)
    assert whole(tmp_path / "manifest.json", "id") is None
