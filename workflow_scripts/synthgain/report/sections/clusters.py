"""Appearance clusters: sizes, what trains together, and what each looks like."""

from synthgain.report.blocks import Block, Column, Details, Section, Text
from synthgain.report.evidence import ClusterEvidence, Evidence
from synthgain.report.tables import result_table

COLUMNS = [
    Column("cluster", "Cluster"),
    Column("images", "Images", "count"),
    Column("trained_with", "Trained with cluster"),
    Column("training_images", "Images its generator sees", "count"),
    Column("mean_distance", "Mean distance to its centre", "number"),
]


def clusters_section(evidence: Evidence) -> Section | None:
    """Return the clusters of every data set that is divided; None where none is."""
    if not evidence.clusters:
        return None
    section = Section("clusters", "Appearance clusters", lead="Training images divided by what they look like.")
    for name, found in evidence.clusters.items():
        section.blocks += _blocks(evidence, name, found)
    return section


def _blocks(evidence: Evidence, name: str, found: ClusterEvidence) -> list[Block]:
    facts, options = found.facts, evidence.study.clusters[name]
    text = f"Clusters {name}: {facts.images} training images of {facts.of} in {facts.k}, features {facts.space}"
    text += ", with area and centre of their masks." if options.mask == "area_position" else "."
    if facts.tiny:
        text += f" {facts.tiny} with fewer than {options.smallest} images train together with the nearest."
    smallest = int(found.sizes["training_images"].min())
    note = f"The fewest images that one generator sees: {smallest}. A generator of few images copies them."
    table = result_table(f"Clusters {name}", found.sizes, COLUMNS, f"clusters_{name}.csv", note)
    return [Text(text), table, Details(f"What the clusters of {name} look like", list(found.pictures))]
