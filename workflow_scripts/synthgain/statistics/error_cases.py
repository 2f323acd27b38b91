"""Settings in which the error rates of the verdict are measured: one base, one factor at a time, corners, others."""

from dataclasses import dataclass, replace

from synthgain.statistics.simulation import Setting

MARGIN = 0.02
# Studies of one case without a true difference, and with one margin: more of these where *equivalent* is near its
# limit, few where no verdict word is given. Metrics other than AUROC cost up to twenty times as much.
RUNS, SHIFTED_RUNS, FEW_RUNS = 4000, 1500, 400
PANEL_RUNS, PANEL_SHIFTED_RUNS = 1000, 300


@dataclass(frozen=True)
class Case:
    """A setting of the verdict. level: the baseline's AUROC, exactly (binormal), or mean Dice but for spread.

    runs: studies without a true difference; shifted: studies at + and − one margin each, 0 for none.
    metric, policy: `auroc`, another metric, or a thresholded one with its policy, fitted on `validation` patients.
    shift: of the arm's signal, for metrics other than AUROC: the difference that it makes is their margin.
    """

    name: str
    setting: Setting
    level: float = 0.87
    metric: str = "auroc"
    policy: str = ""
    validation: int = 100
    runs: int = RUNS
    shifted: int = SHIFTED_RUNS
    shift: float = 0.0


def _case(name: str, level: float = 0.87, shifted: int = SHIFTED_RUNS, **changes: float) -> Case:
    setting = replace(Setting(name), **changes)  # type: ignore[arg-type]
    return Case(name, setting, level, shifted=shifted)


def _panel(name: str, metric: str, policy: str = "", shift: float = 0.3, **changes: float) -> Case:
    setting = replace(Setting(name, patients=400), **changes)  # type: ignore[arg-type]
    shifted = PANEL_SHIFTED_RUNS if shift else 0
    return Case(name, setting, metric=metric, policy=policy, runs=PANEL_RUNS, shifted=shifted, shift=shift)


def _fitted(metric: str, policy: str, shift: float = 0.3) -> Case:
    return _panel(f"{metric} at {policy}, 400 test and 100 validation patients", metric, policy, shift)


def _dice(name: str, level: float, shift: float, **changes: float) -> Case:
    return replace(_panel(name, "dice", "", shift, **changes), level=level)


ALIKE = Setting(
    "corner 7: AUROC .93, arms much alike", patient_sd=0.9, image_sd=0.7, arm_patient_sd=0.1, residual_sd=0.2
)
BASE = _case("base: 5 seeds, 150 patients, prevalence .3, AUROC .87, one generator", shifted=RUNS)
ONE_FACTOR = (
    replace(_case("2 seeds", replicates=2), runs=FEW_RUNS, shifted=FEW_RUNS),
    replace(_case("3 seeds", replicates=3), runs=FEW_RUNS, shifted=FEW_RUNS),
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
    _case("small arm × patient effect", shifted=RUNS, arm_patient_sd=0.1),
    _case("large arm × patient effect", arm_patient_sd=0.6),
    _case("large seed spread", seed_sd=0.3),
    _case("one generator of spread .2", generator_sd=0.2),
    _case("2 generators of spread .2, 10 seeds", replicates=10, generators=2, generator_sd=0.2),
    _case("4 generators of spread .2, 8 seeds", replicates=8, generators=4, generator_sd=0.2),
)
CORNERS = (
    _case("corner 1: 4 seeds that spread widely, patients hardly", replicates=4, patients=400, seed_sd=0.3),
    _case("corner 2: 4 seeds, small arm × patient effect", 0.87, RUNS, replicates=4, arm_patient_sd=0.1, patients=400),
    _case("corner 3: 10 seeds, 30 patients with one image", replicates=10, patients=30, images=1),
    _case("corner 4: AUROC .97, prevalence .05, 400 patients", 0.97, RUNS, patients=400, positive_share=0.05),
    _case("corner 5: AUROC .95, 400 patients", 0.95, RUNS, patients=400),
    _case("corner 6: AUROC .99, 400 patients", 0.99, patients=400),
    Case(ALIKE.name, ALIKE, 0.93, shifted=RUNS),
    _case("corner 8: 4 generators of spread .3, 4 seeds", replicates=4, generators=4, generator_sd=0.3),
    _case("corner 9: 3 generators of spread .3, 6 seeds", replicates=6, generators=3, generator_sd=0.3),
    _case("corner 10: 20 images per patient, 100 patients", images=20, patients=100, patient_sd=1.0),
)  # fmt: skip
OTHERS = (
    _case("5 seeds, effects of seeds common to both arms", common_seed_sd=0.2),
    _case("prevalence .1, 100 patients", positive_share=0.1, patients=100),
    _case("prevalence .02, 1000 patients", positive_share=0.02, patients=1000),
    _case("AUROC .95, prevalence .1, 150 patients", 0.95, positive_share=0.1),
    _case("8 images per patient", images=8),
    _case("half of the patients with images of both kinds, 8 images", images=8, mixed_share=0.5),
    _case("very large arm × patient effect", arm_patient_sd=1.0),
    _case("heavy tails (t, 3 df) of a large arm × patient effect", shifted=0, arm_patient_sd=0.6, tails=3),
    _case("3 generators of spread .2, 7 seeds", replicates=7, generators=3, generator_sd=0.2),
    _case("4 generators of spread .2, 9 seeds", replicates=9, generators=4, generator_sd=0.2),
    _case("6 generators of spread .3, 6 seeds, 60 patients", replicates=6, generators=6, generator_sd=0.3, patients=60),
)  # fmt: skip
PANELS = (
    _fitted("sensitivity", "fixed_0.5"),
    _fitted("sensitivity", "f1_max"),
    _fitted("specificity", "f1_max"),
    _fitted("sensitivity", "target_sensitivity", shift=0),  # whatever the signal: that is what is fitted
    _fitted("specificity", "target_sensitivity"),
    _fitted("f1", "f1_max"),
    _panel("average precision, 150 patients", "average_precision", patients=150),
    _panel("Brier score, 150 patients", "brier", patients=150),
    _dice("Dice .80, 150 patients", 0.80, 0.1, patients=150),
    _dice("Dice .95, 50 patients", 0.95, 0.2, patients=50),
)
TRUTHS = ("null", "plus", "minus")  # true difference 0, + and − one margin
CASES = (BASE, *ONE_FACTOR, *CORNERS, *OTHERS, *PANELS)
