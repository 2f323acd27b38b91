"""A simulated panel: readers of known sensitivity, bias and agreement, whose answers come in the sealed format.

A reader's impression of an image is x = d′ · truth + √a · u + √(p − a) · v + √(1 − p) · w, where u is shared by all
readers of the image, v is the reader's own, w is new each time the image is shown (a: agreement, p: repeatability). The
answer is the step of the scale that x + bias falls into; the steps are cut at equal distances about d′ / 2. So AUROC,
kappa and the means of the answers follow exactly (equal-variance signal detection: Green and Swets 1966).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.polynomial.hermite_e import hermegauss
from scipy.special import ndtr

from synthgain.readers.items import SYNTHETIC
from synthgain.readers.kit import KitFacts, Secret
from synthgain.readers.options import Impression, Panel
from synthgain.readers.questions import Question, questions_of
from synthgain.readers.ratings import FORMAT, Answer, Answers
from synthgain.readers.sealing import chain_start, chained, closing_code, reader_token
from synthgain.seeds import random_generator

WIDTH = 0.8  # of a step, in standard deviations of an impression: our choice
MILLISECONDS = 5000
NODES = 60  # of the Gauss–Hermite rule over what two impressions share


@dataclass(frozen=True)
class Known:
    """What a simulated panel's answers to a question are in the long run.

    auroc: of truth 1 against 0; kappa: Fleiss', of any two readers; hits, false_alarms: shares of answers in the upper
    half of the scale (those in its very middle count half) where the truth is 1, and 0.
    """

    auroc: float
    kappa: float
    hits: float
    false_alarms: float


def cuts(impression: Impression, low: int, high: int) -> np.ndarray:
    """Return where impressions pass from one step of the scale to the next: (high − low,) float64."""
    steps = np.arange(high - low)
    return impression.sensitivity / 2 - impression.bias + WIDTH * (steps - (high - low - 1) / 2)


def known_answers(impression: Impression, low: int, high: int, share: float = 0.5) -> Known:
    """Return what follows from an impression for a question with the steps low to high.

    share: of images whose truth is 1.
    """
    at = np.concatenate([[-np.inf], cuts(impression, low, high), [np.inf]])
    absent, there = (np.diff(ndtr(at - impression.sensitivity * truth)) for truth in (0, 1))
    auroc = float(there @ (np.cumsum(absent) - absent / 2))
    nodes, weights = hermegauss(NODES)
    shared, own = impression.agreement**0.5, (1 - impression.agreement) ** 0.5
    observed = 0.0
    for truth, part in ((0, 1 - share), (1, share)):  # given what is shared, two readers' answers are independent
        given = np.diff(ndtr((at[None] - impression.sensitivity * truth - shared * nodes[:, None]) / own), axis=1)
        observed += float(weights @ (given**2).sum(axis=1)) / weights.sum() * part
    mean = absent * (1 - share) + there * share
    chance = float(mean @ mean)
    middle = np.sign(np.arange(low, high + 1) - (low + high) / 2) / 2 + 0.5
    return Known(auroc, (observed - chance) / (1 - chance), float(there @ middle), float(absent @ middle))


def simulated_answers(
    name: str, panel: Panel, facts: KitFacts, secret: Secret, key: pd.DataFrame, seed: int
) -> dict[str, Answers]:
    """Return {file name: a reader's answers} of all readers of a kit, sealed as their pages seal them."""
    assert panel.simulated is not None
    # By image, not by item: items have another random name in each kit, and the same study the same answers.
    images = key.sort_values(["origin", "source", "image_id"])
    made = {}
    for reader, phases in secret["orders"].items():
        rows: list[Answer] = []
        token = reader_token(secret["secret"], facts["kit"], reader)
        last = chain_start(facts["kit"], reader, token)
        values = {}
        for question in questions_of(panel):
            shown = _answers(panel, question, images, reader, {"study": seed, "panel": name})
            values[question.name] = dict(zip(images["item"], shown, strict=True))
        for phase in (1, 2):
            asked = [question for question in questions_of(panel) if question.phase == phase]
            for position, (item, repeat) in enumerate(phases[str(phase)]):
                for question in asked:
                    value = int(values[question.name][item][int(repeat)])
                    again = bool(repeat)
                    last = chained(last, (phase, position, item, again, question.name, value, MILLISECONDS))
                    answer = Answer(
                        phase=phase,
                        position=position,
                        item=item,
                        repeat=again,
                        question=question.name,
                        value=value,
                        milliseconds=MILLISECONDS,
                        digest=last,
                    )
                    rows.append(answer)
        made[f"{name}-{reader}.json"] = Answers(
            format=FORMAT,
            panel=name,
            kit=facts["kit"],
            reader=reader,
            finished=True,
            code=closing_code(last),
            answers=rows,
        )
    return made


def held_against(panel: Panel, key: pd.DataFrame, agreement: pd.DataFrame, telling: pd.DataFrame) -> pd.DataFrame:
    """Return what was planted beside what was found: question, measure, planted, found, low, high."""
    assert panel.simulated is not None
    rows = []
    for question in questions_of(panel):
        truth = truth_of(question, key)
        share = float(truth[~np.isnan(truth)].mean()) if not np.isnan(truth).all() else float("nan")
        impression = _impression(panel, question)
        known = known_answers(impression, question.low, question.high, share)
        own = agreement[(agreement["question"] == question.name) & (agreement["measure"] == "fleiss_kappa")]
        rows.append(own.assign(planted=known.kappa, found=own["value"]))
        if question.name == "realism":
            pooled = telling[telling["reader"] == "all"].assign(question=question.name)
            rows.append(pooled.assign(measure="auroc", planted=known.auroc, found=pooled["auroc"]))
            leaning = {"found": pooled["bias"], "low": pooled["bias_low"], "high": pooled["bias_high"]}
            rows.append(pooled.assign(measure="bias", planted=impression.bias, **leaning))
    return pd.concat(rows, ignore_index=True)[["question", "measure", "planted", "found", "low", "high"]]


def truth_of(question: Question, key: pd.DataFrame) -> np.ndarray:
    """Return what a question asks about, of each image of a key: (N,) 1 or 0, NaN where it is not known.

    realism: synthetic; finding: the label; everything else: real, so that a sensitive reader likes real images better.
    """
    synthetic = (key["origin"] == SYNTHETIC).to_numpy(float)
    if question.name == "realism":
        return synthetic
    finding = question.name.removeprefix("finding.")
    if finding != question.name:
        return pd.to_numeric(key[finding], errors="coerce").to_numpy(float)
    return 1 - synthetic


def _impression(panel: Panel, question: Question) -> Impression:
    """Return how readers answer a question: without a say in the config, at random but alike."""
    kind = question.name.split(".")[0]
    return next((own for asked, own in (panel.simulated or {}).items() if asked == kind), Impression())


def _answers(
    panel: Panel, question: Question, images: pd.DataFrame, reader: str, keys: Mapping[str, str | int]
) -> np.ndarray:
    """Return a reader's answers at the first and the second sight: (N, 2) int."""
    impression = _impression(panel, question)
    count = len(images)
    step = {"step": "simulated readers", "question": question.name, **keys}
    shared = random_generator(**step, part="image").normal(size=count)
    rng = random_generator(**step, reader=reader)
    own, new = rng.normal(size=count), rng.normal(size=(count, 2))
    truth = np.nan_to_num(truth_of(question, images), nan=0.5)
    agreement, repeatability = impression.agreement, impression.repeatability
    seen = impression.sensitivity * truth + agreement**0.5 * shared + (repeatability - agreement) ** 0.5 * own
    impressions = seen[:, None] + (1 - repeatability) ** 0.5 * new
    return np.searchsorted(cuts(impression, question.low, question.high), impressions) + question.low
