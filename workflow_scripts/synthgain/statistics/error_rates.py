"""Error rates of the whole verdict on stored-score models: rejection, coverage, false *equivalent* at one margin.

The truth of a claim is that of its estimand: for one to three generators the effect of these very generators, for four
and more the mean effect of the way of making them. Settings: `error_cases.py`.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace

import numpy as np
import pandas as pd
from scipy import special, stats

from synthgain.statistics import delong
from synthgain.statistics.endpoints import Resamples, endpoints
from synthgain.statistics.equivalence import EQUIVALENT, NO_VERDICT, Judgement, Rules, judge, judge_runs
from synthgain.statistics.error_cases import MARGIN, TRUTHS, Case
from synthgain.statistics.information import Kinds, of_auroc, too_few
from synthgain.statistics.metric_registry import METRICS
from synthgain.statistics.predictions import Panel
from synthgain.statistics.simulation import Scores, Setting, probabilities, simulate
from synthgain.statistics.thresholds import apply_thresholds, fit_thresholds
from synthgain.statistics.units import GENERATORS_NEEDED, Design

ALPHA = 0.05
LEAST_POSITIVES = 10  # the default of `analysis.minimum.positives`
REJECTED_AT_MOST, FALSE_EQUIVALENT_AT_MOST, COVERED_AT_LEAST = 0.06, 0.06, 0.93
TARGET_SENSITIVITY, F1_RESAMPLES = 0.9, 400


@dataclass
class Counted:
    """Of the studies with one true difference: judged (a verdict word was given), and what the verdict said."""

    judged: int = 0
    rejected: int = 0
    covered: int = 0
    equivalent: int = 0
    reasons: dict[str, int] = field(default_factory=dict)

    def add(self, found: Judgement | str, truth: float) -> None:
        """Count one study; a text is the reason for which nothing could be estimated."""
        reason = found if isinstance(found, str) else found.reason if found.verdict == NO_VERDICT else ""
        if isinstance(found, str) or reason:
            kind = "".join(letter for letter in reason.partition("(")[0] if not letter.isdigit()).strip()
            self.reasons[kind] = self.reasons.get(kind, 0) + 1
            return
        low, high = found.contrast.interval(1 - ALPHA)
        self.judged += 1
        self.rejected += int(found.p < ALPHA)
        self.covered += int(low <= truth <= high)
        self.equivalent += int(found.verdict == EQUIVALENT)


def noise_of(setting: Setting) -> float:
    """SD of the difference of two images of different patients, over seeds too: AUROC = Φ(signal / noise)."""
    image = setting.patient_sd**2 + setting.arm_patient_sd**2 + setting.image_sd**2 + setting.residual_sd**2
    return float(np.sqrt(2 * image + setting.seed_sd**2 + setting.common_seed_sd**2))


def error_rates(case: Case, runs: int, random: np.random.Generator) -> dict:
    """Rates of one case at true differences 0 and ± one margin; runs: studies without a difference.

    {case, runs, truths: {null, plus, minus: {runs, truth, judged, rejected, covered, equivalent, …}}}: `judged` is the
    share of studies in which a verdict word is given; rejection and coverage are shares of these, `equivalent` of all.
    """
    measure = _of_auroc if case.metric == "auroc" else _of_panels
    found = {}
    for sign, name in zip((0, 1, -1), TRUTHS, strict=True):
        studies = min(runs, case.shifted) if sign else runs
        if studies and not (case.metric == "auroc" and case.level + sign * MARGIN >= 1):
            truth, counted = measure(case, sign, studies, random)
            found[name] = {"runs": studies, "truth": truth, **_shares(counted, studies)}
    return {"case": asdict(case), "runs": runs, "truths": found}


def _shares(counted: Counted, runs: int) -> dict:
    judged = counted.judged
    shares = {"judged": judged / runs, "equivalent": counted.equivalent / runs, "reasons": counted.reasons}
    for name, count in (("rejected", counted.rejected), ("covered", counted.covered)):
        interval = stats.binomtest(count, judged).proportion_ci(0.95, method="exact") if judged else None
        shares[name] = count / judged if judged else None
        shares[f"{name}_error"] = (float(interval.high) - float(interval.low)) / 2 if interval else None
    return shares


def _of_auroc(case: Case, sign: int, runs: int, random: np.random.Generator) -> tuple[float, Counted]:
    counted, truth = Counted(), sign * MARGIN
    for _ in range(runs):
        counted.add(_one_study(case, truth, random), truth)
    return truth, counted


def _one_study(case: Case, truth: float, random: np.random.Generator) -> Judgement | str:
    setting, signal = case.setting, special.ndtri(case.level) * noise_of(case.setting)
    shift = _generator_shift(case, signal, truth, random)
    drawn = simulate(replace(setting, signal=signal), random, shift=shift)
    seeds, patients = setting.replicates, setting.patients
    if min(len(np.unique(drawn.patient[drawn.truth == value])) for value in (0, 1)) < LEAST_POSITIVES:
        return "too few positive or negative patients"
    parts = delong.components(drawn.truth, drawn.scores.reshape(2 * seeds, -1), drawn.patient, patients)
    few = _uninformative(of_auroc(parts, drawn.truth, drawn.patient, patients), seeds)
    design = Design(setting.generators)
    arm, baseline = parts.auroc[:seeds], parts.auroc[seeds:]
    matrix = delong.covariance([parts])
    return few or judge_runs(arm, baseline, matrix, Rules(ALPHA, MARGIN), design, influence=parts.influence)


def _uninformative(kinds: Kinds, seeds: int) -> str:
    return too_few(kinds, np.arange(seeds), seeds + np.arange(seeds))


def _generator_shift(case: Case, signal: float, truth: float, random: np.random.Generator) -> np.ndarray:
    """(S,) shifts of the arm's signal by which the claim's true difference is `truth`."""
    setting = case.setting
    which = np.arange(setting.replicates) % setting.generators
    effects = setting.generator_sd * random.normal(size=setting.generators)
    noise, used = noise_of(setting), np.unique(which)
    if len(used) >= GENERATORS_NEEDED:  # the truth is the mean over all generators, not over these
        spread = np.hypot(noise, setting.generator_sd)
        return special.ndtri(case.level + truth) * spread - signal + effects[which]
    low, high = -10.0 * noise, 10.0 * noise
    for _ in range(60):  # the conditional truth is that of these generators
        middle = (low + high) / 2
        mean = float(special.ndtr((signal + middle + effects[used]) / noise).sum()) / len(used)
        low, high = (middle, high) if mean < case.level + truth else (low, middle)
    return low + effects[which]


def _of_panels(case: Case, sign: int, runs: int, random: np.random.Generator) -> tuple[float, Counted]:
    """Of a metric without a formula for its truth: the mean of the studies' differences, which is then the margin.

    Without a shift both arms are one law, and the truth is 0; the margin is of no consequence there.
    """
    studies = [_one_panel(case, sign * case.shift, random) for _ in range(runs)]
    differences = [study.contrast.difference for study, _ in studies if not isinstance(study, str)]
    truth = float(np.mean(differences)) if sign and differences else 0.0
    rules = replace(_rules(case), margin=abs(truth) or MARGIN)
    counted = Counted()
    for study, means in studies:
        found = study if isinstance(study, str) or study.reason else judge(study.contrast, means, rules)
        counted.add(found, truth)
    return truth, counted


def _rules(case: Case) -> Rules:
    metric = METRICS[case.metric]
    return Rules(ALPHA, None, metric.higher_is_better, ends=metric.ends)


def _one_panel(case: Case, shift: float, random: np.random.Generator) -> tuple[Judgement | str, tuple[float, float]]:
    """One study of a metric on panels, judged without a margin, and the means of both arms."""
    setting, seeds = case.setting, case.setting.replicates
    if METRICS[case.metric].needs == "masks":
        panel = _masks(case, shift, random)
    else:
        panel = panel_of(simulate(replace(setting, effect=shift), random), "test")
    resamples = Resamples.of(panel.patients, F1_RESAMPLES, random)
    decided, thresholds = {}, {}
    if case.policy:
        of_validation = replace(setting, patients=case.validation, effect=shift)
        validation = panel_of(simulate(of_validation, random), "validation")
        thresholds = {case.policy: fit_thresholds(validation, case.policy, TARGET_SENSITIVITY, random)}
        decided = {case.policy: apply_thresholds(panel, thresholds[case.policy].thresholds)}
    endpoint = next(endpoints(panel, [case.metric], [0], decided, case.policy, resamples, thresholds))
    few = _uninformative(endpoint.information, seeds)
    arm, baseline = endpoint.values[:seeds], endpoint.values[seeds:]
    found = judge_runs(arm, baseline, endpoint.covariance, _rules(case), Design(), influence=endpoint.influence)
    return few or found, (float(arm.mean()), float(baseline.mean()))


def panel_of(scores: Scores, part: str) -> Panel:
    """Both arms' probabilities as a panel: runs of the first arm first, as `build_panel` makes it of their tables."""
    truth = scores.truth.astype(np.float32)
    return _panel(part, scores.patient, truth, probabilities(scores.scores).astype(np.float32), {})


