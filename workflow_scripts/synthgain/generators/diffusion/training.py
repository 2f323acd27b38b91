"""Training of the diffusion family: its step, and its network: fresh, begun from another's weights, or steering one."""

import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from accelerate.optimizer import AcceleratedOptimizer
from diffusers.models.unets.unet_2d import UNet2DModel
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from diffusers.schedulers.scheduling_edm_dpmsolver_multistep import EDMDPMSolverMultistepScheduler
from torch import Tensor, nn

from synthgain.data.pixels import to_signed
from synthgain.device import compiled, memory_format
from synthgain.entry import checked
from synthgain.generators.condition_encoder import ConditionEncoder, column_specs
from synthgain.generators.diffusion.formulations import Edm, Formulation, VPrediction, made_of
from synthgain.generators.diffusion.generator import ConditionalNetwork, DiffusionGenerator, fitting_weights, save_parts
from synthgain.generators.diffusion.generator import load as load_diffusion
from synthgain.generators.diffusion.mask_condition import CONCATENATION, CONTROLNET, UNKNOWN
from synthgain.generators.diffusion.options import DiffusionSlice
from synthgain.generators.diffusion.options import Formulation as Options
from synthgain.generators.options import GeneratorTraining
from synthgain.generators.prompting import VARIANTS, Prompting, text_encoder, training_inputs
from synthgain.generators.run import Averages, Run, Stateful, common_parts, training_options, weight_averages
from synthgain.generators.training import link
from synthgain.generators.training_data import PlacedData, TrainingData, measure_sigma_data, training_slice
from synthgain.networks.text_options import Words
from synthgain.networks.unet import condition_dimension, prepare_memory_format
from synthgain.registry import NETWORKS
from synthgain.runtime.command import Job, logger
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import files_below
from synthgain.runtime.loading import load
from synthgain.seeds import integer_seed

if TYPE_CHECKING:
    from synthgain.networks.autoencoder import LatentSpace

AUTOENCODER = "autoencoder"  # its folder, in that of its own job and of each generator in its latents
ENCODED_AT_ONCE = 256  # images that are on the device at once
Scheduler = EDMDPMSolverMultistepScheduler | DPMSolverMultistepScheduler
LOSS_KEYS = {"p_mean", "p_std", "min_snr_gamma"}  # of a formulation: they weigh the loss, the network is the same
WEIGHT_DECAY = 0.01
LEVEL_MARGIN = 1e-6  # keeps ln sigma finite: the normal quantile of 0 is minus infinity


@dataclass(frozen=True)
class Latents:
    """The training images' standardised latents: means and standard deviations (N, Z, h, w) float32.

    name, folder: of the autoencoder, which is `space`.
    """

    name: str
    folder: Path
    space: "LatentSpace"
    mean: Tensor
    sd: Tensor


