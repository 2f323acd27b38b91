"""Error rates of the whole verdict on stored-score models: rejection, coverage, false *equivalent* at one margin.

The truth of a claim is that of its estimand: for one to three generators the effect of these very generators, for four
and more the mean effect of the way of making them.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace

import numpy as np
import pandas as pd
from scipy import special, stats

from synthgain.statistics import delong
from synthgain.statistics.endpoints import Resamples, endpoints
from synthgain.statistics.equivalence import EQUIVALENT, NO_VERDICT, Judgement, Rules, judge, judge_runs
from synthgain.statistics.information import Kinds, of_auroc, too_few
from synthgain.statistics.metric_registry import METRICS
from synthgain.statistics.predictions import Panel, build_panel
from synthgain.statistics.simulation import Scores, Setting, prediction_table, simulate
from synthgain.statistics.thresholds import apply_thresholds, fit_thresholds
from synthgain.statistics.units import GENERATORS_NEEDED, Design

ALPHA, MARGIN = 0.05, 0.02
LEAST_POSITIVES = 10  # the default of `analysis.minimum.positives`
PRIMARY_RUNS, RUNS, FITTED_RUNS = 4000, 400, 100  # studies: of the base setting, of the others
REJECTED_AT_MOST, FALSE_EQUIVALENT_AT_MOST, COVERED_AT_LEAST = 0.06, 0.06, 0.93
TARGET_SENSITIVITY, F1_RESAMPLES = 0.9, 400


@dataclass(frozen=True)
class Case:
    """A setting of the verdict. auroc: that of the baseline, exactly (binormal); runs: studies per true difference.

    metric, policy: `auroc`, or a thresholded metric with its policy, thresholds fitted on `validation` patients.
    """

    name: str
    setting: Setting
    auroc: float = 0.87
    metric: str = "auroc"
    policy: str = ""
    validation: int = 100
    runs: int = RUNS


def _case(name: str, auroc: float = 0.87, runs: int = RUNS, **changes: float) -> Case:
    return Case(name, replace(Setting(name), **changes), auroc, runs=runs)  # type: ignore[arg-type]


def _fitted(metric: str, policy: str, patients: int = 400) -> Case:
    name = f"{metric} at {policy}, {patients} test and 100 validation patients"
    return Case(name, Setting(name, patients=patients), metric=metric, policy=policy, runs=FITTED_RUNS)


ALIKE = Setting("", patient_sd=0.9, image_sd=0.7, arm_patient_sd=0.1, residual_sd=0.2)
BASE = _case("base: 5 seeds, 150 patients, prevalence .3, AUROC .87, one generator", runs=PRIMARY_RUNS)
ONE_FACTOR = (
    _case("3 seeds", replicates=3),
    _case("4 seeds", replicates=4),
    _case("10 seeds", replicates=10),
    _case("30 patients", patients=30),
    _case("100 patients", patients=100),
    _case("400 patients", patients=400),
    _case("prevalence .05, 400 patients", patients=400, positive_share=0.05),
    _case("prevalence .05, 100 patients", patients=100, positive_share=0.05),
    _case("AUROC .95", 0.95),
    _case("AUROC .97", 0.97),
    _case("AUROC .99", 0.99),
    _case("one image per patient", images=1),
    _case("small arm × patient effect", arm_patient_sd=0.1),
    _case("large arm × patient effect", arm_patient_sd=0.6),
    _case("large seed spread", seed_sd=0.3),
    _case("one generator of spread .2", generator_sd=0.2),
    _case("2 generators of spread .2, 10 seeds", replicates=10, generators=2, generator_sd=0.2),
    _case("4 generators of spread .2, 8 seeds", replicates=8, generators=4, generator_sd=0.2),
)
CORNERS = (
    _case("corner 1: 4 seeds that spread widely, patients hardly", replicates=4, patients=400, seed_sd=0.3),
    _case("corner 2: 4 seeds, small arm × patient effect", replicates=4, arm_patient_sd=0.1, patients=400),
    _case("corner 3: 10 seeds, 30 patients with one image", replicates=10, patients=30, images=1),
    _case("corner 4: AUROC .97, prevalence .05, 400 patients", 0.97, patients=400, positive_share=0.05),
    _case("corner 5: AUROC .95, 400 patients", 0.95, patients=400),
    _case("corner 6: AUROC .99, 400 patients", 0.99, patients=400),
    Case("corner 7: AUROC .93, arms much alike", replace(ALIKE, name="corner 7: AUROC .93, arms much alike"), 0.93),
    _case("corner 8: 4 generators of spread .3, 4 seeds", replicates=4, generators=4, generator_sd=0.3),
    _case("corner 9: 3 generators of spread .3, 6 seeds", replicates=6, generators=3, generator_sd=0.3),
    _case("corner 10: 20 images per patient, 100 patients", images=20, patients=100, patient_sd=1.0),
)  # fmt: skip
THRESHOLDS = (
    _fitted("sensitivity", "fixed_0.5"),
    _fitted("sensitivity", "f1_max"),
    _fitted("specificity", "f1_max"),
    _fitted("sensitivity", "target_sensitivity"),
    _fitted("specificity", "target_sensitivity"),
)
TRUTHS = ("null", "plus", "minus")  # true difference 0, + and − one margin
CASES = (BASE, *ONE_FACTOR, *CORNERS, *THRESHOLDS)


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
    return float(np.sqrt(2 * image + setting.seed_sd**2))


def error_rates(case: Case, runs: int, random: np.random.Generator) -> dict:
    """Rates of one case at true differences 0 and ± one margin.

    {case, runs, truths: {null, plus, minus: {judged, rejected, covered, equivalent, …}}}: `judged` is the share of
    studies in which a verdict word is given; rejection and coverage are shares of these, `equivalent` of all studies.
    """
    auroc = case.metric == "auroc"
    truths = {"null": 0.0, "plus": MARGIN, "minus": -MARGIN} if auroc else {"null": 0.0}
    found = {}
    for name, truth in truths.items():
        if case.auroc + truth >= 1:
            continue
        counted, of_truth = Counted(), runs if name == "null" else min(runs, RUNS)
        for _ in range(of_truth):
            counted.add(_one_study(case, truth, random), truth)
        found[name] = {"runs": of_truth, **_shares(counted, of_truth)}
    return {"case": asdict(case), "runs": runs, "truths": found}


def _shares(counted: Counted, runs: int) -> dict:
    judged = counted.judged
    shares = {"judged": judged / runs, "equivalent": counted.equivalent / runs, "reasons": counted.reasons}
    for name, count in (("rejected", counted.rejected), ("covered", counted.covered)):
        interval = stats.binomtest(count, judged).proportion_ci(0.95, method="exact") if judged else None
        shares[name] = count / judged if judged else None
        shares[f"{name}_error"] = (float(interval.high) - float(interval.low)) / 2 if interval else None
    return shares


def _one_study(case: Case, truth: float, random: np.random.Generator) -> Judgement | str:
    setting, signal = case.setting, special.ndtri(case.auroc) * noise_of(case.setting)
    shift = _generator_shift(case, signal, truth, random)
    drawn = simulate(replace(setting, signal=signal), random, shift=shift)
    if case.metric != "auroc":
        return _thresholded(case, drawn, replace(setting, signal=signal, patients=case.validation), random)
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
    noise = noise_of(setting)
    if len(np.unique(which)) >= GENERATORS_NEEDED:  # the truth is the mean over all generators, not over these
        spread = np.hypot(noise, setting.generator_sd)
        return special.ndtri(case.auroc + truth) * spread - signal + effects[which]
    low, high = -10.0 * noise, 10.0 * noise
    for _ in range(60):  # the conditional truth is that of these generators
        middle = (low + high) / 2
        mean = special.ndtr((signal + middle + effects[np.unique(which)]) / noise).mean()
        low, high = (middle, high) if mean < case.auroc + truth else (low, middle)
    return low + effects[which]


def _thresholded(case: Case, test: Scores, of_validation: Setting, random: np.random.Generator) -> Judgement | str:
    seeds = case.setting.replicates
    own = _panel(simulate(of_validation, random), "validation")
    panel = _panel(test, "test")
    fitted = fit_thresholds(own, case.policy, TARGET_SENSITIVITY, random)
    resamples = Resamples.of(panel.patients, F1_RESAMPLES, random)
    decided = {case.policy: apply_thresholds(panel, fitted.thresholds)}
    endpoint = next(endpoints(panel, [case.metric], [0], decided, case.policy, resamples, {case.policy: fitted}))
    few = _uninformative(endpoint.information, seeds)
    rules = Rules(ALPHA, None, METRICS[case.metric].higher_is_better)
    arm, baseline = endpoint.values[:seeds], endpoint.values[seeds:]
    found = judge_runs(arm, baseline, endpoint.covariance, rules, Design(), influence=endpoint.influence)
    return few or judge(found.contrast, (float(arm.mean()), float(baseline.mean())), rules)


def _panel(scores: Scores, part: str) -> Panel:
    """Both arms as a panel: runs of the arm first."""
    tables = [prediction_table(scores, arm, "a", "finding", part=part).assign(arm=f"arm_{arm}") for arm in (0, 1)]
    return build_panel(pd.concat(tables), "a", part)


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
        lines.append(f"| {result['case']['name']} | {result['runs']} | {given} | {rejected} | {covered} | {equal} |")
    return "\n".join(lines)
