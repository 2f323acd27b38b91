"""Divide the training images of a data set by appearance: clusters.parquet, sizes.csv and a picture per cluster."""

import numpy as np
import pandas as pd
import torch

from synthgain.clusters.appearance import Division, divide, joined
from synthgain.clusters.options import Clusters
from synthgain.data.clusters import CLUSTER_FILE
from synthgain.data.image_set import ImageSet, job_dataset
from synthgain.datasets.contact_sheet import contact_sheet
from synthgain.device import chosen_device
from synthgain.entry import checked
from synthgain.registry import SPACES
from synthgain.runtime.command import Job, logger, run_script
from synthgain.runtime.files import atomic_path, write_manifest, write_table, write_text
from synthgain.runtime.loading import load
from synthgain.seeds import integer_seed, random_generator


def cluster_images(job: Job) -> None:
    """Slice: name, clusters (of, k, space …), options of its feature space, seed."""
    torch.set_num_threads(job.threads)
    part, folder = job.slice, job.outputs[0].parent
    name, options = part["name"], checked(Clusters, part["clusters"], "clusters", of_slice=True)
    data = job_dataset(job, options.of)
    rows = data.training_rows()
    extractor = load(SPACES, options.space).build(part["space_options"], None, chosen_device())
    features = extractor.extract(np.asarray(data.images.images[rows]))
    masks = None
    if options.mask == "area_position" and data.images.masks is not None:
        masks = np.asarray(data.images.masks[rows])
    points = joined(features, masks, options.mask_weight)
    division = divide(
        points, options, integer_seed(study=part["seed"], step="clusters", clusters=name), f"clusters.{name}"
    )
    table = pd.DataFrame(
        {
            "image_id": data.images.table["image_id"].astype(str).to_numpy()[rows],
            "cluster": division.labels,
            "trained_with": division.trained_with[division.labels],
            "distance": division.distance,
        }
    )
    write_table(folder / CLUSTER_FILE, table, job.identity)
    sizes = _sizes(table)
    write_text(folder / "sizes.csv", sizes.to_csv(index=False))
    pictures = _pictures(job, data.images, rows, division)
    tiny = int((division.sizes < options.smallest).sum())
    write_manifest(
        job.outputs[0],
        job.identity,
        [CLUSTER_FILE, "sizes.csv", *pictures],
        name=name,
        of=options.of,
        k=options.k,
        space=extractor.label,
        weights_sha256=extractor.weights_sha256,
        images=len(rows),
        tiny=tiny,
    )
    logger.info("[clusters %s] %d images, k = %d: %s", name, len(rows), options.k, ", ".join(map(str, division.sizes)))


def _sizes(table: pd.DataFrame) -> pd.DataFrame:
    """Return per cluster: images, which one it is trained with, and on how many images that generator trains."""
    sizes = table.groupby("cluster").agg(images=("image_id", "size"), trained_with=("trained_with", "first"))
    together = table["trained_with"].value_counts()
    sizes["training_images"] = sizes["trained_with"].map(together)
    sizes["mean_distance"] = table.groupby("cluster")["distance"].mean()
    return sizes.reset_index()


def _pictures(job: Job, images: ImageSet, rows: np.ndarray, division: Division) -> list[str]:
    """Write cluster-<number>.png, random members of each cluster with the outlines of their masks."""
    names, digits = [], len(str(len(division.sizes) - 1))
    for number in range(len(division.sizes)):
        inside = rows[division.labels == number]
        rng = random_generator(study=job.slice["seed"], step="cluster picture", cluster=number)
        shown = images.table.iloc[inside].assign(cluster=str(number))
        masks = None if images.masks is None else np.asarray(images.masks[inside])
        sheet = contact_sheet(
            np.asarray(images.images[inside]), shown, ["cluster"], rng, masks, mask_names=images.mask_names
        )
        names.append(f"cluster-{number:0{digits}d}.png")
        with atomic_path(job.outputs[0].parent / names[-1]) as temporary:
            sheet.save(temporary, format="PNG", optimize=True)
    return names


if __name__ == "__main__":
    run_script(cluster_images)
