"""Simulated readers: their answers come sealed, and the analysis finds what was planted."""

import copy
from pathlib import Path

import numpy as np
import pytest
from scipy.special import ndtr
from test_reader_kit import POOLS, REAL, shown
from test_readers_study import PANEL, STUDY, Run

from read_ratings import read_ratings
from synthgain.readers import analysis
from synthgain.readers.analysis import agreement_table, telling_table
from synthgain.readers.kit import read_kit, write_kit
from synthgain.readers.options import Impression, Panel
from synthgain.readers.ratings import missing_answers, ratings
from synthgain.readers.simulated import cuts, held_against, known_answers, simulated_answers
from synthgain.runtime.errors import SynthGainError
from synthgain.statistics.agreement import fleiss_kappa
from synthgain.statistics.reading import leaning, telling
from synthgain.study.load import parse_study

PLANTED = {
    "realism": {"sensitivity": 1.2, "bias": 0.4, "agreement": 0.4},
    "quality": {"sensitivity": 0.5, "agreement": 0.6, "repeatability": 0.9},
}


def panel(**changes: object) -> Panel:
    entry = {
        "items": {"real": {"hospital_a": 100}, "pools": {"sampled": 100}},
        "questions": ["quality", "realism"],
        "readers": 3,
        "simulated": PLANTED,
    }
    return Panel.model_validate(entry | changes)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kits") / "kit"
    real, pools = shown(250, "film", smooth=False), shown(250, "made", smooth=True, parents=125)
    write_kit(folder, "panel", panel(), {"hospital_a": real}, {"sampled": pools}, seed=1)
    return folder


def test_a_simulated_panel_is_sealed_like_a_real_one_and_what_was_planted_is_found(large: Path, monkeypatch) -> None:
    monkeypatch.setattr(analysis, "MEASURES", {"fleiss_kappa": fleiss_kappa})  # resampling all takes longest
    facts, secret, key = read_kit(large)
    files = simulated_answers("panel", panel(), facts, secret, key, seed=0)
    table = ratings(panel(), facts, secret, key, files)
    missing = missing_answers(panel(), secret, table)
    assert (missing["answered"] == missing["asked"]).all()
    agreement = agreement_table(panel(), table, np.random.default_rng(0))
    found = held_against(panel(), key, agreement, telling_table(panel(), table, key))
    assert set(zip(found["question"], found["measure"], strict=True)) == {
        ("quality", "fleiss_kappa"),
        ("realism", "fleiss_kappa"),
        ("realism", "auroc"),
        ("realism", "bias"),
    }
    # Readers share images: what they share moves the mean bias of all, which a t-interval over readers does not see.
    slack = found["measure"].eq("bias") * 0.15 + 0.02
    assert (found["planted"] >= found["low"] - slack).all(), found
    assert (found["planted"] <= found["high"] + slack).all(), found
    assert found.set_index(["question", "measure"]).loc[("realism", "auroc"), "planted"] > 0.75


def test_the_same_study_has_the_same_simulated_answers_in_every_kit(tmp_path: Path) -> None:
    small = panel(items={"real": {"hospital_a": 12}, "pools": {"sampled": 8}})
    found = []
    for name in ("one", "two"):
        pools = {"sampled": POOLS["sampled"]}
        write_kit(tmp_path / name, "panel", small, REAL, pools, seed=1)
        facts, secret, key = read_kit(tmp_path / name)
        sent = simulated_answers("panel", small, facts, secret, key, seed=3)
        found.append([answer.value for answer in sent["panel-reader_2.json"].answers])
    assert found[0] == found[1]


@pytest.mark.parametrize("sensitivity", [0.0, 1.0, 2.5])
def test_known_answers_are_those_of_signal_detection(sensitivity: float) -> None:
    fine = known_answers(Impression(sensitivity=sensitivity), 1, 6)
    assert fine.auroc <= ndtr(sensitivity / 2**0.5) + 1e-12  # steps lose a little
    assert fine.auroc == pytest.approx(ndtr(sensitivity / 2**0.5), abs=0.02)
    assert fine.hits == pytest.approx(ndtr(sensitivity / 2))
    biased = known_answers(Impression(sensitivity=sensitivity, bias=0.5), 1, 6)
    assert biased.false_alarms == pytest.approx(ndtr(0.5 - sensitivity / 2))


