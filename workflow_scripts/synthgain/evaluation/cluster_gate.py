"""The memorisation gate cluster by cluster: a generator of three images copies, which the whole pool's rate hides."""

import numpy as np
import pandas as pd

from synthgain.data.clusters import ClusterTable
from synthgain.evaluation.matched_rates import Flagged
from synthgain.evaluation.memorisation import PIXELS, Pair, count_copies

COLUMNS = ("cluster", "training_images", "images", "flagged", "copies", "share", "copying")


def by_cluster(
    clusters: ClusterTable, numbers: np.ndarray, flagged: np.ndarray, near: Pair, rng: np.random.Generator
) -> pd.DataFrame:
    """Return a row per cluster with images in the pool: COLUMNS.

    numbers (n,): the cluster whose generator drew each image; flagged (n,) bool: by any rule; near: near-exact copies
    in pixels of the pool and of held-out real images. training_images: those that the cluster's generator saw; copies:
    near-exact ones; copying: they decide alone, as those of a whole pool do (Bonferroni over the clusters).
    """
    ours, real = near
    present, rows = np.unique(numbers), []
    for number in present:
        inside = numbers == number
        part = Flagged(ours.flags[inside], ours.patients[inside], ours.kinds[inside])
        copies = count_copies(PIXELS, part, real, len(present), rng)
        found = {
            "cluster": int(number),
            "training_images": len(clusters.trained_on(int(number))),
            "images": int(inside.sum()),
            "flagged": int(flagged[inside].sum()),
            "copies": copies.found,
            "share": copies.found / int(inside.sum()),
            "copying": copies.certain,
        }
        rows.append(found)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def cluster_sentence(table: pd.DataFrame) -> str:
    """Return what the gate says of the clusters, worst first."""
    bad = table[table["copying"]].sort_values(["share", "training_images"], ascending=[False, True])
    if not len(bad):
        return f"By cluster: in none of {len(table)} near-exact copies decide."
    listed = [
        f"cluster {row.cluster} ({row.copies} of {row.images} images; its generator saw {row.training_images})"
        for row in bad.head(3).itertuples()
    ]
    more = f" and {len(bad) - 3} more" if len(bad) > 3 else ""
    return f"By cluster: near-exact copies in {len(bad)} of {len(table)}: {', '.join(listed)}{more}."
