"""The sample grid: groups per condition, the picture, and the script from end to end."""

from pathlib import Path

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from devices import DEVICE
from generator_jobs import training_job, write_data
from job_inputs import new_job

from draw_sample_grid import (
    CONTOUR_COLOURS,
    MOST_PROMPTS,
    Panels,
    condition_groups,
    draw_grid,
    draw_sample_grid,
    prompt_groups,
)
from synthgain.generators.training import train_family
from synthgain.runtime.errors import SynthGainError

COLUMNS = [
    {"name": "finding", "kind": "binary"},
    {"name": "view", "kind": "category", "levels": ["AP", "PA", "lateral"]},
    {"name": "age", "kind": "continuous", "mean": 50.0, "sd": 10.0},
]


def test_groups_hold_the_rows_of_each_level() -> None:
    table = pd.DataFrame(
        {"finding": [1.0, 0.0, np.nan, 1.0], "view": ["AP", None, "PA", "AP"], "age": [20.0, 40.0, 60.0, 80.0]}
    )
    groups = {name: rows.tolist() for name, rows in condition_groups(table, COLUMNS)}
    assert groups == {
        "finding = 1": [0, 3],
        "finding = 0": [1],
        "view = AP": [0, 3],
        "view = PA": [2],
        "age ≤ 35": [0],
        "age ≥ 65": [3],
    }
    assert condition_groups(table, [])[0][1].tolist() == [0, 1, 2, 3]


def test_a_generator_of_texts_has_a_row_for_each_of_its_commonest_prompts() -> None:
    table = pd.DataFrame({"view": ["AP", "PA", "AP", "PA", "AP", "PA"]})
    prompts = ["a disc.", "b.", "a disc.", "c.", "a disc.", "b."]
    groups = [(name, rows.tolist()) for name, rows in prompt_groups(prompts, table, [], 0)]
    assert groups == [("a disc.", [0, 2, 4]), ("b.", [1, 5]), ("c.", [3])]
    with_columns = [name for name, _ in prompt_groups(prompts, table, COLUMNS[1:2], 0)]
    assert with_columns == ["a disc.", "b.", "c.", "view = AP", "view = PA"]
    assert prompt_groups(None, table, [], 0)[0][0] == "all"
    ages = [f"{age} years. no finding." for age in range(20, 60) for _ in range(3)]
    varied = prompt_groups([*ages, "30 years. effusion.", "31 years. edema."], pd.DataFrame(index=range(122)), [], 0)
    assert {"30 years. effusion.", "31 years. edema."} <= {name for name, _ in varied[:3]}, (
        "not one finding at ten ages"
    )
    many = prompt_groups([f"{number}." for number in range(50)], pd.DataFrame(index=range(50)), [], 0)
    assert len(many) == MOST_PROMPTS
    assert [name for name, _ in many] != sorted((name for name, _ in many), key=lambda name: int(name[:-1]))


def panels(count: int, channels: int, masks: np.ndarray | None = None) -> Panels:
    images = np.full((count, 8, 8, channels), 200, dtype=np.uint8)
    none = np.zeros((count, 8, 8, 0), dtype=np.uint8)
    return Panels(images, none if masks is None else np.repeat(masks[None], count, axis=0))


@pytest.mark.parametrize("channels", [1, 3])
def test_picture_is_written_whole(tmp_path: Path, channels: int) -> None:
    four = panels(4, channels)
    rows = [(panels(1, channels), four), (panels(3, channels), four)]
    draw_grid(tmp_path / "grid.png", ["one", "two"], rows, "title", [])
    picture = matplotlib.image.imread(tmp_path / "grid.png")
    assert picture.ndim == 3
    assert 0.05 < (picture[..., 0] < 0.9).mean() < 0.95  # grey images on white paper


def test_contours_surround_the_masks_in_their_colours(tmp_path: Path) -> None:
    masks = np.zeros((8, 8, 3), dtype=np.uint8)
    masks[2:5, 2:5, 0] = 1
    masks[:, :, 1] = 1  # fills the frame; the third is empty
    draw_grid(tmp_path / "grid.png", ["one"], [(panels(3, 1, masks), panels(4, 1, masks))], "title", ["a", "b", "c"])
    picture = matplotlib.image.imread(tmp_path / "grid.png")[..., :3]
    drawn = [
        (np.abs(picture - matplotlib.colors.to_rgb(colour)).max(axis=-1) < 0.1).sum() for colour in CONTOUR_COLOURS
    ]
    in_legend = drawn[2]
    assert drawn[0] > 5 * in_legend > 0
    assert drawn[1] > 5 * in_legend
    assert drawn[3] == 0


MASKS = {"structures": ["disc", "upper"]}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        MASKS | {"output": "image+mask"},
        MASKS | {"output": "mask"},
        MASKS | {"mask_by": "concatenation"},
    ],
    ids=["image", "image+mask", "mask", "mask condition"],
)
def test_script_draws_a_trained_snapshot_again_to_the_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict
) -> None:
    monkeypatch.setenv("SYNTHGAIN_DEVICE", DEVICE)
    inputs = write_data(tmp_path, masks=bool(changes), without_disc=(2,))
    training = training_job(tmp_path, inputs, training={"steps": 2}, **changes)
    train_family(training)
    entry = {
        "generator": "ddpm",
        "index": 0,
        "snapshot": 1,
        "condition_on": ["finding"],
        "columns": 4,
        "sampling": {"solver": "dpmpp_2m", "steps": 3},
        "seed": 0,
    }
    inputs = inputs | {"generators/ddpm/0/manifest.json": training.identity}
    pictures = []
    for name in ("first", "second"):
        job = new_job(entry, inputs, "code", "identity", tmp_path, [tmp_path / f"{name}.png"], threads=1)
        draw_sample_grid(job)
        pictures.append(job.outputs[0].read_bytes())
    assert pictures[0] == pictures[1]
    with pytest.raises(SynthGainError, match="no snapshot 7"):
        draw_sample_grid(
            new_job(entry | {"snapshot": 7}, inputs, "code", "identity", tmp_path, [tmp_path / "x.png"], 1)
        )
