"""What only segmentation has: spread of the scores, shape of masks, what a filter has left."""

import pandas as pd

from synthgain.pools.options import Pool
from synthgain.report.blocks import Block, Column, Section, Text, make_table
from synthgain.report.evidence import Evidence, ModelEvidence
from synthgain.report.failures import failed_tables
from synthgain.report.tables import ALL, STRUCTURE_PLACE, at_floor, folded, result_table
from synthgain.report.vocabulary import in_words
from synthgain.statistics.metric_registry import MACRO

SPREADS = ("5th percentile", "lower quartile", "median", "upper quartile")
TERCILES = ("smallest third", "middle third", "largest third")
MASK_SPACE = "mask"
SHAPE_COLUMNS = [
    Column("pool", "Pool"),
    Column("structure", "Structure", optional=True),
    Column("measure", "Measure"),
    Column("n", "Masks a side", "count"),
    Column("value", "Wasserstein-1 distance", "number"),
    Column(("low", "high"), "95 % interval", "interval"),
    Column("floor", "Real–real floor", "number"),
    Column("excess", "Excess", "signed"),
    Column("at", "At its floor"),
]
SHAPES = {
    "area_share": "Area (share of the image)",
    "centroid_x": "Centre, from the left (share of the width)",
    "centroid_y": "Centre, from the top (share of the height)",
    "components": "Separate pieces (number)",
    "compactness": "Compactness (1: a disc)",
}


def spread_section(model: ModelEvidence, level: str) -> Section:
    """Return quantiles over patients, Dice by size of the structure, trivial floors, images left out."""
    lead = "A mean hides failures: how scores spread over patients, and whether small structures are found."
    section = Section("spread", "Spread, small structures, floors", lead=lead)
    table, failed = model.table("spread"), failed_tables(model, "spread", "coverage", "floor")
    section.blocks += failed
    if not len(table):
        section.blocks += [] if failed else [Text("Not done.", "missing")]
        return section
    note = (
        f"Dice of patients (mean over each one's images), mean over replicates. Changes are from the baseline; the "
        f"{level} intervals resample patients for these very seeds, unadjusted."
    )
    section.blocks += _spread_tables(table, SPREADS, "Dice over patients", "spread", note)
    failures = model.table("summary")
    failures = failures[(failures["metric"] == "failure_rate") & (failures["label"] != MACRO)]
    if len(failures):
        columns = [*STRUCTURE_PLACE, Column("mean", "Share of failures", "percent")]
        columns.append(Column(("low", "high"), f"{level} interval", "interval", 3))
        table_of = result_table("Failures: Dice below 0.5", failures, columns, "failures.csv")
        section.blocks.append(folded(table_of, 0))
    terciles = "Thirds of the test images by the size of the true structure, the same images in every arm."
    section.blocks += _spread_tables(table, TERCILES, "Dice by size of the structure", "size", terciles)
    section.blocks += _floor_blocks(model)
    coverage = model.table("coverage")
    if len(coverage):
        columns = [
            Column("dataset", "Test set"),
            Column("label", "Structure", optional=True),
            Column("metric", "Metric"),
            Column("images", "Images", "count"),
            Column("empty_truth", "Without the structure", "count"),
            Column("undefined", "Without a value in some run", "count"),
            Column("used", "Used", "count"),
        ]
        note = (
            "Overlap and distances count images that hold the structure; a mask drawn where there is none is counted "
            "as 'found where absent'. An image without a value in one run is left out in all, so that arms stay paired."
        )
        section.blocks.append(folded(result_table("Images that count", coverage, columns, "coverage.csv", note), 0))
    return section


def _spread_tables(table: pd.DataFrame, names: tuple[str, ...], title: str, file: str, note: str) -> list[Block]:
    """A wide table of levels on the first test set, and all of them with their changes folded away."""
    rows = table[table["statistic"].isin(names)]
    if not len(rows):
        return []
    keys = ["arm", "ratio", "dataset", "label"]
    wide = rows.pivot_table(index=keys, columns="statistic", values="value", sort=False)[
        [name for name in names if name in set(rows["statistic"])]
    ].reset_index()
    arms = list(dict.fromkeys(rows["arm"]))  # arms with several baselines bring their ratios out of order
    wide = wide.sort_values(["arm", "ratio"], key=lambda c: c.map(arms.index) if c.name == "arm" else c)
    first = wide[wide["dataset"] == rows["dataset"].iloc[0]]
    columns = [*STRUCTURE_PLACE, *(Column(name, name.capitalize(), "number", 3) for name in names)]
    whole = [
        *STRUCTURE_PLACE,
        Column("statistic", "Statistic"),
        Column("patients", "Patients", "count"),
        Column("value", "Dice", "number"),
        Column(("low", "high"), "Interval", "interval"),
        Column("difference", "Change", "signed"),
        Column(("difference_low", "difference_high"), "Interval", "signed_interval"),
    ]
    shown = result_table(f"{title}: {first['dataset'].iloc[0]}", first, columns, f"{file}.csv", note)
    every = result_table(f"{title}: every test set, with changes", rows, whole, f"{file}_all.csv")
    return [shown, folded(every, 0)]


