"""The memorisation gate finds planted copies, and nothing on new images of the same law (method test 10)."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from evaluation_run import (
    SIZE,
    embedding_space,
    make_job,
    memorisation_slice,
    pictures,
    run_script_of,
    write_pool,
    write_real,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from job_inputs import inputs_at, paths_of
from PIL import Image
from scipy.stats import beta

from check_memorisation import _identical, check_memorisation
from synthgain.evaluation.candidates import draw_pairs_picture
from synthgain.evaluation.inputs import parents
from synthgain.evaluation.memorisation import ALPHA, LEVEL, Copies, judge, near_exact
from synthgain.evaluation.nearest import FeatureSpace, PixelSpace
from synthgain.evaluation.resampling import rate_interval

POOL = 1200


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    images, table = pictures(600, seed=1, per_patient=2)
    rows = write_real(folder, images, table)
    training = images[table["image_id"].isin(rows["image_id"])]
    positions = np.arange(POOL) % len(rows)
    fresh, _ = pictures(POOL, seed=2)
    copies, copied = training[positions], rows.iloc[positions].reset_index(drop=True)
    write_pool(folder, fresh, copied, "new")
    write_pool(folder, copies, copied, "copier")
    write_pool(folder, np.stack([_jitter(image, number) for number, image in enumerate(copies)]), copied, "jittered")
    planted = fresh.copy()
    planted[::20] = copies[::20, :, ::-1]  # 5 %, mirrored
    write_pool(folder, planted, copied, "planted")
    test_images = images[-8:]
    mixed = fresh.copy()
    mixed[:8] = test_images
    write_pool(folder, mixed, copied, "bought")
    return folder


def _jitter(image: np.ndarray, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    moved = np.roll(image.astype(float), (rng.integers(0, 2), -1), (0, 1))
    changed = moved * rng.uniform(0.95, 1.05) + rng.uniform(-6, 6) + rng.normal(0, 3, image.shape)
    return changed.clip(0, 255).astype(np.uint8)


def _check(run: Path, pool: str, **changes: Any) -> tuple[dict[str, Any], pd.DataFrame, pd.DataFrame]:
    output = f"memorisation/{pool}/0/manifest.json"
    check_memorisation(make_job(run, output, memorisation_slice(pool, **changes), pool))
    folder = (run / output).parent
    gate = json.loads((folder / "gate.json").read_text())
    return gate, pd.read_csv(folder / "memorisation.csv"), pd.read_parquet(folder / "scores.parquet")


def test_new_images_are_not_flagged_in_excess(run: Path) -> None:
    gate, rates, scores = _check(run, "new", space=embedding_space(32))
    assert not gate["exceeded"]
    assert gate["state"] in ("within limit", "undecided")
    assert (rates.loc[rates["rule"] != "nearest is parent", "p_adjusted"] > LEVEL).all()
    assert not scores["copy_pixels"].any()


def test_planted_copies_are_found(run: Path) -> None:
    gate, rates, scores = _check(run, "planted")
    assert gate["exceeded"]
    assert gate["rule"].endswith("in pixels")
    planted = np.arange(POOL) % 20 == 0
    assert scores["flagged_pixels"][planted].all()
    assert scores["copy_pixels"].to_numpy().tolist() == planted.tolist()
    # New images: the fixed rule flags none. The other's threshold is about the largest of the validation similarities,
    # so the share above it varies as Beta(1, 60 patients) does: mean 1.6 %, 97.5th percentile 6 %.
    new = scores[~planted]
    assert (new["distance_ratio_pixels"] >= ALPHA).all()
    assert new["flagged_pixels"].mean() < beta(1, 60).ppf(0.975)
    nearest = rates[rates["rule"] == "nearest"].iloc[0]
    assert new["flagged_pixels"].mean() < nearest["null_rate"] + 0.02  # the null shows it, so it is no excess
    parent = rates[rates["rule"] == "nearest is parent"].iloc[0]
    assert parent["low"] > 0
    assert "Memorisation warning" in gate["sentence"]


@pytest.mark.parametrize("pool", ["copier", "jittered"])
def test_copiers_are_caught(run: Path, pool: str) -> None:
    gate, _, scores = _check(run, pool)
    assert gate["exceeded"]
    assert gate["excess"] > 0.9
    assert scores["copy_pixels"].mean() > 0.99


def test_scores_are_the_table_that_a_filter_reads(run: Path) -> None:
    _, _, scores = _check(run, "planted", space=embedding_space(32))
    assert list(scores.columns) == [
        "image_id", "similarity_pixels", "nearest_pixels", "distance_ratio_pixels", "flagged_pixels", "copy_pixels",
        "similarity_parent_pixels", "similarity_features", "nearest_features", "distance_ratio_features",
        "flagged_features", "copy_features", "flagged",
    ]  # fmt: skip
    assert len(scores) == POOL
    assert scores["image_id"].is_unique
    assert (scores["flagged"] == scores["flagged_pixels"] | scores["flagged_features"]).all()


def test_copies_of_a_test_image_bar_that_set(run: Path) -> None:
    bought, _, _ = _check(run, "bought", imported=True)
    assert bought["barred_sets"] == ["a/test"]
    assert "no verdict" in bought["sentence"]
    own, _, _ = _check(run, "new", imported=True)
    assert own["barred_sets"] == []


def test_without_a_generator_membership_is_not_applicable(run: Path) -> None:
    gate, _, _ = _check(run, "new")
    assert gate["membership"]["leak"] == "not applicable"
    assert gate["membership"]["auroc"] is None


def test_data_without_a_split_are_refused_in_one_line(tmp_path: Path) -> None:
    images, table = pictures(40, seed=3)
    rows = write_real(tmp_path, images, table)
    write_pool(tmp_path, images[:20], rows, "p")
    job = make_job(tmp_path, "memorisation/p/0/manifest.json", memorisation_slice("p"), "p")
    paths = {path: identity for path, identity in paths_of(job.inputs).items() if not path.startswith("splits/")}
    job = replace(job, inputs=inputs_at(tmp_path, paths))
    result = run_script_of(job, "check_memorisation.py")
    assert result.returncode == 1
    assert "no train image" in result.stderr
    assert "Traceback" not in result.stderr


def test_pixel_search_ignores_flips_shifts_and_same_patients() -> None:
    images, table = pictures(60, seed=4)
    space = PixelSpace(images)
    moved = np.roll(images, 1, axis=2)[:, :, ::-1]
    found = space.search(moved, images)
    assert (found.index[:, 0] == np.arange(60)).all()
    assert near_exact(found).all()
    patients = table["patient_id"].to_numpy()
    other = space.search(images, images, patients, patients)
    assert (other.index[:, 0] != np.arange(60)).all()
    assert (np.diff(other.similarity, axis=1) <= 0).all()
    assert space.pairwise(images, images) == pytest.approx(1.0, abs=1e-5)


def test_images_without_a_known_parent_count_one_by_one() -> None:
    known = pd.Series([None, "p", None], dtype="str")
    table = pd.DataFrame({"patient_id": ["a", "b", "c"], "parent_patient_id": known})
    assert parents(table).tolist() == ["synthetic of a", "synthetic of p", "synthetic of c"]
    assert parents(table[["patient_id"]]).tolist() == ["synthetic of a", "synthetic of b", "synthetic of c"]
    unknown = table.assign(parent_patient_id=pd.Series([None] * 3, dtype=object))
    assert len(set(parents(unknown))) == 3


def test_large_images_are_compared_at_low_resolution() -> None:
    images, _ = pictures(20, seed=5, size=96)
    found = PixelSpace(images).search(images, images)
    assert (found.index[:, 0] == np.arange(20)).all()


def test_feature_search_finds_itself_and_ignores_constant_dimensions() -> None:
    rng = np.random.default_rng(0)
    features = np.concatenate([rng.normal(size=(80, 12)), np.full((80, 1), 7.0)], axis=1).astype(np.float32)
    found = FeatureSpace(features).search(features, features)
    assert (found.index[:, 0] == np.arange(80)).all()
    assert found.nearest == pytest.approx(1.0, abs=1e-5)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 40), st.integers(1, 5))
def test_rate_interval_holds_the_rate(flagged: int, per_patient: int) -> None:
    flags = np.arange(40) < flagged
    low, high = rate_interval(flags, np.arange(40) // per_patient)
    assert -1e-9 <= low <= flags.mean() + 1e-9 <= high + 2e-9 <= 1 + 3e-9


def test_clusters_widen_the_interval() -> None:
    flags = np.repeat(np.arange(50) % 2 == 0, 4)
    narrow = rate_interval(flags, np.arange(200))
    wide = rate_interval(flags, np.repeat(np.arange(50), 4))
    assert wide[1] - wide[0] > 1.5 * (narrow[1] - narrow[0])


def test_gate_needs_excess_and_evidence() -> None:
    row = {"rule": "nearest", "space": "pixels", "threshold": 0.9, "rate": 0.1, "null_rate": 0.0, "flagged": 1, "n": 10}
    noise = {**row, "excess": 0.1, "low": -0.1, "high": 0.3, "p_adjusted": 0.4}
    small = {**row, "excess": 0.005, "low": 0.002, "high": 0.008, "p_adjusted": 0.004}
    assert judge([noise], 0.01, [])["state"] == "undecided"
    assert judge([small], 0.01, [])["state"] == "within limit"
    assert judge([noise, {**small, "excess": 0.02}], 0.01, [])["exceeded"]


def test_picture_of_pairs(tmp_path: Path) -> None:
    images, _ = pictures(5, seed=6)
    path = tmp_path / "pairs.png"
    draw_pairs_picture(path, images, images, np.linspace(0.5, 1, 5), np.arange(5) > 2)
    with Image.open(path) as picture:
        assert picture.width > 4 * 2 * SIZE
    draw_pairs_picture(path, images[:0], images[:0], np.zeros(0), np.zeros(0, dtype=bool))
    assert path.exists()


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 held-out test patients, one film each; twelve of 400 synthetic images are training films."""
    folder = tmp_path_factory.mktemp("few")
    images, table = pictures(200, seed=11)
    rows = write_real(folder, images, table)
    training = images[table["image_id"].isin(rows["image_id"])]
    fresh, _ = pictures(400, seed=12)
    copied = rows.iloc[np.arange(400) % len(rows)].reset_index(drop=True)
    moved = {
        "exact": training[:12],
        "mirrored": training[:12, :, ::-1],
        "upside_down": training[:12, ::-1],
        "shifted": np.roll(training[:12], 1, axis=2),
        "one": training[:1],
    }
    for name, copies in moved.items():
        write_pool(folder, np.concatenate([copies, fresh[len(copies) :]]), copied, name)
    return folder


