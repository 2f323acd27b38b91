"""The README's own studies, as they stand there: planned by Snakemake, and rehearsed to the report."""

import re
import shlex
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
    assert "</html>" in page[-4000:]  # then its seal
    for text in (f"({network}, {words[0]}, from random weights)", *words):
        assert text in page, text
    table = pd.read_parquet(report.parent / "datasets" / "ours" / "table.parquet")
    assert set(table["site"]) == {"ours"}


def commands() -> list[str]:
    """The lines of the README's shell blocks, without their comments."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.findall(r"^```bash\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [line.split(" # ")[0].strip() for block in found for line in block.splitlines() if line.strip()]


def test_the_readme_answers_a_newcomer_s_questions_in_their_order() -> None:
    heads = re.findall(r"^## (.*)$", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert heads == [
        "Try it", "My data", "What do I get", "On a cluster", "What if it fails", "What it cannot tell", "How to cite",
    ]  # fmt: skip


def test_every_target_that_the_readme_names_is_there() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    rules = set(re.findall(r"^rule (\w+):", (ROOT / "Snakefile").read_text(), re.MULTILINE))
    made = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = re.findall(r"`snakemake (?:--cores \w+ )?(\w+)`", text)
    assert {"plan", "audit", "samples", "exports", "verify", "accept"} <= set(named) <= rules
    assert {"run", "study", "test"} <= set(re.findall(r"\bmake (run|study|test[a-z-]*)", text)) <= made


def test_make_study_as_the_readme_calls_it_and_its_next_commands_plan(data: Path, tmp_path: Path) -> None:
    (call,) = [line for line in commands() if line.startswith("make study")]
    asked = call.replace("/where/the/data/are", str(data)).split()
    shown = subprocess.run([*asked, "-n", "--directory", str(ROOT)], capture_output=True, text=True, check=True)
    assert "start_study.py" in shown.stdout
    start = [sys.executable, str(ROOT / "workflow_scripts" / "start_study.py"), str(data / "ours"), "--unmeasured"]
    done = subprocess.run(start, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=600)
    audit = next(line.strip() for line in done.stdout.splitlines() if " audit " in line)
    (told,) = [line for line in commands() if " audit " in line]
    assert re.sub(r"\S+\.yaml|data_root=\S+", "", audit) == re.sub(r"\S+\.yaml|data_root=\S+", "", told)
    planned = [sys.executable, "-m", *shlex.split(audit), "--snakefile", str(ROOT / "Snakefile"), "-n", "-q", "rules"]
    done = subprocess.run(planned, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "prepare_dataset" in done.stdout


def test_snakemake_plans_the_readme_s_study_as_the_readme_calls_it(data: Path, tmp_path: Path) -> None:
    (tmp_path / "my_study.yaml").write_text(yaml.safe_dump(studies()["labels"]), encoding="utf-8")
    assert "snakemake --cores all --configfile my_study.yaml --config data_root=" in (ROOT / "README.md").read_text()
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--cores", "all"]
    command += ["--configfile", "my_study.yaml", "--config", f"data_root={data}", "-n", "--quiet", "rules"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "train_generator" in done.stdout