def _masks(case: Case, shift: float, random: np.random.Generator) -> Panel:
    """Dice of images that hold the structure: the logistic function of latent normal scores."""
    drawn = simulate(replace(case.setting, signal=0.0, effect=shift, positive_share=1.0), random)
    held = drawn.truth == 1
    codes = np.unique(drawn.patient[held], return_inverse=True)[1]
    dice = special.expit(special.logit(case.level) + drawn.scores[:, :, held]).astype(np.float32)
    dice = dice.reshape(-1, 1, dice.shape[-1])
    return _panel("test", codes, np.ones(dice.shape[-1], np.float32), dice, {"dice": dice, "truth_empty": 0 * dice})


def _panel(part: str, patient: np.ndarray, truth: np.ndarray, scores: np.ndarray, masks: dict) -> Panel:
    """scores: (2, S, N), or of (2·S, 1, N)."""
    runs = scores.reshape(-1, 1, scores.shape[-1])
    half, ids = len(runs) // 2, np.arange(patient.max() + 1)
    names = [(f"arm_{arm}", 0, replicate) for arm in range(2) for replicate in range(half)]
    table = pd.DataFrame(names, columns=["arm", "ratio", "replicate"])
    return Panel("a", part, table, ["finding"], np.arange(len(patient)), patient, ids, truth[None], runs, masks)


