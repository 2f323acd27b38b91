"""The reporting checklist: what the workflow knows is filled in, the rest says "not done"."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from synthgain.report.blocks import Column, Facts, Section, make_table
from synthgain.report.evidence import Evidence, ModelEvidence
from synthgain.report.figures.style import arm_label
from synthgain.report.sections.protocol import deviations_of_checklist
from synthgain.report.sections.verdicts import UNREACHED
from synthgain.report.vocabulary import listed, prose_of
from synthgain.statistics.metric_registry import metric_label

ITEMS = Path(__file__).parents[1] / "templates" / "checklist.json"
NOT_DONE = "not done"
NOT_APPLICABLE = "not applicable, because "
STANDARDS = ("CLAIM 2024", "TRIPOD+AI", "STARD-AI")
NO_GENERATOR = "not applicable, because no generator was trained in this study"
NO_WEIGHTS = "not applicable, because no part of the study uses pretrained weights"
Known = dict[str, str | None]  # by the checklist's keys: a value, "not applicable, because …", or None for "not done"


@dataclass(frozen=True)
class Item:
    """One line of the checklist. state is done, not applicable or not done."""

    number: int
    part: str
    text: str
    standards: tuple[str, ...]
    value: str

    @property
    def state(self) -> str:
        """Done, not applicable, or not done."""
        if self.value == NOT_DONE:
            return NOT_DONE
        return "not applicable" if self.value.startswith(NOT_APPLICABLE) else "done"


def fill(facts: Mapping[str, str | None]) -> list[Item]:
    """Return every item with its value from `facts` (by the item's key), or "not done"."""
    entries = json.loads(ITEMS.read_text(encoding="utf-8"))
    return [
        Item(
            place,
            entry["part"],
            entry["text"],
            tuple(entry["standards"]),
            facts.get(entry["key"]) or NOT_DONE,
        )
        for place, entry in enumerate(entries, start=1)
    ]


def completeness(items: list[Item], standard: str) -> tuple[int, int]:
    """Return (filled, applicable) items of a standard."""
    own = [item for item in items if standard in item.standards and item.state != "not applicable"]
    return sum(item.state == "done" for item in own), len(own)


def checklist_section(evidence: Evidence) -> Section:
    """Return the checklist with a completeness score per standard."""
    items = fill(known_facts(evidence))
    scores = []
    for standard in STANDARDS:
        filled, applicable = completeness(items, standard)
        scores.append((standard, f"{filled} of {applicable} applicable items filled by the workflow"))
    rows = [(i.number, i.part, i.text, i.value, ", ".join(i.standards)) for i in items]
    table = pd.DataFrame(rows, columns=["number", "part", "item", "value", "standards"])
    columns = [
        Column("number", "No.", "count"),
        Column("part", "Part"),
        Column("item", "Item"),
        Column("value", "Value"),
        Column("standards", "Asked for by"),
    ]
    lead = "Items that the three guidelines ask for, in our words and order. A filled item still needs a reader's eye."
    note = "CONSORT-AI and SPIRIT-AI are for trials: not applicable."
    return Section(
        "checklist",
        "Reporting checklist",
        [Facts(scores), make_table("Checklist", table, columns, "checklist.csv", note=note)],
        lead,
    )


def known_facts(evidence: Evidence) -> Known:
    """Return {checklist key: value, "not applicable, because …", or None}."""
    return (
        _design(evidence)
        | _data(evidence)
        | _generator(evidence)
        | _pools(evidence)
        | _downstream(evidence)
        | _results(evidence)
    )


def _see(section: str, condition: object) -> str | None:
    return f"see section {section}" if condition else None


def _any_table(evidence: Evidence, *names: str) -> bool:
    return any(len(model.table(name)) > 0 for model in evidence.models for name in names)


def _design(evidence: Evidence) -> Known:
    analysis, replicates = evidence.study.analysis, evidence.study.replicates
    question = None
    if analysis.primaries:
        first = analysis.primaries[0]
        question = (
            f"{arm_label(first.arm, first.ratio)}, {first.labels} {metric_label(first.metric)} on {first.test_set}, "
            f"margin ±{analysis.margin:g}, alpha {analysis.alpha:g}, {analysis.alternative}"
        )
    kind = "training" if evidence.only_segments else "classifier"
    one = replicates.generators <= 1 and evidence.generators
    return {
        "question": question,
        "arms": listed(list(evidence.study.arms)),
        "replicates": f"{replicates.count} replicates: {kind} seed always differs, "
        f"{replicates.generators} generator(s), {replicates.pools} pool draw(s)",
        "deviations": deviations_of_checklist(evidence),
        "power": _see("Dose–response", any(model.power for model in evidence.models)),
        "conditional": "one generator training; another could give another answer" if one else "see section Verdict",
        "seeds": f"study seed {evidence.seed}; all others derive from it",
        "code": "versions, config and run times are in this report; the lock file is in the repository",
    }


def _data(evidence: Evidence) -> Known:
    study, without = evidence.study, evidence.image_level
    stated = [f"{name}: {entry.licence}" for name, entry in study.datasets.items() if entry.licence]
    external = [name for name in study.evaluate_on if study.datasets[name].split is None]
    split = f"by {'patient' if not without else 'patient; by image in ' + listed(without)}, overlap check passed"
    return {
        "sources": "; ".join(stated) if stated and len(stated) == len(study.datasets) else None,
        "flow": _see("Data", evidence.datasets),
        "split": split if evidence.splits else None,
        "demographics": _see("Data", evidence.splits),
        "preprocessing": f"{study.image.size} px, fit {study.image.fit}, intensity {study.image.intensity}",
        "external": listed(external)
        if external
        else "not applicable, because all test images are of the training site",
        "externals": _see("Test sites", external) or "not applicable, because no external set was declared",
        "missing": _missing(evidence),
    }


def _missing(evidence: Evidence) -> str | None:
    shares = []
    for name, dataset in evidence.datasets.items():
        columns = [column for column in dataset.facts.columns if column in dataset.table.columns]
        worst = max((float(dataset.table[column].isna().mean()) for column in columns), default=0.0)
        shares.append(f"{name}: at most {100 * worst:.1f} % of a column")
    return "; ".join(shares) + "; unknown labels are left out of the loss" if shares else None


def _generator(evidence: Evidence) -> Known:
    generators = evidence.study.generators
    if not generators:
        return dict.fromkeys(("generator", "conditioning", "sampler", "snapshot"), NO_GENERATOR)
    conditions = [
        f"{name}: {listed(generator.condition_on) if generator.condition_on else 'none'}"
        for name, generator in generators.items()
    ]
    samplers, snapshots = [], []
    for name, pool in evidence.study.pools.items():
        if pool.from_ is not None:
            samplers.append(f"{name}: {prose_of(generators[pool.from_].family).sampler(pool.sampling)}")
            snapshots.append(f"{name}: {pool.snapshot or 'the last'}")
    return {
        "generator": _see("Generators", evidence.generators),
        "conditioning": "; ".join(conditions),
        "sampler": "; ".join(samplers) or None,
        "snapshot": "; ".join(snapshots) or None,
    }


def _pools(evidence: Evidence) -> Known:
    drawn = [f"{place}: {pool.images}" for place, pool in evidence.pools.items() if pool.images is not None]
    fidelity = _see("Fidelity and diversity", evidence.fidelity)
    memorisation = _see("Memorisation", evidence.memorisation)
    return {
        "drawn": "images of one replica: " + "; ".join(drawn) if drawn else None,
        "extractors": fidelity,
        "sides": fidelity,
        "floors": fidelity,
        "distances": fidelity,
        "consistency": _see("Fidelity and diversity", evidence.consistency),
        "samples": _see("What the images look like", any(model.pictures("samples") for model in evidence.models)),
        "readers": None,
        "memorisation": memorisation,
        "action": memorisation,
        "disclaimer": "stated in section Memorisation",
    }


def _downstream(evidence: Evidence) -> Known:
    models = evidence.study.models
    selections = sorted({model.selection.replace("_", " ") for model in models.values()})
    weights = [f"{name}: {model.pretrained}" for name, model in models.items() if model.pretrained]
    weights += [
        f"{name}: encoder pretrained elsewhere, {model.pretrained_encoder}"
        for name, model in models.items()
        if model.pretrained_encoder
    ]
    exposures = any(training.replicates for model in evidence.models for training in model.trainings)
    return {
        "downstream": "see section Methods",
        "exposures": _see("Arms", exposures),
        "selection": listed(selections),
        "thresholds": "not applicable, because masks are cut at probability 0.5"
        if evidence.only_segments
        else _see("Thresholds and calibration", _any_table(evidence, "thresholds")),
        "pretrained": "; ".join(weights) or NO_WEIGHTS,
    }


def _results(evidence: Evidence) -> Known:
    control = any(_controls_checked(model) for model in evidence.models)
    seen = not evidence.rehearsal
    return {
        "levels": _see("Result", seen and _any_table(evidence, "summary")),
        "differences": _see("Result and Controls", seen and _any_table(evidence, "comparisons")),
        "variance": _see("Dose–response, power", any(model.power for model in evidence.models)),
        "dose": _see("Dose–response", seen and _any_table(evidence, "comparisons")),
        "equivalence": _see("Verdict", seen and any(model.card for model in evidence.models)),
        "calibration": "not applicable, because the models give masks"
        if evidence.only_segments
        else _see("Thresholds and calibration", _any_table(evidence, "calibration")),
        "subgroups": _see("Subgroups", _any_table(evidence, "subgroups")),
        "controls": _see("Controls", control and seen),
    }


def _controls_checked(model: ModelEvidence) -> bool:
    verdict = model.verdict
    named = any(alarm.checked for name, alarm in verdict.alarms.items() if name != UNREACHED)
    return named or verdict.copying.checked
