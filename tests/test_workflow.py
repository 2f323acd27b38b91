"""The whole chain on the tiny study: one command to a report, nothing on the second, clear words when it fails."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from workshop import Workshop, new_workshop

from synthgain.runtime.files import read_table

pytestmark = [pytest.mark.slow, pytest.mark.workflow]


def results(shop: Workshop) -> Path:
    return shop.folder / "results" / "tiny"


def test_report_is_one_whole_file(built: Workshop) -> None:
    page = (results(built) / "report.html").read_text()
    assert re.fullmatch(r"(?s).*</html>\s*<!--.*-->\s*", page)  # the page, then its seal
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "supplemented" in page
    assert "pilot" in page.lower(), "two replicates are a pilot, and the report says so"


def test_second_call_does_nothing(built: Workshop) -> None:
    assert built.plan() == {}
    assert "Nothing to be done" in built.snakemake("--cores", "2")


def test_every_arm_trained_the_same_steps_and_logged_them(built: Workshop) -> None:
    found = {}
    for path in sorted((results(built) / "downstream" / "cnn").glob("*/*/*/manifest.json")):
        manifest = json.loads(path.read_text())
        for replicate in manifest["replicates"].values():
            key = (manifest["arm"], manifest["ratio"])
            found[key] = (replicate["steps"], replicate["batch_size"], replicate["n_real"], replicate["n_synthetic"])
            exposures = replicate["real_exposures"] + replicate["synthetic_exposures"]
            assert exposures == replicate["steps"] * replicate["batch_size"]
    steps = {key: value[0] for key, value in found.items()}
    assert steps.pop(("real_long", 0)) == 12
    assert set(steps.values()) == {6}
    real = found["real", 0][2]
    assert found["supplemented", 100][2:] == (real, real)
    assert found["synthetic_only", 100][2:] == (0, real)


def test_generator_saw_training_patients_only(built: Workshop) -> None:
    manifest = json.loads((results(built) / "generators" / "ddpm" / "0" / "manifest.json").read_text())
    split = read_table(results(built) / "splits" / "hospital_a" / "split.parquet")
    train = split[split["part"] == "train"]
    assert manifest["saw"]["patients"] == train["patient_id"].nunique()
    assert manifest["saw"]["images"] == len(train)


def test_pool_copies_every_training_row_once(built: Workshop) -> None:
    folder = results(built) / "pools" / "drawn" / "0" / "replica-1"
    drawn = pd.concat([read_table(path) for path in sorted(folder.glob("shard-*/table.parquet"))])
    split = read_table(results(built) / "splits" / "hospital_a" / "split.parquet")
    assert sorted(drawn["parent_image_id"]) == sorted(split.loc[split["part"] == "train", "image_id"])
    assert drawn["image_id"].is_unique
    assert set(drawn["origin"]) == {"synthetic"}


def test_predictions_hold_validation_and_every_test_set(built: Workshop) -> None:
    table = read_table(results(built) / "predictions" / "cnn" / "supplemented.parquet")
    assert set(zip(table["dataset"], table["part"], strict=True)) == {
        ("hospital_a", "validation"),
        ("hospital_a", "test"),
        ("hospital_b", "test"),
        ("clinic", "test"),
    }
    assert set(table["replicate"]) == {0, 1}
    assert table["score"].between(0, 1).all()


def test_no_results_file_is_without_its_manifest_entry(built: Workshop) -> None:
    """Everything but state, logs, run times and single-file outputs is listed, with checksum, in its manifest."""
    loose = {"forecast", "state", "logs", "benchmarks", "audit", "samples", "predictions"}
    for path in results(built).rglob("*"):
        parts = path.relative_to(results(built)).parts
        chained = parts[0].startswith(("protocol", "ledger"))  # each line and each protocol carries a chain of its own
        if (
            path.is_dir()
            or parts[0] in loose
            or chained
            or path.name in ("manifest.json", "report.html", "quarantine.csv")
        ):
            continue
        owner = next(p for p in path.parents if (p / "manifest.json").exists())
        listed = json.loads((owner / "manifest.json").read_text())["files"]
        assert path.relative_to(owner).as_posix() in listed, path


BAD: list[tuple[str, dict[str, Any], list[str]]] = [
    ("wrong key", {"models__cnn__lerning_rate": 1}, ["models.cnn", "'learning_rate'"]),
    ("ratio over the pool", {"arms__supplemented__ratios": [900]}, ["arms.supplemented.ratios", "over the pool"]),
    ("unknown column", {"datasets__clinic__targets": {"opacity": {"column": "lable"}}}, ["'lable'", "label"]),
    (
        "missing table",
        {"datasets__clinic__table": "clinic/none.csv"},
        ["clinic/none.csv", "no such table", "data root"],
    ),
    (
        "label outside the set",
        {"datasets__clinic__targets": {"opacity": {"column": "label", "map": {"yes": 1}}}},
        ["clinic", "quarantined", "no"],
    ),
]


@pytest.mark.parametrize(("name", "change", "words"), BAD, ids=[name for name, _, _ in BAD])
def test_bad_input_is_one_clear_line_and_costs_nothing(
    name: str, change: dict, words: list[str], built: Workshop, tmp_path: Path
) -> None:
    shop = built.copy(tmp_path)
    before = {path: path.read_bytes() for path in results(shop).glob("generators/*/*/manifest.json")}
    shop.write_study(**change)
    text = shop.snakemake("--cores", "2", "--quiet", "rules", check=False)
    told = [line for line in text.splitlines() if "--job" not in line]  # Snakemake prints the failed command too
    (line,) = {line for line in told if all(word in line for word in words)}
    assert len(line) < 500
    assert "Traceback" not in text
    assert {path: path.read_bytes() for path in before} == before
    shop.write_study()
    assert "train_generator" not in shop.plan()


def test_no_data_root(built: Workshop, tmp_path: Path) -> None:
    shop = new_workshop(tmp_path)
    environment = {key: value for key, value in os.environ.items() if key != "SYNTHGAIN_DATA"}
    command = [sys.executable, "-m", "snakemake", "--configfile", "tiny.yaml", "-n"]
    done = subprocess.run(command, cwd=shop.folder, env=environment, capture_output=True, text=True)
    assert done.returncode != 0
    assert "pass --config data_root=FOLDER or set SYNTHGAIN_DATA" in done.stdout + done.stderr


def test_rehearsal_has_its_own_folder_and_no_verdict(built: Workshop, tmp_path: Path) -> None:
    shop = built.copy(tmp_path)
    shop.write_study(rehearsal=True, rehearsal_sizes={"patients": 40, "generator_steps": 2, "model_steps": 4})
    shop.build()
    page = (shop.folder / "results" / "tiny-rehearsal" / "report.html").read_text()
    assert "rehearsal" in page.lower()
    verdict = json.loads((shop.folder / "results/tiny-rehearsal/statistics/cnn/verdict.json").read_text())
    assert not verdict.get("primary")
    assert (results(shop) / "report.html").read_bytes() == (results(built) / "report.html").read_bytes()
