"""What is behind the verdict: fitted curves, real-image equivalents, power, subgroups, thresholds, calibration."""

from collections.abc import Mapping

import pandas as pd

from synthgain.report.blocks import (
    Block,
    Column,
    Details,
    Facts,
    Section,
    Text,
    interval,
    make_table,
    number,
    p_value,
    signed,
)
from synthgain.report.evidence import ModelEvidence
from synthgain.report.failures import failed_tables
from synthgain.report.figures.style import arm_label
from synthgain.report.sections.operating_points import shift_blocks
from synthgain.report.tables import PLACE, TEST_SET, folded, result_table
from synthgain.statistics.metric_registry import MainEndpoint, metric_label
from synthgain.statistics.readings import UNBOUNDED

GAP = "gap"


def dose_blocks(model: ModelEvidence, chosen: MainEndpoint) -> list[Block]:
    """Return fitted dose–response, real-image equivalents and power, as far as they were computed."""
    failed = failed_tables(model, "dose_response", "learning_curve", "power")
    return [*failed, *_fits(model), *_equivalents(model, chosen), *_power(model)]


def _fits(model: ModelEvidence) -> list[Block]:
    rows = []
    for fit in model.fits:
        best = fit.best.replace("_", " ") if fit.best else "too few ratios"
        place = {"arm": fit.arm, "dataset": fit.dataset, "label": fit.label, "replicates": fit.replicates}
        rows.append(place | fit.slope.model_dump() | {"best": best})
    if not rows:
        return []
    columns = [
        Column("arm", "Arm"),
        TEST_SET,
        Column("mean", "Slope per log2(1 + ratio)", "signed", 4),
        Column(("low", "high"), "Interval", "signed_interval", 4),
        Column("p", "p", "p"),
        Column("violations", "Steps downwards", "count"),
        Column("best", "Curve (AICc), where the slope is shown"),
    ]
    note = (
        "Slopes per replicate, tested over seeds and patients. Constant: no dose–response is shown, which is no "
        "evidence that there is none; the interval says what remains possible."
    )
    table = make_table("Dose–response, fitted", pd.DataFrame(rows), columns, "dose_response_fits.csv", note=note)
    return [*(Text(best_sentence(fit.arm, fit.dataset, fit.picked)) for fit in model.fits if fit.picked), table]


def best_sentence(arm: str, dataset: str, best: Mapping[str, float]) -> str:
    """The best of several ratios, beside what luck gives; best: a `statistics.best_ratio.BestRatio`."""
    return (
        f"Best ratio of {arm} on {dataset}, picked after looking: {best['ratio']:g} %, {signed(best['difference'])}. "
        f"Without a true difference at any ratio the best would be {signed(best['by_chance'])} on average. Of all "
        f"its ratios together (max-T): p = {p_value(best['p'])}."
    )


def _equivalents(model: ModelEvidence, chosen: MainEndpoint) -> list[Block]:
    rows = model.equivalents
    if not len(rows):
        if failed_tables(model, "learning_curve"):
            return []
        return [Text("Real-image equivalents: not done (they need real arms at several real fractions).", "missing")]
    columns = [
        *PLACE,
        Column("fraction", "Worth so many times the real patients", "number", 2),
        Column(("low", "high"), "Interval over seeds and patients", "interval", 2),
        Column("extra_patients", "Extra real patients", "count"),
        Column("extrapolated", "Beyond the curve"),
        Column("note", "Why not", optional=True),
    ]
    shown = rows.assign(extrapolated=rows["extrapolated"].map({True: "yes: a direction only", False: "no"}))
    unbounded = rows["note"].fillna("").str.startswith(UNBOUNDED)
    shown[["fraction", "extra_patients"]] = shown[["fraction", "extra_patients"]].mask(unbounded)  # a division by noise
    shown.loc[unbounded, "extrapolated"] = ""
    table = result_table("Real-image equivalents", rows, columns, "equivalents.csv", shown=shown)
    return [*(Text(equivalent_sentence(row)) for _, row in _main_cells(rows, chosen).iterrows()), folded(table)]


