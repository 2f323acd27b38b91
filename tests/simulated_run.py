"""Whole runs for the tests of statistics, figures and report: real planner and scripts on simulated scores.

Only what a network would do is simulated: a generator's pools are drawn by the phantom's law (known: oracle), scores
come from known laws, and features are pooled pixels. All that is computed of them is computed by the scripts.
"""

import copy
import fcntl
import functools
import json
import os
import shutil
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
import PIL.Image

import check_memorisation
import evaluate_snapshots
import measure_fidelity
from audit_datasets import audit_datasets
from compare_arms import compare_arms
from draw_figures import draw_figures
from draw_pool_shard import draw_pool_shard
from merge_pool_replica import merge_pool_replica
from prepare_dataset import prepare_dataset
from relate_fidelity import relate_fidelity
from split_dataset import split_dataset
from synthgain.data.image_set import ImageSet, read_image_set
from synthgain.evaluation import agreement, mask_agreement, membership, relation
from synthgain.evaluation.inputs import parents, read_pool, read_real
from synthgain.runtime import command
from synthgain.runtime.command import Job
from synthgain.runtime.files import read_json, read_table, write_json, write_manifest, write_table
from synthgain.study.load import parse_study
from synthgain.study.planner import Planner
from synthgain.study.stage import PlannedJob
from synthgain.study.stages.table import STAGES
from trivial_floor import trivial_floor
from write_protocol import write_protocol

STRUCTURE = "finding"
SPLIT = {"train": 0.4, "validation": 0.2, "test": 0.4}
CLINICS: dict[str, Any] = {
    "hospital_a": {"adapter": "phantom", "patients": 180, "seed": 1, "split": SPLIT},
    "hospital_b": {"adapter": "phantom", "patients": 90, "site": "b", "seed": 2},
}
for _clinic in CLINICS.values():
    _clinic |= {"prevalence": {"opacity": 0.5, "effusion": 0.4}, "licence": "made up"}
