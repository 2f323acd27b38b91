"""From a text table of image and mask paths to images, masks, ids and columns in the study's geometry."""

from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from synthgain.datasets.columns import Columns, named_column, read_columns
from synthgain.datasets.entries.options import JobRows, Site
from synthgain.datasets.files import Pictures, plain_path
from synthgain.datasets.geometry import Geometry, fit_image, fit_mask
from synthgain.datasets.masks import (
    Findings,
    MaskFacts,
    Structures,
    WrongSize,
    check_not_all_empty,
    coding_notes,
    declared_structures,
    files_without_image,
    mask_facts,
    quarantine_shared,
    read_masks,
)
from synthgain.datasets.pixels import UnreadableImage
from synthgain.datasets.reading import read_pixels
from synthgain.datasets.several_rows import Merged, merge_rows
from synthgain.datasets.source import Prepared
from synthgain.datasets.values import Lookup, declared_text, id_key, id_text, listed, looks_missing, shortened
from synthgain.runtime.command import Progress
from synthgain.runtime.errors import SynthGainError


@dataclass
class _Pixels:
    """Arrays to be filled, one place per row that is read, and what was found on the way."""

    images: np.ndarray
    masks: np.ndarray
    has_mask: np.ndarray
    findings: dict[str, Findings] = field(default_factory=dict)


@dataclass
class TableRows:
    """What a table says: its rows' paths, ids, columns, structures, and kept (K,), the rows whose files are read."""

    shown: pd.Series
    ids: dict[str, pd.Series]
    columns: Columns
    kept_columns: dict[str, pd.Series]
    structures: Structures
    merged: Merged
    kept: np.ndarray


def read_rows(
    table: pd.DataFrame,
    options: JobRows,
    image: Geometry,
    pictures: Pictures,
    file: str,
    threads: int = 1,
    decimal: str = ".",
) -> Prepared:
    """Read the rows of a text table (see `cells.cell_text`).

    pictures: where the paths of its cells lead. `file` names the table in errors. decimal: what stands before the
    decimals of its numbers. Rows that cannot be used stand in the quarantine with their reason; the rest keep table
    order.
    Raises SynthGainError for a missing column, an undeclared bit depth, masks that are all empty, or no row left.
    """
    found = read_table(table, options, file, decimal, pictures.held)
    ids, columns, shown, merged = found.ids, found.columns, found.shown, found.merged
    structures, kept_columns, kept = found.structures, found.kept_columns, found.kept
    pixels, good = _read_pixels(kept, shown, image, structures, pictures, threads, columns.quarantined)
    if good.any():
        check_not_all_empty(structures, pixels.findings, file)
    if structures:
        named = declared_structures(options.mask, table, file)  # `where` leaves out images, not files
        for name, files in files_without_image(named, table[shown.name], pictures).items():
            pixels.findings[name].without_image = files
    base = pd.DataFrame({**ids, "origin": "real", **kept_columns, **columns.values})
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
            "split_unit": "image" if options.patient_id is None else options.split_unit,
            "impossible_values": columns.impossible,
            "conflicts": {name: len(images) for name, images in merged.conflicts.items()},
            "notes": [*columns.notes, *coding_notes(structures, pixels.findings)],
            "rows": len(shown),
            "mask_findings": {name: one.as_json() for name, one in pixels.findings.items()},
        },
    )


def read_table(
    table: pd.DataFrame, options: JobRows, file: str, decimal: str = ".", held: Collection[str] = ()
) -> TableRows:
    """Read all that a text table says before any of its files is opened; arguments and errors: see `read_rows`.

    held: columns whose pictures the table itself holds.
    """
    rows = _filtered(table, options, file)
    columns = read_columns(rows, options, file, decimal)
    for name, reason in options.required.items():
        for row in np.flatnonzero(named_column(rows, name, file, "required").eq("")):
            columns.quarantined.setdefault(int(row), reason)
    shown = named_column(rows, options.image, file, "image").copy()
    ids = _ids(rows, columns, options, file)
    kept_columns = {name: named_column(rows, name, file, "keep").copy() for name in options.keep if name not in ids}
    for name, cells in kept_columns.items():
        blank = int(cells.eq("").sum())
        if blank:
            columns.notes.append(f"{name}: {blank} of {len(cells)} cells are empty")
    structures = declared_structures(options.mask, rows, file)
    fixed = {options.image: shown, **{name: ids[name] for name in ("patient_id", "site")}, **kept_columns}
    if options.patient_id is None:
        del fixed["patient_id"]  # it is the image id itself
    merged = merge_rows(ids["image_id"], fixed, columns, structures, options.several_rows)
    quarantine_shared(structures, shown, columns.quarantined, merged.folded, held)
    left_out = columns.quarantined.keys() | merged.folded
    kept = np.array([row for row in range(len(rows)) if row not in left_out], dtype=np.int64)
    return TableRows(shown, ids, columns, kept_columns, structures, merged, kept)


