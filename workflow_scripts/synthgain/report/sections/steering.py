"""Steered generators: how their samples scored round by round, and what steering did that it should not."""

import math
from collections.abc import Mapping

import pandas as pd

from synthgain.generators.steering_options import PROXY_NETWORKS, Reward, SteeredRound, Steering
from synthgain.report.blocks import Block, Column, Text, make_table
from synthgain.report.facts import GeneratorFacts
from synthgain.report.tables import NORMAL_95
from synthgain.study.schema import Study

COSTS = (
    "{}: with shuffled scores the samples' score fell by {:.3f}. This is what training on own samples costs, whatever "
    "their scores; hold the steered generator against this one. A higher anchor, more samples, or a generator that was "
    "trained longer before make it smaller."
)
GIVES = (
    "{}: the samples' score rose by {:.3f} though the scores were shuffled: so much of what the steered generator "
    "gained is not owed to the scores."
)
NOTE = (
    "The rise is that of the mean score from the first samples to the last. Both generators train on their own samples "
    "with the same weights; in the second these lie on samples at random. The intervals know which samples were drawn "
    "and how unequal their weights are, and nothing of how another training would have ended."
)


def steering_blocks(study: Study, generators: dict[str, GeneratorFacts]) -> list[Block]:
    """Return a table of the rounds of each steered generator, and its alarms; nothing where none is steered."""
    steered = {name: facts.steering for name, facts in generators.items() if facts.steering is not None}
    if not steered:
        return []
    rows = [{"generator": name, **row.model_dump()} for name, facts in steered.items() for row in facts.rounds]
    columns = [
        Column("generator", "Generator / training"),
        Column("step", "Step", "count"),
        Column("score", "Score of its samples", "number", 3),
        Column("real_score", "Score of real images", "number", 3),
        Column("spread", "Spread within class", "number", 3),
        Column("real_spread", "Spread of real images", "number", 3),
        Column("recall", "Recall", "number", 2),
        Column("copies", "Near copies", "percent", 1),
    ]
    blocks: list[Block] = [make_table("Steering, round by round", pd.DataFrame(rows), columns, "steering.csv")]
    for name, facts in steered.items():
        blocks += [Text(f"{name}: {alarm}.", "warning") for alarm in facts.alarms]
        if facts.stopped_at is not None:
            blocks.append(Text(f"{name} was steered to step {facts.stopped_at}: its samples score as real images do."))
    blocks += _what_the_scores_did(study, steered)
    used = {PROXY_NETWORKS[r.scores] for r in rewards(study) if r.scores in PROXY_NETWORKS}
    for name, model in study.models.items():
        if model.chosen.name in used:
            blocks.append(
                Text(
                    f"The proxies that steered and the model {name} that judges, and that may have filtered, are of "
                    f"one network ({model.chosen.name}); what one of them overlooks, all may. Believe the other "
                    "models.",
                    "warning",
                )
            )
    return blocks


def rewards(study: Study) -> list[Reward]:
    """Return what steers the generators of a study."""
    return [generator.steered_by for generator in study.generators.values() if generator.steered_by is not None]


def _what_the_scores_did(study: Study, steered: Mapping[str, Steering]) -> list[Block]:
    """Hold each steered training against the one with shuffled scores: all else, own samples too, is the same."""
    rows, texts, told = [], list[Block](), set[str]()
    for place, steering in steered.items():
        name, _, index = place.partition(" / ")
        other = f"{study.generators[name].shuffled_neighbour(study.generators)} / {index}"
        if other == place or other not in steered:
            continue
        gain, gain_se = score_gain(steering)
        shuffled, shuffled_se = score_gain(steered[other])
        done, half = gain - shuffled, NORMAL_95 * math.hypot(gain_se, shuffled_se)
        low, high = shuffled - NORMAL_95 * shuffled_se, shuffled + NORMAL_95 * shuffled_se
        rows.append(
            {
                "generator": place,
                "shuffled": other,
                "gain": gain,
                "shuffled_gain": shuffled,
                "shuffled_low": low,
                "shuffled_high": high,
                "done": done,
                "low": done - half,
                "high": done + half,
            }
        )
        if other not in told and (high < 0 or low > 0):
            told.add(other)
            texts.append(Text(COSTS.format(other, -shuffled) if high < 0 else GIVES.format(other, shuffled), "warning"))
        if done - half <= 0:  # not where older runs noted too little
            texts.append(Text(f"{place}: it is not shown that the scores did anything.", "warning"))
    if not rows:
        return []
    columns = [
        Column("generator", "Generator / training"),
        Column("gain", "Rise of the score", "signed", 3),
        Column("shuffled", "Shuffled neighbour"),
        Column("shuffled_gain", "Its rise", "signed", 3),
        Column(("shuffled_low", "shuffled_high"), "95 % interval", "signed_interval", 3),
        Column("done", "What the scores did", "signed", 3),
        Column(("low", "high"), "95 % interval", "signed_interval", 3),
    ]
    return [make_table("Steered and shuffled", pd.DataFrame(rows), columns, "steering_gain.csv", note=NOTE), *texts]


def score_gain(steering: Steering) -> tuple[float, float]:
    """Return by how much the samples' mean score rose, and its standard error; NaN where it was not computed.

    The error is that of an ideal learner, which draws next what the weighted samples of a round show: of `samples`
    drawn, `effective` count. Let v be the variance of a score, R the rounds that were trained on; the first round's
    samples are those that the rise is measured from, so only what the weights leave out of them adds to it:

        v_0 (1/effective_0 − 1/samples_0) + Σ_{0<r<R} v_r / effective_r + v_R / samples_R
    """
    end = steering.rounds[-1].step if steering.stopped_at is None else steering.stopped_at
    trained = [row for row in steering.rounds if row.step < end]
    first, last = steering.rounds[0], steering.rounds[-1]
    if not trained:
        return 0.0, 0.0
    spent = [_spread_of(row, row.effective) for row in trained]
    variance = sum(spent) - _spread_of(first, first.samples) + _spread_of(last, last.samples)
    if first.score is None or last.score is None:
        return float("nan"), float("nan")
    return last.score - first.score, max(variance, 0.0) ** 0.5


def _spread_of(row: SteeredRound, count: float | None) -> float:
    """Return the variance of a mean of `count` of a round's scores; NaN for a run that did not note it."""
    if row.score_se is None or row.samples is None or not count:
        return float("nan")
    return row.score_se**2 * row.samples / count
