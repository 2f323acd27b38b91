"""A diffusion generator's network from its slice: fresh, begun from another's weights, or steering a frozen one."""

from typing import Any

from diffusers import UNet2DModel

from synthgain.generators.condition_encoder import ConditionEncoder, column_specs
from synthgain.generators.diffusion import ConditionalNetwork, DiffusionGenerator, fitting_weights
from synthgain.generators.formulations import Formulation, formulation_from
from synthgain.generators.mask_condition import CONCATENATION, CONTROLNET
from synthgain.generators.options import TrainingOptions
from synthgain.generators.training_data import TrainingData, measure_sigma_data
from synthgain.networks.unet import condition_dimension
from synthgain.registry import NETWORKS
from synthgain.runtime.command import logger
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.loading import load

LOSS_KEYS = {"p_mean", "p_std", "min_snr_gamma"}  # of a formulation: they weigh the loss, the network is the same


def build_formulation(entry: dict[str, Any], data: TrainingData, start: DiffusionGenerator | None) -> Formulation:
    """Return the slice's formulation with the data's sigma_data; beside a frozen network, with that network's own.

    Raises SynthGainError where a frozen network was trained with another formulation.
    """
    config = entry.get("formulation") or {"kind": "edm"}
    if entry.get("mask_by") != CONTROLNET or start is None:
        return formulation_from(config, measure_sigma_data(data.images))
    made = formulation_from(config, start.sigma_data)
    own, frozen = made.config(), start.formulation.config()
    for key in sorted(set(own) | set(frozen)):
        if key not in LOSS_KEYS and own.get(key) != frozen.get(key):
            raise SynthGainError(
                f"generators.{entry['generator']}.formulation.{key} {own.get(key)!r}: the frozen network of "
                f"{entry['init_from']} has {frozen.get(key)!r}; give the same formulation"
            )
    return made


def build_module(entry: dict[str, Any], options: TrainingOptions, data: TrainingData) -> ConditionalNetwork:
    """Return network and condition encoder with fresh weights from torch's global seed."""
    channels, size = data.images.shape[1], data.images.shape[-1]
    network_options = {"dropout": options.dropout, **entry["network"].get("options", {})}
    concatenated = 0 if data.masks is None or entry.get("mask_by") != CONCATENATION else data.masks.shape[1]
    build = load(NETWORKS, entry["network"]["module"]).build
    network: UNet2DModel = build(network_options, size, channels, concatenated)
    specs = column_specs(entry["condition_on"], data.columns, data.table[data.labelled])
    return ConditionalNetwork(network, ConditionEncoder(specs, condition_dimension(network)))


def take_over_weights(module: ConditionalNetwork, start: DiffusionGenerator, manifest: str) -> None:
    """Take over the averaged weights of another generator that fit by name and shape, and its conditions by column."""
    fitting = fitting_weights(module.network, start.network.state_dict())
    if not fitting:
        raise SynthGainError(f"init_from {manifest}: none of its network's weights fit; use the same network options")
    module.network.load_state_dict(fitting, strict=False)
    shared = module.encoder.take_over(start.encoder)
    total = len(module.network.state_dict())
    logger.info(
        "started from %s: %d of %d tensors fit, conditions %s",
        manifest,
        len(fitting),
        total,
        ", ".join(shared) or "none",
    )


def controlled_module(
    module: ConditionalNetwork, start: DiffusionGenerator | None, entry: dict[str, Any], data: TrainingData
) -> ConditionalNetwork:
    """Return the frozen network and condition encoder of `start` with a new control network for the masks.

    module: what the slice would build afresh, to compare with. The encoder is frozen with the network, since its
    vectors mean something to that network alone. Raises SynthGainError where `start` is not such a generator.
    """
    from synthgain.networks.unet_condition import build_control  # loads diffusers' ControlNet: only where used

    assert start is not None  # checked with the slice, as are the masks
    assert data.masks is not None
    place, manifest = f"generators.{entry['generator']}", entry["init_from"]
    if start.mask_by is not None or start.output != "image":
        what = "draws masks" if start.output != "image" else "takes masks itself"
        raise SynthGainError(f"{place}.init_from: {manifest} {what}; a control network steers one that draws images")
    if "encoder_hid_dim" not in start.network.config:
        raise SynthGainError(
            f"{place}.init_from: the network of {manifest} takes no control; give that generator network unet_condition"
        )
    shapes, own = ({k: v.shape for k, v in net.state_dict().items()} for net in (start.network, module.network))
    if shapes != own or start.image_shape[-1] != data.images.shape[-1]:
        raise SynthGainError(f"{place}.network: options or image size are not those of {manifest}; give the same")
    columns = [column["name"] for column in start.encoder.columns]
    if columns != list(entry["condition_on"]):
        raise SynthGainError(
            f"{place}.condition_on: its columns are {', '.join(entry['condition_on']) or 'none'}, those of the frozen "
            f"{manifest} {', '.join(columns) or 'none'}; give the same, in that order"
        )
    control = build_control(start.network, data.images.shape[-1], data.masks.shape[1])
    return ConditionalNetwork(start.network, start.encoder, control)
