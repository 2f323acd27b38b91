"""From evidence to one HTML file that needs nothing else."""

import base64
import hashlib
import json
from pathlib import Path

import jinja2

from synthgain.report import environment
from synthgain.report.blocks import Block, Details, Facts, Section, Text
from synthgain.report.evidence import Evidence
from synthgain.report.failures import written
from synthgain.report.sections.checklist import checklist_section
from synthgain.report.sections.methods import methods
from synthgain.report.sections.protocol import in_force, looks_fact, protocol_fact, protocol_section
from synthgain.report.sections.study import study_sections
from synthgain.report.sections.utility import utility_sections
from synthgain.report.sections.verdicts import banners, headlines

DATA_FILES = ("templates/*",)  # what joins the code digest, so that an edited template rewrites the report
TEMPLATES = Path(__file__).parent / "templates"


def render(evidence: Evidence) -> str:
    """Return the report as HTML. Text from tables and configs is escaped by the template engine."""
    loader = jinja2.FileSystemLoader(TEMPLATES)
    engine = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    sections = [section for model in evidence.models for section in utility_sections(evidence, model)]
    sections += study_sections(evidence)
    more = [
        written("protocol", "Protocol and looks", lambda: protocol_section(evidence)),
        written("methods", "Methods, drafted", lambda: _methods(evidence)),
        written("checklist", "Reporting checklist", lambda: checklist_section(evidence)),
        written("provenance", "Provenance", lambda: _provenance(evidence)),
    ]
    sections += [section for section in more if section is not None]
    cards = headlines(evidence)
    script = (TEMPLATES / "report.js").read_text(encoding="utf-8")
    return engine.get_template("report.html").render(
        title=evidence.study.title or evidence.study.study,
        study=evidence.study.study,
        description=evidence.study.description,
        rehearsal=evidence.rehearsal,
        cards=cards,
        banners=banners(evidence),
        sections=sections,
        front=_front(evidence),
        downloads=_downloads(evidence),
        style=(TEMPLATES / "report.css").read_text(encoding="utf-8"),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _front(evidence: Evidence) -> list[tuple[str, str]]:
    """What identifies the run, on the first page."""
    repeated = evidence.study.replicates
    seed = "training seed" if evidence.only_segments else "classifier seed"
    made = next((model.verdict.replicates for model in evidence.models if model.verdict.replicates), repeated.count)
    counts = {seed: made, "generator training": repeated.generators, "pool draw": repeated.pools}
    facts = [
        ("Protocol", protocol_fact(evidence)),
        ("Study seed", str(evidence.seed)),
        ("Replicates", ", ".join(f"{count} {name}{'s' * (count != 1)}" for name, count in counts.items())),
    ]
    facts += [("Looks", looks_fact(evidence))] * bool(looks_fact(evidence))
    source = environment.commit(Path(__file__).parent)
    if source:
        facts.append(("Source", f"commit {source}"))
    found = dict(environment.versions())
    shown = ("python", "torch", "diffusers", "pingouin")
    facts.append(("Versions", ", ".join(f"{name} {found[name]}" for name in shown if name in found)))
    return facts


def _methods(evidence: Evidence) -> Section:
    lead = "A draft from the config, for the methods section of a paper. Check it; add what the config cannot know."
    return Section("methods", "Methods, drafted", [Text(text) for text in methods(evidence)], lead)


def _provenance(evidence: Evidence) -> Section:
    identities = [(f"data set {name}", dataset.facts.identity) for name, dataset in evidence.datasets.items()]
    identities += [(f"generator {name}", facts.identity) for name, facts in evidence.generators.items()]
    identities += [(f"pool {name}", facts.identity) for name, facts in evidence.pools.items()]
    blocks: list[Block] = [Details("All package versions", [Facts(environment.versions())])]
    if identities:
        blocks.append(Details("Identities of data, generators and pools", [Facts(identities)]))
    return Section("provenance", "Provenance", blocks, "Equal config, code and inputs give equal identities.")


def _downloads(evidence: Evidence) -> list[tuple[str, str, str]]:
    """Return (text, file name, data address) of the machine-readable parts."""
    verdicts = {model.name: model.card for model in evidence.models}
    card = {"study": evidence.study.study, "rehearsal": evidence.rehearsal, "verdicts": verdicts}
    first = in_force(evidence)
    card |= {"protocol": first.hash if first is not None else None}
    parts = [
        ("Resolved config (JSON)", "config.json", json.dumps(evidence.config, indent=2, sort_keys=True)),
        ("Verdict card (JSON)", "verdict.json", json.dumps(card, indent=2, sort_keys=True)),
    ]
    if first is not None:
        text = json.dumps(dict(first.content), indent=2, sort_keys=True)
        parts.insert(0, ("Protocol (JSON)", f"protocol-{first.number}.json", text))
    return [(text, name, _json_address(content)) for text, name, content in parts]


def _json_address(text: str) -> str:
    return "data:application/json;base64," + base64.b64encode(text.encode()).decode()
