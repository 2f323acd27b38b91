"""What is refused of a folder by the names of its files, while planning and again by the job."""

from collections.abc import Iterator

from synthgain.datasets.entries.options import CovariateColumn, JobFolder, TargetColumn
from synthgain.datasets.folder_layout import CLASS, FILE, FolderLayout, alike, composed
from synthgain.entry import nearest
from synthgain.runtime.errors import SynthGainError


def check_layout(layout: FolderLayout, options: JobFolder, trained: bool) -> None:
    """Raise SynthGainError in one line, naming the folder, where layout and options do not go together.

    trained: the data set has a split. Of a folder with metadata files the columns are known to their reader alone.
    """
    folder = options.folder
    if not layout.tables:
        _check_columns(layout, options, folder)
    for level in layout.levels:
        _check_names(layout, level, options, folder)
    if CLASS in layout.levels:
        _check_classes(layout, options, folder, trained)


def _check_columns(layout: FolderLayout, options: JobFolder, folder: str) -> None:
    columns = {FILE, *layout.levels, *layout.mask_columns} - {"_"}
    for place, column in _asked(options):
        if column not in columns:
            found = f"its folders give {', '.join(sorted(columns))}"
            raise SynthGainError(
                f"{folder}: no column {column!r} (asked for by {place}); {found}, and it has no metadata"
            )


def _asked(options: JobFolder) -> Iterator[tuple[str, str]]:
    """Yield (place in the config, column) of every column that the options read."""
    for place, spec in _all_specs(options):
        yield place, spec.column
    for entry in options.mask:
        yield f"mask.{entry.name}", entry.column
    for name in options.where:
        yield "where", name
    for name in options.keep:
        yield "split.column", name
    if options.multilabel is not None:
        yield "multilabel", options.multilabel.column
    for key, column in (("patient_id", options.patient_id), ("site", options.site)):
        if isinstance(column, str):
            yield key, column


def _check_names(layout: FolderLayout, level: str, options: JobFolder, folder: str) -> None:
    """Names that differ by case or Unicode form alone are a slip, unless a map says what both are."""
    for group in alike(layout.names(level)):
        maps = [spec.map for _, spec in _specs(options, level)]
        mapped = bool(maps) and all(mapping and set(group) <= set(mapping) for mapping in maps)
        equal = len({composed(name) for name in group}) < len(group)  # on screen, and to the map
        if equal or not mapped:
            shown = " and ".join(ascii(name) if equal else repr(name) for name in group)
            raise SynthGainError(
                f"{folder}: the folders {shown} differ only by case, blanks or Unicode form; rename one, or give both "
                "in the target's map"
            )


def _check_classes(layout: FolderLayout, options: JobFolder, folder: str, trained: bool) -> None:
    targets = [(name, spec) for name, spec in _specs(options, CLASS) if name.startswith("targets.")]
    if not targets:
        return
    if layout.empty:
        raise SynthGainError(f"{folder}: the class folder {layout.empty[0]!r} holds no image; fill it, or remove it")
    wanted = options.where.get(CLASS)
    kept = {str(one) for one in (wanted if isinstance(wanted, list) else [wanted])} if wanted is not None else None
    names = [composed(name).strip() for name in layout.names(CLASS)]
    classes = [name for name in names if kept is None or name in kept]
    for place, spec in targets:
        mapping = spec.map
        for name in classes:
            if mapping and name not in mapping:
                raise SynthGainError(
                    f"{folder}: the class folder {name!r} is not in the map of {place}; {nearest(name, mapping)} "
                    "(to leave it out: where: {class: […]})"
                )
        for name in mapping:
            if name not in classes:
                raise SynthGainError(
                    f"{folder}: {place} maps {name!r}, which is no class folder; {nearest(name, classes)}"
                )
        if trained and len({str(mapping.get(name, name)) for name in classes}) < 2:
            raise SynthGainError(
                f"{folder}: one class only ({', '.join(classes)}), and {place} needs two; if the classes lie deeper, "
                "name their folder in `folder`, or say in `levels` what the folders mean"
            )


def _specs(options: JobFolder, column: str) -> list[tuple[str, TargetColumn | CovariateColumn]]:
    """Return (place, spec) of the targets and covariates that read a column."""
    return [(place, spec) for place, spec in _all_specs(options) if spec.column == column]


def _all_specs(options: JobFolder) -> Iterator[tuple[str, TargetColumn | CovariateColumn]]:
    yield from ((f"targets.{name}", target) for name, target in options.targets.items())
    yield from ((f"covariates.{name}", covariate) for name, covariate in options.covariates.items())