def _main_cells(rows: pd.DataFrame, chosen: MainEndpoint) -> pd.DataFrame:
    """The cells of the main endpoint: that of the primary comparison, else every ratio."""
    own = rows[(rows["dataset"] == chosen.test_set) & (rows["label"] == chosen.labels)]
    primary = own[(own["arm"] == chosen.arm) & (own["ratio"] == chosen.ratio)]
    return primary if len(primary) else own


def equivalent_sentence(row: pd.Series) -> str:
    """Return what an arm is worth in real patients, in one sentence."""
    arm = arm_label(str(row["arm"]), float(row["ratio"]))
    note = row.get("note")
    if pd.isna(row["fraction"]) or (isinstance(note, str) and note.startswith(UNBOUNDED)):
        return f"{arm}: worth in real patients {note if isinstance(note, str) and note else 'not estimable'}."
    ends = interval(row["low"], row["high"], 2)
    if pd.isna(row["high"]):
        ends = f"{number(row['low'], 2)} upwards, without a bound that can be told"
    times = number(row["fraction"], 2)
    text = f"On {row['dataset']}, {arm} reached what about {times} times the real patients would reach"
    extra = row["extra_patients"]
    if pd.notna(extra):
        side = "more" if extra >= 0 else "fewer"
        text += f", that is {abs(int(extra))} {side} real patients"
    text += f" (interval over seeds and patients: {ends})"
    return text + (": beyond the measured curve, so no more than a direction." if row["extrapolated"] else ".")


def _power(model: ModelEvidence) -> list[Block]:
    blocks: list[Block] = []
    for entry in model.power:
        name = arm_label(entry.arm, entry.ratio)
        if entry.detectable is None:
            blocks.append(Text(f"Power of {name}: {entry.note}.", "missing"))
            continue
        facts = [
            ("Smallest difference found with 80 % power", number(entry.detectable)),
            ("the same with endless seeds", number(entry.floor_with_endless_seeds)),
            (
                "SD over seeds; SD over patients",
                f"{number(entry.seed_sd, 4)}; {number(entry.patient_sd, 4)}",
            ),
            ("What limits it", entry.advice),
        ]
        enough = entry.enough_for_margin
        wanted = f"{enough.seeds} seeds and {enough.patients} test patients" if enough else "more than was tried"
        facts.append(("Needed to find a difference of one margin", wanted))
        columns = [
            Column("seeds", "Seeds", "count"),
            Column("patients", "Test patients", "count"),
            Column("se", "Standard error", "number", 4),
            Column("detectable", "Detectable difference", "number", 4),
        ]
        grid = make_table("Other designs", pd.DataFrame([d.model_dump() for d in entry.grid]), columns, "power.csv")
        blocks.append(Details(f"Power of {name}: more seeds or more patients?", [Facts(facts), grid]))
    return blocks


def subgroup_section(model: ModelEvidence, chosen: MainEndpoint, level: str) -> Section:
    """Return results per subgroup and the change of the gaps between groups."""
    section = Section("subgroups", "Subgroups", lead="For whom it helped, and whether gaps between groups changed.")
    table, failed = model.table("subgroups"), failed_tables(model, "subgroups")
    section.blocks += failed
    if not len(table):
        if failed:
            return section
        section.blocks.append(Text("Not done: no subgroup was declared, or none is large enough to report.", "missing"))
        return section
    table = table.assign(metric=table["metric"].map(metric_label))
    columns = [
        *PLACE,
        Column("column", "Covariate"),
        Column("group", "Group"),
        Column("metric", "Metric"),
        Column("patients", "Patients", "count"),
        Column("positives", "Positive", "count"),
        Column("baseline_mean", "Baseline", "number"),
        Column("mean", "Arm", "number"),
        Column("difference", "Change", "signed"),
        Column(("difference_low", "difference_high"), f"{level} interval", "signed_interval"),
        Column("p_adjusted", "p adjusted", "p"),
        Column("reason", "Why not", optional=True),
    ]
    of_gaps = [*columns[:-1], Column("permutation_p", "p of the gap's size", "p"), columns[-1]]
    of_groups = [
        *columns[:-1],
        Column("interaction", "Change here minus elsewhere", "signed"),
        Column(("interaction_low", "interaction_high"), f"{level} interval", "signed_interval"),
        Column("interaction_p_adjusted", "p of interaction, adjusted", "p"),
        columns[-1],
    ]
    gaps = table[table["group"] == GAP]
    changed = gaps.dropna(subset=["difference"]).sort_values("p_adjusted", kind="stable")
    if len(changed):
        row = changed.iloc[0]
        side = "wider" if row["difference"] > 0 else "narrower"
        text = (
            f"Of {len(changed)} gaps between groups, the change of smallest p, picked after looking, is that of "
            f"{row['column']} ({row['label']}, "
            f"{row['metric']}) in {arm_label(row['arm'], row['ratio'])} on {row['dataset']}: "
            f"{signed(row['difference'])} ({side}), adjusted p {p_value(row['p_adjusted'])}."
        )
        section.blocks.append(Text(text))
    section.blocks += _interactions(table[table["group"] != GAP], chosen)
    section.blocks += model.pictures("subgroups")
    if len(gaps):
        note = "A gap is the largest minus the smallest group: above 0 by chance alone, hence the permutation p."
        section.blocks.append(folded(result_table("Gaps between groups", gaps, of_gaps, "gaps.csv", note)))
    note = (
        "Interaction: the change in a group minus that in all other patients of known group. A change that is "
        "significant in one group and not in another does not show that they differ."
    )
    whole = result_table("All subgroups", table[table["group"] != GAP], of_groups, "subgroups.csv", note)
    section.blocks.append(folded(whole))
    return section


