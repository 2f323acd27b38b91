"""Prompts: the text of a table row, a pure function of the row.

What is unknown is not mentioned. What is absent is not mentioned either, unless `say_absent`. A sentence that would
need an unknown value is left out as a whole; a part in square brackets alone, so that the rest of its sentence stays.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from string import Formatter

import numpy as np
import pandas as pd

from synthgain.data.image_set import Columns
from synthgain.data.options import Prompt
from synthgain.data.templates import FINDINGS, fields_of
from synthgain.runtime.errors import SynthGainError

COLUMN = "prompt"  # of an image table: the text that an image was drawn for
MAX_CHARACTERS = 2000
_SENTENCE = re.compile(r"[^.]*\.?")  # a template is cut after each full stop that stands outside of its fields
_OPTIONAL = re.compile(r"\[([^\[\]]*)\]")


@dataclass(frozen=True)
class Texts:
    """Prompts of a table's rows, and which findings each names.

    prompts: N texts; named: (N, F) bool of the F `findings`, in their order.
    """

    prompts: list[str]
    findings: tuple[str, ...]
    named: np.ndarray


def findings_of(prompt: Prompt, columns: Columns) -> tuple[str, ...]:
    """Return the targets that count as findings. Raises SynthGainError for one that is not a binary target."""
    binary = [name for name, spec in columns.items() if spec["role"] == "target" and spec["kind"] == "binary"]
    for name in prompt.of or ():
        if name not in binary:
            raise SynthGainError(f"prompt: {name!r} is no binary target; there are {', '.join(binary) or 'none'}")
    return tuple(prompt.of or binary)


def texts_of(
    table: pd.DataFrame, columns: Columns, prompt: Prompt, replica: int = 1, order: np.random.Generator | None = None
) -> Texts:
    """Return the prompts of all rows.

    replica: 1, 2 …: with `findings: one` replica k names the k-th of a row's positives, by turns. order: shuffles the
    findings of each row, as in training; without it they stand in the columns' order.
    Raises SynthGainError for a column that is not there, or a row whose text is empty or too long.
    """
    if prompt.column is not None:
        if prompt.column not in table:
            raise SynthGainError(f"prompt: the table has no column {prompt.column!r}")
        texts = ["" if pd.isna(cell) else " ".join(str(cell).split()) for cell in table[prompt.column]]
        mend = f"leave out rows without a text in {prompt.column!r} (the data set's `where`), or fill it"
        return Texts(_checked(texts, table, mend), (), np.zeros((len(table), 0), bool))
    findings = findings_of(prompt, columns)
    lacking = [name for name in fields_of(prompt, "prompt") if name != FINDINGS and name not in table]
    lacking += [name for name in findings if name not in table]
    if lacking:
        raise SynthGainError(f"prompt: the table has no column {lacking[0]!r}")
    values = table[list(findings)].apply(pd.to_numeric, errors="coerce").to_numpy(float).reshape(len(table), -1)
    named = _named(values, prompt, replica)
    prompts = []
    for row, (_, cells) in enumerate(table.iterrows()):
        told = {name: _value(cells[name], name, prompt) for name in fields_of(prompt, "prompt") if name != FINDINGS}
        told[FINDINGS] = _phrase(values[row], named[row], findings, prompt, order)
        prompts.append(_filled(str(prompt.template), told))
    return Texts(_checked(prompts, table, "let the template name something that is always known"), findings, named)


def relabelled(table: pd.DataFrame, texts: Texts, prompt: Prompt) -> pd.DataFrame:
    """Return the table with labels that a prompt of one finding does not name unknown, or absent, and with the prompts.

    With `findings: all` every label stays what it was.
    """
    made = table.copy()
    if prompt.template is not None and prompt.findings != "all":
        replaced = np.nan if prompt.others == "unknown" else 0.0
        positive = table[list(texts.findings)].to_numpy(float) == 1
        normal = ~positive.any(axis=1)  # a row in which nothing is positive says so, and keeps its labels
        for place, name in enumerate(texts.findings):
            gone = ~texts.named[:, place] & ~(normal & (prompt.findings == "one"))
            made[name] = table[name].mask(pd.Series(gone, index=table.index), replaced)
    return made.assign(**{COLUMN: texts.prompts})


ALWAYS = frozenset("0123456789") | {",", "and"}  # what numbers and lists of findings are made of


def words_of(text: str) -> list[str]:
    """Return a text's words in lower case: runs of letters, single digits, and punctuation marks."""
    return re.findall(r"[^\W\d_]+|\d|[^\w\s]", text.lower())