@dataclass
class DiffusionRun(Run):
    """Network, encoder and formulation; `forward` is `module` as compiled and as accelerate wraps it."""

    formulation: Formulation
    module: ConditionalNetwork
    averaged: ConditionalNetwork
    average: Averages
    optimizer: torch.optim.Optimizer
    mask_by: str | None = None
    prompting: Prompting | None = None
    words: Tensor | None = None  # (N, VARIANTS, …) inputs of the text encoder
    latents: Latents | None = None
    # From `start` on.
    forward: nn.Module = field(init=False)
    prepared_optimizer: AcceleratedOptimizer = field(init=False)
    placed: PlacedData = field(init=False)

    @property
    def encoder(self) -> ConditionEncoder:
        return self.module.encoder

    @property
    def stateful(self) -> dict[str, Stateful]:
        return {"module": self.module, "average": self.average, "optimizer": self.optimizer}

    def start(self) -> None:
        model = compiled(self.module, self.accelerator.device) if self.options.compile else self.module
        self.forward, self.prepared_optimizer = self.accelerator.prepare(model, self.optimizer)
        self.forward.train()
        self.placed = PlacedData.of(
            self.data,
            self.module.encoder,
            self.accelerator.device,
            self.words,
            None if self.latents is None else (self.latents.mean, self.latents.sd),
        )

    def take_step(self, rows: Tensor, own: Tensor) -> Tensor:
        for group in self.prepared_optimizer.param_groups:
            group["lr"] = self.learning_rate_at(self.step)
        clean, values, null = self.placed.batch(rows)
        return train_step(
            self, self.prepared_optimizer, clean, values, null, self.placed.condition_masks(rows), own, rows
        )

    def save_parts(self, folder: Path) -> None:
        for place in self.average.each(self.averaged, folder):
            save_parts(place, self.averaged)

    def save_extras(self, folder: Path) -> list[str]:
        scheduler_of(self.formulation).save_pretrained(folder / "scheduler")
        files = ["scheduler/scheduler_config.json"]
        if self.latents is not None:
            for name in files_below(self.latents.folder):
                link(self.latents.folder / name, folder / AUTOENCODER / name)
                files.append(f"{AUTOENCODER}/{name}")
        return files

    def facts(self) -> dict[str, object]:
        return {
            "formulation": self.formulation.config(),
            "sigma_data": self.formulation.sigma_data,
            "mask_by": self.mask_by,
            **({} if self.latents is None else {"autoencoder": self.latents.name}),
            **self._text_facts(),
            "parameters": sum(parameter.numel() for parameter in self.module.parameters()),
            "trained_parameters": sum(parameter.numel() for parameter in self.module.trained_parameters()),
        }

    def _text_facts(self) -> dict[str, object]:
        if self.module.text is None:
            return {}
        facts: dict[str, object] = {"text": True, **self.module.text.facts}
        if self.prompting is None:  # the null prompt alone: a mask without words
            return facts
        return {
            **facts,
            "prompt": self.prompting.prompt.model_dump(exclude_unset=True),
            "prompt_columns": {name: dict(spec) for name, spec in self.prompting.columns.items()},
        }


def prepare_run(job: Job) -> DiffusionRun:
    """Read the data and build network, encoder, average and optimiser as the slice says."""
    entry, options = training_slice(DiffusionSlice, job), training_options(GeneratorTraining, job)
    data, accelerator, keys = common_parts(job, options)
    start = load_diffusion(job.inputs.start.only.folder()) if entry.init_from is not None else None
    latents = latents_of(job, entry, data, accelerator.device)
    formulation = build_formulation(entry, data, start, latents)
    torch.manual_seed(integer_seed(**keys, step="initial weights"))
    prompting = None if entry.prompt is None else Prompting(entry.prompt, data.columns)
    variants = [] if prompting is None else prompting.training_prompts(data.table, **keys)
    module = build_module(entry, data, variants, latents)
    if entry.mask_by == CONTROLNET:
        module = controlled_module(module, start, entry, data)
    elif start is not None:
        take_over_weights(module, start, str(entry.init_from))
    prepare_memory_format(module.to(accelerator.device))
    average = weight_averages(module, options.kept_decays)
    optimizer = torch.optim.AdamW(
        module.trained_parameters(), lr=options.learning_rate, weight_decay=WEIGHT_DECAY, fused=True
    )
    averaged = copy.deepcopy(module)
    words = None if module.text is None else training_inputs(module.text, variants, data.labelled)
    return DiffusionRun(
        options,
        data,
        accelerator,
        keys,
        formulation,
        module,
        averaged,
        average,
        optimizer,
        entry.mask_by,
        prompting,
        words,
        latents,
    )


def latents_of(job: Job, entry: DiffusionSlice, data: TrainingData, device: torch.device) -> Latents | None:
    """Return the training images' latents, encoded once; None for a generator of pixels.

    Raises SynthGainError where the autoencoder is of other channels.
    """
    if entry.autoencoder is None:
        return None
    from synthgain.networks.autoencoder import load_latents  # loads diffusers' autoencoders: only where used

    folder = job.inputs.autoencoders[entry.autoencoder].folder() / AUTOENCODER
    space, channels = load_latents(folder, device), data.images.shape[1]
    if space.channels != channels:
        raise SynthGainError(
            f"generators.{entry.generator}.autoencoder: {entry.autoencoder} takes {space.channels} channels, here are "
            f"{channels} of image and masks; give it the same output and structures"
        )
    return Latents(entry.autoencoder, folder, space, *encoded(space, data.images, device))


