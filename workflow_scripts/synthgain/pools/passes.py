"""How often an image goes through its generator's network while it is drawn, inpainted or styled. No torch here."""

from synthgain.pools.options import Inpainting, Sampling


def evaluations(sampling: Sampling, inpainting: Inpainting | None = None) -> int:
    """Return a denoising network's evaluations for one image (a generator of another family: one).

    Solvers: pools/sampling.py (heun 2·steps − 1, others steps), twice with guidance of either kind; a guidance interval
    counts as guided everywhere, which is the most it can be. Inpainting: every step down of RePaint's path.
    """
    steps = sampling.steps
    guided = 2 if sampling.doubled else 1
    if inpainting is not None:
        return guided * _repaint_steps(steps, inpainting.resamples, inpainting.jump_length)
    return guided * (2 * steps - 1 if sampling.solver == "heun" else steps)


def styling_start(strength: float, steps: int) -> int:
    """Return how many of `steps` falling noise levels styling leaves out: it goes through the others, at least one."""
    return min(steps - 1, round((1 - strength) * steps))


def styling_evaluations(sampling: Sampling, strength: float) -> int:
    """Return the evaluations that styling adds for one image: one a level whatever the solver, twice with guidance."""
    levels = sampling.steps - styling_start(strength, sampling.steps)
    return levels * (2 if sampling.doubled else 1)


def _repaint_steps(steps: int, resamples: int, jump: int) -> int:
    """Steps down of pools/inpainting.py: blocks of `jump` from the end `resamples` times each, the first block once."""
    first = steps % jump or min(jump, steps)
    return first + (steps - first) * resamples
