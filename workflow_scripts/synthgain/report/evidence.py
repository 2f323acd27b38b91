"""Everything that the report reads, gathered once: only files that the job names as inputs, and the benchmark files."""

from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from synthgain.data.image_set import read_split
from synthgain.report.blocks import Picture, Text
from synthgain.report.costs import StageFacts, read_benchmarks
from synthgain.report.embedding import inline_svg, png_address
from synthgain.runtime.command import Job
from synthgain.runtime.files import check_file, read_json, read_table
from synthgain.runtime.inputs import Input, NamedInputs

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
    def stages(self) -> dict[str, StageFacts]:
        """Every stage of the workflow, by its rule."""
        return {name: StageFacts(**facts) for name, facts in self.slice["stages"].items()}

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
        datasets={str(name): _dataset(entry) for name, entry in job.inputs.datasets.items()},
        splits={str(name): read_split(entry.folder()) for name, entry in job.inputs.splits.items()},
        generators={f"{name}/{i}": entry.manifest() for (name, i), entry in job.inputs.generators.keyed()},
        pools={f"{name}/{i}/replica-{k}": entry.manifest() for (name, i, k), entry in job.inputs.replicas.keyed()},
        sample_grids=_sample_grids(job),
        audit=_audit(job),
        benchmarks=read_benchmarks(job.run / "benchmarks"),
        fidelity=_measured(job.inputs.fidelity),
        memorisation=_measured(job.inputs.memorisation),
        consistency=_measured(job.inputs.consistency),
        relations=_measured(job.inputs.relations),
        snapshots=_measured(job.inputs.snapshots),
        forecast=job.inputs.forecast.only.manifest() if job.inputs.forecast else {},
    )


def _model(job: Job, name: str) -> ModelEvidence:
    folder = job.inputs.statistics[name].folder()
    model = ModelEvidence(name)
    for file, listed in read_json(folder / "manifest.json")["files"].items():
        path = check_file(folder, file, listed)
        if path.suffix == ".csv" and path.read_text(encoding="utf-8").strip():
            model.tables[path.stem] = pd.read_csv(path)
        elif path.suffix == ".json":
            model.facts[path.stem] = read_json(path)
        elif path.suffix == ".parquet":
            model.tables[path.stem] = read_table(path)
    if name in job.inputs.figures:
        folder, listed = job.inputs.figures[name].folder(), job.inputs.figures[name].manifest()
        for entry in listed.get("failed", []):
            model.figures.append(
                Figure(entry["section"], Text(f"{entry['title']} failed: {entry['reason']}.", "warning"))
            )
        for place, entry in enumerate(listed["figures"]):
            text = (folder / entry["file"]).read_text(encoding="utf-8")
            label = f"{entry['title']}. {entry['caption']}"
            svg = inline_svg(text, f"{name}-{place}", label)
            model.figures.append(Figure(entry["section"], Picture(entry["title"], entry["caption"], svg=svg)))
    for (_, arm, ratio, _), trained in job.inputs.trainings.below(name).keyed():
        model.trainings.append(trained.manifest() | {"arm": arm, "ratio": float(ratio)})
    return model


def _dataset(dataset: Input) -> dict[str, Any]:
    folder = dataset.folder()
    manifest = dataset.manifest()
    quarantine = folder / "quarantine.csv"
    if quarantine.exists() and quarantine.read_text(encoding="utf-8").strip():
        manifest["quarantine"] = pd.read_csv(quarantine)
    manifest["table"] = read_table(folder / "table.parquet", manifest["identity"])
    return manifest


def _audit(job: Job) -> dict[str, Any]:
    return job.inputs.audit.only.manifest() if job.inputs.audit else {}


def _sample_grids(job: Job) -> list[Picture]:
    """The grids of the last snapshot of each generator of this study."""
    last = {
        (generator, index): (step, grid)
        for (generator, index, step), grid in sorted(job.inputs.grids.keyed(), key=lambda entry: int(entry[0][2]))
    }
    pictures = []
    for (generator, index), (step, grid) in sorted(last.items()):
        title = f"{generator}, training {index}, snapshot {step}"
        caption = "One line per condition; the noise seeds are fixed, the images are not selected."
        address = png_address(grid.path)
        pictures.append(Picture(title, caption, address=address, pixelated=True))
    return pictures


def pair_title(pool: str, index: str) -> str:
    """Return the title of the pictures of one draw's most suspicious pairs."""
    return f"Pool {pool}{f', draw {index}' if index != '0' else ''}: the most suspicious pairs"


def _measured(inputs: NamedInputs) -> list[Measured]:
    """What was measured, by pool and draw, or by generator and training, or by model."""
    return [
        _measurement(str(key[0]), str(key[1]) if len(key) > 1 else "0", entry)
        for key, entry in sorted(inputs.keyed(), key=lambda found: found[1].name)
    ]


def _measurement(pool: str, index: str, measured: Input) -> Measured:
    folder, manifest = measured.folder(), measured.manifest()
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
