"""The study config: one YAML, validated before anything is planned."""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from synthgain.clusters.options import Clusters
from synthgain.data.options import Prompt
from synthgain.downstream.options import Arm
from synthgain.entry import Entry, Name, OmittedWhen, Share
from synthgain.generators.autoencoders.options import Autoencoder
from synthgain.pools.options import Pool
from synthgain.readers.options import Panel
from synthgain.statistics.metric_registry import METRICS
from synthgain.study.check_clusters import with_cluster_datasets
from synthgain.study.data import Dataset, Image
from synthgain.study.generation import Generator
from synthgain.study.ladder import Ladder, expanded
from synthgain.study.training import Model

if TYPE_CHECKING:
    MetricName = str
else:  # the names that the registry allows; a type checker cannot follow it
    MetricName = Literal[tuple(name for name, metric in METRICS.items() if metric.primary)]


FEWEST_AT_A_LOOK = 4  # replicates; with fewer no verdict word is given


class Replicates(Entry):
    """What is repeated, and how jobs are cut."""

    count: int = Field(5, ge=1, le=1000, description="Classifier seeds; all arms share each of them (paired).")
    generators: int = Field(1, ge=1, description="Generator trainings; replicate i uses generator i mod this.")
    pools: int = Field(1, ge=1, description="Pool draws; likewise.")
    per_job: int = Field(5, ge=1, description="Replicates that one downstream job trains, one after the other.")
    looks: Annotated[list[int] | None, OmittedWhen(None)] = Field(
        None,
        description="Replicates after which the results are looked at, and the study ends if they decide; the last is "
        "count. Null: one look, at count.",
    )

    @property
    def planned(self) -> list[int]:
        """Replicates at each planned look, the only one included."""
        return self.looks or [self.count]

    @model_validator(mode="after")
    def _looks_make_sense(self) -> "Replicates":
        if self.looks is None:
            return self
        if len(self.looks) < 2:
            raise ValueError(f"looks: {self.looks} is no plan of several looks; leave looks out for one look at count")
        if sorted(set(self.looks)) != self.looks:
            raise ValueError(f"looks must rise, got {self.looks}")
        if self.looks[-1] != self.count:
            raise ValueError(
                f"looks: the last is at {self.looks[-1]} replicates, and count is {self.count}; make them one"
            )
        if self.looks[0] < FEWEST_AT_A_LOOK:
            raise ValueError(f"looks: {self.looks[0]} replicates decide nothing; begin with {FEWEST_AT_A_LOOK} or more")
        for look in self.looks:
            if look % self.generators:
                raise ValueError(
                    f"looks: {look} is no multiple of the {self.generators} generators, so that some would count more"
                )
        return self


class Primary(Entry):
    """The one comparison declared beforehand."""

    model: Name
    arm: Name
    ratio: int = Field(0, ge=0, description="0 for an arm without ratios.")
    metric: MetricName = Field("auroc", description="dice … failure_rate: segmentation.")
    labels: str = Field("macro", description="macro, or one label or structure.")
    test_set: Name


class Minimum(Entry):
    """Smallest groups that are reported."""

    patients: int = Field(30, ge=2, description="Patients in a subgroup.")
    positives: int = Field(10, ge=1, description="Positive patients of a label.")


Policy = Literal["fixed_0.5", "f1_max", "target_sensitivity"]
Space = Literal["downstream", "efficientnet_lite0", "inception"]


class Assumed(Entry):
    """Variance that the protocol's power is computed with: a pilot's, from its comparisons.csv, or a guess."""

    seed_sd: float = Field(gt=0, description="SD over replicates of the difference (seed_sd of a pilot).")
    patient_sd: float = Field(ge=0, description="SD over patients of the difference (patient_sd of a pilot).")
    patients: int | None = Field(None, ge=2, description="Test patients; default: as many as are forecast.")
    source: str = Field("", description="Where these numbers are from.")


class Thresholds(Entry):
    """Operating points, fitted on real validation data only."""

    policies: list[Policy] = Field(["fixed_0.5", "f1_max", "target_sensitivity"], description="Policies computed.")
    primary: Policy = Field("f1_max", description="Policy behind F1, sensitivity and specificity.")
    target_sensitivity: Share = Field(0.9, description="Sensitivity aimed at on validation.")


