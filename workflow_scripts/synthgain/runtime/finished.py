"""Work that is whole is not done twice where only its manifest was taken away.

Snakemake deletes the declared outputs of a job whose end it did not see (it was killed itself, or its node was), and
runs the job anew: hours of a GPU for files that are all there. So long jobs keep a copy of their manifest as state.
"""

from synthgain.runtime.command import Job, logger
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import check_file, marked_identity, read_json, write_json

KEPT = "finished.json"


def keep_manifest(job: Job) -> None:
    """Copy the manifest of a finished job into its state folder."""
    write_json(job.state_folder() / KEPT, read_json(job.outputs[0]))


def put_manifest_back(job: Job) -> bool:
    """Write the manifest again and return True where an earlier try of this very job finished and every byte is there.

    Raises SynthGainError if the disk is full.
    """
    kept = job.state_folder() / KEPT
    if marked_identity(kept) != job.identity:
        return False
    manifest = read_json(kept)
    try:
        for name, listed in manifest["files"].items():
            check_file(job.outputs[0].parent, name, listed, every_byte=True)
    except SynthGainError:
        kept.unlink(missing_ok=True)
        return False
    write_json(job.outputs[0], manifest)
    logger.info("finished before, every byte compared: taken over (to make it anew, delete %s first)", kept)
    return True
