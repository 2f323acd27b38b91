"""A made-up run of a segmentation study for the tests of its statistics, figures and report: every number is invented.

Predictions, pictures and masks are drawn here; the statistics are those of the real `compare_arms` on them.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from fake_run import IDENTITY, job

from compare_arms import compare_arms
from synthgain.data.image_set import write_image_set
from synthgain.evaluation.mask_agreement import COLUMNS as AGREEMENT_COLUMNS
from synthgain.evaluation.mask_agreement import agreement_rows
from synthgain.runtime.command import Job
from synthgain.runtime.files import write_manifest, write_table

MODEL, STRUCTURE = "unet", "polyp"
REPLICATES, PATIENTS, SIZE = 5, 40, 32
RATIOS = [100, 300]
ROLES = {
    "real": "baseline",
    "real_half": "baseline",
    "real_long": "real_long",
    "real_strong": "real_strong",
    "repeated": "repeated",
    "diffusion": "supplemented",
    "gan": "supplemented",
    "filtered": "supplemented",
    "thinned": "supplemented",
    "misaligned": "negative_control",
    "synthetic_only": "synthetic_only",
}
POOLS = {"diffusion": "pairs", "gan": "gan_pairs", "filtered": "kept", "thinned": "some", "synthetic_only": "pairs"}
POOLS |= {"misaligned": "moved"}
GAINS = {"diffusion": 0.05, "gan": 0.02, "filtered": 0.055, "thinned": 0.045, "misaligned": -0.04, "real_half": -0.05}
GAINS |= {"real_strong": 0.015, "synthetic_only": -0.08, "real_long": 0.003}
METRICS = ["dice", "hd95", "failure_rate", "empty_false_positive_rate"]
TEST_SETS = {"endoscopy_a": 0.71, "endoscopy_b": 0.62}
PRIMARY = {"model": MODEL, "arm": "diffusion", "ratio": 300, "metric": "dice", "labels": "macro"}
PRIMARY |= {"test_set": "endoscopy_a"}


def arms() -> dict[str, dict[str, Any]]:
    """Return the arms as compare_arms' slice has them."""
    return {
        name: {
            "real": None if name == "synthetic_only" else "endoscopy_a",
            "synthetic": POOLS.get(name),
            "ratios": RATIOS if name in POOLS or name == "repeated" else [],
            "repeat": name == "repeated",
            "real_fraction": 0.5 if name == "real_half" else 1.0,
            "steps_factor": 2.0 if name == "real_long" else 1.0,
            "augmentation": "strong" if name == "real_strong" else "standard",
            "role": role,
            "baseline": None if role == "baseline" else "real",
            "match": "steps",
        }
        for name, role in ROLES.items()
    }