@pytest.mark.parametrize("pool", ["exact", "mirrored", "upside_down", "shifted", "one"])
def test_with_a_near_exact_copy_no_sentence_reassures(few: Path, pool: str) -> None:
    gate, _, scores = _check(few, pool)
    planted = 1 if pool == "one" else 12
    assert scores["copy_pixels"].sum() == planted
    assert scores.loc[: planted - 1, "flagged"].all()
    assert gate["exceeded"]
    assert gate["copies"] == planted
    assert gate["state"] in ("copies found", "exceeded")
    assert "No copying" not in gate["sentence"]
    assert f"{planted} of 400 synthetic images" in gate["sentence"]


def test_copies_in_a_pool_of_twins_are_held_against_the_twins_among_real_patients() -> None:
    row = {"rule": "nearest", "space": "pixels", "rate": 0.0, "null_rate": 0.0, "flagged": 0, "n": 400}
    row |= {"threshold": 0.9, "excess": 0.0, "low": -0.001, "high": 0.001, "p_adjusted": 1.0}

    def judged(copies: int, twins: int, p: float, space: str = "pixels") -> dict[str, Any]:
        return judge([row], 0.01, [], [Copies(space, copies, 400, twins, 100, p)])

    assert judged(0, 0, 1.0)["state"] == "within limit"
    assert judged(1, 0, 0.4)["state"] == "copies found"  # nothing of the kind among real images: one is enough
    assert judged(40, 2, 0.0001)["state"] == "copies found"
    explained = judged(9, 2, 0.6)
    assert (explained["state"], explained["exceeded"]) == ("undecided", False)
    assert "2 of 100 held-out real images" in explained["sentence"]
    assert "No copying" not in explained["sentence"]
    alike = judged(3, 0, 0.2, space="efficientnet_lite0")  # features alone do not prove a copy, nor do they reassure
    assert (alike["state"], alike["exceeded"]) == ("undecided", False)
    assert "No copying" not in alike["sentence"]
    assert judged(3, 5, 0.9, space="efficientnet_lite0")["state"] == "within limit"


