"""Measures a few steps of every kind of work of a study, on the machine where its jobs would run.

Slice: {kinds: {name: what to measure}, image: {size, channels}}. Output: forecast/speed.json. What cannot be
measured is recorded with its reason, and stops nothing: the job that will need it says so again.
"""

import time

STARTED = time.process_time()  # what the interpreter itself took

import importlib  # noqa: E402
import os  # noqa: E402
import platform  # noqa: E402
import tempfile  # noqa: E402
from datetime import UTC, datetime  # noqa: E402
from pathlib import Path  # noqa: E402

from synthgain.registry import SPEED  # noqa: E402
from synthgain.runtime.command import Job, Progress, logger, run_script  # noqa: E402
from synthgain.runtime.files import digest, write_json  # noqa: E402
from synthgain.runtime.loading import load  # noqa: E402
from synthgain.runtime.settings import settings  # noqa: E402
from synthgain.speed.documents import ImageKind, Measured  # noqa: E402

# In this order: what each takes more than the ones before is what jobs of that sort need to start.
LIBRARIES = {
    "tables": "synthgain.data.image_set",
    "torch": SPEED["downstream"],
    "drawing": SPEED["generators"],
}
MEASURES = {
    "learn": "downstream.measure_learning",
    "extract": "features.measure_features",
    "autoencode": "autoencoders.measure_autoencoder",
    "train": "generators.measure_training",
    "sample": "generators.measure_sampling",
}
# Whose threads a kind of work has.
ROLES = {"learn": "downstream", "autoencode": "generator", "train": "generator", "sample": "sampling"}


def measure_speed(job: Job) -> None:
    """Measure every kind of work once and write what was found."""
    began = time.perf_counter()
    start_up = {"python": STARTED}
    kinds: dict[str, dict[str, object]] = job.slice["kinds"]
    image = ImageKind.model_validate(job.slice["image"])
    _load("tables", start_up, "python")
    _load("torch", start_up, "tables")
    machine = _machine(start_up)
    threads = settings("compute").get("threads", {})
    progress, known = Progress("speed", len(kinds)), dict[str, Measured]()
    with tempfile.TemporaryDirectory() as folder:
        # What needs least memory first: the largest so far is all that a process can be asked for.
        for name in sorted(kinds, key=lambda name: list(MEASURES).index(str(kinds[name]["do"]))):
            kind = kinds[name]
            if kind["do"] in ("autoencode", "train", "sample") and "drawing" not in start_up:
                _load("drawing", start_up, "torch")
            key = digest(kind)
            if key not in known:
                count = max(1, min(job.threads, int(threads.get(ROLES.get(str(kind["do"]), ""), 1))))
                known[key] = _measured(name, kind, image, Path(folder), count)
            progress.advance(note=name)
    write_json(
        job.outputs[0],
        {
            "identity": job.identity,
            "kinds": {name: known[digest(kind)].json_values() for name, kind in kinds.items()},
            "start_up": start_up,
            "threads": threads,
            "machine": machine,
            "seconds": round(time.perf_counter() - began, 3),
        },
    )


def _load(name: str, start_up: dict[str, float], after: str) -> None:
    """Import libraries and note what a job spends on them, and on those before them."""
    began = time.process_time()
    importlib.import_module(LIBRARIES[name])
    start_up[name] = start_up[after] + time.process_time() - began


def _measured(name: str, kind: dict[str, object], image: ImageKind, folder: Path, threads: int) -> Measured:
    """Return the rates of one kind of work, or why there are none."""
    module, function = MEASURES[str(kind["do"])].split(".")
    try:
        found: Measured = getattr(load(SPEED, module), function)(kind, image, folder, threads)
    except Exception as error:  # a forecast must not keep the study from running
        reason = " ".join(str(error).split())
        logger.warning("%s: not measured (%s)", name, reason)
        return Measured(error=reason, threads=threads)
    return found.model_copy(update={"threads": threads})


def _machine(start_up: dict[str, float]) -> dict[str, object]:
    """Where it was measured; a GPU is woken first, and what that takes joins `start_up`."""
    import torch

    from synthgain.device import chosen_device

    device = chosen_device()
    cuda = device.type == "cuda"
    if cuda:
        began = time.perf_counter()
        torch.zeros(1, device=device).item()
        start_up["device"] = time.perf_counter() - began
    return {
        "device": torch.cuda.get_device_name(device) if cuda else "cpu",
        "gpu": cuda,
        "cores": os.cpu_count() or 1,
        "processor": platform.machine(),
        "torch": torch.__version__,
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "busy": round(os.getloadavg()[0], 1),
    }


if __name__ == "__main__":
    run_script(measure_speed)
