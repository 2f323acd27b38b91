"""What a job asks a cluster for beside threads, memory and time: GPUs, where it computes on one."""

import os
import shutil
import subprocess
from collections.abc import Mapping

from synthgain.study.schema import Study
from synthgain.study.stage import Stage

# What `cluster_has_gpus` found, for the jobs: they are planned again where they run, and must ask for the same.
FOUND = "SYNTHGAIN_CLUSTER_GPUS"
SINFO_SECONDS = 30  # a busy Slurm controller answers late


def gpus(study: Study, stage: Stage, wildcards: Mapping[str, str]) -> int:
    """Return how many GPUs a job of `stage` asks for.

    None with `device: cpu`, and with `device: auto` none on a cluster without GPUs; else what the stage says. Elsewhere
    asking costs nothing: a local run has no limit on `gpu` unless it is given one.
    """
    wanted = 0 if study.compute.device == "cpu" else stage.gpus(study, wildcards)
    return 0 if study.compute.device == "auto" and wanted and not cluster_has_gpus() else wanted


def cluster_has_gpus() -> bool:
    """False where Slurm lists no GPU in any partition; True where it lists one, and where there is no Slurm to ask."""
    if FOUND not in os.environ:
        os.environ[FOUND] = "gpu" if shutil.which("sinfo") is None else generic_resources()
    return "gpu" in os.environ[FOUND]


def generic_resources() -> str:
    """Return what Slurm's nodes have beside CPUs and memory, such as "gpu:a100:4", or that it does not answer."""
    command = ["sinfo", "--noheader", "--format=%G"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SINFO_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return "gpu: not known"
    return ",".join(sorted(set(done.stdout.split())))
