"""Opening a data set: the part of each image, whatever the order of the split, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
from downstream_jobs import images_of, table_of, write_dataset

from synthgain.data.image_set import EXCLUDED, SPLIT_FILE, open_dataset, planes_of, read_split
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import write_manifest, write_table


@pytest.fixture
def run(tmp_path: Path) -> Path:
    write_dataset(tmp_path, "a", count=10)
    return tmp_path


def write_split(run: Path, parts: dict[int, str]) -> Path:
    """Write the split of these rows, the last row first; return its folder."""
    rows = sorted(parts, reverse=True)
    table = table_of(10).iloc[rows][["image_id", "patient_id"]].assign(part=[parts[row] for row in rows])
    write_table(run / "splits/a" / SPLIT_FILE, table, "s")
    write_manifest(run / "splits/a/manifest.json", "s", [SPLIT_FILE])
    return run / "splits/a"


def test_parts_follow_the_ids_and_not_the_order_of_the_split(run: Path) -> None:
    split = write_split(run, {0: "train", 1: "test", 2: "train", 5: "validation"})
    for folder, given in ((run / "datasets/a", split), (run / "datasets/a/manifest.json", split / "manifest.json")):
        data = open_dataset(folder, given)
        assert data.name == "a"
        assert data.part("train").tolist() == data.training_rows().tolist() == [0, 2]
        assert data.part("validation", "test").tolist() == [1, 5]
        assert data.part(EXCLUDED).tolist() == [3, 4, 6, 7, 8, 9]
    assert np.array_equal(data.images.images, images_of(table_of(10)))


def test_without_a_split_everything_is_for_testing(run: Path) -> None:
    data = open_dataset(run / "datasets/a")
    assert data.part("test").tolist() == list(range(10))
    with pytest.raises(SynthGainError, match=r"datasets\.a: its split has no training images"):
        data.training_rows()


def test_a_damaged_split_is_refused(run: Path) -> None:
    path = write_split(run, {0: "train"}) / SPLIT_FILE
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(SynthGainError, match="bytes differ"):
        read_split(path.parent)


def test_planes_are_those_of_the_names_and_zero_where_there_are_none() -> None:
    masks = np.random.default_rng(0).integers(0, 2, (4, 3, 5, 2), dtype=np.uint8)
    planes = planes_of(masks, ["lung", "heart"], ["heart", "liver", "lung"])
    assert planes.shape == (4, 3, 5, 3)
    found = planes[np.array([3, 1])]
    assert np.array_equal(found[..., [0, 2]], masks[[3, 1]][..., ::-1])
    assert not found[..., 1].any()
