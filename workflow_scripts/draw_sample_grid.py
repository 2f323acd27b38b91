"""Draw a labelled grid of one snapshot's samples: a row per level of each condition, real examples to the left."""

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import torch

from synthgain.command import Job, run_script
from synthgain.device import chosen_device
from synthgain.files import atomic_path
from synthgain.generators.loading import load_generator
from synthgain.generators.training_data import TrainingData, read_training_data
from synthgain.pools.sampling import noise_of, to_uint8
from synthgain.pools.solvers import sample
from synthgain.seeds import integer_seed, random_generator

matplotlib.use("Agg")

REAL_COLUMNS = 3
AGE_CUTS = (0.25, 0.75)  # quantiles that part a continuous column in low, middle and high
MAX_ROWS = 16
CELL_INCHES = 0.8


def draw_sample_grid(job: Job) -> None:
    """Slice: generator, index, snapshot, columns (synthetic images a row), sampling, seed; inputs: generator, data."""
    entry = job.slice
    torch.set_num_threads(job.threads)
    manifest = f"generators/{entry['generator']}/{entry['index']}/manifest.json"
    generator = load_generator(job.input_folder(manifest), entry["snapshot"], chosen_device())
    folders = {
        Path(name).parent.name: (job.input_folder(name), job.input_folder(name.replace("datasets/", "splits/", 1)))
        for name in job.inputs_below("datasets/")
    }
    data = read_training_data(folders, 1.0, 1.0, entry["seed"])
    groups = condition_groups(data.table, generator.encoder.columns)[:MAX_ROWS]
    rows = [_grid_row(generator, data, group, name, entry) for name, group in groups]
    title = f"{entry['generator']} {entry['index']}, snapshot {entry['snapshot']}"
    with atomic_path(job.outputs[0]) as temporary:
        draw_grid(temporary, [name for name, _ in groups], rows, title)


def condition_groups(table: pd.DataFrame, columns: list[dict[str, Any]]) -> list[tuple[str, np.ndarray]]:
    """Return (label, row positions) of each level of each condition that some training row has."""
    groups = []
    for column in columns:
        values = table[column["name"]]
        if column["kind"] == "continuous":
            low, high = values.quantile(AGE_CUTS[0]), values.quantile(AGE_CUTS[1])
            named = [(f"≤ {low:.3g}", values <= low), (f"≥ {high:.3g}", values >= high)]
        elif column["kind"] == "category":
            named = [(f"= {level}", values.astype(str) == level) for level in column["levels"]]
        else:
            named = [(f"= {level}", values == level) for level in (1, 0)]
        groups += [(f"{column['name']} {label}", np.flatnonzero(chosen)) for label, chosen in named if chosen.any()]
    return groups or [("all", np.arange(len(table)))]


def draw_grid(path: Path, names: list[str], rows: list[tuple[np.ndarray, np.ndarray]], title: str) -> None:
    """Write a PNG: per row its name, real images (n, H, W, C), a gap, synthetic images (m, H, W, C), all uint8."""
    import matplotlib.pyplot as plt

    columns = REAL_COLUMNS + max(len(synthetic) for _, synthetic in rows)
    figure, axes = plt.subplots(
        len(rows),
        columns + 1,
        figsize=((columns + 2.2) * CELL_INCHES, len(rows) * CELL_INCHES + 0.6),
        squeeze=False,
        gridspec_kw={"width_ratios": [1] * REAL_COLUMNS + [0.25] + [1] * (columns - REAL_COLUMNS)},
        layout="constrained",
    )
    figure.get_layout_engine().set(w_pad=0.01, h_pad=0.01, wspace=0.02, hspace=0.02)  # type: ignore[union-attr]
    for axis in axes.flat:
        axis.set_axis_off()
    for line, (name, (real, synthetic)) in enumerate(zip(names, rows, strict=True)):
        first = axes[line, 0]
        first.text(-0.12, 0.5, name, transform=first.transAxes, ha="right", va="center", fontsize=9)
        for place, image in [*enumerate(real), *enumerate(synthetic, start=REAL_COLUMNS + 1)]:
            shown = image[..., 0] if image.shape[-1] != 3 else image
            axes[line, place].imshow(shown, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axes[0, 0].set_title("real", fontsize=9, loc="left")
    axes[0, REAL_COLUMNS + 1].set_title("synthetic", fontsize=9, loc="left")
    figure.suptitle(title, fontsize=10)
    figure.savefig(path, dpi=150, metadata={"Software": None})
    plt.close(figure)


def _grid_row(
    generator: Any, data: TrainingData, group: np.ndarray, name: str, entry: dict[str, Any]
) -> tuple[np.ndarray, np.ndarray]:
    """Real examples of a group, and samples drawn with the conditions of rows of that group."""
    count = int(entry["columns"])
    keys = {"study": entry["seed"], "step": "sample grid", "generator": entry["generator"], "group": name}
    chosen = random_generator(**keys).choice(group, max(count, REAL_COLUMNS), replace=True)
    distinct = random_generator(**keys).permutation(group)[:REAL_COLUMNS]
    # The same noise in every row and snapshot: what changes down a column is the condition's doing.
    seeds = [integer_seed(study=entry["seed"], step="sample grid noise", column=column) for column in range(count)]
    noise = noise_of(np.array(seeds), generator.image_shape).to(generator.device)
    with torch.inference_mode():
        condition = generator.encode_conditions(data.table.iloc[chosen[:count]])
        images = to_uint8(sample(generator, condition, noise, **entry["sampling"]))
    return np.transpose(data.images[distinct].numpy(), (0, 2, 3, 1)), images


if __name__ == "__main__":
    run_script(draw_sample_grid)
