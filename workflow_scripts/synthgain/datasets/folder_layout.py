"""What the files of a user's folder are, by their names: images, masks, classes, parts of the split, tables.

No file is decoded here, so that planning may look too. A name is compared in Unicode's composed form (NFC), without
case where it is one of the words below.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from synthgain.datasets.reading import DICOM_SUFFIXES, FORMATS, has_dicom_mark
from synthgain.datasets.values import part_of
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import digest, sha256_file
from synthgain.runtime.listing import counts, files_below, listing_checksum

# Pictures and volumes that are not read, or not yet: quarantined with that reason, not passed over.
OTHER_PICTURES = (
    ".tga", ".heic", ".avif", ".svs",
    ".nii", ".nii.gz", ".mha", ".mhd", ".nrrd", ".npy", ".npz", ".hdr",
)  # fmt: skip
METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")  # Hugging Face's `imagefolder`
SYSTEM_FOLDERS = ("__macosx", "$recycle.bin", "system volume information", "@eadir")
LITTER = ("thumbs.db", "desktop.ini")  # beside hidden files
_IMAGES = re.compile(r"images?|imgs?|photos?|pictures?|scans?|frames|originals?|inputs?|jpe?g|png|cxr.?png", re.I)
_MASKS = re.compile(r".*masks?|segmentations?|ground.?truths?|gt|labels?|annotations?", re.I)
_MASK_WORD = "(?:mask|seg|segmentation|gt)"
_MASK_NAME = re.compile(rf"(.+?)[ _.-]+{_MASK_WORD}|{_MASK_WORD}[ _.-]+(.+)", re.I)
FILE, CLASS, SPLIT, MASK = "file_name", "class", "split", "mask"


@dataclass(frozen=True)
class FolderLayout:
    """Files of a folder by what they are; all paths relative to it, with /, as they stand on disk.

    rows: one per image, {file_name, a column per level, mask columns}, "" where an image has none; a cell of a level
    is the folder's name as it stands on disk, that of the level `split` the part. levels: what the
    folders of the images mean, from the top down. tables: metadata files. passed_over: files that are no images,
    masks that belong to no image among them. empty: folders of the class level without an image.
    """

    rows: list[dict[str, str]]
    levels: tuple[str, ...]
    mask_columns: tuple[str, ...]
    tables: list[str]
    passed_over: list[str]
    empty: list[str]

    def names(self, level: str) -> list[str]:
        """Return the different names of a level, sorted."""
        return sorted({row[level] for row in self.rows if row.get(level)})


def read_layout(folder: Path, levels: Sequence[str] | None = None) -> FolderLayout:
    """Look through a folder. `levels`: what its folders mean, from the top down; None: found out.

    Found are part folders (train, val, test …, where no other stands beside them) above or below class folders; what
    lies deeper in a class folder belongs to the class. A folder for the images alone (images/) is no level.
    Raises SynthGainError where the folder holds no image.
    """
    found = files_below(folder)
    names = sorted(name for name, _ in found if counts(name) and not _of_the_system(name))
    pictures = [name for name in names if _is_picture(folder, name)]
    masks = paired_masks(pictures)
    images = [name for name in pictures if name not in masks.files]
    if not images:
        raise SynthGainError(f"{folder}: holds no image; known are {', '.join((*FORMATS, *DICOM_SUFFIXES))}")
    only = masks.files or all(_IMAGES.fullmatch(PurePosixPath(name).parts[0]) for name in images)
    dirs = {name: _levels_of(name, bool(only)) for name in images}
    given = tuple(levels) if levels is not None else _found_levels(list(dirs.values()))
    rows = []
    for name in images:
        cells = dict.fromkeys(given, "")
        cells |= dict(zip(given, dirs[name], strict=False))
        if SPLIT in cells:
            cells[SPLIT] = part_of(cells[SPLIT]) or cells[SPLIT]
        rows.append({FILE: name, **cells, **masks.of(name)})
    tables = [name for name in names if PurePosixPath(name).name.lower() in METADATA]
    used = {*images, *tables, *(mask for row in rows for column in masks.columns for mask in [row[column]])}
    skipped = [name for name, _ in found if name not in used and (counts(name) or not name.endswith("/"))]
    return FolderLayout(rows, given, masks.columns, tables, sorted(skipped), _empty_classes(found, images, given))


def folder_source(folder: Path) -> str:
    """Return the identity of what a folder holds: names and sizes of its files, and the bytes of its metadata."""
    tables = [name for name, _ in files_below(folder) if PurePosixPath(name).name.lower() in METADATA]
    return digest([listing_checksum(folder), *(sha256_file(folder / name) for name in sorted(tables))])


def composed(text: str) -> str:
    """Return text in Unicode's composed form: macOS writes names decomposed."""
    return unicodedata.normalize("NFC", text)


