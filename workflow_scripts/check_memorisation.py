"""Looks for copies of training images in a pool, and for what its generator gives away about them."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch

from synthgain.data.clusters import ClusterTable, read_clusters
from synthgain.device import chosen_device
from synthgain.evaluation import cluster_gate, membership, memorisation
from synthgain.evaluation.candidates import draw_pairs_picture
from synthgain.evaluation.features import cached_features, open_extractor
from synthgain.evaluation.inputs import Images, kinds, masks_of_rows, parents, read_pool, read_real, strata
from synthgain.evaluation.nearest import FeatureSpace, Neighbours, PixelSpace
from synthgain.evaluation.resampling import rate_interval
from synthgain.generators.loading import load_generator
from synthgain.generators.training_data import INSIDE
from synthgain.runtime.command import Job, Progress, run_script
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import write_json, write_manifest, write_table, write_text
from synthgain.seeds import random_generator

FILES = ["candidates.png", "gate.json", "membership.csv", "memorisation.csv", "scores.parquet"]
CLUSTERS = "clusters.csv"


def check_memorisation(job: Job) -> None:
    """Write memorisation/<pool>/<index>/: the FILES above and manifest.json."""
    torch.set_num_threads(job.threads)
    settings, folder = job.slice, job.outputs[0].parent
    real = read_real(job, settings["train_on"])
    parts = {part: real.subset(real.rows_of(part)) for part in ("train", "validation", "test")}
    _require(parts, settings)
    pool = read_pool(job, settings["pool"], settings["index"], real.columns)
    progress = Progress(f"memorisation of {settings['pool']}", 3)
    compared, through = parts, _reconstructions(job, parts) if "autoencoder" in settings else None
    if through is not None:  # what is held against the pool has lost the same: else blur alone looks like copying
        compared = through | {"train": parts["train"]}
    scores, rates, near, found = _search_pixels(pool, compared)
    nearest = {memorisation.PIXELS: found}
    if through is not None:
        more, other, again, found = _search_reconstructions(pool, through)
        scores, rates, near = pd.concat([scores, more], axis=1), rates + other, memorisation.either(near, again)
        nearest[memorisation.RECONSTRUCTIONS] = found
    pairs = {memorisation.PIXELS: near}
    progress.advance(note="pixels")
    if settings.get("space"):
        more, other, near = _search_features(job, pool, through or parts)
        scores, rates = pd.concat([scores, more], axis=1), rates + other
        pairs[settings["space"]["name"]] = near
    progress.advance(note="features")
    scores["flagged"] = scores.filter(like="flagged_").any(axis=1)
    keys = {"study": settings["seed"], "step": "memorisation", "pool": settings["pool"]}
    rng = random_generator(**keys)
    rows = [rate.row(len(rates), rng) for rate in rates] + _parent_row(scores, pool, parts["train"])
    judged = [row for row in rows if row["rule"] != "nearest is parent"]
    chance, tests = random_generator(**keys, of="copies"), len(rates) + len(pairs)
    same = _identical(pool, parts)
    copies = [
        memorisation.count_copies(space, *sides, tests, chance, same if space == memorisation.PIXELS else 0)
        for space, sides in pairs.items()
    ]
    leaks = _membership(job, parts)
    progress.advance(note="membership")
    gate = memorisation.judge(judged, settings["limit"], _barred(job, pool), copies)
    by_cluster = _by_cluster(job, pool, scores, pairs[memorisation.PIXELS])
    if by_cluster is not None:
        gate["exceeded"] = bool(gate["exceeded"] or by_cluster["copying"].any())
        gate["sentence"] = f"{gate['sentence']} {cluster_gate.cluster_sentence(by_cluster)}"
        write_text(folder / CLUSTERS, by_cluster.to_csv(index=False))
    gate["membership"] = {name: _plain(leaks[-1][name]) for name in ("auroc", "low", "high", "tpr_at_1_fpr", "leak")}
    gate["membership"]["note"] = leaks[-1]["note"]
    write_json(folder / "gate.json", gate)
    table = pd.DataFrame(rows, columns=list(memorisation.COLUMNS))
    write_text(folder / "memorisation.csv", table.to_csv(index=False))
    write_text(folder / "membership.csv", pd.DataFrame(leaks, columns=list(membership.COLUMNS)).to_csv(index=False))
    write_table(folder / "scores.parquet", scores, job.identity)
    _draw_candidates(job, pool, parts["train"], scores, nearest)
    facts = {"source": "memorisation", **{name: settings[name] for name in ("pool", "index")}}
    files = FILES if by_cluster is None else sorted([*FILES, CLUSTERS])
    write_manifest(job.outputs[0], job.identity, files, **facts, images=len(pool), exceeded=gate["exceeded"])


def _require(parts: Mapping[str, Images], settings: Mapping[str, Any]) -> None:
    for part, images in parts.items():
        if not len(images):
            raise SynthGainError(
                f"memorisation of {settings['pool']}: no {part} image in {', '.join(settings['train_on'])}; "
                "the check needs train, validation and test parts: give the data set a split"
            )


def _search_pixels(
    pool: Images, parts: Mapping[str, Images]
) -> tuple[pd.DataFrame, list[memorisation.Rates], memorisation.Pair, Neighbours]:
    train = parts["train"]
    space, found, sides = _pixel_sides(pool, parts)
    rules = memorisation.pixel_rules(*sides)
    same = [_same_file(images, train) for images in (pool, parts["test"], parts["validation"])]
    near = memorisation.near_exact_sides(sides, same)
    scores = pd.DataFrame({"image_id": pool.table["image_id"]})
    scores = pd.concat([scores, _scores("pixels", found, rules, train)], axis=1)
    scores["copy_pixels"] = near[0].flags
    scores["flagged_pixels"] |= near[0].flags  # an exact copy among fifty equal training images has no distance ratio
    rows, positions = _parent_rows(pool, train)
    scores["similarity_parent_pixels"] = np.float32(np.nan)
    scores.loc[rows, "similarity_parent_pixels"] = space.pairwise(pool.pixels(rows), train.pixels()[positions])
    return scores, rules, near, found


def _identical(pool: Images, parts: Mapping[str, Images]) -> int:
    """How many synthetic images equal a training image to the bit; 0 where a held-out image of a patient does too."""
    train, held_out = parts["train"], (parts["test"], parts["validation"])
    return 0 if any(_same_file(images, train).any() for images in held_out) else int(_same_file(pool, train).sum())


def _search_reconstructions(
    pool: Images, parts: Mapping[str, Images]
) -> tuple[pd.DataFrame, list[memorisation.Rates], memorisation.Pair, Neighbours]:
    """Search among `parts` after their autoencoder: a copy that went through it is far from its original in pixels."""
    name = memorisation.RECONSTRUCTIONS
    _, found, sides = _pixel_sides(pool, parts)
    rules, near = memorisation.pixel_rules(*sides, space=name), memorisation.near_exact_sides(sides)
    scores = _scores(name, found, rules, parts["train"])
    scores[f"copy_{name}"] = near[0].flags
    scores[f"flagged_{name}"] |= near[0].flags
    return scores, rules, near, found


def _reconstructions(job: Job, parts: Mapping[str, Images]) -> dict[str, Images]:
    """Real images as they come out of the autoencoder in whose latents the pool was drawn.

    Where it takes masks along, an image without them stays as it is, since the generator did not see it either.
    """
    from synthgain.networks.autoencoder import load_latents  # loads diffusers' autoencoders: only where used

    entry = job.slice["autoencoder"]
    folder, structures = job.inputs.autoencoders[entry["name"]].folder() / "autoencoder", entry["structures"]
    space = load_latents(folder, chosen_device())
    found = {}
    for part, images in parts.items():
        pixels, rows = images.pixels(), np.arange(len(images))
        given, channels = pixels, pixels.shape[-1]
        if structures:
            rows, masks = masks_of_rows(job, images.table, structures)
            given = np.concatenate([pixels[rows], masks * np.uint8(INSIDE)], axis=-1)
        pixels[rows] = space.reconstruct(given)[..., :channels]
        found[part] = replace(images, arrays=[pixels])
    return found


def _pixel_sides(
    pool: Images, parts: Mapping[str, Images]
) -> tuple[PixelSpace, Neighbours, list[memorisation.Compared]]:
    """Return the space of the training images, the pool's neighbours there, and pool, test and validation compared."""
    train = parts["train"]
    pixels = train.pixels()
    space = PixelSpace(pixels)
    found = space.search(pool.pixels(), pixels)
    null, validation = (
        space.search(parts[part].pixels(), pixels, parts[part].patients, train.patients)
        for part in ("test", "validation")
    )
    return space, found, _compared(pool, found, (parts["test"], null), (parts["validation"], validation))


