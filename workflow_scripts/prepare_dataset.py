"""Read one data set into the study's geometry: an ImageSet, and quarantine.csv with what could not be used."""

import inspect
import os
from pathlib import Path

import pandas as pd

from synthgain.data.image_set import write_image_set
from synthgain.datasets.source import Prepared
from synthgain.registry import ADAPTERS
from synthgain.runtime.command import Job, logger, run_script
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import atomic_path
from synthgain.runtime.loading import load
from synthgain.runtime.settings import settings

NAME_SHOWN = 120  # characters of an image's name in the error line
SHOWN = 3  # quarantined rows that the error line names; quarantine.csv has them all


def prepare_dataset(job: Job) -> None:
    """Slice: dataset, module, options, image, max_quarantined_share, seed."""
    part, folder = job.slice, job.outputs[0].parent
    root = os.environ.get("SYNTHGAIN_DATA")
    adapter = load(ADAPTERS, part["module"])
    threads = {"threads": job.threads} if "threads" in inspect.signature(adapter.prepare).parameters else {}
    prepared = adapter.prepare(
        options={**part["options"], **settings("datasets", part["dataset"])},
        image=part["image"],
        seed=part["seed"],
        root=Path(root) if root else None,
        **threads,
    )
    kept = job.state_folder() / "quarantine.csv"  # declared outputs of a failed job are deleted, this is not
    _write_csv(prepared.quarantine, kept)
    check_quarantine(prepared, part["dataset"], float(part.get("max_quarantined_share", 0)), kept)
    _write_csv(prepared.quarantine, folder / "quarantine.csv")
    write_image_set(
        folder,
        prepared.images,
        prepared.table,
        prepared.columns,
        job.identity,
        masks=prepared.masks,
        mask_names=prepared.mask_names,
        dataset=part["dataset"],
        quarantined=len(prepared.quarantine),
        **prepared.facts,
    )
    kept.unlink()
    for note in prepared.facts.get("notes", ()):
        logger.warning("[%s] %s", part["dataset"], note)
    logger.info("[%s] %d images, %d quarantined", part["dataset"], len(prepared.table), len(prepared.quarantine))


def check_quarantine(prepared: Prepared, name: str, limit: float, listed: Path) -> None:
    """Raise SynthGainError when nothing is left or more than `limit` (a share) of the rows was quarantined."""
    bad, total = len(prepared.quarantine), len(prepared.quarantine) + len(prepared.table)
    if len(prepared.table) and bad <= limit * total:
        return
    if not bad:
        raise SynthGainError(f"{name}: no image to read; check the table and `where`")
    rows = prepared.quarantine.head(SHOWN).itertuples(index=False)
    examples = "; ".join(f"{row.image[:NAME_SHOWN]}: {row.reason}" for row in rows)
    raise SynthGainError(
        f"{name}: {bad} of {total} rows quarantined ({100 * bad / total:.1f} %), max_quarantined_share is {limit:g} "
        f"({examples}); all are listed in {listed}"
    )


def _write_csv(table: pd.DataFrame, path: Path) -> None:
    with atomic_path(path) as temporary:
        table.to_csv(temporary, index=False)


if __name__ == "__main__":
    run_script(prepare_dataset)
