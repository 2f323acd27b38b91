"""Siblings of the cases from the field: other spellings of ids, numbers, findings and missing values; JSON lines."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from field_cases import pictures, read, reasons, rows

from synthgain.datasets.entries.options import MultiLabel, TableOptions
from synthgain.datasets.folder_layout import read_layout
from synthgain.datasets.split import SplitColumn, split_from_column
from synthgain.datasets.values import id_key, looks_missing, number, part_of, spelling
from synthgain.entry import checked
from synthgain.runtime.errors import SynthGainError


@pytest.mark.parametrize(
    "pair",
    [
        ("p1", "p\u200b1"), ("p1", "p\u00ad1"), ("p-1", "p–1"), ("p-1", "p−1"), ("P007", "P7"),
        ("site 02-1", "site 2-01"),
        ("1,234", "1234"), ("1'234", "1234"), ("'007", "7"), ('="007"', "7"), ("12.", "12"),
        ("2020-01-01", "2020-01-01 00:00:00"), ("2020-01-01", "2020-1-1"),
    ],
)  # fmt: skip
def test_ids_that_only_spreadsheets_and_typesetters_tell_apart_have_one_key(pair: tuple[str, str]) -> None:
    assert id_key(pair[0]) == id_key(pair[1])


@pytest.mark.parametrize("pair", [("1.05", "1.5"), ("p10", "p1"), ("p1-2", "p12"), ("a_1", "a1"), ("100", "1")])
def test_other_ids_stay_apart(pair: tuple[str, str]) -> None:
    assert id_key(pair[0]) != id_key(pair[1])


@pytest.mark.parametrize(
    "ids",
    [
        np.array([1.2345678901234567e18, 2.0, 3.0, 4.0]),  # a float that stands for 256 whole numbers
        np.array([2.0**53, 2.0, 3.0, 4.0]),
        np.array([20_000_000, 2, 3, 4], np.float32),
        ["1234567890123450000", "1234567890123460000", "1234567890123470000", "12"],  # 15 digits and zeros: Excel
    ],
)
def test_ids_that_lost_their_last_digits_are_refused(tmp_path: Path, ids: object) -> None:
    pictures(tmp_path)
    with pytest.raises(SynthGainError, match="shortened, or a float of too many digits"):
        read(tmp_path, rows().assign(patient=ids), "t.parquet")


def test_long_ids_and_large_numbers_stay_what_they_are(tmp_path: Path) -> None:
    pictures(tmp_path)
    ids = ["1234567890123456789", "1234567890123450000", "1234567890123460000", "12"]
    amounts = {"amount": {"column": "amount", "kind": "continuous"}}
    got = read(tmp_path, rows().assign(patient=ids, amount=[1e20, 2.5, 3, 2.0**60]), "t.parquet", covariates=amounts)
    assert got.table["patient_id"].tolist() == ids
    assert got.table["amount"].tolist() == pytest.approx([1e20, 2.5, 3, 2.0**60])


@pytest.mark.parametrize(
    ("cell", "value"), [("１２", 12.0), ("−5", -5.0), ("－１．５", -1.5), ("5²", None), ("½", None)]
)
def test_full_width_digits_and_the_typesetters_minus_are_numbers(cell: str, value: float | None) -> None:
    assert number(cell) == value
    assert value is None or spelling(cell) == f"{value:g}"


@pytest.mark.parametrize(
    ("cells", "form", "message"),
    [
        (["1 234", "2", "3", "4"], {}, "'1 234': take the separators of thousands out"),
        (["1'234", "2", "3", "4"], {}, "take the separators of thousands out"),
        (["1\u202f234,5", "2", "3", "4"], {}, "take the separators of thousands out"),
        (["1.234.567", "2", "3", "4"], {}, "take the separators of thousands out"),
        (["1.234,5", "2", "3", "4"], {}, "is the comma a decimal one"),
        (["1.234", "2", "3", "4"], {"decimal": ","}, "format.decimal is a comma; is the point another one"),
        (["1.234,5", "2", "3", "4"], {"decimal": ","}, "take the separators of thousands out"),
    ],
)
def test_separators_of_thousands_never_make_large_numbers_unknown(
    tmp_path: Path, cells: list[str], form: dict[str, str], message: str
) -> None:
    pictures(tmp_path)
    dose = {"dose": {"column": "dose", "kind": "continuous"}}
    with pytest.raises(SynthGainError, match=message):
        read(tmp_path, rows(dose=cells), covariates=dose, **({"format": form} if form else {}))


@pytest.mark.parametrize("word", ["#REF!", "#DIV/0!", "#VALUE!", "\\N", "n.a.", "(null)", "Not Available", "--", "??"])
def test_what_spreadsheets_and_databases_write_for_nothing_is_no_level(tmp_path: Path, word: str) -> None:
    assert looks_missing(word)
    pictures(tmp_path)
    with pytest.raises(SynthGainError, match="a level or unknown"):
        read(tmp_path, rows(sex=["F", "M", word, "F"]), covariates={"sex": {"column": "sex"}})


@pytest.mark.parametrize("cells", [["true", "1", "0", "0"], ["a\u200bb", "ab", "c", "c"], ["a–b", "a-b", "c", "c"]])
def test_levels_that_look_the_same_stop_the_run(tmp_path: Path, cells: list[str]) -> None:
    pictures(tmp_path)
    with pytest.raises(SynthGainError, match="differ only in spelling"):
        read(tmp_path, rows(view=cells), covariates={"view": {"column": "view"}})


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("Edema / Effusion", "is not divided by"), ("Edema and Effusion", "is not divided by"),
        ("Edema\nEffusion", "is not divided by"), ("Edema + Effusion", "is not divided by"),
        ("['Edema', 'Effusion']", "is not divided by"), ("Edema?", "differ only in spelling"),
        ("(Edema)", "differ only in spelling"),
    ],
)  # fmt: skip
def test_a_finding_that_stands_in_a_cell_is_never_read_as_absent(tmp_path: Path, cell: str, message: str) -> None:
    pictures(tmp_path)
    several = {"column": "found", "labels": ["Edema", "Effusion"], "delimiter": "|"}
    with pytest.raises(SynthGainError, match=message):
        read(tmp_path, rows(found=[cell, "Edema", "Effusion", "No Edema"]), targets={}, multilabel=several)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"labels": ["A", "A"]}, "'A' stands twice"),
        ({"labels": ["A"], "negative": ["A"]}, "'A' stands twice"),
        ({"labels": ["A"], "missing": ["A"]}, "'A' stands twice"),
        ({"labels": ["A"], "delimiter": ""}, "at least 1 character"),
    ],
)
def test_words_of_a_multilabel_column_that_cannot_act_are_refused_while_planning(
    words: dict[str, object], message: str
) -> None:
    with pytest.raises(SynthGainError, match=message):
        checked(MultiLabel, {"column": "found", **words}, "multilabel")


@pytest.mark.parametrize(
    ("table", "form", "message"),
    [
        ("t.parquet", {"delimiter": ";"}, "format.delimiter: is for CSV"),
        ("t.PQ", {"encoding": "latin-1"}, "format.encoding: is for CSV"),
        ("t.jsonl", {"delimiter": "tab"}, "format.delimiter: is for CSV"),
        ("t.jsonl", {"encoding": "latin-1"}, None), ("t.parquet", {"decimal": ","}, None),
    ],
)  # fmt: skip
def test_formats_of_tables_that_say_it_themselves_are_refused_while_planning(
    table: str, form: dict[str, str], message: str | None
) -> None:
    given = {"table": table, "patient_id": None, "format": form}
    if message is None:
        checked(TableOptions, given, "ours")
        return
    with pytest.raises(SynthGainError, match=message.split(": ")[1]):
        checked(TableOptions, given, "ours")


def test_json_lines_in_the_encodings_of_csv(tmp_path: Path) -> None:
    pictures(tmp_path)
    lines = '{"image": "0.png", "patient": "p\u2028é", "label": 0}\n{"image": "1.png", "patient": "q", "label": true}\n'
    for content, form in ((lines.encode("utf-16"), {}), (lines.encode(), {})):
        got = read(tmp_path, content, "t.jsonl", **form)
        assert got.table["patient_id"].tolist() == ["p\\u2028é", "q"]  # U+2028 ends no line of JSON
        assert got.table["label"].tolist() == [0.0, 1.0]
    latin = lines.replace("\u2028", "").encode("latin-1")
    assert read(tmp_path, latin, "t.jsonl", format={"encoding": "latin-1"}).table["patient_id"][0] == "pé"


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ('{"image": "1.png", "label": 0, "label": 1}', "line 2 is not read .the key 'label' is given twice"),
        ('{"a": {"b": 1}, "a.b": 2}', "line 2 is not read .the key 'a.b' is given twice"),
        ("{bad", "line 2 is not read"), ("[" * 100_000, "line 2 is not read .nested too deeply"),
        ('{"label": ' + "9" * 6000 + "}", "line 2 is not read"), ("[1]", "line 2 is not read .one JSON object"),
    ],
)  # fmt: skip
def test_json_lines_of_doubt_are_refused_with_their_line(tmp_path: Path, second: str, message: str) -> None:
    with pytest.raises(SynthGainError, match=message) as caught:
        read(tmp_path, '{"image": "0.png", "patient": "p", "label": 0}\n' + second + "\n", "t.jsonl")
    assert "\n" not in str(caught.value)


def test_a_header_below_the_first_line_is_named(tmp_path: Path) -> None:
    with pytest.raises(SynthGainError, match="The header must be the first line"):
        read(tmp_path, "Our study,,\nimage,patient,label\n0.png,p,0\n")


def test_known_empty_masks_in_any_spelling(tmp_path: Path) -> None:
    pictures(tmp_path)
    got = read(
        tmp_path, rows(mask=["1 3", "-1", "-1.0", ""]), mask=[{"column": "mask", "name": "a", "encoding": "rle"}]
    )
    assert got.table["has_mask_a"].tolist() == [True, True, True, False]
    assert got.masks is not None
    assert got.masks.sum(axis=(1, 2, 3)).tolist() == [3, 0, 0, 0]
    assert reasons(got) == {}


def test_a_column_of_pandas_floats_and_of_text_is_one_table(tmp_path: Path) -> None:
    pictures(tmp_path)
    frames = [rows().assign(label=kind) for kind in ([0.0, 1.0, np.nan, 1.0], pd.array([0, 1, None, 1], "Int64"))]
    for frame in frames:
        got = read(tmp_path, frame, "t.parquet")
        assert got.table["label"].tolist()[:2] == [0.0, 1.0]
        assert np.isnan(got.table["label"][2])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\n", "a Git LFS pointer.*git lfs pull"),
        (b"\n\n  <html><body>gone</body>", "it holds HTML"), (b"%PDF-1.4\n", "it holds PDF"),
        (b"\x93NUMPY\x01", "a NumPy array"), (b"\x89HDF\r\n", "HDF5"), (b"\x80\x02}q\0.", "a pickle"),
    ],
)  # fmt: skip
def test_what_people_take_for_a_table_is_named_as_what_it_is(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(SynthGainError, match=message):
        read(tmp_path, content)


def test_pictures_that_git_lfs_has_not_fetched_are_named_so(tmp_path: Path) -> None:
    pictures(tmp_path)
    (tmp_path / "0.png").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 12\n")
    assert reasons(read(tmp_path, rows())) == {"0.png": "is a Git LFS pointer: fetch the file (git lfs pull)"}


@pytest.mark.parametrize(
    ("word", "part"),
    [
        ("TRAIN", "train"), ("Training set", "train"), ("train_images", "train"), ("trn", "train"),
        ("Val", "validation"), ("valid-set", "validation"), ("dev", "validation"), ("testset", "test"),
        ("hold-out", "test"), ("ｔｅｓｔ", "test"),
        ("0", None), ("", None), ("set", None), ("fold 1", None), ("treatment", None), ("tested", None),
    ],
)  # fmt: skip
def test_words_for_a_part_are_the_same_in_columns_and_folders(tmp_path: Path, word: str, part: str | None) -> None:
    assert part_of(word) == part
    table = pd.DataFrame({"image_id": ["a", "b"], "patient_id": ["p", "q"], "split": ["train", word]})
    column, labels, rng = SplitColumn("split"), pd.DataFrame(index=range(2)), np.random.default_rng(0)
    if part is None:
        with pytest.raises(SynthGainError, match="not one of train, training"):
            split_from_column(table, np.arange(2), column, labels, rng)
        return
    assert split_from_column(table, np.arange(2), column, labels, rng)[0].tolist() == ["train", part]
    for name in (f"{word}/NORMAL/0.png", "train/NORMAL/1.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    layout = read_layout(tmp_path)
    assert layout.levels == ("split", "class")
    assert {row["split"] for row in layout.rows} == {"train", part}


def test_masks_are_paired_with_the_word_before_or_behind_the_name(tmp_path: Path) -> None:
    for name in ("images/a.jpg", "masks/mask_a.png", "images/b.jpg", "masks/b-seg.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [row["mask"] for row in read_layout(tmp_path).rows] == ["masks/mask_a.png", "masks/b-seg.png"]
