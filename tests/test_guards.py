"""Guards: by p and never by the margin, over all of a study's guards; a control that says nothing says so."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest
from test_statistics_script import quick_slice

from synthgain.statistics import delong, simulation
from synthgain.statistics import obuchowski_rockette as orh
from synthgain.statistics.analysis import Analysis, read_analysis
from synthgain.statistics.comparisons import COLUMNS, finish
from synthgain.statistics.guards import guard
from synthgain.statistics.obuchowski_rockette import Contrast
from synthgain.statistics.sentences import verdict_sentence

GUARDS = {"repeated": (100, 300, 1000), "real_long": (0,), "noise": (100,), "shuffled": (100,)}

NEEDED = [
    *("arm", "ratio", "baseline", "role", "dataset", "label", "metric", "family", "difference", "low", "high"),
    *("p", "p_two_sided", "p_adjusted", "reason"),
]


def analysis(match: str = "steps", **slice_keys) -> Analysis:
    fields = quick_slice() | slice_keys
    noise = fields["arms"]["supplemented"] | {"role": "negative_control", "ratios": [100]}
    fields["arms"] |= {"noise": noise, "shuffled": dict(noise)}
    for spec in fields["arms"].values():
        spec["match"] = match
    return read_analysis(fields)


def contrast(difference: float, p: float, df: float = 40.0) -> Contrast:
    """A contrast with this two-sided p; NaN for one that cannot be estimated."""
    se = np.nan if np.isnan(p) else abs(difference) / orh.t_quantile(1 - p / 2, df)
    return Contrast(difference, se, df, 5, 1e-4, 1e-4)


def row(
    arm: str, ratio: int, of: Contrast, family: str, analysed: Analysis, baseline: str = "real", at: int = 0
) -> dict:
    low, high = of.interval()
    place = {"dataset": "hospital_a", "label": "macro", "metric": "auroc", "family": family}
    return {
        **dict.fromkeys(COLUMNS, np.nan), **place, "arm": arm, "ratio": ratio, "baseline": baseline,
        "baseline_ratio": at, "role": analysed.role(arm), "replicates": 5, "mean": 0.9, "baseline_mean": 0.9,
        "difference": of.difference, "low": low, "high": high, "p": of.p_value(), "p_two_sided": of.p_value(),
        "contrast": of, "reason": "" if np.isfinite(of.se) else "two replicates are needed",
        "too_few": "", "claim": "", "units": 5,
    }  # fmt: skip


def guarded(
    analysed: Analysis,
    main: Contrast,
    controls: dict[tuple[str, int], Contrast],
    heads: dict[str, Contrast] | None = None,
) -> tuple[pd.DataFrame, dict[str, dict]]:
    """The declared comparison, controls against the baseline, and supplemented against other arms (`heads`)."""
    rows = [row("supplemented", 300, main, "primary", analysed)]
    rows += [row(arm, ratio, of, "control", analysed) for (arm, ratio), of in controls.items()]
    for other, of in (heads or {}).items():
        at = 300 if other == "repeated" else 0
        rows.append(row("supplemented", 300, of, "control", analysed, other, at))
    return guard(finish(rows, analysed), analysed)


def states(alarm: dict) -> list[str]:
    return [tested["state"] for tested in alarm["tested"]]


@pytest.mark.parametrize(("name", "control"), [("a_a", ("repeated", 300)), ("under_trained", ("real_long", 0))])
def test_a_significant_control_inside_the_margin_is_seen(name: str, control: tuple[str, int]) -> None:
    table, alarms = guarded(analysis(), contrast(0.0242, 1e-6), {control: contrast(0.008, 1e-4)})
    assert table.query("arm == @control[0]")["verdict"].item() == "equivalent"  # what it is called moves no guard
    assert alarms[name]["raised"]
    assert alarms[name]["state"] == "alarm"
    shown = alarms[name]["tested"][0]
    assert shown["difference"] == pytest.approx(0.008)
    assert shown["low"] < shown["difference"] < shown["high"]
    assert table.query("family == 'primary'")["verdict"].item() == "inconclusive"


def test_guards_share_one_level() -> None:
    controls = {("repeated", ratio): contrast(0.004, 0.02) for ratio in GUARDS["repeated"]}
    assert not guarded(analysis(), contrast(0.02, 0.001), controls)[1]["a_a"]["raised"]  # .02 three times is .06
    one = {("repeated", 300): contrast(0.004, 0.02)}
    assert guarded(analysis(), contrast(0.02, 0.001), one)[1]["a_a"]["raised"]
    assert not guarded(analysis(guarded_models=3), contrast(0.02, 0.001), one)[1]["a_a"]["raised"]
    others = one | {("real_long", 0): contrast(0.001, 0.9), ("noise", 100): contrast(-0.1, 0.001)}
    alarms = guarded(analysis(), contrast(0.02, 0.001), others)[1]
    assert not alarms["a_a"]["raised"]
    assert alarms["a_a"]["tested"][0]["p_guard"] == pytest.approx(0.06)


def test_what_cannot_be_estimated_has_not_passed() -> None:
    controls = {("repeated", 300): contrast(0.0, np.nan), ("real_long", 0): contrast(0.001, 0.8)}
    _, alarms = guarded(analysis(), contrast(0.02, 0.001), controls)
    assert (alarms["a_a"]["state"], alarms["a_a"]["checked"]) == ("not estimable", False)
    assert alarms["a_a"]["tested"][0]["reason"] == "two replicates are needed"
    assert (alarms["under_trained"]["state"], alarms["under_trained"]["checked"]) == ("passed", True)
    assert (alarms["negative_control"]["state"], alarms["negative_control"]["checked"]) == ("not estimable", False)


def test_a_competitor_worse_than_the_baseline_is_not_informative() -> None:
    controls = {("real_strong", 0): contrast(-0.21, 1e-6), ("real_long", 0): contrast(-0.05, 1e-4)}
    table, alarms = guarded(
        analysis(), contrast(0.02, 0.001), controls | {("noise", 100): contrast(-0.3, 1e-6)},
        {"real_strong": contrast(0.23, 1e-6)},
    )  # fmt: skip
    assert alarms["strong_augmentation"]["state"] == "not informative"
    assert not alarms["strong_augmentation"]["checked"]
    assert alarms["under_trained"]["state"] == "not informative"
    assert alarms["negative_control"]["state"] == "passed"  # it is no competitor: images without information may harm
    first = table.iloc[0].to_dict()
    sentence = verdict_sentence(first, analysis(), alarms | {"memorisation": {"rows": []}})
    assert "no competitor" in sentence
    assert first["verdict"] == "helps"


def test_strong_augmentation_is_passed_only_where_it_is_beaten() -> None:
    equal = {("real_strong", 0): contrast(0.005, 0.4)}
    for p, state in ((0.001, "passed"), (0.4, "open"), (np.nan, "not estimable")):
        _, alarms = guarded(analysis(), contrast(0.02, 0.001), equal, {"real_strong": contrast(0.015, p)})
        assert alarms["strong_augmentation"]["state"] == state
    _, alarms = guarded(analysis(), contrast(-0.02, 0.001), equal, {"real_strong": contrast(-0.025, 0.01)})
    assert alarms["strong_augmentation"]["state"] == "no gain"
    as_much = {("real_strong", 0): contrast(0.03, 0.001)}
    _, alarms = guarded(analysis(), contrast(0.02, 0.001), as_much, {"real_strong": contrast(-0.01, 0.3)})
    assert alarms["strong_augmentation"]["state"] == "alarm"


@pytest.mark.parametrize(
    ("match", "repeat_p", "head_p", "state", "word"),
    [
        ("steps", 0.5, 0.001, "passed", "helps"),
        ("steps", 0.5, 0.3, "open", "helps"),  # repeated is the baseline again there: said, not demanded
        ("steps", 1e-4, 0.3, "alarm", "inconclusive"),  # repetition alone gained: then it must be beaten
        ("steps", 1e-4, 0.001, "passed", "helps"),
        ("steps", 0.5, np.nan, "not estimable", "helps"),
        ("epochs", 0.5, 0.3, "alarm", "inconclusive"),
        ("epochs", 0.5, 0.001, "passed", "helps"),
        ("epochs", 0.5, np.nan, "alarm", "inconclusive"),
    ],
)
def test_the_head_to_head_against_repeated_is_part_of_the_verdict(
    match: str, repeat_p: float, head_p: float, state: str, word: str
) -> None:
    controls = {("repeated", 300): contrast(0.005, repeat_p)}
    analysed = analysis(match)
    table, alarms = guarded(analysed, contrast(0.02, 0.001), controls, {"repeated": contrast(0.015, head_p)})
    alarm = alarms["step_matched_control"]
    assert (alarm["state"], alarm["raised"]) == (state, state == "alarm")
    assert alarm["tested"][0]["baseline"] == "repeated"
    assert table.iloc[0]["verdict"] == word
    sentence = verdict_sentence(table.iloc[0].to_dict(), analysed, alarms | {"memorisation": {"rows": []}})
    assert ("Against repeated at 300 %: +0.0150" in sentence) is bool(np.isfinite(head_p))


def test_without_a_gain_there_is_nothing_to_beat_repeated_with() -> None:
    heads = {"repeated": contrast(0.001, 0.8)}
    _, alarms = guarded(analysis("epochs"), contrast(0.002, 0.6), {}, heads)
    assert alarms["step_matched_control"]["state"] == "no gain"
    assert not alarms["step_matched_control"]["checked"]
    _, alarms = guarded(analysis("epochs"), contrast(0.02, 0.001), {})
    assert alarms["step_matched_control"]["state"] == "alarm"  # no arm repeats the real images: nothing excludes steps
    _, alarms = guarded(analysis(), contrast(0.02, 0.001), {})
    assert alarms["step_matched_control"]["state"] == "not estimable"  # the arm is there, the comparison is not


def study_contrasts(setting: simulation.Setting, random: np.random.Generator, shift: float) -> list[Contrast]:
    """Contrasts of every guard with one baseline on one simulated test set; `shift` is added to repeated's signal."""
    cells = [(arm, ratio) for arm, ratios in GUARDS.items() for ratio in ratios]
    drawn = simulation.simulate(setting, random, arms=1 + len(cells))
    drawn.scores[1:4] += shift * drawn.truth
    seeds = setting.replicates
    parts = delong.components(drawn.truth, drawn.scores.reshape(-1, len(drawn.truth)), drawn.patient, setting.patients)
    matrix = delong.covariance([parts])

    def of(number: int) -> Contrast:
        both = np.r_[number * seeds : (number + 1) * seeds, :seeds]
        return orh.compare(parts.auroc[both[:seeds]], parts.auroc[:seeds], matrix[np.ix_(both, both)])

    return [of(number) for number in range(1, 1 + len(cells))]


