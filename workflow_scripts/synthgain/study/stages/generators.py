"""Generators: images divided by appearance, training on training patients only, grids."""

import math
from pathlib import Path

from synthgain.clusters.options import Clusters
from synthgain.generators.autoencoders.saved import WEIGHTS, check_saved
from synthgain.generators.family import TRAINING_SETTINGS, GeneratorBase
from synthgain.generators.options import TrainOn
from synthgain.generators.snapshots import round_ends, snapshot_steps
from synthgain.networks.weight_folder import TEXT_WEIGHTS, check_checksum, check_text_folder
from synthgain.pools.options import Sampling
from synthgain.pools.passes import evaluations
from synthgain.registry import FAMILIES, FAMILY_TRAINING, NETWORKS, SPACES, STEERING, STEERING_SCORES
from synthgain.runtime.errors import SynthGainError
from synthgain.speed.documents import Term
from synthgain.study.generation import family_of
from synthgain.study.planner import Planner
from synthgain.study.roles import clusters_of, root_pool, trainings_of
from synthgain.study.schema import Study
from synthgain.study.stage import DRAWING, TORCH, Draft, Stage, Wildcard, Wildcards, one_gpu
from synthgain.study.stages.data import training_images, training_rows
from synthgain.study.work import autoencoder_kind, decoded, encoded, input_size, passes, space_kind

# Sampling of the grids that show a generator's progress: small, and apart from any pool.
GRID_SAMPLING: dict[str, object] = {"solver": "dpmpp_2m", "steps": 18}
# Held-out images on which an autoencoder is measured, and how often each goes through: as it is, without the scale, and
# flipped in three ways (generators/autoencoders/gates.py).
MOST_MEASURED, MEASURED_PASSES = 2000, 5
GRID_COLUMNS = 8
GRID_ROWS, LEVELS_A_COLUMN = 16, 2  # rows of draw_sample_grid: its most, and about how many a condition has


def _check_size(plan: Planner, place: str, clusters: Clusters) -> None:
    """Raise SynthGainError where there cannot be so many clusters, as far as the number of images is known by now."""
    known = training_images(plan, clusters.of)
    if known is None:
        return
    count = math.ceil(known)
    if clusters.k > count:
        raise SynthGainError(
            f"{place}.k: {clusters.k} clusters of about {count} training images of {clusters.of!r}; take fewer clusters"
        )
    if clusters.rule == "refuse" and clusters.k * clusters.smallest > count:
        raise SynthGainError(
            f"{place}.smallest: {clusters.k} clusters of {clusters.smallest} images and more, of about {count} "
            f"training images of {clusters.of!r}; take fewer clusters, or rule: merge"
        )


def cluster_images(plan: Planner, clusters: str) -> Draft:
    config = plan.study.clusters[clusters]
    if not (plan.folder / plan.stages["cluster_images"].output.format(clusters=clusters)).exists():
        _check_size(plan, f"clusters.{clusters}", config)
    return Draft(
        {
            "name": clusters,
            "clusters": config.dump(exclude={"description"}),
            "space_options": {"size": input_size(plan.study)},
            "seed": plan.seed,
        },
        training_rows([config.of]),
        (SPACES[config.space],),
    )


def train_autoencoder(plan: Planner, autoencoder: str) -> Draft:
    config = plan.study.autoencoders[autoencoder]
    train_on = config.train_on or TrainOn(datasets=seen_by_users(plan.study, autoencoder))
    weights = None if config.folder is None else _saved_weights(plan, autoencoder)
    return Draft(
        {
            "autoencoder": autoencoder,
            **config.dump(include={"folder", "output", "structures", "downsampling", "latent_channels"}),
            "sha256": weights,
            "network": config.network.dump(),
            "training": None if config.training is None else config.training.dump(exclude=TRAINING_SETTINGS),
            "train_on": train_on.dump(),
            "image": {"size": plan.study.image.size, "channels": plan.study.image.channels},
            "seed": plan.seed,
        },
        training_rows(train_on.datasets),
    )


def _saved_weights(plan: Planner, autoencoder: str) -> str | None:
    """Return the checksum of an autoencoder's weights; SynthGainError where its folder will not do."""
    config, place, image = plan.study.autoencoders[autoencoder], f"autoencoders.{autoencoder}", plan.study.image
    if plan.root is not None:
        channels = image.channels + len(config.structures)
        folder = plan.root / str(config.folder)
        check_saved(folder, place, channels, config.latent_channels, config.downsampling)
    file = f"{config.folder}/{WEIGHTS}"
    return _same_checksum(plan, file, config.sha256, place)


def _text_weights(plan: Planner, config: GeneratorBase, place: str) -> dict[str, object]:
    """Return the checksum of a text encoder that lies in a folder; nothing for another one."""
    encoder = config.text_folder
    if encoder is None:
        return {}
    if plan.root is not None:
        check_text_folder(plan.root / encoder.folder, f"{place}.folder")
    return {"text_weights": _same_checksum(plan, f"{encoder.folder}/{TEXT_WEIGHTS}", encoder.sha256, place)}


