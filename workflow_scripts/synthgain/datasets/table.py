"""The `table` adapter: a CSV or Parquet table of image paths (and masks), the way users bring their own data."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import pandas as pd

from synthgain.command import Progress
from synthgain.datasets.columns import Columns, named_column, read_columns, text_table
from synthgain.datasets.geometry import fit_image, fit_mask
from synthgain.datasets.reading import UnreadableImage, read_label_map, read_pixels, structure_mask
from synthgain.datasets.source import Prepared
from synthgain.errors import SynthGainError
from synthgain.files import sha256_file

NO_ROOT = "data root is missing: pass --config data_root=FOLDER or set SYNTHGAIN_DATA"


def prepare(
    options: Mapping[str, Any], image: Mapping[str, Any], seed: int, root: Path | None, threads: int = 1
) -> Prepared:
    """Read the rows of a table into the study's geometry.

    options: table (path below root), images, image, mask, image_id, patient_id (a column, or null said aloud), site,
    where, targets, multilabel, covariates, constants, keep (columns copied as text, for example a published split).
    Rows that cannot be used stand in the quarantine with their reason; the rest keep table order.
    Raises SynthGainError for a missing root, table or column, an undeclared bit depth, or no row left.
    """
    folder, path = _table_path(options, root)
    file = str(options["table"])
    rows = _filtered(text_table(_read(path, file)), options.get("where") or {}, file)
    columns = read_columns(rows, options, file)
    table, facts = _base_table(rows, columns, options, file)
    structures = _structures(options, rows, file)
    kept = [row for row in range(len(rows)) if row not in columns.quarantined]
    images, masks = _read_images(kept, rows, options, image, structures, folder, threads, columns.quarantined)
    good = np.array([row for row in kept if row not in columns.quarantined], dtype=np.int64)
    for name, (mask_cells, _) in structures.items():
        table[f"has_mask_{name}"] = mask_cells.to_numpy() != ""
    quarantine = sorted(columns.quarantined.items())
    shown = named_column(rows, options.get("image", "image"), file, "image")
    return Prepared(
        images=images,
        table=table.iloc[good].reset_index(drop=True),
        columns=columns.specs,
        masks=masks,
        mask_names=list(structures),
        quarantine=pd.DataFrame(
            {"image": [shown.iloc[row] for row, _ in quarantine], "reason": [reason for _, reason in quarantine]},
            dtype=str,
        ),
        facts={**facts, "source": source_checksum(options, root), "source_table": file, "rows": len(rows)},
    )


def source_checksum(options: Mapping[str, Any], root: Path | None) -> str:
    """Return the SHA-256 of the table file (64 hex digits); SynthGainError where it is missing."""
    return sha256_file(_table_path(options, root)[1])


def _table_path(options: Mapping[str, Any], root: Path | None) -> tuple[Path, Path]:
    """Return (data root, table file) after checking that both exist."""
    if root is None:
        raise SynthGainError(NO_ROOT)
    if not root.is_dir():
        raise SynthGainError(f"data root {root} is not a folder; pass --config data_root=FOLDER or set SYNTHGAIN_DATA")
    if not is_below(str(options["table"])):
        raise SynthGainError(f"table {options['table']!r} must be a path below the data root, without '..'")
    path = root / options["table"]
    if not path.is_file():
        raise SynthGainError(f"{path}: no such table; check `table` and the data root")
    return root, path


def is_below(text: str) -> bool:
    """Whether a relative path stays in its folder: not empty, not absolute (POSIX or Windows), no '..'."""
    windows = PureWindowsPath(text)
    absolute = PurePosixPath(text).is_absolute() or bool(windows.drive or windows.root)
    return bool(text) and not absolute and ".." not in windows.parts


def _read(path: Path, file: str) -> pd.DataFrame:
    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            return pd.read_parquet(path)
        return pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except Exception as error:  # pandas and pyarrow raise many kinds; the user needs one line
        raise SynthGainError(f"{file}: not a readable table ({str(error).splitlines()[0]})") from error


def _filtered(rows: pd.DataFrame, where: Mapping[str, Any], file: str) -> pd.DataFrame:
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
    site = options.get("site") or {"constant": "unknown"}
    if isinstance(site, Mapping) and "constant" in site:
        sites = pd.Series([str(site["constant"])] * len(rows), dtype=object)
    else:
        name = site["column"] if isinstance(site, Mapping) else site
        sites = named_column(rows, name, file, "site").replace("", "unknown")
    table = pd.DataFrame({"image_id": ids, "patient_id": patients, "site": sites, "origin": "real"})
    keep = [name for name in options.get("keep") or [] if name not in table]
    kept = {name: named_column(rows, name, file, "keep") for name in keep}
    table = table.assign(**{**kept, **columns.values})
    facts = {
        "split_unit": "image" if by_image else "patient",
        "impossible_values": columns.impossible,
    }
    return table, facts


def _structures(
    options: Mapping[str, Any], rows: pd.DataFrame, file: str
) -> dict[str, tuple[pd.Series, list[int] | None]]:
    """{structure name: (cells with mask paths, declared label values or None)}."""
    masks = options.get("mask") or []
    masks = [masks] if isinstance(masks, Mapping) else masks
    return {
        str(mask["name"]): (
            named_column(rows, mask.get("column", "mask"), file, "mask.column"),
            _declared_values(mask.get("value")),
        )
        for mask in masks
    }


def _declared_values(value: int | list[int] | None) -> list[int] | None:
    return [value] if isinstance(value, int) else value


def _read_images(
    kept: list[int],
    rows: pd.DataFrame,
    options: Mapping[str, Any],
    image: Mapping[str, Any],
    structures: Mapping[str, tuple[pd.Series, list[int] | None]],
    root: Path,
    threads: int,
    quarantined: dict[int, str],
) -> tuple[np.ndarray, np.ndarray | None]:
    """Read the kept rows with a thread pool; unreadable ones join `quarantined`. Returns images and masks."""
    base = PurePosixPath(options.get("images") or PurePosixPath(str(options["table"])).parent)
    if not is_below(str(base)):
        raise SynthGainError(f"images {str(base)!r} must be a folder below the data root, without '..'")
    paths = rows[options.get("image", "image")]
    size = image["size"]
    images = np.empty((len(kept), size, size, image["channels"]), np.uint8)
    masks = np.zeros((len(kept), size, size, len(structures)), np.uint8)

    def read_row(place: int) -> str | None:
        row = kept[place]
        try:
            pixels = read_pixels(_safe_path(root / base, paths.iloc[row]))
            images[place] = fit_image(pixels, image, paths.iloc[row])
            for plane, (cells, values) in enumerate(structures.values()):
                if cells.iloc[row]:
                    labels = read_label_map(_safe_path(root / base, cells.iloc[row]))
                    if labels.shape != pixels.values.shape[:2]:
                        raise UnreadableImage(f"mask is {labels.shape}, its image {pixels.values.shape[:2]}")
                    masks[place, :, :, plane] = fit_mask(structure_mask(labels, values), image)
        except UnreadableImage as error:
            return str(error)
        return None

    progress = Progress("reading images", len(kept))
    good = np.ones(len(kept), bool)
    with ThreadPoolExecutor(max_workers=max(1, threads)) as pool:
        for place, reason in enumerate(pool.map(read_row, range(len(kept)))):
            progress.advance()
            if reason is not None:
                good[place] = False
                quarantined[kept[place]] = reason
    whole = bool(good.all())
    return (images if whole else images[good]), ((masks if whole else masks[good]) if structures else None)


def _safe_path(folder: Path, text: str) -> Path:
    if not is_below(text):
        raise UnreadableImage("path is empty, absolute or holds '..'; paths are relative to the images folder")
    return folder / text