CONTROLS: dict[str, Any] = {
    "real": {"real": "hospital_a"},
    "real_half": {"real": "hospital_a", "real_fraction": 0.5},
    "real_long": {"real": "hospital_a", "steps_factor": 2},
    "real_strong": {"real": "hospital_a", "augmentation": "strong"},
    "repeated": {"real": "hospital_a", "repeat": True, "ratios": [100, 300]},
}
PHANTOM: dict[str, Any] = {
    "study": "phantom",
    "title": "Phantom: two hospitals",
    "description": "A simulated study for the tests.",
    "datasets": CLINICS,
    "generators": {
        "ddpm": {
            "family": "diffusion",
            "train_on": {"datasets": ["hospital_a"]},
            "condition_on": ["opacity", "effusion", "sex"],
            "training": {"steps": 2000, "batch_size": 64, "snapshots": [500, 1000]},
        }
    },
    "pools": {"drawn": {"from": "ddpm", "rows_of": "hospital_a", "replicas": 3}},
    "models": {"cnn": {"targets": ["opacity", "effusion"], "steps": 200}},
    "arms": CONTROLS
    | {
        "supplemented": {"real": "hospital_a", "synthetic": "drawn", "ratios": [100, 300]},
        "synthetic_only": {"synthetic": "drawn", "ratios": [100, 300]},
    },
    "evaluate_on": list(CLINICS),
    "analysis": {
        "primary": {"model": "cnn", "arm": "supplemented", "ratio": 300, "test_set": "hospital_a"},
        "margin_reason": "half of the gain from 50 to 100 %",
        "subgroups": ["sex", "age"],
        "minimum": {"patients": 20, "positives": 8},
        "bootstrap": 200,
    },
    "evaluation": {
        "fidelity": {"by": ["sex"], "images": 60},
        "memorisation": {"space": None, "limit": 0.05},
        "snapshots": True,
    },
}
PAIRS: dict[str, Any] = {"from": "ddpm", "rows_of": "hospital_a", "replicas": 3}
PAIR_ARMS = {"diffusion": "pairs", "gan": "gan_pairs", "filtered": "kept", "thinned": "some", "misaligned": "moved"}
POLYPS: dict[str, Any] = {
    "study": "polyps",
    "title": "Polyps: image–mask pairs",
    "datasets": CLINICS,
    "generators": {
        name: {
            "family": family,
            "output": "image+mask",
            "structures": [STRUCTURE],
            "train_on": {"datasets": ["hospital_a"]},
            "training": {"steps": 1000, "batch_size": 16},
        }
        for name, family in (("ddpm", "diffusion"), ("style", "gan"))
    },
    "pools": {
        "pairs": PAIRS,
        "gan_pairs": PAIRS | {"from": "style"},
        "moved": PAIRS | {"misaligned": True},
        "kept": {
            "of": "pairs",
            "replicas": 3,
            "filter": {"scores": "mask_agreement", "column": "dice", "quantile": 0.25},
        },
        "some": {"of": "pairs", "replicas": 3, "thin_to": "kept"},
    },
    "models": {"unet": {"task": "segmentation", "structures": [STRUCTURE], "steps": 200, "selection_metric": "dice"}},
    "arms": CONTROLS
    | {arm: {"real": "hospital_a", "synthetic": pool, "ratios": [100, 300]} for arm, pool in PAIR_ARMS.items()}
    | {"synthetic_only": {"synthetic": "pairs", "ratios": [100, 300]}},
    "evaluate_on": list(CLINICS),
    "analysis": {
        "primary": {
            "model": "unet",
            "arm": "diffusion",
            "ratio": 300,
            "metric": "dice",
            "test_set": "hospital_a",
        },
        "margin": 0.02,
        "margin_reason": "less than two raters differ by",
        "bootstrap": 200,
    },
    "evaluation": {"pools": ["pairs", "gan_pairs"], "fidelity": {"images": 60}, "memorisation": None},
}
LEVELS = {"hospital_a": 1.4, "hospital_b": 1.1}  # d' of the real arm: AUROC about .84 and .78
GAINS = {"real_half": -0.35, "real_long": 0.01, "supplemented": 0.5, "synthetic_only": -0.5, "repeated": 0.0}
GAINS |= {"real_strong": -0.9, "diffusion": 0.5, "gan": 0.2, "filtered": 0.55, "thinned": 0.45, "misaligned": -0.4}
STUDIES = {"phantom": PHANTOM, "polyps": POLYPS, "rehearsal": PHANTOM | {"rehearsal": True}}
NOT_MADE = ("forecast/",)  # inputs of the report that a simulated run does without


class Code:
    """In place of `CodeDigests`: one digest for all code, so that planning costs nothing."""

    def digest(self, script: str, modules: tuple[str, ...] = ()) -> str:
        """Return a digest that nothing changes."""
        return "c" * 32


class SimulatedRun:
    """A study with its plan; `make` fills its folder."""

    def __init__(self, name: str, results: Path) -> None:
        self.study = parse_study(copy.deepcopy(STUDIES[name]))
        code: Any = Code()
        self.plan = Planner(self.study, name, 0, code, results, None, STAGES)
        self.folder = self.plan.folder

    def job(self, planned: PlannedJob, run: Path) -> Job:
        """Return a planned job as its script gets it, in this run's folder or in a copy of it."""
        fields = json.loads(planned.parameter())
        fields["named"] = {
            name: [entry for entry in entries if not entry[1].startswith(NOT_MADE)]
            for name, entries in fields["named"].items()
        }
        return command.job_of(fields, run, [run / planned.output])

    def make(self) -> None:
        """Make the protocol, then every job behind the report, each after its inputs."""
        write_protocol(self.job(self.plan.job("write_protocol"), self.folder))
        self.plan.job("write_report")
        _benchmarks(self.folder)
        for planned in self.plan.jobs():
            if planned.rule in MAKERS:
                job = self.job(planned, self.folder)
                job.outputs[0].parent.mkdir(parents=True, exist_ok=True)
                MAKERS[planned.rule](job)


