"""The file of a table, CSV or Parquet, as cells of text; pictures that a Parquet table holds stay bytes.

A file is read as what it says, or refused in one line: every line of a CSV has the header's number of cells, the
delimiter stands in the header, the encoding is UTF-8, that of the byte order mark, or declared.
"""

import codecs
import csv
import io
import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import parquet

from synthgain.datasets.entries.options import TableFormat
from synthgain.datasets.pixels import LFS_POINTER, Held
from synthgain.entry import UNSAFE
from synthgain.runtime.errors import SynthGainError

MAX_ROWS = 10_000_000  # a Parquet file of a few bytes can promise any number of rows
MAX_BYTES = 64 << 30  # and any number of bytes
PARQUET = (".parquet", ".pq")
DELIMITERS = (",", ";", "\t", "|")
# By their first bytes: what is not unpacked, since it could be of any size, and what people take for a table.
FOREIGN = {
    b"\x1f\x8b": "gzip", b"BZh91AY&SY": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd",
    b"PK\x03\x04": "a ZIP archive or an Excel sheet", b"\xd0\xcf\x11\xe0": "an Excel sheet", b"ARROW1": "Feather",
    b"PAR1": "Parquet", b'{"': "JSON", b"[{": "JSON", b"<!": "HTML", b"<html": "HTML", b"<?xml": "XML",
    b"SQLite format": "a database", b"\x80\x02": "a pickle", b"\x80\x03": "a pickle", b"\x80\x04": "a pickle",
    b"\x80\x05": "a pickle", b"%PDF": "PDF", b"\x89PNG": "a picture", b"\x89HDF": "HDF5", b"\x93NUMPY": "a NumPy array",
    b"<stata_dta": "Stata's format", LFS_POINTER: "a Git LFS pointer",
}  # fmt: skip
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"), (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip
_START = 256  # bytes of a file in which its kind shows, after blanks
_UNNAMED = "Unnamed: {}"  # as pandas calls it
_SEPARATOR = re.compile(r'"?sep=([^\r\n])"?\r?\n', re.IGNORECASE)  # Excel's first line
_WRITTEN = {",": ",", ";": ";", "|": "|", "tab": "\t", "space": " "}
_NAMED = {"\t": "tab", " ": "space"}

Value = TypeVar("Value")

csv.field_size_limit(1 << 30)  # run lengths of a mask are long


@dataclass(frozen=True)
class Table:
    """Cells as stripped text, "" where there is none; held: pictures in the table, by column and cell."""

    cells: pd.DataFrame
    held: Held = field(default_factory=dict)


def read_table(path: Path, file: str, form: TableFormat) -> Table:
    """Read a CSV or Parquet file. `file` names it in errors: SynthGainError in one line for all that is doubtful."""
    try:
        if path.suffix.lower() in PARQUET:
            return _parquet(path, file)
        if path.suffix.lower() == ".jsonl":
            return Table(_json_lines(_decoded(path.read_bytes(), file, form, ()), file))
        return Table(_csv(path.read_bytes(), path.suffix.lower(), file, form))
    except SynthGainError:
        raise
    except Exception as error:  # csv and pyarrow raise many kinds; the user needs one line
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise SynthGainError(f"{file}: not a readable table ({reason})") from error


def cell_text(cell: object) -> str:
    """Return a cell as stripped text in composed Unicode (NFC): missing is "", 3.0 is "3", True is "true".

    A date without a time is
    the date alone.
    """
    if type(cell) is not str:  # by far the most are text
        if cell is None or cell is pd.NA or cell is pd.NaT:
            return ""
        if isinstance(cell, bool | np.bool_):
            return str(bool(cell)).lower()
        if isinstance(cell, float | np.floating | Decimal):
            if not np.isfinite(float(cell)):
                return ""
            if not isinstance(cell, Decimal) and abs(cell) >= 2 ** (np.finfo(type(cell)).nmant + 1):
                return _rounded(float(cell))
            return str(int(cell)) if cell == int(cell) else str(cell)
        if isinstance(cell, datetime):
            return str(cell).removesuffix(" 00:00:00")
    text = str(cell).strip().replace("\r\n", "\n")
    if text.isascii() and text.isprintable():
        return text
    return printable(unicodedata.normalize("NFC", text))