def misses(result: dict) -> list[str]:
    """What of a case is out of reach, beyond its Monte-Carlo error: [] in a working verdict."""
    found = []
    for truth, shares in result["truths"].items():
        if not shares["judged"]:
            continue
        error = 1.96 * np.sqrt(0.06 * 0.94 / (shares["judged"] * shares["runs"]))
        if truth == "null" and shares["rejected"] > REJECTED_AT_MOST + error:
            found.append(f"{truth}: rejected {shares['rejected']:.3f}")
        if truth != "null" and shares["equivalent"] > FALSE_EQUIVALENT_AT_MOST + error:
            found.append(f"{truth}: equivalent {shares['equivalent']:.3f}")
        if shares["covered"] < COVERED_AT_LEAST - error:
            found.append(f"{truth}: covered {shares['covered']:.3f}")
    return found


def markdown_table(results: Sequence[dict]) -> str:
    """The table of docs/statistics.md: one row per case."""
    names = ("setting", "studies", "word given", "rejected", "covered (0, + and − margin)", "false *equivalent* (+, −)")
    lines = [f"| {' | '.join(names)} |", "| --- " * len(names) + "|"]
    for result in results:
        truths = {name: result["truths"][name] for name in TRUTHS if name in result["truths"]}
        null = truths["null"]
        rejected = f"{null['rejected']:.3f} ± {null['rejected_error']:.3f}" if null["judged"] else "no verdict"
        covered = ", ".join(f"{s['covered']:.3f}" for s in truths.values() if s["judged"]) or "–"
        equal = ", ".join(f"{truths[name]['equivalent']:.3f}" for name in ("plus", "minus") if name in truths) or "–"
        given = ", ".join(f"{shares['judged']:.2f}" for shares in truths.values())
        studies = " / ".join(str(n) for n in dict.fromkeys(shares["runs"] for shares in truths.values()))
        lines.append(f"| {result['case']['name']} | {studies} | {given} | {rejected} | {covered} | {equal} |")
    return "\n".join(lines)
