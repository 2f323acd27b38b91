"""Draw a labelled grid of one snapshot's samples: a row per level of each condition, or per prompt, real examples left.

Masks that are drawn, or conditioned on, show as contours.
"""

import re
import textwrap
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import torch

from synthgain.data.pixels import to_signed, to_uint8
from synthgain.device import chosen_device
from synthgain.entry import checked
from synthgain.generators.loading import Generator, load_generator
from synthgain.generators.training_data import MaskPlanes, TrainingData, read_training_data
from synthgain.pools.options import Sampling
from synthgain.pools.pair_decoding import decode_planes
from synthgain.pools.sampling import Sampler
from synthgain.runtime.command import Job, run_script
from synthgain.runtime.files import atomic_path
from synthgain.seeds import integer_seed, random_generator

matplotlib.use("Agg")

REAL_COLUMNS = 3
AGE_CUTS = (0.25, 0.75)  # quantiles that part a continuous column in low, middle and high
MAX_ROWS = 16
MOST_PROMPTS = 10
NAME_WIDTH = 34  # characters of a row's name before it goes on in the next line
CELL_INCHES = 0.8
CONTOUR_COLOURS = ("#00d5ff", "#ffd000", "#7cff4f", "#ff50c8")  # seen on grey films and on pink mucosa
REGION_GREY = 110  # of a structure where there are masks alone


@dataclass(frozen=True)
class Panels:
    """Pictures side by side: images (n, H, W, C) uint8, and masks (n, H, W, K) uint8 in {0, 1} drawn as contours."""

    images: np.ndarray
    masks: np.ndarray


def draw_sample_grid(job: Job) -> None:
    """Slice: generator, index, snapshot, columns (synthetic images a row), sampling, seed; inputs: generator, data."""
    entry = job.slice
    torch.set_num_threads(job.threads)
    generator = load_generator(job.inputs.generators.only.folder(), entry["snapshot"], chosen_device())
    folders = {
        str(name): (dataset.folder(), job.inputs.splits[name].folder()) for name, dataset in job.inputs.datasets.items()
    }
    planes = MaskPlanes(generator.output, tuple(generator.structures), place=f"generators.{entry['generator']}")
    data = read_training_data(folders, 1.0, 1.0, entry["seed"], planes)
    prompts = prompts_of(generator, data.table)
    groups = prompt_groups(prompts, data.table, generator.encoder.columns, entry["seed"])[:MAX_ROWS]
    sampler = Sampler(generator, checked(Sampling, entry["sampling"], "sampling", of_slice=True))
    rows = [_grid_row(sampler, data, group, name, entry) for name, group in groups]
    title = f"{entry['generator']} {entry['index']}, snapshot {entry['snapshot']}"
    legend = [f"{name} (condition)" if planes.conditioned else name for name in generator.structures]
    with atomic_path(job.outputs[0]) as temporary:
        draw_grid(temporary, [name for name, _ in groups], rows, title, legend)


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


def prompts_of(generator: Generator, table: pd.DataFrame) -> list[str] | None:
    """Return the prompts of the rows, None of a generator that is told of no text."""
    prompting = getattr(generator, "prompting", None)  # what a family without texts does not have
    return None if prompting is None else prompting.prompts_of(table)


def prompt_groups(
    prompts: list[str] | None, table: pd.DataFrame, columns: list[dict[str, Any]], seed: int
) -> list[tuple[str, np.ndarray]]:
    """Return (prompt, row positions) of `varied_prompts`, then `condition_groups`; without texts the latter alone.

    Prompts that are equally common stand in a random order, the same each time.
    """
    if prompts is None:
        return condition_groups(table, columns)
    order = random_generator(study=seed, step="sample grid prompts").permutation(len(prompts))
    counts = pd.Series(prompts).iloc[order].value_counts(sort=False).sort_values(ascending=False, kind="stable")
    said = np.array(prompts)
    groups = [(text, np.flatnonzero(said == text)) for text in varied_prompts(counts, MOST_PROMPTS)]
    return groups + (condition_groups(table, columns) if columns else [])


def varied_prompts(counts: pd.Series, most: int) -> list[str]:
    """Return the commonest prompt, then those that say most of what is not shown yet, at most so many.

    counts: images by prompt, the commonest first. Each word counts as often as it is said in all; digits do not: with
    ages in them, the commonest prompts alone would be one finding at ten ages.
    """
    words = {str(text): set(re.findall(r"[^\W\d_]+", str(text).lower())) for text in counts.index}
    said = Counter({word: 0 for found in words.values() for word in found})
    for text, count in counts.items():
        said.update(dict.fromkeys(words[str(text)], int(count)))
    chosen, seen = list[str](), set[str]()
    while words and len(chosen) < most:
        text = (
            next(iter(words)) if not chosen else max(words, key=lambda text: sum(said[w] for w in words[text] - seen))
        )
        chosen.append(text)
        seen |= words.pop(text)
    return chosen


