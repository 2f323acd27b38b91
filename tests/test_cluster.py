"""What jobs ask a cluster for, without one: a program named sinfo answers as Slurm does."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from snakemake_executor_plugin_slurm.utils import set_gres_string
from studies import tiny

from synthgain.study import cluster
from synthgain.study.load import parse_study
from synthgain.study.schema import Study
from synthgain.study.stages.table import STAGES

COPIER = {"known": "copier", "rows_of": "hospital_a", "replicas": 1}
ROOT = Path(__file__).parent.parent
PROFILE = ROOT / "slurm" / "config.v9+.yaml"


class AttrDict(dict[str, Any]):
    """Resources as the plugin sees them: by get and by attribute."""

    __getattr__ = dict.__getitem__


@pytest.fixture
def sinfo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program that tells of no node until it is written anew; nothing is known of an earlier answer."""
    monkeypatch.setattr(os, "environ", {**os.environ, "PATH": f"{tmp_path}{os.pathsep}/bin:/usr/bin"})
    os.environ.pop(cluster.FOUND, None)
    program = tmp_path / "sinfo"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    return program


def gpus(study: Study, rule: str, **wildcards: str) -> int:
    return cluster.gpus(study, STAGES[rule], wildcards)


@pytest.mark.parametrize(
    ("device", "nodes", "wanted"),
    [
        ("auto", "gpu:a100:4\n(null)\n", 1),
        ("auto", "(null)\n", 0),
        ("auto", "craynetwork:4\n", 0),
        ("cuda", "(null)\n", 1),  # Slurm's refusal is then the clear error
        ("cpu", "gpu:a100:4\n", 0),
    ],
)
def test_a_gpu_is_asked_for_where_it_would_be_used(device: str, nodes: str, wanted: int, sinfo: Path) -> None:
    sinfo.write_text(f"#!/bin/sh\nprintf '{nodes}'\n")
    study = parse_study(tiny(compute={"device": device}))
    assert gpus(study, "train_downstream") == wanted
    assert gpus(study, "draw_pool_shard", pool="drawn") == wanted


def test_processes_of_a_generator_have_a_gpu_each(sinfo: Path) -> None:
    sinfo.write_text("#!/bin/sh\necho gpu:8\n")
    study = parse_study(tiny(compute={"generator_processes": 4}))
    assert gpus(study, "train_generator") == 4
    assert gpus(study, "train_downstream") == 1


def test_pools_without_a_generator_ask_for_none(sinfo: Path) -> None:
    sinfo.write_text("#!/bin/sh\necho gpu:8\n")
    study = parse_study(tiny(pools__copies=COPIER))
    assert gpus(study, "draw_pool_shard", pool="drawn") == 1
    assert gpus(study, "draw_pool_shard", pool="copies") == 0


def test_jobs_ask_for_what_the_call_that_sent_them_asked_for(sinfo: Path) -> None:
    """A job is planned again on its node, where sinfo may say something else, or nothing."""
    study = parse_study(tiny())
    assert gpus(study, "train_generator") == 0
    sinfo.write_text("#!/bin/sh\necho gpu:8\n")
    assert gpus(study, "train_generator") == 0


def test_without_an_answer_gpus_are_asked_for(sinfo: Path) -> None:
    sinfo.write_text("#!/bin/sh\nexit 1\n")
    assert gpus(parse_study(tiny()), "train_generator") == 1


def test_no_slurm_to_ask(sinfo: Path) -> None:
    """Elsewhere (one machine, Kubernetes, …) a GPU is asked for; on one machine that limits nothing."""
    sinfo.unlink()
    os.environ["PATH"] = str(sinfo.parent)
    assert gpus(parse_study(tiny()), "train_generator") == 1


def offered_entries() -> dict[str, str]:
    """The rules that the profile's commented block names, and what it gives each."""
    lines = [line.removeprefix("#   ") for line in PROFILE.read_text().splitlines() if "gpu_job" in line]
    return dict(line.split(": ", 1) for line in lines)


def test_profile_offers_every_rule_that_asks_for_a_gpu() -> None:
    assert set(offered_entries()) == {name for name, stage in STAGES.items() if stage.on_gpu}


@pytest.mark.parametrize(
    ("entry", "asked"),
    [
        ({}, " --gpus=1"),
        ({"gpu": 0, "gres": "gpu:1"}, " --gres=gpu:1"),
        ({"gpu_model": "h100"}, " --gpus=h100:1"),
    ],
)
def test_what_the_profile_offers_is_what_slurm_is_asked(entry: dict[str, Any], asked: str) -> None:
    """The variants that the profile's comment and docs/cluster.md name, through the executor plugin itself."""
    offered = PROFILE.read_text()
    for key, value in entry.items():
        assert f'{key}: "{value}"' in offered or f"{key}: {value}" in offered
    job = SimpleNamespace(resources=AttrDict({"gpu": 1, **entry}))
    assert set_gres_string(job) == asked


def test_profile_holds_nothing_of_a_site() -> None:
    """Account and partition stand there as comments, each once."""
    lines = PROFILE.read_text().splitlines()
    for key in ("slurm_account", "slurm_partition", "set-resources"):
        told = [line for line in lines if f"{key}:" in line]
        assert told, key
        assert all(line.lstrip().startswith("#") for line in told), key
