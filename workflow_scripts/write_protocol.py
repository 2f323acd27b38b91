"""Write the protocol: what the study declares, dated before there is any result.

Slice: {config, study: all of it resolved, data: checksums, code: by rule, declared, controls, power, sizes, run}.
Writes protocol-<n>.json and its page into the run's folder where study, data or code differ from those of the last
one, and never touches one that is there. The job's output is a receipt that names the protocol in force.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from synthgain.report.protocol_page import protocol_page, said_of
from synthgain.runtime.command import Job, logger, run_script
from synthgain.runtime.files import write_manifest
from synthgain.runtime.ledger import read_ledger
from synthgain.runtime.protocols import marks_of, page_of, read_protocols
from synthgain.runtime.protocols import write_protocol as written
from synthgain.runtime.seals import write_sealed_page
from synthgain.seeds import random_generator
from synthgain.speed.documents import SizeSource
from synthgain.speed.sizes import dataset_sizes
from synthgain.statistics.protocol_power import USUAL, USUAL_PATIENT_SD, USUAL_SEED_SD, planned_power


def write_protocol(job: Job) -> None:
    """Write the protocol where it is a new one, then its page and the receipt."""
    power = power_of(job)
    said = said_of(job.slice["config"], power)
    content = {key: job.slice[key] for key in ("study", "data", "code", "declared")}
    content |= {"power": power if isinstance(power, dict) else {"note": power}, "said": said}
    results = len(list((job.run / "predictions").rglob("*.parquet")))
    entries = read_ledger(job.run).entries
    marks = list({mark.hash: mark for _, mark in marks_of(job.run)}.values())
    protocol = written(job.run, content, results, marks)
    for kept in read_protocols(job.run)[0]:  # an older one's page, too, where it was taken away
        page = page_of(job.run, kept.number)
        if page.exists():
            continue
        write_sealed_page(page, protocol_page(kept), kept.sha256)
        logger.info("protocol %d of %s: %s", kept.number, job.slice["run"], page)
        if entries and kept.number == protocol.number:
            logger.info("it was written after %d lines of the ledger: what differs is a deviation", len(entries))
    write_manifest(job.outputs[0], job.identity, [], protocol=protocol.number, sha256=protocol.sha256)


def power_of(job: Job) -> dict[str, Any] | str:
    """Return the power of the declared comparison, or why it is not computed."""
    declared, assumed = job.slice["declared"], job.slice["power"]["assumed"]
    if not declared["comparisons"]:
        return "No comparison is declared."
    if assumed is None and not job.slice["power"]["usual"]:
        return "No usual variance is known for this metric; give analysis.assumed, from a pilot."
    if declared["looks"][-1] < 2:
        return "Two replicates are needed."
    patients, counted = _patients(job, declared["comparisons"][0]["test_set"], assumed)
    if patients is None:
        return "How many test patients there are is not known before they are read; give analysis.assumed.patients."
    seed_sd, patient_sd = USUAL_SEED_SD, USUAL_PATIENT_SD
    source = f"SDs of {USUAL}, as none were given; patients {counted}"
    if assumed is not None:
        seed_sd, patient_sd = assumed["seed_sd"], assumed["patient_sd"]
        source = f"{assumed['source'] or 'source not said'}; patients {counted}"
    random = random_generator(study=0, step="protocol", purpose="power")
    found = planned_power(seed_sd, patient_sd, patients, declared, job.slice["controls"], random)
    return found | {"source": source}


def _patients(job: Job, test_set: str, assumed: Mapping[str, Any] | None) -> tuple[int | None, str]:
    if assumed is not None and assumed["patients"] is not None:
        return int(assumed["patients"]), "as assumed"
    root = os.environ.get("SYNTHGAIN_DATA")
    sources = {name: SizeSource.model_validate(entry) for name, entry in job.slice["sizes"].items()}
    images = dataset_sizes(job.run, sources, Path(root) if root else None)[test_set].test
    if images is None or images < 2:
        return None, ""
    return round(images), "as many as test images are forecast"


if __name__ == "__main__":
    run_script(write_protocol)