@functools.cache
def made(name: str) -> SimulatedRun:
    """Return the finished run of one of STUDIES, made once by whichever test process is first. Nobody changes it."""
    folder = Path(os.environ["TEST_SESSION_FOLDER"])
    simulated = SimulatedRun(name, folder / "simulated")
    with (folder / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / f"{name}.made").exists():
            shutil.rmtree(simulated.folder, ignore_errors=True)
            simulated.make()
            (folder / f"{name}.made").touch()
        else:
            simulated.plan.job("write_report")
    return simulated


def make_run(folder: Path, name: str = "phantom") -> Path:
    """Return the folder of a copy of a finished run, below `folder`, that a test may change."""
    return Path(shutil.copytree(made(name).folder, folder / name))


def job_of(run: Path, rule: str, changes: Mapping[str, Any] | None = None, **wildcards: Any) -> Job:
    """Return a planned job of a run or of its copy, with changes to its slice."""
    simulated = made(run.name)
    job = simulated.job(simulated.plan.job(rule, **wildcards), run)
    job.slice.update(changes or {})
    return job


def report_job(run: Path, **changes: Any) -> Job:
    """Return the job of write_report."""
    return job_of(run, "write_report", changes)


def figures_job(run: Path, **changes: Any) -> Job:
    """Return the job of draw_figures."""
    return job_of(run, "draw_figures", changes, model=next(iter(made(run.name).study.models)))


def config(name: str = "phantom") -> dict[str, Any]:
    """Return a study as it was given, for a test to change."""
    return copy.deepcopy(STUDIES[name])


def _rng(job: Job) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(str(job.outputs[0].relative_to(job.run)).encode()))


def _generator(job: Job) -> None:
    steps = job.slice["training"]["steps"]
    step = np.arange(10, steps + 1, 10)
    loss = 0.9 * np.exp(-step / 300) + 0.12 + _rng(job).normal(0, 0.02, len(step))
    folder, gan = job.outputs[0].parent, job.slice["module"] == "gan"
    table = pd.DataFrame({"step": step, "loss": loss, "images_per_second": 410.0, "seconds": step / 7})
    table.to_csv(folder / "training.csv", index=False)
    facts: dict[str, Any] = {"final": steps, "steps": steps, "parameters": 1_100_000, "epochs": 33.0}
    facts |= {"saw": {"patients": 72, "images": 108, "labelled_images": 108, "ids_sha256": "0" * 64}}
    facts |= {"environments": [{"from_step": 0, "device": "cpu", "threads": 2}], "output": job.slice["output"]}
    facts |= {"loss": {"first": 0.98, "lowest": 0.09, "final": 0.12}, "images_per_second": 410.0}
    facts |= {"seconds": steps / 7 * (4 / 3 if gan else 1), "structures": job.slice["structures"]}
    facts |= {"energy_joules": 210_000.0, "energy_source": "nvml"} if gan else {"energy_source": "not measured"}
    write_manifest(job.outputs[0], job.identity, ["training.csv"], **facts)


def _grid(job: Job) -> None:
    PIL.Image.fromarray(_rng(job).integers(0, 255, (64, 128), dtype=np.uint8)).save(job.outputs[0])


def _shard(job: Job) -> None:
    """A generator's pool is drawn by the phantom's law; a filtered one is filtered as ever."""
    if job.slice["module"] in ("generated", "pairs"):
        job.slice.update(module="known", options={"kind": "oracle"})
    draw_pool_shard(job)


