"""Everything that the report reads, gathered once: only files that the job names as inputs, and the benchmark files."""

from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from synthgain.data.image_set import read_split
from synthgain.report.blocks import Picture, Text
from synthgain.report.costs import read_benchmarks
from synthgain.report.embedding import inline_svg, png_address
from synthgain.runtime.command import Job
from synthgain.runtime.files import check_file, read_json, read_manifest, read_table

PAIRS = (
    "Each synthetic image beside the training image nearest to it, the most suspicious pairs first; r is their "
    "similarity. The right one of each pair is a real patient's image: the terms of the data set apply to this file."
)


@dataclass(frozen=True)
class Figure:
    """A drawn figure, or why it could not be drawn, and the section where it belongs."""

    section: str
    picture: Picture | Text


@dataclass
class ModelEvidence:
    """Statistics and figures of one downstream model. tables, facts: by file name without suffix."""

    name: str
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    figures: list[Figure] = field(default_factory=list)
    trainings: list[dict[str, Any]] = field(default_factory=list)

    def table(self, name: str) -> pd.DataFrame:
        """Return a table, empty where the file is not there."""
        return self.tables.get(name, pd.DataFrame())

    def pictures(self, section: str) -> list[Picture | Text]:
        """Return the figures of a section."""
        return [figure.picture for figure in self.figures if figure.section == section]


@dataclass
class Measured:
    """Tables and manifest of one measurement of a pool, with its pictures.

    For snapshots `pool` is the generator and `index` its training, for relations `pool` is the downstream model.
    """

    pool: str
    index: str
    manifest: dict[str, Any]
    tables: dict[str, pd.DataFrame]
    pictures: list[Picture]
    gate: dict[str, Any]


@dataclass
class Evidence:
    """All that was found of a study."""

    slice: dict[str, Any]
    models: list[ModelEvidence]
    datasets: dict[str, dict[str, Any]]
    splits: dict[str, pd.DataFrame]
    generators: dict[str, dict[str, Any]]
    pools: dict[str, dict[str, Any]]
    sample_grids: list[Picture]
    audit: dict[str, Any]
    benchmarks: pd.DataFrame
    fidelity: list[Measured]
    memorisation: list[Measured]
    consistency: list[Measured]
    relations: list[Measured]
    snapshots: list[Measured]
    forecast: dict[str, Any] = field(default_factory=dict)

    @property
    def config(self) -> dict[str, Any]:
        """The resolved study."""
        return dict(self.slice.get("config") or {})

    @property
    def analysis(self) -> dict[str, Any]:
        """The pre-declared analysis."""
        return dict(self.slice["predeclared"]["analysis"])

    def segments(self, model: str) -> bool:
        """True for a model that segments."""
        declared = (self.config.get("models") or {}).get(model) or {}
        return declared.get("task") == "segmentation"

    @property
    def only_segments(self) -> bool:
        """True for a study without a classifier."""
        return bool(self.models) and all(self.segments(model.name) for model in self.models)

    @property
    def rehearsal(self) -> bool:
        """True where the numbers only prove that the study runs."""
        return bool(self.slice.get("rehearsal"))


def gather(job: Job) -> Evidence:
    """Read all inputs of a report job; SynthGainError names the file that is missing or damaged."""
    return Evidence(
        slice=job.slice,
        models=[_model(job, name) for name in job.slice["models"]],
        datasets={name.split("/")[1]: _dataset(job, name) for name in job.inputs_below("datasets/")},
        splits={name.split("/")[1]: read_split(job.input_folder(name)) for name in job.inputs_below("splits/")},
        generators={"/".join(name.split("/")[1:3]): _manifest(job, name) for name in job.inputs_below("generators/")},
        pools={"/".join(name.split("/")[1:-1]): _manifest(job, name) for name in job.inputs_below("pools/")},
        sample_grids=_sample_grids(job),
        audit=_audit(job),
        benchmarks=read_benchmarks(job.run / "benchmarks"),
        fidelity=[_measured(job, name) for name in job.inputs_below("fidelity/")],
        memorisation=[_measured(job, name) for name in job.inputs_below("memorisation/")],
        consistency=[_measured(job, name) for name in job.inputs_below("label_consistency/")],
        relations=[_measured(job, name) for name in job.inputs_below("fidelity_utility/")],
        snapshots=[_measured(job, name) for name in job.inputs_below("snapshots/")],
        forecast=next((_manifest(job, name) for name in job.inputs_below("forecast/")), {}),
    )


