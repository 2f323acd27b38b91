"""What was found of the appearance clusters of a data set: the report and the audit read it alike."""

from dataclasses import dataclass

import pandas as pd

from synthgain.report.blocks import Picture
from synthgain.report.embedding import png_address
from synthgain.report.facts import ClusterFacts, read_manifest_facts
from synthgain.runtime.inputs import Input


@dataclass
class ClusterEvidence:
    """Appearance clusters of a data set: their manifest, sizes.csv and a picture of each."""

    facts: ClusterFacts
    sizes: pd.DataFrame
    pictures: list[Picture]


def cluster_evidence(name: str, made: Input) -> ClusterEvidence:
    """Read what cluster_images wrote; SynthGainError names a file that is missing or of another identity."""
    facts, folder = read_manifest_facts(ClusterFacts, made.path, made.identity), made.folder()
    sizes = pd.read_csv(folder / "sizes.csv")
    pictures = []
    for number, file in enumerate(sorted(file for file in facts.files if file.endswith(".png"))):
        title = f"Clusters {name}: cluster {number}"
        pictures.append(Picture(title, "Random members; outlines: their masks.", address=png_address(folder / file)))
    return ClusterEvidence(facts, sizes, pictures)
