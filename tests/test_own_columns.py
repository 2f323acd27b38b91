"""A table's own columns may be called what SynthGain's are: none is lost or mixed up, or the name is refused."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from evaluation_run import COLUMNS, make_job, pictures, write_real
from test_folder_adapter import draw, read

from synthgain.datasets.entries.options import RowOptions
from synthgain.entry import checked
from synthgain.evaluation.inputs import groups_of, read_real
from synthgain.readers.options import Panel
from synthgain.report.evidence import DatasetEvidence
from synthgain.report.facts import ColumnFacts, DatasetFacts
from synthgain.report.sections.study import _parts
from synthgain.runtime.errors import SynthGainError


def test_a_label_called_part_keeps_its_shares_in_the_report() -> None:
    table = pd.DataFrame({"image_id": ["a", "b", "c"], "patient_id": ["p", "q", "r"], "part": [1.0, 0.0, 0.0]})
    split = pd.DataFrame({"image_id": ["c", "a", "b"], "part": ["test", "train", "train"]})
    dataset = DatasetEvidence(DatasetFacts(identity="", columns={"part": ColumnFacts(kind="binary")}), table, table)
    assert [(row["part"], row["images"], row["part %"]) for row in _parts("a", dataset, split)] == [
        ("train", 2, 50.0),
        ("test", 1, 0.0),
    ]


def test_covariates_called_part_and_dataset_make_the_groups_of_fidelity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    levels = {"part": ["arm", "leg"], "dataset": ["new", "old"]}
    for name, known in levels.items():
        monkeypatch.setitem(COLUMNS, name, {"role": "covariate", "kind": "category", "levels": known})
    images, table = pictures(20, seed=1)
    table = table.assign(part=["arm", "leg"] * 10, dataset=["new"] * 5 + ["old"] * 15)
    write_real(tmp_path, images, table)
    real = read_real(make_job(tmp_path, "fidelity/p/0/manifest.json", {}), ["a"])
    assert len(real.rows_of("train")) == 10
    groups = groups_of(real.table, list(levels), real.columns, {})
    assert [int(groups[name].sum()) for name in ("part=arm", "part=leg", "dataset=new", "dataset=old")] == [
        10,
        10,
        5,
        15,
    ]


def test_metadata_of_a_folder_may_have_any_columns(tmp_path: Path) -> None:
    folder = tmp_path / "My Films"
    draw(folder, "1.png", "2.png", "3.png")
    own = {"found": ["nodule", "none"], "described": ["well", "badly"], "file_name_described": ["x", "y"]}
    pd.DataFrame({"file_name": ["1.png", "2.png"], **own}).to_csv(folder / "metadata.csv", index=False)
    kinds = {name: {"column": name, "kind": "category", "levels": levels} for name, levels in own.items()}
    found = read(tmp_path, targets={"found": kinds.pop("found")}, covariates=kinds)
    assert {name: found.table[name].tolist() for name in own} == own
    assert found.quarantine["image"].tolist() == ["3.png"]


@pytest.mark.parametrize("name", ["seed", "replica", "copy", "prompt", "parent_image_id", "has_mask_lung"])
@pytest.mark.parametrize("key", ["targets", "covariates", "constants"])
def test_a_name_that_pools_write_themselves_is_refused_while_planning(key: str, name: str) -> None:
    given: dict[str, Any] = {key: {name: "a" if key == "constants" else {"column": "x"}}}
    with pytest.raises(SynthGainError, match=f"{key}: a target or covariate cannot be named '{name}'; choose another"):
        checked(RowOptions, given, "datasets.a")


@pytest.mark.parametrize("name", ["value", "source", "position"])
def test_a_finding_called_like_a_column_of_the_key_is_refused_while_planning(name: str) -> None:
    given = {"items": {"real": {"a": 9}, "pools": {"p": 9}}, "questions": ["finding"], "findings": [name]}
    with pytest.raises(SynthGainError, match=f"findings: '{name}' is a column of keys or ratings"):
        checked(Panel, given, "readers.panel")
