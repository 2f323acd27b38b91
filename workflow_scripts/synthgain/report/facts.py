"""What the report reads of the JSON files of a run, as types: a key that is not named here is not used."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import AliasPath, BaseModel, ConfigDict, Field

from synthgain.generators.autoencoders.options import Measured
from synthgain.generators.steering_options import Steering
from synthgain.runtime.files import read_json, read_manifest


class Facts(BaseModel):
    """Part of a JSON file."""

    model_config = ConfigDict(extra="ignore", frozen=True, populate_by_name=True)


def inside(*path: str) -> Any:
    """A value that is a part of another one in the file; None where it is not there."""
    return Field(None, validation_alias=AliasPath(*path))


Read = TypeVar("Read", bound=Facts)


def read_facts(kind: type[Read], path: Path) -> Read:
    """Read a JSON file as `kind`."""
    return kind.model_validate(read_json(path))


def read_manifest_facts(kind: type[Read], path: Path, identity: str) -> Read:
    """Read a manifest as `kind` after comparing its identity."""
    return kind.model_validate(read_manifest(path, identity))


class Environment(Facts):
    """Where a part of a job ran."""

    device: str = "not recorded"


class GeneratorFacts(Facts):
    """A generator's manifest. energy_joules may say in words that it was not measured."""

    identity: str
    output: str = "image"
    parameters: int | None = None
    steps: int | None = None
    epochs: float | None = None
    final: int | None = None
    seconds: float | None = None
    images_per_second: float | None = None
    final_loss: float | None = inside("loss", "final")
    saw_patients: int | None = inside("saw", "patients")
    saw_images: int | None = inside("saw", "images")
    saw_ids: str | None = inside("saw", "ids_sha256")
    environments: list[Environment] = []
    energy_joules: float | str | None = None
    energy_source: str | None = None
    steering: Steering | None = None

    @property
    def devices(self) -> str:
        """The devices, each once."""
        return ", ".join(dict.fromkeys(entry.device for entry in self.environments))


class Failure(Facts):
    """A training that diverged."""

    attempt: int = 0
    step: int | None = None


class RunFacts(Facts):
    """One downstream training. diverged: attempts that failed; at_chance: all did, and the replicate tells nothing."""

    diverged: list[Failure] = []
    at_chance: bool = False
    steps: int | None = None
    seconds: float | None = None
    real_exposures: int | None = None
    environments: list[Environment] = []


class TrainingFacts(Facts):
    """The manifest of a downstream job; arm and ratio are those of its path."""

    arm: str = ""
    ratio: float = 0.0
    replicates: dict[str, RunFacts] = {}


class AutoencoderFacts(Facts):
    """An autoencoder's manifest; measured: on held-out patients."""

    identity: str
    parameters: int | None = None
    steps: int | None = None
    seconds: float | None = None
    measured: Measured


class StyledFacts(Facts):
    """How many images were styled, and the sums of their distances to their parents as drawn and after."""

    images: int
    drawn: float
    styled: float


class PoolFacts(Facts):
    """The manifest of a pool's replica."""

    identity: str
    images: int | None = None
    kept: int | None = None
    of_images: int | None = None
    counts: dict[str, dict[str, float]] = {}
    styled: dict[str, StyledFacts] = {}


class ColumnFacts(Facts):
    """A column of an image table."""

    kind: str


class DatasetFacts(Facts):
    """The manifest of a data set."""

    identity: str
    patients: int | None = None
    images: int | None = None
    shape: list[int] = []
    columns: dict[str, ColumnFacts] = {}
    column_order: list[str] | None = None


class SpaceFacts(Facts):
    """A feature space of a fidelity measurement."""

    name: str
    label: str
    dimensions: int
    weights_sha256: str | None = None


class MeasuredFacts(Facts):
    """The manifest of a measurement of a pool, a generator's snapshots or a model."""

    files: dict[str, object]
    reference: str = "held_out"
    spaces: list[SpaceFacts] = []
    recommended: int | None = None
    configurations: int = 0
    failed: str | None = None


class ClusterFacts(Facts):
    """The manifest of the appearance clusters of a data set."""

    files: dict[str, object]
    of: str
    k: int
    space: str
    images: int
    tiny: int = 0


class GateFacts(Facts):
    """The memorisation gate of one draw of a pool."""

    sentence: str
    state: str
    exceeded: bool = False
    none_found: bool = False
    barred_sets: list[str] = []
    leak: str | None = inside("membership", "leak")


class KitFacts(Facts):
    """The receipt of a reader kit."""

    folder: str
    kit: str
    key_sha256: str
    images: int
    real: int
    synthetic: int
    readers: dict[str, int] = {}


