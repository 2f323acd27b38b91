"""Known answers and found ones, as one small self-contained page."""

import io
from collections.abc import Mapping

import pandas as pd
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from synthgain.report.embedding import inline_svg
from synthgain.report.facts import Facts
from synthgain.report.figures.style import FAINT, INK, MUTED, PALETTE, new_figure, quiet_grid, style_context

INCH_A_ARM = 0.42
MARKS = {"helps": (PALETTE[0], "^"), "harms": (PALETTE[1], "v")}  # colour and marker of a verdict
MARKS |= {"equivalent": (PALETTE[2], "s"), "inconclusive": (MUTED, "o")}
VERDICTS = tuple(MARKS)

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<title>{{ title }}: known answers</title>
<style>
body{font:15px/1.5 system-ui,sans-serif;color:#1c2733;max-width:1060px;margin:2rem auto;padding:0 1rem}
h1{font-size:1.6rem;margin-bottom:.2rem}h2{margin-top:2.2rem;border-bottom:2px solid #d5dde5;padding-bottom:.2rem}
table{border-collapse:collapse;margin:.4rem 0}th,td{padding:.2rem .7rem;border-bottom:1px solid #e3e8ee;
text-align:left;vertical-align:top}td.n,th.n{text-align:right;white-space:nowrap;
font-variant-numeric:tabular-nums}
th{background:#f3f6f9;font-weight:600}.bad{color:#a11d1d;font-weight:600}.ok{color:#22663a}.note{color:#55626f}
.scroll{overflow-x:auto}svg{max-width:100%;height:auto}
</style></head><body>
<h1>{{ title }}: does the instrument give the known answer?</h1>
<p class="{{ 'ok' if not missed else 'bad' }}">{{ judged | length - missed | length }} of {{ judged | length }}
expectations met over {{ studies | length }} {{ "study" if studies | length == 1 else "studies" }}.
{% for rate in missed %}Not met: {{ rate.arm or "whole study" }}, {{ rate.quantity }}, in {{ rate.count }} of
{{ rate.studies }} ({{ rate.expected }} expected). {% endfor %}</p>
<p class="note">Each study draws its own patients, split, pools and {{ replicates }} classifier seeds; every verdict is
at alpha {{ alpha }}, unadjusted, with a margin of ±{{ margin }}. Intervals are exact 95 % binomial ones
(Clopper–Pearson): with few studies they are wide.</p>
<h2>Verdicts</h2>
<div class="scroll"><table><tr><th>arm</th><th>pool</th>
{% for word in verdicts %}<th class="n">{{ word }}</th>{% endfor %}<th class="n">share that helps</th>
<th>expected to help</th></tr>
{% for row in arms %}<tr><td>{{ row.arm }}</td><td>{{ row.kind }}</td>
{% for word in verdicts %}<td class="n">{{ row[word].count }}</td>{% endfor %}
<td class="n">{{ interval(row.helps) }}</td><td>{{ answer(row.helps) }}</td></tr>{% endfor %}</table></div>
{{ figure }}
<p class="note">One mark per study, with its 95 % interval; the band is the margin.</p>
<h2>Gate, copies, missing groups, alarms</h2>
<div class="scroll"><table><tr><th>arm</th><th>seen</th><th class="n">studies</th><th class="n">share</th>
<th>expected</th></tr>
{% for rate in others %}<tr><td>{{ rate.arm or "whole study" }}</td><td>{{ rate.quantity }}</td>
<td class="n">{{ rate.count }} of {{ rate.studies }}</td><td class="n">{{ interval(rate) }}</td>
<td>{{ answer(rate) }}</td></tr>{% endfor %}</table></div>
<h2>Every study</h2>
<div class="scroll"><table><tr><th>study seed</th><th>arm</th><th class="n">difference</th><th class="n">95 %
interval</th><th class="n">p</th><th>verdict</th></tr>
{% for study in studies %}{% for arm, row in study.arms.items() %}<tr><td>{{ study.seed if loop.first }}</td>
<td>{{ arm }}</td><td class="n">{{ number(row.difference) }}</td>
<td class="n">{{ number(row.low) }} to {{ number(row.high) }}</td>
<td class="n">{{ "%.3g" | format(row.p) if row.p is not none else "–" }}</td><td>{{ row.verdict or "none" }}</td></tr>
{% endfor %}{% endfor %}</table></div>
</body></html>
"""


class RateFacts(Facts):
    """How often something was seen, over all studies; as_expected is None where nothing is expected."""

    arm: str
    kind: str
    quantity: str
    count: int
    studies: int
    share: float
    low: float
    high: float
    expected: str | None = None
    as_expected: bool | None = None


class ArmFacts(Facts):
    """What one study found of one arm."""

    verdict: str | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None


class StudyFacts(Facts):
    """One study: its seed, and its arms."""

    seed: int
    arms: dict[str, ArmFacts]


class CalibrationFacts(Facts):
    """`calibration.json`."""

    title: str
    alpha: float
    margin: float
    replicates: int
    studies: list[StudyFacts]
    rates: list[RateFacts]


def calibration_page(content: Mapping[str, object]) -> str:
    """Return the page for the content of `calibration.json`."""
    found = CalibrationFacts.model_validate(content)
    judged = [rate for rate in found.rates if rate.as_expected is not None]
    by_arm: dict[str, dict[str, str | RateFacts]] = {}
    for rate in found.rates:
        if rate.quantity in VERDICTS:
            by_arm.setdefault(rate.arm, {"arm": rate.arm, "kind": rate.kind})[rate.quantity] = rate
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    environment.globals.update(interval=_interval, answer=_answer, number=_number)
    return environment.from_string(PAGE).render(
        title=found.title,
        alpha=found.alpha,
        margin=found.margin,
        replicates=found.replicates,
        studies=found.studies,
        verdicts=VERDICTS,
        arms=list(by_arm.values()),
        others=[rate for rate in found.rates if rate.quantity not in VERDICTS],
        judged=judged,
        missed=[rate for rate in judged if not rate.as_expected],
        figure=Markup(effects_figure(found)),
    )


def effects_figure(found: CalibrationFacts) -> str:
    """Return the SVG of each study's difference per arm, verdicts by colour and marker."""
    rows = pd.DataFrame(
        [{"arm": arm, **row.model_dump()} for study in found.studies for arm, row in study.arms.items()]
    )
    rows = rows.dropna(subset=["difference"])
    arms = list(dict.fromkeys(rows["arm"]))
    with style_context():
        figure = new_figure(7.0, 1.0 + INCH_A_ARM * max(len(arms), 1))
        axes = figure.add_subplot()
        axes.axvspan(-found.margin, found.margin, color=FAINT, zorder=0)
        axes.axvline(0, color=INK, linewidth=0.8)
        for place, arm in enumerate(arms):
            own = rows[rows["arm"] == arm]
            for offset, row in zip(_spread(len(own)), own.to_dict("records"), strict=True):
                colour, marker = MARKS.get(row["verdict"], (INK, "x"))
                axes.plot([row["low"], row["high"]], [place + offset] * 2, color=colour, linewidth=0.8)
                axes.plot(row["difference"], place + offset, marker, color=colour, markersize=4)
        for word, (colour, marker) in MARKS.items():
            axes.plot([], [], marker, color=colour, markersize=4, label=word)
        axes.set_yticks(range(len(arms)), arms)
        axes.invert_yaxis()
        axes.set_xlabel("difference from the real arm")
        quiet_grid(axes, "x")
        figure.legend(loc="outside upper right", ncols=len(VERDICTS))
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return inline_svg(text.getvalue(), "effects", "Differences from the real arm, one mark per study and arm")


def _spread(count: int) -> list[float]:
    """Vertical places of `count` marks around an arm's line."""
    return [0.6 * ((i + 0.5) / count - 0.5) for i in range(count)]


def _interval(rate: RateFacts) -> str:
    return f"{rate.share:.2f} ({rate.low:.2f} to {rate.high:.2f})"


def _answer(rate: RateFacts) -> str:
    if rate.as_expected is None:
        return "no expectation"
    return f"{rate.expected}: {'met' if rate.as_expected else 'NOT met'}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:+.3f}"
