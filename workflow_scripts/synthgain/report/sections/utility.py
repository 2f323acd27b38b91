"""Sections on whether it helped: result, controls, dose–response, sites, labels, subgroups, calibration."""

import pandas as pd

from synthgain.report.blocks import Block, Column, Details, Facts, Section, Text, interval, signed
from synthgain.report.evidence import Evidence, ModelEvidence
from synthgain.report.facts import AlarmFacts, CopyingAlarm
from synthgain.report.failures import failed_tables, written
from synthgain.report.figures.style import arm_label
from synthgain.report.floors import with_floor
from synthgain.report.sections.further import calibration_section, dose_blocks, subgroup_section
from synthgain.report.sections.operating_points import finding_blocks
from synthgain.report.sections.segmentation import spread_section
from synthgain.report.sections.verdicts import ALARMS, MEMORISATION, STATES, UNREACHED, gate_answer
from synthgain.report.tables import ARM, comparison_columns, folded, result_table, summary_columns
from synthgain.statistics.metric_registry import MainEndpoint, metric_label

ALARM = "✗ alarm"
NOT_CHECKED = AlarmFacts()


def utility_sections(evidence: Evidence, model: ModelEvidence) -> list[Section]:
    """Return the sections of one model; ids carry the model's name where there are several."""
    level, chosen = evidence.level, evidence.endpoint(model)
    several = len(evidence.models) > 1
    segments = evidence.segments(model.name)
    spread = ("spread", "Spread, small structures, floors", lambda: spread_section(model, level))
    subgroups = ("subgroups", "Subgroups", lambda: subgroup_section(model, chosen, level))
    calibration = ("calibration", "Thresholds and calibration", lambda: calibration_section(model, chosen, level))
    further = [
        written("dose", "Dose–response", lambda: _dose(evidence, model, level)),
        written("sites", "Test sites", lambda: _sites(evidence, model, level)),
        written(*(spread if segments else subgroups)),
        written("labels", "Other metrics", lambda: _labels(evidence, model, level)),
        None if segments else written(*calibration),
    ]
    sections = [_controls(evidence, model, level), _result(evidence, model, level)]
    sections += [section for section in further if section is not None]
    if not several:
        return sections
    return [
        Section(f"{section.id}-{model.name}", f"{section.title}: {model.name}", section.blocks, section.lead)
        for section in sections
    ]


def _on(table: pd.DataFrame, **values: object) -> pd.DataFrame:
    for name, value in values.items():
        table = table[table[name] == value]
    return table


def _too_few(evidence: Evidence, model: ModelEvidence) -> str:
    return "patients with the structure" if evidence.segments(model.name) else "positive or negative patients"


def _result(evidence: Evidence, model: ModelEvidence, level: str) -> Section:
    chosen = evidence.endpoint(model)
    summary = _on(model.table("summary"), metric=chosen.metric, label=chosen.labels, dataset=chosen.test_set)
    name = metric_label(chosen.metric)
    lead = "Arms share seeds, initial weights and the order of common images, so replicates are paired."
    failed = failed_tables(model, "summary", "patient_bootstrap")
    if not len(summary):
        text = f"{name} on {chosen.test_set} is not estimable (too few {_too_few(evidence, model)})."
        missing = failed or [Text(text, "missing")]
        return Section("result", "Result", [*missing, *_all_metrics(model, level)], lead)
    strong = (summary["arm"] == chosen.arm) & (summary["ratio"] == chosen.ratio)
    title, rows = f"{name} of every arm on {chosen.test_set}", with_floor(summary, model.table("floor"))
    table = result_table(title, rows, summary_columns(level), "summary.csv", strong=strong)
    blocks: list[Block] = [*failed, *model.pictures("result"), table, *_all_metrics(model, level)]
    return Section("result", "Result", blocks, lead)


