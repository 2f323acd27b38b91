"""Everything that the report reads, gathered once: only files that the job names as inputs, and the benchmark files."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from synthgain.data.image_set import read_split
from synthgain.report.audit_facts import AuditFacts
from synthgain.report.blocks import Picture, Text
from synthgain.report.cluster_evidence import ClusterEvidence, cluster_evidence
from synthgain.report.costs import StageFacts, read_benchmarks
from synthgain.report.embedding import inline_svg, png_address
from synthgain.report.facts import (
    AutoencoderFacts,
    DatasetFacts,
    FitFacts,
    ForecastFacts,
    GateFacts,
    GeneratorFacts,
    KitFacts,
    MeasuredFacts,
    PoolFacts,
    PowerFacts,
    RatingFacts,
    Read,
    TrainingFacts,
    VerdictFacts,
    alarms_apart,
    read_facts,
    read_manifest_facts,
)
from synthgain.runtime.command import Job
from synthgain.runtime.files import check_file, read_json, read_manifest, read_table
from synthgain.runtime.inputs import Input, NamedInputs
from synthgain.runtime.ledger import Ledger, read_ledger
from synthgain.runtime.protocols import Protocol, read_protocols, tampered
from synthgain.statistics.metric_registry import MainEndpoint
from synthgain.study.roles import main_endpoint, without_patients
from synthgain.study.schema import UNTOLD, Study

PAIRS = (
    "Each synthetic image next to the training image nearest to it, the most suspicious pairs first; r is their "
    "similarity. The right one of each pair is a real patient's image: the terms of the data set apply to this file."
)


@dataclass(frozen=True)
class Figure:
    """A drawn figure, or why it could not be drawn, and the section where it belongs."""

    section: str
    picture: Picture | Text


@dataclass(kw_only=True, eq=False)  # tables have no truth value to compare by
class Tables:
    """What a job wrote as tables, by file name without suffix."""

    tables: dict[str, pd.DataFrame] = field(default_factory=dict)

    def table(self, name: str) -> pd.DataFrame:
        """Return a table, empty where the file is not there."""
        return self.tables.get(name, pd.DataFrame())


@dataclass(eq=False)
class ModelEvidence(Tables):
    """Statistics and figures of one downstream model.

    card: verdict.json as it is. equivalents: learning_curve.json as a table. failed: table → why it could not be made.
    """

    name: str
    verdict: VerdictFacts = field(default_factory=VerdictFacts)
    card: object = None
    fits: list[FitFacts] = field(default_factory=list)
    power: list[PowerFacts] = field(default_factory=list)
    equivalents: pd.DataFrame = field(default_factory=pd.DataFrame)
    failed: dict[str, list[str]] = field(default_factory=dict)
    figures: list[Figure] = field(default_factory=list)
    trainings: list[TrainingFacts] = field(default_factory=list)

    def pictures(self, section: str) -> list[Picture | Text]:
        """Return the figures of a section."""
        return [figure.picture for figure in self.figures if figure.section == section]


@dataclass(eq=False)
class Measured(Tables):
    """Tables and manifest of one measurement of a pool, with its pictures.

    For snapshots `pool` is the generator and `index` its training, for relations `pool` is the downstream model.
    """

    pool: str
    index: str
    manifest: MeasuredFacts
    pictures: list[Picture]
    gate: GateFacts | None = None

    def name(self, kind: str = "Pool", part: str = "draw") -> str:
        """Return `Pool drawn`, or `Pool drawn, draw 1` for a draw that is not the first."""
        return f"{kind} {self.pool}" + (f", {part} {self.index}" if self.index != "0" else "")


@dataclass
class DatasetEvidence:
    """One data set: its manifest, its table, and the rows that could not be used."""

    facts: DatasetFacts
    table: pd.DataFrame
    quarantine: pd.DataFrame


@dataclass
class Readers:
    """A panel of readers: its kit, and what came back where something has."""

    kit: KitFacts
    ratings: RatingFacts | None = None
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)

    def table(self, name: str) -> pd.DataFrame:
        """Return a table, empty where the file is not there."""
        return self.tables.get(name, pd.DataFrame())


@dataclass
class Evidence:
    """All that was found of a study.

    generators, pools: by the place of their manifest, `name/index` and `name/index/replica-k`.
    """

    study: Study
    seed: int
    protocols: list[Protocol]
    ledger: Ledger
    tampered: list[str]  # what is wrong with either
    models: list[ModelEvidence]
    datasets: dict[str, DatasetEvidence]
    splits: dict[str, pd.DataFrame]
    generators: dict[str, GeneratorFacts]
    pools: dict[str, PoolFacts]
    sample_grids: list[Picture]
    audit: AuditFacts
    benchmarks: pd.DataFrame
    stages: dict[str, StageFacts]  # every stage of the workflow, by its rule
    fidelity: list[Measured]
    memorisation: list[Measured]
    consistency: list[Measured]
    relations: list[Measured]
    snapshots: list[Measured]
    forecast: ForecastFacts | None = None
    readers: dict[str, Readers] = field(default_factory=dict)
    clusters: dict[str, ClusterEvidence] = field(default_factory=dict)
    autoencoders: dict[str, AutoencoderFacts] = field(default_factory=dict)

    @property
    def config(self) -> dict[str, object]:
        """The resolved study, every default written out."""
        return self.study.model_dump(mode="json", by_alias=True, exclude=UNTOLD)

    @property
    def level(self) -> str:
        """Confidence level of the intervals at this look, such as `95 %`."""
        levels = [model.verdict.alpha for model in self.models if model.verdict.alpha is not None]
        return f"{100 * (1 - (levels[0] if levels else self.study.analysis.alpha)):.4g} %"

    def segments(self, model: str) -> bool:
        """True for a model that segments."""
        return self.study.models[model].kind.masks

    @property
    def only_segments(self) -> bool:
        """True for a study without a classifier."""
        return bool(self.models) and all(self.segments(model.name) for model in self.models)

    @property
    def rehearsal(self) -> bool:
        """True where the numbers only prove that the study runs."""
        return self.study.rehearsal

    @property
    def image_level(self) -> list[str]:
        """Data sets without patient ids, which are split by image."""
        return [name for name in self.study.datasets if without_patients(self.study, name)]

    def endpoint(self, model: ModelEvidence) -> MainEndpoint:
        """Return what a model's figures and tables are about."""
        return main_endpoint(self.study, model.name)

    def generator(self, name: str) -> GeneratorFacts | None:
        """Return the manifest of a generator's first training that is there."""
        return next((found for place, found in self.generators.items() if place.split("/")[0] == name), None)


