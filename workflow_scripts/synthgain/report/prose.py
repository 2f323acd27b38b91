"""The methods paragraph, drafted from the resolved config: what was done, in the words of a paper."""

from collections.abc import Mapping, Sequence
from typing import Any

from synthgain.report.evidence import Evidence
from synthgain.report.style import metric_name
from synthgain.task_defaults import network_name

PARAMETRISATIONS = {"edm": "EDM", "flow_matching": "flow-matching"}
PART_NAMES = {"train": "training", "validation": "validation", "test": "test"}


def listed(items: Sequence[str]) -> str:
    """Return `a, b and c`."""
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)


def methods(evidence: Evidence) -> list[str]:
    """Return the paragraphs of a draft methods section."""
    config = evidence.config
    if not config:
        return []
    paragraphs = [_data(evidence, config), _generation(config), _downstream(config), _statistics(evidence, config)]
    paragraphs.append(_pools_examined(evidence))
    return [text for text in paragraphs if text]


def _data(evidence: Evidence, config: Mapping[str, Any]) -> str:
    image = config.get("image") or {}
    size = image.get("size", "?")
    sets = []
    for name, entry in (config.get("datasets") or {}).items():
        found = evidence.datasets.get(name) or {}
        counts = f"{found['patients']} patients, {found['images']} images" if "patients" in found else entry["adapter"]
        split = entry.get("split")
        use = "testing only" if split is None else _split(split)
        sets.append(f"{name} ({counts}; {use})")
    without = evidence.slice.get("image_level") or []
    unit = "Splits were made by patient; duplicates stayed on one side."
    if without:
        unit += f" {listed(without)} has no patient identifiers, so there images were taken as independent."
    fit = image.get("fit", "pad")
    return f"Images were brought to {size} × {size} pixels ({fit}). The data were {listed(sets)}. {unit}"


def _split(split: Mapping[str, Any]) -> str:
    if split.get("column"):
        return f"split given by its column {split['column']}"
    shares = [f"{100 * float(split[part]):g} % {name}" for part, name in PART_NAMES.items() if split.get(part)]
    return listed(shares)


def _generation(config: Mapping[str, Any]) -> str:
    texts = []
    for name, entry in (config.get("generators") or {}).items():
        training = entry.get("training") or {}
        conditions = listed(entry["condition_on"]) if entry.get("condition_on") else "nothing"
        texts.append(
            f"Generator {name} ({_family(entry)}) was trained on the training patients of "
            f"{listed(entry['train_on']['datasets'])}, conditioned on {conditions}, for "
            f"{training.get('steps', '?')} steps of {training.get('batch_size', '?')} images "
            f"(AdamW, learning rate {training.get('learning_rate', '?')}, EMA {training.get('ema_decay', '?')})."
        )
    families = {name: entry["family"] for name, entry in (config.get("generators") or {}).items()}
    for name, entry in (config.get("pools") or {}).items():
        sampling = entry.get("sampling") or {}
        if entry.get("from"):
            solved = (
                f" with {sampling.get('solver', '?')} in {sampling.get('steps', '?')} steps at guidance scale "
                f"{sampling.get('guidance_scale', 1):g}"
            )
            texts.append(
                f"Pool {name} was drawn from {entry['from']}{'' if families.get(entry['from']) == 'gan' else solved}; "
                f"each replica repeats the conditions of every training row of {entry.get('rows_of')} once."
                f"{_masks(entry)}"
            )
        elif entry.get("of"):
            texts.append(_derived(name, entry))
        elif entry.get("known"):
            texts.append(f"Pool {name} is of known truth ({entry['known'].replace('_', ' ')}).")
        elif entry.get("imported"):
            texts.append(f"Pool {name} was imported; how it was made is not known here.")
    return " ".join(texts)


def _family(entry: Mapping[str, Any]) -> str:
    """Family of a generator, and what it draws where that is more than images."""
    if entry["family"] == "gan":
        what = "GAN"
    else:
        kind = (entry.get("formulation") or {}).get("kind", "edm")
        what = f"{entry['family']}, {PARAMETRISATIONS.get(kind, kind.replace('_', '-'))} parametrisation"
    drawn = {"image+mask": "image and mask together", "mask": "masks alone"}.get(str(entry.get("output")))
    return f"{what}, {drawn}" if drawn else what


def _masks(entry: Mapping[str, Any]) -> str:
    """Where the masks of a drawn pool come from, "" where it says nothing of them."""
    masks, inpainting = entry.get("masks") or {}, entry.get("inpainting")
    found = {
        "training": "Its masks are those of the training rows.",
        "transformed": "Its masks are those of the training rows, geometrically transformed at random.",
        "generated": f"Its masks were drawn by {masks.get('from')}.",
    }.get(str(masks.get("source")), "")
    if inpainting:
        found = f"Only the region of {inpainting.get('structure')} was drawn, inside the real image of the row."
    if entry.get("misaligned"):
        found = f"{found} Masks were exchanged among its images: a negative control."
    return f" {found.strip()}" if found else ""


