"""A size ladder in one entry: is a set of this size enough, or would it pay to collect more?

For every share of the training patients it makes a plain real arm and one with synthetic images; below all patients
also a generator and a pool of these patients alone, so that no arm borrows from patients that its baseline lacks.
"""

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import Field, ValidationError, model_validator

from synthgain.downstream.options import Arm
from synthgain.entry import Entry, Name, Share, nearest

RECIPE = ("real", "real_fraction", "label_fraction", "synthetic")  # of an arm: whose films and labels it has


class Ladder(Entry):
    """Arms over shares of the real training patients and ratios."""

    pool: Name = Field(description="Pool, drawn by a generator of all training patients of one data set.")
    fractions: list[Annotated[Share, Field(gt=0)]] = Field(
        [0.1, 0.25, 0.5, 1.0], min_length=2, description="Shares of the training patients."
    )
    ratios: list[Annotated[int, Field(ge=0)]] = Field(
        [0, 100, 300], min_length=1, description="Ratios at each share; the real images alone are always there."
    )

    @model_validator(mode="after")
    def _different(self) -> "Ladder":
        if len({named_share(share) for share in self.fractions}) < len(self.fractions):
            raise ValueError(f"fractions: {self.fractions} are not all different")
        if not any(self.ratios):
            raise ValueError("ratios: give one above 0")
        return self


def expanded(config: Mapping[str, object], ladder: Ladder) -> dict[str, object]:
    """Return the config with the ladder's generators, pools and arms; what it has of such a name stays as it is.

    For a share of 25 %: generator and pool `<name>_25`, arms `real_25` and `with_25`. Raises ValueError, with the
    place in front, where the pool is not drawn by a generator of the whole training part, or where the study has
    something else by one of these names (such as `with_25` of a label fraction): it would be drawn as a size.
    """
    made = {key: _entries(config.get(key)) for key in ("generators", "pools", "arms")}
    pool = made["pools"].get(ladder.pool)
    if not isinstance(pool, Mapping):
        raise ValueError(f"ladder.pool: there is no {ladder.pool!r}; {nearest(ladder.pool, made['pools'])}")
    name = str(pool.get("from"))
    generator = made["generators"].get(name)
    seen = generator.get("train_on") if isinstance(generator, Mapping) else None
    if not isinstance(generator, Mapping) or not isinstance(seen, Mapping):
        raise ValueError(
            f"ladder.pool: {ladder.pool!r} is drawn by no generator of the study; name a pool that has from"
        )
    if seen.get("real_fraction", 1.0) != 1.0 or generator.get("init_from") is not None:
        raise ValueError(f"ladder.pool: its generator {name!r} must train on all patients, from random weights")
    ratios = [ratio for ratio in ladder.ratios if ratio]
    for share in ladder.fractions:
        drawn, end = ladder.pool, named_share(share)
        if share < 1:
            drawn, trained = f"{ladder.pool}_{end}", f"{name}_{end}"
            own = {**copy.deepcopy(dict(generator)), "train_on": {**seen, "real_fraction": share}}
            _add(made, "generators", trained, own, ("train_on",))
            enough = {"replicas": math.ceil(max(ratios) / 100)}  # an arm takes the children of its own rows alone
            _add(made, "pools", drawn, {**copy.deepcopy(dict(pool)), "from": trained, **enough}, ("from", "rows_of"))
        real: dict[str, object] = {"real": pool.get("rows_of"), **({"real_fraction": share} if share < 1 else {})}
        if share < 1 or not any(_plain(arm, real) for arm in made["arms"].values()):
            _add(made, "arms", f"real_{end}", dict(real), RECIPE)
        if share < 1 or not any(_supplemented(arm, real, drawn, ratios) for arm in made["arms"].values()):
            _add(made, "arms", f"with_{end}", {**real, "synthetic": drawn, "ratios": ratios}, RECIPE)
    return {**config, **made}


def _add(
    made: dict[str, dict[str, object]], kind: str, name: str, own: dict[str, object], keys: tuple[str, ...]
) -> None:
    """Add an entry; one that is there must have the same `keys`."""
    there = made[kind].setdefault(name, own)
    differs = [key for key in keys if isinstance(there, Mapping) and _given(there, key) != _given(own, key)]
    if differs:
        raise ValueError(f"ladder: {kind}.{name} is there and its {differs[0]} is not the ladder's; rename it")


def _given(entry: Mapping[str, object], key: str) -> object:
    """Return what an entry has of a key: shares of 1 are those that are left out."""
    if key not in entry:
        return None
    value = entry[key]
    if isinstance(value, Mapping):
        return {name: found for name, found in value.items() if found != 1}
    return None if value == 1 else value


def _entries(value: object) -> dict[str, object]:
    return {str(key): entry for key, entry in value.items()} if isinstance(value, Mapping) else {}


def _plain(arm: object, real: Mapping[str, object]) -> bool:
    """True for the plain arm of all real images."""
    try:
        read = Arm.model_validate(arm)
    except ValidationError:  # said where the arms are read
        return False
    return read.plain and read.real == real["real"] and read.fraction == 1


def _supplemented(arm: object, real: Mapping[str, object], pool: str, ratios: Sequence[int]) -> bool:
    """True for an arm of all real images that has this pool at these ratios already."""
    try:
        read = Arm.model_validate(arm)
    except ValidationError:
        return False
    bare = read.model_copy(update={"synthetic": None, "ratios": []})
    return (
        bare.plain
        and (bare.real, bare.fraction, read.synthetic) == (real["real"], 1, pool)
        and set(ratios) <= set(read.ratios)
    )


def named_share(share: float) -> str:
    """Return a share in percent as it stands in names: 25, 2_5."""
    return f"{100 * share:g}".replace(".", "_")