def _training(job: Job) -> None:
    arm = job.slice["arm"]
    synthetic, real = arm["synthetic"] is not None, arm["real"] is not None
    run = {"steps": round(200 * arm["steps_factor"]), "seconds": 21.5, "environments": [{"device": "cpu"}]}
    run["real_exposures"] = (3200 if synthetic else 6400) if real else 0
    write_manifest(job.outputs[0], job.identity, [], replicates={str(n): run for n in job.slice["replicates"]})


def _predictions(job: Job) -> None:
    """Scores of one arm: each patient and each image has an effect that all arms share, each run one of its own."""
    run, own, frames = job.run, _rng(job), []
    for (_, _, ratio, _), _ in job.inputs.predictions.keyed():
        for dataset, level in LEVELS.items():
            images = read_image_set(run / "datasets" / dataset)
            part = _parts(run, dataset, images)
            shared = np.random.default_rng(ord(dataset[-1]))
            _, patient = np.unique(images.table["patient_id"], return_inverse=True)
            effect = (0.5 * shared.normal(size=patient.max() + 1)[patient], 0.8 * shared.normal(size=len(images)))
            gain = GAINS.get(job.slice["arm"], 0.0) * (1 if int(ratio) in (0, 100) else 1.3)
            for replicate in _replicates(job, ratio):
                noise = 0.05 * own.normal() + 0.25 * own.normal(size=len(images))
                latent = sum(effect) + noise
                rows = (
                    _masks_scored(images, level + gain, latent, own)
                    if job.slice["task"] == "segmentation"
                    else _labels_scored(images, level + gain, latent)
                )
                place = {"ratio": int(ratio), "replicate": replicate, "dataset": dataset}
                columns = {"part": part, "image_id": images.table["image_id"], "patient_id": images.table["patient_id"]}
                for label, values in rows.items():
                    frame = pd.DataFrame({**columns, "label": label, **values}).assign(**place)
                    frames.append(frame[frame["part"].isin(["validation", "test"])])
    table = pd.concat(frames, ignore_index=True)
    first = ["ratio", "replicate", "dataset"]
    write_table(job.outputs[0], table[first + [name for name in table if name not in first]], job.identity)


def _replicates(job: Job, ratio: str | int) -> range:
    folder = job.run / "downstream" / job.slice["model"] / job.slice["arm"] / str(ratio) / "0"
    return range(len(read_json(folder / "manifest.json")["replicates"]))


def _parts(run: Path, dataset: str, images: ImageSet) -> np.ndarray:
    path = run / "splits" / dataset / "split.parquet"
    if not path.exists():
        return np.full(len(images), "test")
    return read_table(path).set_index("image_id")["part"].loc[images.table["image_id"]].to_numpy()


