"""Export a pool: PNG and CSV (Hugging Face imagefolder), and a datasheet."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from synthgain.data.replicas import read_replicas
from synthgain.pools.export import datasheet, mask_summary, metadata_table, write_png
from synthgain.pools.shards import label_counts
from synthgain.runtime.command import Job, Progress, run_script
from synthgain.runtime.files import atomic_path, write_manifest, write_text

BATCH = 256  # images in memory at a time


def export_pool(job: Job) -> None:
    """Export some replicas of a pool; inputs: their manifests.

    Slice: {pool, index, replicas: [k …], study, description, licence, config: the pool's entry} for the datasheet.
    """
    part, folder = job.slice, job.outputs[0].parent
    replicas = job.inputs.replicas.values()
    manifests = [replica.manifest() for replica in replicas]
    progress = Progress(f"export of {part['pool']}", sum(manifest["images"] for manifest in manifests))
    tables: list[pd.DataFrame] = []
    areas: dict[str, list[float]] = {}
    for replica in replicas:
        pool = read_replicas([(replica.path, replica.identity)])
        table, masks = pool.table, pool.planes
        mask_names = pool.mask_names if masks is not None else []
        for start in range(0, len(table), BATCH):
            positions = np.arange(start, min(start + BATCH, len(table)))
            ids = table["image_id"].iloc[positions]
            for image_id, pixels in zip(ids, pool.pixels.gather(positions), strict=True):
                write_png(folder / "images" / f"{image_id}.png", pixels)
            if masks is not None:
                for structure, shares in _write_masks(
                    folder, table.iloc[positions], masks.gather(positions), mask_names
                ).items():
                    areas.setdefault(structure, []).extend(shares)
            progress.advance(len(positions))
        tables.append(metadata_table(table, mask_names))
    joined = pd.concat(tables, ignore_index=True)
    with atomic_path(folder / "images" / "metadata.csv") as temporary:
        joined.to_csv(temporary, index=False)
    counts = label_counts(joined, manifests[0]["columns"])
    summaries = {structure: mask_summary(np.array(shares)) for structure, shares in areas.items()}
    licence = part.get("licence") or ""
    page = datasheet(part["pool"], _facts(job, manifests), counts, len(joined), licence, summaries)
    write_text(folder / "README.md", page)
    files = ["README.md", "images/metadata.csv"]
    write_manifest(job.outputs[0], job.identity, files, images=len(joined), counts=counts, masks=summaries)


def _write_masks(folder: Path, table: pd.DataFrame, masks: np.ndarray, names: list[str]) -> dict[str, list[float]]:
    """Write the masks that are known as PNG, and return {structure: their shares of the image}."""
    shares = {}
    for plane, name in enumerate(names):
        present = table.get(f"has_mask_{name}", pd.Series(True, index=table.index)).to_numpy(dtype=bool)
        known = masks[present][..., plane : plane + 1]
        for image_id, mask in zip(table["image_id"][present], known, strict=True):
            write_png(folder / "masks" / name / f"{image_id}.png", mask * np.uint8(255))
        shares[name] = [float(mask.mean()) for mask in known]
    return shares


def _facts(job: Job, manifests: list[dict[str, Any]]) -> dict[str, Any]:
    """What the datasheet's table says of how the pool was made."""
    part, first = job.slice, manifests[0]
    config = {name: value for name, value in (part.get("config") or {}).items() if value not in (None, {}, "", False)}
    known = {"known": first["known"]} if "known" in first else {}
    return {
        "study": part.get("study", ""),
        "description": part.get("description") or "none given",
        "draw": part["index"],
        **config,
        **known,
        "replicas": ", ".join(map(str, part["replicas"])),
        "image": " × ".join(str(side) for side in first["shape"][1:]),
        "identities": ", ".join(manifest["identity"][:10] for manifest in manifests),
    }


if __name__ == "__main__":
    run_script(export_pool)
