"""The declared analysis as plain objects, read from the job's slice."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from synthgain.runtime.errors import SynthGainError
from synthgain.statistics.looks import look_levels
from synthgain.statistics.metric_registry import METRICS, metrics_of
from synthgain.statistics.units import DRAWN, GENERATED, REAL

CONTROL_ROLES = ("repeated", "real_long", "real_strong", "negative_control")


@dataclass(frozen=True)
class Primary:
    """One declared comparison."""

    arm: str
    ratio: int
    metric: str
    labels: str
    test_set: str

    def endpoint(self) -> tuple[str, str, str]:
        """(dataset, label, metric)."""
        return self.test_set, self.labels, self.metric


@dataclass(frozen=True)
class Analysis:
    """What is compared, and how. arms: name → its entry in the slice (real, synthetic, role, baseline, match …).

    alpha: the level of this look, where several are planned. unplanned: why this look at each of the primaries was not
    planned, "" where it was.
    """

    arms: Mapping[str, Mapping[str, Any]]
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
        return str(self.arms[arm].get("role", "other"))

    def is_synthetic(self, arm: str) -> bool:
        """True if the arm trains on synthetic images."""
        return bool(self.arms[arm].get("synthetic"))

    def source(self, arm: str) -> str:
        """Where the arm's images come from: REAL, DRAWN (a pool that no generator of the study made) or GENERATED."""
        if not self.is_synthetic(arm):
            return REAL
        return GENERATED if self.arms[arm].get("generated", True) else DRAWN


def read_analysis(job_slice: Mapping[str, Any]) -> Analysis:
    """Read compare_arms' slice; SynthGainError names the key that a user must mend.

    `analysis.primary` is null (a rehearsal), one comparison, or a list (calibration studies).
    """
    declared = job_slice["analysis"]
    task = job_slice["task"]
    thresholds = declared.get("thresholds", {})
    minimum = declared.get("minimum", {})
    replicates = job_slice.get("replicates", {})
    analysis = Analysis(
        arms=job_slice["arms"],
        primaries=_primaries(declared.get("primary")),
        metrics=tuple(declared.get("metrics") or metrics_of(task)),
        alpha=_level(float(declared["alpha"]), replicates),
        margin=float(declared["margin"]),
        alternative=declared.get("alternative", "two-sided"),
        policies=tuple(thresholds.get("policies", ("fixed_0.5", "f1_max", "target_sensitivity"))),
        policy=thresholds.get("primary", "f1_max"),
        target_sensitivity=float(thresholds.get("target_sensitivity", 0.9)),
        subgroups=tuple(declared.get("subgroups", ())),
        minimum_patients=int(minimum.get("patients", 30)),
        minimum_positives=int(minimum.get("positives", 10)),
        bootstrap=int(declared.get("bootstrap", 2000)),
        replicates=int(replicates.get("count", 1)),
        generators=int(replicates.get("generators", 1)),
        pools=int(replicates.get("pools", 1)),
        rehearsal=bool(job_slice.get("rehearsal", False)),
        image_level=tuple(job_slice.get("image_level", ())),
        guarded_models=max(1, int(job_slice.get("guarded_models", 1))),
    )
    _check(analysis, task)
    return analysis


def _level(alpha: float, replicates: Mapping[str, Any]) -> float:
    """Return the level of this look at the results: alpha where only one is planned."""
    looks = replicates.get("looks")
    return look_levels(alpha, tuple(looks))[looks.index(replicates["count"])] if looks else alpha


def _primaries(declared: Any) -> tuple[Primary, ...]:
    entries = [] if declared is None else declared if isinstance(declared, list) else [declared]
    return tuple(
        Primary(
            entry["arm"], int(entry.get("ratio", 0)), entry["metric"], entry.get("labels", "macro"), entry["test_set"]
        )
        for entry in entries
    )


def _check(analysis: Analysis, task: str) -> None:
    for primary in analysis.primaries:
        if primary.arm not in analysis.arms:
            raise SynthGainError(f"analysis.primary.arm: no arm {primary.arm!r}; arms: {', '.join(analysis.arms)}")
        if analysis.arms[primary.arm].get("baseline") is None:
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
