"""A size ladder of one line: what it stands for, what is refused, and the plot of gain over real patients."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from studies import tiny

from synthgain.report.figures.plan import gain_by_size
from synthgain.report.figures.utility import gain_over_size
from synthgain.runtime.errors import SynthGainError
from synthgain.statistics.metric_registry import MainEndpoint
from synthgain.study.load import parse_study
from synthgain.study.roles import baseline_of, borrowed
from synthgain.study.session import Session
from synthgain.study.size_lines import size_lines


def laddered(**changes: Any) -> Any:
    return parse_study(
        tiny(ladder={"pool": "drawn", "fractions": [0.25, 0.5, 1.0], "ratios": [0, 100, 200]}, **changes)
    )


def test_one_line_stands_for_arms_pools_and_generators_of_each_size() -> None:
    study = laddered()
    assert {"real_25", "real_50", "with_25", "with_50", "with_100"} <= set(study.arms)
    assert "real_100" not in study.arms, "the study's own plain arm is there"
    for name, share in (("25", 0.25), ("50", 0.5)):
        assert study.generators[f"ddpm_{name}"].train_on.real_fraction == share
        assert study.pools[f"drawn_{name}"].from_ == f"ddpm_{name}"
        assert study.arms[f"with_{name}"].ratios == [100, 200]
        assert baseline_of(study, f"with_{name}") == f"real_{name}"
        assert not borrowed(study, f"with_{name}")
    assert baseline_of(study, "with_100") == "real"


def test_what_the_study_has_of_such_a_name_stays_and_a_rehearsal_has_the_same_arms() -> None:
    own = {"real": "hospital_a", "real_fraction": 0.25, "description": "ours"}
    study = laddered(arms__real_25=own)
    assert study.arms["real_25"].description == "ours"
    assert set(laddered(rehearsal=True).arms) == set(laddered().arms)


def test_an_arm_that_is_a_rung_already_is_not_trained_twice_and_small_pools_are_as_large_as_needed() -> None:
    ladder = {"pool": "drawn", "fractions": [0.25, 0.5, 1.0], "ratios": [0, 100]}
    own = {"real": "hospital_a", "synthetic": "drawn", "ratios": [100, 200]}
    study = parse_study(tiny(ladder=ladder, arms__own=own))
    assert "with_100" not in study.arms
    assert {"own", "with_25", "with_50"} <= set(size_lines(study))
    assert study.pools["drawn_25"].replicas == 1 < study.pools["drawn"].replicas
    other = laddered(arms__supplemented={"real": "hospital_a", "synthetic": "drawn", "ratios": [100]})
    assert "with_100" in other.arms, "its ratios are others"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"arms__real_25": {"real": "hospital_a", "label_fraction": 0.25}},
            r"ladder: arms\.real_25 is there and its real_fraction is not the ladder's; rename it",
        ),
        (
            {"arms__with_25": {"real": "hospital_a", "real_fraction": 0.25, "synthetic": "drawn", "ratios": [100]}},
            r"ladder: arms\.with_25 is there and its synthetic is not",
        ),
        ({"pools__drawn_25": {"from": "ddpm", "rows_of": "hospital_a"}}, r"ladder: pools\.drawn_25 .* its from is not"),
    ],
)
def test_something_else_by_a_name_of_the_ladder_is_no_size_of_it(change: dict[str, Any], said: str) -> None:
    with pytest.raises(SynthGainError, match=said):
        laddered(**change)


def test_a_ladder_is_planned_and_who_has_none_plans_as_before(tmp_path: Path) -> None:
    ladder = {"pool": "drawn", "fractions": [0.5, 1.0], "ratios": [100]}
    ((_, plan),) = Session(tiny(ladder=ladder), Path(__file__).parent.parent, tmp_path).planners.items()
    plan.job("write_report")
    outputs = {job.output for job in plan.jobs()}
    assert "generators/ddpm_50/0/manifest.json" in outputs
    assert any(output.startswith("downstream/cnn/with_50/100/") for output in outputs)
    assert "ladder" not in parse_study(tiny()).dump()


@pytest.mark.parametrize(
    ("ladder", "said"),
    [
        ({"pool": "drawm"}, r"ladder\.pool: there is no 'drawm'; did you mean 'drawn'"),
        ({"pool": "oracle"}, r"ladder\.pool: 'oracle' is drawn by no generator"),
        ({"pool": "drawn", "fractions": [0.5, 0.5]}, r"ladder.*fractions: .* are not all different"),
        ({"pool": "drawn", "ratios": [0]}, r"ladder.*ratios: give one above 0"),
        ({"pool": "drawn", "fraction": [0.5]}, r"ladder.*did you mean 'fractions'"),
        (
            {"pool": "drawn", "fractions": [0.5, 1.0], "ratios": [900]},
            r"arms\.with_100\.ratios: 900 % is over the pool",
        ),
    ],
)
def test_a_ladder_that_cannot_stand_is_one_line(ladder: dict[str, Any], said: str) -> None:
    with pytest.raises(SynthGainError, match=said) as error:
        parse_study(tiny(ladder=ladder, pools__oracle={"known": "oracle", "rows_of": "hospital_a"}))
    assert "\n" not in str(error.value)


def cells() -> tuple[pd.DataFrame, pd.DataFrame]:
    places = [
        ("with_25", 100, 0.25, 0.06),
        ("with_25", 300, 0.25, 0.08),
        ("with", 100, 1.0, 0.01),
        ("with", 300, 1.0, 0),
    ]
    rows = [
        {
            "arm": arm,
            "ratio": ratio,
            "real_fraction": share,
            "difference": gain,
            "low": gain - 0.02,
            "high": gain + 0.02,
        }
        for arm, ratio, share, gain in places
    ]
    table = pd.DataFrame(rows).assign(dataset="a", metric="auroc", label="macro", family="secondary", baseline="real")
    return table.drop(columns="real_fraction"), table[["arm", "ratio", "real_fraction", "dataset", "metric"]]


def test_gain_is_drawn_over_the_share_of_real_patients_a_line_per_ratio() -> None:
    comparisons, curve = cells()
    chosen = MainEndpoint("auroc", "macro", "a")
    lines = {"with_25": "with", "with": "with"}
    rows = gain_by_size(comparisons, curve, chosen, lines)
    assert dict(zip(zip(rows["arm"], rows["ratio"], strict=True), rows["real_fraction"], strict=True)) == {
        ("with_25", 100): 0.25, ("with_25", 300): 0.25, ("with", 100): 1.0, ("with", 300): 1.0,
    }  # fmt: skip
    (axes,) = gain_over_size(rows, "auroc", 0.02).axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["100 %", "300 %"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["25", "100"]
    first = next(line for line in axes.get_lines() if line.get_label() == "100 %")
    assert list(first.get_ydata()) == [0.06, 0.01]
    assert not len(gain_by_size(comparisons, curve[curve["real_fraction"] == 1], chosen, lines)), (
        "one size is no ladder"
    )
    assert not len(gain_by_size(comparisons, None, chosen, lines))
    assert not len(gain_by_size(comparisons, curve, chosen, {"with_25": "with"})), "an arm of another pool is no rung"


def test_arms_of_another_recipe_have_a_line_of_their_own() -> None:
    """A pretrained generator beside one from random weights: one line through both would be of neither."""
    start = tiny()["generators"]["ddpm"]
    changes: dict[str, Any] = {
        "generators__unlabelled": {**start, "train_on": {"datasets": ["hospital_a"], "label_fraction": 0}}
    }
    for share in (100, 25):
        seen = {"datasets": ["hospital_a"], "label_fraction": share / 100}
        changes |= {
            f"generators__scratch_{share}": {**start, "train_on": seen},
            f"generators__tuned_{share}": {**start, "train_on": seen, "init_from": "unlabelled"},
        }
        for kind in ("scratch", "tuned"):
            changes[f"pools__{kind}_{share}"] = {"from": f"{kind}_{share}", "rows_of": "hospital_a", "replicas": 2}
            changes[f"arms__{kind}_with_{share}"] = {
                "real": "hospital_a", "synthetic": f"{kind}_{share}", "label_fraction": share / 100, "ratios": [200]
            }  # fmt: skip
    lines = size_lines(parse_study(tiny(arms__real_25={"real": "hospital_a", "label_fraction": 0.25}, **changes)))
    assert lines == {
        "scratch_with_100": "scratch_with_100", "scratch_with_25": "scratch_with_100",
        "tuned_with_100": "tuned_with_100", "tuned_with_25": "tuned_with_100",
    }  # fmt: skip
    comparisons, curve = cells()
    both = pd.concat([comparisons, comparisons.assign(arm="tuned_" + comparisons["arm"])])
    sizes = pd.concat([curve, curve.assign(arm="tuned_" + curve["arm"])])
    own = {"with_25": "with", "with": "with", "tuned_with_25": "tuned_with", "tuned_with": "tuned_with"}
    (axes,) = gain_over_size(gain_by_size(both, sizes, MainEndpoint("auroc", "macro", "a"), own), "auroc", None).axes
    shown = {text.get_text() for text in axes.get_legend().get_texts()}
    assert shown == {f"{name} {ratio}\u00a0%" for name in ("with", "tuned_with") for ratio in (100, 300)}
