"""Label consistency, membership inference, snapshots, and fidelity against utility."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from evaluation_run import IDENTITY, make_job, pictures, write_pool, write_real
from pixel_samples import PixelSamples
from safetensors.torch import save_file
from scipy.stats import spearmanr
from torch import nn

from relate_fidelity import relate_fidelity
from score_pool import score_pool
from synthgain.evaluation import relation
from synthgain.evaluation.agreement import agreement
from synthgain.evaluation.membership import denoising_losses, membership_rows
from synthgain.evaluation.relation import relate
from synthgain.evaluation.snapshots import recommend
from synthgain.networks import small_cnn
from synthgain.runtime.files import write_manifest, write_table

OPTIONS = {"width": 8, "max_width": 16, "depth": 1}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    images, table = pictures(400, seed=1)
    rows = write_real(folder, images, table)
    fresh, conditions = pictures(300, seed=2)
    write_pool(folder, fresh, conditions, "good")
    shuffled = conditions.assign(opacity=np.random.default_rng(0).permutation(conditions["opacity"].to_numpy()))
    write_pool(folder, fresh, shuffled, "shuffled")
    _train(folder / "downstream" / "cnn" / "real" / "0" / "0", images[: len(rows)], rows["opacity"].to_numpy())
    return folder


def _train(folder: Path, images: np.ndarray, labels: np.ndarray) -> None:
    torch.manual_seed(0)
    network = small_cnn.build(1, 1, 32, **OPTIONS)
    optimiser = torch.optim.Adam(network.parameters(), 1e-2)
    x, y = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1, torch.from_numpy(labels)[:, None]
    for _ in range(60):
        optimiser.zero_grad()
        nn.functional.binary_cross_entropy_with_logits(network(x), y).backward()
        optimiser.step()
    folder.mkdir(parents=True)
    save_file(network.state_dict(), folder / "weights-0.safetensors")
    task = {"kind": "binary", "labels": ["opacity"], "image_size": 32, "channels": 1}
    write_manifest(folder / "manifest.json", IDENTITY, ["weights-0.safetensors"], replicates={"0": {"task": task}})


def _score(run: Path, pool: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    trained = "downstream/cnn/real/0/0/manifest.json"
    network = {"module": "small_cnn", "options": OPTIONS}
    settings = {
        "pool": pool,
        "index": 0,
        "rows_of": "a",
        "model": {"name": "cnn", "targets": ["opacity"], "network": network},
        "trained": ["cnn", "real", 0, 0],
        "replicate": 0,
        "by": ["sex"],
        "minimum": 10,
        "seed": 0,
    }
    output = f"label_consistency/{pool}/0/manifest.json"
    score_pool(make_job(run, output, settings, pool, trained))
    folder = (run / output).parent
    return pd.read_csv(folder / "label_consistency.csv"), pd.read_parquet(folder / "scores.parquet")


def test_kept_labels_score_like_real_ones_and_shuffled_ones_do_not(run: Path) -> None:
    table, scores = _score(run, "good")
    whole = table[table["group"] == "all"].iloc[0]
    assert set(table["group"]) == {"all", "sex=F", "sex=M"}
    assert whole["value"] > 0.9
    assert whole["low"] <= whole["value"] <= whole["high"]
    assert abs(whole["difference"]) < 0.1
    assert list(scores.columns) == ["image_id", "score_opacity", "agreement"]
    shuffled, lost = _score(run, "shuffled")
    assert shuffled[shuffled["group"] == "all"].iloc[0]["value"] == pytest.approx(0.5, abs=0.12)
    assert lost["agreement"].mean() < scores["agreement"].mean() - 0.2


def test_agreement_is_the_probability_of_the_rows_own_labels() -> None:
    truth = np.array([[1, 0], [0, np.nan], [np.nan, np.nan]])
    scores = np.array([[0.9, 0.3], [0.2, 0.5], [0.1, 0.1]])
    assert agreement(truth, scores, exclusive=False)[:2] == pytest.approx([0.8, 0.8])
    assert np.isnan(agreement(truth, scores, exclusive=False)[2])
    assert agreement(np.eye(2), scores[:2], exclusive=True) == pytest.approx([0.9, 0.5])


class _Memoriser(PixelSamples):
    """Denoises to the nearest image that it was given: knows its training images, and no other."""

    sigma_data = 0.5

    def __init__(self, images: np.ndarray) -> None:
        self.images = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1

    def encode_conditions(self, table: pd.DataFrame) -> None:
        return None

    def denoise(self, x: torch.Tensor, sigma: torch.Tensor, condition: Any) -> torch.Tensor:
        return self.images[torch.cdist(x.flatten(1), self.images.flatten(1)).argmin(1)]


def _membership(known: np.ndarray) -> pd.DataFrame:
    sides = [pictures(120, seed=5, per_patient=2), pictures(120, seed=6, per_patient=2)]
    generator, levels, cpu = _Memoriser(known), (0.2, 1.0), torch.device("cpu")
    losses = [denoising_losses(generator, *side, levels, 1, cpu, study=0) for side in sides]
    patients = [side[1]["patient_id"].to_numpy() for side in sides]
    return pd.DataFrame(membership_rows(*losses, levels, *patients, np.random.default_rng(0)))


def test_membership_finds_a_memoriser_and_no_other() -> None:
    leak = _membership(pictures(120, seed=5, per_patient=2)[0])
    assert leak["noise_level"].tolist() == ["0.2 sigma_data", "1 sigma_data", "all"]
    assert (leak["leak"] == "red").all()
    assert leak["auroc"].iloc[-1] > 0.99
    fair = _membership(pictures(120, seed=7)[0])
    assert fair["leak"].iloc[-1] == "none found"
    assert fair["low"].iloc[-1] < 0.5 < fair["high"].iloc[-1]


def test_losses_do_not_depend_on_the_order() -> None:
    images, table = pictures(70, seed=8)
    generator, cpu = _Memoriser(pictures(20, seed=9)[0]), torch.device("cpu")
    whole = denoising_losses(generator, images, table, (0.5,), 2, cpu, study=0)
    order = np.random.default_rng(0).permutation(70)
    moved = denoising_losses(generator, images[order], table.iloc[order], (0.5,), 2, cpu, study=0)
    assert moved == pytest.approx(whole[order], rel=1e-5)


class _Pairs(PixelSamples):
    """Notes what it is given: image and mask together, or the mask as condition."""

    sigma_data = 0.5

    def __init__(self, output: str) -> None:
        self.output, self.seen, self.channels = output, [], 0

    def encode_conditions(self, table: pd.DataFrame, masks: torch.Tensor | None = None) -> None:
        self.seen.append(masks)

    def denoise(self, x: torch.Tensor, sigma: torch.Tensor, condition: Any) -> torch.Tensor:
        self.channels = x.shape[1]
        return torch.zeros_like(x)


def test_losses_of_pairs_are_of_image_and_mask() -> None:
    images, table = pictures(10, seed=8)
    masks = (images > 120).astype(np.uint8)
    joint, conditioned, cpu = _Pairs("image+mask"), _Pairs("image"), torch.device("cpu")
    losses = denoising_losses(joint, images, table, (0.5,), 1, cpu, masks=masks, study=0)
    assert joint.channels == 2
    assert joint.seen == [None]
    both = np.concatenate([images / 127.5 - 1, masks * 2.0 - 1], axis=-1)
    assert losses[:, 0] == pytest.approx((both**2).mean(axis=(1, 2, 3)), rel=1e-5)
    denoising_losses(conditioned, images, table, (0.5,), 1, cpu, masks=masks, study=0)
    assert conditioned.channels == 1
    assert set(conditioned.seen[0].unique().tolist()) == {-1.0, 1.0}


def test_the_latest_good_snapshot_before_copying_is_recommended() -> None:
    def row(snapshot: int, kid: float, p: float) -> dict[str, Any]:
        return {"snapshot": snapshot, "kid": kid, "kid_se": 0.1, "copies": 0, "p_adjusted": p}

    trajectory = [row(100, 2.0, 0.9), row(200, 1.0, 0.9), row(400, 1.05, 0.9), row(800, 0.5, 0.001)]
    assert recommend(trajectory) == 400
    assert recommend([*trajectory[:3], row(800, 3.0, 0.9)]) == 400
    assert recommend([*trajectory, row(1600, 0.1, 0.9)]) == 400
    assert recommend([row(100, 1.0, 0.001)]) is None
    one_copy = {**row(400, 1.05, 0.9), "copies": 1}
    assert recommend([*trajectory[:2], one_copy]) == 200  # a near-exact copy is the start of copying, whatever the rate


def _points(configurations: int, slope: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    rng = np.random.default_rng(0)
    names = [f"p{number}" for number in range(configurations)]
    fidelity = pd.DataFrame({"configuration": names, "index": 0, "space": "s", "reference": "held_out"})
    fidelity = fidelity.assign(metric="kid", excess=np.arange(configurations, dtype=float))
    gains = pd.DataFrame([{"configuration": name, "replicate": r, "index": 0} for name in names for r in range(4)])
    quality = gains["configuration"].str[1:].astype(float)
    noise = rng.normal(size=len(gains))
    return fidelity, gains.assign(gain=slope * quality + 0.1 * noise + gains["replicate"])


def test_a_relation_is_found_where_there_is_one() -> None:
    found = relate(*_points(10, -1.0), np.random.default_rng(0)).set_index("method")
    assert found.loc["spearman", "value"] == pytest.approx(-1.0)
    assert list(found.index) == ["spearman"]
    none = relate(*_points(10, 0.0), np.random.default_rng(0)).set_index("method")
    assert none.loc["spearman", "low"] < 0 < none.loc["spearman", "high"]


def test_replicates_of_a_pool_are_no_points_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pools gain by luck that all their replicates share: a correlation over pools and replicates rejects half."""
    monkeypatch.setattr(relation, "RESAMPLES", 4)  # of the interval, which is not read here
    random, rejected, naive, runs = np.random.default_rng(2), 0, 0, 150
    fidelity, gains = _points(12, 0.0)
    for _ in range(runs):
        luck = dict(zip(fidelity["configuration"], random.normal(size=12), strict=True))
        drawn = gains.assign(gain=gains["configuration"].map(luck) + 0.3 * random.normal(size=len(gains)))
        rejected += bool(relate(fidelity, drawn, random)["p"].iloc[0] < 0.05)
        naive += spearmanr(drawn["configuration"].str[1:].astype(float), drawn["gain"]).pvalue < 0.05
    assert rejected <= runs * 0.05 + 3 * np.sqrt(runs * 0.05 * 0.95)
    assert naive > runs * 0.2


