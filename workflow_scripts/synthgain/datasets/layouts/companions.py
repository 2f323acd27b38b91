"""Tables that come with published sets, read with every cell as text; what is missing is said in one line."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from synthgain.entry import nearest
from synthgain.runtime.errors import SynthGainError

# What programs write for a blank cell. No column of a published table has such a word as a value.
_BLANK = (
    "nan",
    "NaN",
    "NAN",
    "-nan",
    "<NA>",
    "NA",
    "N/A",
    "n/a",
    "#N/A",
    "NaT",
    "null",
    "NULL",
    "None",
    "none",
    "NONE",
)


def companion(folder: Path, names: tuple[str, ...], get: str) -> pd.DataFrame:
    """Return the first of these tables that is there (.csv, .csv.gz, .xlsx); SynthGainError where none is."""
    found = optional_companion(folder, names)
    if found is None:
        raise SynthGainError(f"{folder}: no {' or '.join(names)} in it; {get}")
    return found


def optional_companion(folder: Path, names: tuple[str, ...]) -> pd.DataFrame | None:
    """Return the first of these tables that is there, or None."""
    path = next((folder / name for name in names if (folder / name).is_file()), None)
    if path is None:
        return None
    try:
        if path.suffix == ".xlsx":
            table = pd.read_excel(path, dtype=str, keep_default_na=False)
        else:
            table = pd.read_csv(
                path,
                dtype=str,
                keep_default_na=False,
                encoding="utf-8-sig",
                compression="gzip" if path.suffix == ".gz" else None,
                index_col=False,
            )
    except ImportError as error:
        raise SynthGainError(
            f"{path}: reading Excel files needs openpyxl; install it, or save the table as {path.stem}.csv beside it"
        ) from error
    except Exception as error:  # pandas raises many kinds; the user needs one line
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise SynthGainError(f"{path}: not a readable table ({reason})") from error
    table.columns = [str(name).strip() for name in table.columns]
    return table.mask(table.isin(_BLANK), "")


def same_release(keys: Iterable[str], wanted: Iterable[str], file: object, what: str) -> None:
    """Raise SynthGainError where a companion names none of the films, studies or patients (`what`) of the set.

    Joined all the same it would make every label or covariate unknown, or every film negative.
    """
    named = set(keys)
    if named and not named & set(wanted):
        raise SynthGainError(
            f"{file}: it names none of the set's {what} (its first is {next(iter(keys))!r}); is it of the same release?"
        )


def one_row_each(table: pd.DataFrame, key: str, columns: Sequence[str], file: object) -> pd.DataFrame:
    """Return these columns with `key` as index, a row for each; SynthGainError where two rows of a key disagree."""
    rows = table[[key, *columns]].drop_duplicates()
    twice = rows[key].duplicated()
    if twice.any():
        name = rows.loc[twice, key].iloc[0]
        both = rows[rows[key] == name].iloc[:2]
        differing = next(column for column in columns if both[column].nunique() > 1)
        values = " and ".join(map(repr, both[differing]))
        raise SynthGainError(f"{file}: {key} {name!r} has two rows, with {differing!r} {values}; take one of them out")
    return rows.set_index(key)


def words_of(cells: pd.Series, known: Mapping[str, str], file: object) -> pd.Series:
    """Return what each cell's word stands for, "" for a blank one; SynthGainError for a word that is not known."""
    words = cells.fillna("").astype(str).str.strip()
    strange = words[(words != "") & ~words.isin(known)]
    if len(strange):
        raise SynthGainError(f"{file}: {cells.name!r} holds {strange.iloc[0]!r}; {nearest(strange.iloc[0], known)}")
    return words.map(known).fillna("")


def numbers_of(cells: pd.Series, file: object) -> pd.Series:
    """Return cells as numbers, NaN for a blank one; SynthGainError for one that is no number."""
    words = cells.fillna("").astype(str).str.strip()
    numbers = pd.to_numeric(words, errors="coerce")
    strange = words[(words != "") & numbers.isna()]
    if len(strange):
        raise SynthGainError(
            f"{file}: {cells.name!r} holds {strange.iloc[0]!r}, which is no number; write it as the release has it, or "
            "leave the cell blank"
        )
    return numbers


def lines_of(path: Path) -> list[str]:
    """Return the lines of a list of file names, without blank ones."""
    return [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
