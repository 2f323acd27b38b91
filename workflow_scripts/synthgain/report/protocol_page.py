"""The protocol in words: what is asked, of whom, how it is decided, and what the design can find."""

from collections.abc import Mapping

from jinja2 import Environment, StrictUndefined

from synthgain.report.vocabulary import listed, prose_of
from synthgain.runtime.protocols import Power, Protocol
from synthgain.statistics.metric_registry import metric_label
from synthgain.study.roles import baseline_of, role_of
from synthgain.study.schema import Primary, Study

Said = list[tuple[str, list[tuple[str, str]]]]  # sections: heading, and (term, text)
ROLES = {
    "baseline": "baseline: real images alone",
    "repeated": "control (A/A): real images repeated",
    "real_long": "control: real images, longer training",
    "real_strong": "control: real images, heavier augmentation",
    "negative_control": "negative control: images that cannot help",
    "supplemented": "real and synthetic images",
    "synthetic_only": "synthetic images alone",
    "other": "another recipe",
}
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{{ study }}: protocol {{ protocol.number }}</title>
<style>
body{font:15px/1.5 system-ui,sans-serif;color:#1c2733;max-width:900px;margin:2rem auto;padding:0 1rem}
h1{font-size:1.6rem;margin-bottom:.2rem}h2{margin-top:2rem;border-bottom:2px solid #d5dde5;padding-bottom:.2rem}
dl{display:grid;grid-template-columns:minmax(8rem,13rem) 1fr;gap:.35rem 1rem}dt{font-weight:600}dd{margin:0}
dd,dt,code{overflow-wrap:anywhere}.note{color:#55626f}.late{color:#a11d1d;font-weight:600}
@media(max-width:600px){dl{grid-template-columns:1fr}dd{margin-bottom:.6rem}}
</style></head><body>
<h1>{{ study }}: protocol {{ protocol.number }}</h1>
<p>Written {{ protocol.written }}.
{% if protocol.results %}<span class="late">{{ protocol.results }} files of predictions were there before it.</span>
{% else %}No prediction of this study was there yet.{% endif %}</p>
<p class="note">SHA-256 of study, data and code: <code>{{ protocol.hash }}</code>;
of protocol-{{ protocol.number }}.json, which holds every key of the study: <code>{{ protocol.sha256 }}</code></p>
{% for heading, items in said %}<h2>{{ heading }}</h2>
<dl>{% for term, text in items %}<dt>{{ term }}</dt><dd>{{ text }}</dd>{% endfor %}</dl>
{% endfor %}</body></html>
"""


def protocol_page(protocol: Protocol) -> str:
    """Return a protocol as a page that needs nothing else."""
    engine = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    said = protocol.content["said"]
    return engine.from_string(PAGE).render(protocol=protocol, said=said, study=protocol.content["study"]["study"])


def said_of(config: Mapping[str, object], power: Power | str) -> Said:
    """Return the protocol of a study in words. power: as `planned_power` has it, or why there is none."""
    study = Study.model_validate(config)
    primaries = study.analysis.primaries
    if not primaries:
        nothing = "a rehearsal" if study.rehearsal else "no comparison is declared"
        return [("Hypotheses", [("Primary", f"None: {nothing}. No verdict is given.")]), ("Arms", _arms(study))]
    return [
        ("Hypotheses", _hypotheses(study)),
        ("Estimand", _estimand(study, primaries[0])),
        ("Margin", _margin(study)),
        ("Arms", _arms(study)),
        ("Looks", _looks(study, power)),
        ("Power", _power(study, power)),
    ]


def _hypotheses(study: Study) -> list[tuple[str, str]]:
    analysis, found = study.analysis, []
    for entry in analysis.primaries:
        sides = {"two-sided": "is not zero", "greater": "is a gain", "less": "is a loss"}[analysis.alternative]
        found.append(
            (
                "Primary",
                f"The difference of {_named(entry)} and {baseline_of(study, entry.arm)} in "
                f"{_endpoint(entry)} {sides}; against the hypothesis of no difference, at alpha {analysis.alpha:g}.",
            )
        )
    first = analysis.primaries[0]
    found.append(
        (
            "Equivalence",
            f"The difference lies inside ±{analysis.margin:g}; against the hypothesis of one as large as that, by two "
            f"one-sided tests at {analysis.alpha:g}. It is tested first.",
        )
    )
    others = [f"{ratio} %" for ratio in study.arms[first.arm].ratios if ratio != first.ratio]
    if others:
        found.append(("Secondary", f"The same at {listed(others)}, adjusted by Holm."))
    found.append(("Exploratory", "Everything else, adjusted by Benjamini–Hochberg; it bears no claim."))
    return found


def _named(entry: Primary) -> str:
    return f"{entry.arm} at {entry.ratio} %" if entry.ratio else entry.arm


def _endpoint(entry: Primary) -> str:
    labels = "mean" if entry.labels == "macro" else entry.labels
    return f"{labels} {metric_label(entry.metric)} on {entry.test_set}"


# What becomes of a training whose loss is not finite (`models.*.diverged`).
DIVERGED: dict[str, str] = {
    "refuse": "A training whose loss is not finite stops the run, which names it",
    "chance": "A training whose loss is not finite counts as a model that tells nothing",
    "next_seed": "A training whose loss is not finite is repeated once with the next seed; a second failure counts as "
    "a model that tells nothing",
}


def _estimand(study: Study, entry: Primary) -> list[tuple[str, str]]:
    arm, model = study.arms[entry.arm], study.models[entry.model]
    return [
        ("Population", _population(study, entry.test_set)),
        (
            "Training recipe",
            f"Model {entry.model}: {model.network_name}, {model.task} of {listed(model.labels)}, {model.steps} steps "
            f"of {model.batch_size} images at a learning rate of {model.learning_rate:g}, checkpoint by "
            f"{model.selection.replace('_', ' ')} {model.selection_metric}; arms are matched by {study.match}.",
        ),
        ("Generator", _generator(study, arm.synthetic)),
        (
            "Contrast",
            f"{_named(entry)} minus {baseline_of(study, entry.arm)}, {_endpoint(entry)}, mean over "
            f"training seeds and patients; both arms share seeds, order of the common images and augmentation.",
        ),
        (
            "Diverged seeds",
            f"{DIVERGED[model.diverged]}; no replicate is left out of a comparison.",
        ),
        (
            "Missing labels",
            "An unknown label is left out of the loss and of the test for this label; the image stays for its others.",
        ),
        ("Quarantine", _quarantine(study)),
    ]


def _population(study: Study, test_set: str) -> str:
    dataset = study.datasets[test_set]
    part = "the test part of" if dataset.split is not None else "all of"
    unit = "patients" if dataset.has_patients else "images (it has no patient ids, so they are taken as independent)"
    return f"{unit[0].upper()}{unit[1:]} like those of {part} {test_set}, a data set of kind {dataset.adapter}."


def _generator(study: Study, pool: str | None) -> str:
    if pool is None:
        return "None: the arm has no synthetic images."
    config = study.pools[pool]
    while config.of is not None:
        config = study.pools[config.of]
    if config.from_ is None:
        kind = f"of known truth ({config.known.replace('_', ' ')})" if config.known else "imported"
        return f"None is trained: pool {pool} is {kind}."
    count, generator = study.replicates.generators, study.generators[config.from_]
    claim = "the claim is about this generator" if count == 1 else f"the claim is about these {count} generators"
    if count > 3:
        claim = "generators are the units of the claim"
    return (
        f"{config.from_}, {prose_of(generator.family).kind(generator)}, trained {count} "
        f"time{'s' if count > 1 else ''} for {generator.training.steps} steps on "
        f"{listed(generator.train_on.datasets)}; {claim}."
    )


def _quarantine(study: Study) -> str:
    shares = [f"{name} {100 * entry.max_quarantined_share:g} %" for name, entry in study.datasets.items()]
    told = "Images that cannot be read or lack what is needed are listed and left out"
    return f"{told}; a run stops above {listed(shares)}."


def _margin(study: Study) -> list[tuple[str, str]]:
    analysis = study.analysis
    metric = metric_label(analysis.primaries[0].metric)
    return [("Margin", f"±{analysis.margin:g} {metric}"), ("Reason", analysis.margin_reason or "None was given.")]


def _arms(study: Study) -> list[tuple[str, str]]:
    found = []
    for name, arm in study.arms.items():
        parts = [f"{ROLES[role_of(study, name)]}"]
        parts += [f"real: {arm.real}" + (f", {100 * arm.fraction:g} %" if arm.fraction < 1 else "")] * bool(arm.real)
        parts += [f"pool: {arm.synthetic}"] * bool(arm.synthetic)
        parts += [f"ratios: {', '.join(map(str, arm.ratios))} %"] * bool(arm.ratios)
        parts += [f"against {baseline_of(study, name)}"] * bool(baseline_of(study, name))
        found.append((name, "; ".join(parts)))
    return found


def _looks(study: Study, power: Power | str) -> list[tuple[str, str]]:
    looks = study.replicates.planned
    if len(looks) == 1:
        return [("One look", f"At {looks[0]} replicates. Any other look is unplanned and gets no verdict word.")]
    found = [(f"Look {number}", f"at {count} replicates") for number, count in enumerate(looks, start=1)]
    if not isinstance(power, str):
        levels = [entry["level"] for entry in power["looks"]]
        found = [
            (name, f"{text}; decides where p is below {p:.2g}") for (name, text), p in zip(found, levels, strict=True)
        ]
    rule = (
        "The study ends at the first look that helps, harms or is equivalent. O'Brien–Fleming spending of alpha over "
        "replicates; intervals and the test of equivalence are at the level of their look. Any other look is unplanned "
        "and gets no verdict word."
    )
    return [*found, ("Rule", rule)]


def _power(study: Study, power: Power | str) -> list[tuple[str, str]]:
    if isinstance(power, str):
        return [("Not computed", power)]
    margin = f"±{study.analysis.margin:g}"
    found = [
        (
            "Assumed",
            f"SD of the difference over replicates {power['seed_sd']:g}, over patients {power['patient_sd']:g}, "
            f"{power['patients']} test patients ({power['source']}).",
        ),
        ("Primary", f"{_share(power['primary'])} for a true difference of one margin ({margin})."),
        ("Detectable", f"A difference of {power['detectable']:.4f} with 80 % power." if power["detectable"] else "–"),
        ("Equivalent", f"{_share(power['equivalent'])} where there is no difference."),
        ("False equivalent", f"{_share(power['false_equivalent'])} where the difference is one margin."),
    ]
    for name, share in power["controls"].items():
        found.append((name, f"{_share(share)} to raise its alarm for a true difference of one margin."))
    if len(power["looks"]) > 1:
        mean = power["replicates"]
        found.append(
            (
                "Replicates",
                f"On average {mean['without']:.1f} where there is no difference, {mean['with']:.1f} where it is one "
                f"margin, of {power['looks'][-1]['replicates']}.",
            )
        )
    return found


def _share(value: float) -> str:
    return f"{100 * value:.0f} %"
