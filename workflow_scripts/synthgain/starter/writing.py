"""The text of a starter study: what was found, what it was taken for and why, and what is asked."""

from collections.abc import Sequence
from dataclasses import dataclass

import yaml

from synthgain.datasets.folder_layout import SPLIT
from synthgain.starter.guessing import FEWEST_IMAGES, Guesses, Label, named
from synthgain.starter.looking import Found
from synthgain.starter.pictures import Pictures
from synthgain.starter.sizes import Sizes

# As in datasets/split.py; other words need a map.
_KNOWN_PARTS = ("train", "training", "val", "valid", "validation", "test", "testing")
RATIOS = [100, 300]


@dataclass(frozen=True)
class Starter:
    """All that the text is made of. structures: {mask column: (structure, label values found)}."""

    name: str
    found: Found
    guesses: Guesses
    pictures: Pictures
    structures: dict[str, tuple[str, list[int]]]

    @property
    def segments(self) -> bool:
        """Masks are learnt where there is no label."""
        return not self.labels and bool(self.structures)

    @property
    def labels(self) -> list[str]:
        """Names of the targets."""
        findings = self.guesses.findings
        return list(findings[2]) if findings else [label.name for label in self.guesses.labels]


def study_text(starter: Starter, sizes: Sizes) -> str:
    """Return the YAML, with comments."""
    name, conditions = starter.name, [*starter.labels, *_names(starter.guesses)]
    ratio = RATIOS[-1]
    model = "segmenter" if starter.segments else "classifier"
    structures = [structure for structure, _ in starter.structures.values()]
    generator: dict[str, object] = {"family": "diffusion"}
    if starter.segments:
        generator |= {"output": "image+mask", "structures": structures}
    else:
        generator |= {"condition_on": conditions}
    learns: dict[str, object] = {"targets": starter.labels}
    primary: dict[str, object] = {"model": model, "arm": "supplemented", "ratio": ratio, "test_set": name}
    if starter.segments:
        learns = {"task": "segmentation", "structures": structures}
        primary["metric"] = "dice"
    lines = [
        "# A starter study: change what you know better. All keys: docs/config.md; layouts: docs/your_data.md.",
        *(f"# {note}." for note in starter.found.notes),
        *(f"# ? {question}" for question in _questions(starter)),
        f"study: {name}",
        f"image: {flow(_image(starter, sizes))}  # of {starter.pictures.read} images looked at the shorter side is "
        f"{starter.pictures.side} px (median)",
        "datasets:",
        f"  {name}:",
        *_dataset(starter),
        "generators:",
        f"  ddpm:  # forecast of the whole study: {sizes.said}" if sizes.said else "  ddpm:",
        *(f"    {key}: {flow(value)}" for key, value in generator.items()),
        f"    train_on: {flow({'datasets': [name]})}",
        *([f"    network: {flow({'patch_size': sizes.patch})}"] if sizes.patch > 1 else []),
        f"    training: {flow({'steps': sizes.generator_steps, 'batch_size': 32})}",
        "pools:",
        f"  drawn: {flow({'from': 'ddpm', 'rows_of': name, 'replicas': max(RATIOS) // 100})}",
        "models:",
        f"  {model}: {flow({**learns, 'steps': sizes.model_steps})}",
        "arms:",
        f"  real: {flow({'real': name})}  # the baseline",
        f"  real_long: {flow({'real': name, 'steps_factor': 2})}  # twice the steps: shows whether these are enough",
        f"  real_strong: {flow({'real': name, 'augmentation': 'strong'})}  # heavier classical augmentation",
        f"  repeated: {flow({'real': name, 'repeat': True, 'ratios': RATIOS})}  # a control: must change nothing",
        f"  supplemented: {flow({'real': name, 'synthetic': 'drawn', 'ratios': RATIOS})}",
        f"evaluate_on: {flow([name])}",
        "replicates: {count: 5}",
        "analysis:",
        f"  primary: {flow(primary)}",
        *(_MARGIN if starter.segments else []),
    ]
    return "\n".join(lines) + "\n"


# Only AUROC has a usual margin; no other primary metric is planned without one.
_MARGIN = (
    "  margin: 0.02",
    "  margin_reason: not given yet; the starter study put a number here",
)


def flow(value: object) -> str:
    """Return a value as YAML on one line."""
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10**6)
    return text.removesuffix("\n").removesuffix("\n...")


def _names(guesses: Guesses) -> list[str]:
    return [one.name for one in guesses.covariates]


def _image(starter: Starter, sizes: Sizes) -> dict[str, object]:
    pictures = starter.pictures
    deep = {"intensity": pictures.intensity} if pictures.intensity != "none" else {}
    return {"size": sizes.side, "channels": pictures.channels, "fit": "pad", **deep}


