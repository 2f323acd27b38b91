"""Siblings of the mistyped keys: every key of a study with a value of another kind gives one line while planning."""

import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from studies import tiny

from synthgain.runtime.errors import SynthGainError
from synthgain.study.load import parse_study
from synthgain.study.yaml_files import parse_yaml, read_yaml

REPOSITORY = Path(__file__).parents[1]
Place = tuple[str | int, ...]
JARGON = re.compile(r"valid (dictionary|list|tuple|integer|number|boolean)|instance of|Unable to extract|discriminator")
COPIED = {"scores": "memorisation", "column": "flaged", "keep": "false"}
EVEN = {"known": "oracle", "rows_of": "hospital_a"}
SCORED = {"of": "drawn", "filter": {"scores": "label_consistency", "column": "agreement", "quantile": 0.5}}


def places(value: object, place: Place = ()) -> Iterator[Place]:
    """Yield the places of all values, of a list those of its first."""
    inside: list[tuple[str | int, object]] = []
    if isinstance(value, dict):
        inside = list(value.items())
    elif isinstance(value, list):
        inside = list(enumerate(value))[:1]
    for key, part in inside:
        yield (*place, key)
        yield from places(part, (*place, key))


def changed(config: dict[str, object], place: Place, value: object) -> dict[str, Any]:
    whole = copy.deepcopy(config)
    here: Any = whole
    for key in place[:-1]:
        here = here[key]
    here[place[-1]] = value
    return whole


@pytest.mark.parametrize("study", ["config.yaml", "studies/phantom_segmentation.yaml"])
@pytest.mark.parametrize(
    "value", [["a"], {"a": 1}, "1e3", float("nan"), "x" * 3000], ids=["list", "map", "1e3", "nan", "long"]
)
def test_a_value_of_another_kind_gives_one_plain_line_whatever_the_key(study: str, value: object) -> None:
    config = read_yaml(REPOSITORY / study)
    refused = 0
    for place in places(config):
        try:
            parse_study(changed(config, place, value), "study.yaml")
        except SynthGainError as error:
            refused += 1
            line = str(error)
            assert "\n" not in line, place
            assert len(line) < 1000, place
            assert not JARGON.search(line), line
    assert refused > 50


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"models__cnn__network": {"name": ["small_cnn"]}}, "unknown network"),
        ({"models__cnn__augmentation": {"standard": {"rotation": 1e300}}}, "rotation: .* 180"),
        ({"models__cnn__augmentation": {"strong": {"translation": 7}}}, "translation: .* 1, not 7"),
        ({"pools__sure": {**SCORED, "filter": {**SCORED["filter"], "column": "agrement"}}}, "did you mean 'agreement'"),
        ({"pools__sure": {**SCORED, "filter": COPIED}}, "'flagged'"),
        ({"pools__even": {**EVEN, "balance": {"opacity": 1.5}}}, "balance.opacity"),
        ({"pools__even": {**EVEN, "balance": {"sex": {"F": 0.7, "M": 0.7}}}}, "add up to 1.4"),
        ({"datasets__clinic": []}, "is a list, not a map"),
        ({"datasets__clinic": {}}, "adapter: is missing"),
        ({"study_seeds": [1, 1]}, "different seeds"),
    ],
)  # fmt: skip
def test_what_a_job_would_find_hours_later_is_refused_while_planning(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SynthGainError, match=message) as caught:
        parse_study(tiny(**changes))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "value", ["!!set {x, y}", "!!binary aGk=", "!!omap [a: 1]", "!!pairs [a: 1]", "!!python/tuple [1]"]
)
def test_yaml_of_other_kinds_than_text_lists_and_maps_is_refused_with_its_line(value: str) -> None:
    with pytest.raises(SynthGainError, match=r"^line 2: ") as caught:
        parse_yaml(f"a: 1\nlevels: {value}")
    assert "\n" not in str(caught.value)


def test_equals_signs_are_text() -> None:
    assert parse_yaml("delimiter: =\nother: {<<: {a: 1}, b: 2}") == {"delimiter": "=", "other": {"a": 1, "b": 2}}
