"""Values and ids in every spelling (cases 4, 5, 6, 13)."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from field_cases import pictures, read, reasons, rows

from split_dataset import split_dataset
from synthgain.data.image_set import write_image_set
from synthgain.datasets.entries.base import Split
from synthgain.datasets.entries.options import CovariateColumn, TargetColumn
from synthgain.datasets.entries.table import TableDataset
from synthgain.datasets.overlaps import shared_ids
from synthgain.datasets.source import Prepared
from synthgain.datasets.values import Lookup, id_key, number, spelling
from synthgain.entry import checked
from synthgain.runtime.errors import SynthGainError

NAN = float("nan")


def labels(got: Prepared, name: str = "label") -> list[float]:
    """Return a target with 9 for unknown."""
    return [float(value) for value in got.table[name].fillna(9)]


def target(**more: object) -> dict[str, dict[str, object]]:
    return {"label": {"column": "label", **more}}


@pytest.mark.parametrize("cell", ["-1", "-1.0", "-1.00", "-1e0", " -1.0 "])
@pytest.mark.parametrize("declared", [-1, -1.0, "-1", "-1.0"])
def test_case_4_the_uncertain_value_in_any_spelling(tmp_path: Path, cell: str, declared: str | float) -> None:
    pictures(tmp_path)
    table = rows(label=["0", cell, "1.0", "1"])
    got = read(tmp_path, table, targets=target(uncertain={"value": declared, "policy": "one"}))
    assert labels(got) == [0, 1, 1, 1]
    assert got.quarantine.empty


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize(
    "values", [[0, 1, 0, 1], [0.0, 1.0, 0.0, 1.0], [False, True, False, True], ["0", "1", "0.0", "1e0"]]
)
@pytest.mark.parametrize("mapped", [{}, {"1": 1, "0": 0}, {"1.0": "1", "0.0": "0"}, {"true": 1, "false": 0}])
def test_case_4_one_number_in_csv_parquet_and_config(
    tmp_path: Path, kind: str, values: list[object], mapped: dict[str, object]
) -> None:
    pictures(tmp_path)
    got = read(tmp_path, rows().assign(label=values), f"t.{kind}", targets=target(map=mapped))
    assert labels(got) == [0, 1, 0, 1]
    assert got.quarantine.empty


def test_case_4_in_where_levels_and_missing(tmp_path: Path) -> None:
    pictures(tmp_path)
    table = rows(view=["1", "1.0", "2", "TRUE"], grade=["2.0", "1", "3", "2"])
    assert read(tmp_path, table, where={"view": 1}).table["image_id"].tolist() == ["0.png", "1.png", "3.png"]
    grade = {"grade": {"column": "grade", "kind": "category", "levels": ["1", "2", "3"], "missing": ["3.0"]}}
    got = read(tmp_path, table, covariates=grade)
    assert got.table["grade"].tolist() == ["2", "1", None, "2"]
    found = read(tmp_path, table, covariates={"grade": {"column": "grade"}})
    assert found.columns["grade"]["levels"] == ["1", "2", "3"]
    assert found.table["grade"].tolist() == ["2", "1", "3", "2"]


def test_spellings_of_one_value() -> None:
    assert {spelling(text) for text in ("1", "1.0", "1.", "+1", "1e0", "10e-1", "1.000")} == {"1"}
    assert [spelling(text) for text in ("007", "1.5", "True", "-0", "1e5x", "e5", ".", "", "1_0", "٣")] == [
        "007", "1.5", "true", "0", "1e5x", "e5", ".", "", "1_0", "٣",
    ]  # fmt: skip
    with pytest.raises(ValueError, match=r"'1' and '1\.0' are one value and mean two things"):
        Lookup({"1": "a", "1.0": "b"})
    assert "01" not in Lookup({"1": "a"})


@pytest.mark.parametrize(
    ("mapped", "expected"),
    [({"": 0, "x": 1}, [0, 1, 0, 1]), ({"x": 1, "y": 0}, [9, 1, 9, 1]), ({"": 1, "x": ""}, [1, 9, 1, 9])],
)
def test_case_5_blank_cells_are_what_the_map_says(
    tmp_path: Path, mapped: dict[str, object], expected: list[int]
) -> None:
    pictures(tmp_path)
    got = read(tmp_path, rows(label=["", "x", "  ", "x"]), targets=target(map=mapped))
    assert labels(got) == expected


def test_case_5_blank_cells_in_where_and_uncertain(tmp_path: Path) -> None:
    pictures(tmp_path)
    table = rows(label=["", "1", "0", "1"], view=["PA", "", "", "PA"])
    assert read(tmp_path, table, where={"view": ""}).table["image_id"].tolist() == ["1.png", "2.png"]
    assert labels(read(tmp_path, table, targets=target(uncertain={"value": "", "policy": "zero"}))) == [0, 1, 0, 1]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"bins": [0, 1]}, "bins: is for kind: continuous, not for category"),
        ({"range": [0, 1]}, "range: is for kind: continuous"),
        ({"kind": "continuous", "levels": ["a"]}, "levels: are for kind: category"),
        ({"kind": "continuous", "range": [5, 1]}, "give .smallest, largest."),
        ({"kind": "continuous", "bins": [5, 1]}, "two rising numbers"),
        ({"kind": "continuous", "map": {">89": "old"}}, "a continuous value is a number"),
        ({"kind": "binary", "map": {"a": 2}}, "a binary value is 0 or 1"),
        ({"levels": ["a"], "map": {"x": "b"}}, "not among the levels"),
        ({"map": {"1": "a", "1.0": "b"}}, "one value and mean two things"),
        ({"map": {"NA": "a"}, "missing": ["NA"]}, "stands in the map too"),
        ({"levels": ["1", "1.0"]}, "one value and mean two things"),
    ],
)
def test_case_5_options_that_cannot_act_are_refused_while_planning(spec: dict[str, object], message: str) -> None:
    with pytest.raises(SynthGainError, match=message):
        checked(CovariateColumn, {"column": "x", **spec}, "covariates.x")
    given = {"adapter": "table", "table": "t.csv", "patient_id": None, "several_rows": "any"}
    with pytest.raises(SynthGainError, match="any is for binary targets"):
        checked(TableDataset, {**given, "targets": {"x": {"column": "x", "kind": "category"}}}, "datasets.a")
    with pytest.raises(SynthGainError, match=r"uncertain\.value: '-1' stands in map or missing too"):
        checked(TargetColumn, {"column": "x", "uncertain": {"value": -1.0}, "missing": ["-1"]}, "t")
    for split, why in (
        ({"column": "part", "map": {"1": "train", "1.0": "test"}}, "one value and mean two things"),
        ({"column": "part", "train": 0.5}, "leave out train and test"),
        ({"train": 0.5, "validation": 0.2, "test": 0.3, "map": {"a": "train"}}, "map: is for a split that is read"),
    ):
        with pytest.raises(SynthGainError, match=why):
            checked(Split, split, "split")
    with pytest.raises(SynthGainError, match=r"uncertain\.policy"):
        checked(TargetColumn, {"column": "x", "kind": "category", "uncertain": {"value": 1, "policy": "one"}}, "t")


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_case_6_one_patient_written_as_whole_number_and_as_decimal(tmp_path: Path, kind: str) -> None:
    pictures(tmp_path)
    got = read(tmp_path, rows(patient=["1", "1.0", "2", "2.00"]), f"t.{kind}")
    assert got.table["patient_id"].tolist() == ["1", "1", "2", "2"]
    assert got.facts["notes"] == ["2 patient ids are written in two ways and are one patient ('1 = 1.0', '2 = 2.00')"]


def test_case_6_ids_that_stay_as_they_are(tmp_path: Path) -> None:
    pictures(tmp_path)
    for ids in (["007", "07", "7", "8"], ["1.10", "1.1", "2.3", "2.30"], ["1.2.840.1", "1.2.840.10", "a", "b"]):
        assert read(tmp_path, rows(patient=ids)).table["patient_id"].tolist() == ids


@pytest.mark.parametrize(
    "pair", [("p1", "P1"), ("p 1", "p1"), ("7", "007"), ("７", "7"), ("ﬁ1", "fi1"), ("Straße", "STRASSE")]
)
def test_case_6_ids_alike_are_noted_and_have_one_key(tmp_path: Path, pair: tuple[str, str]) -> None:
    pictures(tmp_path)
    got = read(tmp_path, rows(patient=[*pair, "x", "y"]))
    assert got.table["patient_id"].nunique() == 4
    (note,) = got.facts["notes"]
    assert "1 patient ids differ from others only in spelling" in note
    assert all(repr(one)[1:-1] in note for one in pair)
    assert id_key(pair[0]) == id_key(pair[1])
    assert shared_ids(pd.Series([pair[0]]), pd.Series([pair[1], "z"])) == [" / ".join(pair)]


def test_case_6_ids_alike_stay_on_one_side_of_the_split(tmp_path: Path) -> None:
    from job_inputs import new_job

    count = 60
    ids = [f"p{row // 2}" if row % 2 else f"P{row // 2}" for row in range(count)]
    images = np.random.default_rng(0).integers(0, 255, (count, 16, 16, 1), dtype=np.uint8)
    table = pd.DataFrame(
        {"image_id": [f"{row}" for row in range(count)], "patient_id": ids, "site": "a", "origin": "real"}
    )
    write_image_set(tmp_path / "datasets/a", images, table, {}, "i" * 32, dataset="a")
    slice_ = {
        "dataset": "a", "fractions": {"train": 0.5, "validation": 0.2, "test": 0.3}, "column": None, "stratify": None,
        "split_seed": 0, "seed": 0,
    }  # fmt: skip
    inputs = {"datasets/a/manifest.json": "i" * 32}
    split_dataset(new_job(slice_, inputs, "c" * 32, "s" * 32, tmp_path, [tmp_path / "splits/a/manifest.json"], 1))
    split = pd.read_parquet(tmp_path / "splits/a/split.parquet")
    assert (split["part"].groupby(split["patient_id"].str.lower()).nunique() == 1).all()
    assert split["part"].nunique() == 3


def test_ids_that_a_spreadsheet_shortened_and_ids_that_are_none(tmp_path: Path) -> None:
    pictures(tmp_path)
    with pytest.raises(SynthGainError, match=r"patient_id '1\.23457E\+15' in column 'patient' is a number that a"):
        read(tmp_path, rows(patient=["1.23457E+15", "1.23457E+15", "2", "3"]))
    got = read(tmp_path, rows(patient=["NA", "nan", "", "p"]))
    assert got.table["patient_id"].tolist() == ["p"]
    assert list(reasons(got).values()) == ["no patient id ('NA')", "no patient id ('nan')", "no patient id"]


@pytest.mark.parametrize(
    ("cell", "years"),
    [("045Y", 45), ("18M", 1.5), ("052W", 52 * 7 / 365.25), ("000D", 0), ("45", 45), ("45.50", 45.5), ("4.5e1", 45),
     ("045", 45), ("+3", 3), (".5", 0.5), (">89", None), ("90+", None), ("45 years", None), ("1e999", None),
     ("0x1f", None), ("1,5", None), ("1_000", None), ("inf", None), ("٤٥", None)],
)  # fmt: skip
def test_case_13_numbers_and_ages(cell: str, years: float | None) -> None:
    assert number(cell) == (None if years is None else pytest.approx(years))


AGE = {"age": {"column": "age", "kind": "continuous", "range": [0, 120]}}


def test_case_13_ages_as_dicom_writes_them(tmp_path: Path) -> None:
    pictures(tmp_path)
    got = read(tmp_path, rows(age=["045Y", "006M", "90", "NA"]), covariates=AGE)
    assert got.table["age"].fillna(-1).tolist() == [45, 0.5, 90, -1]
    assert got.facts["impossible_values"] == {}


@pytest.mark.parametrize(
    ("ages", "message"),
    [
        (
            [">89", "90+", "old", ""],
            r"age \(column age\): no cell is a number within 0 to 120 \(it holds '90\+', '>89'",
        ),
        (["16425", "20000", "18000", ""], "no cell is a number within 0 to 120"),
        (["45,5", "30", "31", "32"], "is the comma a decimal one.*decimal"),
        (["2020-01-01", "2020-02-01", "x", "y"], "no cell is a number"),
    ],
)
def test_case_13_a_column_of_which_nothing_can_be_read_stops(tmp_path: Path, ages: list[str], message: str) -> None:
    pictures(tmp_path)
    with pytest.raises(SynthGainError, match=message):
        read(tmp_path, rows(age=ages), covariates=AGE)


def test_case_13_what_cannot_be_read_in_part_is_counted_and_named(tmp_path: Path) -> None:
    pictures(tmp_path)
    got = read(tmp_path, rows(age=["45", ">89", "431", "?"]), covariates=AGE)
    assert got.table["age"].fillna(-1).tolist() == [45, -1, -1, -1]
    assert got.facts["impossible_values"] == {"age": 2}
    assert got.facts["notes"] == [
        "age: 1 cells are no numbers ('>89') and became unknown",
        "age: 1 cells lie outside 0 to 120 ('431') and became unknown",
    ]
    mapped = read(tmp_path, covariates={"age": {**AGE["age"], "map": {">89": 90}, "missing": ["431"]}})
    assert mapped.table["age"].fillna(-1).tolist() == [45, 90, -1, -1]
    assert mapped.facts["notes"] == []


def test_decimal_commas_where_they_are_declared(tmp_path: Path) -> None:
    pictures(tmp_path)
    got = read(tmp_path, rows(age=["45,5", "30", "-1,5e1", "1,25"]), format={"decimal": ","},
               covariates={"age": {"column": "age", "kind": "continuous"}})  # fmt: skip
    assert got.table["age"].tolist() == [45.5, 30, -15, 1.25]


@pytest.mark.parametrize(
    ("column", "spec", "message"),
    [
        (["F", "M", "NA", "F"], {}, "is 'NA' a level or unknown"),
        (["F", "M", "f", "F"], {}, "'F' and 'f' differ only in spelling"),
        (["F", "M", "-", "F"], {}, "is '-' a level or unknown"),
        (["yes", "no", "no", "no"], {"kind": "binary"}, "no cell is 0 or 1 .*'no', 'yes'.*give it a `map`"),
        (["yes", "no", "no", "no"], {"levels": ["a", "b"]}, "no cell is one of the levels"),
    ],
)
def test_levels_of_doubt_stop_the_run(tmp_path: Path, column: list[str], spec: dict[str, object], message: str) -> None:
    pictures(tmp_path)
    with pytest.raises(SynthGainError, match=message):
        read(tmp_path, rows(sex=column), covariates={"sex": {"column": "sex", **spec}})


def test_declared_missing_words_are_unknown_and_declared_levels_are_levels(tmp_path: Path) -> None:
    pictures(tmp_path)
    table = rows(sex=["F", "M", "NA", "-"], label=["0", "1", "NA", "1"])
    got = read(
        tmp_path, table, covariates={"sex": {"column": "sex", "missing": ["NA", "-"]}}, targets=target(missing=["NA"])
    )
    assert got.table["sex"].tolist() == ["F", "M", None, None]
    assert labels(got) == [0, 1, 9, 1]
    kept = read(tmp_path, covariates={"sex": {"column": "sex", "levels": ["F", "M", "NA", "-"]}}, targets={})
    assert kept.table["sex"].tolist() == ["F", "M", "NA", "-"]
    assert "or list it under `missing`" in reasons(read(tmp_path))["2.png"]


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (["Edema|Mass", "edema", "Mass", ""], "'edema' and the label 'Edema' differ only in spelling"),
        (["Edema, Mass", "Mass", "Mass", ""], r"'Edema, Mass' is not divided by '\|'"),
        (["Edema", "None", "Mass", ""], "list 'None' under `missing` .unknown. or `negative`"),
        (["a", "b", "c", ""], "no row has any of the labels"),
    ],
)
def test_findings_that_are_nearly_what_is_listed_stop_the_run(tmp_path: Path, cells: list[str], message: str) -> None:
    pictures(tmp_path)
    with pytest.raises(SynthGainError, match=message):
        read(tmp_path, rows(findings=cells), multilabel={"column": "findings", "labels": ["Edema", "Mass"]})


def test_a_column_of_empty_cells_is_named(tmp_path: Path) -> None:
    pictures(tmp_path)
    got = read(tmp_path, rows(sex=["", "", "", ""]), covariates={"sex": {"column": "sex"}})
    assert got.facts["notes"] == ["sex: every cell of column sex is empty; all its values are unknown"]