def _all_metrics(model: ModelEvidence, level: str) -> list[Block]:
    rows = with_floor(model.table("summary"), model.table("floor"))
    table = result_table("Every metric, label and test set", rows, summary_columns(level), "summary_all.csv")
    return [folded(table, 0)] if table.rows else []


def _controls(evidence: Evidence, model: ModelEvidence, level: str) -> Section:
    alarms = model.verdict.alarms
    states, copying = [], model.verdict.copying
    judged = bool(model.verdict.comparisons) or evidence.rehearsal
    for name, (check, _) in ALARMS.items():
        if not judged and name not in (MEMORISATION, UNREACHED):
            continue
        alarm = alarms.get(name, NOT_CHECKED)
        if name == MEMORISATION:
            quiet = gate_answer(evidence) if copying.checked else "– not checked (no arm's pool was searched)"
            state = ALARM if copying.raised else quiet
        elif name == UNREACHED:
            state = STATES["alarm" if alarm.raised else "passed" if alarm.checked else "not checked"]
        else:
            state = _control_state(alarm)
        if evidence.segments(model.name):
            check = check.replace("shuffled labels", "masks of other images")
        states.append((check, "rehearsal: not judged" if evidence.rehearsal else state))
    rows = _on(model.table("comparisons"), family="control")
    blocks: list[Block] = [Facts(states)]
    if not judged:
        blocks.insert(
            0, Text("No primary comparison was declared for this model: its controls are arms like any other.")
        )
    if len(rows):
        blocks.append(folded(result_table("Controls, compared", rows, comparison_columns(level), "controls.csv")))
    if not evidence.rehearsal:
        blocks += _copying(copying, level)
    return Section(
        "controls",
        "Controls",
        blocks,
        "A gain counts only if the instrument shows none where there is none, and if cheaper ways do not reach it.",
    )


def _control_state(alarm: AlarmFacts) -> str:
    """A control's state in words, with every difference that was looked at: silence has a size, too."""
    several = len({row.state for row in alarm.tested}) > 1
    shown = []
    for row in alarm.tested:
        found = f"{signed(row.difference)} ({interval(row.low, row.high, sign=True)})"
        found = row.reason or "not estimable" if row.low is None else found
        own = f", {STATES[row.state][2:]}" if several else ""
        shown.append(f"{arm_label(row.arm, row.ratio)} against {row.baseline}: {found}{own}")
    state = ALARM if alarm.raised else STATES[alarm.state]
    return f"{state}. {'; '.join(shown)}" if shown else state


def _copying(alarm: CopyingAlarm, level: str) -> list[Block]:
    """What the memorisation gate says of each arm, and what its filtered twin gains."""
    blocks: list[Block] = []
    for row in alarm.rows:
        blocks.append(Text(f"Arm {row.arm}: {row.sentence}", "warning"))
        twins = pd.DataFrame(row.filtered)
        if len(twins):
            title = f"{row.arm} without the flagged images"
            blocks.append(result_table(title, twins, comparison_columns(level), f"filtered_{row.arm}.csv"))
        else:
            blocks.append(Text(f"No arm trains on the pool of {row.arm} without the flagged images.", "missing"))
    return blocks


def _dose(evidence: Evidence, model: ModelEvidence, level: str) -> Section:
    chosen = evidence.endpoint(model)
    rows = _on(model.table("comparisons"), metric=chosen.metric, label=chosen.labels, dataset=chosen.test_set)
    rows = with_floor(rows[(rows["ratio"] > 0) & (rows["family"] != "control")], model.table("floor"))
    blocks: list[Block] = [*model.pictures("dose")]
    if len(rows):
        title = f"Every ratio against its baseline, {chosen.test_set}"
        note = "Bold: primary, unadjusted. Other ratios of that arm: Holm; the rest: Benjamini–Hochberg."
        strong = rows["family"] == "primary"
        blocks.append(result_table(title, rows, comparison_columns(level), "dose_response.csv", note, strong))
    blocks += dose_blocks(model, chosen)
    return Section("dose", "Dose–response", blocks)