def _search_features(
    job: Job, pool: Images, parts: Mapping[str, Images]
) -> tuple[pd.DataFrame, list[memorisation.Rates], memorisation.Pair]:
    extractor, cache = open_extractor(job.slice["space"], job, chosen_device()), job.run / "state" / "features"
    features = {part: cached_features(extractor, images.pixels(), cache) for part, images in parts.items()}
    ours = cached_features(extractor, pool.pixels(), cache)
    train, test = parts["train"], parts["test"]
    space = FeatureSpace(features["train"])
    found = space.search(ours, features["train"])
    null = space.search(features["test"], features["train"], test.patients, train.patients)
    validation = parts["validation"]
    calibration = space.search(features["train"], features["validation"], train.patients, validation.patients).nearest
    # No distance ratio here: in a space of few dimensions it flags a fifth of new images too.
    sides = _compared(pool, found, (test, null))
    rules = [memorisation.nearest_rule(job.slice["space"]["name"], *sides, calibration, memorisation.FEATURE_QUANTILE)]
    other = space.search(features["validation"], features["train"], validation.patients, train.patients)
    near = memorisation.near_exact_sides(_compared(pool, found, (test, null), (validation, other)))
    scores = _scores("features", found, rules, train)
    scores["copy_features"] = near[0].flags
    return scores, rules, near


