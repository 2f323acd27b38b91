"""`make study`: what is found in a folder or a table, what is guessed and said, and that the study is accepted."""

import re
import shlex
import shutil
import sys
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import start_study
from synthgain.runtime.errors import SynthGainError
from synthgain.starter.guessing import guess, named
from synthgain.starter.looking import look
from synthgain.starter.pictures import look_at
from synthgain.starter.sizes import CPU_BUDGET, Cost, Forecast, Sizes, fitted, usual
from synthgain.study.load import parse_study
from synthgain.study.yaml_files import parse_yaml


def draw(folder: Path, *names: str, channels: int = 1) -> None:
    for place, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shape = (36, 40) if channels == 1 else (36, 40, 3)
        Image.fromarray(np.random.default_rng(place).integers(0, 255, shape, dtype=np.uint8)).save(folder / name)


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that starts a study from a path below tmp_path: (its YAML, what was said)."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")

    def started(data: str, name: str = "") -> tuple[str, str]:
        path, said = start_study.start_study(tmp_path / data, name, measure=False)
        return path.read_text(encoding="utf-8"), said

    return started


def test_class_folders_become_a_study_that_is_planned_as_it_is(
    start: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = "/usr/bin"  # of a shell in which the environment is not active
    monkeypatch.setenv("PATH", path)
    draw(tmp_path / "My Chest Films", *(f"{k}/film {i}.PNG" for k in ("Normal", "Größe TB") for i in range(30)))
    (tmp_path / "My Chest Films/Thumbs.db").write_bytes(b"x")
    text, said = start("My Chest Films")
    study = parse_study(parse_yaml(text))
    assert study.study == "my_chest_films"
    assert study.image.size == 32
    assert study.models["classifier"].targets == ["gr_e_tb"]
    assert "map: {Normal: 0, Größe TB: 1}" in text
    assert re.search(r"patient_id: null +# \? nothing names the patient", text)
    assert "Thumbs.db" in text
    assert str(tmp_path) not in text, "a study holds no path of a machine"
    commands = [line.strip() for line in said.splitlines() if "--configfile" in line]
    ours = str(Path(sys.executable).with_name("snakemake"))
    assert {shutil.which(shlex.split(line)[0], path=path) for line in commands} == {ours}, "each runs as it is printed"
    assert [("audit" in line, "rehearsal=true" in line) for line in commands] == [(1, 0), (0, 1), (0, 0)]
    assert all(shlex.split(line)[-1 - ("rehearsal" in line)] == f"data_root={tmp_path}" for line in commands)


def test_nothing_is_overwritten(start: Any, tmp_path: Path) -> None:
    draw(tmp_path / "films", *(f"{k}/{i}.png" for k in "ab" for i in range(3)))
    start("films")
    Path("studies/films.yaml").write_text("mine")
    with pytest.raises(SynthGainError, match="is there already and is not overwritten; give another NAME"):
        start("films")
    assert Path("studies/films.yaml").read_text() == "mine"
    assert "study: other" in start("films", "other")[0]


def test_a_table_with_images_tells_labels_patients_and_covariates(start: Any, tmp_path: Path) -> None:
    folder = tmp_path / "My data"
    draw(folder, *(f"Images/{i}.png" for i in range(40)))
    table = pd.DataFrame(
        {
            "Path": [f"images\\{i}.png" for i in range(40)],
            "Patient ID": [f"p{i // 2}" for i in range(40)],
            "Diagnosis": ["pneumonia" if i % 4 == 0 else "normal" for i in range(40)],
            "Sex": ["F", "M"] * 20,
            "Patient Age": range(20, 60),
            "Hospital": ["north"] * 20 + ["south"] * 20,
            "comment": [f"text {i}" for i in range(40)],
        }
    )
    table["Path"] = table["Path"].str.replace("images", "Images")
    table.to_csv(folder / "all films.csv", index=False)
    text, _ = start("My data")
    ours = parse_study(parse_yaml(text)).datasets["my_data"]
    assert (ours.table, ours.image, ours.patient_id, ours.site) == (
        "My data/all films.csv",
        "Path",
        "Patient ID",
        "Hospital",
    )
    assert ours.targets["pneumonia"].map == {"normal": 0, "pneumonia": 1}
    assert {name: one.kind for name, one in ours.covariates.items()} == {"sex": "category", "age": "continuous"}
    assert "20 patients with 2 to 2 images each" in text


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_images_in_another_folder_than_the_table_s_are_found(start: Any, tmp_path: Path, suffix: str) -> None:
    draw(tmp_path / "set", *(f"png/{i}.png" for i in range(30)))
    table = pd.DataFrame({"file": [f"{i}.png" for i in range(30)], "y": [i % 2 for i in range(30)]})
    path = tmp_path / "set" / f"labels.{suffix}"
    if suffix == "jsonl":
        table.to_json(path, orient="records", lines=True)
    else:
        table.to_csv(path, index=False) if suffix == "csv" else table.to_parquet(path)
    text, _ = start(f"set/labels.{suffix}")
    ours = parse_study(parse_yaml(text)).datasets["set"]
    assert (ours.images, ours.image, list(ours.targets)) == ("set/png", "file", ["y"])


def test_part_folders_give_the_split_and_a_missing_part_is_cut(start: Any, tmp_path: Path) -> None:
    names = [f"{part}/{kind}/{i}.png" for part in ("Train", "Test") for kind in ("a", "b", "c") for i in range(4)]
    draw(tmp_path / "films", *names)
    text, _ = start("films")
    study = parse_study(parse_yaml(text))
    assert study.datasets["films"].split.column == "split"
    assert study.datasets["films"].split.validation == 0.2
    assert study.datasets["films"].targets["class"].levels == ["a", "b", "c"]
    assert "only 8 images are 'a'" in text


def test_a_wrapping_folder_is_entered_and_patients_in_names_are_guessed_and_said(start: Any, tmp_path: Path) -> None:
    names = [f"archive/data/{kind}/person{i // 2}_{kind}_{i}.png" for kind in ("sick", "healthy") for i in range(20)]
    draw(tmp_path / "download", *names)
    text, said = start("download")
    assert "folder: data" in text
    assert "# everything lies in 'data'" in text
    assert re.search(
        r"patient_id: \{pattern: .*\}  # a word and a number in the paths, such as 'person0'; 10 pat", text
    )
    assert "person0" in said


def test_images_with_masks_are_segmented(start: Any, tmp_path: Path) -> None:
    draw(tmp_path / "polyps", *(f"images/{i}.jpg" for i in range(10)), channels=3)
    for i in range(10):
        (tmp_path / "polyps/Masks").mkdir(exist_ok=True)
        Image.fromarray((np.eye(36, 40) * 255).astype(np.uint8)).save(tmp_path / f"polyps/Masks/{i}.png")
    text = start("polyps")[0]
    study = parse_study(parse_yaml(text))
    assert study.image.channels == 3
    assert study.models["segmenter"].structures == ["structure"]
    assert "# ? mask: what do the masks show? It is called 'structure' here" in text
    assert "# ? analysis.margin: which difference of Dice is too small to matter" in text, (
        "only AUROC has a usual margin"
    )


def test_hugging_face_metadata_are_read_as_such(start: Any, tmp_path: Path) -> None:
    draw(tmp_path / "hub", *(f"{i}.png" for i in range(30)))
    table = pd.DataFrame({"file_name": [f"{i}.png" for i in range(30)], "label": [i % 2 for i in range(30)]})
    table.to_csv(tmp_path / "hub/metadata.csv", index=False)
    ours = parse_study(parse_yaml(start("hub")[0])).datasets["hub"]
    assert (ours.adapter, ours.targets["label"].column) == ("folder", "label")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "nothing to start from; looked for images .*class folders.*metadata.csv.*a table"),
        (["1.png", "2.png"], "2 images, and nothing to learn: no label and no mask; looked for"),
        (["1.png"], "data.csv has no column of image paths"),
    ],
)
def test_where_nothing_fits_one_line_says_what_was_looked_for(
    start: Any, tmp_path: Path, files: list[str], message: str
) -> None:
    (tmp_path / "films").mkdir()
    draw(tmp_path / "films", *files)
    if "has no column" in message:
        (tmp_path / "films/data.csv").write_text("path,label\n/home/anna/1.png,1\n")
        with pytest.raises(SynthGainError, match=message) as error:
            start("films/data.csv")
        assert "absolute paths" in str(error.value)
    else:
        with pytest.raises(SynthGainError, match=message) as error:
            start("films")
    assert "\n" not in str(error.value)


