"""Tables as programs write them: ragged lines, delimiters, encodings, Parquet from others (cases 2, 16, 20)."""

import datetime
import io
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from field_cases import grey, pictures, read, reasons, rows
from PIL import Image
from pyarrow import parquet

from synthgain.datasets.cells import read_table
from synthgain.datasets.entries.options import TableFormat
from synthgain.datasets.entries.table import TableDataset
from synthgain.entry import checked
from synthgain.runtime.errors import SynthGainError
from synthgain.speed.documents import SizeSource
from synthgain.speed.sizes import dataset_sizes

LINES = ["image,patient,label", "0.png,p0,0", "1.png,p0,1", "2.png,p1,0", "3.png,p1,1"]
PLAIN = "\n".join(LINES)


def cells(root: Path, content: bytes | str, name: str = "t.csv", **form: str) -> dict[str, list[str]]:
    """Return the columns of a table file."""
    (root / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    found: dict[str, list[str]] = read_table(root / name, name, TableFormat(**form)).cells.to_dict("list")
    return found


@pytest.mark.parametrize(
    "content",
    [
        PLAIN.replace("0\n", "0,\n").replace("1\n", "1,\n") + ",",  # case 2: every row ends in a comma, the header not
        PLAIN.replace("label\n", "label,,\n"),  # the header alone
        "\n".join(line + "," for line in LINES) + "\n,,,\n\n",  # all, and empty lines at the end
        PLAIN.replace("\n", "\r\n"),
        PLAIN.replace("\n", "\r"),
        PLAIN.replace(",", ", "),
        PLAIN.replace(",", ";"),  # case 20
        PLAIN.replace(",", "\t"),
        PLAIN.replace(",", "|"),
        "sep=;\r\n" + PLAIN.replace(",", ";"),  # as Excel writes it
        PLAIN.encode("utf-16"),
        b"\xef\xbb\xbf" + PLAIN.encode(),
        PLAIN.encode("utf-32"),
        "\n\n" + PLAIN,
        PLAIN.replace("0.png", '"0.png"').replace("label", '"label"'),
    ],
)
def test_case_2_and_20_each_cell_stands_in_its_column(tmp_path: Path, content: str | bytes) -> None:
    pictures(tmp_path)
    got = read(tmp_path, content)
    assert got.table["image_id"].tolist() == ["0.png", "1.png", "2.png", "3.png"]
    assert got.table["patient_id"].tolist() == ["p0", "p0", "p1", "p1"]
    assert got.table["label"].tolist() == [0, 1, 0, 1]
    assert got.images[:, 0, 0, 0].tolist() == [0, 10, 20, 30]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (PLAIN.replace("1.png,p0,1", "1.png,p0"), "line 3 has 2 cells, the header 3"),
        (PLAIN.replace("1.png,p0,1", "1.png,p0,1,x"), "line 3 has 4 cells, the header 3; put a cell that holds"),
        (PLAIN.replace("1.png,p0,1", "1.png,p,0,1"), "line 3 has 4 cells, the header 3"),
        ("\n".join([LINES[0], *(f"{n},{line}" for n, line in enumerate(LINES[1:]))]), "name the column of row names"),
        ("My study\n" + PLAIN, "line 2 has 3 cells, the header 1; .*take out lines"),
        (PLAIN.replace("0.png,", '"0.png,'), "line .*quotation marks"),
        (PLAIN.replace("patient", "label"), "two columns are named 'label'"),
        ("", "the table is empty"),
        ("\n , \n", "the table is empty"),
        (LINES[0], "the table has no rows"),
        (PLAIN.replace(",", ";").replace("label", "a|b"), r"; and | stand in the header; declare"),
        (PLAIN.replace("p0", "pé").encode("latin-1"), "line 2 is not UTF-8; save it as UTF-8, or declare"),
        (PLAIN.encode("utf-16-le"), "holds zero bytes, as UTF-16 does"),
        (b"PK\x03\x04" + bytes(20), "an Excel sheet, not text"),
        (b"\x1f\x8b" + bytes(20), "holds gzip"),
        (b'{"image": "0.png"}', "holds JSON"),
        (b"PAR1" + bytes(20), "holds Parquet"),
    ],
)
def test_tables_of_doubt_are_refused_in_one_line(tmp_path: Path, content: str | bytes, message: str) -> None:
    pictures(tmp_path)
    with pytest.raises(SynthGainError, match=message.replace("|", r"\|")) as error:
        read(tmp_path, content)
    assert "\n" not in str(error.value)


