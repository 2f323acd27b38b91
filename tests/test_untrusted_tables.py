"""Tables, names and headers from elsewhere: nothing in them reaches a path, a terminal, a sheet or a reader as code."""

import contextlib
import io
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from job_inputs import new_job
from mutations import EDITS, GREY, damaged, dicom
from PIL import Image
from pool_sources import make_request
from pydantic import TypeAdapter, ValidationError
from pydicom.datadict import dictionary_VR
from studies import tiny

from audit_datasets import audit_datasets
from export_pool import export_pool
from prepare_dataset import prepare_dataset
from synthgain.data.image_set import read_image_set, write_image_set
from synthgain.datasets.cells import text_table
from synthgain.datasets.columns import MAX_LEVEL
from synthgain.datasets.entries.options import MaskColumn
from synthgain.datasets.table import prepare
from synthgain.entry import Name
from synthgain.pools import imported
from synthgain.pools.conditions import PoolKeys
from synthgain.runtime.command import Job
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import write_manifest
from synthgain.study.load import parse_study

FUZZING = settings(max_examples=200, derandomize=True, database=None, deadline=None)
IMAGE = {"size": 16, "channels": 1, "fit": "pad", "intensity": "minmax"}
HOSTILE = [
    "$(touch pwned)", "`touch pwned`", "'; touch pwned; '", '"; touch pwned #', "a && touch pwned", "a\ntouch pwned",
    "../../../etc/passwd", "/etc/passwd", "{params.job}", "{{7*7}}", "%s%n", "--output", "-rf", "~", "*", "nul\0byte",
    "\x1b[2J\x1b]0;title\x07", "\u202egnp.exe", "\u2066x\u2069", "=HYPERLINK(\"http://x\")", "@SUM(A1)", "| x | y |",
    "<script>alert(1)</script>", "\ufeffx", "x" * 5_000, "é", "病院", "مستشفى", "NaN", "None", "1e999", "\\", "\\x1b",
]  # fmt: skip


def table_of(root: Path, columns: dict[str, list[Any]], name: str = "t.parquet") -> dict[str, Any]:
    """Write a table and return options that read it."""
    pd.DataFrame(columns).to_parquet(root / name)
    return {"table": name, "patient_id": "patient", "site": "site"}


def images(root: Path, count: int) -> list[str]:
    for row in range(count):
        Image.fromarray(np.random.default_rng(row).integers(0, 256, (20, 20), dtype=np.uint8)).save(root / f"{row}.png")
    return [f"{row}.png" for row in range(count)]


def hostile_table(root: Path) -> dict[str, Any]:
    """Write images and a table whose every text but the paths is hostile; return options that read it."""
    count = 2 * len(HOSTILE)
    columns: dict[str, list[Any]] = {"image": images(root, count)}
    columns["patient"] = [f"{text}{row}" for row, text in enumerate(HOSTILE * 2)]
    columns["name"] = [f"{row}{text}" for row, text in enumerate(HOSTILE * 2)]
    columns["site"] = columns["sex"] = HOSTILE * 2
    options = table_of(root, columns)
    unknown = {"missing": ["NaN", "None"]}  # a level of these names is asked about
    covariates = {"sex": {"column": "sex", "kind": "category", **unknown}}
    targets = {"kind_of": {"column": "sex", "kind": "category", **unknown}}
    return {**options, "image_id": "name", "covariates": covariates, "targets": targets}


def job_of(run: Path, output: str, slice_: dict[str, Any], inputs: dict[str, str] | None = None) -> Job:
    return new_job(slice_, inputs or {}, "c" * 32, "i" * 32, run, [run / output], 1)


def prepared(
    run: Path, name: str, options: dict[str, Any], root: Path, monkeypatch: pytest.MonkeyPatch, limit: float = 0.9
) -> Path:
    """Run prepare_dataset as the rule does, and return the data set's folder."""
    monkeypatch.setenv("SYNTHGAIN_DATA", str(root))
    slice_ = {"dataset": name, "module": "table", "options": options, "image": IMAGE, "seed": 0}
    slice_["max_quarantined_share"] = limit
    prepare_dataset(job_of(run, f"datasets/{name}/manifest.json", slice_))
    return run / "datasets" / name


def audited(run: Path, name: str) -> None:
    """Run audit_datasets as the rule does."""
    slice_ = {"datasets": [{"name": name, "split": False, "role": "test"}], "seed": 0, "fail_on": []}
    audit_datasets(job_of(run, "audit/audit.json", slice_, {f"datasets/{name}/manifest.json": "i" * 32}))


def readable(text: str) -> bool:
    """Whether nothing in `text` steers a terminal or turns the reading direction."""
    return all(character.isprintable() or character in "\n\r\t\u00a0\ufeff" for character in text)