def _interactions(groups: pd.DataFrame, chosen: MainEndpoint) -> list[Block]:
    """Say for the main arm whether any group gained more or less than the others."""
    main = groups[(groups["arm"] == chosen.arm) & (groups["ratio"] == chosen.ratio)].dropna(subset=["interaction_p"])
    if not len(main):
        return []
    first = main.sort_values("interaction_p", kind="stable").iloc[0]
    ends = interval(first["interaction_low"], first["interaction_high"], sign=True)
    text = (
        f"{arm_label(str(first['arm']), float(first['ratio']))}: of {len(main)} interactions tested, "
        "that of smallest p is "
        f"{first['column']} {first['group']} ({first['label']}, {first['metric']}, {first['dataset']}): its change is "
        f"{signed(first['interaction'])} ({ends}) from that of all others, adjusted p "
        f"{p_value(first['interaction_p_adjusted'])}."
    )
    return [Text(text)]


def calibration_section(model: ModelEvidence, chosen: MainEndpoint, level: str) -> Section:
    """Return shift or gain, operating points and calibration."""
    lead = "A moved threshold cannot pass for a gain: operating points come from real validation images only."
    section = Section("calibration", "Thresholds and calibration", lead=lead)
    section.blocks += failed_tables(model, "thresholds", "calibration")
    section.blocks += shift_blocks(model, chosen, level)
    thresholds, calibration = model.table("thresholds"), model.table("calibration")
    if len(thresholds):
        columns = [
            *PLACE,
            Column("policy", "Policy"),
            Column("metric", "Metric"),
            Column("threshold", "Threshold", "number"),
            Column("mean", "Mean", "number"),
            Column("difference", "Difference", "signed"),
            Column(("low", "high"), f"{level} interval", "signed_interval"),
            Column("p", "p", "p"),
            Column("reason", "Why not", optional=True),
        ]
        note = (
            "A gain under one policy and not under another may be a moved operating point, or chance. Intervals count "
            "the validation patients on which thresholds were fitted. p values here are not adjusted."
        )
        table = result_table("Results under each threshold policy", thresholds, columns, "thresholds.csv", note)
        section.blocks.append(folded(table))
    if len(calibration):
        columns = [
            *PLACE,
            Column("correction", "Probabilities"),
            Column("brier", "Brier", "number", 4),
            Column("slope", "Slope (1 is right)", "number", 2),
            Column("intercept", "Intercept (0 is right)", "signed", 2),
            Column("ece", "ECE", "number"),
            Column("ece_floor", "ECE by chance", "number"),
            Column("shift", "Shift of log odds", "signed", 2),
        ]
        note = (
            "Brier: mean squared error of the probabilities. ECE: expected calibration error. Lower is better in both. "
            "ECE by chance: what a perfectly calibrated model of these scores shows in a set of this size."
        )
        section.blocks.append(folded(result_table("Calibration", calibration, columns, "calibration.csv", note)))
    if not section.blocks:
        section.blocks.append(Text("Not done.", "missing"))
    return section