def _rounded(number: float) -> str:
    """Return a float as large as those that stand for several whole numbers: 1.5e+16, so that no id is made of it."""
    digits, exponent = f"{number:.16e}".split("e")
    return f"{digits.rstrip('0').rstrip('.')}e{exponent}"


def printable(text: str) -> str:
    """Return text whose characters that would break or disguise what is shown of it are written out (`\\x1b`)."""
    return text if text.isprintable() else UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def text_table(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table with every cell as text (`cell_text`)."""
    columns = {str(name): table.iloc[:, place] for place, name in enumerate(table.columns)}
    return pd.DataFrame({name: [cell_text(cell) for cell in cells] for name, cells in columns.items()}, dtype=object)


def _csv(content: bytes, suffix: str, file: str, form: TableFormat) -> pd.DataFrame:
    text = _decoded(content, file, form, FOREIGN)
    own = "\t" if suffix in (".tsv", ".tab") else ","
    excel = _SEPARATOR.match(text)
    if excel:
        text = text[excel.end() :]
    declared = None if form.delimiter is None else _WRITTEN[form.delimiter]
    delimiter = declared or (excel[1] if excel else _delimiter(text, own, file))
    lines = _lines(text, delimiter, file)
    _, header = next(lines, (0, []))
    if not header:
        raise SynthGainError(f"{file}: the table is empty")
    names = [cell_text(name) for name in header]
    width = max(place for place, name in enumerate(names, start=1) if name)
    rows = [_fitted(line, row, len(names), width, file, delimiter) for line, row in lines]
    if len(rows) > MAX_ROWS:
        raise SynthGainError(f"{file}: holds {len(rows):,} rows (limit {MAX_ROWS:,}); check the file")
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(names)
    cells = [[cell_text(cell) for cell in column] for column in columns]
    kept = [place for place, name in enumerate(names) if name or any(cells[place])]
    named = [names[place] or _UNNAMED.format(place) for place in kept]
    return _frame(named, [cells[place] for place in kept], file)


def _decoded(content: bytes, file: str, form: TableFormat, refused: Iterable[bytes]) -> str:
    """Return the text of a table by its byte order mark, as declared, or as UTF-8; `refused` are starts of FOREIGN."""
    declared = form.encoding
    for start in refused:
        what = FOREIGN[start]
        if content[:_START].lstrip().startswith(start) and declared is None:
            mend = (
                "fetch the file (git lfs pull)" if start == LFS_POINTER else "save it as CSV or Parquet, not compressed"
            )
            raise SynthGainError(f"{file}: not a readable table (it holds {what}, not text); {mend}")
    marked = next((encoding for mark, encoding in _MARKS if content.startswith(mark)), None)
    if marked and declared and not marked.startswith(declared[:6]):
        raise SynthGainError(f"{file}: format.encoding is {declared}, but the file starts as {marked} does")
    try:
        text = content.decode(marked or declared or "utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise SynthGainError(
            f"{file}: line {line} is not {marked or declared or 'UTF-8'}; save it as UTF-8, or declare its encoding, "
            "as in `format: {encoding: latin-1}`"
        ) from error
    text = text.removeprefix("\ufeff")
    if "\0" in text[:10_000]:
        raise SynthGainError(
            f"{file}: holds zero bytes, as UTF-16 does; save it as UTF-8, or declare `format: {{encoding: utf-16-le}}`"
        )
    return text


def _delimiter(text: str, own: str, file: str) -> str:
    """Return what divides the header: the file kind's own delimiter where it stands there, else the only one."""
    found = [one for one in DELIMITERS if len(next(_lines(text, one, file), (0, []))[1]) > 1]
    if not found or own in found:
        return own
    if len(found) > 1:
        shown = " and ".join(_NAMED.get(one, one) for one in found)
        raise SynthGainError(f"{file}: {shown} stand in the header; declare `format: {{delimiter: …}}`")
    return found[0]


def _lines(text: str, delimiter: str, file: str) -> Iterator[tuple[int, list[str]]]:
    """Yield (number, cells) of the lines that hold anything."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True, skipinitialspace=True)
    try:
        for row in reader:
            if any(cell and not cell.isspace() for cell in row):
                yield reader.line_num, row
    except csv.Error as error:
        raise SynthGainError(f"{file}: line {reader.line_num}: {error}; check its quotation marks") from error


def _fitted(line: int, row: list[str], cells: int, width: int, file: str, delimiter: str) -> list[str]:
    """Return a line as so many cells as the header has; only empty cells may be more or fewer.

    width: the header's cells up to its last name.
    """
    if len(row) > cells and not any(cell.strip() for cell in row[cells:]):
        return row[:cells]
    if width <= len(row) <= cells:
        return row + [""] * (cells - len(row))
    hint = f"put a cell that holds {_NAMED.get(delimiter, delimiter)!r} in quotation marks"
    if len(row) == cells + 1:
        hint += ", or name the column of row names in the header"
    elif len(row) == 1 or width == 1:
        hint = "declare `format: {delimiter: …}`, or take out lines that are no part of the table"
    raise SynthGainError(f"{file}: line {line} has {len(row)} cells, the header {width}; {hint}")


def _frame(names: Sequence[str], columns: Sequence[list[str]], file: str) -> pd.DataFrame:
    """Return columns by name; a name that stands twice is refused unless both columns hold the same."""
    found: dict[str, list[str]] = {}
    for name, column in zip(names, columns, strict=True):
        if found.setdefault(name, column) != column:
            raise SynthGainError(f"{file}: two columns are named {name!r}; rename one, or leave one out")
    return pd.DataFrame(found, dtype=object)


def _json_lines(content: str, file: str) -> pd.DataFrame:
    """One object a line; keys that a line lacks are empty, an object in it is one column per key, `box.x`."""
    rows: list[dict[str, str]] = []
    for line, text in enumerate(content.split("\n"), start=1):
        if not text.strip():
            continue
        try:
            found = json.loads(text, object_pairs_hook=_once)
            if not isinstance(found, dict):
                raise ValueError("one JSON object a line is wanted")
            rows.append(_once(list(_json_cells("", found))))
        except (ValueError, RecursionError) as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error).partition(";")[0]
            reason = "nested too deeply" if isinstance(error, RecursionError) else reason
            raise SynthGainError(f"{file}: line {line} is not read ({reason})") from error
    names = list(dict.fromkeys(name for row in rows for name in row))
    return pd.DataFrame({name: [row.get(name, "") for row in rows] for name in names}, dtype=object)


def _once(pairs: list[tuple[str, Value]]) -> dict[str, Value]:
    """Return pairs as a dictionary; ValueError for a key that stands in them twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} is given twice")
    return found