def vocabulary_of(texts: Collection[str]) -> list[str]:
    """Return the closed vocabulary of these texts, sorted; digits and what joins findings are always in it."""
    return sorted({word for text in texts for word in words_of(text)} | ALWAYS)


def _named(values: np.ndarray, prompt: Prompt, replica: int) -> np.ndarray:
    positive = values == 1
    if prompt.findings == "none":
        return np.zeros_like(positive)
    if prompt.findings == "all":
        return positive
    counts = positive.sum(axis=1)
    rank = np.cumsum(positive, axis=1) - 1  # of each positive among its row's
    turn = (replica - 1) % np.maximum(counts, 1)
    return np.asarray(positive & (rank == turn[:, None]))


def _phrase(
    values: np.ndarray, named: np.ndarray, findings: Sequence[str], prompt: Prompt, order: np.random.Generator | None
) -> str | None:
    """Return the words for a row's findings; None where nothing is known of them."""
    if prompt.findings == "none" or not len(values):
        return None
    positive = [text for name, here in zip(findings, named, strict=True) if here and (text := _said(name, prompt))]
    if order is not None:
        positive = [positive[i] for i in order.permutation(len(positive))]
    absent = []
    if prompt.say_absent:
        said = [_said(name, prompt) for name, value in zip(findings, values, strict=True) if value == 0]
        absent = ["no " + text for text in said if text]
    if not positive and not absent:
        return prompt.none if (values == 0).all() else None
    parts = [*positive, *absent]
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _said(name: str, prompt: Prompt) -> str:
    """Return the words for a column or a level."""
    return prompt.words.get(name, name.replace("_", " "))


def _value(cell: object, name: str, prompt: Prompt) -> str | None:
    if cell is None or pd.isna(cell):  # type: ignore[call-overload]
        return None
    text = f"{round(float(cell)):d}" if isinstance(cell, float | np.floating) else str(cell)
    return _said(text, prompt).strip() or None


def _filled(template: str, told: dict[str, str | None]) -> str:
    """Return the template with its fields filled in; parts and sentences that name something unknown are left out."""

    def part(text: str) -> str | None:
        names = [name for _, name, _, _ in Formatter().parse(text) if name is not None]
        if any(told[name] is None for name in names):
            return None
        return text.format(**told)

    kept = []
    for sentence in _SENTENCE.findall(template):
        whole = part(_OPTIONAL.sub(lambda found: _plain(part(found[1])), sentence))
        if whole is not None and whole.strip(" ."):
            kept.append(" ".join(whole.split()))
    return " ".join(kept)


def _plain(text: str | None) -> str:
    """Return a filled part so that it is not taken for a template again."""
    return "" if text is None else text.replace("{", "{{").replace("}", "}}")


def _checked(prompts: list[str], table: pd.DataFrame, mend: str) -> list[str]:
    for row, text in enumerate(prompts):
        if not text or len(text) > MAX_CHARACTERS:
            image = table["image_id"].iloc[row] if "image_id" in table else f"row {row}"
            what = f"is longer than {MAX_CHARACTERS} characters" if text else f"is empty: {mend}"
            raise SynthGainError(f"{image}: its prompt {what}")
    return prompts
