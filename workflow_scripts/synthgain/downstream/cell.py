"""One cell of the study, model × arm × ratio: its inputs read once, its training set per replicate."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from synthgain.data.image_set import Dataset, ImageSet, Planes, job_dataset, planes_of
from synthgain.data.replicas import Replicas, read_replicas
from synthgain.downstream.arms import (
    POOL_COLUMNS,
    TrainingSet,
    arm_phases,
    chosen_parents,
    fraction_positions,
    hold_out_patients,
    repeated,
    siblings,
    supplement,
    supplement_count,
    synthetic_rows,
    training_set,
)
from synthgain.downstream.classification import Task, balance_weights
from synthgain.downstream.options import PlannedArm, PredictionModel, TrainingModel
from synthgain.downstream.rows import Rows
from synthgain.downstream.tasks import TaskLike
from synthgain.downstream.training import Validation
from synthgain.entry import checked
from synthgain.registry import TASKS
from synthgain.runtime.command import Job
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.inputs import Input
from synthgain.runtime.loading import load
from synthgain.seeds import integer_seed

Part = tuple[Dataset, str, np.ndarray]  # a data set, the name of a part, its row positions


def rows_of(data: Dataset, part: str, task: TaskLike, fraction: float, seed: int) -> Rows:
    """Return the rows of one part in the data set's order, cut to `fraction` of its patients."""
    images = data.images
    positions = fraction_positions(images.table, data.part(part), images.columns, fraction, seed, data.name)
    return rows_at(images, positions, task)


def rows_at(images: ImageSet, positions: np.ndarray, task: TaskLike) -> Rows:
    """Return the rows at these positions of the table, with the task's masks where it and the images have any."""
    planes = () if images.masks is None or not task.structures else (images.planes(task.structures),)
    rows = images.table.iloc[positions]
    ids, patients = (rows[name].astype(str).to_numpy(dtype=object) for name in ("image_id", "patient_id"))
    copies = np.zeros(len(rows), dtype=np.int64)
    truth, taught = task.truth(rows), task.taught(rows)
    return Rows([images.images], positions.astype(np.int64), ids, ids, patients, copies, truth, planes, taught)


