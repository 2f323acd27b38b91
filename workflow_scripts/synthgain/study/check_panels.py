"""Whether a reader panel can be shown what it asks for, and whether what steers a generator can: without any files."""

import re
from collections.abc import Mapping

from synthgain.datasets.entries.base import DatasetBase
from synthgain.entry import nearest
from synthgain.generators.family import GeneratorBase
from synthgain.readers.options import Panel

# Words in a panel's name that give the question of the second phase away.
TELLING = {"real", "fake", "synthetic", "synth", "generated", "artificial", "turing", "gan", "diffusion"}


def check_panels(
    panels: Mapping[str, Panel], datasets: Mapping[str, DatasetBase], copied: Mapping[str, str | None]
) -> None:
    """Raise ValueError, one line naming the place, at the first panel that cannot be. copied: {pool: its data set}."""
    folders: dict[str, str] = {}
    for name, panel in panels.items():
        place = f"readers.{name}"
        telling = TELLING & set(re.split(r"[^a-z]+", name.lower()))
        if telling:
            raise ValueError(
                f"{place}: readers see this name on their files, and {min(telling)!r} tells them too early what it is "
                "about; take another, such as panel"
            )
        if panel.ratings is not None:
            other = folders.setdefault(panel.ratings.rstrip("/"), name)
            if other != name:
                raise ValueError(f"{place}.ratings: the folder of {other!r}; give each panel a folder of its own")
        for dataset in panel.items.real:
            _check_shown(place, panel, dataset, datasets)
        _check_numbers(place, panel, datasets, copied)


def reward_problem(own: GeneratorBase, datasets: Mapping[str, DatasetBase]) -> str | None:
    """Return in words, after the key, what of a steered generator's reward cannot be; None where nothing is known."""
    reward, size = own.steered_by, own.training.batch_size
    assert reward is not None
    real = reward.real_slots(size)
    if real >= size:
        return f"anchor: {reward.anchor:g} leaves no own sample in a batch of {size}; lower it"
    if reward.anchor > 0 and real == 0:
        return (
            f"anchor: {reward.anchor:g} is less than half a real image in a batch of {size}; give a larger batch_size "
            "or anchor, or 0"
        )
    for key, column in (("target", reward.target), ("labels", reward.labels)):
        for name in own.train_on.datasets:
            if column is not None and column in datasets[name].known_continuous:
                return (
                    f"{key}: {column!r} of data set {name!r} is a number; a proxy tells levels apart, so name a label"
                )
    return None


def _check_shown(place: str, panel: Panel, name: str, datasets: Mapping[str, DatasetBase]) -> None:
    """The data set is there, has a split, and has the findings and masks that are asked about."""
    if name not in datasets:
        raise ValueError(f"{place}.items.real: there is no {name!r}; {nearest(name, datasets)}")
    dataset = datasets[name]
    if dataset.split is None and panel.items.part != "test":
        raise ValueError(f"{place}.items.part: {name!r} has no split, so all of it is test; say part: test")
    columns, structures = dataset.known_columns, dataset.known_structures
    for finding in panel.findings:
        if columns is not None and finding not in columns | {"site"}:
            hint = nearest(finding, columns)
            raise ValueError(f"{place}.findings: data set {name!r} has no column {finding!r}; {hint}")
        if finding in dataset.known_continuous:
            raise ValueError(f"{place}.findings: {finding!r} is a number; name a label, which is there or is not")
    for structure in panel.structures:
        if structures is not None and structure not in structures:
            hint = nearest(structure, structures)
            raise ValueError(f"{place}.structures: data set {name!r} has no masks of {structure!r}; {hint}")


def _check_numbers(
    place: str, panel: Panel, datasets: Mapping[str, DatasetBase], copied: Mapping[str, str | None]
) -> None:
    """No patient is shown twice, so a kit needs as many of them as images, parents of synthetic ones included."""
    asked: dict[tuple[str, str], int] = {}
    shown: list[tuple[str, str, int]] = [(name, panel.items.part, count) for name, count in panel.items.real.items()]
    for pool, count in panel.items.pools.items():
        if pool in copied and (source := copied[pool]) is not None:
            shown.append((source, "train", count))
    for name, part, count in shown:
        whole = name, part if datasets[name].split is not None else "all"
        asked[whole] = asked[whole] + panel.images_of(count) if whole in asked else panel.images_of(count)
    for (name, part), count in asked.items():
        most = _most_patients(datasets[name], part)
        if most is not None and count > most:
            raise ValueError(
                f"{place}.items: {count} patients of data set {name!r} ({part}) are needed, one for each real image "
                f"and each parent, and it has at most {most}; ask for fewer images"
            )


def _most_patients(dataset: DatasetBase, part: str) -> int | None:
    """Return an upper limit of the patients of a part, None where only the files know."""
    facts = dataset.counted(None)
    if "images" not in facts:
        return None
    shares = {} if dataset.split is None else dataset.split.model_dump(include={"train", "validation", "test"})
    share = shares[part] if part in shares and shares[part] is not None else 1.0
    return int(float(str(facts["images"])) * share) + 1  # shares are rounded to whole patients