def test_an_identical_copy_decides_though_a_real_patient_has_a_twin() -> None:
    """A twin is nearly the same picture; a synthetic image that is the same to the bit is not explained by it."""
    row = {"rule": "nearest", "space": "pixels", "rate": 0.0, "null_rate": 0.0, "flagged": 0, "n": 120}
    row |= {"threshold": 0.9, "excess": 0.0, "low": -0.001, "high": 0.001, "p_adjusted": 1.0}
    gate = judge([row], 0.01, [], [Copies("pixels", 6, 120, 1, 736, 0.3, identical=5)])
    assert (gate["state"], gate["exceeded"], gate["none_found"]) == ("copies found", True, False)
    assert "5 of them equal a training image to the bit, which no held-out image does" in gate["sentence"]
    names = {"train": ["a", "b", "c"], "test": ["d"], "validation": ["e"]}
    parts: dict[str, Any] = {k: SimpleNamespace(table=pd.DataFrame({"sha256": v})) for k, v in names.items()}
    pool: Any = SimpleNamespace(table=pd.DataFrame({"sha256": ["x", "a", "a", "y"]}))
    assert _identical(pool, parts) == 2
    parts["test"].table["sha256"] = ["b"]  # patients share pictures here: equal bits prove nothing
    assert _identical(pool, parts) == 0


def test_a_rate_that_could_not_be_computed_is_no_reassurance() -> None:
    row = {"rule": "nearest", "space": "pixels", "rate": 0.0, "null_rate": 0.0, "flagged": 0, "n": 400}
    row |= {"threshold": 0.9, "excess": 0.0, "low": -0.001, "high": 0.001, "p_adjusted": 1.0}
    broken = {**row, "space": "features", "threshold": np.nan}
    unknown = dict.fromkeys(("excess", "low", "high", "p_adjusted", "rate"), np.nan)
    for bad in (broken, {**row, **unknown, "space": "features"}):
        for rows in ([row, bad], [bad, row], [bad]):
            gate = judge(rows, 0.01, [])
            assert gate["state"] == "undecided"
            assert "could not be computed" in gate["sentence"]
            assert "No copying" not in gate["sentence"]
            json.dumps(gate, allow_nan=False)
    proven = {**row, "excess": 0.2, "low": 0.1, "high": 0.3, "p_adjusted": 0.001}
    assert judge([broken, proven], 0.01, [])["state"] == "exceeded"
