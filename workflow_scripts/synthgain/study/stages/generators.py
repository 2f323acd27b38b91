"""Generators: trained on training patients only, looked at as grids."""

from typing import Any

from synthgain.generators.family import TRAINING_SETTINGS
from synthgain.generators.snapshots import snapshot_steps
from synthgain.pools.options import Sampling
from synthgain.pools.passes import evaluations
from synthgain.registry import FAMILIES, FAMILY_TRAINING, NETWORKS
from synthgain.study.generation import family_of
from synthgain.study.planner import Planner
from synthgain.study.schema import Study
from synthgain.study.stage import DRAWING, Draft, Slice, Stage, Wildcards, one_gpu
from synthgain.study.stages.data import training_rows
from synthgain.study.work import Term, passes, term

# Sampling of the grids that show a generator's progress: small, and apart from any pool.
GRID_STEPS, GRID_COLUMNS = 18, 8
GRID_ROWS, LEVELS_A_COLUMN = 16, 2  # rows of draw_sample_grid: its most, and about how many a condition has


def train_generator(plan: Planner, generator: str, index: Any) -> Draft:
    config = plan.study.generators[generator]
    network = config.network
    training = config.training.dump(exclude=TRAINING_SETTINGS)
    training["snapshots"] = snapshots_of(plan, generator)
    start = [] if config.init_from is None else [{"generator": config.init_from, "index": index}]
    return Draft(
        {
            "generator": generator,
            "index": int(index),
            "module": config.family,
            "network": {"module": network.module, "options": network.options()},
            "output": config.output,
            "structures": config.structures,
            "condition_on": config.columns,
            **family_of(config).facts(config),
            "training": training,
            "train_on": config.train_on.dump(),
            "init_from": config.init_from,
            "image": {"size": plan.study.image.size, "channels": plan.study.image.channels},
            "seed": plan.seed,
        },
        {**training_rows(config.train_on.datasets), "start": start},
        (FAMILY_TRAINING[config.family], NETWORKS[network.module]),
    )


def draw_sample_grid(plan: Planner, generator: str, index: Any, snapshot: Any) -> Draft:
    config = plan.study.generators[generator]
    return Draft(
        {
            "generator": generator,
            "index": int(index),
            "snapshot": int(snapshot),
            "condition_on": config.columns,
            "columns": GRID_COLUMNS,
            "sampling": {"solver": "dpmpp_2m", "steps": GRID_STEPS},
            "seed": plan.seed,
        },
        {
            "generators": [{"generator": generator, "index": index}],
            **training_rows(config.train_on.datasets[:1]),
        },
        (FAMILIES[config.family], "synthgain.pools.sampling"),
    )


def snapshots_of(plan: Planner, generator: str) -> list[int]:
    """Return the steps at which a generator is kept: as configured, or a quarter, a half and all."""
    return snapshot_steps(plan.study.generators[generator].training)


def trainings(plan: Planner) -> list[dict[str, Any]]:
    """Return the wildcards of every training of every generator."""
    indices = range(plan.study.replicates.generators)
    return [{"generator": name, "index": index} for name in plan.study.generators for index in indices]


def _grids(plan: Planner) -> list[dict[str, Any]]:
    return [
        {**training, "snapshot": step}
        for training in trainings(plan)
        for step in snapshots_of(plan, training["generator"])
    ]


def _processes(study: Study, wildcards: Wildcards) -> int:
    return study.compute.generator_processes  # a GPU each


def _family(study: Study, job: Slice) -> dict[str, int | bool]:
    family = family_of(study.generators[job["generator"]])
    return {"step_passes": family.step_passes, "denoises": family.denoises}


def _training_steps(job: Slice) -> list[Term]:
    """Steps, each a batch forward and backward."""
    each = job["training"]["batch_size"] * job["step_passes"]
    return [term(f"generator {job['generator']}", "step", job["training"]["steps"]) | {"passes": each}]


def _kept_snapshots(job: Slice) -> list[Term]:
    return [term(f"generator {job['generator']}", "network", len(job["training"]["snapshots"]))]


def _grid_passes(job: Slice) -> list[Term]:
    """Passes of every picture of the grid."""
    rows = min(GRID_ROWS, max(1, LEVELS_A_COLUMN * len(job["condition_on"])))
    each = evaluations(Sampling.from_slice(job["sampling"])) if job["denoises"] else 1
    return [passes(job["generator"], rows * job["columns"] * each)]


STAGES = (
    Stage(
        "train_generator",
        "Training generators",
        "generators/{generator}/{index}/manifest.json",
        train_generator,
        {"datasets": "prepare_dataset", "splits": "split_dataset", "start": "train_generator"},
        gpus=_processes,
        loads=DRAWING,
        synthesis=True,
        kinds=_family,
        work=_training_steps,
        disk=_kept_snapshots,
        shown=trainings,
    ),
    Stage(
        "draw_sample_grid",
        "Drawing sample grids",
        "samples/{generator}/{index}/{snapshot}.png",
        draw_sample_grid,
        {"generators": "train_generator", "datasets": "prepare_dataset", "splits": "split_dataset"},
        gpus=one_gpu,
        loads=DRAWING,
        kinds=_family,
        work=_grid_passes,
        shown=_grids,
    ),
)
