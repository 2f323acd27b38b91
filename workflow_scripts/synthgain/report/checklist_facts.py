"""What the workflow knows of itself, by the keys of the checklist; None becomes "not done"."""

from typing import Any

from synthgain.report.evidence import Evidence, ModelEvidence
from synthgain.report.prose import listed
from synthgain.report.questions import UNREACHED
from synthgain.report.style import arm_label, metric_name

Facts = dict[str, str | None]
NO_GENERATOR = "not applicable, because no generator was trained in this study"
NO_WEIGHTS = "not applicable, because no part of the study uses pretrained weights"


def known_facts(evidence: Evidence) -> Facts:
    """Return {checklist key: value, "not applicable, because …", or None}."""
    return (
        _design(evidence)
        | _data(evidence)
        | _generator(evidence)
        | _pools(evidence)
        | _downstream(evidence)
        | _results(evidence)
    )


def _see(section: str, condition: Any) -> str | None:
    return f"see section {section}" if condition else None


def _any_table(evidence: Evidence, *names: str) -> bool:
    return any(len(model.table(name)) > 0 for model in evidence.models for name in names)


def _any_fact(evidence: Evidence, name: str) -> bool:
    return any(model.facts.get(name) for model in evidence.models)


def _design(evidence: Evidence) -> Facts:
    analysis, config = evidence.analysis, evidence.config
    primaries = analysis.get("primary") or []
    primaries = primaries if isinstance(primaries, list) else [primaries]
    question = None
    if primaries:
        first = primaries[0]
        question = (
            f"{arm_label(first['arm'], float(first.get('ratio') or 0))}, {first.get('labels', 'macro')} "
            f"{metric_name(first['metric'])} on {first['test_set']}, margin ±{analysis['margin']:g}, alpha "
            f"{analysis['alpha']:g}, {analysis.get('alternative', 'two-sided')}"
        )
    counts = config.get("replicates") or {}
    replicates = None
    if counts:
        kind = "training" if evidence.only_segments else "classifier"
        replicates = (
            f"{counts['count']} replicates: {kind} seed always differs, "
            f"{counts.get('generators', 1)} generator(s), {counts.get('pools', 1)} pool draw(s)"
        )
    return {
        "question": question,
        "arms": listed(list(config["arms"])) if config.get("arms") else None,
        "replicates": replicates,
        "power": _see("Dose–response", _any_fact(evidence, "power")),
        "conditional": "one generator training; another could give another answer"
        if int(counts.get("generators", 1)) <= 1 and evidence.generators
        else _see("Verdict", counts),
        "seeds": f"study seed {evidence.slice['seed']}; all others derive from it"
        if "seed" in evidence.slice
        else None,
        "code": "versions, config and run times are in this report; the lock file is in the repository",
    }


def _data(evidence: Evidence) -> Facts:
    sets = evidence.config.get("datasets") or {}
    licences = {name: entry.get("licence") for name, entry in sets.items()}
    stated = [f"{name}: {licence}" for name, licence in licences.items() if licence]
    external = [name for name in evidence.config.get("evaluate_on") or [] if not (sets.get(name) or {}).get("split")]
    image = evidence.config.get("image") or {}
    without = evidence.slice.get("image_level") or []
    split = f"by {'patient' if not without else 'patient; by image in ' + listed(without)}, overlap check passed"
    return {
        "sources": "; ".join(stated) if stated and len(stated) == len(sets) else None,
        "flow": _see("Data", evidence.datasets),
        "split": split if evidence.splits else None,
        "demographics": _see("Data", evidence.splits),
        "preprocessing": f"{image['size']} px, fit {image.get('fit')}, intensity {image.get('intensity')}"
        if image
        else None,
        "external": listed(external)
        if external
        else "not applicable, because all test images are of the training site",
        "externals": _see("Test sites", external) or "not applicable, because no external set was declared",
        "missing": _missing(evidence),
    }


def _missing(evidence: Evidence) -> str | None:
    shares = []
    for name, manifest in evidence.datasets.items():
        table = manifest["table"]
        columns = [column for column in manifest["columns"] if column in table.columns]
        worst = max((float(table[column].isna().mean()) for column in columns), default=0.0)
        shares.append(f"{name}: at most {100 * worst:.1f} % of a column")
    return "; ".join(shares) + "; unknown labels are left out of the loss" if shares else None


def _generator(evidence: Evidence) -> Facts:
    generators = evidence.config.get("generators") or {}
    if not generators:
        keys = ("generator", "conditioning", "sampler", "snapshot")
        return dict.fromkeys(keys, NO_GENERATOR)
    conditions = [
        f"{name}: {listed(g['condition_on']) if g.get('condition_on') else 'none'}" for name, g in generators.items()
    ]
    pools = {name: p for name, p in (evidence.config.get("pools") or {}).items() if p.get("from")}
    samplers = [
        f"{name}: one forward pass"
        if generators.get(p["from"], {}).get("family") == "gan"
        else f"{name}: {p['sampling'].get('solver')}, {p['sampling'].get('steps')} steps, guidance "
        f"{p['sampling'].get('guidance_scale', 1):g}"
        for name, p in pools.items()
        if p.get("sampling")
    ]
    snapshots = [f"{name}: {p.get('snapshot') or 'the last'}" for name, p in pools.items()]
    return {
        "generator": _see("Generators", evidence.generators),
        "conditioning": "; ".join(conditions),
        "sampler": "; ".join(samplers) or None,
        "snapshot": "; ".join(snapshots) or None,
    }


def _pools(evidence: Evidence) -> Facts:
    drawn = [f"{name}: {manifest['images']}" for name, manifest in evidence.pools.items() if "images" in manifest]
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


def _downstream(evidence: Evidence) -> Facts:
    models = evidence.config.get("models") or {}
    selections = sorted({str(model.get("selection", "real_validation")).replace("_", " ") for model in models.values()})
    weights = [f"{name}: {model['pretrained']}" for name, model in models.items() if model.get("pretrained")]
    exposures = any(training.get("replicates") for model in evidence.models for training in model.trainings)
    return {
        "downstream": _see("Methods", models),
        "exposures": _see("Arms", exposures),
        "selection": listed(selections) if selections else None,
        "thresholds": "not applicable, because masks are cut at probability 0.5"
        if evidence.only_segments
        else _see("Thresholds and calibration", _any_table(evidence, "thresholds")),
        "pretrained": "; ".join(weights) if weights else (NO_WEIGHTS if models else None),
    }


def _results(evidence: Evidence) -> Facts:
    control = any(_controls_checked(model) for model in evidence.models)
    seen = not evidence.rehearsal
    return {
        "levels": _see("Result", seen and _any_table(evidence, "summary")),
        "differences": _see("Result and Controls", seen and _any_table(evidence, "comparisons")),
        "variance": _see("Dose–response, power", _any_fact(evidence, "power")),
        "dose": _see("Dose–response", seen and _any_table(evidence, "comparisons")),
        "equivalence": _see("Verdict", seen and _any_fact(evidence, "verdict")),
        "calibration": "not applicable, because the models give masks"
        if evidence.only_segments
        else _see("Thresholds and calibration", _any_table(evidence, "calibration")),
        "subgroups": _see("Subgroups", _any_table(evidence, "subgroups")),
        "controls": _see("Controls", control and seen),
    }


def _controls_checked(model: ModelEvidence) -> bool:
    alarms = (model.facts.get("verdict") or {}).get("alarms") or {}
    return any(alarm.get("checked") for name, alarm in alarms.items() if name != UNREACHED)
