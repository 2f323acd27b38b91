"""Put the predictions of one model and arm, all ratios and replicates, into one table."""

from collections.abc import Mapping

import pandas as pd

from synthgain.runtime.command import Job, run_script
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import read_table, write_table


def collect_predictions(job: Job) -> None:
    """Concatenate the cells after checking ratios and that all predict the same images."""
    cells: dict[str, pd.DataFrame] = {}
    for (_, _, ratio, _), cell in job.inputs.predictions.keyed():
        table = read_table(cell.path, cell.identity)
        if set(table["ratio"]) != {ratio}:
            raise SynthGainError(f"{cell.path}: ratios {sorted(set(table['ratio']))}, not {ratio}")
        cells[cell.name] = table
    same_images(cells)
    write_table(job.outputs[0], pd.concat(cells.values(), ignore_index=True), job.identity)


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


if __name__ == "__main__":
    run_script(collect_predictions)
