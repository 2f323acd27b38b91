"""A study config from elsewhere: it cannot take the machine that plans it, nor say one thing and mean another."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from studies import tiny

from synthgain.runtime.errors import SynthGainError
from synthgain.study import yaml_files
from synthgain.study.load import parse_study
from synthgain.study.sources import Source, blamed, command_line
from synthgain.study.yaml_files import parse_yaml, read_yaml

TABLE = {"adapter": "table", "table": "t.csv", "patient_id": None}


def written(place: str, value: str) -> str:
    """Return the tiny study as YAML with a value, as it is written, at a place."""
    *keys, last = place.split(".")
    config = tiny(datasets__clinic=TABLE)
    here: Any = config
    for key in keys:
        here = here.setdefault(key, {})
    here[last] = "@@"
    return yaml.safe_dump(config, sort_keys=False).replace("'@@'", value)


def refused(place: str, value: str) -> str:
    """Return the one line with which this study is refused."""
    with pytest.raises(SynthGainError) as caught:
        parse_study(parse_yaml(written(place, value)), "study.yaml")
    line = str(caught.value)
    assert "\n" not in line
    assert len(line) < 300
    return line


BOMB = "[&a [{leaves}], &b [{a}], &c [{b}], &d [{c}], &e [{d}], &f [{e}], &g [{f}], *g]".format(
    leaves=", ".join("x" * 9), **{name: ", ".join([f"*{name}"] * 9) for name in "abcdef"}
)
MAP_BOMB = "{a: &a {k: 1, l: 1, m: 1}" + "".join(
    f", {new}: &{new} {{{', '.join(f'{key}: *{old}' for key in 'klmnopqrs')}}}"
    for old, new in zip("abcdefg", "bcdefgh", strict=True)
)
MERGE_BOMB = "{a: &a {k: 1}" + "".join(
    f", {new}: &{new} {{<<: [{', '.join([f'*{old}'] * 9)}]}}" for old, new in zip("abcdefg", "bcdefgh", strict=True)
)


@pytest.mark.parametrize("place", ["datasets.clinic.where.view", "models.cnn.augmentation.standard", "title", "spare"])
@pytest.mark.parametrize("bomb", [BOMB, MAP_BOMB + "}", MERGE_BOMB + "}"], ids=["lists", "maps", "merges"])
def test_aliases_that_grow_without_end_are_refused_before_they_are_written_out(
    place: str, bomb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(yaml_files, "_refuse_repeated_keys", None)  # nothing is done with what is too large
    line = refused(place, bomb)
    assert "too many for a study" in line
    assert "line " in line


def test_a_list_of_a_whole_table_is_no_bomb() -> None:
    names = ", ".join(f"image_{n}.png" for n in range(5_000))
    study = parse_study(parse_yaml(written("datasets.clinic.where.image", f"[{names}]")))
    assert len(study.datasets["clinic"].where["image"]) == 5_000  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: &a [*a]\n", "refers to itself"),
        ("a: &a {b: {c: *a}}\n", "refers to itself"),
        ("a: " + "[" * 100 + "]" * 100, "too deeply"),
        ('{"a": ' + "[" * 100 + "]" * 100 + "}", "too deeply"),
        ('{"a": ' + "[" * 90_000 + "]" * 90_000 + "}", "too deeply"),
        ('{"a": [' + "1," * 200_000 + "1]}", "too many"),
        ("a: " + "9" * 6_000, "digits"),
        ('{"a": ' + "9" * 6_000 + "}", "digits"),
        ("? " + "9" * 6_000 + "\n: a", "digits"),
    ],
)
def test_what_no_study_holds_gives_one_line(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(text)
    with pytest.raises(SynthGainError) as caught:
        read_yaml(path)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(SynthGainError):
        command_line([f"arms={text}"])


def test_a_config_that_is_no_file_or_far_too_large_is_not_read(tmp_path: Path) -> None:
    for name in (tmp_path, Path("/dev/zero"), tmp_path / "none.yaml"):
        with pytest.raises(SynthGainError, match="file"):
            read_yaml(name)
    large = tmp_path / "large.yaml"
    with large.open("wb") as handle:
        handle.truncate(yaml_files.LARGEST_FILE + 1)
    with pytest.raises(SynthGainError, match="no study config"):
        read_yaml(large)


TOO_MUCH = {
    "datasets.hospital_a.patients": "1000000000",
    "datasets.hospital_a.images_per_patient": "[1, 1000000000]",
    "datasets.hospital_a.first_patient": "9" * 30,
    "datasets.hospital_a.seed": "9" * 30,
    "image.size": "1000000",
    "models.cnn.batch_size": "100000000",
    "models.cnn.steps": "100000000000",
    "models.cnn.warmup_steps": "9" * 400,
    "models.cnn.network": "{name: small_cnn, width: 100000000, max_width: 100000000}",
    "generators.ddpm.network.block_out_channels": "[100000000]",
    "generators.ddpm.network.layers_per_block": "100000000",
    "generators.ddpm.training.batch_size": "100000000",
    "generators.ddpm.training.snapshots": "[99999999999]",
    "pools.drawn.sampling.steps": "1000000000",
    "pools.drawn.sampling.batch_size": "1000000000",
    "pools.drawn.replicas": "1000000",
    "replicates.count": "10000000",
    "replicates.generators": "10000000",
    "replicates.pools": "10000000",
    "replicates.per_job": "10000000",
    "analysis.bootstrap": "10000000",
    "analysis.minimum.patients": "9" * 30,
    "evaluation.fidelity.floor_splits": "100000000",
    "evaluation.snapshot_images": "100000000000",
    "compute.generator_processes": "100000000",
    "compute.generator_threads": "100000000",
    "arms.real_long.steps_factor": "1000000000000",
    "arms.repeated.ratios": "[" + ", ".join(map(str, range(1, 20_000))) + "]",
}


@pytest.mark.parametrize("place", TOO_MUCH)
def test_work_that_no_machine_could_plan_is_refused_with_its_number(place: str) -> None:
    line = refused(place, TOO_MUCH[place])
    assert place in line
    assert any(character.isdigit() for character in line)


def test_amounts_that_are_each_allowed_are_refused_where_their_product_is_not() -> None:
    config = tiny(datasets__hospital_a__patients=1_000_000, datasets__hospital_a__images_per_patient=[1, 1_000])
    with pytest.raises(SynthGainError, match=r"hospital_a: up to 1000000000 images"):
        parse_study(config)
    with pytest.raises(SynthGainError, match=r"bytes of pixels"):
        parse_study(tiny(datasets__hospital_a__patients=1_000_000, image={"size": 1024, "channels": 1}))
    with pytest.raises(SynthGainError, match=r"models\.cnn\.batch_size: 65536 images of this size"):
        parse_study(tiny(models__cnn__batch_size=65_536, image={"size": 1024, "channels": 1}))
    repeated = {"count": 1_000, "per_job": 1, "pools": 1_000, "generators": 1_000}
    with pytest.raises(SynthGainError, match=r"replicates: the study has about \d+ jobs"):
        parse_study(tiny(replicates=repeated, pools__drawn__shards=10_000))


@pytest.mark.parametrize("number", [".inf", "-.inf", ".nan", ".NaN", "1e999", "2020-01-01", "12:30", "0o17", "yes"])
@pytest.mark.parametrize(
    "place",
    ["models.cnn.learning_rate", "analysis.margin", "datasets.hospital_a.prevalence.opacity", "models.cnn.steps",
     "datasets.hospital_a.split.train", "models.cnn.augmentation.standard.rotation", "arms.real.real_fraction", "seed",
     "generators.ddpm.training.ema_decay", "datasets.hospital_a.images_per_patient", "evaluation.memorisation.limit"],
)  # fmt: skip
def test_what_is_no_number_is_refused_where_one_is_meant(place: str, number: str) -> None:
    assert refused(place, number).startswith(f"study.yaml: {place}: ")


@pytest.mark.parametrize("value", [".nan", ".inf", "[.nan]", "no", "[1, off]", "null", "{a: {b: 1}}", "[[1]]"])
def test_where_takes_what_a_cell_can_hold(value: str) -> None:
    assert refused("datasets.clinic.where.view", value).startswith("study.yaml: datasets.clinic.where.view")


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("2020-01-01", "2020-01-01"),
        ("[2020-01-01, 2020-13-45]", ["2020-01-01", "2020-13-45"]),
        ("12:30", "12:30"),
        ("010", "010"),
        ("1:2:3.5", "1:2:3.5"),
        ("7", 7),
        ("1.5", 1.5),
        ("PA", "PA"),
        ('"no"', "no"),
    ],
)
def test_where_keeps_dates_times_and_numbers_with_zeros_as_they_are_written(value: str, kept: Any) -> None:
    study = parse_study(parse_yaml(written("datasets.clinic.where.day", value)))
    assert study.datasets["clinic"].where == {"day": kept}  # type: ignore[union-attr]


def test_an_octal_number_is_refused_not_read_as_another(tmp_path: Path) -> None:
    assert refused("seed", "010").endswith("seed: 010 is octal to some who read YAML; write 10")
    assert refused("models.cnn.steps", "0_17").endswith("write 17")
    for spelled, meant in (("16", 16), ("0x10", 16), ("1_000", 1000), ("-5", -5), ("0", 0)):
        assert parse_study(parse_yaml(written("seed", spelled))).seed == meant


MEANT = {  # what YAML 1.1 changes, and how it is understood
    "datasets.clinic.targets": ("{o: {column: l, map: {yes: 1, no: 0}}}", ["map", "yes"], 1),
    "datasets.clinic.targets.o": ("{column: l, map: {0: 0, 1: 1}}", ["map", "0"], 0),
    "datasets.clinic.covariates.o": ("{column: l, map: {on: 1, off: 0, 2020-01-01: 1, 12:30: 0}}", ["map", "12:30"], 0),
    "datasets.hospital_b.split": ("{column: part, map: {1: train, 010: validation}}", ["map", "010"], "validation"),
}


@pytest.mark.parametrize("place", MEANT)
def test_keys_of_a_map_are_the_text_that_is_written(place: str) -> None:
    text, keys, expected = MEANT[place]
    values: Any = parse_yaml(text)
    values = values.get("o", values)
    for key in keys:
        values = values[key]
    assert values == expected


@pytest.mark.parametrize(
    ("place", "text", "told"),
    [
        ("datasets.clinic.targets.o", "{column: l, kind: category, levels: [0, 1, 2]}", "levels.0: is 0 to YAML"),
        ("study", "2024", "study: is 2024 to YAML"),
        ("title", "on", "title: is true to YAML"),
        ("datasets.clinic.table", "7", "table: is 7 to YAML"),
        ("datasets.clinic.site", "{constant: 1.5}", "site.constant: is 1.5 to YAML"),
        ("datasets.clinic.where.view", "no", "where.view: is false to YAML"),
        ("analysis.subgroups", "[off]", "subgroups.0: is false to YAML"),
    ],
)
def test_text_that_yaml_takes_for_something_else_is_to_be_quoted_and_the_line_is_said(
    place: str, text: str, told: str, tmp_path: Path
) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(written(place, text))
    source = Source(str(path), read_yaml(path))
    with pytest.raises(SynthGainError) as caught:
        parse_study(source.values, lambda *place: blamed([source], *place))
    line = 1 + path.read_text()[: path.read_text().index(text.split(":")[-1].strip(" {}[]")[:2])].count("\n")
    said = str(caught.value)
    assert told in said
    assert "put it in quotes" in said
    number = int(said.removeprefix(f"{path}: line ").split(":")[0])
    assert path.read_text().splitlines()[number - 1].strip()
    assert number >= line or text in path.read_text().splitlines()[number - 1]


UNSAFE = ["\ud800", "\x1b[31m", "\u202e", "\u2066", "\x00", "\x07", "\x7f", "\u200f", "\r"]


@pytest.mark.parametrize("character", UNSAFE)
@pytest.mark.parametrize(
    "place",
    [
        "title",
        "arms__real__description",
        "datasets__clinic__licence",
        "datasets__clinic__site",
        "analysis__margin_reason",
    ],
)
def test_text_that_would_not_be_shown_as_it_is_is_refused_at_the_start(place: str, character: str) -> None:
    config = tiny(datasets__clinic=TABLE, **{place: f"a{character}b"})
    with pytest.raises(SynthGainError) as caught:
        parse_study(config)
    said = str(caught.value)
    assert f"U+{ord(character[0]):04X}" in said
    assert said.isprintable()
    with pytest.raises(SynthGainError, match="holds the character"):
        parse_study(tiny(datasets__clinic={**TABLE, "where": {f"a{character}": 1}}))


def test_other_alphabets_and_several_lines_are_text() -> None:
    text = "Größe, 胸部, صدر\n\tand more"
    assert parse_study(tiny(title=text)).title == text


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("evaluation.fidelity.by", "[sxe]"),
        ("analysis.subgroups", "[sxe]"),
        ("pools.drawn.balance", "{sxe: 0.5}"),
        ("datasets.hospital_a.missing", "{sxe: 0.1}"),
        ("generators.ddpm.condition_on", "[sxe]"),
    ],
)
def test_a_column_that_no_data_set_has_is_refused_while_planning_with_the_nearest(place: str, value: str) -> None:
    config: Any = yaml.safe_load(written(place, value))
    config["datasets"]["clinic"]["covariates"] = {"age": {"column": "age", "kind": "continuous"}}
    with pytest.raises(SynthGainError, match=r"'sxe'.*did you mean 'sex'\?"):
        parse_study(config)
