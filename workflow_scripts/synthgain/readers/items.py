"""Which images go into a reader study, and in which order each reader sees them."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from synthgain.data.order import joint_levels
from synthgain.readers.options import Panel
from synthgain.runtime.errors import SynthGainError

REAL, SYNTHETIC = "real", "synthetic"
LEAST_GAP = 0.25  # between an image and its repeat: share of the reader's images


def choose(
    panel: Panel, real: Mapping[str, pd.DataFrame], pools: Mapping[str, pd.DataFrame], rng: np.random.Generator
) -> pd.DataFrame:
    """Return the images of a study, a row each, in a random order.

    real: {data set: table of the rows that may be shown}; pools: {pool: table of its images, with
    `parent_patient_id`}; both with `image_id`, `patient_id` and the panel's findings. Columns of the result: origin,
    source, row (in the source's table), image_id, patient_id, `for` (0: every reader; n: reader n alone).
    No two images of one patient, and so no parent with its child. Real images have the findings of the synthetic ones
    in the same shares as far as there are any. Raises SynthGainError where a source is too small.
    """
    chosen: list[pd.DataFrame] = []
    used: set[str] = set()
    for source, table in pools.items():
        patients = table["parent_patient_id"].fillna(table["image_id"])
        found = _pick(table, patients, used, _numbers(panel, panel.items.pools[source]), rng, f"pools.{source}")
        chosen.append(found.assign(origin=SYNTHETIC, source=source))
        used |= set(found["patient_id"])
    wanted = _composition(panel, [pools[part["source"].iloc[0]].iloc[part["row"]] for part in chosen])
    for source, table in real.items():
        numbers = _numbers(panel, panel.items.real[source])
        found = _pick(table, table["patient_id"], used, numbers, rng, f"real.{source}", _kinds(panel, table), wanted)
        chosen.append(found.assign(origin=REAL, source=source))
        used |= set(found["patient_id"])
    joined = pd.concat(chosen, ignore_index=True)
    return joined.iloc[rng.permutation(len(joined))].reset_index(drop=True)


def sequence(items: list[str], repeats: float, rng: np.random.Generator) -> list[tuple[str, bool]]:
    """Return [(item, whether it is shown for the second time)]: own order, repeats at least LEAST_GAP later."""
    order = [(items[i], False) for i in rng.permutation(len(items))]
    gap = max(2, round(LEAST_GAP * len(items)))
    early = order[: max(len(order) - gap, 0)]
    again = rng.permutation(len(early))[: round(repeats * len(items))]
    places = sorted((int(rng.integers(i + gap, len(order) + 1)), early[i][0]) for i in again)
    for shift, (place, item) in enumerate(places):
        order.insert(place + shift, (item, True))
    return order


def _numbers(panel: Panel, count: int) -> list[int]:
    """Return for whom each image of a source is: 0 for those of all readers, n for reader n's own."""
    common = round(panel.common * count)
    own = [reader for reader in range(1, panel.readers + 1) for _ in range(count - common)]
    return [0] * common + own


def _pick(
    table: pd.DataFrame,
    patients: pd.Series,
    used: set[str],
    readers: list[int],
    rng: np.random.Generator,
    place: str,
    kinds: pd.Series | None = None,
    wanted: Mapping[str, float] | None = None,
) -> pd.DataFrame:
    """Draw len(readers) rows of different patients who are not in `used`."""
    rows = pd.DataFrame({"row": np.arange(len(table)), "image_id": table["image_id"].to_numpy()})
    rows["patient_id"] = patients.astype(str).to_numpy()
    rows["kind"] = "" if kinds is None else kinds.to_numpy()
    rows = rows.iloc[rng.permutation(len(rows))]
    rows = rows[~rows["patient_id"].isin(used)].drop_duplicates("patient_id")
    if len(rows) < len(readers):
        raise SynthGainError(
            f"items.{place}: {len(readers)} images are asked for, and {len(rows)} patients are left who have no other "
            "image or child in the kit; ask for fewer, or draw more"
        )
    if wanted:
        rows = _in_shares(rows, wanted, len(readers))
    return rows.head(len(readers)).assign(**{"for": readers}).drop(columns="kind")


def _in_shares(rows: pd.DataFrame, wanted: Mapping[str, float], count: int) -> pd.DataFrame:
    """Return the rows with those first that give each kind its wanted share of `count`."""
    first = [rows[rows["kind"] == kind].head(round(share * count)) for kind, share in wanted.items()]
    front = pd.concat(first).index if first else rows.index[:0]
    ranked = pd.concat([rows.loc[front], rows.drop(front)])
    return ranked.head(count).sample(frac=1, random_state=0)  # `for` must not follow the kinds


def _kinds(panel: Panel, table: pd.DataFrame) -> pd.Series:
    """Return each row's findings as one text; unknown is a kind of its own."""
    known = [name for name in panel.findings if name in table]
    return joint_levels(table, known)


def _composition(panel: Panel, parts: list[pd.DataFrame]) -> dict[str, float]:
    if not panel.findings:
        return {}
    kinds = pd.concat([_kinds(panel, part) for part in parts])
    return {str(kind): float(share) for kind, share in kinds.value_counts(normalize=True).items()}
