"""Readers: what they were shown, how they rated it, whether they could tell, and how far they agree."""

import pandas as pd

from synthgain.report.blocks import Block, Column, Facts, Section, Text, make_table, number
from synthgain.report.evidence import Evidence, Readers
from synthgain.report.sections.further import folded

MEANS = (
    "Images that readers cannot tell from real ones are not thereby useful, nor safe: usefulness is the verdict's "
    "matter, copies are the memorisation gate's."
)
MEASURES = {
    "percent_agreement": "Percent agreement",
    "fleiss_kappa": "Fleiss' kappa",
    "gwet_ac1": "Gwet's AC1",
    "gwet_ac2": "Gwet's AC2, linear weights",
    "krippendorff_alpha": "Krippendorff's alpha, ordinal",
    "weighted_kappa_repeats": "Weighted kappa of repeats",
}
SOURCE_COLUMNS = [
    Column("question", "Question"),
    Column("origin", "Origin"),
    Column("source", "Images of"),
    Column("images", "Images", "count"),
    Column("mean", "Mean", "number", 2),
    Column(("low", "high"), "95 % interval", "interval", 2),
    Column("right", "Answers right", "percent", optional=True),
    Column("seconds", "Seconds, median", "number", 1),
]
TELLING_COLUMNS = [
    Column("reader", "Reader"),
    Column("images", "Images", "count"),
    Column("auroc", "AUROC (0.5: cannot tell)", "number", 3),
    Column(("low", "high"), "95 % interval", "interval", 3),
    Column("equivalence_p", "p of equivalence to chance", "p"),
    Column("hits", "Synthetic called synthetic", "percent", optional=True),
    Column("false_alarms", "Real called synthetic", "percent", optional=True),
    Column("bias", "Bias (above 0: too much called synthetic)", "number", 2, optional=True),
]
SIMULATED_COLUMNS = [
    Column("question", "Question"),
    Column("measure", "Measure"),
    Column("planted", "Planted", "number", 3),
    Column("found", "Found", "number", 3),
    Column(("low", "high"), "95 % interval", "interval", 3),
]
AGREEMENT_COLUMNS = [
    Column("question", "Question"),
    Column("reader", "Reader", optional=True),
    Column("measure", "Measure"),
    Column("images", "Images", "count"),
    Column("value", "Value", "number", 2),
    Column(("low", "high"), "95 % interval", "interval", 2),
]
MISSING_COLUMNS = [
    Column("reader", "Reader"),
    Column("answered", "Answers", "count"),
    Column("asked", "Asked for", "count"),
]
PLANNING_COLUMNS = [
    Column("readers", "Readers", "count"),
    Column("images_of_each_kind", "Real, and as many synthetic images", "count"),
    Column("power", "Power", "percent"),
]


def readers_section(evidence: Evidence) -> Section | None:
    """Return what readers saw and said, None for a study without readers."""
    if not evidence.readers:
        return None
    section = Section("readers", "Readers", lead="Blinded reading of real and synthetic images, a page per reader.")
    for name, readers in evidence.readers.items():
        section.blocks += _kit(name, readers)
        if readers.ratings is not None:
            section.blocks += _answers(name, readers)
    section.blocks.append(Text(MEANS, "note"))
    return section


def _kit(name: str, readers: Readers) -> list[Block]:
    kit = readers.kit
    facts = [
        ("Panel", name),
        ("Kit", f"{kit.kit}, {len(kit.readers)} readers, {kit.images} images in all"),
        ("Folder", kit.folder),
        ("Key, SHA-256 with its nonce", kit.key_sha256),
    ]
    blocks: list[Block] = [Facts(facts)]
    if readers.ratings is None:
        blocks.append(
            Text(
                f"{name}: no answers yet. The line above fixes the truth before they come: keep this report, or its "
                "SHA-256, with the date.",
                "missing",
            )
        )
    elif not readers.ratings.current:
        blocks.append(
            Text(
                f"{name}: the answers are to an earlier kit ({readers.ratings.kit}). They are about its pixels; images "
                "that were drawn since have no scores.",
                "warning",
            )
        )
    return blocks


def _answers(name: str, readers: Readers) -> list[Block]:
    blocks: list[Block] = [Text(_told(readers.table("telling")))]
    if readers.ratings is not None and readers.ratings.simulated:
        blocks.insert(0, Text(f"{name}: these answers are simulated. No reader saw an image.", "warning"))
        planted = readers.table("simulated").replace({"measure": MEASURES | {"auroc": "AUROC", "bias": "Bias"}})
        blocks.append(
            make_table(f"{name}: planted and found", planted, SIMULATED_COLUMNS, f"readers_{name}_simulated.csv")
        )
    missing = readers.table("missing")
    lacking = missing[missing["answered"] < missing["asked"]]
    if len(lacking):
        counts = zip(lacking["reader"], lacking["answered"], lacking["asked"], strict=True)
        names = ", ".join(f"{reader} ({asked - answered} of {asked})" for reader, answered, asked in counts)
        blocks.append(Text(f"Answers are missing: {names}.", "warning"))
    tables = (
        ("sources", "Ratings by source", SOURCE_COLUMNS),
        ("telling", "Real or synthetic", TELLING_COLUMNS),
    )
    for file, title, columns in tables:
        blocks.append(
            make_table(f"{name}: {title.lower()}", readers.table(file), columns, f"readers_{name}_{file}.csv")
        )
    agreement = readers.table("agreement")
    shown = agreement.assign(
        measure=agreement["measure"].map(MEASURES), reader=agreement["reader"].fillna("between readers")
    )
    note = "Kappa sinks where nearly all answers are one; AC1 and AC2 do not. Intervals: images resampled."
    folded_tables = (
        (f"{name}: agreement", shown, AGREEMENT_COLUMNS, "agreement", note, agreement),
        (f"{name}: answers", missing, MISSING_COLUMNS, "missing", "", missing),
        (
            "How large a study must be to show that readers cannot tell",
            readers.table("planning"),
            PLANNING_COLUMNS,
            "planning",
            "80 % power that the AUROC lies within 0.4 to 0.6 (two one-sided tests at 5 %); one reader: that reader "
            "alone. Readers' AUROCs are taken to spread by 0.03, their answers to the same images to correlate at 0.3.",
            readers.table("planning"),
        ),
    )
    for title, table, columns, file, note, whole in folded_tables:
        made = make_table(title, table, columns, f"readers_{name}_{file}.csv", note=note, download=whole)
        blocks.append(folded(made))
    return blocks


def _told(telling: pd.DataFrame) -> str:
    pooled = telling[telling["reader"] == "all"] if len(telling) else telling
    if not len(pooled):
        return "Whether readers can tell real from synthetic: not asked, or not answered by two readers alike."
    row = pooled.iloc[0]
    text = (
        f"Over {len(telling) - 1} readers, synthetic images were told from real ones with an AUROC of "
        f"{number(row['auroc'], 3)} ({number(row['low'], 3)} to {number(row['high'], 3)}; 0.5 is chance)"
    )
    if row["equivalence_p"] < 0.05:
        return f"{text}: equivalent to chance within ±{row['bound']:g}."
    return f"{text}: {'better than chance' if row['low'] > 0.5 else 'equivalence to chance is not shown'}."
