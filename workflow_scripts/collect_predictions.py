"""Put the predictions of one model and arm, all ratios and replicates, into one table."""

import pandas as pd

from synthgain.downstream.collection import same_images
from synthgain.runtime.command import Job, run_script
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import read_table, write_table


def collect_predictions(job: Job) -> None:
    """Concatenate the cells after checking ratios and that all predict the same images."""
    cells: dict[str, pd.DataFrame] = {}
    for cell in job.slice["cells"]:
        table = read_table(job.run / cell["path"], job.inputs[cell["path"]])
        if set(table["ratio"]) != {cell["ratio"]}:
            raise SynthGainError(f"{job.run / cell['path']}: ratios {sorted(set(table['ratio']))}, not {cell['ratio']}")
        cells[cell["path"]] = table
    same_images(cells)
    write_table(job.outputs[0], pd.concat(cells.values(), ignore_index=True), job.identity)


if __name__ == "__main__":
    run_script(collect_predictions)
