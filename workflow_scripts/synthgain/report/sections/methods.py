"""The methods paragraph, drafted from the resolved config: what was done, in the words of a paper."""

from synthgain.datasets.entries.base import Split
from synthgain.pools.options import Pool
from synthgain.report.agreement import AGREEMENTS
from synthgain.report.evidence import Evidence
from synthgain.report.sections.protocol import established
from synthgain.report.vocabulary import listed, prose_of
from synthgain.statistics.metric_registry import metric_label
from synthgain.study.generation import Generator
from synthgain.study.schema import Study
from synthgain.study.training import Model

PART_NAMES = {"train": "training", "validation": "validation", "test": "test"}
OUTPUTS = {"image+mask": "image and mask together", "mask": "masks alone"}
OPTIMISERS = {"adamw": "AdamW", "lion": "Lion"}
MASK_SOURCES = {
    "training": "Its masks are those of the training rows.",
    "transformed": "Its masks are those of the training rows, geometrically transformed at random.",
}


def methods(evidence: Evidence) -> list[str]:
    """Return the paragraphs of a draft methods section."""
    study = evidence.study
    paragraphs = [_data(evidence), _generation(study), _downstream(study), _statistics(evidence)]
    return [text for text in (*paragraphs, _pools_examined(evidence)) if text]


def _data(evidence: Evidence) -> str:
    image, sets = evidence.study.image, []
    for name, entry in evidence.study.datasets.items():
        counts = str(entry.adapter)
        if name in evidence.datasets and evidence.datasets[name].facts.patients is not None:
            facts = evidence.datasets[name].facts
            counts = f"{facts.patients} patients, {facts.images} images"
        sets.append(f"{name} ({counts}; {'testing only' if entry.split is None else _split(entry.split)})")
    unit = "Splits were made by patient; duplicates stayed on one side."
    if evidence.image_level:
        unit += (
            f" {listed(evidence.image_level)} has no patient identifiers, so there images were taken as independent."
        )
    return (
        f"Images were brought to {image.size} × {image.size} pixels ({image.fit}). The data were {listed(sets)}. {unit}"
    )


def _split(split: Split) -> str:
    if split.column:
        return f"split given by its column {split.column}"
    shares = {name: getattr(split, part) for part, name in PART_NAMES.items()}
    return listed([f"{100 * share:g} % {name}" for name, share in shares.items() if share])


def _generation(study: Study) -> str:
    texts = []
    for name, generator in study.generators.items():
        training = generator.training
        texts.append(
            f"Generator {name} ({_family(generator)}) was trained on the training patients of "
            f"{listed(generator.train_on.datasets)}{_of_clusters(study, generator)}, {_conditions(study, generator)}, "
            f"for {training.steps} steps of {training.batch_size} images "
            f"({prose_of(generator.family).training(generator)})."
        )
    return " ".join(texts + [text for name, pool in study.pools.items() if (text := _pool(study, name, pool))])


def _conditions(study: Study, generator: Generator) -> str:
    """What a generator is told of an image, and the latents that it works in."""
    told = [*generator.condition_on]
    if generator.prompt_name is not None:
        prompt = study.prompts[generator.prompt_name]
        text = f"“{prompt.template}”" if prompt.template is not None else f"of column {prompt.column}"
        told.append(f"a text ({generator.prompt_name}: {text})")
    where = generator.autoencoder_name
    return f"conditioned on {listed(told) or 'nothing'}" + ("" if where is None else f", in the latents of {where}")


def _of_clusters(study: Study, generator: Generator) -> str:
    """Which clusters of the training images a generator was trained on, where it was."""
    seen = generator.train_on
    if seen.per is not None:
        return f", once on each of the {study.clusters[seen.per].k} appearance clusters {seen.per}"
    return "" if seen.cluster is None else f", on cluster {seen.cluster[1]} of {seen.cluster[0]} alone"


def _family(generator: Generator) -> str:
    """Family of a generator, and what it draws where that is more than images."""
    what = prose_of(generator.family).kind(generator)
    return f"{what}, {OUTPUTS[generator.output]}" if generator.output in OUTPUTS else what


def _pool(study: Study, name: str, pool: Pool) -> str:
    found = [prose(study, pool) for key, prose in POOL_PROSE.items() if getattr(pool, key) is not None]
    return f"Pool {name} {found[0]}" if found else f"Pool {name} was made by a source of this study's own."


def _drawn(study: Study, pool: Pool) -> str:
    generator = str(pool.from_)
    drawing = prose_of(study.generators[generator].family).drawing(pool.sampling)
    return (
        f"was drawn from {generator}{drawing}; "
        f"each replica repeats the conditions of every training row of {pool.rows_of} once.{_masks(pool)}"
    )


def _known(study: Study, pool: Pool) -> str:
    return f"is of known truth ({str(pool.known).replace('_', ' ')})."


def _imported(study: Study, pool: Pool) -> str:
    return "was imported; how it was made is not known here."