def _json_cells(name: str, value: object) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _json_cells(f"{name}.{cell_text(key)}".removeprefix("."), inner)
    elif isinstance(value, list):
        yield name, "|".join(cell_text(part) for part in value)
    else:
        yield name, cell_text(value)


def _parquet(path: Path, file: str) -> Table:
    """Every column that the file holds, an index that pandas wrote too."""
    source = parquet.ParquetFile(path)
    facts = source.metadata
    if facts.num_rows > MAX_ROWS:
        raise SynthGainError(f"{file}: promises {facts.num_rows:,} rows (limit {MAX_ROWS:,}); check the file")
    promised = sum(facts.row_group(group).total_byte_size for group in range(facts.num_row_groups))
    if promised > MAX_BYTES:
        raise SynthGainError(f"{file}: promises {promised >> 30:,} GiB (limit {MAX_BYTES >> 30}); check the file")
    table = source.read()
    names: list[str] = []
    columns: list[list[str]] = []
    held: dict[str, dict[str, bytes]] = {}
    for place, field_name in enumerate(table.column_names):
        for name, column in _flat(str(field_name), table.column(place), file):
            if isinstance(column, _Pictures):
                cells, held[name] = column.named()
            else:
                cells = _texts(name, column, file)
            names.append(cell_text(name))
            columns.append(cells)
    return Table(_frame(names, columns, file), held)


