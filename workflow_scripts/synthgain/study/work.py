"""How much work a planned job is: terms of optimiser steps, network passes, images, bytes, and what kinds there are.

A term of work is {kind, unit, amount, images, at_most, passes}: `amount` units of the kind of work `kind` (measured by
measure_speed), or amount for each of so many images: `images` is {"data set/part": weight}, since how many images a
data set has is known only when it is read, and `at_most` caps their number; `passes` are the forward passes of single
images in a step. Units: step (an optimiser step), image
(an image through a network that looks), pass (an image once through a network that draws).
"""

from collections.abc import Mapping
from typing import Any

from synthgain.study.check_masks import structures_of
from synthgain.study.generation import family_of
from synthgain.study.roles import root_pool, source_dataset
from synthgain.study.schema import Study

# What the speed of a sampler depends on.
SAMPLING_SPEED = ("batch_size", "precision")
FEW_IMAGES = {"batch_size": 8, "precision": "float32"}  # how grids are drawn: a generator that no pool draws

Term = dict[str, Any]


def term(kind: str, unit: str, amount: float, images: Mapping[str, float] | None = None, at_most: int = 0) -> Term:
    """Return one term of work."""
    entry: Term = {"kind": kind, "unit": unit, "amount": amount}
    if images:
        entry["images"] = dict(images)
    return {**entry, "at_most": at_most} if at_most else entry


def passes(generator: str, each: float, images: Mapping[str, float] | None = None, at_most: int = 0) -> Term:
    """Return the term of images drawn by a generator."""
    return term(f"sampling {generator}", "pass", each, images, at_most)


def size_of(terms: list[Term]) -> float:
    """Return a number that grows with a job's work, to tell the longest of jobs of one group."""
    return sum(entry["amount"] * (sum(entry.get("images", {}).values()) or 1.0) for entry in terms)


def joined(terms: list[Term]) -> list[Term]:
    """Return the sum of terms, those of one kind and unit as one where their images can be added."""
    found: dict[tuple[Any, ...], Term] = {}
    for entry in terms:
        images, most = entry.get("images", {}), entry.get("at_most", 0)
        if images and not most:
            key: tuple[Any, ...] = (entry["kind"], entry["unit"], "images")
            kept = found.setdefault(key, {**term(entry["kind"], entry["unit"], 1), "images": {}})
            for name, weight in images.items():
                kept["images"][name] = kept["images"].get(name, 0.0) + weight * entry["amount"]
        else:
            key = (entry["kind"], entry["unit"], tuple(sorted(images.items())), most)
            kept = found.setdefault(key, {**entry, "amount": 0})
            kept["amount"] += entry["amount"]
    return list(found.values())


def model_kind(model: str, augmentation: str) -> str:
    """Return how the work of a model with a recipe of augmentation is called."""
    return f"model {model}, {augmentation} augmentation"


def first_model(study: Study) -> str:
    """Return the kind of work of the plain real arm's model: what scores pools and gives features."""
    return model_kind(next(iter(study.models)), "standard")


def space_kind(study: Study, space: str) -> str:
    """Return the kind of work of a feature space."""
    return first_model(study) if space == "downstream" else f"features {space}"


def samplers(study: Study) -> dict[str, tuple[str, dict[str, Any]]]:
    """Return {label: (generator, sampling)}: every generator as its first pool draws it, and where others differ."""
    found: dict[str, tuple[str, dict[str, Any]]] = {}
    for pool in study.pools.values():
        for name in (pool.from_, pool.masks.from_ if pool.masks else None):
            if name is not None:
                chosen = {key: getattr(pool.sampling, key) for key in SAMPLING_SPEED}
                found.setdefault(_sampler(found, name, chosen), (name, chosen))
    for name in study.generators:
        found.setdefault(name, (name, dict(FEW_IMAGES)))
    return found


def _sampler(known: dict[str, tuple[str, dict[str, Any]]], generator: str, sampling: dict[str, Any]) -> str:
    if generator not in known or known[generator][1] == sampling:
        return generator
    return f"{generator} " + " ".join(f"{key}={value}" for key, value in sampling.items())


def drawn(study: Study, pool: str) -> dict[str, Any]:
    """Return which generators draw a pool, by the names of their sampling, and of which data set's rows."""
    config, known = root_pool(study, pool), samplers(study)
    chosen = {key: getattr(config.sampling, key) for key in SAMPLING_SPEED}
    names = {"draws": config.from_, "draws_masks": config.masks.from_ if config.masks else None}
    labels = {key: _sampler(known, name, chosen) if name is not None else None for key, name in names.items()}
    drawing = {label: family_of(study.generators[known[label][0]]) for label in labels.values() if label is not None}
    denoises = {label: family.denoises for label, family in drawing.items()}
    rows = source_dataset(study, pool)
    if config.from_ is not None:
        planes = len(study.generators[config.from_].structures)
    else:
        planes = len(structures_of(study, rows) or ()) if rows is not None else 0
    if study.pools[pool].of is not None:
        labels = dict.fromkeys(labels)  # its images are copied
    return {**labels, "denoises": denoises, "planes": planes, "rows_of": rows or f"pool {pool}"}