def gather(job: Job) -> Evidence:
    """Read all inputs of a report job; SynthGainError names the file that is missing or damaged."""
    return Evidence(
        study=Study.model_validate(job.slice["config"]),
        seed=job.slice["seed"],
        protocols=read_protocols(job.run)[0],
        ledger=read_ledger(job.run),
        tampered=tampered(job.run),
        models=[_model(job, name) for name in job.slice["models"]],
        datasets={str(name): _dataset(entry) for name, entry in job.inputs.datasets.items()},
        splits={str(name): read_split(entry.folder()) for name, entry in job.inputs.splits.items()},
        generators={f"{name}/{i}": _facts(GeneratorFacts, entry) for (name, i), entry in job.inputs.generators.keyed()},
        pools={
            f"{name}/{i}/replica-{k}": _facts(PoolFacts, entry) for (name, i, k), entry in job.inputs.replicas.keyed()
        },
        sample_grids=_sample_grids(job),
        audit=_audit(job),
        benchmarks=read_benchmarks(job.run / "benchmarks"),
        stages={name: StageFacts(**facts) for name, facts in job.slice["stages"].items()},
        fidelity=_measured(job.inputs.fidelity),
        memorisation=_measured(job.inputs.memorisation),
        consistency=_measured(job.inputs.consistency),
        relations=_measured(job.inputs.relations),
        snapshots=_measured(job.inputs.snapshots),
        forecast=_facts(ForecastFacts, job.inputs.forecast.only) if job.inputs.forecast else None,
        clusters={str(name): cluster_evidence(str(name), entry) for name, entry in job.inputs.clusters.items()},
        autoencoders={str(name): _facts(AutoencoderFacts, entry) for name, entry in job.inputs.autoencoders.items()},
        readers={str(name): _readers(job, str(name), entry) for name, entry in job.inputs.kits.items()},
    )


