"""The masks that condition a pool's images: the training rows' own, these transformed, or drawn by a generator."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from synthgain.data.image_set import ImageSet
from synthgain.data.order import joint_levels, training_order
from synthgain.data.pixels import to_uint8
from synthgain.device import chosen_device
from synthgain.generators.loading import load_generator
from synthgain.pools.counts import Counts
from synthgain.pools.mask_transforms import transformed
from synthgain.pools.options import MaskTransform, PlannedMasks, Sampling
from synthgain.pools.pair_decoding import decode_planes
from synthgain.pools.sampling import Sampler
from synthgain.pools.shards import ShardRequest, positions_of
from synthgain.runtime.errors import SynthGainError
from synthgain.seeds import integer_seed, random_generator


@dataclass(frozen=True)
class ConditionMasks:
    """Condition masks of some rows of a replica.

    planes: row positions of the replica (n,) → masks (n, H, W, K) uint8 in {0, 1}; the same for the same row,
    whatever the other rows are. columns: one value a row, in the order of the rows asked for. counts: rows in
    {what: {of which: rows}}, for the manifest.
    """

    planes: Callable[[np.ndarray], np.ndarray]
    columns: dict[str, np.ndarray]
    counts: Counts = field(default_factory=dict)


def condition_masks(
    request: ShardRequest,
    structures: Sequence[str],
    rows: pd.DataFrame,
    seeds: np.ndarray,
    bounds: tuple[int, int],
    sampling: Sampling,
) -> ConditionMasks:
    """Return the condition masks of rows bounds[0] … bounds[1] - 1 of a replica as `request.masks` says.

    rows, seeds: those of the whole replica; structures: the generator's planes, in its order; sampling: the pool's.
    Everything depends on the row's seed only, so that no shard moves a mask.
    Raises SynthGainError for data without these masks.
    """
    wanted = request.masks or PlannedMasks()
    if wanted.generator is not None:
        return _generated(request, wanted.generator, structures, rows, seeds, bounds, sampling)
    inside = slice(*bounds)
    own, borrowed = lenders(request, rows.iloc[inside], seeds[inside], structures)
    image_set, _ = request.rows_of()
    found = image_set.planes(structures)[positions_of(image_set, own)]
    columns: dict[str, np.ndarray] = {"mask_parent_id": own.to_numpy(dtype=object)}
    counts: Counts = {"borrowed": {"rows": int(borrowed.sum())}}
    if wanted.source == "transformed":
        limits = wanted.transform or MaskTransform()
        found, columns["mask_transform"], counts["transform"] = _transformed(found, limits, seeds[inside])
    return ConditionMasks(lambda positions: found[positions - bounds[0]], columns, counts)


def lenders(
    request: ShardRequest, rows: pd.DataFrame, seeds: np.ndarray, structures: Sequence[str], filled: bool = False
) -> tuple[pd.Series, np.ndarray]:
    """Return whose masks each row takes: image_id per row, and which rows (n,) bool had to take another's.

    A row that has masks of all `structures` (with `filled`: not empty ones) takes its own. Any other takes those of
    a training row that has, at random by its own seed: of the same targets where there is one, and of a patient not
    after its own in the data set's order where there is one, so that an arm on the first patients alone (a
    `real_fraction`) borrows from them alone. Raises SynthGainError where no training row has them.
    """
    image_set, training = request.rows_of()
    usable = _usable(request, image_set, training, structures, filled)
    able = set(training.loc[usable, "image_id"].astype(str))
    ids = rows["image_id"].astype(str).to_numpy(dtype=object, copy=True)
    borrows = np.array([name not in able for name in ids], dtype=bool)
    targets = [name for name, spec in image_set.columns.items() if spec["role"] == "target"]
    candidates, wanted = _target_keys(training[usable], targets), _target_keys(rows, targets)
    everyone = training.loc[usable, "image_id"].astype(str).to_numpy()
    ranks = _patient_ranks(request, image_set, training) if borrows.any() else pd.Series(dtype=np.int64)
    for place in np.flatnonzero(borrows):
        alike = candidates == wanted[place]
        before = ranks.loc[everyone].to_numpy() <= ranks.loc[ids[place]]
        choices = next(everyone[kind] for kind in (alike & before, alike, before, np.ones_like(alike)) if kind.any())
        ids[place] = choices[random_generator(step="mask lender", seed=int(seeds[place])).integers(len(choices))]
    return pd.Series(ids, dtype="str"), borrows


def _patient_ranks(request: ShardRequest, image_set: ImageSet, training: pd.DataFrame) -> pd.Series:
    """Return image_id → place of its patient in the order by which real fractions are cut."""
    order = training_order(training, image_set.columns, request.keys.study, request.dataset or "")
    patients = training["patient_id"].astype(str)
    place = {patient: number for number, patient in enumerate(pd.unique(patients.iloc[order]))}
    return pd.Series(patients.map(place).to_numpy(), index=training["image_id"].astype(str))


def check_structures(request: ShardRequest, structures: Sequence[str]) -> None:
    """Raise SynthGainError where the data set of the rows lacks one of these masks."""
    image_set, _ = request.rows_of()
    for name in structures:
        if image_set.masks is None or name not in image_set.mask_names:
            known = ", ".join(image_set.mask_names) or "none"
            where = f"pools.{request.keys.pool}"
            raise SynthGainError(f"{where}: {request.dataset} has no masks of {name!r}; it has {known}; change rows_of")


def _usable(
    request: ShardRequest, image_set: ImageSet, training: pd.DataFrame, structures: Sequence[str], filled: bool
) -> np.ndarray:
    check_structures(request, structures)
    usable = np.asarray(training[[f"has_mask_{name}" for name in structures]].to_numpy(dtype=bool).all(axis=1))
    if filled:
        positions = positions_of(image_set, training["image_id"])
        for place in np.flatnonzero(usable):  # one by one: a data set's masks may not fit in memory
            usable[place] = image_set.planes(structures)[positions[[place]]].any(axis=(1, 2)).all()
    if not usable.any():
        what = " and ".join(structures)
        raise SynthGainError(
            f"pools.{request.keys.pool}: no training row of {request.dataset} has a mask of {what}; change structures"
        )
    return usable


def _target_keys(rows: pd.DataFrame, targets: list[str]) -> np.ndarray:
    return joint_levels(rows, targets).to_numpy(dtype=str)


def _transformed(
    planes: np.ndarray, limits: MaskTransform, seeds: np.ndarray
) -> tuple[np.ndarray, np.ndarray, dict[str, int]]:
    """Return the transformed planes, per row its transform as JSON text (None: as it was), and counts of rows."""
    moved, texts = np.empty_like(planes), np.full(len(planes), None, dtype=object)
    counts = {"moved": 0, "empty": 0, "given up": 0, "draws refused": 0}
    for row, seed in enumerate(seeds):
        random = random_generator(step="mask transform", seed=int(seed))
        moved[row], transform, refused = transformed(planes[row], limits, random)
        counts["draws refused"] += refused
        if transform is not None:
            texts[row] = json.dumps(transform.described())
        counts["moved" if transform is not None else "given up" if refused else "empty"] += 1
    return moved, texts, counts


def _generated(
    request: ShardRequest,
    key: tuple[str, int],
    structures: Sequence[str],
    rows: pd.DataFrame,
    seeds: np.ndarray,
    bounds: tuple[int, int],
    sampling: Sampling,
) -> ConditionMasks:
    """Masks that a mask generator draws for the rows' conditions, each from a seed derived of the row's own."""
    generator = load_generator(request.inputs.mask_generators[key].folder(), None, chosen_device())
    missing = [name for name in structures if name not in generator.structures]
    size = request.image["size"]
    if generator.output != "mask" or missing or tuple(generator.image_shape[1:]) != (size, size):
        raise SynthGainError(
            f"pools.{request.keys.pool}.masks.from: {key[0]} draws {generator.output} of "
            f"{', '.join(generator.structures) or 'nothing'} at {generator.image_shape[1:]}; the images' generator "
            f"needs {', '.join(structures)} at {size} px"
        )
    columns = [generator.structures.index(name) for name in structures]
    sampler = Sampler(generator, sampling.model_copy(update={"guidance_scale": 1.0, "guidance_interval": None}))
    own_seeds = np.array([integer_seed(step="mask noise", seed=int(seed)) for seed in seeds], dtype=np.int64)

    def planes(positions: np.ndarray) -> np.ndarray:
        drawn = sampler.draw(own_seeds[positions], lambda: generator.encode_conditions(rows.iloc[positions]))
        return decode_planes(to_uint8(drawn))[..., columns]

    return ConditionMasks(planes, {"mask_parent_id": np.full(bounds[1] - bounds[0], None, dtype=object)})