def _sites(evidence: Evidence, model: ModelEvidence, level: str) -> Section:
    chosen = evidence.endpoint(model)
    rows = _on(model.table("comparisons"), metric=chosen.metric, label=chosen.labels)
    rows = with_floor(rows[rows["family"] != "control"], model.table("floor"))
    others = [name for name in dict.fromkeys(rows["dataset"]) if name != chosen.test_set]
    blocks: list[Block] = [*model.pictures("sites")]
    lead = "Test sets other than the primary one show whether a gain travels; they are exploratory."
    declared = evidence.study.evaluate_on
    if len(declared) < 2:
        lead = "Only one test set was declared, so whether a gain travels to another hospital is not shown."
    for name in [name for name in declared if name not in set(rows["dataset"])]:
        text = f"{name}: {metric_label(chosen.metric)} is not estimable (too few {_too_few(evidence, model)})."
        blocks.append(Text(text, "missing"))
    blocks += _outside(model, chosen, level)
    for name in others:
        title = f"{name}: {metric_label(chosen.metric)}"
        own = rows[rows["dataset"] == name]
        blocks.append(result_table(title, own, comparison_columns(level), f"site_{name}.csv"))
    return Section("sites", "Test sites", blocks, lead)


def _outside(model: ModelEvidence, chosen: MainEndpoint, level: str) -> list[Block]:
    """One row over all outside sites, where there are several."""
    rows = model.table("sites")
    failed: list[Block] = [*failed_tables(model, "sites")]
    if not len(rows):
        return failed
    columns = [
        *ARM,
        Column("baseline", "Against", optional=True),
        Column("sites", "Outside sites", optional=True),
        Column("difference", "Mean difference", "signed"),
        Column(("low", "high"), f"{level} interval", "signed_interval"),
        Column("p", "p", "p"),
        Column("lowest", "Lowest", "signed"),
        Column("lowest_site", "at"),
        Column("highest", "Highest", "signed"),
        Column("highest_site", "at"),
        Column("reason", "Why not", optional=True),
    ]
    named = "; ".join(dict.fromkeys(rows["sites"]))
    note = (
        f"{named}: the mean counts each site once; its interval is about these sites, not about hospitals in general."
    )
    title = f"Outside sites together: {metric_label(chosen.metric)}"
    strong = (rows["arm"] == chosen.arm) & (rows["ratio"] == chosen.ratio)
    return [*failed, folded(result_table(title, rows, columns, "sites.csv", note, strong))]


def _labels(evidence: Evidence, model: ModelEvidence, level: str) -> Section:
    table = model.table("comparisons")
    rows = table[table["family"] == "exploratory"].sort_values("p_adjusted", kind="stable")
    blocks: list[Block] = [Text("No exploratory comparisons.", "note")]
    if len(rows):
        alpha = evidence.study.analysis.alpha
        tested, low = int(rows["p_adjusted"].notna().sum()), int((rows["p_adjusted"] < alpha).sum())
        shown = result_table("Exploratory comparisons", rows, comparison_columns(level), "exploratory.csv")
        lead = f"{tested} comparisons tested, {low} of them below alpha after Benjamini–Hochberg."
        if tested < len(rows):
            lead += f" {len(rows) - tested} more could not be tested (one replicate, or not estimable)."
        blocks = [Text(lead), Details("Show them all, smallest adjusted p first", [shown])]
    by_finding = [] if evidence.segments(model.name) else finding_blocks(model, evidence.endpoint(model), level)
    blocks = [*failed_tables(model, "metrics", "comparisons"), *by_finding, *blocks]
    title = "Structures and other metrics" if evidence.segments(model.name) else "Labels and other metrics"
    return Section("labels", title, blocks, "Exploratory: for ideas, not for claims.")
