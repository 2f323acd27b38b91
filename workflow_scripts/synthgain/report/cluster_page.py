"""The audit's page of appearance clusters: what the report says of them, seen before anything is trained on them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import jinja2

from synthgain.report.blocks import Block

DATA_FILES = ("templates/blocks.html", "templates/report.css")  # join the code digest, as the report's do
TEMPLATES = Path(__file__).parent / "templates"
PAGE = """{% from "blocks.html" import show %}
<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<title>{{ study }}: appearance clusters</title>
<style>{{ style | safe }}</style></head><body>
<header class="top"><h1>Appearance clusters of {{ study }}</h1>
<p class="description">Training images divided by what they look like, before anything is trained on them.
<a href="../audit.html">The audit of the data sets</a></p></header>
<main class="layout" style="display: block">
{% for name, blocks in clusters.items() %}<section id="{{ name }}"><h2>{{ name }}</h2>
{% for block in blocks %}{{ show(block, study) }}{% endfor %}
<p class="small">Which image is in which cluster: <a href="{{ name }}.csv">{{ name }}.csv</a>, beside this page.</p>
</section>
{% endfor %}</main></body></html>
"""


def cluster_page(study: str, clusters: Mapping[str, Sequence[Block]]) -> str:
    """Return the page of {clusters: what is said of them}. All text is escaped."""
    engine = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = (TEMPLATES / "report.css").read_text(encoding="utf-8")
    return engine.from_string(PAGE).render(study=study, clusters=clusters, style=style)
