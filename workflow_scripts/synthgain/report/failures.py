"""In place of what could not be computed or written is its reason: the rest of the report is there."""

from collections.abc import Callable

from synthgain.attempts import Attempts
from synthgain.report.blocks import Section, Text
from synthgain.report.evidence import ModelEvidence
from synthgain.runtime.errors import SynthGainError

# Table of statistics/<model>/failed.json → what a reader calls it.
TITLES = {
    "metrics": "Other metrics",
    "comparisons": "Other comparisons",
    "summary": "Means of arms",
    "patient_bootstrap": "Patient bootstrap of the primary difference",
    "dose_response": "Dose–response, fitted",
    "learning_curve": "Real-image equivalents",
    "power": "Power",
    "thresholds": "Operating points",
    "shift_or_gain": "Shift or gain",
    "findings": "Each finding",
    "sites": "Outside sites together",
    "calibration": "Calibration",
    "subgroups": "Subgroups",
    "spread": "Spread over patients",
    "coverage": "Images that count",
    "floor": "Trivial floors",
}


def failed_tables(model: ModelEvidence, *names: str) -> list[Text]:
    """Return a line for each of these tables that failed."""
    failed = model.failed
    return [Text(f"{TITLES[name]} failed: {'; '.join(failed[name])}.", "warning") for name in names if name in failed]


def written(name: str, title: str, write: Callable[[], Section | None]) -> Section | None:
    """Return a section, or in its place why it could not be written; an input that is not there stops the report."""
    attempt = Attempts(stops=(SynthGainError,))
    section = attempt(f"section {title}", write, None)
    reasons = [reason for found in attempt.failed.values() for reason in found]
    return (
        Section(name, title, [Text(f"This section failed: {'; '.join(reasons)}.", "warning")]) if reasons else section
    )
