"""Train an autoencoder on training patients, or read one from a folder; outputs: its manifest.json, with its gates."""

from synthgain.generators.autoencoders.folder import read_autoencoder
from synthgain.generators.autoencoders.training import prepare_run
from synthgain.generators.training import train_in_processes
from synthgain.runtime.command import Job, run_script


def train_autoencoder(job: Job) -> None:
    """Slice: {autoencoder, folder and sha256 (or null), output, structures, downsampling, latent_channels, …}."""
    if job.slice.get("folder") is not None:
        read_autoencoder(job)
    else:
        train_in_processes(job, prepare_run)


if __name__ == "__main__":
    run_script(train_autoencoder)
