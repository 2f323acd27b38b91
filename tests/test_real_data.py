"""The shipped studies' data sets, read for real where they are at hand: counts as their sources state them."""

from pathlib import Path

import numpy as np
import pytest

from synthgain.datasets import table
from synthgain.registry import ADAPTERS
from synthgain.runtime.loading import load
from synthgain.study.code import CodeDigests
from synthgain.study.load import parse_study
from synthgain.study.planner import Planner
from synthgain.study.stages.data import prepare_dataset
from synthgain.study.stages.table import STAGES
from synthgain.study.yaml_files import read_yaml

ROOT = Path(__file__).parent.parent
# study, data set → images, patients, positives of the first binary target or counts of the levels
FACTS = {
    ("nih_pneumonia", "nih"): (1000, 682, {1.0: 500, 0.0: 500}),
    ("nih_pneumonia", "kermany"): (5840, 3103, {1.0: 4265, 0.0: 1575}),
    ("tuberculosis", "shenzhen"): (662, 662, {1.0: 336, 0.0: 326}),
    ("tuberculosis", "montgomery"): (138, 138, {1.0: 58, 0.0: 80}),
    ("kermany", "guangzhou"): (5840, 3103, {"normal": 1575, "bacterial": 2772, "viral": 1493}),
}


@pytest.mark.parametrize(("study", "dataset"), list(FACTS), ids=[f"{a}-{b}" for a, b in FACTS])
def test_counts_are_those_of_the_source(study: str, dataset: str, data_root: Path) -> None:
    config = parse_study(read_yaml(ROOT / "studies" / f"{study}.yaml"))
    code = CodeDigests(ROOT / "workflow_scripts", ROOT / "envs" / "requirements.lock")
    plan = Planner(config, study, 0, code, Path("results"), data_root, STAGES)
    entry = prepare_dataset(plan, dataset=dataset).slice
    image = {**entry["image"], "size": 16}
    prepared = load(ADAPTERS, entry["module"]).prepare(entry["options"], image, 0, data_root)
    images, patients, levels = FACTS[study, dataset]
    assert prepared.images.shape == (images, 16, 16, 1)
    assert prepared.table["patient_id"].nunique() == patients
    assert len(prepared.quarantine) == 0
    target = next(name for name, spec in prepared.columns.items() if spec["role"] == "target")
    assert prepared.table[target].value_counts().to_dict() == levels
    assert 20 < np.median(prepared.images) < 235, "neither black nor white"


def test_polyp_masks_are_those_that_the_source_measured(data_root: Path) -> None:
    mask = [{"column": "mask", "name": "polyp"}]
    options = {"table": "kvasir-seg/metadata.csv", "patient_id": None, "mask": mask, "keep": ["mask_fraction"]}
    image = {"size": 192, "channels": 1, "fit": "pad", "intensity": "none"}  # the size on disk: nothing is resized
    prepared = table.prepare(options, image, 0, data_root)
    assert prepared.masks is not None
    measured = prepared.table["mask_fraction"].astype(float).to_numpy()
    assert np.allclose(prepared.masks.mean(axis=(1, 2, 3)), measured, atol=6e-5)  # the table has four decimals
    assert len(prepared.table) == 1000
    assert prepared.facts["mask_findings"]["polyp"] == {
        "empty": 0, "full": 0, "vanished": 0, "wrong_size": 0, "values": {"0": 1000, "1": 1000},
        "without_image": 0, "without_image_listed": [],
    }  # fmt: skip
