"""Options of pools that a study sets and a job reads. No torch here."""

from typing import Literal, get_args

from pydantic import Field

from synthgain.entry import Options

Base = Literal["oracle", "copier", "jittered_copier", "noise"]
Derived = Literal["label_shuffled", "wrong_prevalence", "mode_dropper"]
Kind = Literal["oracle", "copier", "jittered_copier", "noise", "label_shuffled", "wrong_prevalence", "mode_dropper"]
# Columns of an imported table that say which image an image was made from, and in which replica it is.
PARENTS = ("parent_image_id", "parent_patient_id")
EXTRA = ("replica", *PARENTS)


class KnownOptions(Options):
    """Options of a pool of known truth."""

    base: Base = Field("oracle", description="label_shuffled, wrong_prevalence, mode_dropper: whose images.")
    drop: dict[str, str | int | float] = Field(
        default_factory=dict, description="mode_dropper: the level of a column that is left out, such as {sex: F}."
    )


def known_problem(kind: str, options: KnownOptions, balanced: bool) -> str | None:
    """Return what of the options does not fit the kind of pool, place first, or None."""
    given = options.given()
    if "base" in given and kind not in get_args(Derived) and given["base"] != kind:
        return f"known_options.base: is for {', '.join(get_args(Derived))}, not for {kind}"
    if given.get("drop") and kind != "mode_dropper":
        return f"known_options.drop: is for mode_dropper, not for {kind}"
    if kind == "mode_dropper" and not options.drop:
        return "known_options.drop: is missing; say what to leave out, such as {sex: F}"
    if kind == "wrong_prevalence" and not balanced:
        return "balance: is missing; say the prevalence, such as {opacity: 0.8}"
    return None
