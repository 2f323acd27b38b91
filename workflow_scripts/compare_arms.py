"""Compare the arms of one model: metrics, comparisons, verdict, and what stands behind them."""

from typing import Any

import pandas as pd

from synthgain.data.image_set import ImageSet, read_image_set, read_split
from synthgain.runtime.command import Job, run_script
from synthgain.runtime.files import read_json, read_manifest, read_table, write_manifest
from synthgain.statistics.analysis import read_analysis
from synthgain.statistics.stage import Inputs, analyse
from synthgain.statistics.tables import write_results


def compare_arms(job: Job) -> None:
    """Read the collected predictions of every arm, analyse them, and write `statistics/<model>/`."""
    analysis = read_analysis(job.slice)
    folder = job.outputs[0].parent
    results = analyse(_inputs(job), analysis, int(job.slice["seed"]))
    files = write_results(folder, results, job.identity)
    write_manifest(job.outputs[0], job.identity, files, model=job.slice["model"])


def _inputs(job: Job) -> Inputs:
    model = job.slice["model"]
    predictions = {
        name.rsplit("/", 1)[1].removesuffix(".parquet"): read_table(job.run / name, job.inputs[name])
        for name in job.inputs_below(f"predictions/{model}/")
    }
    name = "audit/audit.json"
    audit: dict[str, Any] = read_manifest(job.run / name, job.inputs[name]) if name in job.inputs else {}
    datasets = {
        entry["dataset"]: read_table(job.input_folder(name) / "table.parquet")
        for entry in job.slice["test_sets"]
        if (name := f"datasets/{entry['dataset']}/manifest.json") in job.inputs
    }
    splits = {
        entry["dataset"]: read_split(job.input_folder(name))
        for entry in job.slice["test_sets"]
        if (name := f"splits/{entry['dataset']}/manifest.json") in job.inputs
    }
    gates = {
        arm: [read_json(job.input_folder(name) / "gate.json") for name in names]
        for arm, names in job.slice.get("gates", {}).items()
    }
    sizes, floors = {}, None
    if job.slice["task"] == "segmentation":
        sizes = {
            name: mask_areas(read_image_set(job.input_folder(f"datasets/{name}/manifest.json"))) for name in datasets
        }
        found = [read_table(job.run / name, job.inputs[name]) for name in job.inputs_below(f"floors/{model}.")]
        floors = pd.concat(found, ignore_index=True) if found else None
    return Inputs(
        predictions,
        list(job.slice["test_sets"]),
        job.slice["targets"],
        audit.get("excluded", {}),
        datasets,
        splits,
        gates,
        sizes,
        floors,
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
