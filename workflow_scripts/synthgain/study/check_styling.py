"""Cross-references of styled pools: who may draw them, and who may judge them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from synthgain.study.generation import family_of

if TYPE_CHECKING:
    from synthgain.study.schema import Study


def check_styling(study: Study) -> None:
    """Raise ValueError, one line naming the place, where a pool cannot be styled or nobody else is left to judge it."""
    fidelity = study.evaluation.fidelity
    for name, pool in study.pools.items():
        if pool.styling is None or pool.from_ not in study.generators:
            continue
        generator = study.generators[pool.from_ or ""]
        if generator.output != "image+mask" or not family_of(generator).denoises:
            raise ValueError(
                f"pools.{name}.styling: needs a generator that denoises, with output: image+mask; not {pool.from_!r}"
            )
        if generator.autoencoder_name is not None:
            raise ValueError(f"pools.{name}.styling: {pool.from_!r} draws latents; take a generator of pixels")
        spaces = [] if fidelity is None else [*fidelity.spaces, *fidelity.torchscript]
        if spaces and set(spaces) == {pool.styling.space}:
            raise ValueError(
                f"evaluation.fidelity.spaces: {pool.styling.space} styles pool {name!r}, and it may not judge what it "
                "styled; add another space"
            )