def alike(names: Sequence[str]) -> list[list[str]]:
    """Return the groups of names that differ only by case, blanks at their ends or Unicode form."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(unicodedata.normalize("NFKC", name).strip().casefold(), []).append(name)
    return [sorted(group) for group in groups.values() if len(group) > 1]


@dataclass(frozen=True)
class PairedMasks:
    """Which files are masks: `files`, and by image {column: file}; `columns` are `mask`, or one per structure."""

    files: frozenset[str]
    by_image: dict[str, dict[str, str]]
    columns: tuple[str, ...]

    def of(self, image: str) -> dict[str, str]:
        """Return the mask cells of an image, "" where it has none."""
        return {column: self.by_image.get(image, {}).get(column, "") for column in self.columns}


def paired_masks(pictures: Sequence[str]) -> PairedMasks:
    """Tell masks from images by their names, and join the two.

    A mask lies in a folder of that name (masks/, ground truth/ …) under the path of its image, or has its image's name
    and `_mask`; masks/lungs/ and masks/heart/ are columns `mask_lungs` and `mask_heart`. Names alone prove nothing:
    where less than half of the files so named have an image, they are a class of images.
    """
    marked = {name: keys for name in pictures if (keys := _mask_keys(name))}
    images = {_image_key(name): name for name in pictures if name not in marked}
    by_image: dict[str, dict[str, str]] = {}
    paired = 0
    for name, keys in marked.items():
        for column, key in keys:
            if key in images:
                by_image.setdefault(images[key], {}).setdefault(column, name)
                paired += 1
                break
    if not marked or 2 * paired < len(marked):
        return PairedMasks(frozenset(), {}, ())
    columns = sorted({column for cells in by_image.values() for column in cells})
    return PairedMasks(frozenset(marked), by_image, tuple(columns))


Key = tuple[str, ...]


def _mask_keys(name: str) -> list[tuple[str, Key]]:
    """Return (column, key of the image) that a file may be the mask of, the likeliest first; [] for an image."""
    path = PurePosixPath(composed(name))
    dirs, stem = list(path.parts[:-1]), path.stem
    short = _MASK_NAME.fullmatch(stem)
    own = (short[1] or short[2]) if short else ""
    stems = [stem, *([own] if own else [])]
    places = [place for place, part in enumerate(dirs) if _MASKS.fullmatch(part)]
    if not places:
        return [(MASK, _key(dirs, own))] if own else []
    place = places[0]
    keys = [(MASK, _key(dirs[:place] + dirs[place + 1 :], one)) for one in stems]
    if place + 1 < len(dirs):  # masks/lungs/1.png
        rest = dirs[:place] + dirs[place + 2 :]
        column = f"{MASK}_{re.sub(r'[^a-z0-9]+', '_', dirs[place + 1].lower()).strip('_')}"
        keys += [(column, _key(rest, one)) for one in stems]
    return keys


def _image_key(name: str) -> Key:
    path = PurePosixPath(composed(name))
    return _key(path.parts[:-1], path.stem)


def _key(dirs: Sequence[str], stem: str) -> Key:
    return (*(part.casefold() for part in dirs if not _IMAGES.fullmatch(part)), stem.casefold())


def _levels_of(name: str, images_apart: bool) -> tuple[str, ...]:
    """Return the folders of an image that may mean something: images/ beside masks/, or over all images, does not."""
    return tuple(part for part in PurePosixPath(name).parts[:-1] if not (images_apart and _IMAGES.fullmatch(part)))


def _found_levels(dirs: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    first = {parts[0] for parts in dirs if parts}
    second = {parts[1] for parts in dirs if len(parts) > 1}
    if first and all(map(part_of, first)):
        return (SPLIT, CLASS) if second else (SPLIT,)
    if second and all(map(part_of, second)):
        return (CLASS, SPLIT)
    return (CLASS,) if first else ()


def _empty_classes(found: Sequence[tuple[str, int]], images: Sequence[str], levels: tuple[str, ...]) -> list[str]:
    """Return the folders that stand where class folders do and hold nothing; one of other files is no class."""
    if CLASS not in levels:
        return []
    depth = levels.index(CLASS) + 1
    kept = [PurePosixPath(name).parts[:depth] for name, _ in found if counts(name) and not _litter(name)]
    hollow = [PurePosixPath(name).parent if not name.endswith("/") else PurePosixPath(name) for name, _ in found]
    places = {place.parts[:depth] for place in hollow if len(place.parts) >= depth and not _of_the_system(str(place))}
    return sorted("/".join(place) for place in places - set(kept))


def _is_picture(folder: Path, name: str) -> bool:
    lowered = name.lower()
    if lowered.endswith((*FORMATS, *DICOM_SUFFIXES, *OTHER_PICTURES)):
        return True
    suffix = PurePosixPath(lowered).suffix
    # DICOM files are often called by a UID, whose last number looks like a suffix.
    return (not suffix or suffix[1:].isdigit()) and has_dicom_mark(folder / name)


def _litter(name: str) -> bool:
    return _of_the_system(name) or PurePosixPath(name).name.lower() in LITTER


def _of_the_system(name: str) -> bool:
    return any(part.lower() in SYSTEM_FOLDERS or part.startswith(".") for part in name.split("/"))
