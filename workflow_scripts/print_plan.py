"""Prints the forecast of a study: what `snakemake plan` shows. Reads only; exits 0.

A job counts as done where its output stands there with the identity that the present config and code give it.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path

from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import read_json, read_manifest, read_table, write_text
from synthgain.runtime.settings import settings
from synthgain.speed.documents import Forecast
from synthgain.speed.plan_text import plan_text


def finished(path: Path, identity: str) -> bool:
    """True where a file stands with this identity; pictures and pages, which carry none, where they stand at all."""
    if not path.exists():
        return False
    try:
        if path.suffix == ".json":
            read_manifest(path, identity)
        elif path.suffix == ".parquet":
            read_table(path, identity, columns=[])
    except SynthGainError:
        return False
    return True


def kept_jobs(results: Path, planned: Mapping[str, list[dict[str, str]]]) -> list[int]:
    """Return how many jobs of each group are done, over all runs."""
    by_run = [
        [sum(finished(results / run / name, identity) for name, identity in group.items()) for group in groups]
        for run, groups in planned.items()
    ]
    return [sum(counts) for counts in zip(*by_run, strict=True)]


def main() -> None:
    """Parse the command line, print, and keep the text as log."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--forecast", type=Path, required=True)
    parser.add_argument("--planned", type=Path, required=True)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--cores", type=int, required=True)
    parser.add_argument("--log", type=Path, required=True)
    arguments = parser.parse_args()
    kept = kept_jobs(arguments.results, read_json(arguments.planned))
    threads = settings("compute").get("threads", {})
    text = plan_text(Forecast.model_validate(read_json(arguments.forecast)), kept, arguments.cores, threads)
    write_text(arguments.log, text)
    print("\n" + text)


if __name__ == "__main__":
    main()
