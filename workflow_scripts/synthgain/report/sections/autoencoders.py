"""Autoencoders: what of an image their latents lose, held to the study's limits."""

from collections.abc import Iterator

import pandas as pd

from synthgain.generators.autoencoders.options import Gates, Measured
from synthgain.report.blocks import Block, Column, Section, Text, make_table
from synthgain.report.evidence import Evidence, ModelEvidence
from synthgain.study.roles import baseline_of, main_endpoint, root_pool
from synthgain.study.schema import Study

LEAD = (
    "A generator in latents draws nothing that its autoencoder cannot decode. Measured on held-out patients, whose "
    "images went through it and back; the limits are the study's (autoencoders.<name>.gates)."
)
MOST_SCALING = 0.5  # grey levels: rounding and the seams of tiles; a forgotten scale is far above
REAL = "real images"  # where the steps begin
CEILING, ORACLE, GENERATOR = "autoencoder ceiling", "oracle", "generator"
STEPS = (CEILING, ORACLE, GENERATOR)
KNOWN_STEPS = {"reconstructed": CEILING, "oracle": ORACLE}
Row = dict[str, object]


def autoencoders_section(evidence: Evidence) -> Section | None:
    """Return the gates of every autoencoder, None for a study without one."""
    if not evidence.autoencoders:
        return None
    section = Section("autoencoders", "Autoencoders", lead=LEAD)
    columns = [
        Column("what", "Measured"),
        Column("value", "Value"),
        Column("limit", "Limit"),
        Column("passed", "Passed"),
    ]
    for name, facts in evidence.autoencoders.items():
        rows = list(gate_rows(facts.measured, evidence.study.autoencoders[name].gates))
        section.blocks.append(Text(sentence(name, facts.measured, rows), "plain" if _all(rows) else "warning"))
        section.blocks.append(
            make_table(
                f"Gates of {name}, on {facts.measured.images} images",
                pd.DataFrame(rows),
                columns,
                f"autoencoder_{name}",
            )
        )
    section.blocks += [block for model in evidence.models for block in waterfall(evidence.study, model)]
    return section


def waterfall(study: Study, model: ModelEvidence) -> list[Block]:
    """Return where utility is lost, from real images to the generator: nothing without an arm on reconstructions.

    Each arm stands against its own baseline, at the declared endpoint; the steps follow each other in `STEPS`.
    """
    found = model.table("comparisons")
    steps = {name: step for name, arm in study.arms.items() if (step := _step(study, arm.synthetic)) is not None}
    if CEILING not in steps.values() or not len(found):
        return []
    endpoint = main_endpoint(study, model.name)
    at = (found["metric"] == endpoint.metric) & (found["dataset"] == endpoint.test_set)
    rows = found[at & (found["label"] == endpoint.labels) & found["arm"].isin(steps)]
    own = [baseline_of(study, arm) == baseline for arm, baseline in zip(rows["arm"], rows["baseline"], strict=True)]
    rows = rows[own]  # each step against its own baseline: heads with other controls are in their table
    rows = rows.assign(step=rows["arm"].map(steps))
    order = rows["step"].map(STEPS.index).to_numpy()
    rows = rows.iloc[order.argsort(kind="stable")]
    starts = rows[["baseline", "baseline_mean"]].drop_duplicates()
    starts = starts.assign(step=REAL, arm=starts["baseline"], mean=starts["baseline_mean"])
    shown = pd.concat([starts[["step", "arm", "mean"]], rows], ignore_index=True)
    harmed = rows[(rows["step"] == CEILING) & (rows["high"] < 0)]
    text = "Utility against the baseline, step by step: what reconstructions lack, no generator in these latents has."
    blocks: list[Block] = [Text(text)]
    if len(harmed):
        names = ", ".join(dict.fromkeys(harmed["arm"]))
        blocks.append(
            Text(f"The ceiling itself is below real images ({names}): read the generator with that.", "warning")
        )
    columns = [
        Column("step", "Step"),
        Column("arm", "Arm"),
        Column("ratio", "Ratio", "count"),
        Column("baseline", "Baseline"),
        Column("mean", "Mean", "number"),
        Column("difference", "Difference", "signed"),
        Column(("low", "high"), "Interval", "signed_interval"),
    ]
    return [*blocks, make_table(f"Where utility is lost, {model.name}", shown, columns, f"waterfall_{model.name}.csv")]