def _same_checksum(plan: Planner, file: str, wanted: str | None, place: str) -> str | None:
    found = plan.checksum(file, f"{place}.folder")
    check_checksum(Path(file), str(found), wanted, f"{place}.sha256")
    return found


def seen_by_users(study: Study, autoencoder: str) -> list[str]:
    """Return the data sets whose training rows go through an autoencoder from a folder: those of what uses it."""
    found = [d for g in study.generators.values() if g.autoencoder_name == autoencoder for d in g.train_on.datasets]
    rows = [p.rows_of for p in study.pools.values() if p.autoencoder == autoencoder and p.rows_of is not None]
    return list(dict.fromkeys([*found, *rows]))


def train_generator(plan: Planner, generator: str, index: Wildcard) -> Draft:
    config = plan.study.generators[generator]
    training = config.training.dump(exclude=TRAINING_SETTINGS)
    training["snapshots"] = snapshots_of(plan, generator)
    prompt = {} if config.prompt_name is None else {"prompt": plan.study.prompts[config.prompt_name].dump()}
    name = config.autoencoder_name
    start: list[Wildcards] = []
    if config.init_from is not None:
        start = [{"generator": config.init_from, "index": _start(plan, config, index)}]
    train_on, clusters = _seen(plan, generator, index)
    return Draft(
        {
            "generator": generator,
            "index": int(index),
            **network_facts(config),
            **prompt,
            **_text_weights(plan, config, f"generators.{generator}.text_encoder"),
            "training": training,
            "train_on": train_on,
            "init_from": config.init_from,
            "image": {"size": plan.study.image.size, "channels": plan.study.image.channels},
            "seed": plan.seed,
        },
        {
            **training_rows(config.train_on.datasets),
            "autoencoders": [] if name is None else [{"autoencoder": name}],
            "start": start,
            "clusters": clusters,
            **_rated(plan, config),
        },
        (FAMILY_TRAINING[config.family], NETWORKS[config.network.module], *_steering(config)),
    )


def _seen(plan: Planner, generator: str, index: Wildcard) -> tuple[dict[str, object], list[Wildcards]]:
    """Return what a training sees, as its slice says it, and the clusters that it reads."""
    config = plan.study.generators[generator].train_on
    if config.per is not None:
        cluster = int(index) % clusters_of(plan.study, generator)
        config = config.model_copy(update={"per": None, "cluster": (config.per, cluster)})
    return config.dump(), [] if config.cluster is None else [{"clusters": config.cluster[0]}]


def _start(plan: Planner, config: GeneratorBase, index: Wildcard) -> int:
    """Return which training of `init_from` a training starts from: that of its own cluster, where there is one."""
    here, before = config.train_on.per, plan.study.generators[str(config.init_from)].train_on.per
    return int(index) if here is None or before is not None else int(index) // plan.study.clusters[here].k


def _rated(plan: Planner, config: GeneratorBase) -> dict[str, list[Wildcards]]:
    """Return what a generator that readers steer needs: their ratings, and the images that they saw."""
    reward = config.steered_by
    if reward is None or reward.name is None:
        return {}
    seen: list[Wildcards] = [
        {"pool": pool, "index": 0, "replica": replica}
        for pool in plan.study.readers[reward.name].items.pools
        for replica in range(1, root_pool(plan.study, pool).replicas + 1)
    ]
    return {"ratings": [{"panel": reward.name}], "rated": seen}


def _steering(config: GeneratorBase) -> tuple[str, ...]:
    """Return the modules that steer, if it is steered."""
    reward = config.steered_by
    return () if reward is None else (STEERING[config.family], STEERING_SCORES[reward.scores])


def network_facts(config: GeneratorBase) -> dict[str, object]:
    """Return what a training's slice says of the network, of what it draws, and of the family alone."""
    return {
        "module": config.family,
        "network": {"module": config.network.module, "options": config.network.options()},
        "output": config.output,
        "structures": config.structures,
        "condition_on": config.columns,
        **family_of(config).facts(config),
    }


def draw_sample_grid(plan: Planner, generator: str, index: Wildcard, snapshot: Wildcard) -> Draft:
    config = plan.study.generators[generator]
    return Draft(
        {
            "generator": generator,
            "index": int(index),
            "snapshot": int(snapshot),
            "condition_on": config.columns,
            "columns": GRID_COLUMNS,
            "sampling": GRID_SAMPLING,
            "seed": plan.seed,
        },
        {
            "generators": [{"generator": generator, "index": index}],
            **training_rows(config.train_on.datasets[:1]),
        },
        (FAMILIES[config.family], "synthgain.pools.sampling"),
    )


def snapshots_of(plan: Planner, generator: str) -> list[int]:
    """Return the steps at which a generator is kept: as configured, or a quarter, a half and all; ends of rounds."""
    config = plan.study.generators[generator]
    reward = config.steered_by
    ends = [] if reward is None else round_ends(config.training.steps, reward.rounds)
    return sorted({*snapshot_steps(config.training), *ends})


