"""Steering a diffusion generator: rounds of drawing, scoring, weighing and further training, in its own loop.

All rounds are one training job. A round's samples follow from the averaged weights at its first step, which are kept as
a snapshot, and are drawn in batches that outlive a kill; so the run resumes like any other, to the same weights. Jobs
of their own per round would make every generator that starts from this one wait for a chain of stages, and change
nothing that is computed.

Loss of a step, L = (Σ w_i L_i over own samples + Σ L_j over real images) / B, with real images in a/(1+a) of the B
slots: the weighted loss on samples plus `anchor` a times that on real images, up to the factor 1/(1+a).
"""

import contextlib
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from synthgain.data.batch_order import PassOrder
from synthgain.data.pixels import to_signed
from synthgain.entry import checked
from synthgain.generators.diffusion.generator import ConditionalNetwork, DiffusionGenerator
from synthgain.generators.diffusion.training import DiffusionRun, encoded, prepare_run, train_step
from synthgain.generators.loading import Generator
from synthgain.generators.options import TrainingSlice
from synthgain.generators.run import snapshots_of
from synthgain.generators.snapshots import round_ends, snapshot_steps
from synthgain.generators.steering_options import Reward
from synthgain.generators.training_data import INSIDE, PlacedData, TrainingData, training_slice
from synthgain.pools.options import Sampling
from synthgain.pools.sampling import FinishedBatches, Sampler, draw_batches
from synthgain.registry import STEERING_SCORES
from synthgain.runtime.command import Job, logger
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import write_text
from synthgain.runtime.guarded import GuardedFolder
from synthgain.runtime.loading import load
from synthgain.seeds import integer_seed, random_generator
from synthgain.steering.alarms import Drawn, measured, raised
from synthgain.steering.scores import CrossFitted
from synthgain.steering.weights import effective, match_weights, maximise_weights

SAMPLING = Sampling(solver="dpmpp_2m", steps=18, compile=False)
IMAGES, TABLE = "images.npy", "samples.parquet"
UNKNOWN_VALUE = "unknown"


