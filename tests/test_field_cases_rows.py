"""Several rows of one image, and paths from other systems (cases 17, 18)."""

import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from field_cases import SIDE, grey, pictures, read, reasons
from PIL import Image

from synthgain.data.image_set import write_image_set
from synthgain.datasets.audit import AuditedSet, audit_one, with_copies
from synthgain.datasets.audit_page import audit_page
from synthgain.datasets.files import find_file
from synthgain.datasets.pixels import UnreadableImage


def reader_table(**columns: list[str]) -> pd.DataFrame:
    """Three readers of 0.png, two of 1.png, one of 2.png; 3.png has two boxes."""
    images = ["0.png", "1.png", "0.png", "2.png", "0.png", "1.png", "3.png", "3.png"]
    label = ["1", "0", "1", "1", "0", "1", "0", "0"]
    patient = [f"p{image[0]}" for image in images]
    return pd.DataFrame({"image": images, "patient": patient, "label": label, **columns})


def known(root: Path, **options: object) -> dict[str, float]:
    """Return {image: label}, 9 for unknown."""
    got = read(root, **options)
    return dict(zip(got.table["image_id"], got.table["label"].fillna(9), strict=True))


def test_case_18_boxes_that_agree_are_one_row(tmp_path: Path) -> None:
    pictures(tmp_path)
    table = pd.DataFrame({"image": ["0.png", "0.png", "1.png"], "patient": ["a", "a", "b"], "label": ["1", "1", "0"]})
    got = read(tmp_path, table.assign(x=["3", "7", ""]))
    assert got.table["image_id"].tolist() == ["0.png", "1.png"]
    assert got.table["label"].tolist() == [1, 0]
    assert got.quarantine.empty
    assert got.facts["notes"] == ["1 more rows of images that have several were joined to the first"]


def test_case_18_no_reader_wins_without_a_declared_rule(tmp_path: Path) -> None:
    pictures(tmp_path)
    got = read(tmp_path, reader_table())
    assert got.table["image_id"].tolist() == ["2.png", "3.png"]
    assert reasons(got) == {
        "0.png": "its 3 rows differ in label ('1', '1', '0'); declare `several_rows`",
        "1.png": "its 2 rows differ in label ('0', '1'); declare `several_rows`",
    }
    assert got.facts["conflicts"] == {"label": 2}
    assert got.facts["notes"][1] == (
        "label: rows of 2 images disagree ('0.png', '1.png'); these images are left out; `several_rows` says what else "
        "may count"
    )


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("majority", {"0.png": 1, "1.png": 9, "2.png": 1, "3.png": 0}),
        ("any", {"0.png": 1, "1.png": 1, "2.png": 1, "3.png": 0}),
        ("agree", {"0.png": 9, "1.png": 9, "2.png": 1, "3.png": 0}),
    ],
)
def test_case_18_a_declared_rule_decides(tmp_path: Path, rule: str, expected: dict[str, float]) -> None:
    pictures(tmp_path)
    reader_table().to_csv(tmp_path / "t.csv", index=False)
    assert known(tmp_path, several_rows=rule) == expected


def test_case_18_order_of_rows_changes_nothing(tmp_path: Path) -> None:
    pictures(tmp_path)
    for order in (slice(None), slice(None, None, -1)):
        reader_table().iloc[order].to_csv(tmp_path / "t.csv", index=False)
        assert known(tmp_path, several_rows="majority") == {"0.png": 1, "1.png": 9, "2.png": 1, "3.png": 0}
        assert sorted(reasons(read(tmp_path))) == ["0.png", "1.png"]


def test_findings_of_several_rows_are_joined_and_other_columns_must_agree(tmp_path: Path) -> None:
    pictures(tmp_path)
    table = reader_table(findings=["A", "B", "B", "A", "", "", "A", "B"], sex=["F", "M", "", "M", "F", "F", "M", "M"])
    options = {"multilabel": {"column": "findings", "labels": ["A", "B"]}, "targets": {}, "several_rows": "any"}
    got = read(tmp_path, table, covariates={"sex": {"column": "sex"}}, **options)
    assert got.table["image_id"].tolist() == ["0.png", "2.png", "3.png"]
    assert got.table[["A", "B"]].to_numpy().tolist() == [[1, 1], [1, 0], [1, 1]]
    assert got.table["sex"].tolist() == ["F", "M", "M"]
    assert reasons(got) == {"1.png": "its 2 rows differ in sex ('M', 'F')"}
    other = read(tmp_path, table.assign(patient=[f"q{row}" for row in range(8)]), **options)
    assert "its 3 rows differ in patient_id ('q0', 'q2', 'q4')" in reasons(other)["0.png"]