def autoencoders(plan: Planner) -> list[Wildcards]:
    """Return the wildcards of every autoencoder."""
    return [{"autoencoder": name} for name in plan.study.autoencoders]


def trainings(plan: Planner) -> list[Wildcards]:
    """Return the wildcards of every training of every generator."""
    names = plan.study.generators
    return [{"generator": name, "index": index} for name in names for index in trainings_of(plan.study, name)]


def grids(plan: Planner) -> list[Wildcards]:
    """Return the wildcards of every sample grid."""
    return [
        {**training, "snapshot": step}
        for training in trainings(plan)
        for step in snapshots_of(plan, str(training["generator"]))
    ]


def _processes(study: Study, wildcards: Wildcards) -> int:
    return study.compute.generator_processes  # a GPU each


def _training_steps(plan: Planner, generator: str, index: Wildcard) -> list[Term]:
    """Steps, each a batch forward and backward; passes of own samples where it is steered; latents, once."""
    config = plan.study.generators[generator]
    each = config.training.batch_size * family_of(config).step_passes
    terms = [Term(kind=f"generator {generator}", unit="step", amount=config.training.steps, passes=each)]
    if config.autoencoder_name is not None:
        terms.append(encoded(config.autoencoder_name, {f"{name}/train": 1.0 for name in config.train_on.datasets}))
    reward = config.steered_by
    if reward is not None:  # own samples of each round, and the last ones
        once = evaluations(Sampling.from_slice(GRID_SAMPLING))
        terms.append(passes(generator, (reward.rounds + 1) * reward.samples * once))
    return terms


def _kept_snapshots(plan: Planner, generator: str, index: Wildcard) -> list[Term]:
    weights = len(snapshots_of(plan, generator)) * len(plan.study.generators[generator].training.kept_decays)
    return [Term(kind=f"generator {generator}", unit="network", amount=weights)]


def _clustered_images(plan: Planner, clusters: str) -> list[Term]:
    """Training images through the extractor."""
    config = plan.study.clusters[clusters]
    return [Term(kind=space_kind(plan.study, config.space), unit="image", amount=1, images={f"{config.of}/train": 1.0})]


def _grid_passes(plan: Planner, generator: str, index: Wildcard, snapshot: Wildcard) -> list[Term]:
    """Passes of every picture of the grid."""
    config = plan.study.generators[generator]
    rows = min(GRID_ROWS, max(1, LEVELS_A_COLUMN * len(config.columns)))
    each = evaluations(Sampling.from_slice(GRID_SAMPLING)) if family_of(config).denoises else 1
    terms, through = [passes(generator, rows * GRID_COLUMNS * each)], config.autoencoder_name
    return terms if through is None else [*terms, decoded(through, rows * GRID_COLUMNS)]


def _autoencoder_steps(plan: Planner, autoencoder: str) -> list[Term]:
    """Steps of one that is trained here; training images encoded for the scale, held-out ones to measure it."""
    config = plan.study.autoencoders[autoencoder]
    seen = config.train_on.datasets if config.train_on else seen_by_users(plan.study, autoencoder)
    held_out = {f"{name}/{part}": 1.0 for name in seen for part in ("validation", "test")}
    terms = [
        encoded(autoencoder, {f"{name}/train": 1.0 for name in seen}),
        encoded(autoencoder, held_out, MEASURED_PASSES, MOST_MEASURED),
        decoded(autoencoder, MEASURED_PASSES, held_out, MOST_MEASURED),
    ]
    training = config.training
    if training is not None:
        kind = autoencoder_kind(autoencoder)
        terms.append(Term(kind=kind, unit="step", amount=training.steps, passes=training.batch_size))
    return terms


STAGES = (
    Stage(
        "cluster_images",
        "Dividing images by appearance",
        "clusters/{clusters}/manifest.json",
        cluster_images,
        {"datasets": "prepare_dataset", "splits": "split_dataset"},
        gpus=one_gpu,
        loads=TORCH,
        work=_clustered_images,
        shown=lambda plan: [{"clusters": name} for name in plan.study.clusters],
    ),
    Stage(
        "train_autoencoder",
        "Training autoencoders",
        "autoencoders/{autoencoder}/manifest.json",
        train_autoencoder,
        {"datasets": "prepare_dataset", "splits": "split_dataset"},
        gpus=_processes,
        loads=DRAWING,
        synthesis=True,
        work=_autoencoder_steps,
        shown=autoencoders,
    ),
    Stage(
        "train_generator",
        "Training generators",
        "generators/{generator}/{index}/manifest.json",
        train_generator,
        {
            "datasets": "prepare_dataset",
            "splits": "split_dataset",
            "autoencoders": "train_autoencoder",
            "start": "train_generator",
            "ratings": "read_ratings",
            "rated": "merge_pool_replica",
            "clusters": "cluster_images",
        },
        gpus=_processes,
        loads=DRAWING,
        synthesis=True,
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
        work=_grid_passes,
        shown=grids,
    ),
)