def _dataset(starter: Starter) -> list[str]:
    found, guesses = starter.found, starter.guesses
    if found.table is None:
        lines = ["adapter: folder", f"folder: {flow(found.folder)}"]
    else:
        lines = ["adapter: table", f"table: {flow(found.table)}"]
        lines += [f"images: {flow(found.images)}"] if found.images else []
        lines += [f"image: {flow(found.image)}"] if found.image != "image" else []
    lines += _patient(guesses)
    lines += [f"site: {flow(guesses.site)}"] if guesses.site and guesses.site != "site" else []
    lines += _targets(guesses)
    if guesses.covariates:
        lines.append("covariates:")
        for one in guesses.covariates:
            kind = {"kind": one.kind, "range": [0, 120]} if one.kind == "continuous" else {}
            lines.append(f"  {one.name}: {flow({'column': one.column, **kind})}")
    lines += _masks(starter)
    lines.append(f"split: {_split(guesses)}")
    return [f"    {line}" for line in lines]


def _patient(guesses: Guesses) -> list[str]:
    if guesses.patient is not None:
        return [f"patient_id: {flow(guesses.patient)}  # {guesses.patient_why}"]
    if guesses.patient_pattern is not None:
        return [f"patient_id: {flow({'pattern': guesses.patient_pattern})}  # {guesses.patient_why}"]
    return [
        "patient_id: null  # ? nothing names the patient, so the split is by image. Which column, or which part of the",
        "# file names, is it? patient_id: a column, or in a folder {pattern: 'regular expression for the path'}",
    ]


def _targets(guesses: Guesses) -> list[str]:
    if guesses.findings is not None:
        column, delimiter, labels = guesses.findings
        return [
            f"multilabel: {flow({'column': column, 'delimiter': delimiter, 'labels': labels})}"
            f"  # those of at least {FEWEST_IMAGES} images"
        ]
    lines = ["targets:"] if guesses.labels else []
    return lines + [f"  {label.name}: {flow(_target(label))}  # {label.why}" for label in guesses.labels]


def _target(label: Label) -> dict[str, object]:
    found: dict[str, object] = {"column": label.column}
    if label.kind == "category":
        found |= {"kind": "category", "levels": label.levels}
    if label.map:
        found["map"] = label.map
    if label.uncertain is not None:
        found["uncertain"] = {"value": float(label.uncertain), "policy": "drop"}
    return found


def _masks(starter: Starter) -> list[str]:
    if not starter.structures:
        return []
    lines = ["mask:"]
    for column, (structure, values) in starter.structures.items():
        entry: dict[str, object] = {"column": column, "name": structure}
        if len(values) > _MOST_STRUCTURES:
            entry["encoding"] = "grey"
        elif len(values) > 1:
            entry["value"] = values[0]
        lines.append(f"  - {flow(entry)}")
    return lines


_UNNAMED = "structure"
_MOST_STRUCTURES = 8  # a mask of more grey values was smoothed or compressed


def _split(guesses: Guesses) -> str:
    parts = set(guesses.split_values.values())
    if guesses.split is None or "train" not in parts or len(parts) == 1:
        return flow({"train": 0.5, "validation": 0.2, "test": 0.3})
    entry: dict[str, object] = {"column": guesses.split}
    values = dict(guesses.split_values)
    if "test" not in parts:
        values = {value: "test" if part == "validation" else part for value, part in values.items()}
    if (guesses.split != SPLIT and not set(values) <= set(_KNOWN_PARTS)) or "test" not in parts:
        entry["map"] = values
    if set(values.values()) == {"train", "test"}:
        entry["validation"] = 0.2
    why = "as the folders say" if guesses.split == SPLIT else "as its column says"
    cut = ", validation cut from training" if "validation" in entry else ""
    return f"{flow(entry)}  # {why}{cut}"


def _questions(starter: Starter) -> Sequence[str]:
    """Return what could not be told, each one line."""
    asked = list(starter.guesses.questions)
    rows = starter.found.rows
    for label in starter.guesses.labels:
        counts = rows[label.column][rows[label.column] != ""].value_counts()
        for level, count in counts.items():
            if count < FEWEST_IMAGES:
                asked.append(
                    f"targets.{label.name}: only {count} images are {level!r}, too few for every part of the split. "
                    "Join it with another by `map`, or leave it out by `where`?"
                )
    if starter.segments:
        asked.append("analysis.margin: which difference of Dice is too small to matter, and why?")
    for column, (structure, values) in starter.structures.items():
        if structure.startswith(_UNNAMED):
            asked.append(f"mask: what do the masks show? It is called {structure!r} here; replace the word everywhere")
        if len(values) > _MOST_STRUCTURES:
            asked.append(f"mask: the files of {column!r} hold {len(values)} grey values; is half of white the border?")
        elif len(values) > 1:
            shown = ", ".join(map(str, values))
            asked.append(f"mask: the files of {column!r} hold the values {shown}; which of them is {structure!r}?")
    if starter.structures and not starter.segments:
        asked.append("models: there are masks too. To segment: task: segmentation (docs/segmentation.md)")
    for name, reason in list(starter.pictures.unread.items())[:2]:
        asked.append(f"an image cannot be read and will be quarantined: {name}: {reason}")
    return [" ".join(question.split()) for question in asked]


def structure_names(columns: Sequence[str]) -> dict[str, str]:
    """Return {mask column: name of its structure}: what its name says besides mask."""
    names: dict[str, str] = {}
    for column in columns:
        words = [word for word in named(column).split("_") if word not in ("mask", "masks", "file", "name", "path")]
        names[column] = named("_".join(words) or _UNNAMED, names.values())
    return names
