"""The study config: what is refused, in which words, and what a rehearsal becomes."""

import json
from pathlib import Path
from typing import Annotated

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field
from studies import tiny

from synthgain.entry import Entry, OmittedWhen
from synthgain.runtime.errors import SynthGainError
from synthgain.study.document import page_text, schema_text
from synthgain.study.load import parse_study, run_names
from synthgain.study.roles import baseline_of, borrowed, cleaned, copies_real, filtered_twin, role_of
from synthgain.study.schema import Study
from synthgain.study.yaml_files import read_yaml

ROOT = Path(__file__).parent.parent

TABLE = {"adapter": "table", "table": "t.csv", "patient_id": "p"}
# (change, words that the one line must hold)
REFUSED = [
    ({"analysis__alhpa": 0.1}, ["analysis", "'alhpa'", "'alpha'"]),
    ({"generators__ddpm__training__lerning_rate": 1.0}, ["generators.ddpm.training", "'learning_rate'"]),
    ({"generators__ddpm__family": "difusion"}, ["generators.ddpm", "unknown family 'difusion'", "'diffusion'"]),
    ({"datasets__hospital_a__adapter": "phantm"}, ["datasets.hospital_a", "unknown adapter", "'phantom'"]),
    ({"pools__drawn__from": "dpm"}, ["pools.drawn.from", "'dpm'", "'ddpm'"]),
    ({"pools__drawn__known": "oracle"}, ["pools.drawn", "exactly one of"]),
    ({"pools__drawn__rows_of": "hospital_b"}, ["pools.drawn.rows_of", "no split"]),
    ({"arms__supplemented__synthetic": "drwn"}, ["arms.supplemented.synthetic", "'drawn'"]),
    ({"arms__supplemented__ratios": [300]}, ["arms.supplemented.ratios", "over the pool", "to 3"]),
    ({"arms__supplemented__ratios": []}, ["arms.supplemented", "ratios"]),
    ({"arms__supplemented__ratios": [100, 100]}, ["arms.supplemented", "different"]),
    ({"arms__real": ...}, ["arms.real_long", "no baseline", "hospital_a"]),
    ({"arms__quarter": {"real": "hospital_a", "real_fraction": 0.25, "augmentation": "strong"}}, ["no baseline"]),
    ({"models__cnn__targets": ["opacty"]}, ["models.cnn.targets", "'opacty'", "'opacity'"]),
    ({"models__cnn__targets": []}, ["models.cnn", "needs targets"]),
    ({"models__cnn__network": "smal_cnn"}, ["models.cnn", "unknown network", "small_cnn"]),
    ({"generators__ddpm__condition_on": ["weight"]}, ["generators.ddpm.condition_on", "'weight'"]),
    ({"evaluate_on": ["hospital_c"]}, ["evaluate_on", "'hospital_c'"]),
    ({"analysis__primary__ratio": 200}, ["analysis.primary.ratio", "no ratio 200", "100"]),
    ({"analysis__primary__arm": "supplement"}, ["analysis.primary.arm", "'supplemented'"]),
    ({"analysis__primary__test_set": "hospital_c"}, ["analysis.primary.test_set"]),
    ({"analysis__primary": None}, ["analysis.primary", "declare one comparison"]),
    ({"study": 2024}, ["study: is 2024 to YAML, not text; put it in quotes"]),
    (
        {"datasets__hospital_b": {**TABLE, "targets": {"opacity": {"column": "o", "levels": [0, 1]}}}},
        ["levels.0: is 0"],
    ),
    ({"datasets__hospital_b": {**TABLE, "image": False}}, ["hospital_b.image: is false to YAML, not text"]),
    ({"study": "../../x; rm"}, ["study", "is not a name"]),
    ({"datasets__Bad-Name": {"adapter": "phantom", "patients": 3}}, ["is not a name"]),
    ({"datasets__hospital_a__split": {"train": 0.5, "validation": 0.2, "test": 0.2}}, ["must be 1", "0.9"]),
    ({"datasets__hospital_a__split": {"train": 1.0, "validation": 0.0, "test": 0.0}}, ["above 0"]),
    ({"study_seeds": [1, 2]}, ["study_seeds", "known truth"]),
    ({"models": ...}, ["models", "is missing"]),
    ({"pools__own": {"imported": {"table": "t.csv"}, "shuffled": True}}, ["pools.own", "and balance go with"]),
    ({"pools__own": {"known": "oracle", "rows_of": "hospital_a", "snapshot": 3}}, ["pools.own", "snapshot goes with"]),
    ({"pools__thin": {"of": "drawn", "thin_to": "drawn"}}, ["pools.thin.thin_to", "no filter"]),
    (
        {"pools__thin__filter": {"scores": "memorisation", "column": "x"}},
        ["pools.thin.filter", "exactly one of quantile"],
    ),
    ({"pools__drawn__sampling__solver": "dpm"}, ["pools.drawn.sampling.solver", "dpmpp_2m"]),
    ({"generators__ddpm__training__snapshots": [0]}, ["generators.ddpm.training.snapshots"]),
    ({"arms__real__mixing": {"mode": "fixed_share", "share": 0.5}}, ["arms.real", "fixed_share needs"]),
]


