"""Training of the GAN family: what a run is made of, and its step; the loop is every family's.

The recipe is R3GAN's (Huang et al. 2024, "The GAN is dead; long live the GAN! A modern GAN baseline"): a relativistic
pairing loss, which leaves no mode without a gradient, with zero-centred gradient penalties on real (R1) and generated
images (R2) at every step, which make it converge; Adam without momentum; schedules that let go of the penalty. With
differentiable augmentation, since medical sets are small, and an average of the generator's weights.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional

from synthgain.generators.condition_encoder import ConditionEncoder, column_specs
from synthgain.generators.gan.differentiable_augmentation import NUMBERS, augment
from synthgain.generators.gan.generator import ConditionalGenerator, save_parts
from synthgain.generators.gan.options import GanTraining
from synthgain.generators.gan.schedules import FIRST_BETA2, LAST_GAMMA, beta2_at, gamma_at, learning_rate_at
from synthgain.generators.options import TrainingSlice
from synthgain.generators.run import Averages, Run, Stateful, common_parts, training_options, weight_averages
from synthgain.generators.training_data import PlacedData, TrainingData, training_slice
from synthgain.networks.gan import GanDiscriminator
from synthgain.registry import NETWORKS
from synthgain.runtime.command import Job
from synthgain.runtime.loading import load
from synthgain.seeds import integer_seed

CONDITION_DIMENSION = 64  # of the vector that the generator gets besides its latent numbers
MASKED_OUTPUTS = ("image+mask",)


class ConditionalDiscriminator(nn.Module):
    """Discriminator network and a condition encoder of its own."""

    def __init__(self, network: GanDiscriminator, encoder: ConditionEncoder) -> None:
        super().__init__()
        self.network, self.encoder = network, encoder

    def forward(self, images: Tensor, values: Tensor, null: Tensor) -> Tensor:
        """Return scores (N,) of images (N, C, H, W) under values (N, columns) float32 and null (N, columns) bool."""
        return self.network(images, self.encoder(values, null))


@dataclass(frozen=True)
class Draws:
    """The random numbers of one step for this process's slots, one row a slot."""

    latent: tuple[Tensor, Tensor]  # (B', latent_dim), for the discriminator's and the generator's turn
    numbers: tuple[Tensor, Tensor]  # (2, B', NUMBERS): augmentation of real and generated images, likewise
    dropped: Tensor  # (B',) uniform


@dataclass
class GanRun(Run):
    """Both networks with their optimisers, and the average of the generator."""

    loss_names: ClassVar[tuple[str, ...]] = ("loss", "discriminator_loss", "r1", "r2")

    options: GanTraining
    generator: ConditionalGenerator
    discriminator: ConditionalDiscriminator
    averaged: ConditionalGenerator
    average: Averages
    optimizers: tuple[torch.optim.Optimizer, torch.optim.Optimizer]  # generator's, discriminator's
    image_channels: int
    placed: PlacedData = field(init=False)  # from `start` on

    @property
    def encoder(self) -> ConditionEncoder:
        return self.generator.encoder

    @property
    def stateful(self) -> dict[str, Stateful]:
        return {
            "generator": self.generator,
            "discriminator": self.discriminator,
            "average": self.average,
            "generator_optimizer": self.optimizers[0],
            "discriminator_optimizer": self.optimizers[1],
        }

    def learning_rate_at(self, step: int) -> float:
        return learning_rate_at(self.options, step)

    def start(self) -> None:
        self.placed = PlacedData.of(self.data, self.encoder, self.accelerator.device)

    def take_step(self, rows: Tensor, own: Tensor) -> Tensor:
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.learning_rate_at(self.step)
                group["betas"] = (0.0, beta2_at(self.options, self.step))
        return train_step(self, *self.placed.batch(rows), step_draws(self, own))

    def save_parts(self, folder: Path) -> None:
        for place in self.average.each(self.averaged, folder):
            save_parts(place, self.averaged)

    def facts(self) -> dict[str, object]:
        generator, discriminator = (
            sum(parameter.numel() for parameter in module.parameters())
            for module in (self.generator, self.discriminator)
        )
        gamma = gamma_at(self.options, 0, self.data.images.shape[-1])
        return {
            "parameters": generator,
            "discriminator_parameters": discriminator,
            "latent_dim": int(self.generator.network.config["latent_dim"]),
            "r1_gamma": {"first": gamma, "last": LAST_GAMMA * gamma},
        }


def prepare_run(job: Job) -> GanRun:
    """Read the data and build both networks, average and optimisers as the slice says."""
    entry, options = training_slice(TrainingSlice, job), training_options(GanTraining, job)
    data, accelerator, keys = common_parts(job, options)
    torch.manual_seed(integer_seed(**keys, step="initial weights"))
    generator, discriminator = build_modules(entry, data)
    generator.to(accelerator.device)
    discriminator.to(accelerator.device)
    optimizers = tuple(
        torch.optim.Adam(module.parameters(), lr=options.learning_rate, betas=(0.0, FIRST_BETA2), fused=True)
        for module in (generator, discriminator)
    )
    drawn = len(entry.structures) if entry.output in MASKED_OUTPUTS else 0
    return GanRun(
        options,
        data,
        accelerator,
        keys,
        generator,
        discriminator,
        copy.deepcopy(generator),
        weight_averages(generator, options.kept_decays),
        (optimizers[0], optimizers[1]),
        data.images.shape[1] - drawn,
    )