def _derived(study: Study, pool: Pool) -> str:
    if pool.filter is None:
        return f"holds as many images of {pool.of}, unselected, as {pool.thin_to}."
    return f"holds the images of {pool.of} that passed a filter on {pool.filter.scores.replace('_', ' ')}."


POOL_PROSE = {"from_": _drawn, "known": _known, "imported": _imported, "of": _derived}  # by the key of Pool


def _masks(pool: Pool) -> str:
    """Where the masks of a drawn pool come from, "" where it says nothing of them."""
    found = ""
    if pool.masks is not None:
        found = MASK_SOURCES.get(pool.masks.source, f"Its masks were drawn by {pool.masks.from_}.")
    if pool.inpainting is not None:
        found = f"Only the region of {pool.inpainting.structure} was drawn, inside the real image of the row."
    if pool.styling is not None:
        found = (
            f"{found} Its images were styled after their parents (the last {100 * pool.styling.strength:g} % of the "
            f"noise levels, guided by {pool.styling.space}, which does not judge them)."
        )
    if pool.misaligned:
        found = f"{found} Masks were exchanged among its images: a negative control."
    return f" {found.strip()}" if found else ""


def _extras(model: Model) -> str:
    """Sentences on what few trainings have, "" where none of it was asked for."""
    said = []
    if model.label_smoothing:
        said.append(f"Labels were smoothed by {model.label_smoothing:g}.")
    if model.soft_targets:
        said.append("The loss took the share of readers who gave a label; metrics and validation took the label.")
    if model.ema_decay is not None:
        said.append(f"The weights kept are a running average (decay {model.ema_decay:g}).")
    if model.patience is not None:
        said.append(
            f"Training stopped after {model.patience} validations without a better one: arms may differ in steps."
        )
    return "".join(f" {sentence}" for sentence in said)


def _downstream(study: Study) -> str:
    texts = []
    for name, model in study.models.items():
        start = "given pretrained weights" if model.pretrained else "random weights"
        if model.pretrained_encoder:
            start = f"an encoder pretrained elsewhere ({model.pretrained_encoder}) and random weights of the decoder"
        texts.append(
            f"Model {name} ({model.network_name}, {model.task} of {listed(model.labels)}, from "
            f"{start}) was trained for {model.steps} steps of {model.batch_size} images "
            f"({OPTIMISERS[model.optimiser]}, learning rate {model.learning_rate}); the checkpoint was chosen by "
            f"{model.selection.replace('_', ' ')} "
            f"{model.selection_metric} every {model.validate_every} steps.{_extras(model)}"
        )
    if study.match == "steps":
        texts.append("All arms had the same number of optimiser steps, batch size and validations unless stated.")
    else:
        texts.append("Arms were matched by epochs: larger training sets were trained for more steps.")
    return " ".join(texts)


def _pools_examined(evidence: Evidence) -> str:
    """What was measured on the pools; "" where nothing was."""
    texts = []
    spaces = [space.label for measured in evidence.fidelity for space in measured.manifest.spaces]
    if evidence.fidelity:
        where = f" in the features of {listed(list(dict.fromkeys(spaces)))}" if spaces else ""
        texts.append(
            f"Fidelity and diversity were measured{where}, at equal numbers of synthetic and held-out real images, "
            "and between halves of the real images that share no patient."
        )
    if evidence.memorisation:
        texts.append(
            "Each pool was searched for near copies of training images; thresholds came from held-out real images, "
            "and the excess over their rate was tested with patients kept together."
        )
    tables = {name for measured in evidence.consistency for name in measured.tables}
    texts += [kind.methods for name, kind in AGREEMENTS.items() if name in tables]
    return " ".join(texts)


def _statistics(evidence: Evidence) -> str:
    study = evidence.study
    analysis, replicates = study.analysis, study.replicates
    declared = [
        f"{p.arm}{f' at {p.ratio:g} %' if p.ratio else ''} against its baseline, "
        f"{p.labels} {metric_label(p.metric)} on {p.test_set}"
        for p in analysis.primaries
    ]
    what = (
        f"The primary comparison{', declared before the run,' * established(evidence)} was {listed(declared)}. It was"
        if declared
        else "No comparison was declared as primary. Comparisons were"
    )
    reason = f" ({analysis.margin_reason})" if analysis.margin_reason else ""
    return (
        f"Training was repeated with {replicates.count} seeds shared by all arms ({replicates.generators} generator "
        f"training{'s' if replicates.generators != 1 else ''}). {what} tested {analysis.alternative} at alpha "
        f"{analysis.alpha:g} by the "
        f"Obuchowski–Rockette–Hillis method with seeds as readers, so that intervals cover both seeds and patients. "
        f"The other ratios were adjusted by Holm, exploratory comparisons by Benjamini–Hochberg. Differences whose "
        f"whole {100 * (1 - 2 * analysis.alpha):g} % interval lay within ±{analysis.margin:g}"
        f"{reason} were called equivalent."
    )