def encoded(space: "LatentSpace", images: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation (N, Z, h, w) float32 of the latents of images (N, C, H, W) uint8."""
    parts = [space.posterior(to_signed(part).to(device)) for part in images.split(ENCODED_AT_ONCE)]
    mean, sd = (torch.cat([part[side].cpu() for part in parts]) for side in (0, 1))
    return mean, sd


def train_step(
    run: DiffusionRun,
    optimizer: AcceleratedOptimizer,
    clean: Tensor,
    values: Tensor,
    null: Tensor,
    masks: Tensor | None,
    own: Tensor,
    rows: Tensor,
    weights: Tensor | None = None,
) -> Tensor:
    """One optimiser step on this process's slots `own` of the global batch; returns (loss, gradient norm) (2,).

    clean (B,C,H,W), masks (B,K,H,W) float32 in {-1, 1} or None, of the training rows `rows` (B,); condition dropout
    takes columns, mask and text together. weights: (B,) float32 of the losses, None: 1 for each.
    """
    spread = run.placed.spreads(rows)
    level, noise, draws, variants, redraw = step_draws(run, clean, spread is not None)
    slots = own.to(clean.device, non_blocking=True)
    if spread is not None:
        clean = clean + spread * redraw[slots]  # the posterior, drawn anew: one kept draw would be a floor of noise
    dropped = draws[slots] < run.options.condition_dropout
    null = null | dropped[:, None]
    if masks is not None:
        masks = masks.masked_fill(dropped[:, None, None, None], UNKNOWN)
    words = run.placed.texts(rows, variants[slots])
    if words is not None:
        words = words.masked_fill(dropped.reshape(-1, *[1] * (words.dim() - 1)), 0)
    clean = clean.contiguous(memory_format=memory_format(clean.device))
    losses = run.formulation.loss(
        lambda scaled, moment: run.forward(scaled, moment, values, null, masks, words),
        clean,
        noise[slots],
        level[slots],
    )
    loss = losses.mean() if weights is None else (losses * weights).mean()
    run.accelerator.backward(loss)
    norm = run.accelerator.clip_grad_norm_(run.module.parameters(), run.options.gradient_clip)
    optimizer.step()
    optimizer.zero_grad()
    run.average.step(run.module.parameters())
    return torch.stack([loss.detach(), norm.detach()])


def step_draws(
    run: DiffusionRun, clean: Tensor, latents: bool = False
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return noise levels (B,) in (0, 1), noise (B,C,H,W), dropout numbers (B,), texts' variants (B,) of the batch.

    Last comes a second noise (B,C,H,W), with which latents are drawn from their posterior; without latents it is empty.

    The levels are one uniform number and its B equal shifts (Kingma et al. 2021, "Variational diffusion
    models", I.1): every batch covers all noise levels, and each slot alone is uniform.
    """
    generator = torch.Generator(clean.device)
    generator.manual_seed(integer_seed(**run.seed_keys, step="noise", number=run.step))
    # Only a network's own dropout draws from the global stream; it must not remember how often a job was killed.
    process = run.accelerator.process_index
    other = {"process": process} if process else {}  # each process its own, where there are several
    torch.manual_seed(integer_seed(**run.seed_keys, step="dropout", number=run.step, **other))
    size, device = run.options.batch_size, clean.device
    start = torch.rand(1, generator=generator, device=device)
    level = (start + torch.arange(size, device=device) / size) % 1.0
    dropped = torch.rand(size, generator=generator, device=device)
    noise = torch.randn(size, *clean.shape[1:], generator=generator, device=device)
    variants = torch.randint(VARIANTS, (size,), generator=generator, device=device)
    redraw = torch.randn(size if latents else 0, *clean.shape[1:], generator=generator, device=device)
    return level.clamp(LEVEL_MARGIN, 1 - LEVEL_MARGIN), noise, dropped, variants, redraw


def build_formulation(
    entry: DiffusionSlice, data: TrainingData, start: DiffusionGenerator | None, latents: Latents | None
) -> Formulation:
    """Return the slice's formulation with the data's sigma_data (1 of latents); with a frozen network, that network's.

    Raises SynthGainError where a frozen network was trained with another formulation.
    """
    config = checked(Options, entry.formulation, "formulation", of_slice=True)
    if entry.mask_by != CONTROLNET or start is None:
        return made_of(config, measure_sigma_data(data.images) if latents is None else 1.0)
    made = made_of(config, start.sigma_data)
    own, frozen = made.config(), start.formulation.config()
    for key in sorted(set(own) | set(frozen)):
        wanted, has = (config.get(key) for config in (own, frozen))
        if key not in LOSS_KEYS and wanted != has:
            raise SynthGainError(
                f"generators.{entry.generator}.formulation.{key} {wanted!r}: the frozen network of "
                f"{entry.init_from} has {has!r}; give the same formulation"
            )
    return made


def build_module(
    entry: DiffusionSlice, data: TrainingData, variants: list[list[str]], latents: Latents | None
) -> ConditionalNetwork:
    """Return network and encoders with fresh weights from torch's global seed. variants: prompts of training."""
    channels, size = (data.images if latents is None else latents.mean).shape[1::2]
    concatenated = 0 if data.masks is None or entry.mask_by != CONCATENATION else data.masks.shape[1]
    build = load(NETWORKS, entry.network.module).build
    network: UNet2DModel = build(entry.network.options, size, channels, concatenated)
    specs = column_specs(entry.condition_on, data.columns, data.table[data.labelled])
    encoder = ConditionEncoder(specs, condition_dimension(network))
    text = None
    if entry.prompt is not None:
        text = text_encoder(variants, condition_dimension(network), entry.text_encoder or Words())
    return ConditionalNetwork(network, encoder, text=text)


def take_over_weights(module: ConditionalNetwork, start: DiffusionGenerator, manifest: str) -> None:
    """Take over the averaged weights of another generator that fit by name and shape, and its conditions by column."""
    fitting = fitting_weights(module.network, start.network.state_dict())
    if not fitting:
        raise SynthGainError(f"init_from {manifest}: none of its network's weights fit; use the same network options")
    module.network.load_state_dict(fitting, strict=False)
    shared = module.encoder.take_over(start.encoder)
    if module.text is not None and start.text is not None:
        shared += [f"{module.text.take_over(start.text)} words"]
    total = len(module.network.state_dict())
    logger.info(
        "started from %s: %d of %d tensors fit, conditions %s",
        manifest,
        len(fitting),
        total,
        ", ".join(shared) or "none",
    )


def controlled_module(
    module: ConditionalNetwork, start: DiffusionGenerator | None, entry: DiffusionSlice, data: TrainingData
) -> ConditionalNetwork:
    """Return the frozen network and condition encoder of `start` with a new control network for the masks.

    module: what the slice would build afresh, to compare with. The encoder is frozen with the network, since its
    vectors mean something to that network alone. Raises SynthGainError where `start` is not such a generator.
    """
    from synthgain.networks.unet_condition import build_control  # loads diffusers' ControlNet: only where used

    assert start is not None  # checked with the slice, as are the masks
    assert data.masks is not None
    place, manifest = f"generators.{entry.generator}", entry.init_from
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
    if columns != entry.condition_on:
        raise SynthGainError(
            f"{place}.condition_on: its columns are {', '.join(entry.condition_on) or 'none'}, those of the frozen "
            f"{manifest} {', '.join(columns) or 'none'}; give the same, in that order"
        )
    control = build_control(start.network, start.sample_shape[-1], data.masks.shape[1], data.images.shape[-1])
    return ConditionalNetwork(start.network, start.encoder, control, start.text)


def scheduler_of(formulation: Formulation) -> Scheduler:
    """Return the diffusers scheduler that samples from this formulation; saved next to the network as `scheduler/`."""
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