def build_modules(entry: TrainingSlice, data: TrainingData) -> tuple[ConditionalGenerator, ConditionalDiscriminator]:
    """Return both networks with their condition encoders, with fresh weights from torch's global seed."""
    channels, size = data.images.shape[1], data.images.shape[-1]
    module, options = load(NETWORKS, entry.network.module), entry.network.options
    specs = column_specs(entry.condition_on, data.columns, data.table[data.labelled])
    network = module.build_generator(options, size, channels, CONDITION_DIMENSION)
    generator = ConditionalGenerator(network, ConditionEncoder(specs, CONDITION_DIMENSION))
    critic = module.build_discriminator(options, size, channels)
    return generator, ConditionalDiscriminator(critic, ConditionEncoder(specs, critic.config.channels[-1]))


def train_step(run: GanRun, real: Tensor, values: Tensor, null: Tensor, draws: Draws) -> Tensor:
    """One step of the discriminator, then one of the generator, on real (B', C, H, W).

    Returns (generator's loss, discriminator's, R1, R2, both gradient norms), (6,).
    """
    null = null | (draws.dropped < run.options.condition_dropout)[:, None]
    loss_d, r1, r2 = discriminator_loss(run, real, values, null, draws)
    gamma = gamma_at(run.options, run.step, real.shape[-1])
    norm_d = _optimise(run, run.discriminator, run.optimizers[1], loss_d + gamma / 2 * (r1 + r2))
    with _frozen(run.discriminator):
        loss_g = generator_loss(run, real, values, null, draws)
        norm_g = _optimise(run, run.generator, run.optimizers[0], loss_g)
    run.average.step(run.generator.parameters())
    return torch.stack([number.detach() for number in (loss_g, loss_d, r1, r2, norm_g, norm_d)])


def discriminator_loss(
    run: GanRun, real: Tensor, values: Tensor, null: Tensor, draws: Draws
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the relativistic pairing loss softplus(D(fake) − D(real)), R1 and R2, each a mean over pairs.

    Real and generated image of a pair share their conditions. The penalties are squared gradients with respect to
    the images before augmentation.
    """
    with torch.no_grad(), run.accelerator.autocast():
        fake = run.generator(draws.latent[0], values, null)
    images = torch.cat([real, fake.float()]).requires_grad_()
    scores = scores_of(run, images, draws.numbers[0].flatten(0, 1), values.repeat(2, 1), null.repeat(2, 1))
    (gradients,) = torch.autograd.grad(scores.sum(), images, create_graph=True)
    penalties = gradients.square().sum(dim=(1, 2, 3))
    (real_scores, fake_scores), (r1, r2) = scores.chunk(2), penalties.chunk(2)
    return functional.softplus(fake_scores - real_scores).mean(), r1.mean(), r2.mean()


def generator_loss(run: GanRun, real: Tensor, values: Tensor, null: Tensor, draws: Draws) -> Tensor:
    """Return softplus(D(real) − D(fake)), the mean over pairs: generated images are to look the more real ones."""
    with run.accelerator.autocast():
        fake = run.generator(draws.latent[1], values, null)
    fake_scores = scores_of(run, fake.float(), draws.numbers[1][1], values, null)
    with torch.no_grad():
        real_scores = scores_of(run, real, draws.numbers[1][0], values, null)
    return functional.softplus(real_scores - fake_scores).mean()


def scores_of(run: GanRun, images: Tensor, numbers: Tensor, values: Tensor, null: Tensor) -> Tensor:
    """Return scores (N,) of augmented images (N, C, H, W) under values and null (N, columns)."""
    seen = augment(images, numbers, run.image_channels, run.options.augmentation_probability)
    with run.accelerator.autocast():
        scores: Tensor = run.discriminator(seen, values, null)
    return scores.float()


def step_draws(run: GanRun, own: Tensor) -> Draws:
    """Draw the numbers of the whole global batch, and return those of this process's slots `own`."""
    device, size = run.accelerator.device, run.options.batch_size
    generator = torch.Generator(device)
    generator.manual_seed(integer_seed(**run.seed_keys, step="noise", number=run.step))
    slots = own.to(device, non_blocking=True)
    latent_dim = int(run.generator.network.config["latent_dim"])
    latent = [torch.randn(size, latent_dim, generator=generator, device=device)[slots] for _ in range(2)]
    numbers = [torch.rand(2, size, NUMBERS, generator=generator, device=device)[:, slots] for _ in range(2)]
    dropped = torch.rand(size, generator=generator, device=device)[slots]
    return Draws((latent[0], latent[1]), (numbers[0], numbers[1]), dropped)


def _optimise(run: GanRun, module: nn.Module, optimizer: torch.optim.Optimizer, loss: Tensor) -> Tensor:
    """Take one step and return the gradient's norm before clipping."""
    loss.backward()
    _average_gradients(run.accelerator, module)
    norm = nn.utils.clip_grad_norm_(module.parameters(), run.options.gradient_clip)
    optimizer.step()
    optimizer.zero_grad()
    return norm


def _average_gradients(accelerator: Accelerator, module: nn.Module) -> None:
    """Mean over the processes; by hand, since a DDP wrapper does not take gradients of gradients."""
    if accelerator.num_processes == 1:
        return
    for parameter in module.parameters():
        if parameter.grad is not None:
            parameter.grad = accelerator.reduce(parameter.grad, "mean")


@contextmanager
def _frozen(module: nn.Module) -> Iterator[None]:
    """Take no gradients of the module's weights within."""
    module.requires_grad_(False)
    try:
        yield
    finally:
        module.requires_grad_(True)
