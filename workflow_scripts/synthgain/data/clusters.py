"""Reads which appearance cluster each training image is in: what generators, pools and the gate share."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import check_file, read_manifest, read_table

CLUSTER_FILE = "clusters.parquet"


@dataclass(frozen=True)
class ClusterTable:
    """Clusters of a data set's training images.

    table: image_id, cluster (0 is the largest), trained_with: the images whose number here is the same train one
    generator; it is the cluster's own number but where a tiny cluster was merged.
    """

    name: str
    table: pd.DataFrame

    def trained_on(self, cluster: int) -> frozenset[str]:
        """Return the images that the generator of a cluster trains on; SynthGainError where there is no such."""
        own = self.table.loc[self.table["cluster"] == cluster, "trained_with"]
        if not len(own):
            most = int(self.table["cluster"].max())
            raise SynthGainError(f"clusters.{self.name}: there is no cluster {cluster}; they are 0 to {most}")
        together = self.table["trained_with"] == own.iloc[0]
        return frozenset(self.table.loc[together, "image_id"])

    def numbers(self, image_ids: pd.Series) -> np.ndarray:
        """Return the cluster (n,) int64 of each image; SynthGainError names one that is in none."""
        known = self.table.set_index("image_id")["cluster"]
        found = image_ids.astype(str).map(known)
        if found.isna().any():
            lost = str(image_ids[found.isna()].iloc[0])
            raise SynthGainError(f"clusters.{self.name}: image {lost!r} is in no cluster; it is no training image")
        return found.to_numpy(dtype=np.int64)


def read_clusters(folder: Path, name: str) -> ClusterTable:
    """Return the clusters in `folder`; SynthGainError where the file is damaged."""
    manifest = read_manifest(folder / "manifest.json")
    path = check_file(folder, CLUSTER_FILE, manifest["files"][CLUSTER_FILE])
    return ClusterTable(name, read_table(path, manifest["identity"]))
