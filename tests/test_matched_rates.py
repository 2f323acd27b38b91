"""Rates of copies beside held-out images of the same kind: no alarm where only the composition differs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import fisher_exact

from synthgain.evaluation.matched_rates import SMALLEST, Flagged, matched_excess, merged_kinds
from synthgain.evaluation.memorisation import LEVEL


def flagged(flags: np.ndarray, kinds: np.ndarray | str = "", per_patient: int = 1, name: str = "r") -> Flagged:
    patients = np.char.add(name, (np.arange(len(flags)) // per_patient).astype(str))
    return Flagged(np.asarray(flags, dtype=bool), patients, np.broadcast_to(np.asarray(kinds), len(flags)))


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_interval_agrees_with_newcombe() -> None:
    """Newcombe 1998, Table II: 56/70 against 48/80, method 10: 0.2 (0.0524 to 0.3339)."""
    found = matched_excess(flagged(np.arange(70) < 56), flagged(np.arange(80) < 48), rng())
    assert (found.excess, found.low, found.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=1e-4)


@pytest.mark.parametrize(("ours", "theirs"), [((3, 120), (2, 622)), ((8, 120), (5, 620)), ((56, 70), (48, 80))])
def test_p_agrees_with_fishers_exact_test(ours: tuple[int, int], theirs: tuple[int, int]) -> None:
    found = matched_excess(flagged(np.arange(ours[1]) < ours[0]), flagged(np.arange(theirs[1]) < theirs[0]), rng())
    table = [[ours[0], ours[1] - ours[0]], [theirs[0], theirs[1] - theirs[0]]]
    assert found.p == pytest.approx(fisher_exact(table, "greater")[1], abs=0.01)


def test_composition_is_no_copying() -> None:
    """Men pass the threshold in 10 %, women never; a pool of men alone has the men's rate."""
    kinds = np.repeat(["F", "M"], 500)
    null = flagged((kinds == "M") & (np.arange(1000) % 10 == 0), kinds)
    pool = flagged(np.arange(200) % 10 == 0, "M", name="s")
    found = matched_excess(pool, null, rng())
    assert found.null_rate == pytest.approx(0.1)
    assert found.excess == pytest.approx(0.0)
    assert found.p > LEVEL
    unmatched = matched_excess(flagged(pool.flags), flagged(null.flags), rng())
    assert unmatched.p < LEVEL, "so it is the kinds that keep the gate still"


def test_copies_within_kinds_are_found() -> None:
    kinds = np.resize(["F", "M"], 400)
    null = flagged(np.arange(400) % 50 == 0, kinds)
    found = matched_excess(flagged(np.arange(400) % 10 == 0, kinds, name="s"), null, rng())
    assert found.p < 0.001
    assert 0.04 < found.excess < 0.1


def test_images_of_one_patient_are_no_independent_evidence() -> None:
    null = flagged(np.zeros(200, dtype=bool))
    one_by_one = matched_excess(flagged(np.arange(100) < 10, name="s"), null, rng())
    together = matched_excess(flagged(np.arange(100) < 10, per_patient=10, name="s"), null, rng())
    assert one_by_one.p < 0.001
    assert together.p > 0.03
    assert together.high - together.low > one_by_one.high - one_by_one.low


def test_the_null_keeps_its_level() -> None:
    """Pools of the same law, kinds and patients alike: p below LEVEL in about LEVEL of the runs, not more."""
    draw, alarms, runs = np.random.default_rng(1), 0, 200
    for _ in range(runs):
        sides = []
        for name, size in (("s", 120), ("r", 300)):
            kinds = draw.choice(["F", "M"], size)
            patient_rate = np.repeat(draw.beta(0.2, 2.0, size // 3), 3)
            flags = draw.random(size) < np.where(kinds == "M", patient_rate, 0)
            sides.append(flagged(flags, kinds, per_patient=3, name=name))
        alarms += matched_excess(sides[0], sides[1], draw).p < LEVEL
    assert alarms <= 12, "binomial(200, 0.025): above 12 in one of 1,600 cases"


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.text("abc", max_size=2), st.tuples(st.integers(0, 3), st.integers(0, 50)), min_size=1))
def test_merged_kinds_have_enough_held_out_images(counts: dict[str, tuple[int, int]]) -> None:
    ours = np.array([kind for kind, (n, _) in counts.items() for _ in range(n)], dtype=str)
    theirs = np.array([kind for kind, (_, n) in counts.items() for _ in range(n)], dtype=str)
    names = merged_kinds(ours, theirs)
    assert set(names) == set(ours.tolist()) | set(theirs.tolist())
    assert sorted(set(names.values())) == list(range(len(set(names.values()))))
    held_out = np.bincount([names[kind] for kind in theirs.tolist()], minlength=1)
    assert (held_out >= min(SMALLEST, len(theirs))).all() or not len(theirs)