def _labels_scored(images: ImageSet, level: float, latent: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
    """Binormal scores: the latent of positives is shifted by `level`."""
    rows = {}
    for name in ("opacity", "effusion"):
        truth = images.table[name].to_numpy(dtype="float32")
        score = 1 / (1 + np.exp(-(level * (truth - 0.5) + np.roll(latent, 7 * len(name)))))
        rows[name] = {"truth": truth, "score": score.astype("float32")}
    return rows


def _masks_scored(
    images: ImageSet, level: float, latent: np.ndarray, rng: np.random.Generator
) -> dict[str, dict[str, np.ndarray]]:
    """Dice through a logistic of level and latent; where the structure is absent it is drawn in a tenth of images."""
    assert images.masks is not None
    empty = ~images.masks[..., images.mask_names.index(STRUCTURE)].any(axis=(1, 2))
    dice = 1 / (1 + np.exp(-(0.6 + 0.5 * level + 0.4 * latent)))
    undefined = np.where(empty, np.nan, 1.0)
    values = {"truth": np.where(empty, 0.0, 1.0).astype("float32"), "score": dice * undefined, "dice": dice * undefined}
    values |= {"iou": dice / (2 - dice) * undefined, "nsd": dice**0.5 * undefined, "hd95": 20 * (1 - dice) * undefined}
    values |= {"truth_empty": empty.astype(float), "predicted_empty": (empty & (rng.random(len(empty)) > 0.1)) * 1.0}
    return {STRUCTURE: values}


class Pooled:
    """In place of a network behind a feature space: the means of 4 × 4 fields of the pixels."""

    label, weights_sha256, fid = "pooled pixels", "a" * 64, False

    def extract(self, pixels: np.ndarray) -> np.ndarray:
        """Return (N, 16 C) float32."""
        size = pixels.shape[1] // 4
        fields = pixels.reshape(len(pixels), 4, size, 4, size, -1).mean(axis=(2, 4)) / 255
        return fields.reshape(len(pixels), -1).astype(np.float32)


def _fidelity(job: Job) -> None:
    with (
        patch("measure_fidelity.open_extractor", lambda *_: Pooled()),
        patch("measure_fidelity.cached_features", lambda space, pixels, _: space.extract(pixels)),
    ):
        measure_fidelity.measure_fidelity(job)


def _memorisation(job: Job) -> None:
    rng = _rng(job)

    def rows(job: Job, parts: Mapping[str, Any]) -> list[dict[str, Any]]:
        sides = [parts["train"].patients, np.concatenate([parts["validation"].patients, parts["test"].patients])]
        losses = [rng.lognormal(size=(len(side), len(membership.NOISE_LEVELS))) for side in sides]
        return membership.membership_rows(*losses, membership.NOISE_LEVELS, *sides, rng)

    with patch("check_memorisation._membership", rows):
        check_memorisation.check_memorisation(job)


def _scores(job: Job) -> None:
    """Labels or masks of a pool, scored by a network of known quality."""
    rng, folder = _rng(job), job.outputs[0].parent
    real = read_real(job, [job.slice["rows_of"]])
    pool = read_pool(job, job.slice["pool"], job.slice["index"], real.columns)
    held = real.subset(real.rows_of("validation"))
    units = (parents(pool.table), held.patients)
    everyone = [{"all": np.ones(len(unit), dtype=bool)} for unit in units]
    if "check" in job.slice:
        sides = []
        levels = (3 if job.slice["pool"] == "gan_pairs" else 12, 8)  # the GAN's masks follow the object less
        for name, unit, groups, level in zip(("scores", "real_scores"), units, everyone, levels, strict=True):
            dice = rng.beta(level, 3, len(unit)).astype("float32")
            table = pd.DataFrame({"image_id": np.arange(len(unit)).astype(str), f"dice_{STRUCTURE}": dice})
            table = table.assign(**{f"empty_{STRUCTURE}": False, "dice": dice})
            table["image_id"] = (pool if name == "scores" else held).table["image_id"].to_numpy()
            write_table(folder / f"{name}.parquet", table, job.identity)
            sides.append((table, unit, groups))
        rows = mask_agreement.agreement_rows(STRUCTURE, *sides, 10, rng)
        pd.DataFrame(rows, columns=list(mask_agreement.COLUMNS)).to_csv(folder / "mask_agreement.csv", index=False)
        files = ["mask_agreement.csv", "real_scores.parquet", "scores.parquet"]
    else:
        rows = []
        for label in job.slice["model"]["targets"]:
            truths = [images.table[label].to_numpy(dtype=float) for images in (pool, held)]
            scores = [
                level * truth + rng.normal(size=len(truth)) for level, truth in zip((3, 1.2), truths, strict=True)
            ]
            rows += agreement.consistency_rows(
                label, *zip(truths, scores, units, everyone, strict=True), job.slice["minimum"], rng
            )
        pd.DataFrame(rows, columns=list(agreement.COLUMNS)).to_csv(folder / "label_consistency.csv", index=False)
        files = ["label_consistency.csv"]
    facts = {name: job.slice[name] for name in ("pool", "index", "replicate")}
    write_manifest(job.outputs[0], job.identity, files, **facts, model=job.slice["model"]["name"], images=len(pool))


def _snapshots(job: Job) -> None:
    """The second snapshot is as near to real images as the last one, which copies."""
    rows = []
    for snapshot, kid, flagged in zip(job.slice["snapshots"], (0.06, 0.03, 0.028), (0, 1, 8), strict=True):
        found = {"n": 100, "rate": flagged / 100, "null_rate": 0.0, "excess": flagged / 100}
        found |= {
            "low": flagged / 100 - 0.02,
            "high": flagged / 100 + 0.03,
            "p_adjusted": 0.5 if flagged < 5 else 0.001,
        }
        rows.append(evaluate_snapshots._row(snapshot, job.slice["space"]["name"], 100, kid, 0.004, found, 0))
    evaluate_snapshots._write(job, rows, {})


def _relation(job: Job) -> None:
    """One study has too few pools for an answer: its relation is that of nine simulated pools."""
    relate_fidelity(job)
    if job.slice["model"] == "unet":
        return
    rng, folder = _rng(job), job.outputs[0].parent
    gain = np.linspace(-0.02, 0.04, 9)
    numbers = {"kid": 0.1 - gain + rng.normal(0, 0.004, 9), "recall": rng.normal(size=9)}
    place = {"index": 0, "space": "efficientnet_lite0", "reference": "held_out"}
    pools = [f"pool_{n}" for n in range(9)]
    fidelity = [pd.DataFrame({"configuration": pools, "metric": m, "excess": x, **place}) for m, x in numbers.items()]
    gains = pd.DataFrame([(p, 0, k, g + 0.001 * k) for p, g in zip(pools, gain, strict=True) for k in range(5)])
    gains.columns = pd.Index(["configuration", "index", "replicate", "gain"])
    relation.relate(pd.concat(fidelity), gains, rng).to_csv(folder / "relation.csv", index=False)
    write_manifest(job.outputs[0], job.identity, ["points.csv", "relation.csv"], model="cnn", configurations=9)


def _benchmarks(run: Path) -> None:
    times = {"train_generator": [310.0], "draw_pool_shard": [44.0, 47.5], "train_downstream": [22.0] * 12}
    for rule, seconds in times.items():
        folder = run / "benchmarks" / rule
        folder.mkdir(parents=True)
        for number, value in enumerate(seconds):
            text = "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time\n"
            text += f"{value:.4f}\t0:00:{value:.0f}\t612.5\t900\t580\t590\t0\t1\t98.1\t{value * 1.9:.2f}\n"
            (folder / f"{number}.tsv").write_text(text)


MAKERS: dict[str, Callable[[Job], None]] = {
    "prepare_dataset": prepare_dataset,
    "split_dataset": split_dataset,
    "audit_datasets": audit_datasets,
    "train_generator": _generator,
    "draw_sample_grid": _grid,
    "draw_pool_shard": _shard,
    "merge_pool_replica": merge_pool_replica,
    "train_downstream": _training,
    "collect_predictions": _predictions,
    "trivial_floor": trivial_floor,
    "measure_fidelity": _fidelity,
    "check_memorisation": _memorisation,
    "score_pool": _scores,
    "evaluate_snapshots": _snapshots,
    "compare_arms": compare_arms,
    "relate_fidelity": _relation,
    "draw_figures": draw_figures,
}


def restate(folder: Path, name: str, value: Any) -> None:
    """Replace a file of a folder and mend its manifest."""
    manifest = read_json(folder / "manifest.json")
    if isinstance(value, pd.DataFrame):
        value.to_csv(folder / name, index=False)
    else:
        write_json(folder / name, value)
    facts = {key: fact for key, fact in manifest.items() if key not in ("identity", "files")}
    write_manifest(folder / "manifest.json", manifest["identity"], list(manifest["files"]), **facts)
