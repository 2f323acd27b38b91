"""A copy of the repository with the tiny study built in it, and a reader of Snakemake's plans."""

import os
import re
import shutil
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from fork_server import SOCKET, request, start
from PIL import Image
from studies import tiny

ROOT = Path(__file__).parent.parent
LEFT_OUT = shutil.ignore_patterns(".git", ".venv", ".snakemake", "results", "__pycache__", ".*_cache", ".hypothesis")
CLINIC_ROWS = 12


@cache
def _server() -> dict[str, str]:
    """What calls of the fork server need in their environment; it starts with the first."""
    return start()


@dataclass(frozen=True)
class Workshop:
    """folder: a copy of the repository; data: its data root, beside it."""

    folder: Path
    data: str = "../data"

    def snakemake(self, *arguments: str, study: str = "tiny.yaml", data: str | None = None, check: bool = True) -> str:
        """Call Snakemake in the copy and return stdout and stderr together."""
        command = ["-m", "snakemake", "--configfile", study, "--config", f"data_root={data or self.data}", *arguments]
        environment = {k: v for k, v in os.environ.items() if k not in ("SYNTHGAIN_DATA", "SYNTHGAIN_DEVICE")}
        environment["XDG_CACHE_HOME"] = str(self.folder.parent / "cache")
        environment |= _server()
        with tempfile.TemporaryFile("w+") as said, open(os.devnull) as nothing:
            files = [nothing.fileno(), said.fileno(), said.fileno()]
            status = request(environment[SOCKET], command, str(self.folder), environment, files)
            said.seek(0)
            text = said.read()
        if check and status != 0:
            raise AssertionError(f"snakemake {' '.join(arguments)} ended with {status}:\n{text[-6000:]}")
        return text

    def saved_step(self) -> int:
        """Return the last step of which the tiny study's generator has saved its state; 0 for none."""
        states = (self.folder / "results/tiny/state/generators/ddpm/0").rglob("step-*.json")
        return max((int(path.stem.removeprefix("step-")) for path in states), default=0)

    def resumed_steps(self) -> list[int]:
        """Return the steps from which tries of the generator's job went on, by its log."""
        log = self.folder / "results/tiny/logs/train_generator/ddpm-0.log"
        return [int(step) for step in re.findall(r"resumed at step (\d+)", log.read_text())] if log.exists() else []

    def build(self, cores: int = 2) -> str:
        """Build the study."""
        return self.snakemake("--cores", str(cores), "--quiet", "all")

    def plan(self, *arguments: str, **options: Any) -> dict[str, int]:
        """Return {rule: number of jobs} that Snakemake would run, without the named targets."""
        text = self.snakemake("--cores", "2", *arguments, "--dry-run", "--quiet", "rules", **options)
        table = re.search(r"^-+ +-+\n(.*?)^total ", text, re.MULTILINE | re.DOTALL)
        if table is None:
            assert "Nothing to be done" in text, text[-3000:]
            return {}
        found = {name: int(count) for name, count in re.findall(r"^(\w+) +(\d+)$", table[1], re.MULTILINE)}
        return {
            name: count
            for name, count in found.items()
            if name not in ("report", "audit", "samples", "exports", "confirm_audit")
        }

    def write_study(self, **changes: Any) -> None:
        """Write tiny.yaml with changes."""
        changes = {"datasets__clinic": CLINIC, "evaluate_on": ["hospital_a", "hospital_b", "clinic"], **changes}
        (self.folder / "tiny.yaml").write_text(yaml.safe_dump(tiny(**changes), sort_keys=False))

    def append(self, path: str, text: str) -> None:
        """Append text to a file of the copy."""
        with (self.folder / path).open("a") as handle:
            handle.write(text)

    def replace(self, path: str, old: str, new: str) -> None:
        """Replace text in a file of the copy; the old text must be there."""
        file = self.folder / path
        text = file.read_text()
        assert old in text, f"{path} holds no {old!r}"
        file.write_text(text.replace(old, new, 1))

    def copy(self, folder: Path) -> "Workshop":
        """Return a copy with results and Snakemake's records, times kept."""
        shutil.copytree(self.folder, folder / "repository", symlinks=True)
        shutil.copytree(self.folder.parent / "data", folder / "data")
        return Workshop(folder / "repository")


CLINIC = {
    "adapter": "table",
    "table": "clinic/metadata.csv",
    "patient_id": "patient",
    "site": {"constant": "clinic"},
    "targets": {"opacity": {"column": "label", "map": {"yes": 1, "no": 0}}},
}


def write_clinic(root: Path, rows: int = CLINIC_ROWS) -> None:
    """Write a small table data set of random films; the first rows do not depend on how many there are."""
    folder = root / "clinic"
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["image,label,patient"]
    for row in range(rows):
        pixels = np.random.default_rng(row).integers(0, 256, (40, 32), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{row}.png")
        lines.append(f"{row}.png,{'yes' if row % 2 else 'no'},p{row}")
    (folder / "metadata.csv").write_text("\n".join(lines) + "\n")


def new_workshop(folder: Path) -> Workshop:
    """Return a fresh copy of the repository with tiny.yaml and the data, nothing built."""
    shutil.copytree(ROOT, folder / "repository", ignore=LEFT_OUT)
    write_clinic(folder / "data")
    workshop = Workshop(folder / "repository")
    workshop.write_study()
    return workshop
