"""The diffusers scheduler that a trained generator is published with.

Apart from the generator itself: its import loads scipy.stats, which no job that draws has a use for.
"""

from typing import Any

from diffusers import DPMSolverMultistepScheduler, EDMDPMSolverMultistepScheduler

from synthgain.generators.formulations import Edm, Formulation, VPrediction


def scheduler_of(formulation: Formulation) -> Any:
    """Return the diffusers scheduler that samples from this formulation; saved beside the network as `scheduler/`."""
    if isinstance(formulation, Edm):
        return EDMDPMSolverMultistepScheduler(
            sigma_min=formulation.sigma_min, sigma_max=formulation.sigma_max, sigma_data=formulation.sigma_data
        )
    assert isinstance(formulation, VPrediction)
    return DPMSolverMultistepScheduler(
        num_train_timesteps=formulation.train_steps,
        trained_betas=formulation.betas().tolist(),
        prediction_type="v_prediction",
        rescale_betas_zero_snr=formulation.zero_terminal_snr,
        timestep_spacing="trailing",
    )
