"""Draw the figures of one model as SVG, from its statistics, its pools and the training curves.

Slice: {model, task, targets, arms: {name: …} in the study's order, analysis: {margin}, endpoint: the main one,
pools: [{pool, rows_of, parent?}]}; of segmentation `targets` are structures. Inputs: statistics; as they
exist replicas with their datasets and splits, generators, fidelity, snapshots; of segmentation consistency.
"""

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from synthgain.attempts import Attempts
from synthgain.data.image_set import ImageSet, read_image_set, read_split
from synthgain.report.figures import detail, fidelity, pairs
from synthgain.report.figures.plan import Plan, statistics_plans
from synthgain.report.figures.sheets import first_shard, pair_rows, sheet_rows
from synthgain.report.figures.style import save_svg, style_context
from synthgain.runtime.command import Job, run_script
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import read_json, read_table, write_manifest
from synthgain.statistics.metric_registry import MainEndpoint, metric


def draw_figures(job: Job) -> None:
    """Write every figure whose data exist, then a manifest that lists them with section, title and caption.

    A figure that cannot be drawn is listed as `failed`, with its reason.
    """
    folder = job.outputs[0].parent
    plans = [*_statistics(job), *_fidelity(job), *_agreement(job), *_snapshots(job), *_loss_curves(job)]
    plans += _sample_sheets(job)
    attempt = Attempts(stops=(SynthGainError,))  # no disk to write to is no fault of the figure
    with style_context():
        drawn = [plan for plan in plans if attempt(plan.file, partial(_draw, plan, folder), False)]
    failed = [{**p.entry(), "reason": "; ".join(attempt.failed[p.file])} for p in plans if p.file in attempt.failed]
    facts = {"figures": [plan.entry() for plan in drawn], "failed": failed}
    write_manifest(job.outputs[0], job.identity, [plan.file for plan in drawn], **facts)


def _draw(plan: Plan, folder: Path) -> bool:
    save_svg(plan.draw(), folder / plan.file)
    return True


def _statistics(job: Job) -> list[Plan]:
    model = job.slice["model"]
    folder = job.inputs.statistics[model].folder()
    tables = {path.name: pd.read_csv(path) for path in sorted(folder.glob("*.csv")) if not _is_empty(path)}
    for needed in ("summary.csv", "comparisons.csv"):
        if needed not in tables:
            raise SynthGainError(f"{folder / needed}: missing or empty; rerun compare_arms for model {model}")
    tables["metrics.parquet"] = read_table(folder / "metrics.parquet")
    if (folder / "learning_curve.json").exists():
        tables["learning_curve.json"] = pd.DataFrame(read_json(folder / "learning_curve.json"))
    chosen = MainEndpoint(**job.slice["endpoint"])
    return statistics_plans(
        tables, chosen, job.slice["analysis"]["margin"], list(job.slice["arms"]), job.slice["size_lines"]
    )


def _is_empty(path: Path) -> bool:
    return not path.read_text(encoding="utf-8").strip()


def _fidelity(job: Job) -> list[Plan]:
    tables, references = {}, {}
    for (pool, index), measured in job.inputs.fidelity.keyed():
        folder = measured.folder()
        title = _drawn(pool, index)
        tables[title] = pd.read_csv(folder / "fidelity.csv")
        references[title] = read_json(folder / "manifest.json").get("reference", "held_out")
    rows = fidelity.floor_rows(tables, references)
    if not len(rows):
        return []
    caption = (
        "Each number of a pool, with its 95 % interval, and its floor: real images against real images of other "
        "patients at the same number of images (bar: 2 SD over the splits). The closer to its floor the better; past "
        "it is no better. Every panel has its own scale."
    )
    draw = lambda: fidelity.fidelity_floors(rows)  # noqa: E731
    return [Plan("fidelity_floors.svg", "fidelity", "Fidelity and its floor", caption, draw)]


def _drawn(pool: str | int, index: str | int) -> str:
    return f"{pool} (draw {index})" if index else str(pool)


def _agreement(job: Job) -> list[Plan]:
    """Dice between mask and prediction on every scored pool, where the model segments."""
    scores = {}
    for (pool, index), scored in job.inputs.consistency.keyed():
        folder = scored.folder()
        if (folder / "real_scores.parquet").exists():
            scores[_drawn(pool, index)] = tuple(
                _with_objects(read_table(folder / file)) for file in ("scores.parquet", "real_scores.parquet")
            )
    if not scores:
        return []
    caption = (
        "Dice between each image's own mask (mean over structures) and what the real-only model predicts on it; the "
        "outline is the same model on real validation images. Left of the real outline: masks that do not follow the "
        "object; right of it: pairs easier than real ones."
    )
    draw = lambda: pairs.agreement_histograms(scores)  # noqa: E731
    return [Plan("mask_agreement.svg", "agreement", "Agreement of the masks", caption, draw)]


