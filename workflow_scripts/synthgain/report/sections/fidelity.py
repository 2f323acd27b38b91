"""Fidelity beside its floors, whether labels survived, and whether any of it predicts usefulness."""

import pandas as pd

from synthgain.report.blocks import Block, Column, Details, Facts, Section, Text, interval, make_table, number
from synthgain.report.evidence import Evidence, Measured
from synthgain.report.sections.further import folded
from synthgain.report.sections.segmentation import agreement_blocks, shape_blocks
from synthgain.report.vocabulary import MEASURES, SPACES, in_words, measure_words

ALL = "all"  # the group that is every image
FLOOR_SDS = 2.0  # within so many SDs of the real-versus-real splits a value is "at the floor"
FLOOR_NOTE = (
    "Floor: real images against real images of other patients, at the same number of images. At its floor a pool "
    "cannot be told from real images by this measure."
)
FIDELITY_COLUMNS = [
    Column("space", "Feature space"),
    Column("reference", "Against", optional=True),
    Column("group", "Group", optional=True),
    Column("metric", "Measure"),
    Column("n", "Images a side", "count"),
    Column("value", "Synthetic–real", "number"),
    Column(("low", "high"), "95 % interval", "interval"),
    Column("floor", "Real–real floor", "number"),
    Column("excess", "Excess", "signed"),
    Column("p", "p", "p"),
]
CONSISTENCY_COLUMNS = [
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
]
RELATION_COLUMNS = [
    Column("space", "Feature space"),
    Column("reference", "Against", optional=True),
    Column("metric", "Measure (its excess)"),
    Column("method", "Correlation with the gain"),
    Column("n", "Points", "count"),
    Column("value", "r", "signed", 2),
    Column(("low", "high"), "95 % interval", "signed_interval", 2),
    Column("p", "p, unadjusted", "p"),
]
POINT_COLUMNS = [
    Column("pool", "Pool"),
    Column("arm", "Arm"),
    Column("ratio", "Ratio %", "ratio"),
    Column("replicate", "Replicate", "id"),
    Column("index", "Pool draw", "id"),
    Column("gain", "Gain over the baseline", "signed"),
]


def fidelity_section(evidence: Evidence) -> Section:
    """Return distances and diversity of every measured pool, label consistency, and the relation with gains."""
    held = "masks" if evidence.only_segments else "labels"
    lead = f"Do the pools look like new patients, are they as varied, and do their {held} hold?"
    section = Section("fidelity", "Fidelity and diversity", lead=lead)
    for measured in evidence.fidelity:
        section.blocks.append(Text(_floor_sentence(measured)))
    for model in evidence.models[:1]:
        section.blocks += model.pictures("fidelity")
    for measured in evidence.fidelity:
        section.blocks += _fidelity_blocks(measured)
    if not evidence.fidelity:
        section.blocks.append(Text("Not done: fidelity was not measured.", "missing"))
    section.blocks += shape_blocks(evidence)
    for model in evidence.models[:1]:
        section.blocks += model.pictures("agreement")
    for measured in evidence.consistency:
        section.blocks += _consistency_blocks(measured)
    if not evidence.consistency:
        check = "Mask agreement" if evidence.only_segments else "Label consistency"
        section.blocks.append(Text(f"{check}: not done.", "missing"))
    for measured in evidence.relations:
        section.blocks += _relation_blocks(measured)
    if not evidence.relations:
        section.blocks.append(Text("Whether fidelity predicts usefulness: not done.", "missing"))
    return section


def notes_of(table: pd.DataFrame) -> str:
    """Return the notes of a table, each once, to stand below it instead of in a narrow column."""
    if "note" not in table:
        return ""
    noted = table[table["note"].notna() & (table["note"].astype(str).str.strip() != "")]
    sentences = []
    for note, rows in noted.groupby("note", sort=False):
        text = str(note).rstrip(".").replace(" x ", " × ").replace(" kid", " KID")
        names = dict.fromkeys(MEASURES.get(name, "") for name in rows.get("metric", ()))
        about = ", ".join(name for name in names if name)
        sentences.append(f"{about}: {text}." if about else f"{text[0].upper()}{text[1:]}.")
    return " ".join(sentences)


def _main_rows(measured: Measured) -> pd.DataFrame:
    """The rows over all images against the main reference, in the order of MEASURES."""
    table = measured.tables["fidelity"]
    reference = measured.manifest.reference
    rows = table[(table["group"] == ALL) & (table["reference"] == reference) & table["metric"].isin(list(MEASURES))]
    spaces = list(dict.fromkeys(rows["space"]))
    places = [
        (spaces.index(space), list(MEASURES).index(metric))
        for space, metric in zip(rows["space"], rows["metric"], strict=True)
    ]
    return rows.iloc[sorted(range(len(rows)), key=places.__getitem__)]


