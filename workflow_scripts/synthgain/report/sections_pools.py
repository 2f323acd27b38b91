"""Sections on the pools: fidelity beside its floors, memorisation with picture pairs."""

from typing import Any

from synthgain.report.blocks import Column, Details, Facts, Section, Text, make_table, plain_table
from synthgain.report.evidence import Evidence, Measured
from synthgain.report.sections_further import folded

HEADLINE = ("kid", "fd", "fid", "precision", "recall", "coverage", "vendi", "ms_ssim")
FIDELITY_COLUMNS = [
    Column("space", "Feature space"),
    Column("reference", "Against"),
    Column("group", "Group", optional=True),
    Column("metric", "Measure"),
    Column("n", "Images a side", "count"),
    Column("value", "Synthetic–real", "number", 4),
    Column(("low", "high"), "95 % interval", "interval", 4),
    Column("floor", "Real–real floor", "number", 4),
    Column("floor_sd", "SD of the floor", "number", 4),
    Column("excess", "Excess", "signed", 4),
    Column("p", "p", "p"),
    Column("note", "Note"),
]
RATE_COLUMNS = [
    Column("space", "Compared in"),
    Column("rule", "Rule"),
    Column("n", "Images", "count"),
    Column("flagged", "Flagged", "count"),
    Column("rate", "Share", "percent"),
    Column("null_rate", "Held-out real", "percent"),
    Column("excess", "Excess", "percent"),
    Column(("low", "high"), "95 % interval", "signed_interval"),
    Column("note", "Note"),
]


def fidelity_section(evidence: Evidence) -> Section:
    """Return distances and diversity of every measured pool."""
    lead = "Distances mean something only beside the floor: real against real, at the same number of images."
    section = Section("fidelity", "Fidelity and diversity", lead=lead)
    for measured in evidence.fidelity:
        section.blocks += _fidelity_blocks(measured)
    if not evidence.fidelity:
        section.blocks.append(Text("Not done.", "missing"))
    return section


def _fidelity_blocks(measured: Measured) -> list[Any]:
    table = measured.tables.get("fidelity")
    name = f"{measured.pool}, draw {measured.index}"
    if table is None:
        return [Text(f"{name}: not done.", "missing")]
    main = table[(table["group"] == "all") & table["metric"].isin(HEADLINE)]
    file = f"fidelity_{measured.pool}_{measured.index}.csv"
    rest = make_table(f"{name}: everything", table, FIDELITY_COLUMNS, file)
    spaces = [
        (str(space["name"]), f"{space['label']}, {space['dimensions']} dimensions, weights {space['weights_sha256']}")
        for space in measured.manifest.get("spaces") or []
    ]
    return [
        make_table(f"{name}: all images", main, FIDELITY_COLUMNS, f"headline_{file}"),
        Details("Everything, per group too", [rest, *([Facts(spaces)] if spaces else [])]),
    ]


def memorisation_section(evidence: Evidence) -> Section:
    """Return the memorisation gate of every measured pool."""
    lead = "Whether synthetic images copy training images. These checks detect copying; they do not certify privacy."
    section = Section("memorisation", "Memorisation", lead=lead)
    for measured in evidence.memorisation:
        section.blocks += _memorisation_blocks(measured)
    if not evidence.memorisation:
        section.blocks.append(Text("Not done.", "missing"))
    return section


def _memorisation_blocks(measured: Measured) -> list[Any]:
    name = f"{measured.pool}, draw {measured.index}"
    blocks: list[Any] = []
    if measured.gate:
        tone = "warning" if measured.gate.get("exceeded") else "plain"
        blocks.append(Text(f"{name}. {measured.gate['sentence']}", tone))
    rates = measured.tables.get("memorisation")
    if rates is not None:
        file = f"memorisation_{measured.pool}_{measured.index}.csv"
        blocks.append(make_table(f"{name}: near copies", rates, RATE_COLUMNS, file))
    blocks += measured.pictures
    membership = measured.tables.get("membership")
    if membership is not None:
        title = f"{name}: membership inference on the denoising loss"
        blocks.append(folded(title, plain_table(title, membership, f"membership_{measured.pool}_{measured.index}.csv")))
    return blocks
