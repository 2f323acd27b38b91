"""The `medmnist` adapter: the published .npz files of MedMNIST (Yang et al., Sci Data 2023;10:41).

Checksums are those of the MedMNIST+ release (Zenodo record 10519652, package medmnist 3).
"""

import os
import zipfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from synthgain.data.image_set import ColumnSpec
from synthgain.datasets.download import download
from synthgain.datasets.files import is_below
from synthgain.datasets.geometry import Geometry, fit_image
from synthgain.datasets.pixels import BYTE_RANGE, Pixels
from synthgain.datasets.source import Prepared
from synthgain.runtime.errors import SynthGainError

BASE_URL = "https://zenodo.org/records/10519652/files"
PARTS = {"train": "train", "val": "validation", "test": "test"}
MAX_IMAGES = 250_000  # a part of the largest published set has 165,466


@dataclass(frozen=True)
class Published:
    """One published set: its task, classes in the order of their codes, channels and MD5 by side length."""

    task: str
    classes: tuple[str, ...]
    channels: int
    md5: dict[int, str]
    target: str = "label"
    positive: int = 1


KNOWN = {
    "pneumoniamnist": Published(
        "binary", ("normal", "pneumonia"), 1,
        {28: "28209eda62fecd6e6a2d98b1501bb15f", 64: "8f4eceb4ccffa70c672198ea285246c6",
         128: "05b46931834c231683c68f40c47b2971", 224: "d6a3c71de1b945ea11211b03746c1fe1"}, "pneumonia",
    ),
    "breastmnist": Published(
        "binary", ("malignant", "normal, benign"), 1,
        {28: "750601b1f35ba3300ea97c75c52ff8f6", 64: "742edef2a1fd1524b2efff4bd7ba9364",
         128: "363e4b3f8d712e9b5de15470a2aaadf1", 224: "b56378a6eefa9fed602bb16d192d4c8b"}, "malignant", 0,
    ),
    "chestmnist": Published(
        "multilabel",
        ("atelectasis", "cardiomegaly", "effusion", "infiltration", "mass", "nodule", "pneumonia", "pneumothorax",
         "consolidation", "edema", "emphysema", "fibrosis", "pleural", "hernia"), 1,
        {28: "02c8a6516a18b556561a56cbdd36c4a8", 64: "9de6cd0b934ebb5b7426cfba5efbae16",
         128: "db107e5590b27930b62dbaf558aebee3", 224: "45bd33e6f06c3e8cdb481c74a89152aa"},
    ),
    "dermamnist": Published(
        "category",
        ("actinic keratoses and intraepithelial carcinoma", "basal cell carcinoma", "benign keratosis-like lesions",
         "dermatofibroma", "melanoma", "melanocytic nevi", "vascular lesions"), 3,
        {28: "0744692d530f8e62ec473284d019b0c7", 64: "b70a2f5635c6199aeaa28c31d7202e1f",
         128: "2defd784463fa5243564e855ed717de1", 224: "8974907d8e169bef5f5b96bc506ae45d"},
    ),
    "bloodmnist": Published(
        "category",
        ("basophil", "eosinophil", "erythroblast", "immature granulocytes", "lymphocyte", "monocyte", "neutrophil",
         "platelet"), 3,
        {28: "7053d0359d879ad8a5505303e11de1dc", 64: "2b94928a2ae4916078ca51e05b6b800b",
         128: "adace1e0ed228fccda1f39692059dd4c", 224: "b718ff6835fcbdb22ba9eacccd7b2601"},
    ),
    "pathmnist": Published(
        "category",
        ("adipose", "background", "debris", "lymphocytes", "mucus", "smooth muscle", "normal colon mucosa",
         "cancer-associated stroma", "colorectal adenocarcinoma epithelium"), 3,
        {28: "a8b06965200029087d5bd730944a56c1", 64: "55aa9c1e0525abe5a6b9d8343a507616",
         128: "ac42d08fb904d92c244187169d1fd1d9", 224: "2c51a510bcdc9cf8ddb2af93af1eadec"},
    ),
}  # fmt: skip


def prepare(options: Mapping[str, Any], image: Geometry, seed: int, root: Path | None, threads: int = 1) -> Prepared:
    """Download (once) and read one set; the published parts stand in the column `original_split`.

    options: name, size (28, 64, 128 or 224; default 28), url (another base address), md5 (another checksum), cache
    (a folder below the data root). No patient ids are published: each image counts as its own patient.
    """
    name, side = options.get("name"), int(options.get("size", 28))
    if name not in KNOWN:
        raise SynthGainError(f"medmnist: no set named {name!r}; known: {', '.join(KNOWN)}")
    known = KNOWN[str(name)]
    if side not in known.md5:
        raise SynthGainError(f"medmnist: {name} has no size {side}; known: {', '.join(map(str, known.md5))}")
    file = f"{name}.npz" if side == 28 else f"{name}_{side}.npz"
    url = f"{(options.get('url') or BASE_URL).rstrip('/')}/{file}"
    path = download(url, _cache(options, root) / file, options.get("md5") or known.md5[side])
    parts = [_read_part(path, part, side, known, image, threads) for part in PARTS]
    table = pd.concat(
        [_part_table(str(name), part, labels, known) for part, (_, labels) in zip(PARTS, parts, strict=True)],
        ignore_index=True,
    )
    specs: dict[str, ColumnSpec] = {}
    for target in known.classes if known.task == "multilabel" else (known.target,):
        kind: ColumnSpec = {"kind": "binary"}
        if known.task == "category":
            kind = {"kind": "category", "levels": list(known.classes)}
        specs[target] = {"role": "target", **kind}
    facts = {"source_url": url, "split_unit": "image", "md5": options.get("md5") or known.md5[side], "rows": len(table)}
    return Prepared(np.concatenate([images for images, _ in parts]), table, specs, facts=facts)