@pytest.fixture(scope="module")
def hostile_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "data").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        options = hostile_table(folder / "data")
        prepared(folder / "run", "clinic", options, folder / "data", patch)
        audited(folder / "run", "clinic")
    return folder


def test_hostile_values_make_no_file_and_no_control_character(hostile_run: Path) -> None:
    run = hostile_run / "run"
    names = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
    inside = {"images.npy", "manifest.json", "quarantine.csv", "table.parquet"}
    audit = {"audit/audit.html", "audit/clinic.png", "audit/audit.json"}
    assert names == {f"datasets/clinic/{name}" for name in inside} | audit
    assert {path.name for path in hostile_run.iterdir()} == {"data", "run"}
    for name in sorted(names):
        if not name.endswith((".npy", ".png", ".parquet")):
            assert readable((run / name).read_text(encoding="utf-8")), name
    data = read_image_set(run / "datasets/clinic")
    for column in ("image_id", "patient_id", "site", "sex"):
        assert readable("".join(data.table[column].dropna())), column
    assert data.table["site"].str.contains(r"\x00", regex=False).any()  # written out, not lost
    assert (run / "audit/audit.html").read_text().count("<script") == 0


def test_cells_too_long_for_a_level_are_free_text(hostile_run: Path) -> None:
    folder = hostile_run / "run/datasets/clinic"
    assert max(map(len, read_image_set(folder).columns["sex"]["levels"])) <= MAX_LEVEL
    quarantine = pd.read_csv(folder / "quarantine.csv")
    assert len(quarantine) == 2
    assert quarantine["reason"].str.contains("at most 200 characters").all()
    assert quarantine["reason"].str.len().max() < 300


def test_the_line_of_too_many_quarantined_rows_is_short_and_readable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [f"{row}{text}" for row, text in enumerate(HOSTILE)]
    options = table_of(tmp_path, {"image": texts, "patient": texts, "site": texts})
    with pytest.raises(SynthGainError, match="33 of 33 rows quarantined") as error:
        prepared(tmp_path / "run", "clinic", options, tmp_path, monkeypatch)
    assert readable(str(error.value))
    assert len(str(error.value)) < 1_500
    assert not (tmp_path / "pwned").exists()


def test_text_is_kept_but_for_what_steers(tmp_path: Path) -> None:
    texts = ["a\tb", "ä", "x\u200dy", "a\nb", "1\u00a0000"]
    assert text_table(pd.DataFrame({"a": texts}))["a"].tolist() == texts
    steering = text_table(
        pd.DataFrame({"a": ["\x1b[0m", "\u202e", "\x00", "\udc80", "x\x85x", "a\rb", "a\r\nb"]}, dtype=object)
    )
    assert steering["a"].tolist() == ["\\x1b[0m", "\\u202e", "\\x00", "\\udc80", "x\\x85x", "a\\rb", "a\nb"]


def test_imported_pools_and_exports_name_their_files_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, run = tmp_path / "data", tmp_path / "run"
    root.mkdir()
    monkeypatch.setenv("SYNTHGAIN_DATA", str(root))
    monkeypatch.chdir(tmp_path)
    options = {name: value for name, value in hostile_table(root).items() if name != "patient_id"}
    request = make_request(None, tmp_path, keys=PoolKeys(0, "mine", 0, 1), options=options, image=IMAGE)
    drawn = imported.draw(request)
    folder = run / "pools/mine/0/replica-1"
    write_image_set(folder / "shard-0", drawn.images, drawn.table, drawn.columns, "i" * 32)
    facts = {"columns": drawn.columns, "column_order": list(drawn.columns), "mask_names": []}
    facts |= {"shape": list(drawn.images.shape), "shard_identities": {"shard-0": "i" * 32}}
    write_manifest(folder / "manifest.json", "i" * 32, [], shards=["shard-0"], images=len(drawn.images), **facts)
    name = "pools/mine/0/replica-1/manifest.json"
    evil = "</td><script>alert(1)</script>\n# Title | x ![](http://x/y.png)"
    slice_ = {"pool": "mine", "index": 0, "replicas": [1], "description": evil, "licence": evil, "config": {"a": evil}}
    export_pool(job_of(run, "exports/mine/0/manifest.json", slice_, {name: "i" * 32}))
    exported = run / "exports/mine/0"
    files = {path.name for path in (exported / "images").iterdir()} - {"metadata.csv"}
    assert files == {f"{image}.png" for image in drawn.table["image_id"]}
    assert all(file.removesuffix(".png").replace("-", "").isalnum() for file in files)
    page = (exported / "README.md").read_text(encoding="utf-8")
    assert readable(page)
    assert "<script" not in page
    assert "![](" not in page
    assert [line for line in page.splitlines() if line.startswith("#")] == [
        "# Synthetic images: mine", "## How it was made", "## What it holds", "## Before you share it",
    ]  # fmt: skip
    # Tables that programs read keep what the user wrote: a cell is not changed for the sake of a spreadsheet.
    table = pd.read_csv(exported / "images/metadata.csv", keep_default_na=False)
    assert "@SUM(A1)" in set(table["sex"])
    assert {path.name for path in tmp_path.iterdir()} == {"data", "run"} | {p.name for p in tmp_path.glob("state*")}


