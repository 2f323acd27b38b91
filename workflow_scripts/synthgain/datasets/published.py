"""The `published` adapter: data sets whose published folder layout is known, downloaded where the publisher allows it.

A layout is a module of `synthgain.datasets.layouts` with LICENCE, CITATION, GET (what to get from where, in one
sentence), `rows(folder)`: a text table, one row per image, paths relative to the folder, and READING (options of the
`table` adapter that read its rows; a mask entry whose column the table lacks is left out). One with options of its own
has `rows(folder, options)` and `reading(table, options)` in place of these (`layout_options.py`).
"""

import fcntl
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from synthgain.datasets.archive import unpack
from synthgain.datasets.cells import text_table
from synthgain.datasets.chexmask import with_chexmask
from synthgain.datasets.download import download
from synthgain.datasets.entries.options import JobRows
from synthgain.datasets.files import Pictures, is_below
from synthgain.datasets.geometry import Geometry
from synthgain.datasets.layout_options import LayoutOptions
from synthgain.datasets.rows import read_rows
from synthgain.datasets.source import Prepared
from synthgain.datasets.table import check_root
from synthgain.entry import checked
from synthgain.registry import LAYOUTS
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.listing import source_identity
from synthgain.runtime.loading import load


def prepare(options: Mapping[str, Any], image: Geometry, seed: int, root: Path | None, threads: int = 1) -> Prepared:
    """Find (or fetch and unpack) the folder of one published set and read it into the study's geometry.

    options: layout {module, options}, folder (below the data root), archive {url, checksum} or None, where, keep.
    Raises SynthGainError with what to get and where to put it if the folder is not there and cannot be fetched.
    """
    layout = load(LAYOUTS, options["layout"]["module"])
    archive = options.get("archive")
    folder = _folder(options["folder"], archive, layout.GET, check_root(root))
    given = options["layout"]["options"]
    if given:
        chosen = LayoutOptions.from_slice(given)
        rows = text_table(layout.rows(folder, chosen))
        declared = layout.reading(rows, chosen)
    else:
        rows, declared = text_table(layout.rows(folder)), layout.READING
    rows, added = with_chexmask(rows, options.get("chexmask"), root)
    masks = [entry for entry in [*declared["mask"], *added] if entry["column"] in rows]
    asked = {name: options[name] for name in ("where", "keep") if options.get(name)}
    reading = checked(JobRows, {**declared, "mask": masks, **asked}, options["layout"]["module"])
    lacking = [name for name in reading.keep if name not in rows]
    if lacking:
        raise SynthGainError(f"{folder}: its rows have no {lacking[0]!r}, which the study reads; {layout.GET}")
    prepared = read_rows(rows, reading, image, Pictures(folder), options["folder"], threads)
    facts = {
        "source": source_identity(folder, archive and archive["checksum"]),
        "source_table": options["folder"],
        "licence": layout.LICENCE,
        "citation": layout.CITATION,
    }
    return replace(prepared, facts={**prepared.facts, **facts})


def _folder(name: str, archive: Mapping[str, str] | None, get: str, root: Path) -> Path:
    if not is_below(name):
        raise SynthGainError(f"folder {name!r} must be below the data root, without '..'")
    folder = root / name
    if folder.is_dir():
        return folder
    if archive is None:
        raise SynthGainError(f"{folder}: no such folder; {get}")
    zipped = folder.with_name(f"{folder.name}.zip")
    zipped.parent.mkdir(parents=True, exist_ok=True)
    with (zipped.parent / f".{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two studies may want the same set at once
        if not folder.is_dir():
            download(archive["url"], zipped, archive["checksum"])
            unpack(zipped, folder, archive["checksum"])
            zipped.unlink()
    return folder
