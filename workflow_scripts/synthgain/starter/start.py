"""From what lies there to a starter study on disk, and what to say of it."""

import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from synthgain.runtime.errors import SynthGainError
from synthgain.starter.guessing import guess, named
from synthgain.starter.looking import LOOKED_FOR, Found, look
from synthgain.starter.pictures import look_at, mask_values
from synthgain.starter.sizes import Forecast, Sizes, candidates, fitted, gpu_here, usual
from synthgain.starter.writing import Starter, structure_names, study_text
from synthgain.study.load import parse_study
from synthgain.study.session import Session
from synthgain.study.yaml_files import parse_yaml

REPOSITORY = Path(__file__).parents[3]
FOLDER = Path("studies")


def start_study(data: Path, name: str, measure: bool) -> tuple[Path, str]:
    """Write the study; return its path and what to say. SynthGainError where nothing fits, or a file is in the way."""
    snakemake = _snakemake()  # before a session puts its own environment on the PATH
    found = look(data)
    name = name or named(found.name)
    path = FOLDER / f"{name}.yaml"
    if path.exists():
        raise SynthGainError(f"{path} is there already and is not overwritten; give another NAME=…, or delete it")
    starter = _starter(name, found)

    def config(sizes: Sizes) -> Mapping[str, Any]:
        written = parse_yaml(study_text(starter, sizes))
        assert isinstance(written, dict), "the text is a mapping"
        return {**written, "data_root": str(found.root)}

    parse_study(config(usual(32, gpu=False)))  # a wrong name is said before anything is measured
    gpu = gpu_here()
    if measure:
        print(f"looking at the speed of this {'GPU' if gpu else 'machine'} …", file=sys.stderr)
        sizes = fitted(config, starter.pictures.side, gpu, Forecast(REPOSITORY))
    else:
        sizes = usual(candidates(starter.pictures.side, gpu)[0], gpu)
    session = Session(config(sizes), REPOSITORY, Path("results"))
    for plan in session.planners.values():
        plan.job("write_report")
    path.parent.mkdir(parents=True, exist_ok=True)
    text = study_text(starter, sizes)
    with path.open("x", encoding="utf-8") as handle:
        handle.write(text)
    return path, _said(path, text, found, sizes, snakemake)


def _starter(name: str, found: Found) -> Starter:
    guesses = guess(found.rows, found.image)
    pictures = look_at(found.root, found.files)
    base = found.root / (found.images or (Path(found.table).parent if found.table else found.folder or ""))
    structures = {
        column: (structure, mask_values(base, [cell.replace("\\", "/") for cell in found.rows[column] if cell]))
        for column, structure in structure_names(guesses.masks).items()
    }
    starter = Starter(name, found, guesses, pictures, structures)
    if not starter.labels and not starter.structures:
        raise SynthGainError(
            f"{found.root / (found.table or found.folder or '')}: {len(found.rows):,} images, and nothing to learn: no "
            f"label and no mask; looked for {LOOKED_FOR}, and in a table for a column of labels"
        )
    return starter


def _said(path: Path, text: str, found: Found, sizes: Sizes, snakemake: str) -> str:
    """Return the summary and the next three commands."""
    root = shlex.quote(f"data_root={found.root}")
    call = f"{snakemake} --cores all --configfile {shlex.quote(str(path))} --config {root}"
    audit = call.replace("--cores all", "--cores all audit", 1)
    said = [line for line in text.splitlines() if "# " in line and ("?" in line or "patient_id" in line)]
    asked = ["", "Please look at these lines:", *(f"  {line.strip()}" for line in said)] if said else []
    lines = [
        f"{path}: {len(found.rows):,} images, {sizes.side} px{f'; {sizes.said}' if sizes.said else ''}",
        *asked,
        "",
        "Next:",
        f"  {audit}",
        f"  {call} rehearsal=true",
        f"  {call}",
    ]
    return "\n".join(lines)


def _snakemake() -> str:
    """Return how Snakemake is called: by its name where that is the one of this environment, else by its path."""
    ours = Path(sys.executable).with_name("snakemake")
    on_path = shutil.which("snakemake")
    if not ours.exists() or (on_path is not None and Path(on_path).resolve() == ours.resolve()):
        return "snakemake"
    return shlex.quote(str(ours.relative_to(Path.cwd()) if ours.is_relative_to(Path.cwd()) else ours))