def _floor_blocks(model: ModelEvidence) -> list[Block]:
    floors = model.table("floor")
    if not len(floors):
        return [Text("Trivial floors: not done.", "missing")]
    shown = floors[floors["label"] != MACRO].assign(floor=floors["floor"].str.replace("_", " "))
    columns = [
        Column("dataset", "Test set"),
        Column("label", "Structure", optional=True),
        Column("floor", "Prediction"),
        Column("metric", "Metric"),
        Column("value", "Value", "number"),
    ]
    note = "All foreground: every pixel. Mean mask: the mean training mask, cut where Dice on validation is highest."
    return [folded(result_table("Trivial floors", floors, columns, "floors.csv", note, shown=shown), 0)]


def shape_blocks(evidence: Evidence) -> list[Block]:
    """Return sizes, places and outlines of the masks of every measured pool, and their floor."""
    parts = []
    for measured in evidence.fidelity:
        table = measured.table("fidelity")
        rows = table[table["space"] == MASK_SPACE] if len(table) else table
        if len(rows):
            pool = measured.pool + (f" (draw {measured.index})" if measured.index != "0" else "")
            main = measured.manifest.reference
            parts.append(rows[(rows["group"] == ALL) & rows["reference"].isin([main, ""])].assign(pool=pool))
    rows = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
    if not len(rows):
        return []
    known = rows.dropna(subset=["value", "floor"])
    noted = [f"{row['pool']}: {row['note']}." for _, row in rows.iterrows() if pd.notna(row["note"]) and row["note"]]
    noted = list(dict.fromkeys(noted))  # structures of one pool say the same
    if not len(known):
        return [Text(f"Shape of the masks: {' '.join(noted)}", "missing")]
    split = known["metric"].str.partition(":")
    near = at_floor(known)
    below = known["value"] < known["floor"]
    shown = known.assign(
        measure=split[0].map(lambda name: SHAPES.get(name, name)),
        structure=split[2],
        at=(near | below).map({True: "yes", False: "no"}),
    )
    note = (
        "Distance between the distributions of synthetic and held-out real masks, in units of the measure. Floor: real "
        f"masks against those of other patients, at the same number of masks. {' '.join(noted)}"
    ).strip()
    title = "Shape of the masks"
    file = "mask_shape.csv"
    return [make_table(title, shown, SHAPE_COLUMNS, file, note=note, download=in_words(known))]


def styling_blocks(evidence: Evidence) -> list[Block]:
    """Return how much nearer styling brought images to the look of their parents."""
    rows = []
    for place, facts in evidence.pools.items():
        name, index, *_ = place.split("/")
        found, styling = facts.styled.get("features"), evidence.study.pools[name].styling
        if found is None or styling is None or not found.images:
            continue
        row = {"pool": name, "draw": index, "strength": styling.strength, "images": found.images}
        row |= {"drawn": found.drawn / found.images, "styled": found.styled / found.images}
        rows.append(row | {"change": found.styled / found.drawn - 1 if found.drawn else 0.0})
    if not rows:
        return []
    columns = [
        Column("pool", "Pool"),
        Column("draw", "Draw", optional=True),
        Column("strength", "Strength", "percent"),
        Column("images", "Images", "count"),
        Column("drawn", "Mean distance as drawn", "number"),
        Column("styled", "After styling", "number"),
        Column("change", "Change", "percent"),
    ]
    note = (
        "Distance of an image's feature statistics to those of its parent, in the network that styles: what styling "
        "aims at, so no proof of likeness. First replica of each draw."
    )
    return [make_table("Styling", pd.DataFrame(rows), columns, "styling.csv", note=note)]


def yield_blocks(evidence: Evidence) -> list[Block]:
    """Return what filters have left of their pools, and the thinned controls."""
    rows = []
    for name, pool in evidence.study.pools.items():
        for place, facts in evidence.pools.items():
            drawn, index, *_ = place.split("/")
            if drawn != name or pool.of is None or facts.of_images is None or facts.kept is None:
                continue
            place_of = {"pool": name, "draw": index, "of": pool.of, "how": _rule(pool)}
            counts = {"whole": facts.of_images, "kept": facts.kept, "share": facts.kept / facts.of_images}
            rows.append(place_of | counts)
    if not rows:
        return []
    columns = [
        Column("pool", "Pool"),
        Column("draw", "Draw", optional=True),
        Column("of", "Made of"),
        Column("how", "How"),
        Column("whole", "Images before", "count"),
        Column("kept", "Left", "count"),
        Column("share", "Yield", "percent"),
    ]
    note = (
        "First replica of each draw. An arm on a filtered pool needs more drawn images for the same ratio: divide the "
        "cost of drawing by the yield. The thinned pool is its control: as many images, not selected."
    )
    return [make_table("Filter yield", pd.DataFrame(rows), columns, "filter_yield.csv", note=note)]


def _rule(pool: Pool) -> str:
    rule = pool.filter
    if rule is None:
        return f"thinned at random to the size of {pool.thin_to}"
    what = f"{rule.scores.replace('_', ' ')}, {rule.column.replace('_', ' ')}"
    if rule.keep == "false":
        return f"{what} not flagged"
    where = f"{rule.threshold:g}" if rule.threshold is not None else f"its quantile {rule.quantile or 0:g}"
    return f"{what} {rule.keep} {where}"