@dataclass(frozen=True)
class Cell:
    """What the replicates of a job share."""

    model: TrainingModel
    arm: PlannedArm
    ratio: int
    seed: int
    task: TaskLike
    real: Dataset | None
    validation: Dataset
    pools: dict[tuple[Path, ...], Rows] = field(default_factory=dict)  # replicas read last, by their manifests
    attempt: int = 0  # of a replicate: 1 after a training that diverged

    @property
    def where(self) -> str:
        """How error lines name this cell."""
        return f"model {self.model.name}, arm {self.arm.name}, ratio {self.ratio}"

    @property
    def fraction(self) -> float:
        """Share of the training patients, and of the validation patients, that the arm uses."""
        return self.arm.fraction

    def seed_of(self, step: str, replicate: int) -> int:
        """Return the seed of a step: of study, model, replicate and attempt only, the same in every arm."""
        keys = {"attempt": self.attempt} if self.attempt else {}
        return integer_seed(study=self.seed, step=step, model=self.model.name, replicate=replicate, **keys)

    def validation_rows(self) -> Rows:
        """Return the real validation rows, cut like the training rows."""
        return rows_of(self.validation, "validation", self.task, self.fraction, self.seed)

    def build(self, job: Job, replicate: int) -> tuple[TrainingSet, Validation]:
        """Assemble the arm of one replicate. Raises SynthGainError for what cannot be trained on."""
        where = f"{self.where}, replicate {replicate}"
        real = None if self.real is None else rows_of(self.real, "train", self.task, self.fraction, self.seed)
        if real is not None and len(real) == 0:
            raise SynthGainError(f"{where}: zero training images in {self.arm.real}; see its split")
        # Before anything is counted: 100 % means as many images as the real arm can train on.
        found = 0 if real is None else len(real)
        real = None if real is None else real.labelled()
        unlabelled = found - (0 if real is None else len(real))
        added = self._added(job, replicate, real, where)
        chosen_by = self.validation_rows()
        if self.model.selection == "synthetic" and self.arm.synthetic is not None:
            assert added is not None
            added, chosen_by = hold_out_patients(added)
        base = len(real) if real is not None else self._base(added)
        kept = [rows for rows in (real, added) if rows is not None]
        union = sum(len(rows) for rows in kept)
        if union == 0 or any(len(rows) == 0 for rows in kept):
            raise SynthGainError(f"{where}: zero training images with a {self.task.wanted}")
        self.task.check(kept, where)
        steps = round(self.model.steps * self.arm.steps_factor)
        if self.arm.match == "epochs":
            steps = round(steps * union / base)
        weights = self._weights(kept, where)
        mode = None if self.arm.balance is None else self.arm.balance.mode
        phases = arm_phases(
            real,
            added,
            steps,
            self.seed_of("batch order", replicate),
            rates=weights if mode == "oversample" else None,
            fixed_share=self.arm.mixing.share if added is not None else None,
            pretrain_share=None if self.arm.pretrain is None else self.arm.pretrain.share,
        )
        repeats = self.arm.repeat
        facts = {
            "n_real": 0 if real is None else len(real),
            "n_synthetic": 0 if added is None or repeats else len(added),
            "n_repeated": len(added) if added is not None and repeats else 0,
            "unlabelled": unlabelled,
        }
        if self.arm.sibling_probability is not None and real is not None:
            facts["n_parents"] = len(self._parents(real, replicate))
        data = training_set(real, added, phases, weights if mode == "reweight" else None, where, repeats, **facts)
        return data, Validation.of(chosen_by, where)

    def _added(self, job: Job, replicate: int, real: Rows | None, where: str) -> Rows | None:
        if self.arm.repeat:
            assert real is not None
            return repeated(real, supplement_count(self.ratio, len(real)))
        if self.arm.synthetic is None:
            return None
        pool = self._pool([job.inputs.replicas[tuple(key)] for key in job.slice["pools"][str(replicate)]], where)
        if self.arm.sibling_probability is not None:
            assert real is not None
            return siblings(pool, self._parents(real, replicate), self.ratio, where, self.arm.filtered).labelled()
        pool = pool.labelled()
        if len(pool) == 0:
            raise SynthGainError(f"{where}: zero images with a {self.task.wanted} in pool {self.arm.synthetic}")
        base = len(real) if real is not None else self._base(pool)
        own = real if self.fraction < 1 and self.arm.source == self.arm.real else self._labelled_source()
        return supplement(pool, supplement_count(self.ratio, base), own, where, self.arm.filtered)

    def _pool(self, replicas: list[Input], where: str) -> Rows:
        """Return all rows of these replicas, read and checked once where the replicates share them."""
        paths = tuple(replica.path for replica in replicas)
        if paths not in self.pools:
            self.pools.clear()  # one at a time: what a large pool costs in memory is its table
            columns = {*POOL_COLUMNS, *self.task.columns}
            pool = read_replicas([(replica.path, replica.identity) for replica in replicas], columns=columns)
            self.pools[paths] = synthetic_rows(pool.arrays, pool.table, self.task, self._planes(pool, where))
        return self.pools[paths]

    def _parents(self, real: Rows, replicate: int) -> Rows:
        """Return the real images that get siblings: the same in every arm and model of a replicate."""
        seed = integer_seed(study=self.seed, step="siblings", replicate=replicate)
        assert self.arm.sibling_probability is not None
        return chosen_parents(real, self.arm.sibling_probability, seed)

    def _planes(self, pool: Replicas, where: str) -> tuple[Planes, ...]:
        """Return the task's mask planes of every shard. Raises SynthGainError for a pool without them."""
        if not self.task.structures:
            return ()
        missing = [name for name in self.task.structures if name not in pool.mask_names]
        if pool.masks is None or missing:
            lacking = "masks" if pool.masks is None else f"masks of {missing[0]!r}"
            raise SynthGainError(
                f"{where}: pool {self.arm.synthetic} has no {lacking}; a segmenter needs image-mask pairs "
                "(a generator with output: image+mask or condition_on: [mask])"
            )
        return tuple(planes_of(masks, pool.mask_names, self.task.structures) for masks in pool.masks)

    def _base(self, pool: Rows | None) -> int:
        """Return how many labelled rows the pool copies: its source's for training, else those of a replica."""
        if self.arm.source == self.validation.name:
            return len(self._source_rows())
        assert pool is not None
        return int((pool.copies == pool.copies.min()).sum())

    def _source_rows(self) -> Rows:
        """Return the labelled rows that the pool copies, of the patients whose labels the arm has."""
        return rows_of(self.validation, "train", self.task, self.arm.label_fraction, self.seed).labelled()

    def _labelled_source(self) -> Rows | None:
        """Return the rows whose children an arm without real images takes, None for those of all rows."""
        return self._source_rows() if self.arm.real is None and self.arm.label_fraction < 1 else None

    def _weights(self, kept: list[Rows], where: str) -> np.ndarray | None:
        if self.arm.balance is None:
            return None
        if not isinstance(self.task, Task):
            raise SynthGainError(f"{where}: balance is for classification; leave it out of {self.task.kind} studies")
        targets = np.concatenate([rows.targets for rows in kept])
        return balance_weights(self.task, targets, self.arm.balance.targets, where)


def read_cell(job: Job) -> Cell:
    """Read what all replicates of a train_downstream job share."""
    model = TrainingModel.model_validate(job.slice["model"])
    arm = checked(PlannedArm, job.slice["arm"], "arm", of_slice=True)
    validation = job_dataset(job, str(arm.validation))
    real = None
    if arm.real is not None:
        real = validation if arm.real == arm.validation else job_dataset(job, arm.real)
    # By name, so that a segmenter's code is none of a classifier's job.
    task = load(TASKS, model.task_module).new_task(model, (real or validation).images, f"model {model.name}")
    return Cell(model, arm, int(job.slice["ratio"]), int(job.slice["seed"]), task, real, validation)


def evaluation_parts(job: Job, validation: str | None, fraction: float, seed: int) -> list[Part]:
    """Return (data set, part, row positions) for each entry of the job's `evaluate`.

    The validation part of `validation`, the arm's own data set, is cut to `fraction` as it was in training. An entry
    without `parts` gives validation and test where it has a split, else test alone. Raises SynthGainError for an
    empty part or a data set without any of the targets or structures.
    """
    model = PredictionModel.model_validate(job.slice["model"])
    module = load(TASKS, model.task_module)
    parts: list[Part] = []
    for entry in job.slice["evaluate"]:
        source = job_dataset(job, entry["dataset"], entry["split"])
        lacking = module.lacks(model, source.images)
        if lacking:
            raise SynthGainError(f"datasets.{source.name}: has {lacking}, or leave it out of evaluate_on")
        for part in entry.get("parts", ["validation", "test"] if entry["split"] else ["test"]):
            table = source.images.table
            positions = source.part(part)
            if part == "validation" and source.name == validation:
                cut = (fraction, seed, source.name)
                positions = np.sort(fraction_positions(table, positions, source.images.columns, *cut))
            if len(positions) == 0:
                raise SynthGainError(f"datasets.{source.name}: no image in its {part} part; give its split one")
            parts.append((source, part, positions))
    return parts
