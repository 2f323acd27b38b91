"""What only segmentation has: spread of the scores, agreement and shape of masks, what a filter has left."""

import pandas as pd

from synthgain.pools.options import Pool
from synthgain.report.blocks import Block, Column, Details, Section, Text, make_table, number
from synthgain.report.evidence import Evidence, Measured, ModelEvidence
from synthgain.report.failures import failed_tables
from synthgain.report.vocabulary import in_words

PLACE = [Column("arm", "Arm"), Column("ratio", "Ratio %", "ratio"), Column("dataset", "Test set", optional=True)]
PLACE += [Column("label", "Structure", optional=True)]
SPREADS = ("5th percentile", "lower quartile", "median", "upper quartile")
TERCILES = ("smallest third", "middle third", "largest third")
EVERYONE, MASK_SPACE = "all", "mask"
FLOOR_SDS = 2.0  # as for images: within so many SDs of the real-versus-real splits a value is at the floor
AGREEMENT_COLUMNS = [
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
]
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
    failures = failures[(failures["metric"] == "failure_rate") & (failures["label"] != "macro")]
    if len(failures):
        columns = [*PLACE, Column("mean", "Share of failures", "percent")]
        columns.append(Column(("low", "high"), f"{level} interval", "interval", 3))
        shown = make_table("Failures: Dice below 0.5", failures, columns, "failures.csv")
        section.blocks.append(Details("Failures: Dice below 0.5", [shown]))
    terciles = "Thirds of the test images by the size of the true structure, the same images in every arm."
    section.blocks += _spread_tables(table, TERCILES, "Dice by size of the structure", "size", terciles)
    section.blocks += _floor_blocks(model)
    coverage = model.table("coverage")
    if len(coverage):
        columns = [
            Column("dataset", "Test set"),
            Column("label", "Structure", optional=True),
            Column("metric", "Metric", "metric"),
            Column("images", "Images", "count"),
            Column("empty_truth", "Without the structure", "count"),
            Column("undefined", "Without a value in some run", "count"),
            Column("used", "Used", "count"),
        ]
        note = (
            "Overlap and distances count images that hold the structure; a mask drawn where there is none is counted "
            "as 'found where absent'. An image without a value in one run is left out in all, so that arms stay paired."
        )
        title = "Images that count"
        section.blocks.append(Details(title, [make_table(title, coverage, columns, "coverage.csv", note=note)]))
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
    columns = [*PLACE, *(Column(name, name.capitalize(), "number", 3) for name in names)]
    whole = [
        *PLACE,
        Column("statistic", "Statistic"),
        Column("patients", "Patients", "count"),
        Column("value", "Dice", "number"),
        Column(("low", "high"), "Interval", "interval"),
        Column("difference", "Change", "signed"),
        Column(("difference_low", "difference_high"), "Interval", "signed_interval"),
    ]
    shown = make_table(f"{title}: {first['dataset'].iloc[0]}", first, columns, f"{file}.csv", note=note)
    every = f"{title}: every test set, with changes"
    return [shown, Details(every, [make_table(every, rows, whole, f"{file}_all.csv")])]


def _floor_blocks(model: ModelEvidence) -> list[Block]:
    floors = model.table("floor")
    if not len(floors):
        return [Text("Trivial floors: not done.", "missing")]
    shown = floors[floors["label"] != "macro"].assign(floor=floors["floor"].str.replace("_", " "))
    columns = [
        Column("dataset", "Test set"),
        Column("label", "Structure", optional=True),
        Column("floor", "Prediction"),
        Column("metric", "Metric", "metric"),
        Column("value", "Value", "number"),
    ]
    note = "All foreground: every pixel. Mean mask: the mean training mask, cut where Dice on validation is highest."
    title = "Trivial floors"
    return [Details(title, [make_table(title, shown, columns, "floors.csv", note=note, download=floors)])]


def agreement_blocks(measured: Measured, name: str) -> list[Block]:
    """Return what the real-only segmenter makes of a pool's pairs."""
    table = measured.tables["mask_agreement"]
    texts = []
    for _, row in table[table["group"] == EVERYONE].dropna(subset=["mean", "real_mean"]).iterrows():
        clear = row["low"] > row["real_high"] or row["high"] < row["real_low"]
        side = (
            ("easier than real ones" if row["difference"] > 0 else "masks follow the object less") if clear else "alike"
        )
        texts.append(
            f"{row['structure']}: Dice {number(row['mean'], 3)} on synthetic, {number(row['real_mean'], 3)} on real "
            f"({side}); {number(100 * row['below_half'], 1)} % below 0.5"
        )
    note = (
        "Dice between a pair's own mask and the prediction of the real-only model, beside real validation images that "
        "it did not train on. Below 0.5: a bad pair. Empty masks are counted, not scored."
    )
    title = f"{name}: do the masks hold?"
    file = f"mask_agreement_{measured.pool}_{measured.index}.csv"
    notes = "; ".join(dict.fromkeys(str(text) for text in table["note"].dropna() if str(text)))
    shown = make_table(title, table, AGREEMENT_COLUMNS, file, note=f"{note} {notes}".strip())
    return [*([Text(f"Masks of {name.lower()}: {'; '.join(texts)}.")] if texts else []), shown]


def shape_blocks(evidence: Evidence) -> list[Block]:
    """Return sizes, places and outlines of the masks of every measured pool beside their floor."""
    parts = []
    for measured in evidence.fidelity:
        table = measured.table("fidelity")
        rows = table[table["space"] == MASK_SPACE] if len(table) else table
        if len(rows):
            pool = measured.pool + (f" (draw {measured.index})" if measured.index != "0" else "")
            main = measured.manifest.reference
            parts.append(rows[(rows["group"] == EVERYONE) & rows["reference"].isin([main, ""])].assign(pool=pool))
    rows = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
    if not len(rows):
        return []
    known = rows.dropna(subset=["value", "floor"])
    noted = [f"{row['pool']}: {row['note']}." for _, row in rows.iterrows() if pd.notna(row["note"]) and row["note"]]
    noted = list(dict.fromkeys(noted))  # structures of one pool say the same
    if not len(known):
        return [Text(f"Shape of the masks: {' '.join(noted)}", "missing")]
    split = known["metric"].str.partition(":")
    near = (known["value"] - known["floor"]).abs() <= FLOOR_SDS * known["floor_sd"]
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


def yield_blocks(evidence: Evidence) -> list[Block]:
    """Return what filters have left of their pools, beside the thinned controls."""
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