def test_few_configurations_say_too_few() -> None:
    found = relate(*_points(5, -1.0), np.random.default_rng(0))
    assert (found["note"] == "too few: 5 configurations, at least 8 are needed").all()
    assert found["value"].isna().all()


def test_relate_fidelity_reads_statistics_and_fidelity(tmp_path: Path) -> None:
    statistics = tmp_path / "statistics" / "cnn"
    keys = {"dataset": "a", "part": "test", "label": "macro", "metric": "auroc"}
    values = [("real", 0, 0.8), ("with_p", 100, 0.82), ("with_p", 300, 0.85)]
    rows = [{"arm": a, "ratio": r, "replicate": k, "value": v, **keys} for a, r, v in values for k in range(3)]
    statistics.mkdir(parents=True)
    write_table(statistics / "metrics.parquet", pd.DataFrame(rows), IDENTITY)
    write_manifest(statistics / "manifest.json", IDENTITY, ["metrics.parquet"])
    fidelity = tmp_path / "fidelity" / "p" / "0"
    fidelity.mkdir(parents=True)
    line = {"space": "s", "reference": "held_out", "group": "all", "metric": "kid", "excess": 0.1}
    pd.DataFrame([line]).to_csv(fidelity / "fidelity.csv", index=False)
    write_manifest(fidelity / "manifest.json", IDENTITY, ["fidelity.csv"], pool="p", index=0)
    arms = [{"name": "with_p", "baseline": "real", "pool": "p", "indices": 1}]
    endpoint = {"model": "cnn", "test_set": "a", "label": "macro", "metric": "auroc"}
    inputs = ("statistics/cnn/manifest.json", "fidelity/p/0/manifest.json")
    job = make_job(tmp_path, "fidelity_utility/cnn/manifest.json", {**endpoint, "arms": arms, "seed": 0}, None, *inputs)
    relate_fidelity(job)
    points = pd.read_csv(job.outputs[0].parent / "points.csv")
    assert points.groupby("ratio")["gain"].mean().to_dict() == pytest.approx({100: 0.02, 300: 0.05})
    assert json.loads(job.outputs[0].read_text())["configurations"] == 1  # two ratios of one pool are one point
    assert pd.read_csv(job.outputs[0].parent / "relation.csv")["note"].str.startswith("too few").all()