@pytest.mark.parametrize("agreement", [0.0, 0.3, 0.8])
def test_the_known_kappa_is_that_of_drawn_impressions(agreement: float) -> None:
    impression = Impression(sensitivity=1, agreement=agreement, repeatability=max(agreement, 0.7))
    rng = np.random.default_rng(0)
    count = 200_000
    truth, shared = np.arange(count) % 2, rng.normal(size=count)
    seen = truth + agreement**0.5 * shared + (1 - agreement) ** 0.5 * rng.normal(size=(2, count))
    answers = np.searchsorted(cuts(impression, 1, 5), seen)
    shares = np.bincount(answers.ravel(), minlength=5) / answers.size
    kappa = ((answers[0] == answers[1]).mean() - shares @ shares) / (1 - shares @ shares)
    assert known_answers(impression, 1, 5).kappa == pytest.approx(kappa, abs=0.006)


def test_a_planted_bias_is_recovered_and_the_middle_of_a_scale_counts_half() -> None:
    rng = np.random.default_rng(2)
    truth = np.arange(4000) % 2
    impression = Impression(sensitivity=1, bias=-0.6)
    answers = np.searchsorted(cuts(impression, 1, 6), truth + rng.normal(size=(3, 4000))) + 1.0
    mean, low, high = leaning(truth, answers, 3.5).mean_bias()
    assert mean == pytest.approx(-0.6, abs=0.06)
    assert low < mean < high
    half = leaning(np.array([1, 1, 0, 0]), np.array([[3.0, 3, 3, 3]]), 3.0)
    assert (half.hits[0], half.false_alarms[0], half.bias[0]) == (0.5, 0.5, 0.0)


def test_equivalence_of_one_reader_keeps_its_level_at_the_bound() -> None:
    rng, runs = np.random.default_rng(4), 300
    truth = np.repeat([0, 1], 150)
    at_bound = 2**0.5 * 0.2533471 * 1.06  # AUROC 0.6; six steps lose some of it
    false = 0
    for _ in range(runs):
        seen = np.searchsorted(cuts(Impression(sensitivity=at_bound), 1, 6), at_bound * truth + rng.normal(size=300))
        found = telling(truth, seen[None].astype(float), np.arange(300))
        assert found.low < found.auroc < found.high
        false += found.equivalence_p < 0.05
    assert 0 < false / runs <= 0.05 + 3 * (0.05 * 0.95 / runs) ** 0.5


def test_a_study_reads_its_simulated_panel_and_the_report_says_so(tmp_path: Path, monkeypatch) -> None:
    simulated = {name: value for name, value in PANEL.items() if name != "ratings"} | {
        "simulated": {"realism": {"sensitivity": 1.5, "bias": 0.3}, "finding": {"sensitivity": 3}}
    }
    monkeypatch.setitem(STUDY, "readers", {"panel": simulated})
    run = Run(tmp_path)
    run.kit()
    read_ratings(run.job("read_ratings"))
    assert "these answers are simulated. No reader saw an image" in run.section()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"simulated": {"finding": {"sensitivity": 1}}}, "simulated.finding: the question is not asked"),
        ({"ratings": "sent"}, "simulated: not beside `ratings`"),
        ({"simulated": {"realism": {"repeatability": 0.1}}}, "repeatability: 0.1 is below agreement"),
        ({"simulated": {"realism": {"sensitivty": 1}}}, "did you mean 'sensitivity'"),
    ],
    ids=range(4),
)
def test_simulated_readers_that_cannot_be_are_refused_while_planning(change: dict, said: str) -> None:
    study = copy.deepcopy(STUDY)
    entry = {name: value for name, value in PANEL.items() if name not in ("ratings", "questions", "findings")}
    study["readers"] = {"panel": entry | {"questions": ["quality", "realism"], "simulated": PLANTED} | change}
    with pytest.raises(SynthGainError, match=said):
        parse_study(study)
