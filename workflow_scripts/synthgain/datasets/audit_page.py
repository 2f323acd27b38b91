"""The audit as one self-contained HTML page."""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import Environment, StrictUndefined

PAGE = """{% macro more(count, shown, file) %}{% if count > shown %}<p class="note">… and {{ count - shown }} more:
<code>{{ file }}</code>.</p>{% endif %}{% endmacro %}<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<title>Data audit</title>
<style>
body{font:15px/1.5 system-ui,sans-serif;color:#1c2733;max-width:1060px;margin:2rem auto;padding:0 1rem}
h1{font-size:1.6rem;margin-bottom:.2rem}h2{margin-top:2.4rem;border-bottom:2px solid #d5dde5;padding-bottom:.2rem}
h3{font-size:1rem;margin:1.2rem 0 .3rem}table{border-collapse:collapse;margin:.4rem 0}
th,td{padding:.2rem .7rem;border-bottom:1px solid #e3e8ee;text-align:left;vertical-align:top}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}th{background:#f3f6f9;font-weight:600}

img.pair{min-width:16rem}
.bad{color:#a11d1d;font-weight:600}.ok{color:#22663a}img{max-width:100%;border:1px solid #d5dde5}
.note{color:#55626f}code{font-size:.9em;overflow-wrap:anywhere}.scroll{overflow-x:auto}
</style></head><body>
<h1>Data audit</h1>
<p class="note">Near duplicates: correlation of small copies, above what unrelated patients of the same set reach.
Every image is compared with every other of its set: 24 seconds of one core for 40,000 images, by their square about
three minutes for 120,000, in less than 1 GB; as much again where the set is divided.</p>
<div class="scroll"><table><tr><th>data set</th><th>role</th><th class="n">images</th><th class="n">patients</th>
<th class="n">quarantined</th><th class="n">duplicate groups</th><th class="n">near duplicates</th>
<th>crosses the split</th></tr>
{% for name, d in datasets.items() %}<tr><td><a href="#{{ loop.index }}">{{ name }}</a></td><td>{{ d.role }}</td>
<td class="n">{{ d.images }}</td><td class="n">{{ d.patients if d.split_unit != "image" else "unknown" }}</td>
<td class="n {{ 'bad' if d.quarantined }}">{{ d.quarantined }}</td><td class="n">{{ d.exact_duplicates.groups }}</td>
<td class="n">{{ d.near_duplicates.pairs if d.near_duplicates.threshold is not none else "not calibrated" }}</td>
<td>{% set c = d.crossing %}{% if c.patients or c.exact_duplicates or c.near_duplicates %}<span class="bad">
{{ c.patients }} patients, {{ c.exact_duplicates }} duplicates, {{ c.near_duplicates }} near duplicates</span>
{% else %}<span class="ok">nothing</span>{% endif %}</td></tr>{% endfor %}</table></div>
{% if between %}<h2>Between data sets</h2><div class="scroll"><table><tr><th>pair</th><th class="n">equal images</th>
<th class="n">the same film, changed</th><th class="n">equal film names</th><th class="n">equal patient ids</th>
<th>films of one collection</th></tr>
{% for b in between %}<tr><td>{{ b.first }} – {{ b.second }}</td>
<td class="n {{ 'bad' if b.exact_duplicates }}">{{ b.exact_duplicates }}</td>
<td class="n {{ 'bad' if b.near_duplicates }}">
{{ b.near_duplicates if b.near_duplicates is not none else "too few images" }}</td>
<td class="n {{ 'bad' if b.equal_names }}">{{ b.equal_names }}</td>
<td class="n">{{ b.shared_patient_ids }}</td><td>{{ b.collection or "none known" }}</td></tr>{% endfor %}</table></div>
{% for b in between %}{% for film in b.near_listed[:5] %}<p><code>{{ film.first }}, {{ film.second }}</code>
{{ film.similarity }}: {{ film.how }}</p>{% endfor %}
{{ more(b.near_listed | length, 5, "audit/audit.json") }}{% endfor %}
{% for name, ids in excluded.items() %}<p class="bad">{{ ids | length }} test images of {{ name }} are in another data
set's training part, as they are or changed, or of a patient who is; the statistics leave them out.</p>{% endfor %}
{% endif %}
{% if clusters %}<h2>Appearance clusters</h2><p>Training images divided by what they look like
({{ clusters | join(", ") }}): sizes, members and a picture of each are in
<a href="clusters/clusters.html">clusters/clusters.html</a>, which is written once the images are divided.</p>
{% endif %}
{% for name, d in datasets.items() %}
<h2 id="{{ loop.index }}">{{ name }}</h2>
<p>{{ d.images }} images of {{ d.shape | join(" × ") }};
{% if d.split_unit == "image" %}<b>image-level split</b>: no patient ids are known.
{% elif d.split_unit == "patient" %}{{ d.patients }} patients.
{% else %}{{ d.patients }} groups: the unit of the split is the {{ d.split_unit }}.{% endif %}
Sites: {% for site, n in d.sites.items() %}{{ site }} {{ n }}{{ ", " if not loop.last }}{% endfor %}.
{% for column, n in d.impossible_values.items() %}<span class="bad">{{ n }} impossible values of {{ column }}
became unknown.</span> {% endfor %}
{% for column, n in d.impossible_labels.items() %}<span class="bad">{{ n }} impossible labels in {{ column }}.</span>
{% endfor %}
{% for note in d.notes %}<span class="bad">{{ note }}.</span> {% endfor %}
{% if d.licence %}Licence: {{ d.licence }}. {% endif %}{% if d.citation %}Cite: {{ d.citation }}.{% endif %}</p>
<div class="scroll"><table><tr><th>column</th><th>value</th>
{% for part in d.parts %}<th class="n">{{ part }}</th>{% endfor %}</tr>
<tr><td>images</td><td></td>{% for p in d.parts.values() %}<td class="n">{{ p.images }}</td>{% endfor %}</tr>
{% if d.split_unit != "image" %}<tr><td>{{ "patients" if d.split_unit == "patient" else "groups" }}</td><td></td>
{% for p in d.parts.values() %}<td class="n">{{ p.patients }}</td>{% endfor %}</tr>{% endif %}
{% for column, levels in d.class_rows.items() %}{% for level in levels %}<tr><td>{{ column if loop.first }}</td>
<td>{{ level }}</td>{% for p in d.parts.values() %}<td class="n">{{ p.classes[column].get(level, 0) }}</td>{% endfor %}
</tr>{% endfor %}{% endfor %}</table></div>
{% if d.masks %}<div class="scroll"><table><tr><th>masks of</th><th class="n">images with</th>
<th class="n">without</th><th class="n">empty</th><th class="n">full</th><th class="n">too small for this size</th>
<th class="n">of another size</th><th class="n">files without image</th><th class="n">median area</th>
<th>label values (files)</th></tr>
{% for structure, m in d.masks.items() %}<tr><td>{{ structure }}</td><td class="n">{{ m.with_mask }}</td>
<td class="n">{{ m.without_mask }}</td><td class="n">{{ m.empty }}</td>
{% for key in ["full", "vanished", "wrong_size", "without_image"] %}<td class="n {{ 'bad' if m.get(key) }}">
{{ m.get(key, "–") }}</td>{% endfor %}
<td class="n">{{ "%.1f %%" | format(100 * m.area.median) if m.area.median is not none else "–" }}</td>
<td>{% for value, files in (m.get("values") or {}).items() %}{% if loop.index <= 8 %}{{ value }} ({{ files }})
{%- if not loop.last %}, {% endif %}{% elif loop.index == 9 %}… {{ loop.length - 8 }} more{% endif %}
{% else %}–{% endfor %}</td></tr>{% endfor %}</table></div>
<p class="note">Empty: a mask that is known to hold nothing. Images whose mask has another size are quarantined.
{% for structure, m in d.masks.items() if m.get("without_image_listed") %}Files without image ({{ structure }}):
<code>{{ m.without_image_listed[:5] | join(", ") }}</code>. {% endfor %}</p>{% endif %}
{% if d.numbers %}<table><tr><th>number</th><th class="n">known</th><th class="n">unknown</th><th class="n">min</th>
<th class="n">q1</th><th class="n">median</th><th class="n">q3</th><th class="n">max</th></tr>
{% for column, s in d.numbers.items() %}<tr><td>{{ column }}</td>
{% for key in ["known", "unknown", "min", "q1", "median", "q3", "max"] %}<td class="n">{{ s[key] if s[key] is not none
else "–" }}</td>{% endfor %}</tr>{% endfor %}</table>{% endif %}
{% if d.passed_over.count %}<p class="note">Passed over, since they are no images:
{{ d.passed_over.count }} files (<code>{{ d.passed_over.listed[:8] | join(", ") }}</code>
{%- if d.passed_over.count > 8 %} …{% endif %}).</p>{% endif %}
{% if d.quarantine %}<h3>Quarantined ({{ d.quarantined }})</h3><div class="scroll"><table>
<tr><th>image</th><th>reason</th></tr>
{% for q in d.quarantine[:30] %}<tr><td><code>{{ q.image }}</code></td><td>{{ q.reason }}</td></tr>{% endfor %}
</table></div>{{ more(d.quarantined, 30, "datasets/" ~ name ~ "/quarantine.csv") }}{% endif %}
{% if d.exact_duplicates.listed %}<h3>Pixel-identical images ({{ d.exact_duplicates.groups }}
group{{ "s" if d.exact_duplicates.groups != 1 }})</h3>
<ul>{% for g in d.exact_duplicates.listed[:15] %}<li><code>{{ g.images | join(", ") }}</code></li>{% endfor %}</ul>
{{ more(d.exact_duplicates.groups, 15, "audit/audit.json") }}{% endif %}
{% if d.near_duplicates.listed %}<h3>Near duplicates{{ " of different patients" if d.split_unit == "patient" }}
(correlation above {{ "%.4f" | format(d.near_duplicates.threshold) }})</h3>
{% if d.split_unit == "image" %}<p class="note">No patient is named: the {{ d.near_duplicates.pairs }} pairs are kept on
one side of a split that is drawn.</p>{% endif %}
{% for p in d.near_duplicates.listed[:15] %}<p>
{% for picture in pairs.get(name, [])[loop.index0:loop.index] %}<img class="pair"
alt="{{ p.first }} beside {{ p.second }}" src="{{ picture }}"><br>{% endfor %}
<code>{{ p.first }}, {{ p.second }}</code> {{ p.similarity }}
{% if p.crosses %}<span class="bad">crosses the split</span>{% endif %}</p>{% endfor %}
{{ more(d.near_duplicates.pairs, 15, "audit/audit.json") }}{% endif %}
{% if name in sheets %}<h3>Examples</h3><img alt="examples of {{ name }}" src="{{ sheets[name] }}">{% endif %}
{% endfor %}</body></html>
"""