@dataclass(frozen=True)
class _Pictures:
    """A column of encoded pictures, with a name for each where the file has one."""

    contents: list[bytes | None]
    paths: list[str | None]

    def named(self) -> tuple[list[str], dict[str, bytes]]:
        """Return a cell for each row and the picture of each cell.

        A picture goes by its name, or by its row; names that several pictures share get their row too.
        """
        known: dict[str, set[bytes]] = {}
        for content, path in zip(self.contents, self.paths, strict=True):
            if content is not None and path:
                known.setdefault(cell_text(path), set()).add(content)
        cells: list[str] = []
        held: dict[str, bytes] = {}
        for row, (content, path) in enumerate(zip(self.contents, self.paths, strict=True)):
            cell = cell_text(path)
            if content is not None:
                if not cell or len(known[cell]) > 1:
                    cell = f"{cell}#row-{row}".removeprefix("#")
                held[cell] = content
            cells.append(cell)
        return cells, held


def _flat(name: str, column: pa.ChunkedArray, file: str) -> Iterator[tuple[str, "pa.ChunkedArray | _Pictures"]]:
    """Yield the columns in a column: one for each field of a structure, but pictures whole."""
    while isinstance(column.type, pa.BaseExtensionType):
        column = pa.chunked_array([chunk.storage for chunk in column.chunks], column.type.storage_type)
    if pa.types.is_struct(column.type):
        fields = [column.type.field(place).name for place in range(column.type.num_fields)]
        inside = dict(zip(fields, column.flatten(), strict=True))
        if (
            set(fields) <= {"bytes", "path"}
            and "bytes" in fields
            and (_is_binary(inside["bytes"].type) or pa.types.is_null(inside["bytes"].type))
        ):
            contents = inside["bytes"].to_pylist()  # as Hugging Face data sets keep pictures
            yield name, _Pictures(contents, inside["path"].to_pylist() if "path" in inside else [None] * len(contents))
            return
        for key, part in inside.items():
            yield from _flat(f"{name}.{key}", part, file)
    elif _is_binary(column.type):
        contents = column.to_pylist()
        texts = [_as_text(content) for content in contents]
        if all((text is None) == (content is None) for text, content in zip(texts, contents, strict=True)):
            yield name, pa.chunked_array([pa.array(texts, pa.string())])  # some writers mark no column as text
        else:
            yield name, _Pictures(contents, [None] * len(contents))
    else:
        yield name, column


def _is_binary(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_fixed_size_binary(kind)
        or pa.types.is_binary_view(kind)
    )


def _as_text(content: bytes | None) -> str | None:
    try:
        return None if content is None or b"\0" in content else content.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _texts(name: str, column: pa.ChunkedArray, file: str) -> list[str]:
    """Return a column's cells; lists of plain values as `a|b`."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _texts(name, column.cast(kind.value_type), file)
    if pa.types.is_float16(kind) or pa.types.is_float32(kind):  # 0.1 of 32 bits is 0.1, not 0.10000000149011612
        shortest = [None if value is None else np.float32(value) for value in column.to_pylist()]
        return [cell_text(value) for value in shortest]
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        if pa.types.is_nested(kind.value_type) or _is_binary(kind.value_type):
            raise SynthGainError(f"{file}: column {name!r} holds {kind}, which is not read; leave it out")
        return ["|".join(cell_text(value) for value in cell or []) for cell in column.to_pylist()]
    if pa.types.is_nested(kind) or pa.types.is_union(kind):
        raise SynthGainError(f"{file}: column {name!r} holds {kind}, which is not read; leave it out")
    return [cell_text(cell) for cell in column.to_pylist()]
