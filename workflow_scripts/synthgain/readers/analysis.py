"""What is made of readers' answers: tables for the report, and a score per image for filters and steering."""

from functools import partial

import numpy as np
import pandas as pd

from synthgain.readers.items import SYNTHETIC
from synthgain.readers.options import Panel
from synthgain.readers.questions import questions_of
from synthgain.statistics.agreement import MEASURES, intra_reader_kappa, with_interval
from synthgain.statistics.reading import BOUND, leaning, planning_table, telling

REALISM = "realism"


def agreement_table(panel: Panel, table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Return per question and measure: question, reader, measure, value, low, high, images.

    Between readers (`reader` empty) over the images that at least two of them answered; within a reader over repeats.
    """
    rows = []
    for question in questions_of(panel):
        given = table[table["question"] == question.name]
        categories = np.arange(question.low, question.high + 1, dtype=float)
        first = given[~given["repeat"]].pivot(index="item", columns="reader", values="value").to_numpy(float)
        several = first[(~np.isnan(first)).sum(axis=1) >= 2] if first.shape[1] > 1 else first[:0]
        if len(several):
            for name, measure in MEASURES.items():
                found = with_interval(partial(measure, categories=categories), several, rng)
                rows.append((question.name, "", name, found))
        for reader, own in given.groupby("reader"):
            pairs = own.pivot(index="item", columns="repeat", values="value").dropna()
            if len(pairs) < 2 or pairs.shape[1] < 2:
                continue
            twice = pairs.to_numpy(float)
            found = with_interval(partial(intra_reader_kappa, categories=categories), twice, rng)
            rows.append((question.name, str(reader), "weighted_kappa_repeats", found))
    columns = ["question", "reader", "measure", "value", "low", "high", "images"]
    return pd.DataFrame([(q, r, m, e.value, e.low, e.high, e.images) for q, r, m, e in rows], columns=columns)


def telling_table(panel: Panel, table: pd.DataFrame, key: pd.DataFrame) -> pd.DataFrame:
    """Return how well real is told from synthetic, and how readers lean; `reader` is "all" in the pooled row.

    The pooled row is over images that every reader answered (readers and patients both random; the bias with a
    t-interval over readers). A reader's own row has the interval of DeLong by patients.
    """
    columns = ["reader", "images", "auroc", "low", "high", "equivalence_p", "bound", "hits", "false_alarms", "bias"]
    columns += ["bias_low", "bias_high"]
    scale = next((question for question in questions_of(panel) if question.name == REALISM), None)
    if scale is None:
        return pd.DataFrame(columns=columns)
    middle = (scale.low + scale.high) / 2
    given = table[(table["question"] == REALISM) & ~table["repeat"]]
    answers = given.pivot(index="reader", columns="item", values="value")
    facts = key.set_index("item")
    parts = [(str(reader), own.dropna().to_frame().T) for reader, own in answers.iterrows()]
    if len(answers) > 1:
        parts.append(("all", answers.dropna(axis=1)))
    rows = []
    for reader, seen in parts:
        synthetic = facts.loc[seen.columns, "origin"].eq(SYNTHETIC).to_numpy()
        if not 0 < synthetic.sum() < len(synthetic):
            continue
        values = seen.to_numpy(float)
        found = telling(synthetic, values, facts.loc[seen.columns, "patient_id"].to_numpy())
        lean = leaning(synthetic, values, middle)
        shares = float(lean.hits.mean()), float(lean.false_alarms.mean())
        rows.append(
            (
                reader,
                seen.shape[1],
                found.auroc,
                found.low,
                found.high,
                found.equivalence_p,
                BOUND,
                *shares,
                *lean.mean_bias(),
            )
        )
    return pd.DataFrame(rows, columns=columns)


def by_source(panel: Panel, table: pd.DataFrame, key: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Return per question and source of images: question, origin, source, images, mean, low, high, seconds, right.

    mean: over images, of the mean over readers; seconds: median per image; right: of a finding's question the share of
    answers on the label's side of the scale's middle, NaN elsewhere.
    """
    joined = table[~table["repeat"]].merge(key.drop(columns="for"), on="item", how="left")
    rows = []
    for question in questions_of(panel):
        given = joined[joined["question"] == question.name]
        for (origin, source), own in given.groupby(["origin", "source"], sort=True):
            means = own.groupby("item")["value"].mean().to_numpy(float)
            found = with_interval(lambda x: float(x.mean()), means, rng)
            right = np.nan
            finding = question.name.removeprefix("finding.")
            if finding != question.name:
                label = pd.to_numeric(own[finding], errors="coerce")
                middle = (question.low + question.high) / 2
                decided = label.notna() & (own["value"] != middle)
                right = float(((own["value"] > middle) == (label == 1))[decided].mean()) if decided.any() else np.nan
            seconds = float(own["seconds"].median())
            rows.append(
                (question.name, origin, source, found.images, found.value, found.low, found.high, seconds, right)
            )
    columns = ["question", "origin", "source", "images", "mean", "low", "high", "seconds", "right"]
    return pd.DataFrame(rows, columns=columns)


def planning() -> pd.DataFrame:
    """Return how large a study must be to show that readers cannot tell (docs/readers.md)."""
    return planning_table()


def score_table(table: pd.DataFrame, key: pd.DataFrame) -> pd.DataFrame:
    """Return a row per rated image: image_id, sha256, origin, source, readers, and per question its score from 0 to 1.

    A score is the mean over readers of the answer's rank among that reader's answers, so that a strict reader and a
    mild one count alike. `sha256` is of the pixels that were rated: an image drawn since has no score.
    """
    given = table[~table["repeat"]].copy()
    ranks = given.groupby(["reader", "question"])["value"].rank(method="average")
    sizes = given.groupby(["reader", "question"])["value"].transform("size")
    given["score"] = (ranks - 0.5) / sizes
    scores = given.pivot_table(index="item", columns="question", values="score", aggfunc="mean")
    readers = given.groupby("item")["reader"].nunique().rename("readers")
    facts = key.set_index("item")[["image_id", "patient_id", "sha256", "origin", "source"]]
    made = facts.join(readers, how="inner").join(scores)
    return made.reset_index(drop=True).rename_axis(columns=None)
