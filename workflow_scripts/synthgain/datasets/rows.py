"""From a text table of image and mask paths to images, masks, ids and columns in the study's geometry."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from synthgain.datasets.columns import Columns, named_column, read_columns
from synthgain.datasets.geometry import fit_image, fit_mask
from synthgain.datasets.masks import (
    Findings,
    MaskFacts,
    Structures,
    WrongSize,
    check_not_all_empty,
    declared_structures,
    files_without_image,
    join_rows,
    mask_facts,
    quarantine_shared,
    read_masks,
    run_length_columns,
)
from synthgain.datasets.pixels import UnreadableImage
from synthgain.datasets.reading import read_pixels, safe_path
from synthgain.datasets.source import Prepared
from synthgain.runtime.command import Progress
from synthgain.runtime.errors import SynthGainError


@dataclass
class _Pixels:
    """Arrays to be filled, one place per row that is read, and what was found on the way."""

    images: np.ndarray
    masks: np.ndarray
    has_mask: np.ndarray
    findings: dict[str, Findings] = field(default_factory=dict)


def read_rows(
    table: pd.DataFrame,
    options: Mapping[str, Any],
    image: Mapping[str, Any],
    folder: Path,
    file: str,
    threads: int = 1,
) -> Prepared:
    """Read the rows of a text table (see `columns.text_table`); paths are relative to `folder`.

    options: those of the `table` adapter, from `image` on, `split_unit`, what a patient id stands for (patient; a
    layout may say sequence), and `required`, {column: why a row is quarantined whose cell is empty}. `file` names the
    table in errors. Rows that cannot be used stand in the quarantine with their reason; the rest keep table order.
    Raises SynthGainError for a missing column, an undeclared bit depth, masks that are all empty, or no row left.
    """
    everything = join_rows(table, run_length_columns(options))
    rows = _filtered(everything, options.get("where") or {}, file)
    columns = read_columns(rows, options, file)
    for name, reason in (options.get("required") or {}).items():
        for row in np.flatnonzero(named_column(rows, name, file, "required").eq("")):
            columns.quarantined.setdefault(int(row), reason)
    base, facts = _base_table(rows, columns, options, file)
    structures = declared_structures(options, rows, file)
    shown = named_column(rows, options.get("image", "image"), file, "image")
    quarantine_shared(structures, shown, columns.quarantined)
    kept = np.array([row for row in range(len(rows)) if row not in columns.quarantined], dtype=np.int64)
    pixels, good = _read_pixels(kept, shown, image, structures, folder, threads, columns.quarantined)
    if good.any():
        check_not_all_empty(structures, pixels.findings, file)
    if structures:
        named = declared_structures(options, everything, file)  # `where` leaves out images, not files
        for name, files in files_without_image(named, everything[shown.name], folder).items():
            pixels.findings[name].without_image = files
    whole = bool(good.all())
    frame = base.iloc[kept[good]].reset_index(drop=True)
    for plane, name in enumerate(structures):
        frame[f"has_mask_{name}"] = pixels.has_mask[good, plane]
    quarantine = sorted(columns.quarantined.items())
    return Prepared(
        images=pixels.images if whole else pixels.images[good],
        table=frame,
        columns=columns.specs,
        masks=(pixels.masks if whole else pixels.masks[good]) if structures else None,
        mask_names=list(structures),
        quarantine=pd.DataFrame(
            {"image": [shown.iloc[row] for row, _ in quarantine], "reason": [reason for _, reason in quarantine]},
            dtype=str,
        ),
        facts={
            **facts,
            "rows": len(rows),
            "mask_findings": {name: one.as_json() for name, one in pixels.findings.items()},
        },
    )


def _filtered(rows: pd.DataFrame, where: Mapping[str, object], file: str) -> pd.DataFrame:
    for name, wanted in where.items():
        values = {str(value) for value in (wanted if isinstance(wanted, list) else [wanted])}
        rows = rows[named_column(rows, name, file, f"where.{name}").isin(values)]
        if rows.empty:
            raise SynthGainError(f"{file}: where.{name} = {', '.join(sorted(values))} leaves no row")
    if rows.empty:
        raise SynthGainError(f"{file}: the table has no rows")
    return rows.reset_index(drop=True)


def _base_table(
    rows: pd.DataFrame, columns: Columns, options: Mapping[str, Any], file: str
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Ids, site, origin and the read columns, one row per table row; doubtful ids are quarantined."""
    if "patient_id" not in options:
        raise SynthGainError(f"{file}: patient_id: name its column, or say null for an image-level split")
    paths = named_column(rows, options.get("image", "image"), file, "image")
    ids = named_column(rows, options["image_id"], file, "image_id") if options.get("image_id") else paths
    by_image = options["patient_id"] is None
    patients = ids if by_image else named_column(rows, options["patient_id"], file, "patient_id")
    for row, (one_id, patient, twice) in enumerate(zip(ids, patients, ids.duplicated(), strict=True)):
        reason = "no image id" if not one_id else "no patient id" if not patient else "image id occurs twice"
        if not one_id or not patient or twice:
            columns.quarantined.setdefault(row, reason)
    sites = _sites(rows, options.get("site") or {"constant": "unknown"}, file)
    table = pd.DataFrame({"image_id": ids, "patient_id": patients, "site": sites, "origin": "real"})
    keep = [name for name in options.get("keep") or [] if name not in table]
    kept = {name: named_column(rows, name, file, "keep") for name in keep}
    table = table.assign(**{**kept, **columns.values})
    facts = {
        "split_unit": "image" if by_image else options.get("split_unit", "patient"),
        "impossible_values": columns.impossible,
    }
    return table, facts


