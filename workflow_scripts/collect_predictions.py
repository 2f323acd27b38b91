"""Put the predictions of one model and arm, all ratios and replicates, into one table."""

import pandas as pd

from synthgain.downstream.collection import same_images
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


if __name__ == "__main__":
    run_script(collect_predictions)