def test_declared_formats_act(tmp_path: Path) -> None:
    assert cells(tmp_path, "a   b\nx y", delimiter="space") == {"a": ["x"], "b": ["y"]}
    assert cells(tmp_path, "a;b,c\nx;y,z", delimiter=";") == {"a": ["x"], "b,c": ["y,z"]}
    assert cells(tmp_path, "a,b\né,y".encode("latin-1"), encoding="latin-1") == {"a": ["é"], "b": ["y"]}
    assert cells(tmp_path, "a,b\nx,y".encode("utf-16-le"), encoding="utf-16-le") == {"a": ["x"], "b": ["y"]}
    with pytest.raises(SynthGainError, match=r"format\.encoding is latin-1, but the file starts as utf-16 does"):
        cells(tmp_path, "a,b".encode("utf-16"), encoding="latin-1")


def test_quoted_line_ends_unnamed_columns_and_composed_letters(tmp_path: Path) -> None:
    assert cells(tmp_path, 'a,b\n"x\ny","p ""q"" , r"') == {"a": ["x\ny"], "b": ['p "q" , r']}
    assert cells(tmp_path, ",a\n0,x\n1,y") == {"Unnamed: 0": ["0", "1"], "a": ["x", "y"]}  # an index of pandas
    assert cells(tmp_path, "cafe\u0301,b\nx,y") == {"café": ["x"], "b": ["y"]}
    assert cells(tmp_path, "a\tb\nx,1\ty", "t.tsv") == {"a": ["x,1"], "b": ["y"]}
    assert cells(tmp_path, "a,a,b\nx,x,y") == {"a": ["x"], "b": ["y"]}  # equal in every row


