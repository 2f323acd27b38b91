"""The embedded study of image and mask pairs, from start to report, and what runs again after a change."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from test_rerun import expected, table
from workshop import Workshop, new_workshop

pytestmark = [pytest.mark.slow, pytest.mark.workflow]

STUDY = "studies/phantom_segmentation.yaml"
STEPS = 12  # of each generator, in place of 200 and 300, and of arms on what they draw a tenth: what is asserted rests
# on pools of known truth


@pytest.fixture(scope="session")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    workshop = new_workshop(tmp_path_factory.mktemp("pairs"))
    path = workshop.folder / STUDY
    text, generators = re.subn(r"steps: [23]00, batch_size: 12", f"steps: {STEPS}, batch_size: 12", path.read_text())
    drawn = r"(synthetic: (?:drawn|gan_drawn|moved), ratios: \[300\])}"
    text, arms = re.subn(drawn, r"\1, steps_factor: 0.1}", text)
    assert (generators, arms) == (3, 3)
    path.write_text(text)
    workshop.snakemake("--cores", "2", "--quiet", "all", study=STUDY)
    return workshop


def results(shop: Workshop) -> Path:
    return shop.folder / "results" / "phantom_segmentation"


def comparisons(shop: Workshop) -> pd.DataFrame:
    rows = pd.read_csv(results(shop) / "statistics" / "segmenter" / "comparisons.csv")
    chosen = (rows["metric"] == "dice") & (rows["label"] == "macro") & (rows["baseline"] == "real")
    return rows[chosen].set_index(["arm", "dataset"])


def test_true_pairs_help_and_misaligned_ones_never(pairs: Workshop) -> None:
    rows = comparisons(pairs)
    assert rows.loc[("oracle", "hospital_a"), "verdict"] == "helps"
    assert (rows.loc["misaligned", "verdict"] != "helps").all()
    alarms = json.loads((results(pairs) / "statistics" / "segmenter" / "verdict.json").read_text())["alarms"]
    assert not alarms["a_a"]["raised"]
    assert not alarms["negative_control"]["raised"]


def test_misaligned_pairs_disagree_with_the_real_segmenter(pairs: Workshop) -> None:
    dice = {
        pool: pd.read_parquet(results(pairs) / "label_consistency" / pool / "0" / "scores.parquet")["dice"].mean()
        for pool in ("oracle", "misaligned")
    }
    assert dice["oracle"] > dice["misaligned"]


def test_report_shows_floors_families_and_agreement(pairs: Workshop) -> None:
    text = (results(pairs) / "report.html").read_text(encoding="utf-8")
    for words in ("trivial floor", "Mask agreement", "misaligned", "gan"):
        assert words in text, words


UNET = "{name: unet, channels: [8, 16, 32, 64], num_res_units: 1}"
CHANGES: dict[str, Callable[[Workshop], None]] = {
    "another mask transform": lambda shop: shop.replace(STUDY, "rotation: 8", "rotation: 9"),
    "another segmenter": lambda shop: shop.replace(STUDY, UNET, "{name: segresnet}"),
    "another tolerance of NSD": lambda shop: shop.replace(STUDY, UNET, f"{UNET}\n    tolerance: 3"),
}


def test_the_table_and_the_changes_are_the_same() -> None:
    assert list(table(1)) == list(CHANGES)


@pytest.mark.parametrize("change", list(CHANGES))
def test_plan_after(change: str, pairs: Workshop, tmp_path: Path) -> None:
    shop = pairs.copy(tmp_path)
    CHANGES[change](shop)
    plan = shop.plan(study=STUDY)
    rules, counts = expected(table(1)[change])
    assert set(plan) == rules
    assert {rule: plan[rule] for rule in counts} == counts
