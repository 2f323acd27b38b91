"""How much work a planned job is: terms of optimiser steps, network passes, images, bytes, and what kinds there are."""

from collections.abc import Iterable
from dataclasses import dataclass

from synthgain.pools.options import Pool
from synthgain.speed.documents import SamplingKind, Shares, Term
from synthgain.study.generation import family_of
from synthgain.study.planner import Planner
from synthgain.study.roles import root_pool, source_dataset
from synthgain.study.schema import Study

# EfficientNet-Lite0 was trained at 224 px; enlarging small films that far costs four times as much and adds nothing.
SMALL_IMAGE, SMALL_INPUT, FULL_INPUT = 64, 128, 224
FEW_IMAGES = SamplingKind(batch_size=8, precision="float32")  # how grids are drawn: a generator that no pool draws


def passes(generator: str, each: float, images: Shares | None = None, at_most: int = 0) -> Term:
    """Return the term of images drawn by a generator."""
    return Term(kind=f"sampling {generator}", unit="pass", amount=each, images=images or {}, at_most=at_most)


def autoencoder_kind(name: str) -> str:
    """Return how the work of an autoencoder is called."""
    return f"autoencoder {name}"


def encoded(name: str, images: Shares, times: float = 1, at_most: int = 0) -> Term:
    """Return the term of images that an autoencoder encodes, each so many times."""
    return Term(kind=autoencoder_kind(name), unit="image", amount=times, images=images, at_most=at_most)


def decoded(name: str, each: float, images: Shares | None = None, at_most: int = 0) -> Term:
    """Return the term of latents that an autoencoder decodes: `each`, or as many for each of these images."""
    return Term(kind=autoencoder_kind(name), unit="pass", amount=each, images=images or {}, at_most=at_most)


def size_of(terms: Iterable[Term]) -> float:
    """Return a number that grows with a job's work, to tell the longest of jobs of one group."""
    return sum(term.amount * (sum(term.images.values()) or 1.0) for term in terms)


def joined(terms: Iterable[Term]) -> list[Term]:
    """Return the sum of terms, those of one kind and unit as one where their images can be added."""
    found: dict[tuple[object, ...], Term] = {}
    for term in terms:
        if term.images and not term.at_most:
            key: tuple[object, ...] = (term.kind, term.unit, "images")
            images = dict(found[key].images) if key in found else {}
            for name, weight in term.images.items():
                images[name] = images.get(name, 0.0) + weight * term.amount
            found[key] = term.model_copy(update={"amount": 1, "images": images})
        else:
            key = (term.kind, term.unit, tuple(sorted(term.images.items())), term.at_most)
            before = found[key].amount if key in found else 0
            found[key] = term.model_copy(update={"amount": before + term.amount})
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


Samplers = dict[str, tuple[str, SamplingKind]]


def samplers(study: Study) -> Samplers:
    """Return {label: (generator, sampling)}: every generator as its first pool draws it, and where others differ."""
    found: Samplers = {}
    for pool in study.pools.values():
        for name in (pool.from_, pool.masks.from_ if pool.masks else None):
            if name is not None:
                chosen = _speed(pool)
                found.setdefault(_sampler(found, name, chosen), (name, chosen))
    for name in study.generators:
        found.setdefault(name, (name, FEW_IMAGES))
    return found


def _speed(pool: Pool) -> SamplingKind:
    return SamplingKind(batch_size=pool.sampling.batch_size, precision=pool.sampling.precision)


def _sampler(known: Samplers, generator: str, sampling: SamplingKind) -> str:
    if generator not in known or known[generator][1] == sampling:
        return generator
    return f"{generator} batch_size={sampling.batch_size} precision={sampling.precision}"


@dataclass(frozen=True)
class Drawn:
    """Who draws a pool, by the names of their sampling (None: nobody), and of which data set's rows.

    denoises: whether the images' generator does; planes: of the masks that an image has.
    """

    images: str | None
    masks: str | None
    denoises: bool
    planes: int
    rows_of: str


def drawn(plan: Planner, pool: str) -> Drawn:
    """Return who draws a pool; the images of a filtered one are copied."""
    return plan.once(("drawn", pool), lambda: _drawn(plan.study, pool))


def _drawn(study: Study, pool: str) -> Drawn:
    config, known, rows = root_pool(study, pool), samplers(study), source_dataset(study, pool)
    if config.from_ is not None:
        planes = len(study.generators[config.from_].structures)
    else:
        planes = len(study.datasets[rows].known_structures or ()) if rows is not None else 0
    rows_of = rows or f"pool {pool}"
    if study.pools[pool].of is not None or config.from_ is None:
        return Drawn(None, None, False, planes, rows_of)
    masks = config.masks.from_ if config.masks else None
    return Drawn(
        _sampler(known, config.from_, _speed(config)),
        None if masks is None else _sampler(known, masks, _speed(config)),
        family_of(study.generators[config.from_]).denoises,
        planes,
        rows_of,
    )


def input_size(study: Study) -> int:
    """Return the px to which EfficientNet-Lite0 enlarges the study's images."""
    return SMALL_INPUT if study.image.size <= SMALL_IMAGE else FULL_INPUT
