"""What the report reads of the audit."""

from pydantic import Field

from synthgain.report.facts import Facts


class CrossingFacts(Facts):
    """What stands in several parts of one data set's split: patients, equal images, near duplicates."""

    patients: int = 0
    exact_duplicates: int = 0
    near_duplicates: int = 0


class AuditedFacts(Facts):
    """What the audit says of one data set."""

    crossing: CrossingFacts = CrossingFacts()


class AuditFacts(Facts):
    """What the audit says: each data set, and test images that other sets' training parts hold."""

    datasets: dict[str, AuditedFacts] = Field(default_factory=dict)
    excluded: dict[str, list[str]] = Field(default_factory=dict)
