"""What a section of the report is made of: plain data that the template turns into HTML."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import pandas as pd

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
DIGITS = 4  # decimals on screen; the CSV files have all of them


@dataclass(frozen=True)
class Text:
    """A paragraph. `tone` is plain, note, warning or missing ("not done")."""

    kind: ClassVar[str] = "text"
    text: str
    tone: str = "plain"


@dataclass(frozen=True)
class Facts:
    """Short facts, each a name and a value."""

    kind: ClassVar[str] = "facts"
    items: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Column:
    """One shown column.

    form: text, id, count, number, signed, p, percent, ratio; interval, signed_interval or percent_interval
    (`key` is (low, high)).
    `optional` columns are left out where all rows say the same.
    """

    key: str | tuple[str, str]
    title: str
    form: str = "text"
    digits: int = DIGITS
    optional: bool = False


@dataclass(frozen=True)
class Table:
    """A table as shown, with the whole table as CSV behind its download link."""

    kind: ClassVar[str] = "table"
    title: str
    headers: Sequence[tuple[str, bool]]
    rows: Sequence[Sequence[str]]
    file: str
    csv: str
    strong: frozenset[int] = frozenset()
    note: str = ""

    @property
    def href(self) -> str:
        """`data:` address of the CSV (UTF-8): nothing is fetched."""
        return "data:text/csv;charset=utf-8;base64," + base64.b64encode(self.csv.encode()).decode()


@dataclass(frozen=True)
class Picture:
    """An SVG (as cleaned text) or a PNG (as a data address) with its words."""

    kind: ClassVar[str] = "picture"
    title: str
    caption: str
    svg: str = ""
    address: str = ""
    pixelated: bool = False


@dataclass(frozen=True)
class Details:
    """Blocks that stay folded until asked for (open on paper)."""

    kind: ClassVar[str] = "details"
    title: str
    blocks: Sequence["Block"]


Block = Text | Facts | Table | Picture | Details
Shown = float | str | None  # one cell of a table; missing is None, NaN or ""


@dataclass
class Section:
    """A section with its anchor."""

    id: str
    title: str
    blocks: list[Block] = field(default_factory=list)
    lead: str = ""


def number(value: Shown, digits: int = DIGITS) -> str:
    """Return 0.12341 → `0.1234`, missing → `–`; a minus is a minus sign."""
    if value is None or value == "" or (not isinstance(value, str) and pd.isna(value)):
        return "–"
    try:
        text = f"{float(value):.{digits}f}"
    except (TypeError, ValueError):
        return str(value)
    return text.replace("-", "−") if float(text) else text.replace("-", "")


def signed(value: Shown, digits: int = DIGITS) -> str:
    """Return the number with its sign: `+0.0120`, `−0.0030`."""
    text = number(value, digits)
    return text if text[:1] in "−–" or not text[:1].isdigit() else f"+{text}"


def p_value(value: float | None) -> str:
    """Return a p value with four decimals, so that 0.0496 is not 0.050: `0.0341`, `<0.0001`."""
    if value is None or pd.isna(value):
        return "–"
    return "<0.0001" if float(value) < 0.0001 else f"{float(value):.4f}"


def interval(low: float | None, high: float | None, digits: int = DIGITS, sign: bool = False) -> str:
    """Return `0.81 to 0.87`, or with signs."""
    if low is None or high is None or pd.isna(low) or pd.isna(high):
        return "–"
    form = signed if sign else number
    return f"{form(low, digits)} to {form(high, digits)}"


def form_value(row: pd.Series, column: Column) -> str:
    """Return one cell as text."""
    if isinstance(column.key, tuple):
        low, high = row[column.key[0]], row[column.key[1]]
        if column.form == "percent_interval":
            return f"{text} %" if (text := interval(100 * low, 100 * high, 1, sign=True)) != "–" else text
        return interval(low, high, column.digits, column.form == "signed_interval")
    value = row[column.key]
    if value is None or (not isinstance(value, str) and pd.isna(value)):
        return "–"
    forms = {
        "count": lambda: f"{float(value):,.0f}".replace(",", "\u202f").replace("-", "−"),
        "id": lambda: f"{value:g}" if isinstance(value, float) else str(value),
        "number": lambda: number(value, column.digits),
        "signed": lambda: signed(value, column.digits),
        "p": lambda: p_value(value),
        "ratio": lambda: f"{float(value):g}" if float(value) else "–",
        "percent": lambda: f"{number(100 * float(value), 1)} %",
    }
    return forms[column.form]() if column.form in forms else str(value)


def make_table(
    title: str,
    table: pd.DataFrame,
    columns: Sequence[Column],
    file: str,
    strong: pd.Series | None = None,
    note: str = "",
    download: pd.DataFrame | None = None,
) -> Table:
    """Return a Table with those of `columns` that `table` has; `download` (default: the same rows) is the CSV."""
    known = [
        column
        for column in columns
        if all(key in table.columns for key in (column.key if isinstance(column.key, tuple) else (column.key,)))
    ]
    known = [c for c in known if not (c.optional and len(table) and table[c.key].nunique(dropna=False) == 1)]
    rows = [[form_value(row, column) for column in known] for _, row in table.iterrows()]
    marked = frozenset() if strong is None else frozenset(int(i) for i in strong.to_numpy().nonzero()[0])
    headers = [(column.title, column.form != "text") for column in known]
    csv = harmless(table if download is None else download).to_csv(index=False)
    return Table(title, headers, rows, file, csv, marked, note)


def harmless(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with an apostrophe before text that a spreadsheet would run as a formula (OWASP, CSV injection).

    Only for the report's downloads, which people open: tables that programs read keep every cell as it is.
    """
    return table.map(_no_formula)


def _no_formula(cell: object) -> object:
    if not isinstance(cell, str) or not cell.startswith(FORMULA_STARTS):
        return cell
    try:
        float(cell)
    except ValueError:
        return f"'{cell}"
    return cell


def plain_table(title: str, table: pd.DataFrame, file: str, digits: int = DIGITS, note: str = "") -> Table:
    """Return a Table of every column, numbers by their dtype: for tables whose columns are not known here."""
    columns = []
    for name in table.columns:
        if pd.api.types.is_bool_dtype(table[name]) or not pd.api.types.is_numeric_dtype(table[name]):
            form = "text"
        else:
            whole = (table[name].dropna() % 1 == 0).all()
            form = "count" if whole else "number"
        title_of = str(name).replace("_", " ")
        columns.append(Column(str(name), title_of[:1].upper() + title_of[1:], form, digits))
    return make_table(title, table, columns, file, note=note)