def predictions(rng: np.random.Generator) -> dict[str, pd.DataFrame]:
    """Return {arm: predictions}: Dice with a patient effect that all arms share, and every fifth structure absent."""
    tables: dict[str, list[pd.DataFrame]] = {name: [] for name in ROLES}
    for dataset, level in TEST_SETS.items():
        for part in ("validation", "test") if dataset == "endoscopy_a" else ("test",):
            ids = _ids(dataset, part)
            hard = 0.12 * rng.normal(size=PATIENTS)[np.arange(len(ids)) // 2]
            for arm, role in ROLES.items():
                for ratio in RATIOS if arm in POOLS or role == "repeated" else [0]:
                    gain = GAINS.get(arm, 0.0) * (np.log2(1 + ratio / 100) / 2 if ratio else 1)
                    for replicate in range(REPLICATES):
                        noise = 0.008 * rng.normal() + 0.05 * rng.normal(size=len(ids))
                        dice = np.clip(level + hard + gain + noise, 0, 1)
                        tables[arm].append(_prediction_rows(dataset, part, ids, ratio, replicate, dice))
    return {name: pd.concat(frames, ignore_index=True) for name, frames in tables.items()}


def _ids(dataset: str, part: str) -> list[str]:
    return [f"{dataset}-{part}-{number:03d}" for number in range(2 * PATIENTS)]


def _prediction_rows(
    dataset: str, part: str, ids: list[str], ratio: int, replicate: int, dice: np.ndarray
) -> pd.DataFrame:
    empty = np.arange(len(ids)) % 5 == 4
    undefined = np.where(empty, np.nan, 1.0)
    return pd.DataFrame(
        {
            "ratio": ratio,
            "replicate": replicate,
            "dataset": dataset,
            "part": part,
            "image_id": ids,
            "patient_id": [name.rsplit("-", 1)[0] + f"-p{number // 2}" for number, name in enumerate(ids)],
            "label": STRUCTURE,
            "truth": np.where(empty, 0.0, 1.0).astype("float32"),
            "score": dice * undefined,
            "dice": dice * undefined,
            "iou": dice / (2 - dice) * undefined,
            "nsd": dice**0.5 * undefined,
            "hd95": np.where(dice > 0, 20 * (1 - dice), np.nan) * undefined,
            "truth_empty": empty.astype(float),
            "predicted_empty": (empty & (np.arange(len(ids)) % 10 == 4)).astype(float),
        }
    )


def floors(rng: np.random.Generator) -> pd.DataFrame:
    """Return predictions of the two trivial floors on the test sets."""
    frames = []
    for floor, level in (("all_foreground", 0.27), ("mean_mask", 0.34)):
        for dataset in TEST_SETS:
            ids = _ids(dataset, "test")
            dice = np.clip(level + 0.1 * rng.normal(size=len(ids)), 0.01, 1)
            frames.append(_prediction_rows(dataset, "test", ids, 0, 0, dice).assign(floor=floor))
    return pd.concat(frames, ignore_index=True)


def blobs(rng: np.random.Generator, count: int, size: int = SIZE) -> tuple[np.ndarray, np.ndarray]:
    """Return pictures (count, size, size, 3) uint8 of a pink wall with a redder blob, and the blobs' masks (…, 1)."""
    y, x = np.mgrid[0:size, 0:size] / size
    cx, cy = rng.uniform(0.3, 0.7, (2, count, 1, 1))
    a, b = rng.uniform(0.12, 0.28, (2, count, 1, 1))
    inside = ((x - cx) / a) ** 2 + ((y - cy) / b) ** 2 < 1
    wall = np.array([205, 130, 120.0]) + 25 * rng.normal(size=(count, 1, 1, 1))
    images = wall - inside[..., None] * np.array([15, 60, 50.0]) + 7 * rng.normal(size=(count, size, size, 3))
    return images.clip(0, 255).astype(np.uint8), inside.astype(np.uint8)[..., None]


def _table(ids: list[str], origin: str, **more: Any) -> pd.DataFrame:
    patients = [name.rsplit("-", 1)[0] + f"-p{number // 2}" for number, name in enumerate(ids)]
    columns = {"image_id": ids, "patient_id": patients, "site": "a", "origin": origin, f"has_mask_{STRUCTURE}": True}
    return pd.DataFrame(columns | more)


def _datasets(run: Path, rng: np.random.Generator) -> None:
    for dataset in TEST_SETS:
        ids = [name for part in ("train", "validation", "test") for name in _ids(dataset, part)]
        images, masks = blobs(rng, len(ids))
        folder = run / "datasets" / dataset
        write_image_set(folder, images, _table(ids, "real"), {}, IDENTITY, masks, [STRUCTURE])
    folder = run / "splits" / "endoscopy_a"
    folder.mkdir(parents=True)
    ids = [name for part in ("train", "validation", "test") for name in _ids("endoscopy_a", part)]
    split = _table(ids, "real")[["image_id", "patient_id"]].assign(part=[name.split("-")[1] for name in ids])
    write_table(folder / "split.parquet", split, IDENTITY)
    write_manifest(folder / "manifest.json", IDENTITY, ["split.parquet"])


def _pools(run: Path, rng: np.random.Generator) -> None:
    rows = _ids("endoscopy_a", "train")[:40]
    for pool in ("pairs", "gan_pairs", "moved"):
        images, masks = blobs(rng, len(rows))
        ids = [f"{pool}-{number}" for number in range(len(rows))]
        table = _table(ids, "synthetic", parent_image_id=rows, mask_parent_id=rows, replica=1, seed=0)
        replica = run / "pools" / pool / "0" / "replica-1"
        masks = np.roll(masks, 7, axis=0) if pool == "moved" else masks
        write_image_set(replica / "shard-0", images, table, {}, IDENTITY, masks, [STRUCTURE])
        facts: dict[str, Any] = {"shards": ["shard-0"], "images": len(rows), "mask_names": [STRUCTURE]}
        write_manifest(replica / "manifest.json", IDENTITY, [], **facts, shard_identities={"shard-0": IDENTITY})
    for pool in ("kept", "some"):
        facts = {"shards": ["shard-0"], "images": 30, "of": "pairs", "kept": 30, "of_images": 40}
        write_manifest(run / "pools" / pool / "0" / "replica-1" / "manifest.json", IDENTITY, [], **facts)


def _agreement(run: Path, rng: np.random.Generator) -> None:
    real = rng.beta(8, 3, 60)
    for pool, levels in (("pairs", rng.beta(9, 2, 120)), ("gan_pairs", rng.beta(4, 2.5, 120))):
        folder = run / "label_consistency" / pool / "0"
        folder.mkdir(parents=True)
        sides = []
        for name, dice in (("scores", levels), ("real_scores", real)):
            ids = [f"{pool}-{name}-{number}" for number in range(len(dice))]
            table = pd.DataFrame({"image_id": ids, f"dice_{STRUCTURE}": dice.astype("float32"), "dice": dice})
            table[f"empty_{STRUCTURE}"] = False
            write_table(folder / f"{name}.parquet", table, IDENTITY)
            sides.append((table, np.array(ids), {"all": np.ones(len(ids), dtype=bool)}))
        rows = pd.DataFrame(agreement_rows(STRUCTURE, sides[0], sides[1], 10, rng), columns=list(AGREEMENT_COLUMNS))
        rows.to_csv(folder / "mask_agreement.csv", index=False)
        names = ["mask_agreement.csv", "scores.parquet", "real_scores.parquet"]
        write_manifest(folder / "manifest.json", IDENTITY, names, pool=pool, index=0, model=MODEL, images=120)


def _fidelity(run: Path) -> None:
    measures = {"area_share": 0.02, "centroid_x": 0.03, "centroid_y": 0.02, "components": 0.3, "compactness": 0.08}
    for place, pool in enumerate(("pairs", "gan_pairs")):
        rows = [
            {
                "space": "mask",
                "metric": f"{name}:{STRUCTURE}",
                "value": value * (1.1 + place),
                "floor": value,
                "note": "",
            }
            | {"low": value * (0.8 + place), "high": value * (1.4 + place), "floor_sd": 0.2 * value}
            | {"excess": value * (0.1 + place), "p": None}
            for name, value in measures.items()
        ]
        kid = {"space": "downstream", "metric": "kid", "value": 0.04 + 0.03 * place, "low": 0.02, "high": 0.1}
        rows.append(kid | {"floor": 0.01, "floor_sd": 0.004, "excess": 0.03 + 0.03 * place, "p": 0.01, "note": ""})
        folder = run / "fidelity" / pool / "0"
        folder.mkdir(parents=True)
        table = pd.DataFrame(rows).assign(reference="held_out", group="all", n=60)
        table.to_csv(folder / "fidelity.csv", index=False)
        spaces = [{"name": "downstream", "label": "bottleneck", "dimensions": 64, "weights_sha256": "a" * 64}]
        facts: dict[str, Any] = {"spaces": spaces, "pool": pool, "index": 0, "reference": "held_out"}
        write_manifest(folder / "manifest.json", IDENTITY, ["fidelity.csv"], **facts)


def _generators(run: Path, rng: np.random.Generator) -> None:
    energies = {"ddpm": (None, "not measured", 5400.0), "style": (210_000.0, "nvml", 7200.0)}
    for name, (joules, source, seconds) in energies.items():
        folder = run / "generators" / name / "0"
        folder.mkdir(parents=True)
        step = np.arange(10, 1001, 10)
        loss = np.exp(-step / 300) + 0.1 + rng.normal(0, 0.02, len(step))
        pd.DataFrame({"step": step, "loss": loss}).to_csv(folder / "training.csv", index=False)
        saw = {"patients": 60, "images": 120, "ids_sha256": "0" * 64}
        facts: dict[str, Any] = {"final": 1000, "steps": 1000, "parameters": 1_000_000, "saw": saw, "epochs": 133.0}
        facts |= {"seconds": seconds, "energy_joules": joules, "energy_source": source, "images_per_second": 90.0}
        facts |= {"environments": [{"device": "cpu"}], "loss": {"final": 0.1}, "output": "image+mask"}
        write_manifest(folder / "manifest.json", IDENTITY, ["training.csv"], **facts, structures=[STRUCTURE])


def _downstream(run: Path) -> None:
    for arm in ROLES:
        for ratio in RATIOS if arm in POOLS or arm == "repeated" else [0]:
            facts = {"steps": 200, "seconds": 30.0, "real_exposures": 3200, "environments": [{"device": "cpu"}]}
            folder = run / "downstream" / MODEL / arm / str(ratio) / "0"
            folder.mkdir(parents=True)
            replicates: dict[str, Any] = {str(replicate): facts for replicate in range(REPLICATES)}
            write_manifest(folder / "manifest.json", IDENTITY, [], replicates=replicates)


def statistics_job(run: Path, **analysis: Any) -> Job:
    """Return the job of compare_arms."""
    declared = {
        "primary": PRIMARY,
        "alpha": 0.05,
        "margin": 0.02,
        "bootstrap": 200,
        "subgroups": [],
        "metrics": METRICS,
    } | analysis
    slice_ = {
        "model": MODEL,
        "task": "segmentation",
        "targets": [STRUCTURE],
        "arms": arms(),
        "analysis": declared,
        "replicates": {"count": REPLICATES, "generators": 1, "pools": 1},
        "rehearsal": False,
        "test_sets": [{"dataset": "endoscopy_a", "split": True}, {"dataset": "endoscopy_b", "split": False}],
        "seed": 0,
    }
    inputs = [f"predictions/{MODEL}/{name}.parquet" for name in ROLES] + [f"floors/{MODEL}.parquet"]
    inputs += [f"datasets/{name}/manifest.json" for name in TEST_SETS] + ["splits/endoscopy_a/manifest.json"]
    return job(run, f"statistics/{MODEL}/manifest.json", slice_, inputs)


def make_pairs_run(run: Path) -> Path:
    """Fill `run` with everything that compare_arms, draw_figures and write_report read of a segmentation study."""
    rng = np.random.default_rng(4)
    for name, table in predictions(rng).items():
        write_table(run / "predictions" / MODEL / f"{name}.parquet", table, IDENTITY)
    write_table(run / "floors" / f"{MODEL}.parquet", floors(rng), IDENTITY)
    _datasets(run, rng)
    _pools(run, rng)
    _agreement(run, rng)
    _fidelity(run)
    _generators(run, rng)
    _downstream(run)
    compare_arms(statistics_job(run))
    return run


def figures_job(run: Path) -> Job:
    """Return the job of draw_figures."""
    pools = [{"pool": "pairs", "rows_of": "endoscopy_a", "parent": "mask_parent_id"}]
    pools += [{"pool": name, "rows_of": "endoscopy_a"} for name in ("gan_pairs", "moved")]
    slice_ = {
        "model": MODEL,
        "task": "segmentation",
        "targets": [STRUCTURE],
        "arms": {name: {"role": role, "synthetic": POOLS.get(name)} for name, role in ROLES.items()},
        "analysis": {"margin": 0.02, "alpha": 0.05, "subgroups": []},
        "primary": [PRIMARY],
        "pools": pools,
    }
    wanted = ("statistics/", "datasets/", "splits/", "pools/", "generators/", "fidelity/", "label_consistency/")
    return job(run, f"figures/{MODEL}/manifest.json", slice_, [n for n in manifests(run) if n.startswith(wanted)])


def manifests(run: Path) -> list[str]:
    """Return every manifest of the run but those of shards."""
    found = [str(path.relative_to(run)) for path in sorted(run.rglob("manifest.json"))]
    return [name for name in found if "/shard-" not in name]


def report_job(run: Path) -> Job:
    """Return the job of write_report."""
    training = {"steps": 1000, "batch_size": 16, "learning_rate": 0.0005, "ema_decay": 0.999}
    generators = {
        name: {"family": family, "train_on": {"datasets": ["endoscopy_a"]}, "condition_on": [], "training": training}
        | {"output": "image+mask", "structures": [STRUCTURE]}
        for name, family in (("ddpm", "diffusion"), ("style", "gan"))
    }
    drawn = {"rows_of": "endoscopy_a", "sampling": {"solver": "dpmpp_2m", "steps": 18, "guidance_scale": 1.0}}
    rule = {"scores": "mask_agreement", "column": "dice", "keep": "above", "quantile": 0.25}
    pools: dict[str, Any] = {"pairs": {"from": "ddpm", **drawn}, "gan_pairs": {"from": "style", **drawn}}
    pools |= {"moved": {"from": "ddpm", "misaligned": True, **drawn}}
    pools |= {"kept": {"of": "pairs", "filter": rule}, "some": {"of": "pairs", "thin_to": "kept"}}
    model = {"task": "segmentation", "targets": [], "structures": [STRUCTURE], "network": "unet", "steps": 200}
    model |= {"batch_size": 16, "learning_rate": 0.001, "selection": "real_validation", "selection_metric": "dice"}
    split = {"train": 0.4, "validation": 0.3, "test": 0.3, "column": None}
    config = {
        "study": "polyps",
        "image": {"size": SIZE, "channels": 3, "fit": "pad", "intensity": "none"},
        "datasets": {
            "endoscopy_a": {"adapter": "published", "split": split, "licence": "made up"},
            "endoscopy_b": {"adapter": "published", "split": None, "licence": "made up"},
        },
        "generators": generators,
        "pools": pools,
        "models": {MODEL: model | {"validate_every": 50, "pretrained": None, "tolerance": 2.0}},
        "arms": {name: {key: arm[key] for key in arm if key not in ("role", "match")} for name, arm in arms().items()},
        "evaluate_on": list(TEST_SETS),
        "match": "steps",
        "replicates": {"count": REPLICATES, "generators": 1, "pools": 1},
    }
    analysis = {"primary": PRIMARY, "alpha": 0.05, "margin": 0.02, "margin_reason": ""}
    slice_ = {
        "study": "polyps",
        "title": "Polyps: image–mask pairs",
        "description": "A made-up study for the tests.",
        "config": config,
        "seed": 0,
        "predeclared": {"analysis": analysis, "replicates": {"count": REPLICATES}, "seed": 0},
        "rehearsal": False,
        "models": [MODEL],
        "image_level": [],
    }
    return job(run, "report.html", slice_, manifests(run))


def verdict_of(run: Path) -> dict[str, Any]:
    """Return verdict.json."""
    found: dict[str, Any] = json.loads((run / "statistics" / MODEL / "verdict.json").read_text())
    return found