def _derived(name: str, entry: Mapping[str, Any]) -> str:
    if entry.get("thin_to"):
        return f"Pool {name} holds as many images of {entry['of']}, unselected, as {entry['thin_to']}."
    scores = str((entry.get("filter") or {}).get("scores", "scores")).replace("_", " ")
    return f"Pool {name} holds the images of {entry['of']} that passed a filter on {scores}."


def _downstream(config: Mapping[str, Any]) -> str:
    texts = []
    for name, model in (config.get("models") or {}).items():
        task = model.get("task") or "classification"
        network = network_name(model.get("network"), task)
        start = "given pretrained weights" if model.get("pretrained") else "random weights"
        texts.append(
            f"Model {name} ({network}, {task} of {listed(_predicted(model))}, from "
            f"{start}) was trained for {model.get('steps', '?')} steps of {model.get('batch_size', '?')} images "
            f"(AdamW, learning rate {model.get('learning_rate', '?')}); the checkpoint was chosen by "
            f"{str(model.get('selection', 'real_validation')).replace('_', ' ')} "
            f"{model.get('selection_metric', 'loss')} every {model.get('validate_every', '?')} steps."
        )
    if config.get("match", "steps") == "steps":
        texts.append("All arms had the same number of optimiser steps, batch size and validations unless stated.")
    else:
        texts.append("Arms were matched by epochs: larger training sets were trained for more steps.")
    return " ".join(texts)


def _predicted(model: Mapping[str, Any]) -> list[str]:
    """Targets of a classifier, structures of a segmenter."""
    return list(model["structures"] if model.get("task") == "segmentation" else model["targets"])


def _pools_examined(evidence: Evidence) -> str:
    """What was measured on the pools; "" where nothing was."""
    texts = []
    spaces = [space["label"] for measured in evidence.fidelity for space in measured.manifest.get("spaces") or []]
    if evidence.fidelity:
        where = f" in the features of {listed(list(dict.fromkeys(spaces)))}" if spaces else ""
        texts.append(
            f"Fidelity and diversity were measured{where}, at equal numbers of synthetic and held-out real images, "
            "beside the same measures between patient-disjoint halves of the real images."
        )
    if evidence.memorisation:
        texts.append(
            "Each pool was searched for near copies of training images; thresholds came from held-out real images, "
            "and the excess over their rate was tested with patients kept together."
        )
    if any("mask_agreement" in measured.tables for measured in evidence.consistency):
        texts.append(
            "Mask agreement is the Dice between a synthetic image's mask and the prediction of the model that was "
            "trained on real images alone."
        )
    if any("label_consistency" in measured.tables for measured in evidence.consistency):
        texts.append(
            "Label consistency is the AUROC, on synthetic images, of the model that was trained on real images alone."
        )
    return " ".join(texts)


def _statistics(evidence: Evidence, config: Mapping[str, Any]) -> str:
    analysis = evidence.analysis
    count = (config.get("replicates") or {}).get("count", "?")
    generators = (config.get("replicates") or {}).get("generators", 1)
    primaries = analysis.get("primary") or []
    primaries = primaries if isinstance(primaries, list) else [primaries]
    declared = [
        f"{p['arm']}{' at ' + format(p['ratio'], 'g') + ' %' if p.get('ratio') else ''} against its baseline, "
        f"{p.get('labels', 'macro')} {metric_name(p['metric'])} on {p['test_set']}"
        for p in primaries
    ]
    what = (
        f"The primary comparison, declared before the run, was {listed(declared)}. It was"
        if declared
        else "No comparison was declared as primary. Comparisons were"
    )
    sides = analysis.get("alternative", "two-sided")
    reason = f" ({analysis['margin_reason']})" if analysis.get("margin_reason") else ""
    return (
        f"Training was repeated with {count} seeds shared by all arms ({generators} generator training"
        f"{'s' if generators != 1 else ''}). {what} tested {sides} at alpha {analysis.get('alpha', 0.05):g} by the "
        f"Obuchowski–Rockette–Hillis method with seeds as readers, so that intervals cover both seeds and patients. "
        f"The other ratios were adjusted by Holm, exploratory comparisons by Benjamini–Hochberg. Differences whose "
        f"whole {100 * (1 - 2 * analysis.get('alpha', 0.05)):g} % interval lay within ±{analysis.get('margin', 0):g}"
        f"{reason} were called equivalent."
    )