def alarm_rates(setting: simulation.Setting, runs: int, shift: float = 0.0) -> tuple[int, int, int]:
    """(studies with any alarm, with an A/A alarm, with a significant A/A arm that is called equivalent)."""
    analysed, random = analysis(), np.random.default_rng(20261125)
    cells = [(arm, ratio) for arm, ratios in GUARDS.items() for ratio in ratios]
    any_alarm = seen = hidden = 0
    for _ in range(runs):
        found = study_contrasts(setting, random, shift)
        rows = [row(arm, ratio, of, "control", analysed) for (arm, ratio), of in zip(cells, found, strict=True)]
        table = pd.DataFrame(rows)[NEEDED].assign(
            verdict=["equivalent" if max(map(abs, of.interval(0.9))) < 0.02 else "" for of in found]
        )
        _, alarms = guard(table, analysed)
        any_alarm += any(alarms[name]["raised"] for name in ("a_a", "under_trained", "negative_control"))
        seen += alarms["a_a"]["raised"]
        hidden += any(test["verdict"] == "equivalent" for test in alarms["a_a"]["rows"])
    return any_alarm, seen, hidden


def test_under_the_null_at_most_six_percent_of_studies_alarm() -> None:
    """The limit of DESIGN's Definitions, with the binomial tolerance of the runs."""
    setting = simulation.Setting("null", patients=150, images=1, replicates=5)
    alarmed, _, _ = alarm_rates(setting, 250)
    assert binomtest(alarmed, 250, 0.06, alternative="greater").pvalue > 0.001
    assert alarmed > 0  # a guard that never speaks guards nothing


def test_a_true_shift_inside_the_margin_is_seen() -> None:
    setting = simulation.Setting("shift", patients=1500, images=1, replicates=10, seed_sd=0.03)
    setting = replace(setting, arm_patient_sd=0.1, residual_sd=0.3)
    _, seen, hidden = alarm_rates(setting, 12, shift=0.06)
    assert seen >= 10
    assert hidden >= 3  # the margin would have silenced these


def test_an_arm_that_is_there_but_could_not_be_compared_is_not_called_missing() -> None:
    """Too few positive patients: no comparison of the declared endpoint has a row."""
    analysed = analysis()
    _, alarms = guard(finish([], analysed).reindex(columns=COLUMNS), analysed)
    found = {name: alarms[name]["state"] for name in ("a_a", "negative_control", "step_matched_control")}
    assert found == dict.fromkeys(found, "not estimable")
    without = replace(analysed, arms={name: spec for name, spec in analysed.arms.items() if name != "repeated"})
    assert guard(finish([], without).reindex(columns=COLUMNS), without)[1]["a_a"]["state"] == "not checked"