def test_a_name_that_no_study_can_have_is_refused_before_anything_is_measured(start: Any, tmp_path: Path) -> None:
    draw(tmp_path / "films", *(f"{k}/{i}.png" for k in "ab" for i in range(3)))
    with pytest.raises(SynthGainError, match="is not a name"):
        start("films", "My Study")


def test_what_cannot_be_told_is_asked() -> None:
    rows = pd.DataFrame(
        {"image": ["a1.png", "patient 2.png", "patient 3.png"] * 10, "kind": ["round", "square", "round"] * 10}
    )
    found = guess(rows, "image")
    assert found.patient is None
    assert found.patient_pattern is None
    assert any("Is that the patient" in question for question in found.questions)
    assert any("the other way round" in question for question in found.questions)
    assert any("is 'kind' what a classifier should predict?" in question for question in found.questions)


def test_a_clear_label_is_taken_before_findings_and_uncertain_ones_are_dropped() -> None:
    rows = pd.DataFrame(
        {
            "image": [f"{i}.png" for i in range(60)],
            "findings": ["A|B", "A", "None"] * 20,
            "label": ["1", "0", "-1"] * 20,
        }
    )
    assert [(one.name, one.uncertain) for one in guess(rows, "image").labels] == [("label", "-1")]
    assert guess(rows.drop(columns="label"), "image").findings == ("findings", "|", ["A", "B"])


