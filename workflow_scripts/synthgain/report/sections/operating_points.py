"""Blocks that tell what a mean over labels or a single threshold hides: shift or gain, and each finding by itself."""

import pandas as pd

from synthgain.report.blocks import Block, Column, Text, interval, signed
from synthgain.report.evidence import ModelEvidence
from synthgain.report.failures import failed_tables
from synthgain.report.figures.style import arm_label
from synthgain.report.tables import PLACE, TEST_SET, folded, result_table
from synthgain.report.vocabulary import POLICIES
from synthgain.statistics.metric_registry import MainEndpoint, metric_label
from synthgain.statistics.readings import GAIN, GAIN_AND_SHIFT, LOSS, LOSS_AND_SHIFT, NEITHER, RARE, SHIFT, UNKNOWN

DIGITS = 3  # of a wide table
MEANINGS = {
    GAIN: "it ranks better, and its operating point is not shown to have moved",
    GAIN_AND_SHIFT: "it ranks better, and its operating point has moved as well: read the rates at a fitted threshold",
    LOSS: "it ranks worse",
    LOSS_AND_SHIFT: "it ranks worse, and its operating point has moved as well",
    SHIFT: "its operating point has moved, and a gain in ranking is not shown: another threshold does the same",
    NEITHER: "neither a gain in ranking nor a moved operating point is shown",
    UNKNOWN: "the change of AUROC is not estimable",
}


def shift_blocks(model: ModelEvidence, chosen: MainEndpoint, level: str) -> list[Block]:
    """Return the table of AUROC beside the rates at fixed and fitted thresholds, and a sentence for the main cells."""
    rows = model.table("shift_or_gain")
    failed: list[Block] = [*failed_tables(model, "shift_or_gain")]
    if not len(rows):
        return failed
    rates = [
        column
        for prefix, where in (("", "at 0.5"), ("fitted_", "fitted"))
        for rate in ("sensitivity", "specificity")
        for column in (
            Column(f"{prefix}{rate}", f"{rate.capitalize()}, {where}", "signed", DIGITS),
            Column((f"{prefix}{rate}_low", f"{prefix}{rate}_high"), f"{level} interval", "signed_interval", DIGITS),
        )
    ]
    columns = [
        *PLACE,
        Column("reading", "Reading"),
        Column("auroc", "AUROC", "signed", DIGITS),
        Column(("auroc_low", "auroc_high"), f"{level} interval", "signed_interval", DIGITS),
        *rates,
    ]
    note = (
        "Changes against the baseline. Gain or loss: adjusted p of AUROC below alpha. Shift: at the "
        "threshold of 0.5 one "
        f"rate rose and the other fell, each interval without 0. Fitted: {_policy(rows)}, anew for "
        "each arm, which takes a "
        "shift back."
    )
    main = rows[(rows["label"] == chosen.labels) & (rows["dataset"] == chosen.test_set)]
    declared = main[(main["arm"] == chosen.arm) & (main["ratio"] == chosen.ratio)]
    said: list[Block] = [Text(shift_sentence(row)) for _, row in declared.iterrows()]
    shifts = main[main["reading"] == SHIFT]
    others = [arm_label(arm, ratio) for arm, ratio in zip(shifts["arm"], shifts["ratio"], strict=True)]
    if others:
        said.append(
            Text(f"Moved operating points without a gain in ranking on {chosen.test_set}: {', '.join(others)}.")
        )
    title = f"Shift or gain, {chosen.test_set}"
    tables = [result_table(title, main, columns, "shift_or_gain.csv", note)] if len(main) else []
    rest = rows.drop(main.index)
    if len(rest):
        others = list(dict.fromkeys(rest["dataset"]))  # a column that says the same in all rows is left out
        title = f"Shift or gain, {others[0]}" if len(others) == 1 else "Shift or gain: every other test set"
        tables.append(result_table(title, rest, columns, "shift_or_gain_all.csv", note))
    return [*failed, *said, *(folded(table) for table in tables)]


def shift_sentence(row: pd.Series) -> str:
    """Return in one sentence whether an arm gained, or moved its operating point."""
    arm = arm_label(str(row["arm"]), float(row["ratio"]))
    changes = [f"AUROC {_change(row, 'auroc')}"]
    changes += [f"{rate} {_change(row, rate)}" for rate in ("sensitivity", "specificity")]
    equal = " AUROC is shown to be equal within the margin." if row["equal"] and row["reading"] == SHIFT else ""
    return (
        f"{arm} on {row['dataset']}: {changes[0]}; at the threshold of 0.5 {changes[1]} and {changes[2]}: "
        f"{MEANINGS[row['reading']]}.{equal}"
    )


def finding_blocks(model: ModelEvidence, chosen: MainEndpoint, level: str) -> list[Block]:
    """Return each finding by itself, the rarest first: open for the main arm, folded for all."""
    rows = model.table("findings")
    failed: list[Block] = [*failed_tables(model, "findings")]
    if not len(rows):
        return failed
    columns = [
        *PLACE[:2],
        TEST_SET,
        Column("label", "Finding"),
        Column("trained_positives", "Training patients with it", "count"),
        Column("share", "Share", "percent"),
        Column("positives", "Test patients with it", "count"),
        Column("baseline_mean", "Baseline", "number"),
        Column("mean", "Arm", "number"),
        Column("difference", "Change", "signed"),
        Column(("low", "high"), f"{level} interval", "signed_interval"),
        Column("p_adjusted", "p adjusted", "p"),
        Column("reason", "Why not", optional=True),
    ]
    main = rows[(rows["arm"] == chosen.arm) & (rows["ratio"] == chosen.ratio) & (rows["dataset"] == chosen.test_set)]
    name = metric_label(str(rows["metric"].iloc[0]))
    blocks: list[Block] = failed
    if len(main):
        blocks.append(Text(tail_sentence(main)))
        title = (
            f"{name} of each finding, the rarest first: {arm_label(str(chosen.arm), chosen.ratio)}, {chosen.test_set}"
        )
        blocks.append(result_table(title, main, columns, "findings.csv"))
    title = f"{name} of each finding: every arm and test set"
    return [*blocks, folded(result_table(title, rows, columns, "findings_all.csv"), 0)]


def tail_sentence(rows: pd.DataFrame) -> str:
    """Return what is known of the rare findings of one arm, in a sentence; rows: its findings on one test set."""
    rare = rows[rows["rare"]]
    if not len(rare):
        return f"None of the {len(rows)} findings is rare (fewer than {RARE:.0%} of the training patients)."
    known = rare[rare["low"].notna()]
    better, worse = int((known["low"] > 0).sum()), int((known["high"] < 0).sum())
    few = len(rare) - len(known)
    parts = [f"{better} with an interval above 0", f"{worse} below 0", f"{len(known) - better - worse} around 0"]
    parts += [f"{few} with too few patients to tell"] * bool(few)
    return (
        f"{len(rare)} of {len(rows)} findings are rare (fewer than {RARE:.0%} of the training patients): "
        f"{', '.join(parts)}. These intervals are not adjusted for the number of findings."
    )


def _change(row: pd.Series, name: str) -> str:
    return f"{signed(row[name])} ({interval(row[f'{name}_low'], row[f'{name}_high'], sign=True)})"


def _policy(rows: pd.DataFrame) -> str:
    return POLICIES[str(rows["fitted"].iloc[0])]
