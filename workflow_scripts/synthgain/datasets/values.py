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
    (
        "na", "n/a", "n.a.", "n.a", "#n/a", "#na", "<na>", "nan", "-nan", "nat", "null", "(null)", "\\n", "none", "nil",
        "-", "--", "---", "?", "??", ".", "..", "unknown", "missing", "undefined", "not available", "not applicable",
        "not reported", "not recorded", "#ref!", "#value!", "#div/0!", "#name?", "#num!", "#null!", "#error!",
    )
)  # fmt: skip
SHOWN = 80  # characters of a cell that a reason quotes
EXAMPLES = 3  # cells that a message names
_NUMBER = re.compile(r"[+-]?(?:0|[1-9][0-9]*)?(?:\.[0-9]*)?(?:[eE][+-]?[0-9]{1,2})?")
_PLAIN = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?")
_WHOLE_AS_FLOAT = re.compile(r"([+-]?[0-9]+)\.0*")
_THOUSANDS = re.compile(r"[0-9]{1,3}(?:[,'\u2019][0-9]{3})+")
_AS_TEXT = re.compile(r"'(.+)|=\"(.*)\"")  # how spreadsheets keep 007 from becoming 7
_DASH = re.compile(r"[\u2010-\u2015\u2212]")
_UNSEEN = "Cf"  # Unicode's category of zero-width spaces, soft hyphens, byte order marks
_ZEROS = re.compile(r"(?<![0-9.])0+(?=[0-9])")
_WIDE = {0x2212: "-"} | {0xFEE0 + ord(letter): letter for letter in "0123456789+-.eE"}
_MIDNIGHT = "00:00:00"  # of a date that became a time
_KEPT_DIGITS = 15  # that a spreadsheet keeps of a number; the others become zeros
_TOO_MANY = 3  # long ids that end in zeros by no chance
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


def plain_digits(text: str) -> str:
    """Return text with full-width digits and signs, and the minus of typesetters, as ASCII has them."""
    return text if text.isascii() else text.translate(_WIDE)


def spelling(text: str) -> str:
    """Return the one spelling of a number or truth (-1.0: "-1", TRUE: "true"); any other text as it is."""
    written, text = text, plain_digits(text)
    if text.lower() in ("true", "false"):
        return text.lower()
    if not _NUMBER.fullmatch(text) or not any(character.isdigit() for character in text.split("e")[0]):
        return written
    try:
        number = Decimal(text)
    except ArithmeticError:
        return written
    return str(int(number)) if number == number.to_integral_value() else format(number.normalize(), "f")


# As torchvision's users, Hugging Face's `imagefolder` and published tables call them.
_PARTS = {
    "train": "train", "training": "train", "trn": "train",
    "val": "validation", "valid": "validation", "validation": "validation", "validate": "validation",
    "dev": "validation", "development": "validation",
    "test": "test", "testing": "test", "tst": "test", "eval": "test", "evaluation": "test", "holdout": "test",
}  # fmt: skip
PART_WORDS = tuple(_PARTS)
_OF_A_PART = re.compile(r"(?:dataset|data|set|images?|imgs?|split|part|files)$")  # training_set, test images

TRUTHS = {"true": "1", "false": "0", "1": "true", "0": "false"}


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
            if value in TRUTHS:
                self._spelt.setdefault(TRUTHS[value], meaning)

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
    text = plain_digits(text)
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


def part_of(word: str) -> str | None:
    """Return the part of a split (train, validation, test) that a word of any case stands for, None for other words."""
    text = re.sub(r"[\s_-]", "", unicodedata.normalize("NFKC", word).casefold())
    plain = _OF_A_PART.sub("", text)
    return next((_PARTS[form] for form in (text, plain) if form in _PARTS), None)


def looks_missing(text: str) -> bool:
    """Whether a cell is a word that often stands for "unknown"."""
    return text.lower() in MISSING


def id_text(cell: str) -> str:
    """Return an id: a whole number that became a decimal on its way (12.0) is that number; else as it is."""
    found = _WHOLE_AS_FLOAT.fullmatch(cell)
    return found[1] if found else cell


def shortened(cells: Iterable[str]) -> list[str]:
    """Return the ids that are what is left of longer numbers, so that several may look alike.

    1.23457E+15 is one by itself (a spreadsheet, or a column of floats); numbers of more than 15 digits are where all of
    them end in zeros.
    """
    cells = list(cells)
    found = [cell for cell in cells if _SHORTENED.fullmatch(cell)]
    long = [cell for cell in cells if len(cell) > _KEPT_DIGITS and cell.isdecimal() and cell[0] != "0"]
    rounded = len(long) >= _TOO_MANY and not any(cell[_KEPT_DIGITS:].strip("0") for cell in long)
    return [*found, *(long if rounded else [])]


def id_key(cell: str) -> str:
    """Return what ids have in common that differ only in spelling.

    Left out are case, spaces, what nobody sees, Unicode forms (NFKC) and kinds of dashes; leading zeros of numbers,
    alone and in words (P007); a decimal part of zeros, separators of thousands, midnight after a date; and the marks by
    which spreadsheets keep a number a text.
    """
    text = cell
    if not text.isascii():
        seen = "".join(letter for letter in text if unicodedata.category(letter) != _UNSEEN)
        text = _DASH.sub("-", unicodedata.normalize("NFKC", seen))
    as_text = _AS_TEXT.fullmatch(text)
    text = id_text((as_text[1] or as_text[2] or "") if as_text else text).removesuffix(_MIDNIGHT)
    if _THOUSANDS.fullmatch(text):
        text = re.sub(r"[^0-9]", "", text)
    return _ZEROS.sub("", "".join(text.casefold().split()))