def _same_file(images: Images, train: Images) -> np.ndarray:
    """(n,) bool: equal to a training image to the bit."""
    return images.table["sha256"].isin(train.table["sha256"]).to_numpy(dtype=bool)


def _compared(pool: Images, found: Neighbours, *real: tuple[Images, Neighbours]) -> list[memorisation.Compared]:
    ours, *theirs = kinds(pool, *(images for images, _ in real))
    sides = [memorisation.Compared(found, parents(pool.table), ours)]
    for (images, neighbours), kind in zip(real, theirs, strict=True):
        sides.append(memorisation.Compared(neighbours, images.patients, kind))
    return sides


def _scores(name: str, found: Neighbours, rules: list[memorisation.Rates], train: Images) -> pd.DataFrame:
    ids = train.table["image_id"].astype(str).to_numpy()
    columns = {
        f"similarity_{name}": found.nearest.astype(np.float32),
        f"nearest_{name}": ids[found.index[:, 0]],
        f"distance_ratio_{name}": found.distance_ratio().astype(np.float32),
        f"flagged_{name}": np.any([rule.pool.flags for rule in rules], axis=0),
    }
    return pd.DataFrame(columns)


def _parent_rows(pool: Images, train: Images) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the pool whose parent is a training image, and that image's row."""
    if "parent_image_id" not in pool.table:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    position = pd.Series(np.arange(len(train)), index=train.table["image_id"].astype(str))
    found = pool.table["parent_image_id"].astype(str).map(position[~position.index.duplicated()])
    rows = np.flatnonzero(found.notna().to_numpy())
    return rows, found.to_numpy()[rows].astype(np.int64)


def _parent_row(scores: pd.DataFrame, pool: Images, train: Images) -> list[memorisation.RuleRow]:
    """How often the nearest training image is the row's own, and the chance among images of the same class."""
    rows, positions = _parent_rows(pool, train)
    if not len(rows):
        return []
    own = train.table["image_id"].astype(str).to_numpy()[positions]
    hit = scores["nearest_pixels"].to_numpy()[rows] == own
    classes = pd.Series(strata(train.table, train.columns))
    chance = 1.0 / classes.map(classes.value_counts()).to_numpy()[positions]
    rate = rate_interval(hit, parents(pool.table)[rows])
    null = float(chance.mean())
    row: memorisation.RuleRow = {
        "space": "pixels", "rule": "nearest is parent", "threshold": np.nan, "p_adjusted": np.nan,
        "n": len(rows), "flagged": int(hit.sum()),
        "rate": float(hit.mean()), "null_n": len(train), "null_rate": null, "excess": float(hit.mean()) - null,
        "low": rate[0] - null, "high": rate[1] - null,
        "note": "null: a random training image of the same class; shared covariates or masks raise it a little",
    }  # fmt: skip
    return [row]


def _clusters(job: Job) -> ClusterTable | None:
    """Return the clusters that the pool's generators trained on."""
    name = (job.slice.get("clusters") or {}).get("name")
    return None if name is None else read_clusters(job.inputs.clusters[name].folder(), name)


def _by_cluster(job: Job, pool: Images, scores: pd.DataFrame, near: memorisation.Pair) -> pd.DataFrame | None:
    """Return what the gate finds cluster by cluster, None for a pool whose generator trained on no cluster."""
    clusters = _clusters(job)
    if clusters is None:
        return None
    only = job.slice["clusters"]["only"]
    parents_of = pool.table["parent_image_id"]
    numbers = clusters.numbers(parents_of) if only is None else np.full(len(pool), only)
    rng = random_generator(study=job.slice["seed"], step="memorisation", pool=job.slice["pool"], of="clusters")
    return cluster_gate.by_cluster(clusters, numbers, scores["flagged"].to_numpy(dtype=bool), near, rng)