def _sites(rows: pd.DataFrame, site: str | Mapping[str, str], file: str) -> pd.Series:
    """The site of each row: that of a column, {constant: name}, or {column, otherwise: name where it is not there}."""
    named = {"column": site} if isinstance(site, str) else site
    constant = named.get("constant")
    if "otherwise" in named and named["column"] not in rows.columns:
        constant = named["otherwise"]
    if constant is not None:
        return pd.Series([str(constant)] * len(rows), dtype=object)
    return named_column(rows, named["column"], file, "site").replace("", "unknown")


def _read_pixels(
    kept: np.ndarray,
    paths: pd.Series,
    image: Mapping[str, Any],
    structures: Structures,
    folder: Path,
    threads: int,
    quarantined: dict[int, str],
) -> tuple[_Pixels, np.ndarray]:
    """Read the kept rows with a thread pool; unreadable ones join `quarantined`.

    Returns the arrays with a place per kept row, and (len(kept),) bool: which of them could be read.
    """
    side, count = image["size"], len(kept)
    found = _Pixels(
        np.empty((count, side, side, image["channels"]), np.uint8),
        np.zeros((count, side, side, len(structures)), np.uint8),
        np.zeros((count, len(structures)), bool),
        {name: Findings() for name in structures},
    )

    def read_row(place: int) -> list[MaskFacts | None] | UnreadableImage:
        row = int(kept[place])
        facts: list[MaskFacts | None] = []
        try:
            pixels = read_pixels(safe_path(folder, paths.iloc[row]))
            masks = read_masks(structures, row, (pixels.values.shape[0], pixels.values.shape[1]), folder)
            found.images[place] = fit_image(pixels, image, paths.iloc[row])
        except UnreadableImage as error:
            return error
        for plane, mask in enumerate(masks):
            if mask is not None:
                found.masks[place, :, :, plane] = fit_mask(mask.plane, image)
            facts.append(None if mask is None else mask_facts(mask, found.masks[place, :, :, plane]))
        return facts

    progress = Progress("reading images", count)
    good = np.ones(count, bool)
    with ThreadPoolExecutor(max_workers=max(1, threads)) as pool:
        for place, result in enumerate(pool.map(read_row, range(count))):
            progress.advance()
            if isinstance(result, UnreadableImage):
                good[place] = False
                quarantined[int(kept[place])] = str(result)
                if isinstance(result, WrongSize):
                    found.findings[result.structure].wrong_size += 1
                continue
            for plane, (one, facts) in enumerate(zip(found.findings.values(), result, strict=True)):
                if facts is not None:
                    found.has_mask[place, plane] = True
                    one.count(facts)
    return found, good