class Analysis(Entry):
    """The declared analysis: part of the protocol."""

    primary: Primary | list[Primary] | None = Field(None, description="None only in a rehearsal.")
    alpha: float = Field(0.05, gt=0, lt=0.5, description="Two-sided error level.")
    margin: float = Field(0.02, gt=0, description="Differences inside ± margin count as equivalent.")
    margin_reason: str = Field("", description="Why this margin.")
    assumed: Annotated[Assumed | None, OmittedWhen(None)] = Field(
        None, description="Variance for the protocol's power; null: a usual one, for metrics on the scale of AUROC."
    )
    alternative: Literal["two-sided", "greater", "less"] = Field("two-sided", description="One-sided only on request.")
    thresholds: Thresholds = Field(Thresholds(), description="Operating points.")
    subgroups: list[str] = Field(default_factory=list, description="Covariates by which results are split.")
    minimum: Minimum = Field(Minimum(), description="Smallest groups reported.")
    bootstrap: int = Field(2000, ge=100, description="Patient resamples.")

    @property
    def primaries(self) -> list[Primary]:
        """The declared comparisons: none in a rehearsal, several only in calibration studies."""
        return self.primary if isinstance(self.primary, list) else [self.primary] if self.primary is not None else []


class TorchScriptSpace(Entry):
    """A feature extractor of your own (DINOv2, torchxrayvision …) as a TorchScript file."""

    weights: str = Field(description="TorchScript file, relative to the data root.")
    sha256: str | None = Field(
        None, description="Its checksum; another file is refused. The file is a program: give it."
    )
    size: int = Field(224, ge=16, description="Input size in pixels.")
    channels: Literal[1, 3] = Field(3, description="Input channels.")
    mean: list[float] | None = Field(None, description="Mean per channel of pixels in [0, 1]; default: ImageNet's.")
    sd: list[float] | None = Field(None, description="Standard deviation per channel; default: ImageNet's.")

    def options(self, name: str) -> dict[str, object]:
        """Return what its module builds it of, besides the file."""
        return self.dump(exclude={"weights", "sha256"}, exclude_none=True) | {"label": name}


class Fidelity(Entry):
    """Fidelity and diversity of pools, in feature spaces."""

    spaces: list[Space] = Field(["downstream", "efficientnet_lite0"], description="Feature spaces.")
    inception_weights: str | None = Field(None, description="clean-fid's TorchScript file, relative to the data root.")
    images: int | None = Field(500, ge=50, description="Images a side (equal n); None: as many as there are.")
    floor_splits: int = Field(5, ge=2, description="Patient-disjoint real-versus-real splits.")
    by: list[str] = Field(default_factory=list, description="Also per level of these columns.")
    torchscript: dict[Name, TorchScriptSpace] = Field(default_factory=dict, description="Further feature spaces.")
    radiomics: bool = Field(False, description="Fréchet radiomics distance, where frd-score and pyradiomics import.")


class Memorisation(Entry):
    """The memorisation gate."""

    limit: Share = Field(0.01, description="Excess share of copies above which the verdict sentence says so.")
    space: Literal["downstream", "efficientnet_lite0"] | None = Field(
        "efficientnet_lite0", description="Feature space searched besides pixels; null: pixels alone."
    )
    membership: bool = Field(True, description="Membership inference on the diffusion loss.")

    @property
    def spaces(self) -> list[str]:
        """The feature space, if any."""
        return [] if self.space is None else [self.space]


class Evaluation(Entry):
    """What is measured on pools."""

    pools: list[Name] | None = Field(None, description="Pools measured; default: all.")
    fidelity: Fidelity | None = Field(Fidelity(), description="Fidelity and diversity; null: none.")
    memorisation: Memorisation | None = Field(Memorisation(), description="Memorisation gate; null: none.")
    label_consistency: bool = Field(True, description="Score synthetic images with the real-only model.")
    snapshots: bool = Field(False, description="KID and copy share of every generator snapshot.")
    snapshot_images: int = Field(200, ge=20, description="Images drawn per snapshot for that.")


class Compute(Entry):
    """Where and how jobs run. Changes nothing in the results' identity."""

    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: a GPU where there is one.")
    allow_cpu: bool = Field(False, description="Fall back to the CPU when a GPU is asked for and missing.")
    generator_threads: int = Field(8, ge=1, description="CPU threads of generator training, over all its processes.")
    generator_processes: int = Field(
        1, ge=1, description="Processes of one generator training, a GPU each; batch_size must be a multiple."
    )
    sampling_threads: int = Field(1, ge=1, description="CPU threads of one sampling job.")
    downstream_threads: int = Field(1, ge=1, description="CPU threads of one downstream job.")


