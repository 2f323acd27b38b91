"""Cross-references of autoencoders: what they are trained on, who uses them, and whether the sizes fit."""

from collections.abc import Mapping
from dataclasses import dataclass

from synthgain.entry import nearest
from synthgain.generators.autoencoders.options import Autoencoder
from synthgain.study.data import Dataset
from synthgain.study.generation import Generator


@dataclass(frozen=True)
class Parts:
    """The entries of a study that autoencoders have to do with, and the side of its images in px."""

    autoencoders: Mapping[str, Autoencoder]
    generators: Mapping[str, Generator]
    datasets: Mapping[str, Dataset]
    size: int
    users: frozenset[str | None]  # the names of autoencoders that generators and pools use


def check_autoencoders(study: Parts) -> None:
    """Raise ValueError, one line naming the place, at the first autoencoder that leads nowhere or does not fit."""
    for name, entry in study.autoencoders.items():
        _check_autoencoder(study, entry, f"autoencoders.{name}")
        if entry.folder is not None and name not in study.users:
            raise ValueError(
                f"autoencoders.{name}: nothing uses it, so that nothing says whose images it is measured on; "
                "name it as the autoencoder of a generator or pool, or leave it out"
            )
    for name, generator in study.generators.items():
        _check_user(study, generator, f"generators.{name}")


def latent_size(study: Parts, generator: Generator) -> int:
    """Return the side of what a generator's network sees: the image's, or that of its latent."""
    entry = study.autoencoders.get(generator.autoencoder_name or "")
    return study.size if entry is None else study.size // entry.downsampling


def _check_autoencoder(study: Parts, entry: Autoencoder, place: str) -> None:
    if study.size % entry.downsampling:
        raise ValueError(
            f"{place}.downsampling: {entry.downsampling} does not divide image.size {study.size}; take another"
        )
    levels = entry.network.block_out_channels
    if levels is not None and 2 ** (len(levels) - 1) != entry.downsampling:
        raise ValueError(
            f"{place}.network.block_out_channels: {len(levels)} levels downsample by {2 ** (len(levels) - 1)}, "
            f"downsampling is {entry.downsampling}"
        )
    seen = entry.train_on
    if seen is None:
        return
    if seen.label_fraction != 1:
        raise ValueError(f"{place}.train_on.label_fraction: an autoencoder is told of no labels; leave it out")
    if seen.cluster is not None or seen.per is not None:
        raise ValueError(
            f"{place}.train_on: an autoencoder is for all of a set's patients, not for clusters; name data sets"
        )
    for dataset in seen.datasets:
        if dataset not in study.datasets:
            raise ValueError(f"{place}.train_on.datasets: there is no {dataset!r}; {nearest(dataset, study.datasets)}")
        if study.datasets[dataset].split is None:
            raise ValueError(f"{place}.train_on.datasets: data set {dataset!r} has no split; give it a split")
        known = study.datasets[dataset].known_structures
        for structure in entry.structures:
            if known is not None and structure not in known:
                hint = nearest(structure, known)
                raise ValueError(f"{place}.structures: data set {dataset!r} has no mask {structure!r}; {hint}")


def _check_user(study: Parts, generator: Generator, place: str) -> None:
    name = generator.autoencoder_name
    if name is not None:
        if name not in study.autoencoders:
            raise ValueError(f"{place}.autoencoder: there is no {name!r}; {nearest(name, study.autoencoders)}")
        entry = study.autoencoders[name]
        drawn = generator.structures if generator.output == "image+mask" else []
        if generator.output != entry.output or drawn != entry.structures:
            raise ValueError(
                f"{place}.output: {generator.output}, and the autoencoder {name!r} is of output: {entry.output}"
                f"{_of(entry.structures)}; make them one"
            )
    start = study.generators.get(generator.init_from or "")
    if start is not None and start.autoencoder_name != name:
        raise ValueError(
            f"{place}.init_from: {generator.init_from!r} works in {_space(start.autoencoder_name)}, this one in "
            f"{_space(name)}: its weights mean nothing here; give the same autoencoder"
        )


def _of(structures: list[str]) -> str:
    return f" ({', '.join(structures)})" if structures else ""


def _space(autoencoder: str | None) -> str:
    return "pixels" if autoencoder is None else f"latents of {autoencoder!r}"