def _floor_sentence(measured: Measured) -> str:
    """How many measures are at the floor, and the first distance in words."""
    if "fidelity" not in measured.tables:
        return f"{measured.name()}: not done."
    rows = _main_rows(measured).dropna(subset=["value", "floor"])
    if not len(rows):
        return f"{measured.name()}: no measure could be computed; the notes below say why."
    near = (rows["value"] - rows["floor"]).abs() <= FLOOR_SDS * rows["floor_sd"].fillna(0)
    text = f"{measured.name()}: {int(near.sum())} of {len(rows)} measures are at the real-versus-real floor"
    distances = rows[rows["metric"].isin(["fid", "kid"])]
    if len(distances):
        row = distances.iloc[0]
        space = SPACES.get(row["space"], row["space"])
        text += f"; {MEASURES[row['metric']]} in the space of {space} is {number(row['value'])}"
        text += f" ({interval(row['low'], row['high'])}), its floor {number(row['floor'])}"
    return text + "."


def _fidelity_blocks(measured: Measured) -> list[Block]:
    table = measured.table("fidelity")
    if not len(table):
        return []
    name, main = measured.name(), _main_rows(measured)
    file = f"fidelity_{measured.pool}_{measured.index}.csv"
    shown, whole = in_words(main), in_words(table)
    notes = f"{FLOOR_NOTE} {notes_of(main)}".strip()
    spaces = [
        (
            SPACES.get(space.name, space.name),
            f"{space.label}, {space.dimensions} dimensions, weights {space.weights_sha256}",
        )
        for space in measured.manifest.spaces
    ]
    title = f"{name}: every reference and group"
    rest = make_table(title, whole, FIDELITY_COLUMNS, file, note=notes_of(table), download=table)
    headline = make_table(f"{name}: all images", shown, FIDELITY_COLUMNS, f"headline_{file}", note=notes, download=main)
    more: list[Block] = [rest, *([Facts(spaces)] if spaces else [])]
    return [headline, Details(f"{title}; the networks behind the spaces", more)]


def _consistency_blocks(measured: Measured) -> list[Block]:
    table = measured.table("label_consistency")
    name = measured.name()
    if "mask_agreement" in measured.tables:
        return agreement_blocks(measured, name)
    if not len(table):
        return [Text(f"{name}, label consistency: not done.", "missing")]
    texts = []
    for _, row in table[table["group"] == ALL].dropna(subset=["value", "real_value"]).iterrows():
        clear = pd.notna(row["real_low"]) and (row["low"] > row["real_high"] or row["high"] < row["real_low"])
        side = ("easier" if row["difference"] > 0 else "harder, or their labels were lost") if clear else "alike"
        texts.append(
            f"{row['label']}: AUROC {number(row['value'])} on synthetic, {number(row['real_value'])} on real ({side})"
        )
    title = f"{name}: do the labels hold?"
    note = (
        "AUROC of the real-only model on the synthetic images, beside real validation images that it did not train on. "
        f"Lower: labels were lost. Higher: the synthetic cases are easier. {notes_of(table)}"
    ).strip()
    file = f"label_consistency_{measured.pool}_{measured.index}.csv"
    shown = folded(title, make_table(title, table, CONSISTENCY_COLUMNS, file, note=note))
    return [*([Text(f"Labels of {name.lower()}: {'; '.join(texts)}.")] if texts else []), shown]


def _relation_blocks(measured: Measured) -> list[Block]:
    table = measured.table("relation")
    title = f"Does fidelity predict usefulness here? (model {measured.pool})"
    found = table.dropna(subset=["value"]) if len(table) else table
    inner: list[Block] = []
    if len(found):
        file = f"fidelity_utility_{measured.pool}.csv"
        inner.append(make_table(title, in_words(found), RELATION_COLUMNS, file, note=notes_of(table), download=table))
    points = measured.table("points")
    if len(points) and points["gain"].notna().any():
        inner.append(make_table("Measured gains", points, POINT_COLUMNS, f"gains_{measured.pool}.csv"))
    blocks: list[Block] = [Text(relation_sentence(measured), "plain" if len(found) else "missing")]
    return blocks + ([Details(title, inner)] if inner else [])


def relation_sentence(measured: Measured) -> str:
    """Return the answer in one sentence, or why there is none."""
    question = "Does fidelity predict usefulness here?"
    if measured.manifest.failed:
        return f"{question} failed: {measured.manifest.failed}."
    table = measured.table("relation")
    known = table.dropna(subset=["value", "low", "high"]) if len(table) else table
    if not len(known):
        count = measured.manifest.configurations
        these = f"{count} configuration{'s' * (count != 1)} (a pool at a ratio)"
        notes = dict.fromkeys(str(note) for note in (table["note"].dropna() if "note" in table else ()) if str(note))
        why = "; ".join(note.partition(" configurations, ")[2] or note for note in notes)
        return f"{question} Not answered, since this study has {these}" + (f": {why}." if why else ".")
    ranked = known[known["method"] == "spearman"] if (known["method"] == "spearman").any() else known
    best = ranked.iloc[int(ranked["value"].abs().to_numpy().argmax())]
    clear = int(((ranked["low"] > 0) | (ranked["high"] < 0)).sum())
    space = SPACES.get(best["space"], best["space"])
    return (
        f"{question} {clear} of {len(ranked)} fidelity numbers {'goes' if clear == 1 else 'go'} with the measured gain "
        f"(95 % interval clear of 0, "
        f"not adjusted for their number). The closest is {measure_words(best['metric'])} in the space "
        f"of {space}: correlation {number(best['value'], 2)} ({interval(best['low'], best['high'], 2)}) over "
        f"{int(best['n'])} points."
    )