class Rehearsal(Entry):
    """How small `--config rehearsal=true` makes the study."""

    patients: int = Field(60, ge=10, description="Patients of a phantom.")
    generator_steps: int = Field(20, ge=1)
    model_steps: int = Field(20, ge=1)
    sampling_steps: int = Field(4, ge=1)


UNTOLD = {"data_root", "compute"}  # where a study runs: no part of what it is


class Study(Entry):
    """A whole study."""

    study: Name = Field(description="Name of the study and of its folder below results/.")
    title: str = Field("", description="Title of the report.")
    description: str = Field("", description="Free text for the report; changes nothing.")
    seed: int = Field(0, description="The study seed: every random number derives from it.")
    study_seeds: list[int] | None = Field(None, description="Repeat the study (known-truth pools only).")
    image: Image = Field(Image(), description="One geometry for all sets and pools.")
    datasets: dict[Name, Dataset] = Field(min_length=1, description="Data sets by name.")
    clusters: dict[Name, Clusters] = Field(
        default_factory=dict, description="Training images divided by appearance, by name."
    )
    prompts: dict[Name, Prompt] = Field(default_factory=dict, description="Texts of rows, by name.")
    autoencoders: dict[Name, Autoencoder] = Field(default_factory=dict, description="Autoencoders by name.")
    generators: dict[Name, Generator] = Field(default_factory=dict, description="Generators by name.")
    pools: dict[Name, Pool] = Field(default_factory=dict, description="Pools of synthetic images by name.")
    models: dict[Name, Model] = Field(min_length=1, description="Downstream models by name.")
    arms: dict[Name, Arm] = Field(min_length=1, description="Training recipes by name.")
    ladder: Annotated[Ladder | None, OmittedWhen(None)] = Field(
        None, description="Adds arms over shares of the real patients and ratios, each with a generator of its own."
    )
    evaluate_on: list[Name] = Field(min_length=1, description="Data sets on which models are tested.")
    match: Literal["steps", "epochs"] = Field("steps", description="What the arms share: optimiser steps, or epochs.")
    readers: dict[Name, Panel] = Field(default_factory=dict, description="Reader studies by name.")
    replicates: Replicates = Field(Replicates(), description="Repetition.")
    analysis: Analysis = Field(description="The declared analysis.")
    evaluation: Evaluation = Field(Evaluation(), description="What is measured on pools.")
    compute: Compute = Field(Compute(), description="Where and how jobs run.")
    rehearsal_sizes: Rehearsal = Field(Rehearsal(), description="Sizes of a rehearsal.")
    rehearsal: bool = Field(False, description="Set by --config rehearsal=true.")
    data_root: str | None = Field(
        None, description="Folder of your data; better --config data_root=… or SYNTHGAIN_DATA."
    )

    @field_validator("study_seeds")
    @classmethod
    def _each_seed_once(cls, value: list[int] | None) -> list[int] | None:
        if value is not None and (not value or len(set(value)) < len(value)):
            raise ValueError(f"must be different seeds, at least one, got {value}")
        return value

    @model_validator(mode="before")
    @classmethod
    def _rehearsal_as_text(cls, data: object) -> object:
        """Snakemake hands on the words of `--config` as text."""
        words = {"true": True, "false": False}
        if isinstance(data, dict) and data.get("rehearsal") in ("true", "false"):
            return {**data, "rehearsal": words[data["rehearsal"]]}
        return data

    @model_validator(mode="before")
    @classmethod
    def _with_the_ladder(cls, data: object) -> object:
        """Add what `ladder` stands for; what is wrong in it is said by its own type."""
        if isinstance(data, dict) and isinstance(data.get("ladder"), dict):
            try:
                ladder = Ladder.model_validate(data["ladder"])
            except ValidationError:
                return data
            return expanded(data, ladder)
        return data

    @model_validator(mode="before")
    @classmethod
    def _datasets_of_clusters(cls, data: object) -> object:
        """A generator that trains on clusters trains on their data set, which need not be said twice."""
        return with_cluster_datasets(data)

    @model_validator(mode="after")
    def _cross_references(self) -> "Study":
        from synthgain.study.checks import check_references

        check_references(self)
        return self
