"""Which spellings are one value: numbers, truths, missing words, ids.

A number is the same value however it is written (1, 1.0, 1e0, +1), and true and false are also 1 and 0. Leading zeros
make a code, not a number: 007, 07 and 7 stay three.
"""

import math
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Generic, TypeVar

# Words that programs and people write for "unknown"; which of them a table means so is for its user to say.
MISSING = frozenset(
    ("na", "n/a", "#n/a", "<na>", "nan", "nat", "null", "none", "nil", "-", "--", "?", ".", "unknown", "missing")
)
SHOWN = 80  # characters of a cell that a reason quotes
EXAMPLES = 3  # cells that a message names
_NUMBER = re.compile(r"[+-]?(?:0|[1-9][0-9]*)?(?:\.[0-9]*)?(?:[eE][+-]?[0-9]{1,2})?")
_PLAIN = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?")
_WHOLE_AS_FLOAT = re.compile(r"([+-]?[0-9]+)\.0+")
_SHORTENED = re.compile(r"[0-9](?:[.,][0-9]+)?[eE]\+[0-9]{1,2}")
_AGE = re.compile(r"([0-9]{1,3})([DWMY])", re.IGNORECASE)
_PER_YEAR = {"D": 365.25, "W": 365.25 / 7, "M": 12.0, "Y": 1.0}

Meaning = TypeVar("Meaning")


def quoted(cell: str) -> str:
    """Return a cell as a message shows it."""
    return repr(cell if len(cell) <= SHOWN else f"{cell[:SHOWN]}…")


def listed(cells: Iterable[str]) -> str:
    """Return the first of some cells as a message names them."""
    cells = list(cells)
    return ", ".join(map(quoted, cells[:EXAMPLES])) + (" …" if len(cells) > EXAMPLES else "")


def declared_text(value: object) -> str:
    """Return a value of the config as a table would have it: text as it is, True as "true", 1.0 as "1"."""
    text = unicodedata.normalize("NFC", str(value).strip())
    return text if isinstance(value, str) else spelling(text)


def spelling(text: str) -> str:
    """Return the one spelling of a number or truth (-1.0: "-1", TRUE: "true"); any other text as it is."""
    if text.lower() in ("true", "false"):
        return text.lower()
    if not _NUMBER.fullmatch(text) or not any(character.isdigit() for character in text.split("e")[0]):
        return text
    try:
        number = Decimal(text)
    except ArithmeticError:
        return text
    return str(int(number)) if number == number.to_integral_value() else format(number.normalize(), "f")


_TRUTHS = {"true": "1", "false": "0", "1": "true", "0": "false"}


class Lookup(Generic[Meaning]):
    """What declared values mean, found for a cell by its text, else as a number or truth of any spelling."""

    def __init__(self, declared: Mapping[str, Meaning]) -> None:
        """ValueError where two spellings of one value mean different things."""
        self._exact = {declared_text(value): meaning for value, meaning in declared.items()}
        self._spelt: dict[str, Meaning] = {}
        for value, meaning in self._exact.items():
            if self._spelt.setdefault(spelling(value), meaning) != meaning:
                other = next(v for v in self._exact if spelling(v) == spelling(value))
                raise ValueError(f"{other!r} and {value!r} are one value and mean two things")
        for value, meaning in list(self._spelt.items()):
            if value in _TRUTHS:
                self._spelt.setdefault(_TRUTHS[value], meaning)

    def __contains__(self, cell: str) -> bool:
        return cell in self._exact or spelling(cell) in self._spelt

    def __getitem__(self, cell: str) -> Meaning:
        return self._exact[cell] if cell in self._exact else self._spelt[spelling(cell)]

    def of(self, cell: str, otherwise: Meaning) -> Meaning:
        """Return what a cell means, or `otherwise`."""
        if cell in self:
            return self[cell]
        return otherwise

    def __iter__(self) -> Iterator[str]:
        return iter(self._exact)


def values_of(declared: Iterable[object]) -> Lookup[str]:
    """Return a lookup of values that mean themselves, as they are declared."""
    return Lookup({declared_text(value): declared_text(value) for value in declared})


def number(text: str, decimal: str = ".") -> float | None:
    """Return a cell as a finite number: plain digits, or an age as DICOM writes it (045Y, 18M: in years), else None."""
    age = _AGE.fullmatch(text)
    if age:
        return int(age[1]) / _PER_YEAR[age[2].upper()]
    if decimal != ".":
        if "." in text:
            return None
        text = text.replace(decimal, ".")
    if not _PLAIN.fullmatch(text):
        return None
    value = float(text)
    return value if math.isfinite(value) else None


def looks_missing(text: str) -> bool:
    """Whether a cell is a word that often stands for "unknown"."""
    return text.lower() in MISSING


def id_text(cell: str) -> str:
    """Return an id: a whole number that became a decimal on its way (12.0) is that number; else as it is."""
    found = _WHOLE_AS_FLOAT.fullmatch(cell)
    return found[1] if found else cell


def is_shortened(cell: str) -> bool:
    """Whether an id is what a spreadsheet leaves of a long number (1.23457E+15): several ids look alike then."""
    return bool(_SHORTENED.fullmatch(cell))


def id_key(cell: str) -> str:
    """Return what ids have in common that differ only in spelling.

    Left out are case, spaces, Unicode forms (NFKC), leading zeros of whole numbers, and a decimal part of zeros.
    """
    text = "".join(unicodedata.normalize("NFKC", id_text(cell)).casefold().split())
    return text.lstrip("0") or "0" if text.isdecimal() else text
