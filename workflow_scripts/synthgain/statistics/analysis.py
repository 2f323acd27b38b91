"""The declared analysis as plain objects, read from the job's slice."""

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from synthgain.runtime.errors import SynthGainError
from synthgain.statistics.looks import look_levels
from synthgain.statistics.metric_registry import METRICS, metrics_of
from synthgain.statistics.units import DRAWN, GENERATED, REAL

CONTROL_ROLES = ("repeated", "real_long", "real_strong", "negative_control")


class _Read(BaseModel):
    """A part of the slice: keys that the analysis does not read are passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Primary(_Read):
    """One declared comparison."""

    arm: str
    ratio: int = 0
    metric: str
    labels: str = "macro"
    test_set: str

    def endpoint(self) -> tuple[str, str, str]:
        """(dataset, label, metric)."""
        return self.test_set, self.labels, self.metric


class ComparedArm(_Read):
    """An arm as the slice has it; what each key means stands in `study/roles.py`.

    copies: None where the slice does not say; then arms without synthetic images are taken as copies.
    """

    real: str | None = None
    synthetic: str | None = None
    real_fraction: float = 1.0
    augmentation: str | None = None
    baseline: str | None = None
    validation: str | None = None
    role: str = "other"
    borrowed: bool = False
    generated: bool = True
    filtered: str | None = None
    cleaned: bool = False
    copies: bool | None = None
    match: str = "steps"


class _Thresholds(_Read):
    policies: tuple[str, ...] = ("fixed_0.5", "f1_max", "target_sensitivity")
    primary: str = "f1_max"
    target_sensitivity: float = 0.9


class _Minimum(_Read):
    patients: int = 30
    positives: int = 10


class _Declared(_Read):
    primary: Primary | tuple[Primary, ...] | None = None
    metrics: tuple[str, ...] | None = None
    alpha: float
    margin: float
    alternative: str = "two-sided"
    thresholds: _Thresholds = _Thresholds()
    subgroups: tuple[str, ...] = ()
    minimum: _Minimum = _Minimum()
    bootstrap: int = 2000

    @property
    def primaries(self) -> tuple[Primary, ...]:
        return self.primary if isinstance(self.primary, tuple) else () if self.primary is None else (self.primary,)


class _Replicates(_Read):
    count: int = 1
    generators: int = 1
    pools: int = 1
    looks: tuple[int, ...] | None = None


class _Slice(_Read):
    """What `read_analysis` reads of compare_arms' slice."""

    task: str
    arms: dict[str, ComparedArm]
    analysis: _Declared
    replicates: _Replicates = _Replicates()
    rehearsal: bool = False
    image_level: tuple[str, ...] = ()
    guarded_models: int = 1


@dataclass(frozen=True)
class Analysis:
    """What is compared, and how.

    alpha: the level of this look, where several are planned. unplanned: why this look at each of the primaries was not
    planned, "" where it was.
    """

    arms: Mapping[str, ComparedArm]
    primaries: tuple[Primary, ...]
    metrics: tuple[str, ...]
    alpha: float
    margin: float
    alternative: str
    policies: tuple[str, ...]
    policy: str
    target_sensitivity: float
    subgroups: tuple[str, ...]
    minimum_patients: int
    minimum_positives: int
    bootstrap: int
    replicates: int
    generators: int
    pools: int
    rehearsal: bool
    image_level: tuple[str, ...]
    guarded_models: int = 1
    unplanned: tuple[str, ...] = ()

    @property
    def guard_level(self) -> float:
        """Level that all guards of this model share; the models of a study that have guards share alpha."""
        return self.alpha / self.guarded_models

    @property
    def confidence(self) -> float:
        """1 − alpha, of every two-sided interval."""
        return 1 - self.alpha

    def primary_endpoints(self) -> set[tuple[str, str, str]]:
        """(dataset, label, metric) of each declared comparison."""
        return {primary.endpoint() for primary in self.primaries}

    def primary_metrics(self) -> set[str]:
        """Metrics to which the declared margin applies."""
        return {primary.metric for primary in self.primaries}

    def unplanned_looks(self) -> dict[tuple[str, str, str, str], str]:
        """Return {(arm, dataset, label, metric): why this look at it was not planned} of the primaries."""
        pairs = zip(self.primaries, self.unplanned, strict=False)
        return {(primary.arm, *primary.endpoint()): reason for primary, reason in pairs if reason}

    def role(self, arm: str) -> str:
        """The arm's role, `other` where none is given."""
        return self.arms[arm].role

    def is_synthetic(self, arm: str) -> bool:
        """True if the arm trains on synthetic images."""
        return bool(self.arms[arm].synthetic)

    def source(self, arm: str) -> str:
        """Where the arm's images come from: REAL, DRAWN (a pool that no generator of the study made) or GENERATED."""
        if not self.is_synthetic(arm):
            return REAL
        return GENERATED if self.arms[arm].generated else DRAWN


def read_analysis(job_slice: Mapping[str, object]) -> Analysis:
    """Read compare_arms' slice; SynthGainError names the key that a user must mend.

    `analysis.primary` is null (a rehearsal), one comparison, or a list (calibration studies).
    """
    read = _Slice.model_validate(job_slice)
    declared, replicates = read.analysis, read.replicates
    analysis = Analysis(
        arms=read.arms,
        primaries=declared.primaries,
        metrics=declared.metrics or tuple(metrics_of(read.task)),
        alpha=_level(declared.alpha, replicates),
        margin=declared.margin,
        alternative=declared.alternative,
        policies=declared.thresholds.policies,
        policy=declared.thresholds.primary,
        target_sensitivity=declared.thresholds.target_sensitivity,
        subgroups=declared.subgroups,
        minimum_patients=declared.minimum.patients,
        minimum_positives=declared.minimum.positives,
        bootstrap=declared.bootstrap,
        replicates=replicates.count,
        generators=replicates.generators,
        pools=replicates.pools,
        rehearsal=read.rehearsal,
        image_level=read.image_level,
        guarded_models=max(1, read.guarded_models),
    )
    _check(analysis, read.task)
    return analysis


def _level(alpha: float, replicates: _Replicates) -> float:
    """Return the level of this look at the results: alpha where only one is planned."""
    looks = replicates.looks
    return look_levels(alpha, looks)[looks.index(replicates.count)] if looks else alpha


def _check(analysis: Analysis, task: str) -> None:
    for primary in analysis.primaries:
        if primary.arm not in analysis.arms:
            raise SynthGainError(f"analysis.primary.arm: no arm {primary.arm!r}; arms: {', '.join(analysis.arms)}")
        if analysis.arms[primary.arm].baseline is None:
            raise SynthGainError(
                f"analysis.primary.arm: {primary.arm} has no baseline; give arms.{primary.arm}.baseline"
            )
        if primary.metric not in analysis.metrics:
            names = ", ".join(analysis.metrics)
            raise SynthGainError(
                f"analysis.primary.metric: {primary.metric} is not computed for {task}; known: {names}"
            )
    unknown = [name for name in analysis.metrics if name not in METRICS]
    if unknown:
        raise SynthGainError(f"analysis.metrics: unknown metric {unknown[0]}; known: {', '.join(METRICS)}")