@dataclass
class SteeredRun(DiffusionRun):
    """A diffusion run on own samples, weighted by their scores, and real images.

    first: weights before the first step; samples of the current round behind the real rows of `placed`.
    """

    reward: Reward = field(kw_only=True)
    job: Job = field(kw_only=True)
    entry: TrainingSlice = field(kw_only=True)
    first: dict[str, Tensor] = field(kw_only=True)
    scorer: CrossFitted = field(init=False)
    round: int = field(default=-1, init=False)
    weights: Tensor = field(init=False)  # (N + samples,) float32: 1 for real rows
    rows_of_round: list[dict[str, float]] = field(default_factory=list, init=False)
    stopped: int | None = field(default=None, init=False)  # step at which the samples' scores had reached the real ones

    @property
    def starts(self) -> list[int]:
        """Steps at which the rounds begin, and the last one ends."""
        return [0, *round_ends(self.options.steps, self.reward.rounds)]

    @property
    def round_now(self) -> int:
        """The round of the next step; the last one after the last step."""
        return min(sum(start <= self.step for start in self.starts), self.reward.rounds) - 1

    @property
    def anchors(self) -> int:
        """Slots of a batch that hold real images."""
        return self.reward.real_slots(self.options.batch_size)

    def start(self) -> None:
        super().start()
        self.scorer = load(STEERING_SCORES, self.reward.scores).scorer(self)
        for number in range(self.round_now + 1):
            self._begin(number)

    def take_step(self, rows: Tensor, own: Tensor) -> Tensor:
        if self.round_now != self.round:
            self._begin(self.round_now)
        if self.stopped is not None:
            return torch.zeros(2, device=self.accelerator.device)
        for group in self.prepared_optimizer.param_groups:
            group["lr"] = self.learning_rate_at(self.step)
        chosen = self._with_samples(rows, own)
        clean, values, null = self.placed.batch(chosen)
        masks, weights = self.placed.condition_masks(chosen), self.weights[chosen.to(self.weights.device)]
        return train_step(self, self.prepared_optimizer, clean, values, null, masks, own, chosen, weights)

    def save_extras(self, folder: Path) -> list[str]:
        self._begin(self.reward.rounds)  # how the last samples score
        table = pd.DataFrame(self.rows_of_round)
        write_text(folder / "steering.csv", table.to_csv(index=False))
        GuardedFolder(self.job.state_folder() / "own_samples", self.job.identity).clear()
        return [*super().save_extras(folder), "steering.csv"]

    def facts(self) -> dict[str, object]:
        rounds = self.rows_of_round
        return {
            **super().facts(),
            "steering": {
                "reward": self.reward.model_dump(),
                # NaN is not JSON
                "rounds": [{n: v if np.isfinite(v) else None for n, v in row.items()} for row in rounds],
                "stopped_at": self.stopped,
                "alarms": raised(rounds[0], rounds[-1]),
            },
        }

    def _with_samples(self, rows: Tensor, own: Tensor) -> Tensor:
        """Return `rows` with samples in all slots but the first `anchors`: rows of the data with samples behind."""
        size = self.options.batch_size - self.anchors
        keys = {**self.seed_keys, "round": self.round}
        batch = torch.from_numpy(PassOrder(self.reward.samples, size, keys).batch(self.step)) + len(self.data)
        is_sample = own >= self.anchors
        return torch.where(is_sample, batch[(own - self.anchors).clamp(min=0)], rows)

    def _begin(self, number: int) -> None:
        """Draw, score and weigh the samples of a round; number `rounds` is after the last step, without training."""
        images, table, parents = self._samples(number)
        scores = self.scorer.score(images, table, "parent_patient_id")
        real = self.scorer.score(self.reference, self.real_table)
        drawn = Drawn(images, scores, self._conditions(table))
        reals = Drawn(self.reference, real, self._conditions(self.real_table))
        row = {"step": float(self.starts[number]), **measured(drawn, reals, self.scorer, self.image_channels)}
        self.round = number
        if number < self.reward.rounds:
            weights = self._weights(scores, real, drawn.condition, reals.condition)
            row["effective"] = effective(weights)
        if len(self.rows_of_round) <= number:
            self.rows_of_round.append(row)
        reached = row["score"] >= row["real_score"]
        if self.stopped is None and self.reward.stop and reached and number < self.reward.rounds:
            self.stopped = self.starts[number]
            logger.info("steering ends at step %d: the samples score as real images do", self.stopped)
        if number >= self.reward.rounds:
            return
        extended = _joined(self.data, images, table, parents)
        words = None if self.words is None else torch.cat([self.words, self.words[torch.from_numpy(parents)]])
        device, latents = self.accelerator.device, None
        if self.latents is not None:  # what was drawn is encoded like any other image
            own = encoded(self.latents.space, images, device)
            latents = torch.cat([self.latents.mean, own[0]]), torch.cat([self.latents.sd, own[1]])
        self.placed = PlacedData.of(extended, self.module.encoder, device, words, latents)
        ones = np.ones(len(self.data))
        self.weights = torch.from_numpy(np.concatenate([ones, weights]).astype(np.float32)).to(device)

    @property
    def real_table(self) -> pd.DataFrame:
        """The rows of the data, with `reward.labels` as their target where it is given."""
        table, labels = self.data.table, self.reward.labels
        return table if labels is None else table.assign(**{str(self.reward.target): table[labels]})

    @cached_property
    def reference(self) -> Tensor:
        """The real images that samples are held against, (N, C, H, W) uint8: as they come back from latents, if any.

        So what every sample in its latents lacks does not count as a fault of the steered generator.
        """
        if self.latents is None:
            return self.data.images
        through = self.latents.space.reconstruct(self.data.images.permute(0, 2, 3, 1).numpy())
        return self._whole_masks(through)

    def _whole_masks(self, images: np.ndarray) -> Tensor:
        """Return (N, C, H, W) of (N, H, W, C) uint8, masks among the channels as there or not."""
        planes, first = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))), self.image_channels
        planes[:, first:] = (planes[:, first:] > INSIDE // 2).to(torch.uint8) * INSIDE
        return planes

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.accelerator.device

    @property
    def image_channels(self) -> int:
        """Channels of the image among what is drawn."""
        return self.data.images.shape[1] - (len(self.structures) if self.output == "image+mask" else 0)

    @property
    def output(self) -> str:
        """What the generator draws."""
        return self.entry.output

    @property
    def structures(self) -> tuple[str, ...]:
        """Masks that it draws or is conditioned on."""
        return tuple(self.entry.structures)

    def _conditions(self, table: pd.DataFrame) -> np.ndarray:
        """Return the condition of each row within which scores are matched: (N,) text."""
        if self.reward.target is None:
            return np.full(len(table), "all", dtype=object)
        values = table[self.reward.target].astype(object)
        return np.where(values.isna(), UNKNOWN_VALUE, values.astype(str)).astype(object)

    def _weights(
        self, scores: np.ndarray, real: np.ndarray, conditions: np.ndarray, real_conditions: np.ndarray
    ) -> np.ndarray:
        """Return each sample's weight (N,); 1 where it has no score, or its condition no real image with one."""
        weights = np.ones(len(scores))
        for condition in np.unique(conditions):
            inside = (conditions == condition) & np.isfinite(scores)
            reals = real[(real_conditions == condition) & np.isfinite(real)]
            own = scores[inside]
            if self.reward.shuffled:
                keys = {**self.seed_keys, "round": self.round, "condition": str(condition)}
                own = random_generator(step="shuffled scores", **keys).permutation(own)
            if self.reward.objective == "match" and len(own) and len(reals):
                weights[inside] = match_weights(own, reals)
            elif self.reward.objective == "maximise" and len(own):
                weights[inside] = self.scorer.unit(own)
        if self.reward.objective == "maximise":
            known = np.isfinite(scores)
            weights[known] = maximise_weights(weights[known])
        return weights

    def _samples(self, number: int) -> tuple[Tensor, pd.DataFrame, np.ndarray]:
        """Return a round's samples (S, C, H, W) uint8, their table, and their parents' rows (S,) in the data."""
        parents = self._parents(number)
        table = self.data.table.iloc[parents].reset_index(drop=True)
        names = [f"own-{number}-{place:06d}" for place in range(len(parents))]
        table = table.assign(image_id=names, parent_patient_id=table["patient_id"].astype(str))
        keys = {**self.seed_keys, "round": number}
        seeds = np.array([integer_seed(step="own sample", sample=place, **keys) for place in range(len(parents))])
        kept = GuardedFolder(self.job.state_folder() / "own_samples", self.job.identity)
        name = f"round-{number}.npy"
        # The last samples are drawn by the main process alone, which writes the generator.
        ordered = number < self.reward.rounds
        with self.accelerator.main_process_first() if ordered else contextlib.nullcontext():
            if kept.find(name) is None:
                images = self._drawn(number, table, parents, seeds.astype(np.int64))
                kept.keep(name, lambda path: _save(path, images))
        images = np.load(kept.folder / name, allow_pickle=False)
        return self._whole_masks(images), table, parents

    def _parents(self, number: int) -> np.ndarray:
        """Return the rows of the data whose conditions a round's samples copy, whole passes in random order."""
        rows = np.flatnonzero(self.data.labelled)
        if not len(rows):
            raise SynthGainError("reward: no training row has known conditions (train_on.label_fraction)")
        random = random_generator(step="own rows", number=number, **self.seed_keys)
        passes = -(-self.reward.samples // len(rows))
        return np.concatenate([random.permutation(rows) for _ in range(passes)])[: self.reward.samples]

    def _drawn(self, number: int, table: pd.DataFrame, parents: np.ndarray, seeds: np.ndarray) -> np.ndarray:
        generator = self._generator(number)
        sampler = Sampler(cast(Generator, generator), SAMPLING)
        finished = FinishedBatches(self.job.state_folder() / f"drawing-{number}", self.job.identity)

        def batch(places: np.ndarray) -> Tensor:
            masks = None
            if self.data.masks is not None:
                masks = to_signed(self.data.masks[torch.from_numpy(parents[places])])
            return sampler.draw(seeds[places], lambda: generator.encode_conditions(table.iloc[places], masks))

        name = f"generator {self.job.slice['generator']} round {number}"
        with handlers_kept():
            images = draw_batches(batch, (0, len(table)), SAMPLING.batch_size, generator.image_shape, finished, name)
        finished.clear()
        return images

    def _generator(self, number: int) -> DiffusionGenerator:
        """Return the generator as it was at the first step of a round: the averaged weights."""
        if number == 0:
            self.averaged.load_state_dict(self.first)
        elif self.step == self.starts[number]:
            self.average.copy_to(self.averaged.parameters())
        else:
            _load_parts(self.averaged, snapshots_of(self.job).folder / str(self.starts[number]))
        self.averaged.eval()
        module, shape = self.averaged, self.data.images.shape[1:]
        return DiffusionGenerator(
            module.network,
            module.encoder,
            self.formulation,
            cast(tuple[int, int, int], tuple(shape)),
            self.accelerator.device,
            self.image_channels,
            self.output,
            self.structures,
            self.mask_by,
            module.control,
            module.text,
            self.prompting,
            latents=None if self.latents is None else self.latents.space,
        )


def prepare_steered_run(job: Job) -> SteeredRun:
    """Return the run of a steered generator's slice. Raises SynthGainError where a round's end is not kept."""
    reward = checked(Reward, job.slice["reward"], "reward", of_slice=True)
    plain = prepare_run(job)
    given = {part.name: getattr(plain, part.name) for part in fields(DiffusionRun) if part.init}
    first = {name: value.detach().clone() for name, value in plain.averaged.state_dict().items()}
    run = SteeredRun(**given, reward=reward, job=job, entry=training_slice(TrainingSlice, job), first=first)
    kept = set(snapshot_steps(run.options))
    lacking = [step for step in run.starts[1:] if step not in kept]
    if lacking:
        raise SynthGainError(f"training.snapshots: round {reward.rounds} ends at step {lacking[0]}, which is not kept")
    return run


def _joined(data: TrainingData, images: Tensor, table: pd.DataFrame, parents: np.ndarray) -> TrainingData:
    """Return the real rows with the samples behind them; a sample has its parent's conditions and mask."""
    rows = torch.from_numpy(parents)
    return TrainingData(
        torch.cat([data.images, images]),
        pd.concat([data.table, table], ignore_index=True),
        np.concatenate([data.labelled, np.ones(len(images), dtype=bool)]),
        data.columns,
        None if data.masks is None else torch.cat([data.masks, data.masks[rows]]),
        data.left_out,
    )


def _save(path: Path, images: np.ndarray) -> None:
    with path.open("wb") as handle:
        np.save(handle, images, allow_pickle=False)


def _load_parts(module: ConditionalNetwork, folder: Path) -> None:
    """Load the weights of a snapshot into a module of the same parts."""
    for name, part in module.saved.items():
        saved = type(part).from_pretrained(folder / name, use_safetensors=True, local_files_only=True)
        part.load_state_dict(saved.state_dict())


@contextlib.contextmanager
def handlers_kept() -> Iterator[None]:
    """Put the signal handlers back afterwards: drawing sets its own, and the training must hear signals again."""
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