def check_archive(path: Path, side: int, channels: int) -> None:
    """Refuse an .npz whose members or headers are not those of a MedMNIST file, before anything is unpacked.

    Member names must be the six known ones (no paths), arrays must be small integers of the expected shape, and
    the unpacked size must be that of the header, so that no member can escape its folder or inflate without bound.
    """
    wanted = {f"{part}_{what}.npy" for part in PARTS for what in ("images", "labels")}
    plane = (side, side) if channels == 1 else (side, side, channels)
    try:
        with zipfile.ZipFile(path) as archive:
            if {info.filename for info in archive.infolist()} != wanted:
                raise SynthGainError(f"{path}: members are not those of a MedMNIST file; delete it and run again")
            for info in archive.infolist():
                with archive.open(info) as handle:
                    shape, _, dtype = _npy_header(handle)
                    start = handle.tell()
                images = info.filename.endswith("_images.npy")
                fits = shape[1:] == plane if images else len(shape) == 2
                small = dtype == np.uint8 if images else dtype.kind in "iu"
                size = start + int(np.prod(shape, dtype=object)) * dtype.itemsize
                if not (fits and small and shape[0] <= MAX_IMAGES and info.file_size == size):
                    raise SynthGainError(
                        f"{path}: {info.filename} holds {shape} {dtype}, expected (N, {plane}); delete it and run again"
                    )
    except SynthGainError:
        raise
    except Exception as error:  # zipfile, zlib and NumPy raise a dozen kinds on damaged bytes
        raise _not_whole(path, error) from error


def _not_whole(path: Path, error: Exception) -> SynthGainError:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return SynthGainError(f"{path}: not a whole archive ({reason}); delete it and run again")


def _npy_header(handle: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(handle)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(handle)
    return np.lib.format.read_array_header_2_0(handle)


def _read_part(
    path: Path, part: str, side: int, known: Published, image: Geometry, threads: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return images (N, size, size, channels) uint8 in the study's geometry and labels (N, L)."""
    if part == "train":
        check_archive(path, side, known.channels)
    try:
        with np.load(path, allow_pickle=False) as archive:
            raw, labels = archive[f"{part}_images"], archive[f"{part}_labels"]
    except Exception as error:  # as above
        raise _not_whole(path, error) from error
    if len(raw) != len(labels):
        raise SynthGainError(f"{path}: {part} has {len(raw)} images and {len(labels)} labels; delete it and run again")
    images = np.empty((len(raw), image["size"], image["size"], image["channels"]), np.uint8)

    def fit(row: int) -> None:
        images[row] = fit_image(Pixels(raw[row], BYTE_RANGE), image, f"{part} {row}")

    with ThreadPoolExecutor(max_workers=max(1, threads)) as pool:
        list(pool.map(fit, range(len(raw))))
    return images, labels


def _part_table(name: str, part: str, labels: np.ndarray, known: Published) -> pd.DataFrame:
    ids = [f"{name}-{part}-{row:06d}" for row in range(len(labels))]
    table = pd.DataFrame({"image_id": ids, "patient_id": ids, "site": name, "origin": "real"})
    table["original_split"] = PARTS[part]
    codes = 2 if known.task == "multilabel" else len(known.classes)
    columns = len(known.classes) if known.task == "multilabel" else 1
    if labels.shape[1] != columns or (len(labels) and not 0 <= labels.min() <= labels.max() < codes):
        raise SynthGainError(f"{name}: {part} labels are not {columns} columns of 0 … {codes - 1}; is it another set?")
    if known.task == "multilabel":
        return table.assign(**{label: labels[:, i].astype(np.float32) for i, label in enumerate(known.classes)})
    if known.task == "binary":
        return table.assign(**{known.target: (labels[:, 0] == known.positive).astype(np.float32)})
    return table.assign(**{known.target: [known.classes[code] for code in labels[:, 0]]})


def _cache(options: Mapping[str, Any], root: Path | None) -> Path:
    """The folder for downloads: below the data root where there is one, else the user's cache."""
    folder = options.get("cache") or "medmnist"
    if not is_below(folder):
        raise SynthGainError(f"medmnist: cache {folder!r} must be a folder below the data root, without '..'")
    if root is not None:
        return root / folder
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "synthgain" / folder
