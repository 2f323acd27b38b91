"""Make a panel's reader kit, or find the one that is there; the output names it and what its key is sealed with."""

import numpy as np

from synthgain.data.image_set import ImageStore, job_dataset
from synthgain.data.options import Prompt
from synthgain.data.prompts import COLUMN, texts_of
from synthgain.data.replicas import read_replicas
from synthgain.entry import checked
from synthgain.readers.kit import Shown, kit_folder, read_facts, write_kit
from synthgain.readers.options import Panel
from synthgain.runtime.command import Job, logger, run_script
from synthgain.runtime.files import digest, write_manifest


def write_reader_kit(job: Job) -> None:
    """Slice: panel, config (its entry without what comes later), seed; prompt where `prompt_fit` is asked.

    Inputs: data sets, splits, replicas.
    """
    name, panel = job.slice["panel"], Panel.from_slice(job.slice["config"])
    real = {dataset: _real(job, dataset, panel.items.part) for dataset in panel.items.real}
    pools = {pool: _pool(job, pool) for pool in panel.items.pools}
    # What a kit shows, not the code that drew it: the same images after an upgrade are the same kit.
    shown = {n: s.table[["image_id", "sha256"]].to_numpy().tolist() for n, s in (*real.items(), *pools.items())}
    folder = kit_folder(
        job.run, name, digest({"config": job.slice["config"], "shown": shown, "seed": job.slice["seed"]})
    )
    if folder.exists():
        facts = read_facts(folder)
    else:
        facts = write_kit(folder, name, panel, real, pools, job.slice["seed"])
        logger.info("[%s] %d pages in %s: send each reader theirs, keep the rest", name, len(facts["pages"]), folder)
    write_manifest(job.outputs[0], job.identity, [], folder=folder.name, **facts)


def _real(job: Job, name: str, part: str) -> Shown:
    dataset = job_dataset(job, name)
    rows, images = dataset.part(part), dataset.images
    masks = None if images.masks is None else ImageStore([images.masks], rows)
    table = images.table.iloc[rows].reset_index(drop=True)
    if "prompt" in job.slice:
        prompt = checked(Prompt, job.slice["prompt"], "prompt", of_slice=True)
        table[COLUMN] = texts_of(table, images.columns, prompt).prompts
    return Shown(table, ImageStore([images.images], rows), masks, images.mask_names)


def _pool(job: Job, name: str) -> Shown:
    replicas = read_replicas([(entry.path, entry.identity) for entry in job.inputs.replicas.below(name).values()])
    table = replicas.table.reset_index(drop=True)
    if "parent_patient_id" not in table:
        table = table.assign(parent_patient_id=np.nan)
    return Shown(table, replicas.pixels, replicas.planes, replicas.mask_names)


if __name__ == "__main__":
    run_script(write_reader_kit)
