"""The chest radiograph phantom: its physics, its law, its determinism, and what it says to wrong options."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthgain.datasets.phantom import COLUMNS, MASK_NAMES, draw, prepare
from synthgain.datasets.phantom_anatomy import chest_integrals, chest_width, draw_anatomy
from synthgain.datasets.phantom_bodies import Interval, ellipsoid, remaining_length, superellipsoid, tube
from synthgain.datasets.phantom_film import Style, develop
from synthgain.datasets.phantom_law import FINDINGS, make_law, read_options
from synthgain.datasets.phantom_vessels import draw_tree, vessel_length
from synthgain.runtime.errors import SynthGainError
from synthgain.seeds import random_generator

IMAGE = {"size": 32, "channels": 1, "fit": "pad", "intensity": "none"}


def phantom(image: dict[str, Any] | None = None, study: int = 0, **options: Any):
    return prepare(options, {**IMAGE, **(image or {})}, study, None)


@pytest.fixture(scope="module")
def prepared():
    return phantom(patients=40, prevalence=dict.fromkeys(FINDINGS, 0.4))


def test_ellipsoid_chord_is_that_of_the_formula() -> None:
    x, y = np.meshgrid(np.linspace(-4, 4, 41), np.linspace(-4, 4, 41))
    body = ellipsoid(x, y, (0.5, -0.3, 1.0), (3.0, 2.0, 1.5))
    inside = 1 - ((x - 0.5) / 3) ** 2 - ((y + 0.3) / 2) ** 2
    np.testing.assert_allclose(2 * body.half, 2 * 1.5 * np.sqrt(np.maximum(inside, 0)), atol=1e-12)


def test_integral_of_a_chord_is_the_volume() -> None:
    axis = np.linspace(-3, 3, 601)
    x, y = np.meshgrid(axis, axis)
    cell = (axis[1] - axis[0]) ** 2
    turned = ellipsoid(x, y, (0.0, 0.0, 0.0), (2.0, 1.0, 1.5), angle=0.7)
    assert (2 * turned.half).sum() * cell == pytest.approx(4 / 3 * np.pi * 2.0 * 1.0 * 1.5, rel=1e-3)
    across = tube(axis, 0.5).sum() * (axis[1] - axis[0])
    assert across == pytest.approx(np.pi * 0.25, rel=1e-2)


@pytest.mark.parametrize("powers", [(2, 2, 2), (3, 8, 2), (4, 2, 2), (2, 2, 4)])
def test_superellipsoid_chord_ends_on_the_surface(powers) -> None:
    u, v = np.array([0.3, -0.5]), np.array([-0.4, 0.2])
    w = superellipsoid(u, v, 2.5, powers) / 2.5
    p, q, r = powers
    np.testing.assert_allclose(np.abs(u) ** p + np.abs(v) ** q + w**r, 1.0)


intervals = st.tuples(st.floats(-5, 5), st.floats(0, 4))


@settings(max_examples=60, deadline=None)
@given(st.lists(intervals, min_size=1, max_size=5))
def test_remaining_length_counts_overlaps_once(items: list[tuple[float, float]]) -> None:
    one = np.ones(1)
    got = remaining_length(Interval(0.0, 3.0 * one), [Interval(centre, half * one) for centre, half in items])
    z = (np.arange(6000) + 0.5) / 1000 - 3.0
    free = ~np.any([np.abs(z - centre) <= half for centre, half in items], axis=0)
    assert got[0] == pytest.approx(free.sum() / 1000, abs=0.02)


def test_vessels_keep_their_volume_at_every_resolution() -> None:
    tree = draw_tree(np.random.default_rng(0), 1.0, 1.0)
    for rays in (64, 256):
        side = 60.0  # everything inside
        axis = ((np.arange(rays) + 0.5) / rays - 0.5) * side
        y, x = np.meshgrid(axis, axis, indexing="ij")
        total = vessel_length(tree, x, y, side / rays).sum() * (side / rays) ** 2
        assert total == pytest.approx(tree.mass.sum(), rel=0.02)


def test_film_is_darker_where_less_is_in_the_beam() -> None:
    """Beer-Lambert: a film is a falling function of exp(-attenuation), noise and processing off."""
    attenuation = np.tile(np.linspace(1.0, 4.0, 64, dtype=np.float32), (64, 1))
    style = Style(quantum_noise=0.0, exposure_sd=0.0, equalisation=0.0, collimation=0.0, marker="")
    film = develop(attenuation, 1, 0.5, style, np.random.default_rng(0)).astype(int)
    assert (np.diff(film, axis=1) >= 0).all()
    assert film[:, -1].min() > film[:, 0].max() + 100


@pytest.mark.parametrize("size", [32, 50, 64, 128, 256])
def test_any_size(size: int) -> None:
    got = phantom({"size": size}, patients=2, images_per_patient=[1, 1])
    assert got.images.shape == (2, size, size, 1)
    assert got.masks.shape == (2, size, size, 3)
    assert got.images.dtype == got.masks.dtype == np.uint8
    assert got.images.std() > 30  # a film, not a grey field


def test_same_patients_at_another_size() -> None:
    small, large = phantom(patients=3), phantom({"size": 128}, patients=3)
    assert small.table["image_id"].tolist() == large.table["image_id"].tolist()
    averaged = large.images[..., 0].reshape(-1, 32, 4, 32, 4).mean(axis=(2, 4))
    for a, b in zip(small.images[..., 0], averaged, strict=True):
        assert np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.95


def test_three_channels_are_equal() -> None:
    grey, colour = phantom(patients=2), phantom({"channels": 3}, patients=2)
    np.testing.assert_array_equal(np.repeat(grey.images, 3, axis=-1), colour.images)


def test_a_patient_depends_on_neither_count_nor_order() -> None:
    many, few = phantom(patients=6), phantom(patients=2, first_patient=3)
    rows = many.table["patient_id"].isin(few.table["patient_id"]).to_numpy()
    np.testing.assert_array_equal(many.images[rows], few.images)
    np.testing.assert_array_equal(many.masks[rows], few.masks)
    pd.testing.assert_frame_equal(many.table[rows].reset_index(drop=True), few.table)


@pytest.mark.parametrize(("study", "options"), [(1, {}), (0, {"seed": 1}), (0, {"site": "c"})])
def test_seeds_and_sites_draw_other_patients(study: int, options: dict[str, Any]) -> None:
    base = phantom(patients=4, images_per_patient=[1, 1])
    other = phantom(study=study, patients=4, images_per_patient=[1, 1], **options)
    assert (other.images != base.images).mean() > 0.3
    assert other.facts["law"]["style"] == base.facts["law"]["style"]


def test_films_of_a_patient_differ_but_show_the_same_patient() -> None:
    got = phantom(patients=3, images_per_patient=[2, 2])
    for patient in range(3):
        first, second = got.images[2 * patient : 2 * patient + 2].astype(float)
        assert (first != second).any()
    assert (got.table.groupby("patient_id")[[*COLUMNS]].nunique(dropna=False) == 1).all(axis=None)


def test_table(prepared) -> None:
    table = prepared.table
    assert {"image_id", "patient_id", "site", "origin", *prepared.columns} <= set(table.columns)
    assert table["image_id"].is_unique
    assert table["image_id"].str.startswith("phantom-a-").all()
    assert set(table["origin"]) == {"real"}
    assert prepared.mask_names == MASK_NAMES == ["lungs", "heart", "finding"]
    for name in FINDINGS:
        assert table[name].dtype == np.float32
        assert set(table[name]) <= {0.0, 1.0}
    assert set(table["sex"]) == {"F", "M"}
    assert set(table["build"]) <= {"slim", "medium", "large"}
    assert table["age"].between(20, 90).all()


def test_masks_agree_with_labels(prepared) -> None:
    seen = prepared.table[["opacity", "nodule", "effusion"]].any(axis=1).to_numpy()
    finding = prepared.masks[..., 2].any(axis=(1, 2))
    np.testing.assert_array_equal(finding, seen)
    assert set(np.unique(prepared.masks)) == {0, 1}
    assert 0 < seen.sum() < len(seen)


def test_masks_lie_where_the_organs_are(prepared) -> None:
    lungs, heart, finding = (prepared.masks[..., k].astype(bool) for k in range(3))
    assert not (lungs & heart).any()
    grey = prepared.images[..., 0].astype(float)
    assert lungs.mean(axis=(1, 2)).min() > 0.15
    assert heart.mean(axis=(1, 2)).min() > 0.03
    assert (grey[lungs].mean()) + 60 < grey[heart].mean()
    columns = np.arange(32) + 0.5 - 16
    assert (heart * columns).sum() / heart.sum() > 0.5  # the apex points to the viewer's right
    for row in np.flatnonzero(finding.any(axis=(1, 2))):
        around = lungs[row] | heart[row]
        assert around[:, finding[row].any(axis=0)].any()


def test_findings_brighten_their_place() -> None:
    """The same patients with and without an opacity differ where the mask says so, upwards."""
    rows = pd.DataFrame({"opacity": [1.0, 0.0] * 8, "nodule": 0.0, "effusion": 0.0, "cardiomegaly": 0.0,
                         "sex": "M", "age": 50.0, "build": "medium"})  # fmt: skip
    keys = [{"row": position // 2} for position in range(16)]
    style = {"quantum_noise": 0.0, "exposure_sd": 0.0, "equalisation": 0.0}
    images, masks = draw(rows, {"size": 64}, keys, {"style": style})
    change = images[::2, ..., 0].astype(float) - images[1::2, ..., 0]
    inside = masks[::2, ..., 2].astype(bool)
    assert change[inside].mean() > change[~inside].mean() + 8


def cardiothoracic_ratio(heart: np.ndarray, lungs: np.ndarray) -> float:
    """Width of the heart over the largest width of the lungs, as read off a film."""
    heart_columns, lung_columns = (np.flatnonzero(mask.any(axis=0)) for mask in (heart, lungs))
    return float((np.ptp(heart_columns) + 1) / (np.ptp(lung_columns) + 1))


def test_cardiothoracic_ratio() -> None:
    rows = pd.DataFrame({"cardiomegaly": [0.0] * 20 + [1.0] * 20})
    _, masks = draw(rows, {"size": 128}, [{"row": row} for row in range(40)], {})
    ratios = np.array([cardiothoracic_ratio(mask[..., 1], mask[..., 0]) for mask in masks])
    assert ratios[:20].max() < 0.53
    assert ratios[20:].min() > 0.47
    assert ratios[20:].mean() > ratios[:20].mean() + 0.06


@settings(max_examples=15, deadline=None)
@given(
    st.integers(0, 10_000), st.sampled_from("FM"), st.floats(20, 90), st.sampled_from(["slim", "medium", "large"]),
    st.booleans(), st.floats(0, 2), st.floats(-0.06, 0.06),
)  # fmt: skip
def test_line_integrals_are_physical(seed, sex, age, build, cardiomegaly, lift, yaw) -> None:
    anatomy = draw_anatomy(np.random.default_rng(seed), sex, age, build, cardiomegaly)
    axis = (np.arange(48, dtype=np.float32) - 23.5) * np.float32(0.7)
    y, x = np.meshgrid(axis, axis, indexing="ij")
    chest = chest_integrals(anatomy, x, y, lift, yaw, 0.7)
    assert np.isfinite(chest.attenuation).all()
    assert (chest.attenuation >= 0).all()
    assert chest.attenuation.max() < 15
    for aerated in chest.lungs.values():
        assert aerated.min() >= -1e-4
        assert aerated.max() <= 2 * anatomy.depth + 1e-4
    assert (np.diff(chest_width(anatomy, axis)) >= -1e-5).all()


def test_sites_differ() -> None:
    """One patient list under two styles: other pixels, same masks up to pose; documented fields differ."""
    a, b = (phantom({"size": 64}, patients=30, images_per_patient=[1, 1], style=style) for style in "ab")
    pd.testing.assert_frame_equal(a.table, b.table)
    assert abs(a.images.mean() - b.images.mean()) > 5
    assert read_options({"site": "b"}).film != read_options({"site": "a"}).film
    assert read_options({"site": "elsewhere"}).film == read_options({"site": "a"}).film
    assert read_options({"style": {"base": "b", "marker": ""}}).film.marker == ""


def test_missing_values_hide_but_do_not_change_the_film() -> None:
    whole = phantom(patients=60, images_per_patient=[1, 1])
    holes = phantom(patients=60, images_per_patient=[1, 1], missing={"age": 0.5, "sex": 0.3, "opacity": 0.4})
    np.testing.assert_array_equal(whole.images, holes.images)
    shares = holes.table[[*COLUMNS]].isna().mean()
    assert 0.3 < shares["age"] < 0.7
    assert 0.1 < shares["sex"] < 0.5
    assert 0.2 < shares["opacity"] < 0.6
    assert shares[["nodule", "effusion", "cardiomegaly", "build"]].eq(0).all()
    known = holes.table["age"].notna()
    assert (holes.table.loc[known, "age"] == whole.table.loc[known, "age"]).all()


def test_the_side_of_an_effusion_is_told_only_where_asked_and_changes_no_film() -> None:
    few = {"patients": 30, "prevalence": {"effusion": 0.6}}
    without, told = phantom(**few), phantom(**few, effusion_side=True)
    np.testing.assert_array_equal(without.images, told.images)
    np.testing.assert_array_equal(without.masks, told.masks)
    pd.testing.assert_frame_equal(without.table, told.table.drop(columns="effusion_side"))
    assert "effusion_side" not in without.facts["law"]
    assert set(told.columns) - set(without.columns) == {"effusion_side"}
    sides = told.table["effusion_side"]
    assert set(sides) == {"none", "left", "right"}
    assert ((sides != "none") == (told.table["effusion"] == 1)).all()
    alone = told.table["effusion"].eq(1) & told.table[["opacity", "nodule"]].eq(0).all(axis=1)
    columns = np.arange(32)
    for row in np.flatnonzero(alone):  # the patient's left is at the viewer's right
        centre = (told.masks[row, ..., 2] * columns).sum() / told.masks[row, ..., 2].sum()
        assert (centre > 15.5) == (sides[row] == "left")


def test_an_effusion_is_drawn_on_the_side_that_a_row_names() -> None:
    law = {"effusion_side": True}
    rows = pd.DataFrame({"effusion_side": ["left", "right", "none", None], "nodule": 0.0, "opacity": 0.0})
    keys = [{"row": 1}] * 3 + [{"row": 2}]
    _, masks = draw(rows, IMAGE, keys, law)
    halves = masks[..., 2].reshape(4, 32, 2, 16).sum(axis=(1, 3))  # viewer's left, viewer's right
    assert halves[0, 0] == 0 < halves[0, 1]
    assert halves[1, 1] == 0 < halves[1, 0]
    assert (halves[2] == 0).all()
    for wrong in ({"effusion_side": "none", "effusion": 1.0}, {"effusion_side": "left", "effusion": 0.0}):
        with pytest.raises(SynthGainError, match="no patient of this law"):
            draw(pd.DataFrame([wrong]), IMAGE, keys[:1], law)
    with pytest.raises(SynthGainError, match="'both' is not one of none, left, right"):
        draw(pd.DataFrame({"effusion_side": ["both"]}), IMAGE, keys[:1], law)


def test_the_facts_hold_the_whole_law() -> None:
    """An oracle reads the law from the manifest: it must give the same films as the options did."""
    options = {"patients": 1, "site": "b", "prevalence": {"opacity": 0.9}}
    law = prepare(options, IMAGE, 0, None).facts["law"]
    assert set(law["prevalence"]) == set(FINDINGS)
    rows, keys = pd.DataFrame({"sex": [None, None, "F"]}), [{"row": row} for row in range(3)]
    np.testing.assert_array_equal(draw(rows, IMAGE, keys, law)[0], draw(rows, IMAGE, keys, options)[0])


def test_law_has_the_marginals_it_was_asked_for() -> None:
    law = make_law(read_options({"prevalence": {"opacity": 0.2, "nodule": 0.0}, "sex_ratio": 0.7}))
    ages = law.weights.sum(axis=(0, 1))
    assert law.weights.sum() == pytest.approx(1)
    assert law.weights.sum(axis=(1, 2))[0] == pytest.approx(0.7)
    assert ages @ law.finding["opacity"] == pytest.approx(0.2, abs=1e-6)
    assert (law.finding["nodule"] == 0).all()
    assert (np.diff(law.finding["cardiomegaly"]) > 0).all()


def test_unknown_values_follow_the_exact_posterior() -> None:
    """Bayes: patients drawn given a label are distributed like the patients of the law that have it."""
    law = make_law(read_options({}))
    n = 6000
    free = [law.draw_patient(random_generator(row=row)) for row in range(n)]
    given = [law.draw_patient(random_generator(given=row), {"cardiomegaly": 1.0, "sex": None}) for row in range(n // 4)]
    with_it = [patient for patient in free if patient.findings["cardiomegaly"]]
    assert all(patient.findings["cardiomegaly"] for patient in given)
    ages = [np.mean([patient.age for patient in group]) for group in (with_it, given, free)]
    assert ages[1] == pytest.approx(ages[0], abs=2.0)
    assert ages[1] > ages[2] + 2.5
    rates = [np.mean([patient.findings["nodule"] for patient in group]) for group in (with_it, given)]
    assert rates[1] == pytest.approx(rates[0], abs=0.05)


def test_draw_follows_the_law_of_prepare() -> None:
    """Pixel mean and spread of films drawn under the data set's own rows match the data set's films."""
    options = {"patients": 150, "images_per_patient": [1, 1]}
    real = prepare(options, IMAGE, 0, None)
    keys = [{"pool": 1, "row": row} for row in range(150)]
    images, masks = draw(real.table, IMAGE, keys, options)
    assert images.shape == real.images.shape
    means, drawn = (array.astype(float).mean(axis=0)[..., 0] for array in (real.images, images))
    spread = real.images.astype(float).std(axis=0)[..., 0]
    # Standard error of the difference of two means of 150: 0.115 sd; 4.5 of them over 1024 correlated pixels.
    assert (np.abs(means - drawn) <= 0.52 * spread + 2.0).mean() > 0.995
    assert spread.mean() == pytest.approx(images.astype(float).std(axis=0).mean(), rel=0.1)
    shares, drawn_shares = real.masks.mean(axis=(0, 1, 2)), masks.mean(axis=(0, 1, 2))
    np.testing.assert_allclose(shares[:2], drawn_shares[:2], rtol=0.05)
    assert not (images == real.images).all(axis=(1, 2, 3)).any()  # new patients


def test_draw_rows_are_independent_and_take_nulls() -> None:
    rows = pd.DataFrame({"opacity": [1.0, np.nan, 0.0], "sex": ["F", None, "M"], "age": [40.0, np.nan, 71.0]})
    keys = [{"row": row} for row in range(3)]
    images, masks = draw(rows, IMAGE, keys, {})
    last, last_mask = draw(rows.iloc[[2]], IMAGE, keys[2:], {})
    np.testing.assert_array_equal(images[2:], last)
    np.testing.assert_array_equal(masks[2:], last_mask)
    assert draw(rows.iloc[:0], IMAGE, [], {})[0].shape == (0, 32, 32, 1)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"patient": 3}, "patients"),
        ({"patients": 0}, "patients"),
        ({"patients": "many"}, "patients"),
        ({"images_per_patient": [3, 1]}, "images_per_patient"),
        ({"prevalence": {"opacity": 1.2}}, "prevalence.opacity"),
        ({"prevalence": {"fracture": 0.2}}, "fracture"),
        ({"missing": {"weight": 0.2}}, "weight"),
        ({"style": "z"}, "'z'"),
        ({"style": {"contrasts": 1.0}}, "did you mean 'contrast'"),
        ({"style": {"contrast": 99}}, "style.contrast"),
        ({"age_range": [10, 40]}, "age_range"),
    ],
)
def test_wrong_options_give_one_line(options: dict[str, Any], says: str) -> None:
    with pytest.raises(SynthGainError) as caught:
        phantom(**options)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("image", [{"size": 16}, {"size": 512}, {"channels": 2}])
def test_wrong_geometry_gives_one_line(image: dict[str, Any]) -> None:
    with pytest.raises(SynthGainError, match=r"^image\."):
        phantom(image, patients=1)


def test_impossible_conditions_give_one_line() -> None:
    keys = [{"row": 0}]
    with pytest.raises(SynthGainError, match="sex"):
        draw(pd.DataFrame({"sex": ["X"]}), IMAGE, keys, {})
    with pytest.raises(SynthGainError, match="no patient"):
        draw(pd.DataFrame({"nodule": [1.0]}), IMAGE, keys, {"prevalence": {"nodule": 0.0}})


def test_wrong_labels_are_the_share_that_was_asked_for_and_the_truth_stands_beside_them() -> None:
    right, wrong = (
        phantom(patients=120, prevalence={"nodule": 0.5}, **more)
        for more in ({}, {"mislabelled": {"nodule": 0.25}, "missing": {"true_nodule": 0.4}})
    )
    np.testing.assert_array_equal(right.images, wrong.images)
    known = wrong.table["true_nodule"].notna()
    assert 0.45 < known.mean() < 0.75
    assert (wrong.table["true_nodule"] == right.table["nodule"])[known].all()
    assert 0.12 < (wrong.table["nodule"] != right.table["nodule"]).mean() < 0.4
    assert wrong.columns["true_nodule"]["kind"] == "binary"
    assert "true_nodule" not in right.table
    with pytest.raises(SynthGainError, match="there is no true_opacity, since mislabelled does not name its finding"):
        phantom(patients=2, missing={"true_opacity": 0.5})
