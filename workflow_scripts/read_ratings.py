"""Read what a panel's readers sent back: checked answers, agreement, real against synthetic, scores per image."""

import os
from pathlib import Path

from synthgain.readers.analysis import agreement_table, by_source, planning, score_table, telling_table
from synthgain.readers.kit import FACTS, read_kit
from synthgain.readers.options import Panel
from synthgain.readers.ratings import Answers, missing_answers, ratings, read_answers
from synthgain.readers.simulated import held_against, simulated_answers
from synthgain.runtime.command import Job, logger, run_script
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import atomic_path, read_json, sha256_file, write_manifest, write_table
from synthgain.seeds import random_generator


def read_ratings(job: Job) -> None:
    """Slice: panel, config, ratings {file: SHA-256}, alpha, seed. Inputs: the kit's receipt."""
    part, folder = job.slice, job.outputs[0].parent
    panel = Panel.from_slice(part["config"])
    current = job.inputs.kits[part["panel"]].manifest()
    if panel.simulated is None:
        files = {name: read_answers(path) for name, path in _files(panel, part["ratings"]).items()}
        facts, secret, key = read_kit(_kit_of(job.run, part["panel"], files))
    else:
        facts, secret, key = read_kit(job.run / current["folder"])
        files = simulated_answers(part["panel"], panel, facts, secret, key, part["seed"])
    table = ratings(panel, facts, secret, key, files)
    rng = random_generator(study=part["seed"], step="read_ratings", panel=part["panel"])
    tables = {
        "missing": missing_answers(panel, secret, table),
        "agreement": agreement_table(panel, table, rng),
        "telling": telling_table(panel, table, key),
        "sources": by_source(panel, table, key, rng),
        "planning": planning(),
    }
    if panel.simulated is not None:
        tables["simulated"] = held_against(panel, key, tables["agreement"], tables["telling"])
    write_table(folder / "ratings.parquet", table.merge(key.drop(columns="for"), on="item", how="left"), job.identity)
    write_table(folder / "scores.parquet", score_table(table, key), job.identity)
    for name, made in tables.items():
        with atomic_path(folder / f"{name}.csv") as temporary:
            made.to_csv(temporary, index=False)
    same = current["kit"] == facts["kit"]
    if not same:
        logger.info(
            "[%s] the answers are to kit %s; images drawn since then have no scores", part["panel"], facts["kit"]
        )
    listed = ["ratings.parquet", "scores.parquet", *(f"{name}.csv" for name in tables)]
    told = {name: value for name, value in facts.items() if name != "pages"}
    told |= {"source": "readers", "panel": part["panel"], "readers": int(table["reader"].nunique())}
    write_manifest(
        job.outputs[0],
        job.identity,
        listed,
        **told,
        current=same,
        answers=len(table),
        simulated=panel.simulated is not None,
    )


def _files(panel: Panel, expected: dict[str, str]) -> dict[str, Path]:
    root = os.environ.get("SYNTHGAIN_DATA")
    if root is None or panel.ratings is None:
        raise SynthGainError("the data root is not known: pass --config data_root=FOLDER or set SYNTHGAIN_DATA")
    if not expected:
        raise SynthGainError(
            f"{Path(root) / panel.ratings}: no answers of readers yet; `snakemake reader_kit` makes "
            "their pages, and what "
            "they send back belongs in this folder"
        )
    paths = {name: Path(root) / panel.ratings / name for name in expected}
    for name, path in paths.items():
        if not path.is_file() or sha256_file(path) != expected[name]:
            raise SynthGainError(f"{path}: gone or changed since the run was planned; run the same command again")
    return paths


def _kit_of(run: Path, panel: str, files: dict[str, Answers]) -> Path:
    """Return the folder of the kit that the answers are to: the latest, or an earlier one."""
    kits = {read_json(path)["kit"]: path.parent for path in sorted(run.glob(f"reader_kit-{panel}-*/{FACTS}"))}
    wanted = {name: sent.kit for name, sent in files.items()}
    for name, kit in wanted.items():
        if kit not in kits:
            raise SynthGainError(
                f"{name}: answers to kit {kit}, and {run} has {', '.join(kits) or 'none'}; take it out"
            )
    if len(set(wanted.values())) > 1:
        listed = ", ".join(f"{name} (kit {kit})" for name, kit in wanted.items())
        raise SynthGainError(f"readers.{panel}.ratings: answers to several kits: {listed}; keep those of one")
    return kits[next(iter(wanted.values()))]


if __name__ == "__main__":
    run_script(read_ratings)
