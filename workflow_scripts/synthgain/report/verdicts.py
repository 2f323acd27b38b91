"""The first thing that a reader sees: verdict, effect, interval, alarms. Words come from statistics, none from here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from synthgain.report.blocks import interval, number, p_value, signed
from synthgain.report.evidence import Evidence, ModelEvidence
from synthgain.report.questions import MEMORISATION, UNREACHED, answers
from synthgain.report.style import arm_label, metric_name

# Alarm of statistics/<model>/verdict.json → (name of the check, what to say when it is raised).
ALARMS = {
    "a_a": (
        "A/A: the same real images repeated must not differ from the baseline",
        "The A/A control differs from its baseline: until this is explained, no difference below can be trusted.",
    ),
    "under_trained": (
        "Twice the steps on real images alone must not beat the baseline",
        "Baseline under-trained: twice the steps on real images alone beats it, so no gain can be claimed.",
    ),
    "negative_control": (
        "Images without information (noise, shuffled labels) must not help",
        "A negative control helps too: the gain does not come from what the images show.",
    ),
    "step_matched_control": (
        "A gain must also beat real images repeated for as many steps",
        "Repeating real images for as many steps is not beaten: the gain may come from longer training.",
    ),
    "strong_augmentation": (
        "A gain should exceed that of heavier classical augmentation",
        "Heavier classical augmentation, which costs almost nothing, gains as much or nearly so.",
    ),
    UNREACHED: (
        "Arms of different images must not predict the same to the bit",
        "Two arms of different images predict the same to the bit: the images did not reach the model.",
    ),
    MEMORISATION: (
        "Pools must not copy training images beyond chance and the limit, nor test images at all",
        "A pool holds copies of real images: see section Memorisation before anything of it is used or shared.",
    ),
}
SIGNS = {"helps": "▲", "harms": "▼", "equivalent": "=", "inconclusive": "?", "barred": "✗"}


@dataclass
class Headline:
    """One verdict card. word is "" where there is none (a rehearsal, a model without a primary comparison)."""

    model: str
    word: str = ""
    sign: str = ""
    sentence: str = ""
    tiles: list[tuple[str, str, str]] = field(default_factory=list)
    answers: list[tuple[str, str, str]] = field(default_factory=list)
    alarms: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def headlines(evidence: Evidence) -> list[Headline]:
    """Return a card per primary comparison; the models that have one come first."""
    cards = [card for model in evidence.models for card in _cards(model, evidence)]
    return sorted(cards, key=lambda card: not card.word)


def _cards(model: ModelEvidence, evidence: Evidence) -> list[Headline]:
    verdict = model.facts.get("verdict") or {}
    notes = [str(note) for note in verdict.get("notes") or []]
    if evidence.rehearsal:
        return [Headline(model.name, notes=notes)]
    alarms = [
        ALARMS.get(name, (name, name))[1]
        for name, alarm in (verdict.get("alarms") or {}).items()
        if alarm["raised"] and name != MEMORISATION  # that one is the red banner
    ]
    level = f"{100 * (1 - float(evidence.analysis.get('alpha', 0.05))):g} %"
    cards = []
    for entry in verdict.get("comparisons") or []:
        word = str(entry.get("verdict") or "")
        tiles = _tiles(entry["primary"], level) if entry.get("primary") else []
        primary = entry.get("primary") or {}
        questions = answers(verdict, evidence, primary.get("arm") or _declared_arm(evidence, model.name))
        sign, sentence = SIGNS.get(word, ""), str(entry["sentence"])
        cards.append(Headline(model.name, word, sign, sentence, tiles, questions, alarms, notes))
    return cards or [Headline(model.name, sentence=str(verdict.get("sentence") or ""), alarms=alarms, notes=notes)]


def _declared_arm(evidence: Evidence, model: str) -> str | None:
    declared = evidence.analysis.get("primary") or []
    declared = declared if isinstance(declared, list) else [declared]
    return next((str(entry["arm"]) for entry in declared if entry.get("model", model) == model), None)


def _tiles(row: Mapping[str, Any], level: str) -> list[tuple[str, str, str]]:
    """Return (name, value, detail) of the numbers behind a verdict."""
    arm = arm_label(str(row.get("arm", "")), float(row.get("ratio") or 0))
    name = metric_name(str(row.get("metric", "")))
    label = "" if row.get("label") in (None, "macro") else f", {row['label']}"
    means = f"{number(row.get('baseline_mean'))} → {number(row.get('mean'))}"
    return [
        ("Effect", signed(row.get("difference")), f"{name}{label}: {means}"),
        (f"{level} interval", interval(row.get("low"), row.get("high"), sign=True), "over seeds and patients"),
        ("p value", p_value(row.get("p")), "primary comparison, unadjusted"),
        ("Compared", arm, f"with {row.get('baseline', 'the baseline')}, tested on {row.get('dataset', '')}"),
        ("Replicates", number(row.get("replicates"), 0), "seeds, shared by all arms"),
        *_floor_tile(row),
    ]


def _floor_tile(row: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """What a prediction that looks at no image reaches, where it was computed (segmentation)."""
    floor = row.get("floor")
    return [("Trivial floor", number(floor["value"]), str(floor["floor"]).replace("_", " "))] if floor else []