def _step(study: Study, pool: str | None) -> str | None:
    """Return which step of the waterfall an arm on this pool is, None for an arm that is none."""
    if pool is None:
        return None
    config = root_pool(study, pool)
    if config.shuffled or config.misaligned:
        return None
    return GENERATOR if config.from_ is not None else KNOWN_STEPS.get(str(config.known))


def gate_rows(found: Measured, gates: Gates) -> Iterator[Row]:
    """Yield a row for each gate: what was measured, its limit, and whether it passed."""
    yield _row("peak signal-to-noise ratio, dB", f"{found.psnr:.1f}", f"≥ {gates.psnr:g}", found.psnr >= gates.psnr)
    yield _row("structural similarity", f"{found.ssim:.3f}", f"≥ {gates.ssim:g}", found.ssim >= gates.ssim)
    power = f"{found.power:.2f}"
    yield _row("power above half Nyquist, over real", power, f"≥ {gates.power:g}", found.power >= gates.power)
    for channel, share in enumerate(found.signal):
        dead = share < gates.signal
        what = f"signal share of latent channel {channel}"
        yield _row(what, f"{share:.3f}", f"≥ {gates.signal:g}", not dead, "dead channel" if dead else "no")
    for channel, (mean, sd) in enumerate(zip(found.mean, found.sd, strict=True)):
        what, passed = f"standardised latent channel {channel}", abs(mean) <= gates.mean and abs(sd - 1) <= gates.sd
        yield _row(what, f"mean {_number(mean)}, sd {_number(sd)}", f"0 ± {gates.mean:g}, 1 ± {gates.sd:g}", passed)
    clipped = f"{100 * found.clipped:.2g} %"
    yield _row("clipped pixels", clipped, f"≤ {100 * gates.clipped:g} %", found.clipped <= gates.clipped)
    scaling = f"{found.scaling:.2f}"
    what = "change by standardising and scaling back, grey levels"
    yield _row(what, scaling, f"≤ {MOST_SCALING:g}", found.scaling <= MOST_SCALING)
    for how, gain in found.flips.items():
        value = _number(gain)
        yield _row(f"gain if images are {how} first, dB", value, f"≤ {gates.flips:g}", gain <= gates.flips, "flipped")
    shared = len(found.also_trained_on)
    yield _row("held-out images that it was trained on", str(shared), "0", not shared)


def sentence(name: str, found: Measured, rows: list[Row]) -> str:
    """Return what the gates say of an autoencoder in one line."""
    failed = [str(row["what"]) for row in rows if row["passed"] != "yes"]
    if not failed:
        return f"Autoencoder {name} passed all its gates."
    listed = "; ".join(failed)
    seen = (
        f" It was trained on held-out images: {', '.join(found.also_trained_on[:3])}." if found.also_trained_on else ""
    )
    return f"Autoencoder {name} failed {len(failed)} of {len(rows)} gates: {listed}.{seen}"


def _row(what: str, value: str, limit: str, passed: bool, otherwise: str = "no") -> Row:
    return {"what": what, "value": value, "limit": limit, "passed": "yes" if passed else otherwise}


def _number(value: float) -> str:
    """Return two decimals, with a real minus and without a negative zero."""
    return f"{round(value, 2) + 0.0:.2f}".replace("-", "−")


def _all(rows: list[Row]) -> bool:
    return all(row["passed"] == "yes" for row in rows)
