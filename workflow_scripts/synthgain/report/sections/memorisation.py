"""The memorisation gate: what it found, the pairs to look at, membership inference, and which snapshot to use."""

from synthgain.report.blocks import Block, Column, Section, Text
from synthgain.report.evidence import Evidence, Measured
from synthgain.report.tables import folded, result_table
from synthgain.report.vocabulary import noise_level

PROVES = (
    "What this can show: that a pool copies more often than new patients resemble old ones. What it cannot: that a "
    "pool is private. It does not see a copied detail in an otherwise new image, nor what an attacker who holds the "
    "generator could extract."
)
RATE_COLUMNS = [
    Column("rule", "Rule"),
    Column("space", "Compared in"),
    Column("n", "Images", "count"),
    Column("flagged", "Flagged", "count"),
    Column("rate", "Share", "percent"),
    Column("null_n", "Held-out real", "count"),
    Column("null_rate", "Share of them", "percent"),
    Column("excess", "Excess", "percent"),
    Column(("low", "high"), "95 % interval", "percent_interval"),
]
CLUSTER_COLUMNS = [
    Column("cluster", "Cluster", "id"),
    Column("training_images", "Images its generator saw", "count"),
    Column("images", "Images drawn", "count"),
    Column("flagged", "Flagged by any rule", "count"),
    Column("copies", "Near-exact copies", "count"),
    Column("share", "Share", "percent"),
    Column("copying", "Copying"),
]
MEMBERSHIP_COLUMNS = [
    Column("noise_level", "Noise level"),
    Column("n_train", "Training images", "count"),
    Column("n_held_out", "Held-out images", "count"),
    Column("auroc", "AUROC (0.5: no leak)", "number"),
    Column(("low", "high"), "95 % interval", "interval"),
    Column("tpr_at_1_fpr", "True positives at 1 % false positives", "percent"),
    Column("leak", "Leak"),
]
SNAPSHOT_COLUMNS = [
    Column("snapshot", "Snapshot (step)", "id"),
    Column("space", "Feature space", optional=True),
    Column("n", "Images", "count"),
    Column("kid", "KID", "number"),
    Column("kid_se", "Standard error", "number"),
    Column("copies", "Near-exact copies", "count", optional=True),
    Column("copy_rate", "Near copies", "percent"),
    Column("null_rate", "Held-out real", "percent"),
    Column("excess", "Excess", "percent"),
    Column(("low", "high"), "Interval, adjusted", "percent_interval"),
    Column("choice", "Recommended"),
]


def memorisation_section(evidence: Evidence) -> Section:
    """Return the memorisation gate of every measured pool and the snapshots of every generator."""
    lead = "Whether synthetic images copy training images. These checks detect copying; they do not certify privacy."
    section = Section("memorisation", "Memorisation", lead=lead)
    for measured in evidence.memorisation:
        section.blocks += _memorisation_blocks(measured)
    if evidence.memorisation:
        section.blocks.append(Text(PROVES, "note"))
    else:
        section.blocks.append(Text("Not done: no pool was searched for copies.", "missing"))
    for model in evidence.models[:1]:
        section.blocks += model.pictures("memorisation")
    for measured in evidence.snapshots:
        section.blocks += _snapshot_blocks(measured, evidence)
    if not evidence.snapshots:
        section.blocks.append(Text("Snapshots along the generator's training: not done.", "missing"))
    return section


def _memorisation_blocks(measured: Measured) -> list[Block]:
    name = measured.name()
    file = f"{measured.pool}_{measured.index}.csv"
    blocks: list[Block] = []
    if measured.gate is not None:
        bad = measured.gate.exceeded or measured.gate.barred_sets
        blocks.append(Text(f"{name}: {measured.gate.sentence}", "warning" if bad else "plain"))
    rates = measured.table("memorisation")
    if len(rates):
        title = f"{name}: near copies of training images"
        note = "Excess: the share minus that of held-out real images under the same rule."
        blocks.append(result_table(title, rates, RATE_COLUMNS, f"memorisation_{file}", note))
    clusters = measured.table("clusters")
    if len(clusters):
        title = f"{name}: near-exact copies by cluster"
        note = "Copying: near-exact copies in pixels that held-out real images do not explain."
        strong = clusters["copying"].astype(bool)
        shown = clusters.assign(copying=strong.map({True: "yes", False: ""}))
        blocks.append(
            result_table(title, clusters, CLUSTER_COLUMNS, f"memorisation_clusters_{file}", note, strong, shown)
        )
    blocks += measured.pictures
    membership = measured.table("membership")
    if len(membership):
        title = f"{name}: membership inference"
        shown = membership.assign(noise_level=membership["noise_level"].astype(str).map(noise_level))
        note = "Is the denoising loss lower on training images than on held-out ones of other patients?"
        file = f"membership_{file}"
        blocks.append(folded(result_table(title, membership, MEMBERSHIP_COLUMNS, file, note, shown=shown)))
    return blocks


def _snapshot_blocks(measured: Measured, evidence: Evidence) -> list[Block]:
    table, name = measured.table("snapshots"), measured.name("Generator", "training")
    if not len(table):
        return [Text(f"{name}, snapshots: not done.", "missing")]
    note = (
        "The same noise for every snapshot. Recommended: the latest one within a standard error of the best KID "
        "before near copies leave their null."
    )
    shown = table.assign(choice=table["recommended"].map({True: "yes", False: ""}))
    title = f"{name}: snapshots"
    file = f"snapshots_{measured.pool}_{measured.index}.csv"
    strong = table["recommended"].astype(bool)
    snapshots = result_table(title, table, SNAPSHOT_COLUMNS, file, note, strong, shown)
    return [_recommendation(measured, evidence, name), folded(snapshots)]


def _recommendation(measured: Measured, evidence: Evidence, name: str) -> Text:
    """Which snapshot is recommended, and whether the pools use it."""
    chosen, place = measured.manifest.recommended, f"{measured.pool}/{measured.index}"
    last = evidence.generators[place].final if place in evidence.generators else None
    used = {name: pool.snapshot or last for name, pool in evidence.study.pools.items() if pool.from_ == measured.pool}
    if chosen is None:
        return Text(
            f"{name}: no snapshot is recommended, since all of them hold copies, or more near copies than their null.",
            "warning",
        )
    others = [f"{pool} (snapshot {step})" for pool, step in used.items() if str(step) != str(chosen)]
    text = f"{name}: snapshot {chosen} is recommended"
    if others:
        return Text(f"{text}; drawn from another one: {', '.join(others)}.", "note")
    return Text(f"{text}{', and it is the one that the pools use' if used else ''}.")
