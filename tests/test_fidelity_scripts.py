"""The scripts of fidelity: floors, groups, the mode dropper, notes, errors in one line."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from devices import DEVICE
from evaluation_run import embedding_space, fidelity_slice, make_job, pictures, run_script_of, write_pool, write_real
from generator_jobs import training_job, write_data
from job_inputs import new_job

from evaluate_snapshots import evaluate_snapshots
from measure_fidelity import measure_fidelity
from synthgain.evaluation.distances import frechet_distance, kernel_distance, kernel_matrix, prdc, squared_distances
from synthgain.evaluation.diversity import vendi_score
from synthgain.evaluation.fidelity import COLUMNS, METRICS, Pairs, compare, interval
from synthgain.generators.training import train_family
from synthgain.runtime.errors import SynthGainError

POOL = 600


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    images, table = pictures(400, seed=1, stripes=60)
    rows = write_real(folder, images, table)
    fresh, conditions = pictures(POOL, seed=2, stripes=60)
    parents = rows.iloc[np.arange(POOL) % len(rows)].reset_index(drop=True)
    conditions = conditions.assign(patient_id=parents["patient_id"], image_id=parents["image_id"])
    write_pool(folder, fresh, conditions, "oracle")
    men = np.flatnonzero(conditions["sex"] == "M")[np.arange(POOL) % (conditions["sex"] == "M").sum()]
    write_pool(folder, fresh[men], conditions.iloc[men].reset_index(drop=True), "dropper")
    training = images[: len(rows)]
    write_pool(folder, training[np.arange(POOL) % len(rows)], parents, "copier")
    rng = np.random.default_rng(0)
    write_pool(folder, rng.integers(0, 256, fresh.shape, dtype=np.uint8), conditions, "noise")
    return folder


def _measure(run: Path, pool: str, **changes: Any) -> pd.DataFrame:
    output = f"fidelity/{pool}/0/manifest.json"
    measure_fidelity(make_job(run, output, fidelity_slice(pool, **changes), pool))
    return pd.read_csv((run / output).parent / "fidelity.csv")


def _one(table: pd.DataFrame, metric: str, reference: str = "held_out", group: str = "all") -> pd.Series:
    rows = table[(table["metric"] == metric) & (table["reference"] == reference) & (table["group"] == group)]
    assert len(rows) == 1, rows
    return rows.iloc[0]


def test_new_images_stand_at_the_floor(run: Path) -> None:
    table = _measure(run, "oracle")
    assert list(table.columns) == list(COLUMNS)
    assert set(METRICS) | {"ms_ssim", "ms_ssim_cross"} == set(table["metric"])
    kid = _one(table, "kid")
    assert kid["p"] > 0.05
    assert kid["low"] <= 0 <= kid["high"] or abs(kid["value"]) < 3 * (kid["high"] - kid["value"]) / 1.96
    distance = _one(table, "fd")
    assert distance["floor"] > 0
    assert abs(distance["excess"]) < 4 * distance["floor_sd"]
    assert distance["low"] < distance["value"] < distance["high"]
    assert "read with kid" in distance["note"]
    assert _one(table, "coverage")["value"] > 0.9
    assert set(table["n"].unique()) == {120, 1000}


def test_noise_is_far_from_everything(run: Path) -> None:
    table = _measure(run, "noise")
    assert _one(table, "kid")["p"] == pytest.approx(1 / 500)
    assert _one(table, "fd")["excess"] > 10 * _one(table, "fd")["floor_sd"]
    assert _one(table, "precision")["value"] < 0.1
    assert _one(table, "ms_ssim")["excess"] < 0


def test_intervals_end_where_the_metric_s_scale_does() -> None:
    assert interval("recall", 0.95, 0.1) == {"low": pytest.approx(0.754, abs=1e-3), "high": 1.0}
    assert interval("density", 0.1, 1.0)["low"] == 0.0
    assert interval("kid", 0.0, 1.0) == {"low": pytest.approx(-1.96, abs=1e-3), "high": pytest.approx(1.96, abs=1e-3)}
    assert np.isnan(interval("fd", 3.0, np.nan)["low"]), "of a subgroup there is none"


def test_copies_are_nearer_to_training_images_than_to_new_ones(run: Path) -> None:
    table = _measure(run, "copier")
    gap = _one(table, "fd", "train - held_out")
    assert gap["value"] < -3 * _one(table, "fd")["floor_sd"]
    oracle = _one(_measure(run, "oracle"), "fd", "train - held_out")
    assert abs(oracle["value"]) < -gap["value"] / 3


def test_the_mode_dropper_loses_recall_and_its_group(run: Path) -> None:
    whole, dropped = (_measure(run, pool, by=["sex", "age"]) for pool in ("oracle", "dropper"))
    for metric in ("recall", "coverage"):
        assert _one(dropped, metric)["excess"] < _one(whole, metric)["excess"] - 0.15
    women = dropped[(dropped["group"] == "sex=F") & (dropped["space"] == "efficientnet_lite0")]
    assert women["note"].str.contains("not computed, because 0 images").all()
    assert {"sex=M", "sex=F"} < set(whole["group"])
    assert sum(group.startswith("age") for group in whole["group"].unique()) == 2
    measured = whole[(whole["space"] == "efficientnet_lite0") & whole["reference"].isin(["held_out", "train"])]
    everyone = measured["group"] == "all"
    assert measured.loc[everyone, ["low", "high"]].notna().all(axis=None)  # only all images have an interval
    assert measured.loc[~everyone, ["low", "high"]].isna().all(axis=None)
    floors = measured[everyone].pivot(index="metric", columns="reference", values="floor")
    assert (floors["held_out"] == floors["train"]).all()  # one floor a size


def test_matrices_of_all_pairs_give_what_each_subset_gives_alone() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(2, 1, (40, 24)), rng.normal(2.2, 1, (36, 24))
    first, second = np.flatnonzero(rng.random(40) < 0.8), np.flatnonzero(rng.random(36) < 0.8)
    patients = np.arange(76) // 2  # two images of each
    pairs = Pairs.of(np.concatenate([x, y]), patients)
    found = dict(zip(METRICS, compare(pairs, first, 40 + second), strict=True))
    a, b = x[first], y[second]
    both, owners = np.concatenate([a, b]), patients[np.concatenate([first, 40 + second])]
    within = [squared_distances(side, side) for side in (a, b)]
    for distances, own in zip(within, (owners[: len(a)], owners[len(a) :]), strict=True):
        distances[(own[:, None] == own) & ~np.eye(len(own), dtype=bool)] = np.inf
    alone = prdc(within[1], within[0], squared_distances(b, a))
    alone |= {"fd": frechet_distance(a, b), "kid": kernel_distance(kernel_matrix(both, both), len(a), owners)}
    assert found == pytest.approx(alone | {"vendi": vendi_score(a)})


def test_snapshots_are_measured_with_one_noise_and_one_null(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNTHGAIN_DEVICE", DEVICE)
    inputs = write_data(tmp_path, patients=80, size=16)
    training = training_job(
        tmp_path, inputs, image={"size": 16, "channels": 1}, training={"steps": 8, "snapshots": [2]}
    )
    train_family(training)
    trained = "generators/ddpm/0/manifest.json"
    settings = {
        "generator": "ddpm", "index": 0, "snapshots": [2, 8], "train_on": ["toy"], "n": 30, "seed": 0,
        "space": embedding_space(32), "sampling": {"solver": "dpmpp_2m", "steps": 4},
    }  # fmt: skip
    output = tmp_path / "snapshots" / "ddpm" / "0" / "manifest.json"
    job = new_job(settings, {**inputs, trained: training.identity}, "c", "me", tmp_path, [output], 1)
    evaluate_snapshots(job)
    table = pd.read_csv(output.parent / "snapshots.csv")
    assert table["snapshot"].tolist() == [2, 8]
    assert table["null_rate"].nunique() == 1 or table["excess"].notna().all()
    assert np.isfinite(table[["kid", "kid_se", "copy_rate", "null_rate", "excess", "low", "high"]]).all(axis=None)
    assert (table["kid"] > 0).all()  # four steps of a network of eight updates draw no disc
    recommended = json.loads(output.read_text())["recommended"]
    assert table.loc[table["recommended"], "snapshot"].tolist() == ([] if recommended is None else [recommended])
    first = table.copy()
    evaluate_snapshots(job)
    pd.testing.assert_frame_equal(first, pd.read_csv(output.parent / "snapshots.csv"))


def test_the_same_job_gives_the_same_table_and_keeps_features(run: Path) -> None:
    first = _measure(run, "oracle")
    kept = {path: path.stat().st_mtime_ns for path in (run / "state" / "features").glob("*/features.npy")}
    pd.testing.assert_frame_equal(first, _measure(run, "oracle"))
    assert kept == {path: path.stat().st_mtime_ns for path in kept}
    damaged = next(iter(kept))
    damaged.write_bytes(damaged.read_bytes()[:-8])
    pd.testing.assert_frame_equal(first, _measure(run, "oracle"))


def test_the_manifest_names_space_and_reference(run: Path) -> None:
    _measure(run, "oracle")
    manifest = json.loads((run / "fidelity" / "oracle" / "0" / "manifest.json").read_text())
    assert manifest["reference"] == "held_out"
    space = manifest["spaces"][0]
    assert (space["fid"], space["dimensions"], len(space["weights_sha256"])) == (False, 1280, 64)


def test_too_few_held_out_images_fall_back_to_training_ones(tmp_path: Path) -> None:
    images, table = pictures(60, seed=3)
    rows = write_real(tmp_path, images, table)
    write_pool(tmp_path, images[:30], rows, "p")
    job = make_job(tmp_path, "fidelity/p/0/manifest.json", fidelity_slice("p", minimum=31), "p")
    measure_fidelity(job)
    assert json.loads(job.outputs[0].read_text())["reference"] == "train"
    rows = pd.read_csv(job.outputs[0].parent / "fidelity.csv").query("space != 'pixels'")
    assert rows["note"].str.contains("fewer than 31").all()


def test_an_unknown_column_is_one_clear_line(run: Path) -> None:
    job = make_job(run, "fidelity/oracle/9/manifest.json", fidelity_slice("oracle", by=["sexx"]), "oracle")
    with pytest.raises(SynthGainError, match="no column 'sexx' in the data set; columns are opacity, sex, age"):
        measure_fidelity(job)


def test_missing_weights_end_the_script_with_one_line(run: Path) -> None:
    space = {"name": "inception", "module": "inception", "weights": "/nowhere/inception.pt"}
    job = make_job(run, "fidelity/oracle/8/manifest.json", fidelity_slice("oracle", spaces=[space]), "oracle")
    result = run_script_of(job, "measure_fidelity.py")
    assert result.returncode == 1
    assert "error: feature space inception: no weights file at /nowhere/inception.pt" in result.stderr
    assert "Traceback" not in result.stderr


def test_radiomics_says_why_it_is_missing(run: Path) -> None:
    try:
        import radiomics  # noqa: F401
    except ImportError:
        row = _one(_measure(run, "noise", radiomics=True, spaces=[embedding_space(32)]), "frd")
        assert row["note"] == "not computed, because package pyradiomics is not installed"