def test_masks_of_several_rows_are_joined_by_any_alone(tmp_path: Path) -> None:
    pictures(tmp_path)
    for name, part in (("a", slice(0, 4)), ("b", slice(8, 12))):
        mask = np.zeros((SIDE, SIDE), np.uint8)
        mask[part] = 255
        Image.fromarray(mask).save(tmp_path / f"{name}.png")
    table = pd.DataFrame({"image": ["0.png", "0.png", "1.png"], "patient": ["p", "p", "q"], "label": ["1", "1", "0"]})
    table["mask"] = ["a.png", "b.png", "-1"]
    options = {"mask": [{"column": "mask", "name": "lesion"}]}
    got = read(tmp_path, table, several_rows="any", **options)
    assert got.masks is not None
    assert got.masks[0, :, 0, 0].tolist() == [1] * 4 + [0] * 4 + [1] * 4 + [0] * 4
    assert not got.masks[1].any()
    table.loc[3] = ["2.png", "r", "0", ""]
    table["mask"] = ["a.png", "b.png", "", ""]
    left_out = read(tmp_path, table.assign(runs=["1 2", "5 1", "-1", ""]), **options, targets={})
    assert "name several masks of lesion; declare `several_rows: any`" in reasons(left_out)["0.png"]
    runs = read(tmp_path, mask=[{"column": "runs", "name": "lesion", "encoding": "rle"}])
    assert runs.masks is not None
    assert np.argwhere(runs.masks[0, :, :, 0]).tolist() == [[0, 0], [1, 0], [4, 0]]


def test_case_17_and_18_two_paths_of_one_file_are_one_image(tmp_path: Path) -> None:
    pictures(tmp_path)
    (tmp_path / "img").mkdir()
    Image.fromarray(grey(9)).save(tmp_path / "img/9.png")
    table = pd.DataFrame(
        {"image": ["img/9.png", "img\\9.png", "0.png"], "patient": ["a", "a", "b"], "label": list("110")}
    )
    got = read(tmp_path, table)
    assert got.table["image_id"].tolist() == ["0.png"]
    assert reasons(got) == {"img/9.png": r"its 2 rows differ in image ('img/9.png', 'img\\9.png')"}


def test_an_image_of_which_one_row_cannot_be_read_is_left_out_whole(tmp_path: Path) -> None:
    pictures(tmp_path)
    got = read(tmp_path, reader_table(label=["1", "0", "x", "1", "1", "0", "0", "0"]), several_rows="majority")
    assert list(reasons(got)) == ["0.png"]
    assert "'x' is neither 0 nor 1" in reasons(got)["0.png"]


@pytest.mark.parametrize(
    ("disk", "cell"),
    [
        ("img/000.png", "img\\000.png"),
        ("img/000.png", ".\\img\\000.png"),
        ("img/000.png", "./img/000.png"),
        (unicodedata.normalize("NFD", "bücher/é.png"), "bücher/é.png"),
        ("bücher/é.png", unicodedata.normalize("NFD", "bücher/é.png")),
        (unicodedata.normalize("NFD", "ü/é.png"), "ü\\é.png"),
        ("a b/%20.png", "a b/%20.png"),
        ("a\\b.png", "a\\b.png"),  # a name that POSIX allows
    ],
)
def test_case_17_paths_of_other_systems_are_found(tmp_path: Path, disk: str, cell: str) -> None:
    path = tmp_path / disk
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(grey(50)).save(path)
    got = read(tmp_path, pd.DataFrame({"image": [cell], "patient": ["p"], "label": ["1"]}))
    assert got.quarantine.empty
    assert got.images[0, 0, 0, 0] == 50


@pytest.mark.parametrize(
    ("disk", "cell", "hint"),
    [
        ("img/A.PNG", "img/a.png", "there is 'img/A.PNG'"),
        ("img/a b.png", "img/a%20b.png", "there is 'img/a b.png'"),
        ("img/a.png ", "img/a.png", "there is 'img/a.png '"),
        ("img/a.jpg", "img/a.png", "there is 'img/a.jpg'"),
        ("img/a.png", "img/a", "there is 'img/a.png'"),
        ("a.png", "img/a.png", "there is 'a.png'"),
        ("img/a.png", "img/b.png", "file not found$"),
        ("img/a.png", "C:\\data\\img\\a.png", "absolute"),
        ("img/a.png", "/data/img/a.png", "absolute"),
        ("img/a.png", "..\\img\\a.png", "absolute or holds"),
        ("img/a.png", "\\\\server\\img\\a.png", "absolute"),
    ],
)
def test_case_17_what_is_nearly_right_is_named(tmp_path: Path, disk: str, cell: str, hint: str) -> None:
    (tmp_path / disk).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / disk).write_bytes(b"x")
    with pytest.raises(UnreadableImage, match=hint):
        find_file(tmp_path, cell)


def test_case_18_conflicts_stand_on_the_audit_page_and_in_its_json(tmp_path: Path) -> None:
    pictures(tmp_path)
    got = read(tmp_path, reader_table(), several_rows="majority")
    data = write_image_set(tmp_path / "a", got.images, got.table, got.columns, "i" * 32, dataset="a", **got.facts)
    empty = pd.DataFrame({"image": [], "reason": []})
    audited = with_copies(AuditedSet("a", data, np.full(len(data), "test", dtype=object), empty))
    facts = audit_one(audited)
    assert facts["conflicts"] == {"label": 2}
    page = audit_page({"datasets": {"a": {"role": "test", **facts}}, "between": [], "excluded": {}}, {})
    assert (
        "label: rows of 2 images disagree (&#39;0.png&#39;, &#39;1.png&#39;); most rows count, a tie is unknown."
        in page
    )
