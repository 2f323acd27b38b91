"""The verdict in words. Never "comparable" without an equivalence test, never "improves" without a *helps*."""

import numpy as np

from synthgain.statistics.analysis import Analysis, Primary
from synthgain.statistics.documents import Alarms, Compared, Copying, Floor, Interval, Row, Tested
from synthgain.statistics.equivalence import EQUIVALENT, HARMS, HELPS, NO_VERDICT
from synthgain.statistics.memorisation_gate import BARRED
from synthgain.statistics.metric_registry import SEGMENTATION, higher_is_better, metric, metric_words
from synthgain.statistics.standing import UNPLANNED
from synthgain.statistics.units import GENERATED, GENERATORS_NEEDED, PILOT_BELOW, SEEDS

REHEARSAL = "Rehearsal: the numbers show that the study runs, not what it finds; no verdict is given."


def verdict_sentence(row: Row, analysis: Analysis, alarms: Alarms) -> str:
    """Headline of one declared comparison: effect, interval, p, then what limits it."""
    return " ".join([_finding(row, analysis), *_qualifiers(row, analysis, alarms)])


def without_primary(analysis: Analysis) -> str:
    """What stands in place of a verdict where no comparison was declared."""
    return REHEARSAL if analysis.rehearsal else "No primary comparison was declared for this model; all is exploratory."


def not_estimable(primary: Primary, analysis: Analysis) -> str:
    """What stands in place of a verdict where too few patients carry the declared comparison."""
    needed = "patients with the structure" if _segments(primary.metric) else "positive and negative patients"
    return (
        f"No verdict: {endpoint_words(primary)} is not estimable for {primary.arm} at {primary.ratio} % "
        f"(needs {analysis.minimum_positives} {needed})."
    )


def notes(analysis: Analysis) -> list[str]:
    """What every reader must know about the design."""
    found = []
    if analysis.rehearsal:
        found.append(REHEARSAL)
    if analysis.replicates < PILOT_BELOW:
        found.append(f"Pilot: {analysis.replicates} replicates; at least {PILOT_BELOW} are needed for intervals.")
    if analysis.generators < GENERATORS_NEEDED and any(analysis.source(arm) == GENERATED for arm in analysis.arms):
        which = "one generator" if analysis.generators == 1 else f"these {analysis.generators} generators"
        found.append(
            f"Results are conditional on {which}: another training of it could give another answer. A claim about the "
            f"way of making generators needs {GENERATORS_NEEDED} of them or more (replicates.generators)."
        )
    for dataset in analysis.image_level:
        found.append(f"{dataset} has no patient ids: images are taken as independent, intervals may be too narrow.")
    found.append("The margin applies to the primary metric only; other metrics cannot be called equivalent.")
    return found


def _finding(row: Row, analysis: Analysis) -> str:
    what, endpoint = _subject(row), _endpoint(row)
    if row["verdict"] == BARRED:
        return f"No verdict on {what}: its pool holds copies of images of {row['dataset']}."
    word = f"No verdict on {what}" if row["verdict"] == NO_VERDICT else f"{_upper(what)} is inconclusive"
    claim = f", {row['claim']}" if row["claim"] else ""
    if not np.isfinite(row["low"]):
        return f"{word}: {endpoint} is not estimable: {row['reason']}; {_levels(row)}."
    change = _change(row, analysis)
    if row["verdict"] == UNPLANNED:
        return f"Unplanned look at {what}, so no verdict ({row['reason']}): {change}."
    if row["verdict"] == NO_VERDICT:
        return f"{word}: {change}; {row['reason']}."
    if row["verdict"] == HELPS:
        return f"{_upper(what)} helps{claim}: {change}."
    if row["verdict"] == HARMS:
        return f"{_upper(what)} harms{claim}: {change}."
    if row["verdict"] == EQUIVALENT:
        limits = f"±{analysis.margin:g}" + (f" {metric_words(row['metric'])}" if _segments(row["metric"]) else "")
        margin = f"the whole {_percent(1 - 2 * analysis.alpha)} interval lies within {limits}"
        margin = row["reason"] or margin  # copies of the same training images
        return f"{_upper(what)} is equivalent to {row['baseline']}{claim}: {change}; {margin}."
    if row["low"] <= 0 <= row["high"]:
        allowed = f"the interval allows from {_signed(row['low'])} to {_signed(row['high'])}"
        found = f"no evidence of a difference in {endpoint}{claim}; {allowed} ({_levels(row)}; {_count(row)})"
        return f"{_upper(what)}: {found}{'; ' + row['reason'] if row['reason'] else ''}."
    return f"{word}: {change}{'; ' + row['reason'] if row['reason'] else ''}."


def _change(row: Row, analysis: Analysis) -> str:
    """Effect with interval and p. Segmentation puts the levels first, beside what a trivial prediction reaches."""
    interval = f"{_percent(analysis.confidence)} interval {_signed(row['low'])} to {_signed(row['high'])}"
    tested = f"{interval}, {_p(row['p'])}"
    if _segments(row["metric"]):
        return f"{_endpoint(row)} {_levels(row)}, {_signed(row['difference'])} ({tested}; {_count(row)})"
    return f"{_endpoint(row)} changed by {_signed(row['difference'])} ({tested}; {_levels(row)}; {_count(row)})"


def _levels(row: Row) -> str:
    levels = f"{row['mean']:.4f} against {row['baseline_mean']:.4f}"
    floor = row.get("floor")
    return f"{levels} (trivial floor {floor['value']:.4f}, {_floor_name(floor)})" if floor else levels


def _floor_name(floor: Floor) -> str:
    return str(floor["floor"]).replace("_", " ")


