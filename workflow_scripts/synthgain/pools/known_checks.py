"""Whether the options of a pool of known truth fit its kind: for the config and for its jobs."""

from typing import get_args

from synthgain.pools.options import Derived, KnownOptions


def known_problem(kind: str, options: KnownOptions, balanced: bool) -> str | None:
    """Return what of the options does not fit the kind of pool, place first, or None."""
    given = options.given()
    if "base" in given and kind not in get_args(Derived) and given["base"] != kind:
        return f"known_options.base: is for {', '.join(get_args(Derived))}, not for {kind}"
    if given.get("drop") and kind != "mode_dropper":
        return f"known_options.drop: is for mode_dropper, not for {kind}"
    if kind == "mode_dropper" and not options.drop:
        return "known_options.drop: is missing; say what to leave out, such as {sex: F}"
    if given.get("copies") and kind != "part_copier":
        return f"known_options.copies: is for part_copier, not for {kind}"
    if kind == "part_copier" and not options.copies:
        return "known_options.copies: is missing; say the share of copies, such as 0.05"
    if kind == "wrong_prevalence" and not balanced:
        return "balance: is missing; say the prevalence, such as {opacity: 0.8}"
    return None