def _manifest(job: Job, name: str) -> dict[str, Any]:
    return read_manifest(job.run / name, job.inputs[name])


def _model(job: Job, name: str) -> ModelEvidence:
    folder = job.input_folder(f"statistics/{name}/manifest.json")
    model = ModelEvidence(name)
    for file, listed in read_json(folder / "manifest.json")["files"].items():
        path = check_file(folder, file, listed)
        if path.suffix == ".csv" and path.read_text(encoding="utf-8").strip():
            model.tables[path.stem] = pd.read_csv(path)
        elif path.suffix == ".json":
            model.facts[path.stem] = read_json(path)
        elif path.suffix == ".parquet":
            model.tables[path.stem] = read_table(path)
    figures = f"figures/{name}/manifest.json"
    if figures in job.inputs:
        folder, listed = job.input_folder(figures), _manifest(job, figures)
        for entry in listed.get("failed", []):
            model.figures.append(
                Figure(entry["section"], Text(f"{entry['title']} failed: {entry['reason']}.", "warning"))
            )
        for place, entry in enumerate(listed["figures"]):
            text = (folder / entry["file"]).read_text(encoding="utf-8")
            label = f"{entry['title']}. {entry['caption']}"
            svg = inline_svg(text, f"{name}-{place}", label)
            model.figures.append(Figure(entry["section"], Picture(entry["title"], entry["caption"], svg=svg)))
    for manifest in job.inputs_below(f"downstream/{name}/"):
        _, _, arm, ratio, _, _ = manifest.split("/")
        model.trainings.append(_manifest(job, manifest) | {"arm": arm, "ratio": float(ratio)})
    return model


def _dataset(job: Job, name: str) -> dict[str, Any]:
    folder = job.input_folder(name)
    manifest = _manifest(job, name)
    quarantine = folder / "quarantine.csv"
    if quarantine.exists() and quarantine.read_text(encoding="utf-8").strip():
        manifest["quarantine"] = pd.read_csv(quarantine)
    manifest["table"] = read_table(folder / "table.parquet", manifest["identity"])
    return manifest


def _audit(job: Job) -> dict[str, Any]:
    path = job.run / "audit/audit.json"
    found = read_json(path) if "audit/audit.json" in job.inputs and path.exists() else {}
    return found if isinstance(found, dict) else {}


def _sample_grids(job: Job) -> list[Picture]:
    """The grids of the last snapshot of each generator of this study."""
    last: dict[str, int] = {}
    for name in job.inputs_below("samples/"):
        folder, _, file = name.rpartition("/")
        last[folder] = max(last.get(folder, -1), int(file.removesuffix(".png")))
    pictures = []
    for folder, step in last.items():
        _, generator, index = folder.split("/")
        title = f"{generator}, training {index}, snapshot {step}"
        caption = "One line per condition; the noise seeds are fixed, the images are not selected."
        address = png_address(job.run / folder / f"{step}.png")
        pictures.append(Picture(title, caption, address=address, pixelated=True))
    return pictures


def pair_title(pool: str, index: str) -> str:
    """Return the title of the pictures of one draw's most suspicious pairs."""
    return f"Pool {pool}{f', draw {index}' if index != '0' else ''}: the most suspicious pairs"


def _measured(job: Job, name: str) -> Measured:
    folder, manifest = job.input_folder(name), _manifest(job, name)
    _, pool, *rest, _ = name.split("/")
    index = rest[0] if rest else "0"
    tables = {
        path.stem: pd.read_csv(path)
        for path in sorted(folder.glob("*.csv"))
        if path.name in manifest["files"] and path.read_text(encoding="utf-8").strip()
    }
    pictures = [
        Picture(pair_title(pool, index), PAIRS, address=png_address(path), pixelated=True)
        for path in sorted(folder.glob("*.png"))
        if path.name in manifest["files"]
    ]
    gate = read_json(folder / "gate.json") if "gate.json" in manifest["files"] else {}
    return Measured(pool, index, manifest, tables, pictures, gate)
