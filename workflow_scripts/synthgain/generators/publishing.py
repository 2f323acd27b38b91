"""Writes a trained generator's folder from its training state."""

import csv
import io
from typing import Any

from synthgain.generators.run_state import Run
from synthgain.generators.snapshots import publish, whole
from synthgain.runtime.command import Job, logger
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import write_manifest, write_text

TAIL_SHARE = 0.1  # of the logged rows: the loss that the manifest calls final


def write_generator(run: Run, job: Job) -> None:
    """Write network/, condition_encoder/, the family's extras, snapshots/, training.csv and, last, manifest.json.

    run: at its last step. Raises SynthGainError if a snapshot in the state is damaged.
    """
    target, state = job.outputs[0].parent, job.state_folder() / "snapshots"
    steps = run.options.snapshot_steps()
    damaged = [step for step in steps if not whole(state, step, job.identity)]
    if damaged:
        raise SynthGainError(f"{state}/{damaged[0]}: snapshot missing or damaged; run snakemake again to train it anew")
    files = publish(state, steps, target)
    write_text(target / "training.csv", log_table(run.log))
    files += [*run.save_extras(target), "training.csv"]
    write_manifest(target / "manifest.json", job.identity, files, **facts_of(run, job, steps))
    logger.info("generator written to %s", target)


def facts_of(run: Run, job: Job, steps: list[int]) -> dict[str, Any]:
    """Return the manifest's facts: what it is, what it saw, what it cost, how the loss fell."""
    seen = run.step * run.options.batch_size
    losses = [row[run.loss_names[0]] for row in run.log]
    tail = losses[-max(1, round(TAIL_SHARE * len(losses))) :]
    shape = list(run.data.images.shape[1:])
    output, structures = job.slice.get("output", "image"), list(job.slice.get("structures") or [])
    return {
        "generator": job.slice["generator"],
        "index": job.slice["index"],
        "module": job.slice["module"],
        "network_module": job.slice["network"]["module"],
        "image_shape": shape,
        "image_channels": shape[0] - (0 if output == "image" else len(structures)),
        "output": output,
        "structures": structures,
        "condition_on": list(job.slice["condition_on"]),
        "condition_columns": run.encoder.columns,
        "steps": run.step,
        "snapshots": steps,
        "final": steps[-1],
        "images_seen": seen,
        "epochs": seen / len(run.data),
        "saw": run.data.saw(),
        "train_on": job.slice["train_on"],
        "environments": run.environments,
        "loss": {"first": losses[0], "lowest": min(losses), "final": sum(tail) / len(tail)},
        "seconds": round(run.seconds, 3),
        "energy_joules": None if run.energy_joules is None else round(run.energy_joules, 3),
        "energy_source": "; ".join(run.energy_sources) or None,
        "images_per_second": seen / max(run.seconds, 1e-9),
        **run.facts(),
    }


def log_table(log: list[dict[str, float]]) -> str:
    """Return the training log as CSV: step, the losses, learning_rate, images_per_second, seconds."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(log[0])
    writer.writerows([int(row["step"]), *(f"{row[key]:.6g}" for key in row if key != "step")] for row in log)
    return text.getvalue()
