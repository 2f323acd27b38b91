"""profiles/default, which Snakemake reads by itself, beside a site's profile: it adds, and takes nothing."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from snakemake.cli import get_argument_parser, parse_args

ROOT = Path(__file__).parent.parent
DEFAULT = ROOT / "profiles" / "default"
SLURM = ROOT / "slurm" / "config.v9+.yaml"
EVERYWHERE = {"rerun-incomplete", "keep-going", "rerun-triggers"}  # no site has reason to set these


def held() -> dict[str, Any]:
    return dict(yaml.safe_load((DEFAULT / "config.yaml").read_text()))


def plain(value: object) -> str:
    """A setting in words; of an object that has none, its type."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """The shipped Slurm profile as a site fills it in: account, partitions, a GPU by --gres."""
    text = SLURM.read_text()
    for commented in re.findall(r"^ *# (?:slurm_|set-resources|  [a-z_]+: [&*]gpu_job).*$", text, re.MULTILINE):
        text = text.replace(commented, commented.replace("# ", "", 1))
    text = text.replace("&gpu_job {slurm_partition: gpu}", '&gpu_job {slurm_partition: gpu, gpu: 0, gres: "gpu:1"}')
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / SLURM.name).write_text(text)
    assert yaml.safe_load(text)["set-resources"]["train_generator"]["gres"] == "gpu:1"
    return folder


def test_it_holds_only_what_no_site_changes() -> None:
    assert set(held()) == EVERYWHERE


def test_every_value_of_a_sites_profile_survives(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    alone = vars(get_argument_parser(profiles=[str(site)]).parse_args([]))
    _, found = parse_args(["--profile", str(site)])  # as the command does, which finds the other by itself
    both = vars(found)
    added = {key.replace("-", "_") for key in held()}
    changed = {key for key, value in alone.items() if plain(value) != plain(both[key])}
    assert changed <= added | {"profile"}
    assert both["executor"] == "slurm"
    assert both["jobs"] == 100
    assert both["retries"] == 2
    assert {"slurm_account=my_account", "slurm_partition=my_partition"} <= set(both["default_resources"].args)
    generator = {name: resource.raw for name, resource in both["set_resources"]["train_generator"].items()}
    assert generator == {"slurm_partition": "gpu", "gpu": 0, "gres": "gpu:1"}
    assert both["rerun_triggers"] != alone["rerun_triggers"], "the default profile was not read"