class RatingFacts(Facts):
    """The manifest of what readers sent back; current: the images that they saw are those of now."""

    kit: str
    answers: int
    current: bool = True
    simulated: bool = False
    files: dict[str, object]


class FloorFacts(Facts):
    """The best prediction that looks at no image."""

    floor: str
    value: float


class ComparedFacts(Facts):
    """A row of comparisons.csv as `verdict.json` has it, or a control."""

    arm: str
    ratio: float = 0.0
    baseline: str = "the baseline"
    dataset: str = ""
    label: str = "macro"
    metric: str = ""
    replicates: int | None = None
    units: int | None = None
    unit: str = "seeds"
    claim: str = ""
    mean: float | None = None
    baseline_mean: float | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    reason: str | None = None
    state: str = "not checked"
    floor: FloorFacts | None = None


class CopyingFacts(Facts):
    """What the gate says of one arm. filtered: rows of the arm without the flagged images."""

    arm: str
    sentence: str = ""
    exceeded: bool = False
    state: str | None = None
    copies: int | None = None
    images: int | None = None
    excess: float | None = None
    low: float | None = None
    high: float | None = None
    limit: float | None = None
    filtered: list[dict[str, object]] = []


class AlarmFacts(Facts):
    """A control: whether it was checked, its state, and every comparison that was looked at."""

    checked: bool = False
    raised: bool = False
    state: str = "not checked"
    tested: list[ComparedFacts] = []


class CopyingAlarm(Facts):
    """The memorisation alarm: a row for each arm whose pool copies."""

    checked: bool = False
    raised: bool = False
    rows: list[CopyingFacts] = []


class DeclaredFacts(Facts):
    """The verdict on one declared comparison."""

    primary: ComparedFacts | None = None
    verdict: str | None = None
    sentence: str = ""


class LookFacts(Facts):
    """Which planned look it is (0 where there is but one), the replicates at each, and below which p each decides."""

    number: int = 0
    planned: list[int] = []
    levels: list[float] = []


class VerdictFacts(DeclaredFacts):
    """`verdict.json`. alarms: by name, but for that of memorisation, which is `copying`."""

    comparisons: list[DeclaredFacts] = []
    alarms: dict[str, AlarmFacts] = {}
    copying: CopyingAlarm = CopyingAlarm()
    notes: list[str] = []
    alpha: float | None = None
    look: LookFacts = LookFacts()
    replicates: int | None = None
    pilot: bool = False


class SlopeFacts(Facts):
    """Slopes per replicate, tested; in the order of their columns."""

    df: float | None = None
    high: float | None = None
    low: float | None = None
    mean: float | None = None
    p: float | None = None
    violations: int | None = None


class FitFacts(Facts):
    """A fitted dose–response. best: the curve; picked: the best ratio (`statistics.best_ratio`)."""

    arm: str
    dataset: str
    label: str
    replicates: int
    slope: SlopeFacts = SlopeFacts()
    picked: dict[str, float] | None = None
    best: str | None = inside("curves", "best")


class DesignFacts(Facts):
    """Another design: so many seeds and test patients."""

    detectable: float | None = None
    patients: int
    se: float | None = None
    seeds: int


class PowerFacts(Facts):
    """Power of a declared comparison."""

    arm: str = ""
    ratio: float = 0.0
    note: str = "not estimable"
    detectable: float | None = None
    floor_with_endless_seeds: float | None = None
    seed_sd: float | None = None
    patient_sd: float | None = None
    advice: str = ""
    enough_for_margin: DesignFacts | None = None
    grid: list[DesignFacts] = []


class RateFacts(Facts):
    """Seconds of one unit of work."""

    seconds: float
    cpu_seconds: float


class KindFacts(Facts):
    """The measured speed of one kind of work."""

    step: RateFacts | None = None
    threads: int = 1


class MachineFacts(Facts):
    """The machine on which speeds were measured."""

    device: str
    gpu: str | bool | None = None
    measured: str
    busy: float
    cores: int


class SpeedFacts(Facts):
    """Measured speeds."""

    machine: MachineFacts
    seconds: float
    kinds: dict[str, KindFacts] = {}


class GroupFacts(Facts):
    """Forecast of a group of jobs."""

    rule: str
    jobs: int
    seconds: float
    modelled: bool = True
    missing: list[str] = []


class ForecastFacts(Facts):
    """`forecast.json`."""

    groups: list[GroupFacts]
    speed: SpeedFacts


def alarms_apart(verdict: Mapping[str, object]) -> dict[str, object]:
    """Return the content of verdict.json with the memorisation alarm, which has rows of its own, as `copying`."""
    alarms = verdict.get("alarms")
    others = dict(alarms) if isinstance(alarms, dict) else {}
    copying = others.pop("memorisation", {})
    return {**verdict, "alarms": others, "copying": copying}
