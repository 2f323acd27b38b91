"""prepare_dataset, split_dataset and audit_datasets as jobs and as commands."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from job_inputs import inputs_at, new_job
from PIL import Image

from audit_datasets import audit_datasets
from prepare_dataset import prepare_dataset
from split_dataset import split_dataset
from synthgain.data.image_set import read_image_set
from synthgain.runtime.command import Job
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import read_json, read_table

SCRIPTS = Path(__file__).parent.parent / "workflow_scripts"
IMAGE = {"size": 32, "channels": 1, "fit": "pad", "intensity": "none"}
OPTIONS = {
    "table": "table.csv",
    "patient_id": "person",
    "targets": {"opacity": {"column": "label"}},
    "keep": ["fold"],
}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(60):
        Image.fromarray(rng.integers(0, 255, (32, 32), dtype=np.uint8)).save(folder / f"{i}.png")
    pd.DataFrame(
        {
            "image": [f"{i}.png" for i in range(60)],
            "label": [i // 2 % 2 for i in range(60)],
            "person": [f"p{i // 2}" for i in range(60)],
            "fold": ["train" if i < 40 else "test" for i in range(60)],
        }
    ).to_csv(folder / "table.csv", index=False)
    monkeypatch.setenv("SYNTHGAIN_DATA", str(folder))
    return folder


def prepare_slice(**change: Any) -> dict[str, Any]:
    slice_ = {"dataset": "a", "module": "table", "options": OPTIONS, "image": IMAGE}
    return {**slice_, "max_quarantined_share": 0.0, "seed": 0, **change}


def prepare_job(run: Path, name: str = "a", **change: Any) -> Job:
    slice_ = prepare_slice(dataset=name, **change)
    return new_job(slice_, {}, "code", f"data-{name}", run, [run / f"datasets/{name}/manifest.json"], 2)


def split_job(run: Path, name: str = "a", **change: Any) -> Job:
    slice_ = {"dataset": name, "fractions": {"train": 0.5, "validation": 0.2, "test": 0.3}, "seed": 0, **change}
    inputs = {f"datasets/{name}/manifest.json": f"data-{name}"}
    return new_job(slice_, inputs, "code", f"split-{name}", run, [run / f"splits/{name}/manifest.json"], 1)


def audit_job(run: Path, **change: Any) -> Job:
    sets = [{"name": "a", "split": True, "role": "training"}, {"name": "b", "split": False, "role": "test"}]
    inputs = {
        "datasets/a/manifest.json": "data-a",
        "datasets/b/manifest.json": "data-b",
        "splits/a/manifest.json": "split-a",
    }
    return new_job({"datasets": sets, "seed": 0, **change}, inputs, "code", "audit", run, [run / "audit/audit.json"], 1)


def test_from_table_to_audit(root: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    prepare_dataset(prepare_job(run))
    prepare_dataset(prepare_job(run, "b"))  # the same images as another hospital: its test set must lose some
    split_dataset(split_job(run))
    with pytest.raises(SynthGainError, match="60 of the 60 test images of 'b' are films or patients of 'a' too"):
        audit_datasets(audit_job(run))
    wanted = [{"name": "a", "split": True, "role": "training"}, {"name": "b", "split": False, "shares_films": "seen"}]
    audit_datasets(audit_job(run, datasets=wanted))
    data = read_image_set(run / "datasets/a", "data-a")
    assert data.images.shape == (60, 32, 32, 1)
    split = read_table(run / "splits/a/split.parquet", "split-a")
    assert split["image_id"].tolist() == data.table["image_id"].tolist()
    assert split.groupby("patient_id")["part"].nunique().max() == 1
    facts = read_json(run / "splits/a/manifest.json")
    for part, images in {"train": 30, "validation": 12, "test": 18}.items():
        assert abs(facts["parts"][part]["images"] - images) <= 2  # one patient
    assert facts["unit"] == "patient"
    audit = read_json(run / "audit/audit.json")
    learned = split.loc[split["part"] != "test", "image_id"]
    assert audit["excluded"] == {"b": sorted(learned)}
    assert audit["between"][0]["shared_patient_ids"] == 30
    for name in ("audit.html", "a.png", "b.png"):
        assert (run / "audit" / name).stat().st_size > 1000
    again = read_table(run / "splits/a/split.parquet")
    split_dataset(split_job(run))
    pd.testing.assert_frame_equal(read_table(run / "splits/a/split.parquet"), again)


def test_quarantine_below_the_share_goes_on_above_it_stops(root: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    (root / "3.png").write_bytes(b"broken")
    with pytest.raises(SynthGainError, match=r"a: 1 of 60 rows quarantined \(1.7 %\).*3.png: not a whole PNG"):
        prepare_dataset(prepare_job(run))
    kept = list((run / "state").rglob("quarantine.csv"))
    assert pd.read_csv(kept[0])["image"].tolist() == ["3.png"]
    assert not (run / "datasets/a/manifest.json").exists()
    prepare_dataset(prepare_job(run, max_quarantined_share=0.05))
    assert pd.read_csv(run / "datasets/a/quarantine.csv")["image"].tolist() == ["3.png"]
    assert read_image_set(run / "datasets/a").manifest["quarantined"] == 1
    assert not list((run / "state").rglob("quarantine.csv"))


def test_failed_prepare_leaves_the_earlier_output(root: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    prepare_dataset(prepare_job(run))
    before = (run / "datasets/a/manifest.json").read_bytes()
    (root / "3.png").unlink()
    with pytest.raises(SynthGainError, match="file not found"):
        prepare_dataset(prepare_job(run))
    assert (run / "datasets/a/manifest.json").read_bytes() == before


def test_split_from_a_column_and_its_refusals(root: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    prepare_dataset(prepare_job(run))
    column = {"name": "fold", "validation": 0.2}
    split_dataset(split_job(run, column=column, fractions=None))
    parts = read_json(run / "splits/a/manifest.json")["parts"]
    assert parts["test"]["images"] == 20
    assert parts["validation"]["images"] == 8
    with pytest.raises(SynthGainError, match="training part has no image"):
        split_dataset(split_job(run, fractions={"train": 0.0, "validation": 0.5, "test": 0.5}))
    with pytest.raises(SynthGainError, match="stratify names 'lable'"):
        split_dataset(split_job(run, stratify=["lable"]))


def test_class_with_fewer_patients_than_parts_stops(root: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    table = pd.read_csv(root / "table.csv")
    table["label"] = (table.index < 2).astype(int)
    table.to_csv(root / "table.csv", index=False)
    prepare_dataset(prepare_job(run))
    with pytest.raises(SynthGainError, match=r"a: no image with opacity = 1.0 .*\(1 patients have it in all\)"):
        split_dataset(split_job(run))


def test_input_of_another_config_is_refused(root: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    prepare_dataset(prepare_job(run))
    other = inputs_at(run, {"datasets/a/manifest.json": "of another config"})
    job = replace(split_job(run), inputs=other)
    with pytest.raises(SynthGainError, match="another config or code"):
        split_dataset(job)


def test_audit_that_stops_keeps_its_page(root: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    prepare_dataset(prepare_job(run))
    prepare_dataset(prepare_job(run, "b"))
    split_dataset(split_job(run))
    table = read_table(run / "splits/a/split.parquet")
    table.loc[0, "part"] = "test" if table.loc[1, "part"] != "test" else "train"
    from synthgain.runtime.files import write_manifest, write_table

    write_table(run / "splits/a/split.parquet", table, "split-a")
    write_manifest(run / "splits/a/manifest.json", "split-a", ["split.parquet"])
    with pytest.raises(SynthGainError, match=r"a: 1 patients cross the split; see .*audit.html"):
        audit_datasets(audit_job(run))
    assert list((run / "state").rglob("audit.html"))
    assert not (run / "audit/audit.json").exists()


@pytest.mark.parametrize(
    ("cell", "asked", "message"),
    [
        ("1", {"learned": ["opacity"]}, "a: the training part has opacity = 1 alone, and a model that learns opacity"),
        ("", {"learned": ["opacity"]}, "a: the training part has no known opacity"),
        (None, {"balanced": {"even": {"opacty": 0.5}}}, "a: pools.even.balance.opacty: .* did you mean 'opacity'"),
        (
            None,
            {"balanced": {"even": {"opacity": {"1": 0.5, "yes": 0.5}}}},
            "balance.opacity: no training row has level",
        ),
        ("1", {"balanced": {"even": {"opacity": 0.5}}}, "no training row has level '0'"),
        (None, {"learned": ["opacity"], "balanced": {"even": {"opacity": 0.9}}}, None),
    ],
)
def test_what_training_or_drawing_would_refuse_later_stops_the_audit(
    root: Path, tmp_path: Path, cell: str | None, asked: dict[str, Any], message: str | None
) -> None:
    run = tmp_path / "run"
    if cell is not None:
        table = pd.read_csv(root / "table.csv", dtype=str)
        table.assign(label=cell).to_csv(root / "table.csv", index=False)
    prepare_dataset(prepare_job(run))
    split_dataset(split_job(run))
    entry = {"name": "a", "split": True, "role": "training", **asked}
    inputs = {"datasets/a/manifest.json": "data-a", "splits/a/manifest.json": "split-a"}
    job = new_job({"datasets": [entry], "seed": 0}, inputs, "code", "audit", run, [run / "audit/audit.json"], 1)
    if message is None:
        audit_datasets(job)
        return
    with pytest.raises(SynthGainError, match=message):
        audit_datasets(job)
    assert not (run / "audit/audit.json").exists()


def test_command_gives_one_line_and_no_traceback(root: Path, tmp_path: Path) -> None:
    run, environment = tmp_path / "run", {**os.environ, "PYTHONPATH": str(SCRIPTS)}
    job = {"slice": prepare_slice(), "inputs": {}, "named": {}, "code": "c", "identity": "data-a"}
    command = [sys.executable, str(SCRIPTS / "prepare_dataset.py"), "--job", json.dumps(job), "--run", str(run)]
    command += ["--output", str(run / "datasets/a/manifest.json")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "60 images, 0 quarantined" in done.stderr
    environment.pop("SYNTHGAIN_DATA")
    failed = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert failed.returncode == 1
    assert failed.stderr.strip() == (
        "error: data root is missing: pass --config data_root=FOLDER or set SYNTHGAIN_DATA"
    )
    assert (run / "datasets/a/manifest.json").exists()