def _qualifiers(row: Row, analysis: Analysis, alarms: Alarms) -> list[str]:
    found = [_repeats(row, alarms)]
    if alarms["unreached"]["raised"]:
        found.append(
            "Arms trained on different images predict the same to the bit: the images did not reach the model."
        )
    for control in alarms["a_a"]["rows"]:
        where = f"{_subject(control)} differs from {control['baseline']} by {_interval(control)}"
        found.append(
            f"The A/A control failed: {where}; by chance this happens in at most 5 % of studies, so explain it first."
        )
    for control in [c for c in alarms["under_trained"]["rows"] if c["baseline"] == row["baseline"]]:
        longer = f"longer training on real images alone beats it by {_interval(control)}"
        found.append(f"Baseline under-trained: {longer}, no gain can be claimed.")
    found.append(_nothing_learned(row))
    for control in alarms["negative_control"]["rows"]:
        shown = f"{_subject(control)}, {_interval(control)}"
        found.append(f"A negative control helps too ({shown}): the gain does not come from what the images show.")
    if any((a["arm"], a["ratio"]) == (row["arm"], row["ratio"]) for a in alarms["step_matched_control"]["rows"]):
        found.append("Repeating real images for as many steps is not beaten: the gain may be longer training.")
    if row["verdict"] == HELPS:
        controls = alarms["strong_augmentation"]["tested"]
        found += [_strong(c) for c in controls if (c["of"], c["of_ratio"]) == (row["arm"], row["ratio"])]
    found += [_copies(alarm, row) for alarm in alarms["memorisation"]["rows"] if alarm["arm"] == row["arm"]]
    if analysis.arms[row["arm"]].borrowed:
        found.append("The generator saw real patients that the baseline does not train on (borrowed).")
    if analysis.replicates < PILOT_BELOW:
        found.append(f"Pilot: fewer than {PILOT_BELOW} replicates.")
    return [text for text in found if text]


def _nothing_learned(row: Row) -> str:
    """A baseline that does not beat a prediction which looks at no image is no baseline."""
    floor = row.get("floor")
    if not floor:
        return ""
    sign = 1 if higher_is_better(row["metric"]) else -1
    if sign * row["baseline_mean"] > sign * floor["value"]:
        return ""
    return f"The baseline does not beat the trivial floor ({_floor_name(floor)}): its training is too short or broken."


def _copies(alarm: Copying, row: Row) -> str:
    """The gate's warning, and what is left of the effect without the flagged samples."""
    place = (row["ratio"], row["dataset"], row["label"], row["metric"])
    twins = [t for t in alarm["filtered"] if (t["ratio"], t["dataset"], t["label"], t["metric"]) == place]
    if not twins:
        return f"{alarm['sentence']} No arm trains on the pool without the flagged samples at this ratio."
    twin = twins[0]
    interval = f"{_signed(twin['low'])} to {_signed(twin['high'])}"
    change = f"{_signed(twin['difference'])} ({interval}, {twin['verdict']})"
    return f"{alarm['sentence']} Without the flagged samples ({twin['arm']}) the change is {change}."


def _strong(control: Tested) -> str:
    """What heavier classical augmentation says of a gain, by the state of that control."""
    if control["state"] == "alarm":
        return f"Heavier classical augmentation gained as much ({_signed(control['difference'])})."
    if control["state"] == "not informative":
        worse = f"significantly worse than {control['baseline']} ({_signed(control['difference'])})"
        return f"Heavier classical augmentation is no competitor here: it is {worse}."
    if control["state"] == "open":
        shown = _interval(control["head_to_head"])
        return f"It is not shown to gain more than heavier classical augmentation (difference {shown})."
    return ""


def _repeats(row: Row, alarms: Alarms) -> str:
    """The head-to-head against real images repeated as often: the fair comparison wherever repetition matters."""
    place = (row["arm"], row["ratio"], row["dataset"], row["label"], row["metric"])
    heads = [
        f"Against {head['baseline']} at {head['ratio']} %: {_interval(head)}."
        for head in alarms["step_matched_control"]["tested"]
        if (head["arm"], head["ratio"], head["dataset"], head["label"], head["metric"]) == place
        and head["baseline"] != row["baseline"]
        and np.isfinite(head["p"])
    ]
    return " ".join(heads)


def _interval(row: Interval) -> str:
    return f"{_signed(row['difference'])} ({_signed(row['low'])} to {_signed(row['high'])}, {_p(row['p'])})"


def _subject(row: Compared) -> str:
    return f"{row['arm']} at {row['ratio']} %" if row["ratio"] else str(row["arm"])


def endpoint_words(primary: Primary) -> str:
    """A declared endpoint in words, such as "mean AUROC on hospital_a"."""
    return _words(*primary.endpoint())


def _endpoint(row: Row) -> str:
    return _words(row["dataset"], row["label"], row["metric"])


def _words(dataset: str, label: str, name: str) -> str:
    return f"{'mean' if label == 'macro' else label} {metric_words(name)} on {dataset}"


def _segments(name: str) -> bool:
    return metric(name).task == SEGMENTATION


def _count(row: Row) -> str:
    runs = f"{row['replicates']} replicate{'s' if row['replicates'] != 1 else ''}"
    return runs if row["unit"] == SEEDS else f"{runs} over {row['units']} {row['unit']}"


def _signed(value: float) -> str:
    return f"{value:+.4f}".replace("-", "−")


def _p(value: float) -> str:
    return "p undefined" if np.isnan(value) else "p < 0.0001" if value < 0.0001 else f"p = {value:.4f}"


def _percent(share: float) -> str:
    return f"{100 * share:.4g} %"


def _upper(text: str) -> str:
    return text[0].upper() + text[1:]