def audit_page(
    audit: Mapping[str, Any],
    sheets: Mapping[str, bytes],
    pairs: Mapping[str, Sequence[bytes]] | None = None,
    clusters: Sequence[str] = (),
) -> str:
    """Return the page; `sheets` holds PNG bytes per data set, embedded, `pairs` a picture for each of its first pairs.

    clusters: names of the study's appearance clusters, whose page is linked. All names are escaped.
    """
    datasets = {name: {**facts, "class_rows": _class_rows(facts)} for name, facts in audit["datasets"].items()}
    embedded = {name: _address(png) for name, png in sheets.items()}
    side_by_side = {name: [_address(png) for png in pictures] for name, pictures in (pairs or {}).items()}
    template = Environment(autoescape=True, undefined=StrictUndefined).from_string(PAGE)
    return template.render(
        datasets=datasets,
        between=audit["between"],
        excluded=audit["excluded"],
        sheets=embedded,
        pairs=side_by_side,
        clusters=clusters,
    )


def _address(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _class_rows(facts: Mapping[str, Any]) -> dict[str, list[str]]:
    """{column: all levels seen in any part}, for the rows of the class table."""
    rows: dict[str, set[str]] = {}
    for part in facts["parts"].values():
        for column, counts in part["classes"].items():
            rows.setdefault(column, set()).update(counts)
    return {column: sorted(levels) for column, levels in rows.items()}
