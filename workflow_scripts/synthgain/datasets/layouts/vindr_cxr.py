"""VinDr-CXR as published: `train/<image_id>.dicom`, `test/…`, `annotations/image_labels_{train,test}.csv`.

Nguyen et al., Sci Data 2022;9:429 (arXiv:2012.15029); physionet.org/content/vindr-cxr. Each training film was read by
three of 17 radiologists, a row each; test films have a consensus. `Other diseases` of one table is `Other disease` in
the other. No patient is named. `labels: {votes: majority}` (two of three; any, all) makes one label of the readers'
votes. `soft` keeps their share, too, as `<finding>_votes`; the label, and so every metric, is the majority's.
"""

from pathlib import Path

import pandas as pd

from synthgain.data.votes import votes_of
from synthgain.datasets.layout_options import LayoutOptions
from synthgain.datasets.layouts.chest_labels import columns_or_error, snake
from synthgain.datasets.layouts.companions import companion, one_row_each
from synthgain.runtime.errors import SynthGainError

LICENCE = "PhysioNet credentialed health data licence; not to be shared"
CITATION = "Nguyen HQ et al. VinDr-CXR. Sci Data 2022;9:429 (arXiv:2012.15029)"
GET = (
    "get https://physionet.org/content/vindr-cxr (credentialed access) and put it there, so that it "
    "holds train/, test/ and "
    "annotations/image_labels_train.csv and image_labels_test.csv"
)
_NOT_LABELS = ("image_id", "rad_ID", "rad_id")
_RENAMED = {"Other disease": "Other diseases"}
# A label is 1 where more than this share of its readers said so.
_SHARES = {"any": 0.0, "majority": 0.5, "soft": 0.5, "all": 0.999}


def reading(table: pd.DataFrame, options: LayoutOptions) -> dict[str, object]:
    """Return how the rows are read."""
    shares = [votes_of(name) for name in options.findings if options.labels.votes == "soft"]
    return {
        "image_id": "image_id",
        "patient_id": None,
        "site": {"constant": "vindr"},
        "mask": [],
        "targets": {name: {"column": name, "kind": "binary"} for name in options.findings},
        "covariates": {name: {"column": name, "kind": "continuous", "range": [0, 1]} for name in shares},
    }


def rows(folder: Path, options: LayoutOptions) -> pd.DataFrame:
    """Return one row per film: image_id, image, part, readers, and of each finding the votes' label."""
    tables = [_labels(folder, part, options) for part in ("train", "test")]
    return pd.concat(tables, ignore_index=True)


def _labels(folder: Path, part: str, options: LayoutOptions) -> pd.DataFrame:
    name = f"annotations/image_labels_{part}.csv"
    table = companion(folder, (name,), GET).rename(columns=_RENAMED)
    columns_or_error(table, ("image_id",), name, "VinDr-CXR")
    reader = next((column for column in ("rad_ID", "rad_id") if column in table), None)
    if reader is not None:
        columns = [str(column) for column in table if column not in _NOT_LABELS]
        table = table.assign(reading=table["image_id"] + " by " + table[reader])
        one_row_each(table, "reading", columns, folder / name)  # the same reading twice is no second vote
        table = table.drop_duplicates("reading").drop(columns="reading")
    labels = table.drop(columns=[one for one in _NOT_LABELS if one in table])
    labels.columns = [snake(str(one)) for one in labels]
    lacking = [finding for finding in options.findings if finding not in labels]
    if lacking:
        raise SynthGainError(
            f"{folder / name}: no column for {lacking[0]!r}; it has {', '.join(sorted(map(str, labels)))}"
        )
    votes = labels[list(options.findings)].apply(pd.to_numeric, errors="coerce")
    wrong = [finding for finding in votes if not votes[finding].isin((0, 1)).all()]
    if wrong:
        cell = labels.loc[~votes[wrong[0]].isin((0, 1)), wrong[0]].iloc[0]
        raise SynthGainError(f"{folder / name}: {wrong[0]!r} holds {cell!r}; a reader's vote is 0 or 1")
    shares = votes.groupby(table["image_id"], sort=False).mean()
    made = (shares > _SHARES[options.labels.votes]).astype(int).astype(str).where(shares.notna(), "")
    if options.labels.votes == "soft":
        made = made.join(shares.astype(str).where(shares.notna(), "").rename(columns=votes_of))
    made.insert(0, "readers", table.groupby("image_id", sort=False).size().astype(str))
    made.insert(0, "part", part)
    made.insert(0, "image", f"{part}/" + made.index + ".dicom")
    return made.reset_index(names="image_id")
