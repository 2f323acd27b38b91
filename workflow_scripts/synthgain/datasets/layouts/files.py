"""Files of a published folder by name: what every layout lists."""

from pathlib import Path, PurePosixPath

from synthgain.datasets.reading import DICOM_SUFFIXES, FORMATS
from synthgain.runtime.errors import SynthGainError


def images_in(folder: Path, inside: str) -> list[str]:
    """Return the image files of one folder as sorted paths relative to `folder`; SynthGainError if it is missing."""
    path = folder / inside
    if not path.is_dir():
        raise SynthGainError(
            f"{folder}: no folder {inside!r} in it; is it the folder that the publisher's archive has?"
        )
    return sorted(
        str(PurePosixPath(inside) / entry.name)
        for entry in path.iterdir()
        if entry.suffix.lower() in (*FORMATS, *DICOM_SUFFIXES) and not entry.name.startswith(".")
    )


def by_stem(paths: list[str]) -> dict[str, str]:
    """Return {file name without suffix: path}."""
    return {PurePosixPath(path).stem: path for path in paths}