def _readers(job: Job, name: str, kit: Input) -> Readers:
    found = Readers(_facts(KitFacts, kit))
    if name in job.inputs.ratings:
        sent = job.inputs.ratings[name]
        found.ratings = _facts(RatingFacts, sent)
        found.tables = {path.stem: pd.read_csv(path) for path in _csv_files(sent.folder(), found.ratings.files)}
    return found


def _csv_files(folder: Path, listed: Iterable[str]) -> list[Path]:
    return [folder / name for name in sorted(listed) if name.endswith(".csv") and not _is_empty(folder / name)]


def _facts(kind: type[Read], entry: Input) -> Read:
    return read_manifest_facts(kind, entry.path, entry.identity)


def _model(job: Job, name: str) -> ModelEvidence:
    folder = job.inputs.statistics[name].folder()
    model = ModelEvidence(name)
    for file, listed in read_manifest(folder / "manifest.json")["files"].items():
        path = check_file(folder, file, listed)
        if path.suffix == ".csv" and not _is_empty(path):
            model.tables[path.stem] = pd.read_csv(path)
        elif path.suffix == ".parquet":
            model.tables[path.stem] = read_table(path)
        elif path.name == "verdict.json":
            model.card = read_json(path)
            model.verdict = VerdictFacts.model_validate(alarms_apart(read_json(path)))
        elif path.name == "dose_response.json":
            model.fits = [FitFacts.model_validate(entry) for entry in read_json(path)]
        elif path.name == "power.json":
            model.power = [PowerFacts.model_validate(entry) for entry in read_json(path)]
        elif path.name == "failed.json":
            model.failed = read_json(path)
        elif path.name == "learning_curve.json":
            model.equivalents = pd.DataFrame(read_json(path))
    model.figures = list(_figures(job, name))
    for (_, arm, ratio, _), trained in job.inputs.trainings.below(name).keyed():
        found = _facts(TrainingFacts, trained)
        model.trainings.append(found.model_copy(update={"arm": arm, "ratio": float(ratio)}))
    return model


def _figures(job: Job, model: str) -> Iterable[Figure]:
    if model not in job.inputs.figures:
        return
    folder, listed = job.inputs.figures[model].folder(), job.inputs.figures[model].manifest()
    for entry in listed["failed"]:
        yield Figure(entry["section"], Text(f"{entry['title']} failed: {entry['reason']}.", "warning"))
    for place, entry in enumerate(listed["figures"]):
        text = (folder / entry["file"]).read_text(encoding="utf-8")
        svg = inline_svg(text, f"{model}-{place}", f"{entry['title']}. {entry['caption']}")
        yield Figure(entry["section"], Picture(entry["title"], entry["caption"], svg=svg))


def _dataset(dataset: Input) -> DatasetEvidence:
    folder, facts = dataset.folder(), _facts(DatasetFacts, dataset)
    path = folder / "quarantine.csv"
    quarantine = pd.read_csv(path) if path.exists() and not _is_empty(path) else pd.DataFrame()
    return DatasetEvidence(facts, read_table(folder / "table.parquet", facts.identity), quarantine)


def _is_empty(path: Path) -> bool:
    return not path.read_text(encoding="utf-8").strip()


def _audit(job: Job) -> AuditFacts:
    return _facts(AuditFacts, job.inputs.audit.only) if job.inputs.audit else AuditFacts()


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
    folder, manifest = measured.folder(), _facts(MeasuredFacts, measured)
    listed = [path for path in sorted(folder.iterdir()) if path.name in manifest.files]
    tables = {path.stem: pd.read_csv(path) for path in listed if path.suffix == ".csv" and not _is_empty(path)}
    pictures = [
        Picture(pair_title(pool, index), PAIRS, address=png_address(path), pixelated=True)
        for path in listed
        if path.suffix == ".png"
    ]
    gate = read_facts(GateFacts, folder / "gate.json") if "gate.json" in manifest.files else None
    return Measured(pool, index, manifest, pictures, gate, tables=tables)
