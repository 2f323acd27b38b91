"""A made-up but realistic run folder for the tests of figures and report: every number in it is invented."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import PIL.Image

from synthgain.data.image_set import write_image_set
from synthgain.runtime.command import Job
from synthgain.runtime.files import write_json, write_manifest, write_table

MODEL = "cnn"
ARMS = ["real", "real_long", "real_strong", "repeated", "supplemented", "synthetic_only"]
RATIOS = {"repeated": [100, 300], "supplemented": [100, 300, 1000], "synthetic_only": [100, 300, 1000]}
GAINS = {"real_long": 0.004, "real_strong": 0.012, "repeated": 0.001, "supplemented": 0.03, "synthetic_only": -0.05}
TEST_SETS = {"hospital_a": 0.84, "hospital_b": 0.78}
LABELS = ["macro", "opacity", "effusion"]
METRICS = ["auroc", "average_precision", "f1", "brier"]
COLUMNS = {
    "opacity": {"role": "target", "kind": "binary"},
    "effusion": {"role": "target", "kind": "binary"},
    "sex": {"role": "covariate", "kind": "category", "levels": ["F", "M"]},
    "age": {"role": "covariate", "kind": "continuous"},
}
PRIMARY = {
    "model": MODEL,
    "arm": "supplemented",
    "ratio": 300,
    "metric": "auroc",
    "labels": "macro",
    "test_set": "hospital_a",
}
ANALYSIS = {"primary": PRIMARY, "alpha": 0.05, "margin": 0.02, "margin_reason": "half of the gain from 50 to 100 %"}
IDENTITY = "f" * 32


def _metrics(rng: np.random.Generator) -> pd.DataFrame:
    rows = []
    for dataset, level in TEST_SETS.items():
        for label in LABELS:
            for metric in METRICS:
                sign = -0.5 if metric == "brier" else 1.0
                start = 0.2 if metric == "brier" else level
                base = start + rng.normal(0, 0.01, 5)
                for arm in ARMS:
                    for ratio in RATIOS.get(arm, [0]):
                        gain = sign * GAINS.get(arm, 0.0) * (1 + 0.1 * np.log2(1 + ratio / 100))
                        values = base + (gain + rng.normal(0, 0.006, 5) if arm != "real" else 0)
                        rows += [
                            (arm, ratio, replicate, dataset, "test", label, metric, value)
                            for replicate, value in enumerate(values)
                        ]
    return pd.DataFrame(rows, columns=["arm", "ratio", "replicate", "dataset", "part", "label", "metric", "value"])


def _summary(metrics: pd.DataFrame) -> pd.DataFrame:
    grouped = metrics.groupby(["arm", "ratio", "dataset", "label", "metric"], sort=False)["value"]
    table = grouped.agg(replicates="size", mean="mean", sd="std").reset_index()
    return table.assign(low=table["mean"] - 0.02, high=table["mean"] + 0.02)


def _comparisons(metrics: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for (arm, ratio, dataset, label, metric), own in metrics.groupby(
        ["arm", "ratio", "dataset", "label", "metric"], sort=False
    ):
        if arm == "real":
            continue
        base = metrics[
            (metrics["arm"] == "real")
            & (metrics["dataset"] == dataset)
            & (metrics["label"] == label)
            & (metrics["metric"] == metric)
        ]
        difference = own["value"].mean() - base["value"].mean()
        family = "control" if arm.startswith("re") else "secondary" if arm == "supplemented" else "exploratory"
        if family == "control" and (dataset, label, metric) != ("hospital_a", "macro", "auroc"):
            family = "exploratory"
        if (arm, ratio, dataset, label, metric) == ("supplemented", 300, "hospital_a", "macro", "auroc"):
            family = "primary"
        elif family == "secondary" and (dataset, label, metric) != ("hospital_a", "macro", "auroc"):
            family = "exploratory"
        rows.append(
            {
                "arm": arm,
                "ratio": ratio,
                "baseline": "real",
                "dataset": dataset,
                "label": label,
                "metric": metric,
                "family": family,
                "replicates": 5,
                "mean": own["value"].mean(),
                "baseline_mean": base["value"].mean(),
                "difference": difference,
                "low": difference - 0.015,
                "high": difference + 0.015,
                "se": 0.0075,
                "df": 31.2,
                "p": 0.0004 if family == "primary" else 0.21,
                "p_adjusted": 0.0004 if family == "primary" else 0.42,
                "p_bonferroni": 0.0012 if family == "primary" else 1.0,
                "t": 2.9,
                "t_p": 0.01,
                "t_low": difference - 0.01,
                "t_high": difference + 0.01,
                "sign_flip_p": 0.0625,
                "probability_better": 0.97,
                "d_z": 1.8,
                "seed_sd": 0.006,
                "patient_sd": 0.09,
                "verdict": "helps" if family == "primary" else "inconclusive",
                "baseline_ratio": 0,
                "role": arm,
                "reason": "",
                "p_guard": 0.9 if family == "control" else np.nan,
            }
        )
    return pd.DataFrame(rows)


def _subgroups() -> pd.DataFrame:
    levels = [("sex", "F", 61), ("sex", "M", 59), ("sex", "gap", 120), ("age", "(20, 50]", 44), ("age", "(50, 90]", 76)]
    shifts = [0.035, 0.028, -0.007, 0.012, 0.041]
    return pd.DataFrame(
        [
            {
                "arm": "supplemented",
                "ratio": 300,
                "baseline": "real",
                "dataset": "hospital_a",
                "label": label,
                "column": column,
                "group": group,
                "metric": "auroc",
                "patients": patients,
                "positives": patients // 3,
                "mean": 0.86,
                "baseline_mean": 0.83,
                "difference": shift,
                "difference_low": shift - 0.03,
                "difference_high": shift + 0.03,
                "p": 0.04,
                "p_adjusted": 0.11,
                "permutation_p": 0.3 if group == "gap" else np.nan,
            }
            for label in LABELS[1:]
            for (column, group, patients), shift in zip(levels, shifts, strict=True)
        ]
    )


def _further(folder: Path) -> None:
    slope = {"slopes": [0.01, 0.012], "mean": 0.011, "low": 0.004, "high": 0.018, "p": 0.01, "violations": 1}
    fit = {"arm": "supplemented", "dataset": "hospital_a", "label": "macro", "replicates": 5, "slope": slope}
    write_json(folder / "dose_response.json", [fit | {"curves": {"best": "constant"}}])
    grid = [{"seeds": s, "patients": p, "se": 0.007, "detectable": 0.02} for s in (5, 10) for p in (120, 240)]
    power = {
        "arm": "supplemented",
        "ratio": 300,
        "seed_sd": 0.006,
        "patient_sd": 0.09,
        "detectable": 0.021,
        "floor_with_endless_seeds": 0.017,
        "grid": grid,
        "enough_for_margin": grid[-1],
        "advice": "The finite test set limits this comparison: more test patients would help, more seeds hardly.",
    }
    write_json(folder / "power.json", [power])
    worth = {"arm": "supplemented", "ratio": 300, "dataset": "hospital_a", "label": "macro", "fraction": 1.4}
    worth |= {"low": 1.1, "high": 1.8, "extra_patients": 8, "extrapolated": True}
    write_json(folder / "learning_curve.json", [worth])
    place = {"arm": "supplemented", "ratio": 300, "dataset": "hospital_a", "label": "opacity"}
    measured = {"brier": 0.17, "slope": 0.94, "intercept": -0.05, "ece": 0.04, "shift": 0.0}
    pd.DataFrame([place | {"correction": "none", "replicates": 5} | measured]).to_csv(
        folder / "calibration.csv", index=False
    )
    rows = [
        place | {"policy": policy, "threshold": 0.41, "metric": "f1", "mean": 0.7, "difference": 0.02, "low": -0.01}
        for policy in ("fixed_0.5", "f1_max", "target_sensitivity")
    ]
    pd.DataFrame(rows).assign(high=0.05, p=0.2).to_csv(folder / "thresholds.csv", index=False)


def _control(state: str, arm: str, ratio: int, difference: float, baseline: str = "real") -> dict[str, Any]:
    tested = {"arm": arm, "ratio": ratio, "baseline": baseline, "difference": difference, "state": state}
    tested |= {"low": difference - 0.006, "high": difference + 0.006, "p": 0.4, "p_guard": 0.9, "reason": ""}
    return {"checked": state == "passed", "raised": False, "state": state, "rows": [], "tested": [tested]}


def _statistics(run: Path, rng: np.random.Generator, rehearsal: bool) -> None:
    folder = run / "statistics" / MODEL
    folder.mkdir(parents=True)
    metrics = _metrics(rng)
    comparisons = _comparisons(metrics)
    write_table(folder / "metrics.parquet", metrics, IDENTITY)
    _summary(metrics).to_csv(folder / "summary.csv", index=False)
    comparisons.to_csv(folder / "comparisons.csv", index=False)
    _subgroups().to_csv(folder / "subgroups.csv", index=False)
    primary = comparisons[comparisons["family"] == "primary"].iloc[0]
    sentence = (
        "Supplemented at 300 % helps: mean AUROC on hospital_a changed by +0.0400 (95 % interval +0.0250 to +0.0550, "
        "p = 0.0004; 0.8820 against 0.8420; 5 replicates). Conditional on one generator."
    )
    declared = {"primary": json.loads(primary.to_json()), "verdict": "helps", "reason": "", "sentence": sentence}
    nothing = {"primary": None, "verdict": None, "reason": "", "sentence": "Rehearsal: no verdict."}
    verdict = {
        **(nothing if rehearsal else declared),
        "comparisons": [] if rehearsal else [declared],
        "alarms": {
            "a_a": _control("passed", "repeated", 100, 0.001),
            "under_trained": _control("passed", "real_long", 0, 0.004),
            "negative_control": {"checked": False, "raised": False, "state": "not checked", "rows": [], "tested": []},
            "step_matched_control": _control("passed", "supplemented", 300, 0.039, "repeated"),
            "strong_augmentation": _control("not informative", "real_strong", 0, -0.21),
            "unreached": {"checked": True, "raised": False, "state": "not checked", "rows": [], "tested": []},
            "memorisation": {"checked": True, "raised": False, "rows": []},
        },
        "notes": ["Results are conditional on one generator: another training of it could give another answer."],
        "alpha": 0.05,
        "margin": 0.02,
        "replicates": 5,
        "rehearsal": rehearsal,
    }
    write_json(folder / "verdict.json", verdict)
    _further(folder)
    names = [path.name for path in folder.iterdir() if path.name != "manifest.json"]
    write_manifest(folder / "manifest.json", IDENTITY, names)


def _image_table(rng: np.random.Generator, count: int, site: str, origin: str) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "image_id": [f"{site}-{origin}-{number:03d}" for number in range(count)],
            "patient_id": [f"{site}-{number // 2:03d}" for number in range(count)],
            "site": site,
            "origin": origin,
            "opacity": rng.integers(0, 2, count).astype("float32"),
            "effusion": rng.integers(0, 2, count).astype("float32"),
            "sex": rng.choice(["F", "M"], count),
            "age": rng.uniform(20, 90, count).astype("float32"),
        }
    )


def _blobs(rng: np.random.Generator, table: pd.DataFrame, size: int = 32) -> np.ndarray:
    y, x = np.mgrid[0:size, 0:size] / (size - 1)
    body = 90 * np.exp(-(((x - 0.5) / 0.35) ** 4)) - 70 * np.exp(
        -(((abs(x - 0.5) - 0.2) / 0.1) ** 2 + (y - 0.5) ** 2 * 9)
    )
    spot = np.exp(-(((x - 0.3) / 0.1) ** 2 + ((y - 0.6) / 0.1) ** 2))
    images = 90 + body + 90 * spot * table["opacity"].to_numpy()[:, None, None]
    return (images + rng.normal(0, 6, images.shape)).clip(0, 255).astype(np.uint8)[..., None]


def _images(run: Path, rng: np.random.Generator) -> None:
    for site, count in (("hospital_a", 80), ("hospital_b", 40)):
        table = _image_table(rng, count, site, "real")
        write_image_set(run / "datasets" / site, _blobs(rng, table), table, COLUMNS, IDENTITY)
        (run / "datasets" / site / "quarantine.csv").write_text("image,reason\nbroken.png,not readable\n")
    folder = run / "splits" / "hospital_a"
    table = _image_table(rng, 80, "hospital_a", "real")[["image_id", "patient_id"]]
    table["part"] = np.where(np.arange(80) < 40, "train", np.where(np.arange(80) < 56, "validation", "test"))
    folder.mkdir(parents=True)
    write_table(folder / "split.parquet", table, IDENTITY)
    write_manifest(folder / "manifest.json", IDENTITY, ["split.parquet"])
    replica = run / "pools" / "drawn" / "0" / "replica-1"
    drawn = _image_table(rng, 40, "hospital_a", "synthetic")
    write_image_set(replica / "shard-0", _blobs(rng, drawn), drawn, COLUMNS, IDENTITY)
    write_manifest(replica / "manifest.json", IDENTITY, [], shards=["shard-0"], images=40)


def _generator(run: Path, rng: np.random.Generator) -> None:
    folder = run / "generators" / "ddpm" / "0"
    folder.mkdir(parents=True)
    step = np.arange(10, 2001, 10)
    loss = 0.9 * np.exp(-step / 300) + 0.12 + rng.normal(0, 0.02, len(step))
    pd.DataFrame({"step": step, "loss": loss, "images_per_second": 410.0, "seconds": step / 7}).to_csv(
        folder / "training.csv", index=False
    )
    facts: dict[str, Any] = {
        "final": 2000,
        "steps": 2000,
        "parameters": 1_100_000,
        "saw": {"patients": 20, "images": 40, "labelled_images": 40, "ids_sha256": "0" * 64},
        "environments": [{"from_step": 0, "device": "cpu", "threads": 2}],
        "loss": {"first": 0.98, "lowest": 0.09, "final": 0.12},
        "seconds": 285.7,
        "images_per_second": 410.0,
        "epochs": 3200.0,
    }
    write_manifest(folder / "manifest.json", IDENTITY, ["training.csv"], **facts)
    samples = run / "samples" / "ddpm" / "0"
    samples.mkdir(parents=True)
    for step in (500, 2000):
        PIL.Image.fromarray(rng.integers(0, 255, (64, 128), dtype=np.uint8)).save(samples / f"{step}.png")


def _fidelity(folder: Path) -> None:
    values = {"kid": (0.03, 0.002), "fd": (4.1, 2.2), "precision": (0.81, 0.9), "recall": (0.52, 0.89)}
    values |= {"density": (0.94, 1.0), "coverage": (0.71, 0.93), "vendi": (11.0, 14.5)}
    rows = [
        {"space": space, "reference": reference, "group": group, "metric": name, "n": 40, "value": scale * value}
        | {"low": scale * value * 0.8, "high": scale * value * 1.2, "floor": scale * floor}
        | {"floor_sd": scale * 0.05 * floor, "excess": scale * (value - floor), "p": 0.01 if name == "kid" else None}
        | {"note": "n < 2 x 1280 dimensions: read with kid" if name == "fd" else ""}
        for space, scale in (("efficientnet_lite0", 1.0), ("downstream", 0.5))
        for reference, group in (("held_out", "all"), ("train", "all"), ("held_out", "sex: F"))
        for name, (value, floor) in values.items()
    ]
    folder.mkdir(parents=True)
    pd.DataFrame(rows).to_csv(folder / "fidelity.csv", index=False)
    spaces = [
        {"name": name, "label": label, "dimensions": 1280, "weights_sha256": "a" * 64}
        for name, label in (("efficientnet_lite0", "EfficientNet-Lite0"), ("downstream", "real-only downstream model"))
    ]
    facts: dict[str, Any] = {"spaces": spaces, "pool": "drawn", "index": 0, "reference": "held_out"}
    write_manifest(folder / "manifest.json", IDENTITY, ["fidelity.csv"], **facts)


def _memorisation(folder: Path, rng: np.random.Generator) -> None:
    folder.mkdir(parents=True)
    rate = {"space": "pixels", "rule": "nearest", "threshold": 0.98, "n": 40, "flagged": 1}
    rate |= {"rate": 0.025, "null_n": 24, "null_rate": 0.0, "excess": 0.025, "low": -0.01, "high": 0.07, "note": ""}
    pd.DataFrame([rate]).to_csv(folder / "memorisation.csv", index=False)
    member = {"noise_level": "0.2 sigma_data", "n_train": 40, "n_held_out": 40, "auroc": 0.51, "low": 0.44}
    member |= {"high": 0.58, "tpr_at_1_fpr": 0.02, "tpr_low": 0.0, "tpr_high": 0.06, "leak": "none found", "note": ""}
    pd.DataFrame([member, member | {"noise_level": "all"}]).to_csv(folder / "membership.csv", index=False)
    pixels = rng.integers(0, 255, (32, 64), dtype=np.uint8)
    PIL.Image.fromarray(pixels).save(folder / "candidates.png")
    gate = {"exceeded": False, "barred_sets": [], "state": "within limit", "excess": 0.0, "low": -0.01, "high": 0.009}
    gate |= {"none_found": True, "copies": 0, "images": 40}
    gate |= {"limit": 0.01, "membership": {"leak": "none found"}, "sentence": "No copying beyond chance was found."}
    write_json(folder / "gate.json", gate)
    names = ["candidates.png", "gate.json", "memorisation.csv", "membership.csv"]
    write_manifest(folder / "manifest.json", IDENTITY, names, pool="drawn", index=0)


def _consistency(folder: Path) -> None:
    folder.mkdir(parents=True)
    row = {"group": "all", "n": 40, "positives": 18, "value": 0.95, "low": 0.9, "high": 0.98, "real_n": 16}
    row |= {"real_value": 0.82, "real_low": 0.75, "real_high": 0.88, "difference": 0.13, "note": ""}
    pd.DataFrame([row | {"label": name} for name in ("opacity", "effusion")]).to_csv(
        folder / "label_consistency.csv", index=False
    )
    write_manifest(folder / "manifest.json", IDENTITY, ["label_consistency.csv"], pool="drawn", index=0, model=MODEL)


def _snapshots(folder: Path) -> None:
    folder.mkdir(parents=True)
    rows = [
        {"snapshot": step, "space": "efficientnet_lite0", "n": 40, "kid": kid, "kid_se": 0.004, "copy_n": 40}
        | {"copy_rate": copies, "null_rate": 0.0, "excess": copies, "low": copies - 0.02, "high": copies + 0.03}
        | {"recommended": step == 1000, "note": "copies above their null" if copies > 0.02 else ""}
        for step, kid, copies in ((500, 0.06, 0.0), (1000, 0.03, 0.01), (2000, 0.028, 0.08))
    ]
    pd.DataFrame(rows).to_csv(folder / "snapshots.csv", index=False)
    facts = {"recommended": 1000, "generator": "ddpm", "index": 0}
    write_manifest(folder / "manifest.json", IDENTITY, ["snapshots.csv"], **facts)


def _relation(folder: Path) -> None:
    folder.mkdir(parents=True)
    row = {"space": "efficientnet_lite0", "reference": "held_out", "configurations": 9, "p": 0.04, "note": ""}
    rows = [
        row | {"metric": "kid", "method": "spearman", "n": 9, "value": -0.7, "low": -0.95, "high": -0.1},
        row | {"metric": "kid", "method": "rm_corr", "n": 45, "value": -0.5, "low": -0.7, "high": -0.2},
        row | {"metric": "recall", "method": "spearman", "n": 9, "value": 0.3, "low": -0.4, "high": 0.8},
    ]
    pd.DataFrame(rows).to_csv(folder / "relation.csv", index=False)
    point = {"configuration": "drawn 300 %", "pool": "drawn", "arm": "supplemented", "ratio": 300, "index": 0}
    points = [point | {"replicate": replicate, "gain": 0.03 + 0.001 * replicate} for replicate in range(5)]
    pd.DataFrame(points).to_csv(folder / "points.csv", index=False)
    write_manifest(folder / "manifest.json", IDENTITY, ["points.csv", "relation.csv"], model=MODEL, configurations=9)


def _measured(run: Path, rng: np.random.Generator) -> None:
    _fidelity(run / "fidelity" / "drawn" / "0")
    _memorisation(run / "memorisation" / "drawn" / "0", rng)
    _consistency(run / "label_consistency" / "drawn" / "0")
    _snapshots(run / "snapshots" / "ddpm" / "0")
    _relation(run / "fidelity_utility" / MODEL)


def _benchmarks(run: Path) -> None:
    times = {"train_generator": [310.0], "draw_pool_shard": [44.0, 47.5], "train_downstream": [22.0] * 12}
    for rule, seconds in times.items():
        folder = run / "benchmarks" / rule
        folder.mkdir(parents=True)
        for number, value in enumerate(seconds):
            text = "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time\n"
            text += f"{value:.4f}\t0:00:{value:.0f}\t612.5\t900\t580\t590\t0\t1\t98.1\t{value * 1.9:.2f}\n"
            (folder / f"{number}.tsv").write_text(text)


def _downstream(run: Path) -> None:
    for arm in ARMS:
        for ratio in RATIOS.get(arm, [0]):
            folder = run / "downstream" / MODEL / arm / str(ratio) / "0"
            folder.mkdir(parents=True)
            shown = 6400 if arm != "synthetic_only" else 0
            share = 1 / (1 + ratio / 100) if arm == "supplemented" else 1.0
            shown_real = round(shown * share)
            run_facts: dict[str, Any] = {
                "steps": 400 if arm == "real_long" else 200,
                "seconds": 21.5,
                "real_exposures": shown_real,
            }
            run_facts |= {"environments": [{"device": "cpu", "threads": 2}]}
            facts: dict[str, Any] = {"replicates": {str(replicate): run_facts for replicate in range(5)}}
            write_manifest(folder / "manifest.json", IDENTITY, [], **facts)


def make_run(run: Path, rehearsal: bool = False) -> Path:
    """Fill `run` with everything that draw_figures and write_report read, and return it."""
    rng = np.random.default_rng(20261122)
    _statistics(run, rng, rehearsal)
    _images(run, rng)
    _generator(run, rng)
    _downstream(run)
    _measured(run, rng)
    _benchmarks(run)
    return run


def job(run: Path, output: str, slice_: dict[str, Any], inputs: list[str]) -> Job:
    """Return the job that makes `output` (relative to the run folder)."""
    return Job(slice_, dict.fromkeys(inputs, IDENTITY), "c" * 32, IDENTITY, run, [run / output], 1)


def figures_job(run: Path, **changes: Any) -> Job:
    """Return the job of draw_figures."""
    slice_ = {
        "model": MODEL,
        "task": "classification",
        "targets": ["opacity", "effusion"],
        "arms": {name: {"role": name} for name in ARMS},
        "analysis": {"margin": 0.02, "alpha": 0.05, "subgroups": ["sex", "age"]},
        "primary": [PRIMARY],
        "pools": [{"pool": "drawn", "rows_of": "hospital_a"}],
        **changes,
    }
    inputs = [
        f"statistics/{MODEL}/manifest.json",
        "datasets/hospital_a/manifest.json",
        "splits/hospital_a/manifest.json",
        "pools/drawn/0/replica-1/manifest.json",
        "generators/ddpm/0/manifest.json",
        "fidelity/drawn/0/manifest.json",
        "snapshots/ddpm/0/manifest.json",
    ]
    return job(run, f"figures/{MODEL}/manifest.json", slice_, inputs)


def config() -> dict[str, Any]:
    """Return a resolved study as write_report gets it."""
    split = {"train": 0.5, "validation": 0.2, "test": 0.3, "column": None}
    arms: dict[str, Any] = {
        "real": {"real": "hospital_a"},
        "real_long": {"real": "hospital_a", "steps_factor": 2.0},
        "real_strong": {"real": "hospital_a", "augmentation": "strong"},
        "repeated": {"real": "hospital_a", "repeat": True, "ratios": [100, 300]},
        "supplemented": {"real": "hospital_a", "synthetic": "drawn", "ratios": [100, 300, 1000]},
        "synthetic_only": {"synthetic": "drawn", "ratios": [100, 300, 1000]},
    }
    return {
        "study": "phantom",
        "image": {"size": 32, "channels": 1, "fit": "pad", "intensity": "none"},
        "datasets": {
            "hospital_a": {"adapter": "phantom", "split": split, "licence": "made up"},
            "hospital_b": {"adapter": "phantom", "split": None, "licence": "made up"},
        },
        "generators": {
            "ddpm": {
                "family": "diffusion",
                "train_on": {"datasets": ["hospital_a"]},
                "condition_on": ["opacity", "effusion", "sex"],
                "training": {"steps": 2000, "batch_size": 64, "learning_rate": 0.0005, "ema_decay": 0.999},
            }
        },
        "pools": {
            "drawn": {
                "from": "ddpm",
                "rows_of": "hospital_a",
                "sampling": {"solver": "dpmpp_2m", "steps": 18, "guidance_scale": 1.0},
            }
        },
        "models": {
            MODEL: {
                "task": "classification",
                "targets": ["opacity", "effusion"],
                "network": "small_cnn",
                "steps": 200,
                "batch_size": 32,
                "learning_rate": 0.001,
                "selection": "real_validation",
                "selection_metric": "loss",
                "validate_every": 50,
                "pretrained": None,
            }
        },
        "arms": arms,
        "evaluate_on": ["hospital_a", "hospital_b"],
        "match": "steps",
        "replicates": {"count": 5, "generators": 1, "pools": 1},
    }


def report_job(run: Path, **changes: Any) -> Job:
    """Return the job of write_report."""
    slice_ = {
        "study": "phantom",
        "title": "Phantom: two hospitals",
        "description": "A made-up study for the tests.",
        "config": config(),
        "seed": 0,
        "predeclared": {"analysis": ANALYSIS, "replicates": {"count": 5}, "seed": 0},
        "rehearsal": False,
        "models": [MODEL],
        "image_level": [],
        **changes,
    }
    inputs = [str(path.relative_to(run)) for path in sorted(run.rglob("manifest.json")) if "shard-" not in str(path)]
    inputs += [str(path.relative_to(run)) for path in sorted((run / "samples").rglob("*.png"))]
    return job(run, "report.html", slice_, inputs)
