"""Whether the labels or masks of a pool hold: how the score tables of `TaskKind.agreement` are told."""

from dataclasses import dataclass

from synthgain.report.blocks import Block, Column, Text, number
from synthgain.report.evidence import Evidence, Measured
from synthgain.report.tables import ALL, folded, result_table
from synthgain.report.vocabulary import listed


@dataclass(frozen=True)
class Agreement:
    """One kind of score table, and the words for it.

    label, value: its columns, the label and the score on synthetic images (`real_` before it: on real ones); digits: of
    the score. easier, harder: what it means that synthetic images score clearly higher, or lower.
    methods: the sentence of the methods section.
    """

    name: str
    held: str
    measure: str
    label: str
    value: str
    digits: int
    easier: str
    harder: str
    note: str
    methods: str
    columns: tuple[Column, ...]


# Every entry of TASK_KINDS names one of these, which is also the name of the table.
AGREEMENTS = {
    "label_consistency": Agreement(
        name="label consistency",
        held="labels",
        measure="AUROC",
        label="label",
        value="value",
        digits=4,
        easier="easier",
        harder="harder, or their labels were lost",
        note="AUROC of the real-only model on the synthetic images, and on real validation images that it did not "
        "train on. Lower: labels were lost. Higher: the synthetic cases are easier.",
        methods="Label consistency is the AUROC, on synthetic images, of the model that was trained on real images "
        "alone.",
        columns=(
            Column("label", "Label"),
            Column("group", "Group", optional=True),
            Column("n", "Synthetic images", "count"),
            Column("positives", "Positive", "count"),
            Column("value", "AUROC on synthetic", "number"),
            Column(("low", "high"), "95 % interval", "interval"),
            Column("real_n", "Real images", "count"),
            Column("real_value", "AUROC on real", "number"),
            Column(("real_low", "real_high"), "95 % interval, real", "interval"),
            Column("difference", "Difference", "signed"),
        ),
    ),
    "mask_agreement": Agreement(
        name="mask agreement",
        held="masks",
        measure="Dice",
        label="structure",
        value="mean",
        digits=3,
        easier="easier than real ones",
        harder="masks follow the object less",
        note="Dice between a pair's own mask and the prediction of the real-only model, and the same on real "
        "validation images that it did not train on. Below 0.5: a bad pair. Empty masks are counted, not scored.",
        methods="Mask agreement is the Dice between a synthetic image's mask and the prediction of the model that was "
        "trained on real images alone.",
        columns=(
            Column("structure", "Structure", optional=True),
            Column("group", "Group", optional=True),
            Column("n", "Synthetic pairs", "count"),
            Column("empty", "Empty masks", "count"),
            Column("mean", "Mean Dice", "number", 3),
            Column(("low", "high"), "95 % interval", "interval", 3),
            Column("median", "Median", "number", 3),
            Column("p5", "5th percentile", "number", 3),
            Column("below_half", "Below 0.5", "percent"),
            Column("real_n", "Real images", "count"),
            Column("real_mean", "Mean on real", "number", 3),
            Column(("real_low", "real_high"), "95 % interval, real", "interval", 3),
            Column("real_below_half", "Below 0.5, real", "percent"),
        ),
    ),
}


def agreements(evidence: Evidence) -> list[Agreement]:
    """Return the kinds that the models of a study give, each once."""
    kinds = dict.fromkeys(model.kind.agreement for model in evidence.study.models.values())
    return [AGREEMENTS[kind] for kind in kinds]


def agreement_blocks(measured: Measured) -> list[Block]:
    """Return what the real-only model makes of one draw of a pool."""
    blocks: list[Block] = []
    for name, kind in AGREEMENTS.items():
        if len(measured.table(name)):
            blocks += _blocks(measured, name, kind)
    return blocks or [Text(f"{measured.name()}: not done.", "missing")]


def _blocks(measured: Measured, name: str, kind: Agreement) -> list[Block]:
    table, real = measured.table(name), f"real_{kind.value}"
    texts = []
    for row in table[table["group"] == ALL].dropna(subset=[kind.value, real]).to_dict("records"):
        clear = row["low"] > row["real_high"] or row["high"] < row["real_low"]
        side = (kind.easier if row["difference"] > 0 else kind.harder) if clear else "no clear difference"
        ours, theirs = (number(row[column], kind.digits) for column in (kind.value, real))
        bad = f"; {number(100 * row['below_half'], 1)} % below 0.5" if "below_half" in row else ""
        texts.append(f"{row[kind.label]}: {kind.measure} {ours} on synthetic, {theirs} on real ({side}){bad}")
    title = f"{measured.name()}: do the {kind.held} hold?"
    file = f"{name}_{measured.pool}_{measured.index}.csv"
    told = f"{kind.held.capitalize()} of {measured.name().lower()}: {'; '.join(texts)}."
    shown = folded(result_table(title, table, kind.columns, file, kind.note))
    return [*([Text(told)] if texts else []), shown]


def not_done(evidence: Evidence) -> Text:
    """Return the line for a study in which no pool was scored."""
    names = listed([kind.name for kind in agreements(evidence)])
    return Text(f"{names[:1].upper()}{names[1:]}: not done.", "missing")
