"""Soft labels: beside a label, the share of its readers who gave it.

The label itself stays what most readers said: on it rest metrics, thresholds, balance and the counts of positives. Only
the loss in training takes the share.
"""


def votes_of(label: str) -> str:
    """Return the name of the column that holds a label's share of readers, in 0 … 1."""
    return f"{label}_votes"
