"""The embedded studies of texts, rehearsed to their reports, and what the benchmark of words reads of one."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
from planned_jobs import run_study

from synthgain.data.image_set import open_dataset
from synthgain.study.load import parse_study
from synthgain.study.yaml_files import read_yaml

ROOT = Path(__file__).parents[1]
SMALLER = {"generator_steps": 2, "model_steps": 4, "sampling_steps": 2}
pytestmark = [pytest.mark.slow, pytest.mark.workflow]


def test_words_numbers_and_single_findings_reach_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(ROOT / "benchmarks"), *sys.path])
    config = read_yaml(ROOT / "studies" / "phantom_text.yaml") | {"rehearsal": True, "rehearsal_sizes": SMALLER}
    report = run_study(config, ROOT, Path("results"))
    page = report.read_text(encoding="utf-8")
    for words in ("Texts that pools were drawn for", "Labels after prompting", "one, by turns", "fluid on the"):
        assert words in page, words
    benchmark, run = importlib.import_module("words"), report.parent
    judges = benchmark.judges(parse_study(config), run)
    assert {"opacity", "effusion", "cardiomegaly", "F", "M", "none", "left", "right"} == set(judges)
    rows = benchmark.agreement_rows(run, ("words", "vector"), ["opacity"])
    assert rows[0]["low"] <= rows[0]["difference"] <= rows[0]["high"]
    data = open_dataset(run / "datasets" / "hospital_a", run / "splits" / "hospital_a")
    law, some = dict(data.images.manifest["law"]), data.images.table.head(6)
    swaps = benchmark.swap_rows(benchmark.load(run / "generators" / "words" / "0"), judges, some, law, 32)
    assert [row["swap"] for row in swaps] == ["opacity", "cardiomegaly", "effusion", "sex", "effusion_side"]
    assert all(0 <= float(row["share"]) <= 1 for row in swaps)
    films = np.array(data.images.images[:6])
    assert all(row["difference"] == 0 and row["met"] for row in benchmark.null_rows(judges, films, films))