def _with_objects(scores: pd.DataFrame) -> np.ndarray:
    """Return the Dice of the images with a mask that is not empty: those that the table counts."""
    empty = scores[[name for name in scores.columns if name.startswith("empty_")]].all(axis=1)
    return scores.loc[~empty, "dice"].to_numpy()


def _snapshots(job: Job) -> list[Plan]:
    tables = {}
    for (generator, index), measured in job.inputs.snapshots.keyed():
        table = pd.read_csv(measured.folder() / "snapshots.csv")
        if len(table):
            tables[f"{generator} (training {index})"] = table
    if not tables:
        return []
    caption = (
        "Left: distance of each snapshot's images from validation images; right: near copies of training images "
        "beyond the share among held-out real images. Ringed: the recommended snapshot."
    )
    draw = lambda: fidelity.snapshot_curves(tables)  # noqa: E731
    return [Plan("snapshots.svg", "memorisation", "Snapshots along the training", caption, draw)]


def _loss_curves(job: Job) -> list[Plan]:
    curves = {}
    for (generator, index), trained in job.inputs.generators.keyed():
        table = pd.read_csv(trained.folder() / "training.csv")
        if {"step", "loss"} <= set(table.columns) and len(table):
            curves[f"{generator} (training {index})"] = table
    if not curves:
        return []
    caption = "Loss at each logged step (faint) and its running median; lower is better within one generator only."
    if any("discriminator_loss" in table for table in curves.values()):
        caption += " Of a GAN it is the generator's loss against its discriminator, which says nothing of quality."
    draw = lambda: detail.generator_loss(curves)  # noqa: E731
    return [Plan("generator_loss.svg", "generators", "Generator training", caption, draw)]


def _sample_sheets(job: Job) -> list[Plan]:
    plans = []
    rows_of = {entry["pool"]: entry["rows_of"] for entry in job.slice["pools"]}
    parents = {entry["pool"]: entry.get("parent") for entry in job.slice["pools"]}
    for (pool, index, _), replica in job.inputs.replicas.keyed():
        dataset = rows_of.get(pool)
        if dataset is None or dataset not in job.inputs.datasets:
            continue
        real, drawn = read_image_set(job.inputs.datasets[dataset].folder()), first_shard(replica.folder())
        if metric(job.slice["endpoint"]["metric"]).needs == "masks":
            plans += _pair_sheet(job, f"{pool}-{index}", drawn, real, _training_ids(job, dataset), parents[pool])
            continue
        rows = sheet_rows(real, _training_ids(job, dataset), drawn, job.slice["targets"])
        if rows:
            caption = (
                f"Left: training images of {dataset}; right: images of pool {pool}, drawn for the same condition. "
                "The first ones of each condition in the order of the files, not picked by eye."
            )
            draw = lambda rows=rows: detail.sample_sheet(rows)  # noqa: E731
            plans.append(Plan(f"sample_sheet-{pool}-{index}.svg", "samples", f"Samples: {pool}", caption, draw))
    return plans


def _pair_sheet(
    job: Job, name: str, synthetic: ImageSet, real: ImageSet, training: set[str] | None, parent: str | None
) -> list[Plan]:
    """The sheet of one draw (`pool-index`) of pairs, none where it holds no mask of the model's structures."""
    structures, pool = job.slice["targets"], name.rpartition("-")[0]
    rows = pair_rows(real, training, synthetic, structures, parent)
    if not rows:
        return []
    caption = (
        f"The first pairs of pool {pool} in the order of the files, not picked by eye: image, the same with its mask's "
        f"contour, and below it {_kinship(rows[-1].title)}."
    )
    named = [entry for entry in structures if entry in synthetic.mask_names and entry in real.mask_names]
    draw = lambda: pairs.pair_sheet(rows, named)  # noqa: E731
    return [Plan(f"sample_sheet-{name}.svg", "samples", f"Pairs: {pool}", caption, draw)]


def _kinship(title: str) -> str:
    if title.startswith("real"):
        return "training images of other patients with theirs, for comparison"
    made = "whose mask was used or transformed" if "mask" in title else "in which the region was drawn"
    return f"the real parent image, {made}, with its own mask"


def _training_ids(job: Job, dataset: str) -> set[str] | None:
    if dataset not in job.inputs.splits:
        return None
    split = read_split(job.inputs.splits[dataset].folder())
    return set(split.loc[split["part"] == "train", "image_id"])


if __name__ == "__main__":
    run_script(draw_figures)
