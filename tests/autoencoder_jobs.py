"""Training jobs of toy autoencoders, for the tests of latents."""

from pathlib import Path
from typing import Any

from job_inputs import new_job

from synthgain.runtime.command import Job
from synthgain.runtime.files import digest

TINY_AUTOENCODER = {"block_out_channels": [8, 16], "layers_per_block": 1}


def autoencoder_job(run: Path, inputs: dict[str, str], name: str = "vae", **changes: Any) -> Job:
    """Return a job of a few fast steps; `changes` replace entries of the slice, `training` is merged."""
    training = {"steps": 12, "batch_size": 8, "learning_rate": 5e-3, "warmup_steps": 3, "log_every": 3}
    training |= changes.pop("training", {})
    entry = {
        "autoencoder": name,
        "folder": None,
        "sha256": None,
        "output": "image",
        "structures": [],
        "downsampling": 2,
        "latent_channels": 2,
        "network": TINY_AUTOENCODER,
        "train_on": {"datasets": ["toy"]},
        "image": {"size": 8, "channels": 1},
        "seed": 0,
        **changes,
        "training": training,
    }
    if entry["folder"] is not None:
        entry["training"] = None
    identity = digest({"slice": entry, "inputs": inputs})
    return new_job(entry, inputs, "code", identity, run, [run / "autoencoders" / name / "manifest.json"], threads=1)