def _filtered(rows: pd.DataFrame, options: JobRows, file: str) -> pd.DataFrame:
    for name, wanted in options.where.items():
        values = Lookup({declared_text(value): "" for value in (wanted if isinstance(wanted, list) else [wanted])})
        cells = named_column(rows, name, file, f"where.{name}")
        fitting = {cell for cell in pd.unique(cells) if cell in values}
        if not fitting:
            held = listed(sorted(pd.unique(cells)))
            raise SynthGainError(f"{file}: where.{name} = {', '.join(sorted(values))} leaves no row; it holds {held}")
        rows = rows[cells.isin(fitting)]
    if rows.empty:
        raise SynthGainError(f"{file}: the table has no rows")
    return rows.reset_index(drop=True)


def _ids(rows: pd.DataFrame, columns: Columns, options: JobRows, file: str) -> dict[str, pd.Series]:
    """Return image_id, patient_id and site of every row; rows without an id are quarantined, doubtful ids noted."""
    paths = named_column(rows, options.image, file, "image")
    images = pd.Series([plain_path(path) if path else "" for path in paths], dtype=object)  # one file, one id
    if options.image_id is not None:
        images = _id_column(rows, options.image_id, file, "image_id")
    patients = images
    if options.patient_id is not None:
        patients = _id_column(rows, options.patient_id, file, "patient_id")
        columns.notes += _spelling_notes(named_column(rows, options.patient_id, file, "patient_id"), patients)
    for what, cells in (("image", images), ("patient", patients)):
        for row, cell in enumerate(cells):
            if not cell or (looks_missing(cell) and (what == "patient" or options.image_id is not None)):
                columns.quarantined.setdefault(row, f"no {what} id" + (f" ({cell!r})" if cell else ""))
    return {"image_id": images, "patient_id": patients, "site": _sites(rows, options.site, file)}


def _id_column(rows: pd.DataFrame, name: str, file: str, key: str) -> pd.Series:
    """Return a column of ids, whole numbers without decimals; SynthGainError for ids that a spreadsheet shortened."""
    cells = named_column(rows, name, file, key)
    rounded = shortened(pd.unique(cells))
    if rounded:
        raise SynthGainError(
            f"{file}: {key} {rounded[0]!r} in column {name!r} is a number that a spreadsheet shortened, or a float of "
            "too many digits, and others may look alike; save that column as text"
        )
    return pd.Series([id_text(cell) for cell in cells], dtype=object, name=cells.name)


def _spelling_notes(written: pd.Series, patients: pd.Series) -> list[str]:
    """Return what a reader must know of patient ids that differ only in spelling."""
    notes = []
    both = sorted({(cell, patient) for cell, patient in zip(written, patients, strict=True) if cell != patient})
    present = set(written)
    joined = [f"{patient} = {cell}" for cell, patient in both if patient in present]
    if joined:
        notes.append(f"{len(joined)} patient ids are written in two ways and are one patient ({listed(joined)})")
    alike: dict[str, list[str]] = {}
    for patient in sorted(set(patients) - {""}):
        alike.setdefault(id_key(patient), []).append(patient)
    doubtful = [" / ".join(ids) for ids in alike.values() if len(ids) > 1]
    if doubtful:
        notes.append(
            f"{len(doubtful)} patient ids differ from others only in spelling ({listed(doubtful)}); they count as "
            "patients of their own, on one side of the split: mend the table if they are one"
        )
    return notes


def _sites(rows: pd.DataFrame, site: str | Site | None, file: str) -> pd.Series:
    """The site of each row: that of a column, {constant: name}, or {column, otherwise: name where it is not there}."""
    named = Site(column=site) if isinstance(site, str) else site or Site(constant="unknown")
    constant = named.constant
    if named.otherwise is not None and named.column not in rows.columns:
        constant = named.otherwise
    if constant is not None or named.column is None:
        return pd.Series([constant] * len(rows), dtype=object)
    cells = named_column(rows, named.column, file, "site")
    return pd.Series([id_text(cell) or "unknown" for cell in cells], dtype=object)


def _read_pixels(
    kept: np.ndarray,
    paths: pd.Series,
    image: Geometry,
    structures: Structures,
    pictures: Pictures,
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
            pixels = read_pixels(pictures.find(str(paths.name), paths.iloc[row]))
            masks = read_masks(structures, row, (pixels.values.shape[0], pixels.values.shape[1]), pictures)
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
