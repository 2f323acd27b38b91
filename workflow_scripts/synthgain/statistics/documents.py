"""What the analysis of a model writes, typed: rows of comparisons.csv, alarms, verdict.json.

Numbers are NaN in rows and null in the files where they are not known.
"""

from typing import NotRequired, TypedDict, cast

import pandas as pd


class Floor(TypedDict):
    """The best prediction that looks at no image, on one endpoint of a segmentation model."""

    floor: str
    value: float


class Interval(TypedDict):
    """A difference as it is shown."""

    difference: float
    low: float
    high: float
    p: float


class Compared(Interval):
    """An arm against another on one endpoint."""

    arm: str
    ratio: int
    baseline: str
    dataset: str
    label: str
    metric: str
    p_adjusted: float
    p_guard: float
    verdict: str
    reason: str


class Row(Compared):
    """A row of comparisons.csv (docs/architecture.md), as far as verdicts read it. floor: of declared comparisons."""

    family: str
    role: str
    replicates: int
    mean: float
    baseline_mean: float
    p_two_sided: float
    claim: str
    units: int
    unit: str
    floor: NotRequired[Floor | None]


class Tested(Compared):
    """A comparison that a guard looked at. of, of_ratio, gain, head_to_head: the declared arm beside a competitor."""

    state: str
    of: NotRequired[str]
    of_ratio: NotRequired[int]
    gain: NotRequired[float]
    head_to_head: NotRequired[Interval]


class Alarm(TypedDict):
    """What a guard found. rows: those that raise it; tested: all, each with its own state."""

    checked: bool
    raised: bool
    state: str
    rows: list[Tested]
    tested: list[Tested]


class Filtered(TypedDict):
    """The arm on the pool without the flagged samples, on a declared endpoint."""

    arm: str
    ratio: int
    dataset: str
    label: str
    metric: str
    difference: float
    low: float
    high: float
    verdict: str


class Gate(TypedDict):
    """gate.json of one draw of a pool, as far as it is read; one of older code names no copies."""

    exceeded: bool
    excess: float | None
    barred_sets: list[str]
    sentence: str
    low: NotRequired[float | None]
    high: NotRequired[float | None]
    limit: NotRequired[float]
    state: NotRequired[str]
    copies: NotRequired[int]
    images: NotRequired[int]


class Copying(TypedDict):
    """An arm whose pool the gate warns of. barred_sets: of all draws; the other numbers: of the worst one."""

    arm: str
    excess: float | None
    low: float | None
    high: float | None
    limit: float | None
    state: str | None
    copies: int | None
    images: int | None
    sentence: str
    exceeded: bool
    barred_sets: list[str]
    filtered: list[Filtered]


class CopyAlarm(TypedDict):
    """What the memorisation gate says of the arms."""

    checked: bool
    raised: bool
    rows: list[Copying]


class Guards(TypedDict):
    """The alarm of each guard."""

    a_a: Alarm
    under_trained: Alarm
    negative_control: Alarm
    step_matched_control: Alarm
    strong_augmentation: Alarm
    unreached: Alarm


class Alarms(Guards):
    """All that can limit a verdict."""

    memorisation: CopyAlarm


class Judged(TypedDict):
    """A declared comparison in verdict.json."""

    primary: Row | None
    verdict: str | None
    reason: str
    sentence: str


class SeedInterval(TypedDict):
    """Bootstrap interval over patients of a declared difference, for these seeds."""

    arm: str
    ratio: int
    dataset: str
    low: float
    high: float


class Verdict(Judged):
    """verdict.json: the first declared comparison, all of them, and what every reader must know."""

    comparisons: list[Judged]
    alarms: Alarms
    notes: list[str]
    alpha: float
    margin: float
    alternative: str
    replicates: int
    pilot: bool
    rehearsal: bool
    patient_bootstrap: list[SeedInterval]


def rows_of(table: pd.DataFrame) -> list[Row]:
    """Return comparisons as rows, in their order."""
    return cast("list[Row]", table.to_dict("records"))  # pandas does not know its columns
