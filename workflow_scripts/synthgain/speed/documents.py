"""What planner, measurement and forecast hand to each other as JSON: terms of work, groups of jobs, rates, costs.

Declarations alone, without torch. What is not read here may stand in a document too.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from synthgain.entry import Number

Shares = dict[str, float]


class Document(BaseModel):
    """A JSON document, or a part of one."""

    model_config = ConfigDict(frozen=True, populate_by_name=True)

    def json_values(self) -> dict[str, object]:
        """Return it as JSON values, without what has its default."""
        return self.model_dump(mode="json", by_alias=True, exclude_defaults=True)


class Term(Document):
    """A term of work: `amount` units of the kind of work `kind`, or `amount` for each of so many images.

    unit: step (an optimiser step), image (an image through a network that looks), pass (an image once through a network
    that draws), of disk network or bytes. images: {"data set/part": weight}, since how many images a data set has is
    known only when it is read; at_most caps their number; passes: forward passes of single images in a unit.
    """

    kind: str
    unit: Literal["step", "image", "pass", "network", "bytes"]
    amount: Number
    images: Shares = {}
    at_most: int = 0
    passes: Number = 1


class Counted(Document):
    """Jobs of one rule and name, counted: terms of work and disk of all of them, the share of the longest one.

    gpu: whether they compute on one; loads: the libraries that they load first; after: the groups that they wait for.
    """

    rule: str
    name: str = ""
    arm: str | None = None
    gpu: bool
    loads: str
    jobs: int
    work: list[Term]
    disk: list[Term]
    longest: float
    after: list[int]


class ModelKind(Document):
    """What the speed of a downstream model depends on; also a job's slice of it."""

    model_config = ConfigDict(extra="allow")

    batch_size: int
    targets: list[str]
    structures: list[str]
    network: dict[str, object]
    augmentation: dict[str, object]


class LearnKind(Document):
    """A downstream model trained with a recipe of augmentation."""

    do: Literal["learn"]
    model: ModelKind
    augmentation: str


class SamplingKind(Document):
    """What the speed of a generator's training or of a sampler depends on."""

    batch_size: int
    precision: str


class AutoencoderWidths(Document):
    """Widths of an autoencoder, None: by downsampling."""

    block_out_channels: list[int] | None = None
    layers_per_block: int | None = None


class AutoencoderKind(Document):
    """An autoencoder that is trained, and that encodes and decodes images; folder: one that is read."""

    do: Literal["autoencode"]
    downsampling: int
    latent_channels: int
    network: AutoencoderWidths = AutoencoderWidths()
    output: str = "image"
    structures: list[str] = []
    folder: str | None = None
    training: SamplingKind

    def slice(self) -> dict[str, object]:
        """Return what the slice of its training says of it."""
        return self.model_dump(exclude={"do", "folder", "training"})


class TrainKind(Document):
    """A generator in training; what its family says of it stands here too. start: the frozen network next to it.

    latents: the autoencoder in whose latents it works.
    """

    model_config = ConfigDict(extra="allow")

    do: Literal["train"]
    training_module: str
    condition_on: list[str]
    structures: list[str]
    training: SamplingKind
    start: "TrainKind | None" = None
    latents: AutoencoderKind | None = None

    def slice(self) -> dict[str, object]:
        """Return what a training's slice says of it."""
        return self.model_dump(exclude={"do", "start", "latents", "training_module", "training"})


class SampleKind(Document):
    """A generator that draws."""

    do: Literal["sample"]
    generator: TrainKind
    sampling: SamplingKind


class SpaceKind(Document):
    """A feature space."""

    name: str
    module: str
    options: dict[str, object]


class ExtractKind(Document):
    """A feature space that looks at images."""

    do: Literal["extract"]
    space: SpaceKind


class ImageKind(Document):
    """The study's images."""

    size: int
    channels: int


class Rate(Document):
    """Medians of a unit of work, timed so often."""

    seconds: float
    cpu_seconds: float
    timed: int = 1


class Measured(Document):
    """The speed of one kind of work, or why it is not known."""

    error: str = ""
    step: Rate | None = None
    image: Rate | None = None
    draw: Rate | None = Field(None, alias="pass")
    threads: int = 1
    memory_gb: float = 0.0
    gpu_memory_gb: float = 0.0
    network_bytes: float = 0.0

    def rate(self, unit: str) -> Rate:
        """Return the rate of a unit of its work."""
        found = {"step": self.step, "image": self.image, "pass": self.draw}[unit]
        assert found is not None, f"{unit}: another unit was measured"
        return found


UNMEASURED = Measured(error="this kind of work is not measured beforehand")


class Machine(Document):
    """Where speeds were measured, when, and how busy it was (its load)."""

    device: str
    gpu: bool
    cores: int
    measured: str
    busy: float


class Speed(Document):
    """What measure_speed found. start_up: seconds of a job that loads these libraries, and to wake its GPU."""

    kinds: dict[str, Measured]
    start_up: Shares
    threads: dict[str, int]
    machine: Machine
    seconds: float

    def of(self, kind: str) -> Measured:
        """Return the speed of a kind of work."""
        return self.kinds.get(kind, UNMEASURED)


class Size(Document):
    """How many images a data set has, in all and in each part (None: not known yet), and how that is known."""

    all: float | None = None
    train: float | None = None
    validation: float | None = None
    test: float | None = None
    known: str


class Cost(Document):
    """Forecast of a group of jobs, or the sum of several.

    seconds: of all jobs, one after the other; passes: single images forward through a network. What has no rate or no
    size counts as 0 and is named in `missing`; `modelled` is False where only the start of the jobs is known.
    kept: finished jobs.
    """

    rule: str = ""
    name: str = ""
    arm: str | None = None
    jobs: int
    after: list[int] = []
    steps: float = 0.0
    passes: float = 0.0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    gpu_seconds: float = 0.0
    start_up_seconds: float = 0.0
    longest_seconds: float = 0.0
    disk_bytes: float = 0.0
    memory_gb: float = 0.0
    gpu_memory_gb: float = 0.0
    threads: int = 1
    modelled: bool = False
    missing: list[str] = []
    kept: int = 0


class LookCost(Document):
    """A planned look: seconds of all work up to it, one job after the other (of jobs on a GPU also apart).

    ends_without, ends_with: shares of studies that end there without a difference, and with one of three standard
    errors of the last look.
    """

    replicates: int
    seconds: float
    gpu_seconds: float
    ends_without: float
    ends_with: float


class Forecast(Document):
    """What forecast_cost writes. runs: how many the study has, all of the same work; looks: if several are planned."""

    study: str
    runs: int
    groups: list[Cost]
    sizes: dict[str, Size]
    speed: Speed
    looks: list[LookCost] = []


class SplitColumn(Document):
    """A column that divides a data set: its words for the parts, and the share of training that is validation."""

    name: str
    map: dict[str, str] = {}
    validation: float | None = None


class CountedTable(Document):
    """A table below the data root, and which of its rows are wanted: {column: value, or values}."""

    path: str
    where: dict[str, object] = {}
    format: dict[str, str] = {}


class SizeSource(Document):
    """What tells how many images a data set has: its manifests, its table, or numbers: `images` of all, or `counts`
    of all and of each part."""

    manifest: str
    identity: str
    split_manifest: str | None = None
    split_identity: str | None = None
    shares: Shares | None = None
    column: SplitColumn | None = None
    table: CountedTable | None = None
    images: float | None = None
    counts: Shares | None = None