def png(value: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(grey(value)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("index", ["image", ["image", "patient"], "label"])
def test_case_16_the_index_of_a_parquet_file_is_a_column(tmp_path: Path, index: str | list[str]) -> None:
    pictures(tmp_path)
    got = read(tmp_path, rows().set_index(index), "t.parquet")
    assert got.table[["image_id", "patient_id"]].to_numpy().tolist()[1] == ["1.png", "p0"]
    assert got.table["label"].tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize("path", [True, False])
def test_case_16_pictures_in_a_parquet_file_are_read(tmp_path: Path, path: bool) -> None:
    held = [{"bytes": png(10 * row), **({"path": f"{row}.png"} if path else {})} for row in range(4)]
    got = read(tmp_path, rows().assign(image=held), "t.parquet")
    assert got.images[:, 3, 3, 0].tolist() == [0, 10, 20, 30]
    assert got.table["image_id"].tolist() == [f"{row}.png" if path else f"row-{row}" for row in range(4)]
    bare = read(tmp_path, rows().assign(image=[one["bytes"] for one in held]), "t.parquet")
    assert np.array_equal(bare.images, got.images)


def test_names_that_several_pictures_share_stay_several_images(tmp_path: Path) -> None:
    names = ["0.png", "0.png", "1.png", "1.png"]
    held = [{"bytes": png(value), "path": name} for value, name in zip([0, 10, 20, 20], names, strict=True)]
    got = read(tmp_path, rows().assign(image=held, label=["0", "1", "1", "1"]), "t.parquet", patient_id=None)
    assert got.table["image_id"].tolist() == ["0.png#row-0", "0.png#row-1", "1.png"]  # the last two are one picture
    assert got.images[:, 0, 0, 0].tolist() == [0, 10, 20]


def test_masks_in_a_parquet_file_and_pictures_that_are_only_named(tmp_path: Path) -> None:
    pictures(tmp_path)
    mask = np.zeros((16, 16), np.uint8)
    mask[:4] = 255
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, "PNG")
    named = [{"bytes": None, "path": f"{row}.png"} for row in range(4)]
    held = [{"bytes": buffer.getvalue(), "path": f"{row}.png"} for row in range(3)] + [None]
    table = rows().assign(image=named, outline=held)
    got = read(tmp_path, table, "t.parquet", mask=[{"column": "outline", "name": "lesion"}])
    assert got.table["has_mask_lesion"].tolist() == [True, True, True, False]
    assert got.masks is not None
    assert got.masks[0, :, 0, 0].tolist() == [1] * 4 + [0] * 12
    assert got.images[:, 0, 0, 0].tolist() == [0, 10, 20, 30]


def test_bytes_that_are_no_picture_and_absurd_ones_are_left_out(tmp_path: Path) -> None:
    bad = [b"\x89PNG\r\n\x1a\n" + bytes(30), b"\x00\x01", png(5), png(6)]
    got = read(tmp_path, rows().assign(image=bad), "t.parquet")
    assert len(got.table) == 2
    assert all("not a whole image file" in reason for reason in reasons(got).values())


def test_case_16_kinds_of_parquet_columns(tmp_path: Path) -> None:
    table = pa.table(
        {
            "whole": pa.array([1, None], pa.int64()),
            "float": pa.array([2.0, None]),
            "small": pa.array([0.1, 2.0], pa.float32()),
            "truth": pa.array([True, None]),
            "level": pa.array(["a", "b"]).dictionary_encode(),
            "day": pa.array([datetime.date(2020, 1, 2), None]),
            "stamp": pa.array([datetime.datetime(2020, 1, 2), datetime.datetime(2020, 1, 2, 3, 4)], pa.timestamp("ns")),
            "exact": pa.array([1, 2]).cast(pa.decimal128(22, 2)),
            "findings": pa.array([["Edema", "Effusion"], []]),
            "text": pa.array([b"plain", None]),  # a writer that marks no column as text
            "box": pa.array([{"x": 1, "size": {"w": 2}}, None]),
            "nothing": pa.nulls(2),
        }
    )
    parquet.write_table(table, tmp_path / "t.parquet")
    assert read_table(tmp_path / "t.parquet", "t.parquet", TableFormat()).cells.to_dict("list") == {
        "whole": ["1", ""], "float": ["2", ""], "small": ["0.1", "2"], "truth": ["true", ""], "level": ["a", "b"],
        "day": ["2020-01-02", ""], "stamp": ["2020-01-02", "2020-01-02 03:04:00"], "exact": ["1", "2"],
        "findings": ["Edema|Effusion", ""], "text": ["plain", ""], "box.x": ["1", ""], "box.size.w": ["2", ""],
        "nothing": ["", ""],
    }  # fmt: skip
    for odd in (pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())), pa.array([[[1]]])):
        parquet.write_table(pa.table({"odd": odd}), tmp_path / "odd.parquet")
        with pytest.raises(
            SynthGainError, match=r"odd\.parquet: column 'odd' holds .* which is not read; leave it out"
        ):
            read_table(tmp_path / "odd.parquet", "odd.parquet", TableFormat())


def test_csv_and_parquet_of_one_frame_are_one_table(tmp_path: Path) -> None:
    pictures(tmp_path)
    table = rows().assign(label=[0.0, 1.0, np.nan, 1.0], patient=[1.0, 1.0, 2.0, 2.0], sure=[True, False, True, True])
    options = {"covariates": {"sure": {"column": "sure", "kind": "binary"}}}
    one, other = read(tmp_path, table, **options), read(tmp_path, table, "t.parquet", **options)
    pd.testing.assert_frame_equal(one.table, other.table)
    assert one.table["patient_id"].tolist() == ["1", "1", "2", "2"]
    assert one.table["sure"].tolist() == [1, 0, 1, 1]


def test_the_forecast_counts_rows_as_the_reader_does(tmp_path: Path) -> None:
    given = {
        "adapter": "table",
        "table": "t.csv",
        "patient_id": None,
        "where": {"view": 1},
        "format": {"delimiter": ";"},
    }
    entry = checked(TableDataset, given, "datasets.a")
    (tmp_path / "t.csv").write_text("image;view\n0.png;1.0\n1.png;2\n2.png;1\n")
    source = SizeSource(manifest="none.json", identity="i", **entry.counted(None))
    assert dataset_sizes(tmp_path, {"a": source}, tmp_path)["a"].all == 2