@pytest.mark.parametrize(("text", "name"), [("My Films", "my_films"), ("2024 set", "x_2024_set"), ("site", "site_2")])
def test_names_are_made_that_a_study_takes(text: str, name: str) -> None:
    assert named(text) == name


def test_sixteen_bit_files_are_rescaled_and_unreadable_ones_named(tmp_path: Path) -> None:
    Image.fromarray(np.arange(480, dtype=np.uint16).reshape(20, 24)).save(tmp_path / "1.png")
    (tmp_path / "2.png").write_bytes(b"cut")
    found = look_at(tmp_path, ["1.png", "2.png"])
    assert (found.side, found.intensity, list(found.unread)) == (20, "percentile", ["2.png"])


def test_sizes_fit_the_forecast_by_fewer_steps_or_a_smaller_image() -> None:
    def forecast(config: Any) -> Cost:
        sizes = config["sizes"]
        seconds = price * sizes.generator_steps * sizes.side**2
        return Cost(seconds, f"{seconds:.0f}")

    def fit(price_of_it: float) -> Sizes:
        nonlocal price
        price = price_of_it
        return fitted(lambda sizes: {"sizes": sizes}, 256, False, forecast)

    price = 0.0
    assert fit(1e-6) == Sizes(64, 2, usual(64, False).generator_steps, usual(64, False).model_steps, "16")
    slower = fit(1e-4)
    assert (slower.side, slower.generator_steps) == (64, 2100)
    assert fit(1e-3).side == 32
    assert float(fit(1e-3).said) <= CPU_BUDGET


@pytest.mark.slow
def test_a_starter_study_is_measured_on_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw(tmp_path / "films", *(f"{kind}/{i}.png" for kind in ("sick", "healthy") for i in range(10)))
    monkeypatch.chdir(tmp_path)
    measured = []

    class Watched(Forecast):
        def __call__(self, config: Any) -> Cost:
            measured.append(super().__call__(config))
            return measured[-1]

    monkeypatch.setattr("synthgain.starter.start.Forecast", Watched)
    _, said = start_study.start_study(tmp_path / "films", "", measure=True)
    assert 0 < measured[-1].seconds < 2 * CPU_BUDGET
    assert measured[-1].said in said
    assert len(measured) <= 2, "speeds are measured once for each size tried"


def test_a_decomposed_name_in_the_folder_is_the_table_s(tmp_path: Path) -> None:
    draw(tmp_path / "set", unicodedata.normalize("NFD", "Bär.png"))
    (tmp_path / "set/t.csv").write_text(f"image,label\n{unicodedata.normalize('NFC', 'Bär.png')},1\n", encoding="utf-8")
    assert look(tmp_path / "set").image == "image"
