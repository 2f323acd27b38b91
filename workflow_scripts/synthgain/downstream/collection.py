"""Checks on prediction tables before they are joined. Imports no torch."""

from collections.abc import Mapping

import pandas as pd

from synthgain.runtime.errors import SynthGainError


def same_images(cells: Mapping[str, pd.DataFrame]) -> None:
    """Raise SynthGainError unless every (ratio, replicate) of all tables covers the same images and labels, once."""
    keys = ["dataset", "part", "image_id", "label"]
    first: tuple[str, pd.DataFrame] | None = None
    for name, table in cells.items():
        for (ratio, replicate), group in table.groupby(["ratio", "replicate"]):
            found = group[keys].sort_values(keys, ignore_index=True)
            here = f"{name} (ratio {ratio}, replicate {replicate})"
            if found.duplicated().any():
                raise SynthGainError(f"{here}: an image is predicted twice; delete it and run snakemake again")
            if first is None:
                first = (here, found)
            elif not found.equals(first[1]):
                raise SynthGainError(
                    f"{here}: {len(found)} rows, other images than {first[0]} with {len(first[1])}; "
                    "delete both and run snakemake again"
                )