@pytest.mark.parametrize(("change", "words"), REFUSED, ids=[next(iter(change)) for change, _ in REFUSED])
def test_refused_in_one_line(change: dict, words: list[str]) -> None:
    with pytest.raises(SynthGainError) as caught:
        parse_study(tiny(**change))
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_key_given_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "twice.yaml"
    path.write_text("study: a\nstudy: b\n")
    with pytest.raises(SynthGainError, match="'study' is given twice"):
        read_yaml(path)


def test_words_that_yaml_takes_for_other_things_are_text_where_text_is_meant(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text("map: {yes: 1, no: 0, 0: 1, ~: 0, 2020-01-01: 1}\nday: 2020-01-01\n<<: {on: &a 1, b: *a}\n")
    assert read_yaml(path) == {
        "map": {"yes": 1, "no": 0, "0": 1, "~": 0, "2020-01-01": 1},
        "day": "2020-01-01",
        "on": 1,
        "b": 1,
    }


@pytest.mark.parametrize(
    "path", [ROOT / "config.yaml", *sorted((ROOT / "studies").glob("*.yaml"))], ids=lambda p: p.stem
)
def test_shipped_studies_are_valid(path: Path) -> None:
    study = parse_study(read_yaml(path))
    rehearsal = parse_study({**read_yaml(path), "rehearsal": True})
    assert study.analysis.primary is not None
    assert rehearsal.analysis.primary is None
    assert run_names(rehearsal) == [f"{study.study}-rehearsal"]
    assert all(max(arm.ratios, default=0) <= 100 for arm in rehearsal.arms.values())
    trained = [*rehearsal.generators.values(), *(a for a in rehearsal.autoencoders.values() if a.training is not None)]
    assert all(entry.training.steps <= rehearsal.rehearsal_sizes.generator_steps for entry in trained)
    asked = [
        count
        for panel in rehearsal.readers.values()
        for count in (*panel.items.real.values(), *panel.items.pools.values())
    ]
    assert all(count <= 4 for count in asked)


def test_a_rehearsal_asks_for_no_snapshot_that_it_does_not_reach() -> None:
    study = parse_study(tiny(rehearsal=True, pools__drawn__snapshot=3))
    assert study.pools["drawn"].snapshot is None


def test_generated_docs_are_in_step() -> None:
    assert (ROOT / "docs" / "config.md").read_text() == page_text(), "run `make docs`"
    assert (ROOT / "docs" / "config.schema.json").read_text() == schema_text(), "run `make docs`"


@settings(max_examples=30, deadline=None)
@given(
    count=st.integers(1, 40),
    alpha=st.floats(0.001, 0.4),
    ratios=st.lists(st.integers(1, 200), min_size=1, unique=True),
    seed=st.integers(0, 2**31),
)
def test_config_round_trip(count: int, alpha: float, ratios: list[int], seed: int) -> None:
    study = parse_study(
        tiny(
            seed=seed,
            replicates__count=count,
            analysis__alpha=alpha,
            arms__supplemented__ratios=ratios,
            analysis__primary__ratio=ratios[0],
        )
    )
    again = Study.model_validate(json.loads(study.model_dump_json(by_alias=True)))
    assert again == study


def test_roles_and_baselines() -> None:
    study = parse_study(
        tiny(
            arms__small={"real": "hospital_a", "real_fraction": 0.5},
            arms__small_plus={"real": "hospital_a", "real_fraction": 0.5, "synthetic": "drawn", "ratios": [100]},
            pools__mixed_up={"from": "ddpm", "rows_of": "hospital_a", "shuffled": True},
            arms__shuffled={"real": "hospital_a", "synthetic": "mixed_up", "ratios": [100]},
        )
    )
    roles = {name: role_of(study, name) for name in study.arms}
    assert roles["real"] == "baseline"
    assert roles["real_long"] == "real_long"
    assert roles["real_strong"] == "real_strong"
    assert roles["repeated"] == "repeated"
    assert roles["synthetic_only"] == "synthetic_only"
    assert roles["shuffled"] == "negative_control"
    assert baseline_of(study, "synthetic_only") == "real"
    assert baseline_of(study, "small_plus") == "small"
    assert not borrowed(study, "supplemented")
    copies = {name for name in study.arms if copies_real(study, name)}
    assert copies == {name for name, arm in study.arms.items() if arm.synthetic is None}
    copier = {"known": "copier", "rows_of": "hospital_a"}
    declared = parse_study(
        tiny(
            pools__copier=copier,
            pools__moved=copier | {"known": "jittered_copier"},
            arms__copied={"real": "hospital_a", "synthetic": "copier", "ratios": [100]},
            arms__moved={"real": "hospital_a", "synthetic": "moved", "ratios": [100]},
            arms__alone={"synthetic": "copier", "ratios": [100]},
        )
    )
    assert {name: copies_real(declared, name) for name in ("copied", "moved", "alone")} == {
        "copied": True, "moved": False, "alone": False,
    }  # fmt: skip
    assert borrowed(study, "small_plus"), "the generator saw all patients, the baseline trains on half"


@pytest.mark.parametrize(
    ("cut", "clean"),
    [
        ({"column": "flagged", "keep": "false"}, True),
        ({"column": "similarity_pixels", "keep": "below", "quantile": 0.9}, False),
        ({"column": "similarity_pixels", "keep": "above", "threshold": 0.9}, False),
    ],
)
def test_only_a_pool_without_flagged_images_is_clean_of_copies(cut: dict, clean: bool) -> None:
    pool = {"of": "drawn", "filter": {"scores": "memorisation", **cut}}
    arm = {"real": "hospital_a", "synthetic": "kept", "ratios": [100]}
    study = parse_study(tiny(pools__kept=pool, arms__kept=arm))
    assert cleaned(study, "kept") is clean
    assert filtered_twin(study, "supplemented") == ("kept" if clean else None)


def test_borrowed_arm_cannot_be_primary() -> None:
    with pytest.raises(SynthGainError, match=r"borrowed"):
        parse_study(
            tiny(
                arms__small={"real": "hospital_a", "real_fraction": 0.5},
                arms__small_plus={"real": "hospital_a", "real_fraction": 0.5, "synthetic": "drawn", "ratios": [100]},
                analysis__primary__arm="small_plus",
            )
        )


class Inner(Entry):
    """An entry with a key that came later."""

    steps: int = 18
    churn: Annotated[float, OmittedWhen(0.0)] = 0.5  # its default was changed after it was added


class Outer(Entry):
    """An entry of entries."""

    inner: Inner = Inner()
    by_name: dict[str, Inner] = Field(default_factory=dict)
    listed: list[Inner | int] = Field(default_factory=list)
    from_: Annotated[str | None, OmittedWhen(None)] = Field(None, alias="from")


class TestKeysAddedLater:
    """A slice leaves a key out where it has the value that its absence meant when it was added."""

    @pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
    def test_a_slice_gives_the_same_options_back(self, value: float) -> None:
        inner = Inner(churn=value)
        outer = Outer(inner=inner, by_name={"a": inner}, listed=[inner, 3], from_="x")
        assert Inner.from_slice(inner.dump()) == inner
        assert Outer.from_slice(outer.dump()) == outer
        assert Outer.from_slice(outer.dump(by_alias=True)) == outer

    def test_only_the_frozen_value_is_left_out(self) -> None:
        assert Inner(churn=0.0).dump() == {"steps": 18}
        assert Inner().dump() == {"steps": 18, "churn": 0.5}
        outer = Outer(inner=Inner(churn=0.0), by_name={"a": Inner(churn=0.0)}, listed=[Inner(churn=0.0), 3])
        without = {"inner": {"steps": 18}, "by_name": {"a": {"steps": 18}}, "listed": [{"steps": 18}, 3]}
        assert outer.dump() == without
        assert outer.dump(exclude={"listed"}, by_alias=True) == {k: v for k, v in without.items() if k != "listed"}

    def test_what_a_user_leaves_out_has_the_default_of_now(self) -> None:
        assert Inner.model_validate({"steps": 3}).churn == 0.5
        assert Inner.from_slice({"steps": 3}).churn == 0.0
