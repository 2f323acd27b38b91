"""The answers that readers sent back: read, held against kit and key, and made a table."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from synthgain.entry import shown
from synthgain.readers.kit import KitFacts, Secret
from synthgain.readers.options import Code, Panel
from synthgain.readers.questions import Question, questions_of
from synthgain.readers.sealing import chain_start, chained, closing_code, reader_token
from synthgain.runtime.errors import SynthGainError

FORMAT = 1  # of an answer file; a page that writes another says so
MOST_BYTES = 64 * 2**20  # of an answer file; 5,000 images with ten questions are 10 MB


# What a page writes: no text of a file that others wrote can break the line of an error.
Hex16 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Word = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,100}$")]


class Answer(BaseModel):
    """One answer, as the page writes it."""

    model_config = ConfigDict(extra="forbid", strict=True)

    phase: int
    position: int = Field(ge=0)
    item: Hex16
    repeat: bool
    question: Word
    value: int
    milliseconds: int = Field(ge=0, le=2**53)
    digest: Digest


class Answers(BaseModel):
    """One reader's file."""

    model_config = ConfigDict(extra="forbid", strict=True)

    format: int = 1
    panel: Word
    kit: Hex16
    reader: Word
    finished: bool
    code: Code
    answers: list[Answer]


def read_answers(path: Path) -> Answers:
    """Read one file. SynthGainError where it is not one that a page exported."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise SynthGainError(f"{path}: larger than {MOST_BYTES // 2**20} MB: no file that a reader's page exports")
        found = json.loads(path.read_text(encoding="utf-8-sig"))  # an editor may have put a mark in front
        if isinstance(found, dict) and isinstance(form := found.setdefault("format", FORMAT), int) and form != FORMAT:
            raise SynthGainError(
                f"{path}: written by a page of format {form}, and this SynthGain reads {FORMAT}; use "
                "the version that made "
                "the kit"
            )
        return Answers.model_validate(found)
    except (OSError, UnicodeDecodeError, RecursionError) as error:
        raise SynthGainError(f"{path}: cannot be read ({str(error).splitlines()[0]})") from None
    except ValidationError as error:
        first = error.errors()[0]
        place = shown(".".join(map(str, first["loc"])))
        raise SynthGainError(
            f"{path}: not answers of a reader's page, or changed since ({place}: {first['msg']}); ask "
            "the reader to export "
            "again"
        ) from None
    except ValueError as error:
        raise SynthGainError(f"{path}: not valid JSON ({error}); ask the reader to export again") from None


def ratings(
    panel: Panel, facts: KitFacts, secret: Secret, key: pd.DataFrame, files: Mapping[str, Answers]
) -> pd.DataFrame:
    """Return all answers, a row each: reader, phase, position, item, repeat, question, value, seconds.

    files: {file name: what it holds}. SynthGainError names the file and the fault: another kit's, a reader who is not
    in the kit or has sent two files, an answer that was changed, taken out, or is not to what was asked.
    """
    senders: dict[str, str] = {}
    tables = []
    for name, sent in files.items():
        if sent.kit != facts["kit"]:
            raise SynthGainError(
                f"{name}: answers to kit {sent.kit}, and this is {facts['kit']}; take it out of the folder"
            )
        if sent.panel != facts["panel"]:
            raise SynthGainError(f"{name}: says panel {sent.panel!r}, and kit {sent.kit} is of {facts['panel']!r}")
        if sent.reader not in secret["orders"]:
            raise SynthGainError(f"{name}: {sent.reader!r} is no reader of kit {facts['kit']}")
        if sent.reader in senders:
            raise SynthGainError(
                f"{name}: {sent.reader}'s answers are in {senders[sent.reader]} already; keep one of them"
            )
        senders[sent.reader] = name
        _check_chain(name, sent, facts["kit"], secret)
        code = panel.codes.get(sent.reader)
        if code is not None and code != sent.code:
            raise SynthGainError(f"{name}: its code is {sent.code}, and {sent.reader} reported {code}")
        _check_order(name, sent, secret["orders"][sent.reader], questions_of(panel))
        if not sent.answers:  # saved before the first image was read
            continue
        rows = pd.DataFrame([answer.model_dump(exclude={"digest"}) for answer in sent.answers])
        tables.append(rows.assign(reader=sent.reader))
    if not tables:
        listed = ", ".join(files) or "no file"
        raise SynthGainError(f"no answers of readers were found ({listed}); ask them to read, and to save at the end")
    joined = pd.concat(tables, ignore_index=True)
    joined["seconds"] = joined.pop("milliseconds") / 1000
    return joined[["reader", "phase", "position", "item", "repeat", "question", "value", "seconds"]]


def missing_answers(panel: Panel, secret: Secret, table: pd.DataFrame) -> pd.DataFrame:
    """Return (reader, answered, asked) of each reader of the kit."""
    questions = questions_of(panel)
    rows = []
    for reader, phases in secret["orders"].items():
        asked = sum(len(phases[str(question.phase)]) for question in questions)
        rows.append({"reader": reader, "answered": int((table["reader"] == reader).sum()), "asked": asked})
    return pd.DataFrame(rows)


def _check_chain(name: str, sent: Answers, kit: str, secret: Secret) -> None:
    last = chain_start(kit, sent.reader, reader_token(secret["secret"], kit, sent.reader))
    for number, answer in enumerate(sent.answers, start=1):
        record = (
            answer.phase,
            answer.position,
            answer.item,
            answer.repeat,
            answer.question,
            answer.value,
            answer.milliseconds,
        )
        last = chained(last, record)
        if last != answer.digest:
            raise SynthGainError(
                f"{name}: answer {number} (item {answer.item}, {answer.question}) was changed after it was given, or "
                f"is another reader's; ask {sent.reader} for the file as exported"
            )
    if closing_code(last) != sent.code:
        raise SynthGainError(
            f"{name}: answers are missing at its end (its code is {sent.code}); ask for the whole file"
        )


def _check_order(
    name: str, sent: Answers, order: Mapping[str, Sequence[tuple[str, bool]]], questions: list[Question]
) -> None:
    """Every answer is to a question that was asked there, within its scale, and none is given twice."""
    asked = {
        (question.phase, position, question.name): (entry[0], bool(entry[1]), question)
        for question in questions
        for position, entry in enumerate(order[str(question.phase)])
    }
    seen = set()
    for answer in sent.answers:
        place = (answer.phase, answer.position, answer.question)
        where = f"{name}: phase {answer.phase}, image {answer.position + 1}, {answer.question}"
        if place not in asked or asked[place][:2] != (answer.item, answer.repeat):
            raise SynthGainError(f"{where}: was not asked in {sent.reader}'s page")
        if place in seen:
            raise SynthGainError(f"{where}: answered twice")
        question = asked[place][2]
        if not question.low <= answer.value <= question.high:
            raise SynthGainError(f"{where}: {answer.value} is outside {question.low} to {question.high}")
        seen.add(place)
    if sent.finished and len(seen) < len(asked):
        raise SynthGainError(f"{name}: says that it is finished, and {len(asked) - len(seen)} answers are missing")
