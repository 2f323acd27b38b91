"""Known answers: rates with exact intervals, the plan over study seeds, and one small study end to end."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from studies import tiny
from workshop import ROOT, Workshop, new_workshop

from synthgain.report.calibration_page import calibration_page
from synthgain.runtime.files import read_table
from synthgain.statistics import calibration_rates as known
from synthgain.study.session import Session
from synthgain.study.stages.table import STAGES
from synthgain.study.yaml_files import read_yaml

CONFIG = ROOT / "studies" / "calibration.yaml"


@pytest.mark.parametrize(
    ("count", "studies", "low", "high"),
    [(0, 10, 0.0, 0.3085), (1, 10, 0.0025, 0.4450), (8, 10, 0.4439, 0.9748), (10, 10, 0.6915, 1.0), (0, 0, 0.0, 1.0)],
)
def test_exact_interval(count: int, studies: int, low: float, high: float) -> None:
    """Published Clopper–Pearson limits."""
    assert known.clopper_pearson(count, studies) == pytest.approx((low, high), abs=5e-5)


@settings(deadline=None)  # SciPy is imported in the first example
@given(st.integers(1, 60).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_interval_holds_its_share_and_is_symmetric(pair: tuple[int, int]) -> None:
    count, studies = pair
    low, high = known.clopper_pearson(count, studies)
    assert 0 <= low <= count / studies <= high <= 1
    assert known.clopper_pearson(studies - count, studies) == pytest.approx((1 - high, 1 - low))


@pytest.mark.parametrize(
    ("expectation", "studies", "enough", "too_few_or_many"),
    [(known.MOSTLY, 10, 8, 7), (known.SELDOM, 10, 1, 2), (known.ALWAYS, 10, 10, 9), (known.SELDOM, 1, 0, 1)],
)
def test_expectations_are_counts(expectation: Any, studies: int, enough: int, too_few_or_many: int) -> None:
    assert expectation.holds(enough, studies)
    assert not expectation.holds(too_few_or_many, studies)
    assert str(enough) in expectation.text(studies)


def observed(arm: str, kind: str, words: list[str]) -> list[dict[str, Any]]:
    return [
        {"study": f"seed-{i}", "arm": arm, "kind": kind, "quantity": quantity, "seen": seen}
        for i, word in enumerate(words)
        for quantity, seen in known.seen_verdicts(word).items()
    ]


def test_rates_count_every_verdict_and_judge_by_the_kind() -> None:
    words = ["helps"] * 8 + ["inconclusive", "equivalent"]
    rows = observed("new_films", "oracle", words) + observed("static", "noise", words)
    table = known.rates(pd.DataFrame(rows)).set_index(["arm", "quantity"])
    assert dict(table.loc["new_films", "count"]) == {"helps": 8, "harms": 0, "equivalent": 1, "inconclusive": 1}
    assert table.loc[("new_films", "helps"), "as_expected"] is True
    assert table.loc[("static", "helps"), "as_expected"] is False
    assert table.loc[("static", "helps"), "expected"] == "at most 1 of 10"
    assert table.loc[("new_films", "harms"), "as_expected"] is None, "nothing is expected of it"


def predictions() -> pd.DataFrame:
    rows = [(100, r, "a", "test", f"i{i}", "opacity", 0.1 * i + r) for r in range(2) for i in range(5)]
    table = pd.DataFrame(rows, columns=["ratio", "replicate", "dataset", "part", "image_id", "label", "score"])
    return table.astype({"score": np.float32})


def nudged(table: pd.DataFrame) -> pd.DataFrame:
    scores = table["score"].to_numpy().copy()
    scores[3] = np.nextafter(scores[3], np.float32(2))
    return table.assign(score=scores)


@pytest.mark.parametrize(
    ("change", "same"),
    [
        (lambda t: t, True),
        (lambda t: t.sample(frac=1, random_state=0), True),
        (lambda t: pd.concat([t, t.assign(ratio=300, score=np.float32(0))]), True),
        (nudged, False),
        (lambda t: t.iloc[1:], False),
        (lambda t: t.assign(ratio=300), False),
    ],
    ids=["itself", "shuffled rows", "another ratio beside", "one unit in the last place", "one row less", "no row"],
)
def test_same_scores_means_bits(change: Callable[[pd.DataFrame], pd.DataFrame], same: bool) -> None:
    assert known.same_scores(predictions(), change(predictions()), 100) is same


def fidelity(recall: float, women: int) -> pd.DataFrame:
    rows = [
        ("lite", "held_out", "all", "recall", 60, recall),
        ("lite", "train", "all", "recall", 60, 1 - recall),
        ("lite", "held_out", "all", "fd", 60, 9.0),
        ("lite", "held_out", "sex=F", "all", women, np.nan),
    ]
    return pd.DataFrame(rows, columns=["space", "reference", "group", "metric", "n", "value"])


def test_a_missing_group_shows_in_the_fidelity_table() -> None:
    own, oracle = fidelity(0.4, 0), fidelity(0.7, 31)
    assert known.less_varied(own, oracle, "held_out") == {"recall below the oracle's: lite": True}
    assert known.less_varied(own, oracle, "train") == {"recall below the oracle's: lite": False}
    assert known.less_varied(oracle, oracle, "held_out") == {"recall below the oracle's: lite": False}
    assert known.group_is_missing(own, "sex=F")
    assert not known.group_is_missing(oracle, "sex=F")
    assert not known.group_is_missing(own, "sex=X"), "a group that is not measured is not missing"


def test_a_missing_group_gains_less() -> None:
    arms = ["oracle", "dropper", "oracle", "dropper"]
    table = pd.DataFrame(
        {"arm": arms, "group": ["F", "F", "M", "M"], "difference": [0.1, 0.02, 0.1, 0.12]}
    ).assign(column="sex", metric="auroc", dataset="a", ratio=300)  # fmt: skip
    own = {"arm": "dropper", "test_set": "a", "ratio": 300}
    (seen,) = known.less_gain(table, own, "oracle", "sex", "F").items()
    assert seen == ("gain in the dropped group below the oracle's: sex=F", True)
    assert list(known.less_gain(table, own, "oracle", "sex", "M").values()) == [False]
    assert known.less_gain(table.assign(difference=np.nan), own, "oracle", "sex", "F") == {}


def test_another_prevalence_moves_calibration() -> None:
    table = pd.DataFrame(
        {"arm": ["real", "skewed", "skewed"], "ratio": [0, 300, 300], "intercept": [0.1, -1.5, 0.0]}
    ).assign(correction=["none", "none", "prior"], dataset="a")  # fmt: skip
    own = {"arm": "skewed", "test_set": "a", "ratio": 300}
    assert known.calibration_moved(table, own, "real") == {known.MOVED: True}
    assert known.calibration_moved(table.assign(intercept=0.0), own, "real") == {known.MOVED: False}
    assert known.calibration_moved(table[table["arm"] == "real"], own, "real") == {}


def test_page_is_one_file_and_says_what_was_missed() -> None:
    rows = observed("new <films>", "oracle", ["inconclusive"] * 3)
    rates = known.rates(pd.DataFrame(rows)).to_dict("records")
    row = {"kind": "oracle", "ratio": 300, "verdict": None, "difference": None, "low": None, "high": None, "p": None}
    measured = {**row, "verdict": "helps", "difference": 0.1, "low": 0.05, "high": 0.15, "p": 0.001}
    studies = [
        {"run": "seed-0", "seed": 0, "alarms": {}, "arms": {"new <films>": row}},
        {"run": "seed-1", "seed": 1, "alarms": {}, "arms": {"new <films>": measured}},
    ]
    facts = {"title": "T", "alpha": 0.05, "margin": 0.02, "replicates": 5}
    page = calibration_page({**facts, "studies": studies, "rates": rates})
    assert "Not met: new &lt;films&gt;, helps, in 0 of\n3 (at least 3 of 3 expected)" in page
    assert "new <films>" not in page
    assert "<svg" in page
    assert "http" not in page.replace("http://www.w3.org", "").replace("http-equiv", "")


def session(monkeypatch: pytest.MonkeyPatch, config: dict[str, Any]) -> Session:
    monkeypatch.chdir(ROOT)
    return Session(config, ROOT, Path("results"))


def test_plan_over_study_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    config = read_yaml(CONFIG)
    planned = session(monkeypatch, config)
    pages = [path for path in planned.targets("report") if path.endswith(".html")]
    assert pages == [
        *(f"results/calibration/seed-{seed}/report.html" for seed in config["study_seeds"]),
        "results/calibration/calibration.html",
    ]
    job = json.loads(planned.parameter("summarise_calibration", study="calibration"))
    assert set(job["slice"]["arms"]) == {entry["arm"] for entry in config["analysis"]["primary"]}
    assert job["slice"]["arms"]["copier"]["repeated"] == "repeated"
    assert job["slice"]["arms"]["mode_dropper"]["drop"] == {"sex": "F"}
    paths = [
        path
        for name in STAGES["summarise_calibration"].inputs
        for path, _ in planned.inputs("summarise_calibration", name, study="calibration")
    ]
    assert len(paths) == 10 * (1 + 10 + 10 + 2)  # statistics, gate and fidelity of each pool, two prediction tables
    for path, identity in job["inputs"].items():
        run, relative = path.split("/", 1)
        assert planned.expected()[f"calibration/{run}"][relative] == identity


def test_summary_follows_its_studies(monkeypatch: pytest.MonkeyPatch) -> None:
    config = read_yaml(CONFIG)

    def identity(**changes: Any) -> str:
        return session(monkeypatch, {**config, **changes}).expected()["calibration"]["calibration.json"]

    first = identity()
    assert identity(description="other words") == first
    assert identity(study_seeds=[0, 1]) != first
    assert identity(analysis={**config["analysis"], "margin": 0.03}) != first


def test_one_study_has_no_summary(monkeypatch: pytest.MonkeyPatch) -> None:
    planned = session(monkeypatch, tiny())
    assert planned.targets("report") == ["results/tiny/protocol/receipt.json", "results/tiny/report.html"]
    assert set(planned.expected()) == {"tiny"}


def one_study() -> dict[str, Any]:
    """studies/calibration.yaml made small: one of its seeds, two replicates, fewer arms; its steps and ratio."""
    config = read_yaml(CONFIG)
    left_out = {"real_long", "wrong_prevalence"}
    config.update(study_seeds=[1], replicates={"count": 2})
    for part in ("pools", "arms"):
        config[part] = {name: entry for name, entry in config[part].items() if name not in left_out}
    primary = [entry for entry in config["analysis"]["primary"] if entry["arm"] not in left_out]
    config["analysis"].update(primary=primary, bootstrap=200)
    measured = ["oracle", "copier", "jittered_copier", "mode_dropper"]
    config["evaluation"].update(pools=measured, fidelity={"spaces": ["downstream"], "floor_splits": 2, "by": ["sex"]})
    return config


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    workshop = new_workshop(tmp_path_factory.mktemp("calibration"))
    (workshop.folder / "one.yaml").write_text(yaml.safe_dump(one_study(), sort_keys=False))
    text = workshop.snakemake("--cores", "2", "--quiet", "all", study="one.yaml")
    assert "results/calibration/calibration.html" in text
    return workshop


@pytest.mark.slow
@pytest.mark.workflow
def test_one_study_gives_the_known_answers(calibrated: Workshop) -> None:
    folder = calibrated.folder / "results" / "calibration"
    found = json.loads((folder / "calibration.json").read_text())
    (study,) = found["studies"]
    arms = {arm: {**row, **row["seen"]} for arm, row in study["arms"].items()}
    assert arms["copier"][known.SAME]
    assert arms["copier"]["difference"] == pytest.approx(_difference(folder / "seed-1", "repeated"), abs=1e-12)
    assert arms["copier"][known.GATE]
    assert arms["jittered_copier"][known.GATE]
    assert not arms["oracle"][known.GATE]
    assert arms["noise"]["verdict"] not in (None, "helps")
    assert arms["label_shuffled"]["verdict"] not in (None, "helps")
    assert arms["mode_dropper"][known.MISSING]
    page = (folder / "calibration.html").read_text()
    assert "</html>" in page[-2000:]  # then its seal
    rates = pd.read_csv(folder / "calibration.csv")
    assert list(rates.columns) == known.COLUMNS
    assert set(rates["studies"]) == {1}


@pytest.mark.slow
@pytest.mark.workflow
def test_second_call_of_the_calibration_does_nothing(calibrated: Workshop) -> None:
    assert calibrated.plan(study="one.yaml") == {}


@pytest.mark.slow
@pytest.mark.workflow
def test_dry_run_of_the_whole_calibration(calibrated: Workshop) -> None:
    """Ten studies: per study 10 pools of 3 replicas, 13 arms, each pool measured and searched for copies."""
    plan = calibrated.plan("--forceall", study="studies/calibration.yaml")
    each = {
        **dict.fromkeys(("write_protocol", "prepare_dataset", "split_dataset", "audit_datasets", "compare_arms"), 1),
        **dict.fromkeys(("relate_fidelity", "draw_figures", "write_report"), 1),
        **dict.fromkeys(("draw_pool_shard", "merge_pool_replica"), 30),
        **dict.fromkeys(("train_downstream", "predict_downstream", "collect_predictions"), 13),
        **dict.fromkeys(("measure_fidelity", "check_memorisation"), 10),
    }
    assert plan == {**{rule: 10 * count for rule, count in each.items()}, "summarise_calibration": 1}


def _difference(run: Path, arm: str) -> float:
    """Difference of an arm from the real one, from the stored AUROCs themselves."""
    table = read_table(run / "statistics" / "cnn" / "metrics.parquet")
    kept = table[(table["metric"] == "auroc") & (table["part"] == "test") & (table["label"] == "macro")]
    means = kept.groupby("arm")["value"].mean()
    return float(means[arm] - means["real"])
