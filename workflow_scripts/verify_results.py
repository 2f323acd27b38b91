"""Compare what lies in results/ with the present config and code, byte by byte, and with the source images.

    snakemake verify

Prints one line per difference and exits 1 if there is any; changes nothing.
"""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from synthgain.data.image_set import image_hashes
from synthgain.registry import ADAPTERS
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import check_file, read_json, read_manifest, read_table, write_text
from synthgain.runtime.loading import load
from synthgain.runtime.settings import settings


def differences(results: Path, expected: dict[str, Any]) -> list[str]:
    """Return one line per file that is missing, damaged, or of another identity."""
    found = []
    for run, parts in expected.items():
        for relative, identity in sorted(parts["identities"].items()):
            try:
                _check(results / run / relative, identity)
            except SynthGainError as error:
                found.append(str(error))
        for relative, entries in sorted(parts["datasets"].items()):
            found += _changed_images(results / run / relative, entries)
    return found


def _check(path: Path, identity: str) -> None:
    if path.name == "manifest.json":
        manifest = read_manifest(path, identity)
        for name, listed in manifest["files"].items():
            check_file(path.parent, name, listed, every_byte=True)
    elif path.suffix == ".parquet":
        read_table(path, identity)
    elif path.suffix == ".json":
        read_manifest(path, identity)
    elif not path.exists():
        raise SynthGainError(f"{path}: missing; run snakemake again to make it")


def _changed_images(manifest: Path, entries: dict[str, Any]) -> list[str]:
    """Read a data set again and name the first images whose pixels are not those recorded."""
    if not manifest.exists():
        return []
    recorded = read_table(manifest.parent / "table.parquet").set_index("image_id")["sha256"]
    root = os.environ.get("SYNTHGAIN_DATA")
    adapter = load(ADAPTERS, entries["module"])
    try:
        options = {**entries["options"], **settings("datasets", entries["dataset"])}
        fresh = adapter.prepare(options, entries["image"], entries["seed"], Path(root) if root else None)
    except SynthGainError as error:
        return [f"{manifest.parent}: source not readable now: {error}"]
    hashes = dict(zip(fresh.table["image_id"], image_hashes(fresh.images), strict=True))
    changed = [name for name, old in recorded.items() if hashes.get(name) != old]
    if not changed:
        return []
    return [f"{manifest.parent}: {len(changed)} source images changed since they were read, first {changed[0]!r}"]


def main() -> None:
    """Parse the command line and print the differences."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--expected", type=Path, required=True)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--log", type=Path, required=True)
    arguments = parser.parse_args()
    expected = read_json(arguments.expected)
    found = differences(arguments.results, expected)
    count = sum(len(parts["identities"]) for parts in expected.values())
    summary = f"verify: {count} files compared, {len(found)} differ from the present config, code or source"
    write_text(arguments.log, "\n".join([*found, summary]) + "\n")
    print("\n".join([*found, summary]), file=sys.stderr)
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
