"""Cross-references of styled pools: who may draw them, and who may judge them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from synthgain.study.generation import family_of
from synthgain.study.roles import base_pool, judging, root_pool

if TYPE_CHECKING:
    from synthgain.study.schema import Study


def check_styling(study: Study) -> None:
    """Raise ValueError, one line naming the place, where a pool cannot be styled or nobody else is left to judge it."""
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
    fidelity = study.evaluation.fidelity
    spaces = [] if fidelity is None else [*fidelity.spaces, *fidelity.torchscript]
    for name in study.evaluation.pools or study.pools:
        styling = root_pool(study, name).styling if name in study.pools else None
        if styling is not None and spaces and not judging(study, name, spaces):
            raise ValueError(
                f"evaluation.fidelity.spaces: {styling.space} styles pool {base_pool(study, name)!r}, and it may not "
                f"judge what it styled; add another space, or leave {name!r} out of evaluation.pools"
            )
