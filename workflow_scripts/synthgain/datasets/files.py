"""Finding a picture by the cell that names it: below the images' folder, or held by the table itself.

Paths from Windows and names in another Unicode form are found; for all else that is nearly right there is a hint.
"""

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePosixPath, PureWindowsPath
from urllib.parse import unquote

from synthgain.datasets.pixels import Held, UnreadableImage

LISTINGS = 1024  # folders whose names are kept in memory


@dataclass(frozen=True)
class Pictures:
    """Where the pictures of a table are: `folder` for paths, `held` for those in the table."""

    folder: Path
    held: Held = field(default_factory=dict)

    def find(self, column: str, cell: str, what: str = "") -> Path | bytes:
        """Return the file, or the bytes, of a cell. UnreadableImage where there is none, with `what` before it."""
        for held in (self.held[column],) if column in self.held else ():
            if cell in held:
                return held[cell]
        return find_file(self.folder, cell, what)


def is_below(text: str) -> bool:
    """Whether a relative path stays in its folder: not empty, not absolute (POSIX or Windows), no '..'."""
    windows = PureWindowsPath(text)
    absolute = PurePosixPath(text).is_absolute() or bool(windows.drive or windows.root)
    return bool(text) and not absolute and ".." not in windows.parts


def plain_path(text: str) -> str:
    """Return a path as two cells that mean one file have it: forward slashes, composed letters, no `./`."""
    return str(PurePosixPath(unicodedata.normalize("NFC", text.replace("\\", "/"))))


def find_file(folder: Path, text: str, what: str = "") -> Path:
    """Return folder / text, whatever the slashes and the Unicode form of its names.

    Raises UnreadableImage where that would leave the folder or there is no such file, naming one that is nearly so.
    """
    if not is_below(text):
        raise UnreadableImage(f"{what}path is empty, absolute or holds '..'; paths are relative to the images folder")
    path = folder / text
    try:
        if path.is_file():
            return path
        found = _by_other_form(folder, text) or _by_other_form(folder, text.replace("\\", "/"))
        if found is not None:
            return found
        near = next(_nearly(folder, text.replace("\\", "/")), None)
    except (OSError, ValueError) as error:  # no permission, a name longer than the file system takes
        raise UnreadableImage(f"{what}file cannot be opened ({getattr(error, 'strerror', None) or error})") from error
    raise UnreadableImage(f"{what}file not found" + (f"; there is {near!r}" if near else ""))


def _by_other_form(folder: Path, text: str) -> Path | None:
    """Return the file whose names equal those of a path but for the Unicode form."""
    place = folder
    for part in PurePosixPath(text).parts:
        inside = place / part
        if not inside.exists():
            wanted = unicodedata.normalize("NFC", part)
            same = [name for name in _names(place) if unicodedata.normalize("NFC", name) == wanted]
            if not same:
                return None
            inside = place / same[0]
        place = inside
    return place if place.is_file() else None


def _nearly(folder: Path, text: str) -> Iterator[str]:
    """Yield files in the folder of a path that differ from it in case, spaces, URL encoding or the suffix."""
    path = PurePosixPath(unquote(text))
    for inside in dict.fromkeys((str(path.parent), str(PurePosixPath(text).parent), ".")):
        for wanted, part in ((_loose(path.name), _loose), (_loose(path.stem), lambda name: _loose(Path(name).stem))):
            for name in _names(folder / inside) if is_below(inside) else ():
                if part(name) == wanted and (folder / inside / name).is_file():
                    yield str(PurePosixPath(inside) / name)


def _loose(name: str) -> str:
    return "".join(unicodedata.normalize("NFKC", unquote(name)).casefold().split())


def _names(folder: Path) -> tuple[str, ...]:
    return _listed(folder, folder.stat().st_mtime_ns) if folder.is_dir() else ()


@lru_cache(maxsize=LISTINGS)
def _listed(folder: Path, changed: int) -> tuple[str, ...]:
    return tuple(sorted(entry.name for entry in folder.iterdir()))
