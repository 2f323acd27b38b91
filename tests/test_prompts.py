"""Prompts: a row's text, what it leaves out, what it says of labels."""

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from synthgain.data.options import Prompt
from synthgain.data.prompts import relabelled, texts_of, vocabulary_of, words_of
from synthgain.data.templates import fields_of
from synthgain.runtime.errors import SynthGainError

COLUMNS = {
    "opacity": {"role": "target", "kind": "binary"},
    "pleural_effusion": {"role": "target", "kind": "binary"},
    "sex": {"role": "covariate", "kind": "category", "levels": ["F", "M"]},
    "age": {"role": "covariate", "kind": "continuous"},
}
TABLE = pd.DataFrame(
    {
        "image_id": list("abcdef"),
        "opacity": [1, 1, 0, np.nan, 0, 0],
        "pleural_effusion": [0, 1, 0, np.nan, np.nan, 1],
        "sex": ["F", "M", None, "F", "M", None],
        "age": [50.0, 61.4, np.nan, np.nan, 7, 30],
    }
)
WORDS = {"F": "female", "M": "male"}
ALL = Prompt(template="[{age} year old ]{sex}. Chest film. {findings}.", words=WORDS)


def test_unknown_is_not_mentioned_and_absent_neither() -> None:
    assert texts_of(TABLE, COLUMNS, ALL).prompts == [
        "50 year old female. Chest film. opacity.",
        "61 year old male. Chest film. opacity and pleural effusion.",
        "Chest film. no finding.",
        "female. Chest film.",  # nothing is known of its findings
        "7 year old male. Chest film.",  # one is absent, of the other nothing is known
        "Chest film. pleural effusion.",  # without a sex the whole sentence goes
    ]


def test_absent_is_said_on_request() -> None:
    prompt = Prompt(template="{findings}.", say_absent=True, of=["opacity", "pleural_effusion"])
    known = TABLE.iloc[[0, 1, 2, 4]]
    assert texts_of(known, COLUMNS, prompt).prompts == [
        "opacity and no pleural effusion.",
        "opacity and pleural effusion.",
        "no opacity and no pleural effusion.",
        "no opacity.",
    ]


def test_one_finding_by_turns_and_what_its_others_become() -> None:
    prompt = Prompt(template="Chest film. {findings}.", findings="one")
    first, second, third = (texts_of(TABLE, COLUMNS, prompt, replica).prompts[1] for replica in (1, 2, 3))
    assert first == third == "Chest film. opacity."
    assert second == "Chest film. pleural effusion."
    texts = texts_of(TABLE, COLUMNS, prompt, 1)
    unknown = relabelled(TABLE, texts, prompt)
    assert unknown["opacity"].tolist()[:2] == [1, 1]
    assert unknown["pleural_effusion"].isna().tolist()[:2] == [True, True]  # not named: unknown
    assert unknown.loc[2, ["opacity", "pleural_effusion"]].tolist() == [0, 0]  # "no finding" names them all
    absent = relabelled(TABLE, texts, Prompt(template="{findings}.", findings="one", others="absent"))
    assert absent["pleural_effusion"].tolist()[:2] == [0, 0]
    assert unknown["prompt"].tolist() == texts.prompts


def test_all_findings_leave_the_labels_alone() -> None:
    made = relabelled(TABLE, texts_of(TABLE, COLUMNS, ALL), ALL)
    pd.testing.assert_frame_equal(made.drop(columns="prompt"), TABLE)


def test_training_shuffles_the_order_of_findings() -> None:
    table = TABLE.iloc[[1] * 40].reset_index(drop=True)
    found = set(texts_of(table, COLUMNS, Prompt(template="{findings}."), order=np.random.default_rng(0)).prompts)
    assert found == {"opacity and pleural effusion.", "pleural effusion and opacity."}


def test_a_column_of_text_is_taken_as_it_is() -> None:
    table = TABLE.assign(report=["No  change.\nStable."] * 6)
    assert texts_of(table, COLUMNS, Prompt(column="report")).prompts[0] == "No change. Stable."
    with pytest.raises(SynthGainError, match="a: its prompt is empty"):
        texts_of(TABLE.assign(report=""), COLUMNS, Prompt(column="report"))


def test_braces_in_a_value_are_no_template() -> None:
    table = TABLE.assign(sex="{age}")
    assert texts_of(table, COLUMNS, Prompt(template="A[ {sex}].")).prompts[0] == "A {age}."


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{age", "template"),
        ("{age:d}", "no column"),
        ("{0}", "no column"),
        ("[{age}", "brackets"),
        ("{a.b}", "no column"),
    ],
)
def test_a_wrong_template_is_one_line(template: str, said: str) -> None:
    with pytest.raises(SynthGainError, match=said) as caught:
        fields_of(Prompt(template=template), "prompts.p")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"template": "a", "column": "b"},
        {"column": "a", "findings": "one"},
        {"template": ""},
        {"template": " ."},
        {"template": "{findings}", "none": " "},
        {"template": "{sex}", "words": {"F": " "}},
        {"template": "a", "of": "x"},
    ],
    ids=range(8),
)
def test_wrong_keys_are_refused(keys: dict) -> None:
    with pytest.raises(ValidationError):
        Prompt.model_validate(keys)


def test_an_empty_word_says_nothing_of_a_level_or_a_finding() -> None:
    silent = Prompt(template="{sex} patient. {findings}[, of {age}].", words={"M": "", "F": "female", "opacity": ""})
    assert texts_of(TABLE.iloc[[0, 1]], COLUMNS, silent).prompts == [
        "female patient.",  # its one finding is not said, and "no finding" would be wrong
        "pleural effusion, of 61.",
    ]


def test_words_and_vocabulary() -> None:
    assert words_of("63-year old; Pleural Effusion.") == ["6", "3", "-", "year", "old", ";", "pleural", "effusion", "."]
    vocabulary = vocabulary_of(["a b.", "B c"])
    assert vocabulary == sorted({"a", "b", "c", ".", ",", "and", *"0123456789"})


def test_a_row_alone_is_what_it_is_among_others() -> None:
    whole = texts_of(TABLE, COLUMNS, ALL).prompts
    assert [texts_of(TABLE.iloc[[i]], COLUMNS, ALL).prompts[0] for i in range(len(TABLE))] == whole
