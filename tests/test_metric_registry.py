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


@pytest.mark.parametrize("margin", [None, 5.0])
def test_a_margin_is_asked_for_where_no_default_is_defensible(margin: float | None) -> None:
    config = tiny(analysis__primary__metric="brier", analysis__margin=margin)
    if margin is None:
        with pytest.raises(SynthGainError, match=r"analysis\.margin: ±0\.02 of Brier score is no defensible default"):
            parse_study(config)
    else:
        assert parse_study(config).analysis.margin == margin
