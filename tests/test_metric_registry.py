"""The metric registry: every entry can be computed, and a new metric is one entry and one function."""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from studies import tiny
from test_failed_tables import SMALL, fields
from test_statistics_script import predictions

from synthgain.runtime.errors import SynthGainError
from synthgain.statistics.analysis import read_analysis
from synthgain.statistics.metric_parts import Parts
from synthgain.statistics.metric_registry import MAIN, METRICS, Metric, metric_label, metric_words
from synthgain.statistics.predictions import Panel
from synthgain.statistics.resampling import patient_sums
from synthgain.statistics.stage import Inputs, analyse
from synthgain.study.load import parse_study


def test_every_metric_has_its_function_and_names_of_its_own() -> None:
    for metric in METRICS.values():
        assert callable(getattr(import_module(metric.computed_by), metric.function or metric.name))
    assert len({metric.label for metric in METRICS.values()}) == len(METRICS)
    assert {METRICS[name].task for name in MAIN.values()} == set(MAIN)
    assert metric_label("f1@fixed_0.5") == "f1@fixed 0.5"
    assert metric_words("nsd") == "normalised surface Dice"


def test_a_new_metric_is_one_entry_and_one_new_module(monkeypatch: pytest.MonkeyPatch) -> None:
    def alarm_rate(panel: Panel, label: int, decided: np.ndarray) -> Parts:
        alarms = patient_sums(decided & (panel.truth[label] == 0), panel.patient, panel.patients)
        return [(alarms, np.ones_like(alarms))]

    module: Any = ModuleType("toy_metric")
    module.alarm_rate = alarm_rate
    monkeypatch.setitem(sys.modules, "toy_metric", module)
    entry = Metric(
        "alarm_rate", "Alarms", "classification", "decisions", higher_is_better=False, computed_by="toy_metric"
    )
    monkeypatch.setitem(METRICS, "alarm_rate", entry)
    slice_ = fields(metrics=["auroc", "alarm_rate"], subgroups=[])
    tables = predictions({("supplemented", 300): 0.5}, SMALL)
    found = analyse(Inputs(tables, slice_["test_sets"], slice_["targets"]), read_analysis(slice_), 0)
    assert {"auroc", "alarm_rate"} <= set(found["comparisons.csv"]["metric"])
    assert metric_label("alarm_rate") == "Alarms"


@pytest.mark.parametrize("metric", ["brier", "average_precision", "sensitivity"])
def test_a_margin_and_its_reason_are_asked_for_where_no_default_is_defensible(metric: str) -> None:
    config = tiny(analysis__primary__metric=metric)
    with pytest.raises(SynthGainError, match=r"analysis\.margin: ±0\.02 of .* is no defensible default"):
        parse_study(config)
    config["analysis"]["margin"] = 0.01
    with pytest.raises(SynthGainError, match=r"analysis\.margin_reason: say why ±0\.01"):
        parse_study(config)
    config["analysis"]["margin_reason"] = "a reader would not see it"
    assert parse_study(config).analysis.margin == 0.01


def test_one_margin_serves_one_metric() -> None:
    config = tiny(analysis__margin=0.01, analysis__margin_reason="small")
    first = config["analysis"]["primary"]
    config["analysis"]["primary"] = [first, {**first, "metric": "brier"}]
    config["study_seeds"] = [1]
    config["generators"] = {}
    config["pools"] = {"drawn": {"known": "oracle", "rows_of": next(iter(config["datasets"]))}}
    with pytest.raises(SynthGainError, match=r"analysis\.margin: one margin serves one metric, but auroc and brier"):
        parse_study(config)
