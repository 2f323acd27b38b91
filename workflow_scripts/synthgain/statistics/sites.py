"""Several outside sites in one row: does a gain travel on average, and where does it travel least?"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from synthgain.statistics.analysis import Analysis
from synthgain.statistics.endpoints import Endpoint
from synthgain.statistics.estimability import contrast_of
from synthgain.statistics.information import Kinds
from synthgain.statistics.pairs import Pair, pair_units

COLUMNS = [
    *("arm", "ratio", "baseline", "label", "metric", "sites", "count", "difference", "low", "high", "p"),
    *("lowest", "lowest_site", "highest", "highest_site", "reason"),
]


@dataclass(frozen=True, eq=False)
class Site:
    """One test set: its runs (arm, ratio, replicate), what is compared on it, and the endpoint that is looked at."""

    runs: pd.DataFrame
    pairs: Sequence[Pair]
    endpoint: Endpoint


def outside_sites(sites: Sequence[Site], analysis: Analysis) -> pd.DataFrame:
    """`sites.csv`: a row per arm and ratio, over the test sets of which neither it nor its baseline saw a real image.

    The mean over sites counts each once. Its interval is about these very sites, whose patients are different people
    and whose models are the same: variances over patients add, seeds are shared (the contrast of one site, of means).
    p is two-sided and not adjusted.
    """
    rows = []
    for position, pair in enumerate(sites[0].pairs if sites else ()):
        seen = {analysis.arms[name].real for name in (pair.arm, pair.baseline)}
        outside = [site for site in sites if site.endpoint.dataset not in seen and _alike(site, sites[0])]
        if pair.control or len(outside) < 2:
            continue
        own = [site.pairs[position] for site in outside]
        endpoints = [site.endpoint for site in outside]
        units = pair_units(pair, analysis)
        each = [contrast_of(e, p, units)[0].difference for e, p in zip(endpoints, own, strict=True)]
        reasons = [reason for e, p in zip(endpoints, own, strict=True) if (reason := contrast_of(e, p, units)[1])]
        together, reason = contrast_of(_mean(endpoints), pair, units)
        names = [endpoint.dataset for endpoint in endpoints]
        low, high = together.interval(analysis.confidence) if not reasons else (np.nan, np.nan)
        place = {"arm": pair.arm, "ratio": pair.ratio, "baseline": pair.baseline, "label": endpoints[0].label}
        place |= {"metric": endpoints[0].metric, "sites": ", ".join(names), "count": len(names)}
        found: dict[str, object] = {"difference": together.difference, "low": low, "high": high}
        found |= {"p": together.p_value() if not reasons else np.nan}
        found |= {"lowest": min(each), "lowest_site": names[int(np.argmin(each))]}
        found |= {"highest": max(each), "highest_site": names[int(np.argmax(each))]}
        rows.append({**place, **found, "reason": (reasons or [reason])[0]})
    return pd.DataFrame(rows, columns=COLUMNS)


def _alike(site: Site, first: Site) -> bool:
    """True where the same runs are judged, so that they and the pairs stand at the same positions."""
    return site.runs.equals(first.runs) and len(site.pairs) == len(first.pairs)


def _mean(endpoints: Sequence[Endpoint]) -> Endpoint:
    """The mean of an endpoint over sites without common patients."""
    first, count = endpoints[0], len(endpoints)
    information: Kinds = tuple(kind for endpoint in endpoints for kind in endpoint.information)
    known = [endpoint.influence for endpoint in endpoints if endpoint.influence is not None]
    return Endpoint(
        "outside sites",
        first.part,
        first.label,
        first.metric,
        np.mean([endpoint.values for endpoint in endpoints], axis=0),
        np.sum([endpoint.covariance for endpoint in endpoints], axis=0) / count**2,
        information=information,
        influence=np.concatenate(known, axis=1) / count if len(known) == count else None,
    )