def _membership(job: Job, parts: Mapping[str, Images]) -> list[dict[str, Any]]:
    source, settings = job.slice.get("generator"), job.slice.get("membership")
    clusters = _clusters(job)
    if settings is not None and source is None and clusters is not None:
        return membership.not_applicable("a generator per cluster: each saw a part of the training images alone")
    if source is None or settings is None:
        return membership.not_applicable("no generator behind this pool" if source is None else "switched off")
    device = chosen_device()
    folder = job.inputs.generators[source["name"], source["index"]].folder()
    generator = load_generator(folder, source["snapshot"], device, source.get("ema_decay"))
    if not hasattr(generator, "denoise"):
        return membership.not_applicable("this family of generators has no denoising loss")
    structures = list(getattr(generator, "structures", ()))
    keys = {"study": job.slice["seed"], "step": "membership"}
    held_out, seen = _joined(parts["validation"], parts["test"]), parts["train"]
    if clusters is not None:
        members = clusters.trained_on(job.slice["clusters"]["only"])
        seen = seen.subset(np.flatnonzero(seen.table["image_id"].astype(str).isin(members)))
    losses, patients = [], []
    for name, images in (("train", seen), ("held_out", held_out)):
        rng = random_generator(**keys, pool=job.slice["pool"], of=name)
        masks = None
        if structures:  # images without a mask of each were no training images of this generator
            known, masks = masks_of_rows(job, images.table, structures)
            images = images.subset(known)
        if not len(images):
            return membership.not_applicable(f"no {name} image has masks of {', '.join(structures)}")
        told = np.flatnonzero(generator.readable(images.table)) if hasattr(generator, "readable") else None
        if told is not None and len(told) < len(images):  # a text with a word that no training image had
            images, masks = images.subset(told), None if masks is None else masks[told]
        if not len(images):
            return membership.not_applicable(f"no {name} image has a text of words that the generator saw")
        rows = np.sort(rng.permutation(len(images))[: settings["images"]])
        drawn = images.subset(rows)
        levels, draws = membership.NOISE_LEVELS, settings["draws"]
        losses.append(
            membership.denoising_losses(
                generator,
                drawn.pixels(),
                drawn.table,
                levels,
                draws,
                device,
                masks=None if masks is None else masks[rows],
                **keys,
            )
        )
        patients.append(drawn.patients)
    rng = random_generator(**keys, pool=job.slice["pool"], of="bootstrap")
    return membership.membership_rows(losses[0], losses[1], levels, patients[0], patients[1], rng)


def _joined(first: Images, second: Images) -> Images:
    table = pd.concat([first.table, second.table], ignore_index=True)
    return Images(first.arrays + second.arrays, table, first.columns)


def _barred(job: Job, pool: Images) -> list[str]:
    """Evaluation sets (dataset/part) of which an imported pool holds a copy; those of one's own pools are unseen."""
    barred = []
    for name in job.slice.get("evaluate_on", []) if job.slice.get("imported") else []:
        real = read_real(job, [name])
        for part in ("validation", "test"):
            images = real.subset(real.rows_of(part))
            if len(images) and _holds_copy(pool, images):
                barred.append(f"{name}/{part}")
    return barred


def _holds_copy(pool: Images, images: Images) -> bool:
    pixels = images.pixels()
    exact = set(images.table["sha256"]) & set(pool.table["sha256"])
    return bool(exact) or bool(memorisation.near_exact(PixelSpace(pixels).search(pool.pixels(), pixels)).any())


def _draw_candidates(
    job: Job, pool: Images, train: Images, scores: pd.DataFrame, nearest: Mapping[str, Neighbours]
) -> None:
    """The likeliest copies, beside the training image: flagged ones first, then by their smallest distance ratio."""
    ratios = scores[[f"distance_ratio_{name}" for name in nearest]].to_numpy()
    flagged = scores[[f"flagged_{name}" for name in nearest]].to_numpy(dtype=bool).any(axis=1)
    order = np.lexsort([ratios.min(axis=1), ~flagged])[: job.slice["candidates"]]
    by = order, ratios.argmin(axis=1)[order]  # the space in which each is nearest
    rows, similar = (
        np.stack(sides, axis=1)[by]
        for sides in ([one.index[:, 0] for one in nearest.values()], [one.nearest for one in nearest.values()])
    )
    picture = job.outputs[0].parent / "candidates.png"
    draw_pairs_picture(picture, pool.pixels(order), train.pixels(rows), similar, flagged[order])


def _plain(value: object) -> object:
    """NaN is not JSON."""
    return None if isinstance(value, float) and np.isnan(value) else value


if __name__ == "__main__":
    run_script(check_memorisation)