CELLS = st.one_of(st.sampled_from(HOSTILE), st.text(max_size=12), st.sampled_from(["", "-1", "1 1", "0.png"]))


def test_any_cells_give_rows_or_a_reason(tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.mktemp("cells")
    images(root, 3)
    columns = ["image", "mask", "runs", "patient", "site", "label", "age", "findings"]
    unknown = {"missing": ["NaN", "None"]}
    options = {
        "table": "t.csv",
        "patient_id": "patient",
        "mask": [
            MaskColumn(column="mask", name="a", allowed=[1]).model_dump(),
            MaskColumn(column="runs", name="b", encoding="rle_relative").model_dump(),
        ],
        "targets": {
            "label": {"column": "label", "kind": "category", **unknown},
            "sick": {"column": "label", "map": {"yes": 1, "no": 0}},
        },
        "covariates": {"age": {"column": "age", "kind": "continuous", "range": [0, 120], "bins": [0, 50, 120]}},
        "multilabel": {"column": "findings", "labels": ["a", "b"], "other": "quarantine", **unknown},
    }

    @FUZZING
    @given(st.lists(st.tuples(*[CELLS] * len(columns)), min_size=1, max_size=4))
    def run(rows: list[tuple[str, ...]]) -> None:
        table = pd.DataFrame(rows, columns=columns)
        table.loc[0, "image"] = "0.png"
        table.loc[len(table)] = [
            "1.png",
            "-1",
            "-1",
            "p",
            "s",
            "yes",
            "40",
            "a",
        ]  # columns of which something can be read
        text = table.to_csv(index=False).encode("utf-8", "replace")
        (root / "t.csv").write_bytes(text)
        with contextlib.suppress(SynthGainError):
            got = prepare(options, IMAGE, 0, root)
            assert len(got.table) == len(got.images)
            assert readable("".join(got.quarantine["reason"]))

    run()


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_damaged_tables_give_rows_or_one_line(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    root = tmp_path_factory.mktemp("tables")
    columns = {"image": images(root, 3), "patient": ["a", "b", None], "site": ["x", "y", "z"], "age": [1, 2, 3]}
    options = {**table_of(root, columns), "table": name}
    pd.DataFrame(columns).to_csv(root / "t.csv", index=False)
    whole = (root / name).read_bytes()
    said = []

    @FUZZING
    @given(EDITS)
    def run(edits: list[tuple[str, float, int, int]]) -> None:
        (root / name).write_bytes(damaged(whole, edits))
        try:
            prepare(options, IMAGE, 0, root)
        except SynthGainError as error:
            said.append(str(error))

    run()
    assert said
    assert "\n" not in "".join(said)


@pytest.mark.parametrize("suffix", [".csv.gz", ".csv.zip", ".csv.xz", ".csv.zst", ".tar"])
def test_compressed_tables_are_not_unpacked(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"t{suffix}").write_bytes(b"\x1f\x8b" + bytes(100))
    with pytest.raises(SynthGainError, match="compressed tables are not read"):
        prepare({"table": f"t{suffix}", "patient_id": None}, IMAGE, 0, tmp_path)


def test_a_small_parquet_file_of_very_many_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = table_of(
        tmp_path, {"image": [None] * 2_000_000, "patient": [None] * 2_000_000, "site": ["x"] * 2_000_000}
    )
    assert (tmp_path / "t.parquet").stat().st_size < 20_000
    monkeypatch.setattr("synthgain.datasets.cells.MAX_ROWS", 1_000_000)
    with pytest.raises(SynthGainError, match="promises 2,000,000 rows"):
        prepare(options, IMAGE, 0, tmp_path)


BAD_NAMES = [*HOSTILE, "", "A", "a b", "a-b", "a.b", "a/b", "a\n", "\na", "1a", "_a", "a" * 65, "ａ", "a\u0301"]


@pytest.mark.parametrize("name", BAD_NAMES, ids=ascii)
def test_names_that_become_folders_are_plain(name: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Name).validate_python(name)
    places: list[dict[str, Any]] = [{"study": name}]
    for place in ("datasets", "generators", "pools", "models", "arms"):
        config = tiny()
        config[place][name] = next(iter(config[place].values()))
        places.append({place: config[place]})
    for change in places:
        with pytest.raises(SynthGainError) as error:
            parse_study({**tiny(), **change})
        line = " ".join(str(error.value).split())
        assert "is not a name: small letters" in line
        assert readable(line)
        assert len(line) < 300


PERSONAL = [
    "PatientName", "PatientID", "PatientBirthDate", "PatientAddress", "PatientMotherBirthName",
    "PatientTelephoneNumbers",
    "OtherPatientIDs", "InstitutionName", "InstitutionAddress", "ReferringPhysicianName", "PerformingPhysicianName",
    "OperatorsName", "AccessionNumber", "StudyID", "StudyDescription", "SeriesDescription", "ProtocolName",
    "PatientComments", "ImageComments", "StationName", "DeviceSerialNumber", "RequestingPhysician", "StudyDate",
    "AcquisitionDateTime", "StudyTime", "PatientAge", "EthnicGroup", "Occupation", "AdditionalPatientHistory",
    "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID",
]  # fmt: skip
SENTINELS = {"DA": "19010203", "TM": "010203.45", "DT": "19010203040506", "AS": "117Y", "UI": "1.2.999.424242.7"}


def personal_tags() -> dict[str, str]:
    return {name: SENTINELS.get(dictionary_VR(name), f"Zz{place}Sentinel") for place, name in enumerate(PERSONAL)}


def test_personal_header_fields_stay_in_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    root, run = tmp_path / "data", tmp_path / "run"
    root.mkdir()
    tags = personal_tags()
    kinds: dict[str, dict[str, Any]] = {
        "whole": {}, "frames": {"NumberOfFrames": 3}, "absurd": {"Rows": 65535, "Columns": 65535},
        "palette": {"PhotometricInterpretation": "PALETTE COLOR"}, "short": {"PixelData": b"\0" * 10},
        "odd": {"WindowWidth": "-1", "WindowCenter": "3"}, "inf": {"RescaleSlope": "1e300", "RescaleIntercept": "0"},
    }  # fmt: skip
    for row in range(28):
        kind = list(kinds)[row % len(kinds)]
        content = dicom((GREY + row).astype(np.uint8), **tags, **kinds[kind])
        private = pydicom.dcmread(io.BytesIO(content))
        private.add_new(0x00091001, "LO", "ZzPrivateSentinel")
        private.file_meta.ImplementationVersionName = "ZzMetaSentinel"
        private.file_meta.MediaStorageSOPInstanceUID = "1.2.999.ZzUidSentinel"  # invalid, so that a parser complains
        private.preamble = b"ZzPreambleSentinel".ljust(128, b"\0")
        private.save_as(root / f"{row}.dcm")
        if row % 9 == 8:
            (root / f"{row}.dcm").write_bytes(damaged((root / f"{row}.dcm").read_bytes(), [("end", 0.7, 1, 0)]))
    held = b"".join(path.read_bytes() for path in root.iterdir())
    sentinels = [*set(tags.values()), "ZzPrivateSentinel", "ZzMetaSentinel", "ZzUidSentinel", "ZzPreambleSentinel"]
    assert all(word.encode() in held for word in sentinels)
    rows = {
        "image": [f"{row}.dcm" for row in range(28)],
        "patient": [f"p{row}" for row in range(28)],
        "site": ["a"] * 28,
    }
    options = table_of(root, rows)
    capfd.readouterr()
    caplog.clear()  # pydicom complained while the files were made
    log = logging.FileHandler(tmp_path / "py.log")
    logging.captureWarnings(True)
    for name in ("py.warnings", "pydicom", "synthgain"):
        logging.getLogger(name).addHandler(log)
        logging.getLogger(name).setLevel(logging.DEBUG)
    try:
        folder = prepared(run, "clinic", options, root, monkeypatch)
        audited(run, "clinic")
        with pytest.raises(SynthGainError, match="rows quarantined") as error:  # and the line of a run that stops
            prepared(run, "strict", options, root, monkeypatch, 0.0)
    finally:
        logging.captureWarnings(False)
        for name in ("py.warnings", "pydicom", "synthgain"):
            logging.getLogger(name).removeHandler(log)
    assert 0 < len(read_image_set(folder)) < 28
    said = "".join([*capfd.readouterr(), str(error.value), (tmp_path / "py.log").read_text(), caplog.text])
    written = b"".join(path.read_bytes() for path in run.rglob("*") if path.is_file())
    table = read_image_set(folder).table.to_csv()
    for word in sentinels:
        assert word not in said, word
        assert word.encode() not in written, word
        assert word not in table, word
    assert "Sentinel" not in said + table
