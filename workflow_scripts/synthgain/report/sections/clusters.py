"""Appearance clusters: sizes, what trains together, and what each looks like."""

from synthgain.clusters.options import Clusters
from synthgain.report.blocks import Column, Details, Picture, Section, Table, Text
from synthgain.report.cluster_evidence import ClusterEvidence
from synthgain.report.evidence import Evidence
from synthgain.report.tables import result_table

COLUMNS = [
    Column("cluster", "Cluster", "id"),
    Column("images", "Images", "count"),
    Column("trained_with", "Trained with cluster", "id"),
    Column("training_images", "Images its generator sees", "count"),
    Column("mean_distance", "Mean distance to its centre", "number"),
]


def clusters_section(evidence: Evidence) -> Section | None:
    """Return the clusters of every data set that is divided; None where none is."""
    if not evidence.clusters:
        return None
    section = Section("clusters", "Appearance clusters", lead="Training images divided by what they look like.")
    for name, found in evidence.clusters.items():
        text, table, *pictures = cluster_blocks(name, found, evidence.study.clusters[name])
        section.blocks += [text, table, Details(f"What the clusters of {name} look like", pictures)]
    return section


def cluster_blocks(name: str, found: ClusterEvidence, options: Clusters) -> list[Text | Table | Picture]:
    """Return what is said of the clusters of a data set: in words, their sizes, a picture of each."""
    facts = found.facts
    text = f"Clusters {name}: {facts.images} training images of {facts.of} in {facts.k}, features {facts.space}"
    text += ", with area and centre of their masks." if options.mask == "area_position" else "."
    if facts.tiny:
        text += f" {facts.tiny} with fewer than {options.smallest} images train together with the nearest."
    smallest = int(found.sizes["training_images"].min())
    note = f"The fewest images that one generator sees: {smallest}. A generator of few images copies them."
    table = result_table(f"Clusters {name}", found.sizes, COLUMNS, f"clusters_{name}.csv", note)
    return [Text(text), table, *found.pictures]
