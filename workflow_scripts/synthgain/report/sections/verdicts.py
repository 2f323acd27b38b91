"""The first thing that a reader sees: verdict, effect, interval, alarms; may I believe it, and are the samples safe?

The words of a verdict come from statistics; the two answers are made of its alarms and of the gates.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from synthgain.report.blocks import interval, number, p_value, signed
from synthgain.report.evidence import Evidence, Measured, ModelEvidence
from synthgain.report.facts import ComparedFacts, CopyingFacts, GateFacts, VerdictFacts
from synthgain.report.figures.style import arm_label
from synthgain.statistics.metric_registry import MACRO, metric_label

MEMORISATION = "memorisation"  # the alarm that has a banner of its own
UNREACHED = "unreached"  # a check of the workflow itself: it counts only where it fails
# How a control's state (statistics/guards.py) is said; those that are not "passed" are no support.
STATES = {
    "alarm": "✗ alarm",
    "passed": "✓ no alarm",
    "open": "? not shown to be beaten",
    "no gain": "– no gain to compare",
    "not informative": "– not informative (significantly worse than the baseline itself)",
    "not estimable": "– not estimable",
    "not checked": "– not checked (no such arm for this comparison)",
}
SHORT = {"open": "not beaten", "no gain": "without a gain to compare"}
GOOD, BAD, OPEN = "good", "bad", "open"
WITHIN, UNDECIDED, COPIES_FOUND = "within limit", "undecided", "copies found"  # states of a gate
LEAKING = ("leak", "red")
# Alarm of statistics/<model>/verdict.json → (name of the check, what to say when it is raised).
ALARMS = {
    "a_a": (
        "A/A: the same real images repeated must not differ from the baseline",
        "The A/A control differs from its baseline: explain this first (by chance at most 5 % of studies alarm).",
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
CLAIMED = ("helps", "harms", "equivalent")  # words that say what they are about
SIGNS = {"helps": "▲", "harms": "▼", "equivalent": "=", "inconclusive": "?", "barred": "✗"}
SIGNS |= dict.fromkeys(("no verdict", "unplanned look"), "–")
Answer = tuple[str, str, str]  # question, tone (good, bad, open), answer


@dataclass
class Headline:
    """One verdict card. word is "" where there is none (a rehearsal, a model without a primary comparison).

    claim: what the word is conditional on. scope: what the verdict generalises to, in one sentence.
    """

    model: str
    word: str = ""
    sign: str = ""
    sentence: str = ""
    claim: str = ""
    scope: str = ""
    tiles: list[tuple[str, str, str]] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    alarms: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def headlines(evidence: Evidence) -> list[Headline]:
    """Return a card per primary comparison; the models that have one come first."""
    cards = [card for model in evidence.models for card in _cards(model, evidence)]
    return sorted(cards, key=lambda card: not card.word)


def _cards(model: ModelEvidence, evidence: Evidence) -> list[Headline]:
    verdict, notes = model.verdict, [*failures(model), *model.verdict.notes]
    if evidence.rehearsal:
        return [Headline(model.name, notes=notes)]
    alarms = [ALARMS[name][1] if name in ALARMS else name for name, alarm in verdict.alarms.items() if alarm.raised]
    cards = []
    for entry in verdict.comparisons:
        word = entry.verdict or ""
        tiles = _tiles(entry.primary, evidence.level) if entry.primary else []
        arm = entry.primary.arm if entry.primary else evidence.endpoint(model).arm
        questions = answers(verdict, evidence, arm)
        claim = entry.primary.claim if entry.primary and word in CLAIMED else ""
        scope = scope_sentence(entry.primary, model.name, evidence) if entry.primary else ""
        card = Headline(model.name, word, SIGNS.get(word, ""), entry.sentence, claim, scope)
        card.tiles, card.answers, card.alarms, card.notes = tiles, questions, alarms, notes
        cards.append(card)
    return cards or [Headline(model.name, sentence=verdict.sentence, alarms=alarms, notes=notes)]


def failures(model: ModelEvidence) -> list[str]:
    """Return a line for each arm with trainings that diverged, counted as `models.*.diverged` says."""
    found = []
    for arm in dict.fromkeys(training.arm for training in model.trainings):
        runs = [run for training in model.trainings if training.arm == arm for run in training.replicates.values()]
        failed, lost = sum(bool(run.diverged) for run in runs), sum(run.at_chance for run in runs)
        if failed:
            how = f"{failed - lost} trained again with the next seed, {lost} counted at chance"
            found.append(f"Diverged trainings of {arm}: {failed} of {len(runs)} ({how}).")
    return found


def scope_sentence(row: ComparedFacts, model: str, evidence: Evidence) -> str:
    """What a verdict generalises to, and what it says nothing about: recipe, generator, sites, selection rule."""
    recipe = evidence.study.models[model]
    chosen = {"last": "the last one"}.get(recipe.selection, f"the one of best validation {recipe.selection_metric}")
    claim = f", {row.claim}," if row.claim else ""
    units = {"seeds": "new training seeds", "generators": "new trainings of the generator"}.get(
        row.unit, f"new {row.unit}"
    )
    text = (
        f"What this is about: {units}{claim} of this training recipe ({recipe.steps} steps; checkpoint: {chosen}) and "
        f"new patients like those of {row.dataset}. It says nothing about other recipes or sites"
    )
    return f"{text}, nor about another training of the generator." if "generator" in row.claim else f"{text}."


def _tiles(row: ComparedFacts, level: str) -> list[tuple[str, str, str]]:
    """Return (name, value, detail) of the numbers behind a verdict."""
    label = "" if row.label == MACRO else f", {row.label}"
    means = f"{number(row.baseline_mean)} → {number(row.mean)}"
    tiles = [
        ("Effect", signed(row.difference), f"{metric_label(row.metric)}{label}: {means}"),
        (f"{level} interval", interval(row.low, row.high, sign=True), "over seeds and patients"),
        ("p value", p_value(row.p), "primary comparison, unadjusted"),
        ("Compared", arm_label(row.arm, row.ratio), f"with {row.baseline}, tested on {row.dataset}"),
        ("Replicates", number(row.replicates, 0), _units(row)),
    ]
    if row.floor:  # what a prediction that looks at no image reaches, where it was computed (segmentation)
        tiles.append(("Trivial floor", number(row.floor.value), row.floor.floor.replace("_", " ")))
    return tiles


def _units(row: ComparedFacts) -> str:
    shared = "seeds, shared by all arms"
    return shared if row.unit == "seeds" else f"{shared}; the units are {row.units} {row.unit}"


def answers(verdict: VerdictFacts, evidence: Evidence, arm: str | None) -> list[Answer]:
    """Return (question, tone, answer); tone is good, bad or open."""
    return [("May I believe it?", *_belief(verdict)), ("Are the samples safe?", *_safety(evidence, arm))]


def _belief(verdict: VerdictFacts) -> tuple[str, str]:
    alarms = {name: alarm for name, alarm in verdict.alarms.items() if name != UNREACHED or alarm.raised}
    raised = [name for name, alarm in alarms.items() if alarm.raised]
    checked = [name for name, alarm in alarms.items() if alarm.checked]
    passed = [name for name in checked if alarms[name].state == "passed"]
    pilot = f" A pilot only: {verdict.replicates} replicates." if verdict.pilot else ""
    if raised:
        return BAD, f"✗ No: {len(raised)} of {_controls(len(checked))} raised an alarm.{pilot}"
    if not checked:
        return OPEN, f"? Unknown: no control could be checked.{pilot}"
    others = Counter(alarm.state for name, alarm in alarms.items() if name not in passed)
    rest = "".join(f"; {count} {SHORT.get(state, state)}" for state, count in others.items())
    if not passed:
        return OPEN, f"? Unknown: no control gave support{rest}.{pilot}"
    return (OPEN if pilot else GOOD), f"✓ No alarm from {_controls(len(passed))}{rest}.{pilot}"


def _controls(count: int) -> str:
    return f"{count} control{'s' if count != 1 else ''}"


def _gates(evidence: Evidence) -> list[tuple[Measured, GateFacts]]:
    return [(measured, measured.gate) for measured in evidence.memorisation if measured.gate is not None]


def _safety(evidence: Evidence, arm: str | None) -> tuple[str, str]:
    pool, searched = _pool_of(evidence, arm or ""), _gates(evidence)
    found = [(m, gate) for m, gate in searched if m.pool == pool] or searched
    if not found:
        return OPEN, "? Unknown: no pool was searched for copies."
    copying = [m for m, gate in searched if gate.exceeded or gate.barred_sets]
    if any(measured in copying for measured, _ in found):
        return BAD, f"✗ No: {_pools(copying)} copies of real images. Do not use or share before you have looked."
    names, clean = _names(m for m, _ in found), all(gate.state == WITHIN and _none_found(gate) for _, gate in found)
    if copying:
        other = f"{'None beyond chance' if clean else 'Not decided'} in {names}, which the verdict is about."
        return BAD, f"✗ Not all of them: {_pools(copying)} copies of real images. {other}"
    leaking = [m for m, gate in found if gate.leak in LEAKING]
    if leaking:
        seen = "no copies beyond chance, but training" if clean else "training"
        return BAD, f"✗ Not clear: {seen} images leak through the loss ({_names(leaking)})."
    doubtful = [m for m, gate in found if not _none_found(gate)]
    if doubtful:
        return OPEN, f"? Not decided for {_names(doubtful)}: see section Memorisation."
    if not clean:
        few = _names(m for m, gate in found if gate.state != WITHIN)
        return OPEN, f"? No copies beyond chance were found, but too few images to exclude them ({few})."
    return (
        GOOD,
        f"✓ No copying beyond chance was seen ({names}) by the searches listed below: no certificate of privacy.",
    )


def _none_found(gate: GateFacts) -> bool:
    """True if the gate computed all its rules and saw no near-exact copy: else nothing reassuring may be said."""
    return gate.none_found and gate.state in (WITHIN, UNDECIDED)


def gate_answer(evidence: Evidence) -> str:
    """What is said of the memorisation control where no alarm was raised."""
    gates = [gate for _, gate in _gates(evidence)]
    if not all(_none_found(gate) for gate in gates):
        return "? not decided: see section Memorisation"
    if any(gate.state == UNDECIDED for gate in gates):
        return "? no copies found, too few images to exclude them"
    return "✓ no alarm"


def _pool_of(evidence: Evidence, arm: str) -> str | None:
    """Return the pool that an arm trains on."""
    return evidence.study.arms[arm].synthetic if arm in evidence.study.arms else None


def _names(found: Iterable[Measured]) -> str:
    names = dict.fromkeys(measured.pool for measured in found)
    return f"pool{'s' if len(names) > 1 else ''} {', '.join(names)}"


def _pools(found: Iterable[Measured]) -> str:
    names = _names(found)
    return f"{names} {'hold' if names.startswith('pools') else 'holds'}"


def banners(evidence: Evidence) -> list[tuple[str, str]]:
    """Return (title, text) of what must be seen before the verdict: copying beyond the limit, copied test images."""
    if evidence.rehearsal:
        return []
    found: dict[tuple[str, str], None] = {}
    for name, audited in evidence.audit.datasets.items():
        alike = audited.crossing.near_duplicates + audited.crossing.exact_duplicates
        if alike:
            found["Test images in training.", _crossing(name, alike)] = None
    for model in evidence.models:
        by_pool: dict[str, list[CopyingFacts]] = {}
        for row in model.verdict.copying.rows:  # one for each arm; arms of one pool say the same
            by_pool.setdefault(_pool_of(evidence, row.arm) or f"of arm {row.arm}", []).append(row)
        found |= {_banner(pool, same): None for pool, same in by_pool.items()}
    for measured, gate in _gates(evidence):
        if gate.barred_sets:
            text = f"Pool {measured.pool} holds copies of images of {', '.join(gate.barred_sets)}: "
            found["Copied test images.", f"{text}no verdict on that test set."] = None
    return list(found)


def _crossing(name: str, alike: int) -> str:
    pairs = "pair of equal or nearly equal images lies" if alike == 1 else "pairs of equal or nearly equal images lie"
    return (
        f"{alike} {pairs} on two sides of the split of {name}, which is given: tests on it flatter every arm. The "
        "audit shows them."
    )


def _banner(pool: str, rows: Sequence[CopyingFacts]) -> tuple[str, str]:
    row, arms = rows[0], f"trained on by {', '.join(row.arm for row in rows)}"
    if not row.exceeded:
        return "Copied test images.", f"Pool {pool} ({arms}) holds copies of test images."
    warning = "Do not share these images or the generator as they are."
    if row.state == COPIES_FOUND:
        count = f"{row.copies} of {row.images} images of pool {pool} ({arms})"
        return "Copies of training images.", f"{count} are near-exact copies of training images. {warning}"
    share, limit, low, high = (_percent(value) for value in (row.excess, row.limit, row.low, row.high))
    text = (
        f"In pool {pool} ({arms}), {number(share, 1)} % more images than chance explains are near copies of training "
        f"images (95 % interval {interval(low, high, 1)} %; limit {number(limit, 1)} %). {warning}"
    )
    return "Copies of training images.", text


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share
