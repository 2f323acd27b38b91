"""The README's own studies, as they stand there: planned by Snakemake, and rehearsed to the report."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image
from planned_jobs import run_study

from synthgain.datasets import phantom
from synthgain.study.load import parse_study

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
PATIENTS = 36  # fewer leave nothing that can be estimated
# A rehearsal of the usual sizes takes minutes of these two studies; the README's text stays as it is.
SMALLER = {"generator_steps": 1, "model_steps": 4, "sampling_steps": 2}


def blocks() -> list[dict[str, Any]]:
    """The README's YAML, block by block."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return [yaml.safe_load(block) for block in re.findall(r"^```yaml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)]


def studies() -> dict[str, dict[str, Any]]:
    """The first block is a whole study; the second stands in place of the entries of the first that it names."""
    first, second = blocks()
    return {"labels": first, "masks": {**first, **second}}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder: films of the phantom as PNG files, with a table that has the columns of the README alone."""
    folder = tmp_path_factory.mktemp("data")
    drawn = phantom.prepare(
        {"patients": PATIENTS, "seed": 4, "prevalence": {"opacity": 0.5}}, {"size": 64, "channels": 1}, 0, None
    )
    assert drawn.masks is not None
    (folder / "ours" / "masks").mkdir(parents=True)
    files = [f"{name}.png" for name in drawn.table["image_id"]]
    lungs = drawn.masks[..., drawn.mask_names.index("lungs")]
    for name, film, mask in zip(files, drawn.images, lungs, strict=True):
        Image.fromarray(film[..., 0]).save(folder / "ours" / name)
        Image.fromarray((mask > 0).astype(np.uint8)).save(folder / "ours" / "masks" / name)
    table = pd.DataFrame(
        {
            "image": files,
            "patient": drawn.table["patient_id"],
            "label": drawn.table["opacity"].map({1.0: "pneumonia", 0.0: "normal"}),
            "sex": drawn.table["sex"],
            "age": drawn.table["age"].round().astype(int),
            "mask_file": [f"masks/{name}" for name in files],
        }
    )
    table.to_csv(folder / "ours" / "metadata.csv", index=False)
    return folder


@pytest.mark.parametrize("name", ["labels", "masks"])
def test_the_readme_s_studies_are_whole_and_valid(name: str) -> None:
    study = parse_study(studies()[name])
    assert parse_study({**studies()[name], "rehearsal": "true"}).rehearsal, "--config gives text"
    assert study.analysis.primary is not None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "network", "words"),
    [
        ("labels", "small_cnn", ["classification of pneumonia"]),
        ("masks", "unet", ["segmentation of polyp", "Trivial floors"]),
    ],
)
def test_the_readme_s_studies_run_to_their_report(
    name: str, network: str, words: list[str], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = {**studies()[name], "rehearsal": "true", "data_root": str(data), "rehearsal_sizes": SMALLER}
    report = run_study(config, ROOT, Path("results"))
    page = report.read_text(encoding="utf-8")
    assert page.rstrip().endswith("</html>")
    for text in (f"({network}, {words[0]}, from random weights)", *words):
        assert text in page, text
    table = pd.read_parquet(report.parent / "datasets" / "ours" / "table.parquet")
    assert set(table["site"]) == {"ours"}


def test_snakemake_plans_the_readme_s_study_as_the_readme_calls_it(data: Path, tmp_path: Path) -> None:
    (tmp_path / "my_study.yaml").write_text(yaml.safe_dump(studies()["labels"]), encoding="utf-8")
    assert "snakemake --cores all --configfile my_study.yaml --config data_root=" in (ROOT / "README.md").read_text()
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--cores", "all"]
    command += ["--configfile", "my_study.yaml", "--config", f"data_root={data}", "-n", "--quiet", "rules"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "train_generator" in done.stdout
