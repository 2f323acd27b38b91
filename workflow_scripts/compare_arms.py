"""Compare the arms of one model: metrics, comparisons, verdict, and what is behind them."""

from dataclasses import replace

import pandas as pd

from synthgain.data.image_set import ImageSet, read_image_set, read_split
from synthgain.runtime.command import Job, run_script
from synthgain.runtime.files import read_json, read_table, write_manifest
from synthgain.statistics.analysis import read_analysis
from synthgain.statistics.looking import Looking
from synthgain.statistics.stage import Inputs, analyse
from synthgain.statistics.tables import write_results


def compare_arms(job: Job) -> None:
    """Read the collected predictions of every arm, analyse them, note the look in the ledger, write the results."""
    inputs, folder = _inputs(job), job.outputs[0].parent
    looking = Looking(job.run, job.slice, inputs.predictions)
    analysis = replace(read_analysis(job.slice), unplanned=looking.unplanned)
    results = analyse(inputs, analysis, int(job.slice["seed"]))
    verdict = results["verdict.json"]
    verdict["look"] = looking.facts()
    verdict["notes"] = [*looking.notes(analysis.alpha), *verdict["notes"]]
    marks = looking.record(verdict["comparisons"], analysis.alpha)
    files = write_results(folder, results, job.identity)
    kept = [vars(mark) for mark in marks]
    write_manifest(job.outputs[0], job.identity, files, model=job.slice["model"], ledger=kept)


def _inputs(job: Job) -> Inputs:
    predictions = {
        str(arm): read_table(collected.path, collected.identity)
        for (_, arm), collected in job.inputs.predictions.keyed()
    }
    excluded = job.inputs.audit.only.manifest()["excluded"] if job.inputs.audit else {}
    datasets = {str(name): read_table(entry.folder() / "table.parquet") for name, entry in job.inputs.datasets.items()}
    splits = {str(name): read_split(entry.folder()) for name, entry in job.inputs.splits.items()}
    gates = {
        arm: [read_json(job.inputs.memorisation[tuple(draw)].folder() / "gate.json") for draw in draws]
        for arm, draws in job.slice.get("gates", {}).items()
    }
    sizes, floors = {}, None
    if job.inputs.floors:  # of models that learn masks
        sizes = {str(name): mask_areas(read_image_set(entry.folder())) for name, entry in job.inputs.datasets.items()}
        found = [read_table(floor.path, floor.identity) for floor in job.inputs.floors.values()]
        floors = pd.concat(found, ignore_index=True) if found else None
    return Inputs(
        predictions,
        list(job.slice["test_sets"]),
        job.slice["targets"],
        excluded,
        datasets,
        splits,
        gates,
        sizes,
        floors,
        job.slice.get("diagonal", float("nan")),
    )


def mask_areas(images: ImageSet) -> pd.DataFrame:
    """Return image_id, label, area (share of the image's pixels) of every mask that an image set holds."""
    parts = []
    for plane, name in enumerate(images.mask_names):
        known = images.table[f"has_mask_{name}"].to_numpy(dtype=bool)
        area = (
            [float(images.masks[row, :, :, plane].mean()) for row in known.nonzero()[0]]
            if images.masks is not None
            else []
        )
        parts.append(pd.DataFrame({"image_id": images.table["image_id"][known], "label": name, "area": area}))
    columns = ["image_id", "label", "area"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


if __name__ == "__main__":
    run_script(compare_arms)