def draw_grid(path: Path, names: list[str], rows: list[tuple[Panels, Panels]], title: str, legend: list[str]) -> None:
    """Write a PNG: per row its name, real panels, a gap, synthetic panels; legend: what each mask plane is."""
    import matplotlib.pyplot as plt

    columns = REAL_COLUMNS + max(len(synthetic.images) for _, synthetic in rows)
    figure, axes = plt.subplots(
        len(rows),
        columns + 1,
        figsize=((columns + 2.2) * CELL_INCHES, len(rows) * CELL_INCHES + (1.0 if legend else 0.6)),
        squeeze=False,
        gridspec_kw={"width_ratios": [1] * REAL_COLUMNS + [0.25] + [1] * (columns - REAL_COLUMNS)},
        layout="constrained",
    )
    figure.get_layout_engine().set(w_pad=0.01, h_pad=0.01, wspace=0.02, hspace=0.02)  # type: ignore[union-attr]
    for axis in axes.flat:
        axis.set_axis_off()
    for line, (name, (real, synthetic)) in enumerate(zip(names, rows, strict=True)):
        first, said = axes[line, 0], textwrap.fill(name, NAME_WIDTH)
        first.text(-0.12, 0.5, said, transform=first.transAxes, ha="right", va="center", fontsize=9)
        for panels, start in ((real, 0), (synthetic, REAL_COLUMNS + 1)):
            for place, (image, masks) in enumerate(zip(panels.images, panels.masks, strict=True), start):
                _draw_panel(axes[line, place], image, masks)
    axes[0, 0].set_title("real", fontsize=9, loc="left")
    axes[0, REAL_COLUMNS + 1].set_title("synthetic", fontsize=9, loc="left")
    figure.suptitle(title, fontsize=10)
    if legend:
        lines = [matplotlib.lines.Line2D([], [], color=_colour(plane)) for plane in range(len(legend))]
        figure.legend(lines, legend, loc="outside lower center", ncols=len(legend), fontsize=8, facecolor="0.45",
                      labelcolor="white", borderaxespad=0)  # fmt: skip
    figure.savefig(path, dpi=150, metadata={"Software": None})
    plt.close(figure)


def _draw_panel(axis: Any, image: np.ndarray, masks: np.ndarray) -> None:
    shown = image[..., 0] if image.shape[-1] != 3 else image
    axis.imshow(shown, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    for plane in range(masks.shape[-1]):
        mask = masks[..., plane]
        if mask.any():
            # A border of background closes the contour of a structure that touches the frame.
            edge = np.arange(-1, len(mask) + 1)
            axis.contour(edge, edge, np.pad(mask, 1), levels=[0.5], colors=[_colour(plane)], linewidths=0.9)
    axis.set_xlim(-0.5, image.shape[1] - 0.5)
    axis.set_ylim(image.shape[0] - 0.5, -0.5)


def _colour(plane: int) -> str:
    return CONTOUR_COLOURS[plane % len(CONTOUR_COLOURS)]


def _grid_row(
    sampler: Sampler, data: TrainingData, group: np.ndarray, name: str, entry: dict[str, Any]
) -> tuple[Panels, Panels]:
    """Real examples of a group, and samples drawn with the conditions of rows of that group."""
    generator, count = sampler.generator, int(entry["columns"])
    keys = {"study": entry["seed"], "step": "sample grid", "generator": entry["generator"], "group": name}
    chosen = random_generator(**keys).choice(group, max(count, REAL_COLUMNS), replace=True)[:count]
    distinct = random_generator(**keys).permutation(group)[:REAL_COLUMNS]
    # The same noise in every row and snapshot: what changes down a column is the condition's doing.
    seeds = [integer_seed(study=entry["seed"], step="sample grid noise", column=column) for column in range(count)]
    given = {} if data.masks is None else {"masks": to_signed(data.masks[chosen])}
    drawn = sampler.draw(np.array(seeds), lambda: generator.encode_conditions(data.table.iloc[chosen], **given))
    real, synthetic = np.transpose(data.images[distinct].numpy(), (0, 2, 3, 1)), to_uint8(drawn)
    if data.masks is not None:  # behind the images, as where they are drawn
        masks = np.transpose(data.masks.numpy(), (0, 2, 3, 1))
        real = np.concatenate([real, masks[distinct]], axis=-1)
        synthetic = np.concatenate([synthetic, masks[chosen]], axis=-1)
    channels = generator.image_channels
    return _panels(real, channels, clean=False), _panels(synthetic, channels, clean=data.masks is None)


def _panels(planes: np.ndarray, image_channels: int, clean: bool) -> Panels:
    """Panels of planes (n, H, W, C + K) uint8; `clean` decodes drawn masks as pools do. Masks alone: on black."""
    images, rest = planes[..., :image_channels], planes[..., image_channels:]
    masks = decode_planes(rest) if clean else (rest > 0).astype(np.uint8)
    if image_channels == 0:
        images = masks.any(axis=-1, keepdims=True) * np.uint8(REGION_GREY)
    return Panels(images, masks)


if __name__ == "__main__":
    run_script(draw_sample_grid)
