"""Pools made of another pool: its survivors of a filter on scores, or as many of it unselected."""

import numpy as np
import pandas as pd

from synthgain.data.replicas import read_replicas
from synthgain.entry import checked
from synthgain.pools.options import Filter
from synthgain.pools.shards import Drawn, ShardRequest, shard_bounds
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import read_table
from synthgain.seeds import random_generator

SCORE_INPUTS = ("memorisation", "consistency", "ratings")  # names of the inputs that bring a score table
PIXELS = "sha256"
KEYS = ("image_id", PIXELS)  # of a score table


def draw(request: ShardRequest) -> Drawn:
    """Return one shard of replica k: the survivors among replica k of the base pool, in its order.

    options: {of: base pool, filter: {column, keep: above|below|false, quantile | threshold}, thin: bool},
    with the manifest next to a score table (`read_scores`) among the inputs. Thinned, as many
    images are kept as survive the filter, but chosen at random: the filter's control.
    Images keep their image_id, since their pixels stay the same. The quantile is that of this replica,
    so that more replicas change none already drawn.
    """
    options, replica = request.options, request.keys.replica
    given = request.inputs.replicas[options["of"], request.keys.index, replica]
    base = read_replicas([(given.path, given.identity)])
    table = base.table
    rule = checked(Filter, options["filter"], "filter", of_slice=True)
    scores, unrated = scores_of(table, read_scores(request, rule))
    rated = table["image_id"].isin(scores.index).to_numpy() if unrated else np.ones(len(table), dtype=bool)
    kept = np.zeros(len(table), dtype=bool)
    if rated.any():
        kept[rated] = survivors(scores[rule.column], table[rated], rule)
    if options.get("thin"):
        kept = thinned(len(table), int(kept.sum()), request)
    if not kept.any():
        why = f" ({unrated} of {len(table)} were not rated)" if unrated else ""
        raise SynthGainError(
            f"pools.{request.keys.pool}: no image of replica {replica} survives{why}; relax the filter"
        )
    start, stop = shard_bounds(len(table), request.shard, request.shards)
    positions = np.flatnonzero(kept[start:stop]) + start
    facts: dict[str, object] = {"of": options["of"], "kept": int(kept.sum()), "of_images": len(table)}
    if unrated:
        facts["unrated"] = unrated
    masks = None if base.planes is None else base.planes.gather(positions)
    chosen = table.iloc[positions].drop(columns="sha256")
    return Drawn(base.pixels.gather(positions), chosen, base.columns, masks, base.mask_names, facts)


def survivors(scores: pd.Series, table: pd.DataFrame, rule: Filter) -> np.ndarray:
    """Return which rows of `table` the rule keeps: (N,) bool. scores: indexed by image_id.

    `above` keeps score >= cut, `below` score <= cut, `false` where a flag is not set. The cut is a
    threshold or a quantile of the table's own scores. Of images whose score is not defined (NaN, as the Dice of two
    empty masks) a quantile keeps the same share, the first in the pool's order, so that it changes how well pairs fit
    and not how many have an object; a threshold keeps them all. Raises SynthGainError for images that the scores do
    not list.
    """
    missing = ~table["image_id"].isin(scores.index)
    if missing.any():
        name = table.loc[missing, "image_id"].iloc[0]
        raise SynthGainError(f"filter.column {rule.column!r}: image {name} has no score")
    values = scores.loc[table["image_id"]]
    if rule.keep == "false":
        return ~values.fillna(False).astype(bool).to_numpy()
    numbers = values.to_numpy(dtype=np.float64)
    unscored = np.isnan(numbers)
    if unscored.all():
        raise SynthGainError(f"filter.column {rule.column!r}: no image of this replica has a defined score")
    cut = rule.threshold if rule.quantile is None else np.quantile(numbers[~unscored], rule.quantile)
    kept = numbers >= cut if rule.keep == "above" else numbers <= cut
    share = 1.0 if rule.quantile is None else float(kept[~unscored].mean())
    kept[np.flatnonzero(unscored)[: round(share * unscored.sum())]] = True
    return np.asarray(kept)


def thinned(count: int, wanted: int, request: ShardRequest) -> np.ndarray:
    """Return a random choice of `wanted` of `count` rows: (count,) bool."""
    kept = np.zeros(count, dtype=bool)
    random = random_generator(step="pool thinning", **request.keys.of_replica())
    kept[random.choice(count, size=wanted, replace=False)] = True
    return kept


def read_scores(request: ShardRequest, rule: Filter) -> pd.DataFrame:
    """Return the one score table among the inputs: image_id and the rule's column, with `sha256` where it has that.

    Raises SynthGainError where the table is another source's than the rule names, or lacks the column.
    """
    scored = [entry for name in SCORE_INPUTS for entry in getattr(request.inputs, name).values()]
    if not scored:
        raise SynthGainError(f"pools.{request.keys.pool}: no score table among its inputs; the rule must list one")
    source = scored[0].manifest().get("source", rule.scores)  # results of older code, taken as current, name none
    if source != rule.scores:
        raise SynthGainError(f"filter.scores: {scored[0].name} holds scores of {source}, wanted {rule.scores}")
    table = read_table(scored[0].folder() / "scores.parquet", scored[0].identity)
    if rule.column not in table.columns:
        known = ", ".join(text for text in table.columns if text not in KEYS)
        raise SynthGainError(f"filter.column: {scored[0].name} has no column {rule.column!r}; columns are {known}")
    return table[[*(key for key in KEYS if key in table.columns), rule.column]]


def scores_of(table: pd.DataFrame, scores: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """Return the scores of a pool's images, indexed by image_id, and how many of its rows have none.

    A table with `sha256` scores pixels: an image counts where both agree, so that one drawn anew under the same name
    has no score, and images without one are counted. A table without lists every image (`survivors` refuses others).
    """
    if PIXELS not in scores:
        return scores.drop_duplicates("image_id").set_index("image_id"), 0
    own = table[["image_id", PIXELS]].merge(scores, on=["image_id", PIXELS]).drop_duplicates("image_id")
    return own.set_index("image_id"), len(table) - len(own)
