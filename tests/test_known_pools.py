"""Pools of known truth."""

import numpy as np
import pandas as pd
import pytest
from pool_sources import COLUMNS, SIZE, make_request, make_source, training_of

from synthgain.data.image_set import write_image_set
from synthgain.datasets import phantom
from synthgain.pools import known
from synthgain.pools.shards import positions_of
from synthgain.runtime.errors import SynthGainError

PHANTOM = {"patients": 16, "site": "a", "seed": 1, "images_per_patient": [1, 2]}
IMAGE = {"size": 32, "channels": 1}


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantom")
    made = phantom.prepare(PHANTOM, IMAGE, 0, None)
    return write_image_set(
        folder, made.images, made.table, made.columns, "films", made.masks, made.mask_names, **made.facts
    )


def draw(source, folder, options, **changes):
    return known.draw(make_request(source, folder, options=options, **changes))


def of_films(films, folder, options, **changes):
    return draw(films, folder, options, image=IMAGE, **changes)


def parents(source, drawn):
    return positions_of(source, drawn.table["parent_image_id"])


def test_a_copier_gives_the_training_images_again(tmp_path):
    source = make_source(tmp_path)
    drawn = draw(source, tmp_path, {"kind": "copier"})
    own = parents(source, drawn)
    assert np.array_equal(drawn.images, source.images[own])
    assert np.array_equal(drawn.masks, source.masks[own])
    assert sorted(drawn.table["parent_image_id"]) == sorted(training_of(source)["image_id"])
    assert list(drawn.table["has_mask_lung"]) == list(source.table["has_mask_lung"].iloc[own])
    assert np.array_equal(drawn.table["opacity"], source.table["opacity"].iloc[own])


def test_a_jittered_copier_is_close_but_never_equal(tmp_path):
    source = make_source(tmp_path)
    smooth = np.broadcast_to(np.linspace(60, 180, 32, dtype=np.uint8)[:, None, None], (len(source), 32, 32, 1)).copy()
    source = write_image_set(tmp_path / "smooth", smooth, source.table.drop(columns="has_mask_lung"), COLUMNS, "s")
    drawn = draw(source, tmp_path, {"kind": "jittered_copier"})
    difference = np.abs(drawn.images.astype(int) - smooth[parents(source, drawn)].astype(int)).mean(axis=(1, 2, 3))
    assert (difference > 1).all()
    assert (difference < 25).all()
    again = draw(source, tmp_path, {"kind": "jittered_copier"})
    assert np.array_equal(again.images, drawn.images)


def test_a_jittered_mask_moves_with_its_image():
    image = np.zeros((32, 32, 1), np.uint8)
    image[10:15, 8:20] = 200
    moved, shift = known.jitter(image, np.random.default_rng(3))
    mask = known.shifted((image > 0).astype(np.uint8), *shift)
    assert shift != (0, 0)
    assert np.array_equal(moved > 100, mask > 0)


def test_a_shift_repeats_the_edge():
    row = np.array([1, 2, 3, 4], np.uint8).reshape(1, 4, 1)
    assert known.shifted(row, 0, 1).ravel().tolist() == [1, 1, 2, 3]
    assert known.shifted(row, 0, -2).ravel().tolist() == [3, 4, 4, 4]


def test_noise_has_the_moments_of_the_training_images_and_no_structure(tmp_path):
    source = make_source(tmp_path, patients=80)
    drawn = draw(source, tmp_path, {"kind": "noise"})
    real = source.images[positions_of(source, training_of(source)["image_id"])].astype(float)
    assert drawn.images.mean() == pytest.approx(real.mean(), abs=2)
    assert drawn.images.std() == pytest.approx(real.std(), rel=0.05)
    flat = drawn.images.reshape(len(drawn.images), -1).astype(float)
    assert abs(np.corrcoef(flat)[np.triu_indices(len(flat), 1)].mean()) < 0.02


@pytest.mark.parametrize("kind", ["noise", "jittered_copier"])
def test_copied_masks_say_which_rows_have_one(tmp_path, kind):
    source = make_source(tmp_path)
    drawn = draw(source, tmp_path, {"kind": kind})
    own = parents(source, drawn)
    assert list(drawn.table["has_mask_lung"]) == list(source.table["has_mask_lung"].iloc[own])
    assert not drawn.masks[~drawn.table["has_mask_lung"].to_numpy()].any()
    assert drawn.mask_names == ["lung"]
    if kind == "noise":  # the noise knows nothing of the mask that it carries
        assert np.array_equal(drawn.masks, source.masks[own])
        inside, outside = (drawn.images[drawn.masks == value].mean() for value in (1, 0))
        assert inside == pytest.approx(outside, abs=8)
        real = (source.images[own][drawn.masks == value].mean() for value in (1, 0))
        assert abs(np.subtract(*real)) > 30


@pytest.mark.parametrize("kind", ["copier", "jittered_copier", "noise"])
def test_shards_join_to_the_same_pool(tmp_path, kind):
    source = make_source(tmp_path)
    whole = draw(source, tmp_path, {"kind": kind})
    parts = [draw(source, tmp_path, {"kind": kind}, shard=shard, shards=3) for shard in range(3)]
    assert np.array_equal(np.concatenate([part.images for part in parts]), whole.images)
    pd.testing.assert_frame_equal(pd.concat([part.table for part in parts], ignore_index=True), whole.table)
    empty = draw(source, tmp_path, {"kind": kind}, shard=0, shards=1000)
    assert empty.images.shape[1:] == (SIZE, SIZE, 1)
    assert len(empty.table) == 0


def test_shuffled_labels_stand_under_unchanged_images(tmp_path):
    source = make_source(tmp_path, patients=60)
    plain = draw(source, tmp_path, {"kind": "copier"})
    mixed = draw(source, tmp_path, {"kind": "label_shuffled", "base": "copier"})
    assert np.array_equal(plain.images, mixed.images)
    assert sorted(plain.table["opacity"]) == sorted(mixed.table["opacity"])
    assert list(plain.table["opacity"]) != list(mixed.table["opacity"])
    assert mixed.facts["known"] == {"kind": "label_shuffled", "base": "copier"}


def test_wrong_prevalence(tmp_path):
    source = make_source(tmp_path)
    conditions = {"mode": "balanced", "balance": {"opacity": 0.8}}
    drawn = draw(source, tmp_path, {"kind": "wrong_prevalence", "base": "copier"}, conditions=conditions)
    assert abs((drawn.table["opacity"] == 1).sum() - 0.8 * len(drawn.table)) <= 1
    assert np.array_equal(drawn.images, source.images[parents(source, drawn)])


def test_a_mode_dropper_shows_nobody_of_the_dropped_level(tmp_path):
    source = make_source(tmp_path)
    drawn = draw(source, tmp_path, {"kind": "mode_dropper", "base": "copier", "drop": {"sex": "F"}})
    own = source.table.iloc[parents(source, drawn)]
    assert (drawn.table["sex"] == "M").all()
    assert (own["sex"] == "M").all()  # the images too
    assert np.array_equal(drawn.images, source.images[own.index])
    assert drawn.table["seed"].is_unique


def test_an_oracle_draws_new_patients_under_the_rows_labels(films, tmp_path):
    drawn = of_films(films, tmp_path, {"kind": "oracle"})
    own = parents(films, drawn)
    assert np.array_equal(drawn.table["opacity"], films.table["opacity"].iloc[own])
    assert not set(map(bytes, drawn.images)) & set(map(bytes, films.images))
    assert drawn.mask_names == films.mask_names
    assert drawn.table["has_mask_lungs"].all()
    # like films in brightness, and a finding's mask where (and only where) a finding is
    assert drawn.images.mean() == pytest.approx(films.images.mean(), abs=15)
    local = drawn.table[["opacity", "nodule", "effusion"]].to_numpy().any(axis=1)
    finding = drawn.masks[..., drawn.mask_names.index("finding")].any(axis=(1, 2))
    assert (finding >= local).all()


def test_oracle_replicas_and_shards(films, tmp_path):
    whole = of_films(films, tmp_path, {"kind": "oracle"})
    parts = [of_films(films, tmp_path, {"kind": "oracle"}, shard=shard, shards=2) for shard in range(2)]
    assert np.array_equal(np.concatenate([part.images for part in parts]), whole.images)
    keys = known.dataclasses.replace(make_request(films, tmp_path).keys, replica=2)
    second = of_films(films, tmp_path, {"kind": "oracle"}, keys=keys)
    assert list(second.table["parent_image_id"]) == list(whole.table["parent_image_id"])
    assert not set(map(bytes, second.images)) & set(map(bytes, whole.images))


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"kind": "magic"}, "magic"),
        ({"kind": "oracle"}, "phantom"),
        ({"kind": "copier", "dorp": {}}, "dorp"),
        ({"kind": "label_shuffled", "base": "mode_dropper"}, "base"),
        ({"kind": "mode_dropper", "base": "copier"}, "drop"),
        ({"kind": "wrong_prevalence", "base": "copier"}, "balance"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(tmp_path, options, word):
    with pytest.raises(SynthGainError, match=word) as caught:
        draw(make_source(tmp_path), tmp_path, options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("share", [0.01, 0.03, 0.05, 0.5])
def test_a_part_copier_holds_its_share_of_exact_copies_in_any_cut(share):
    whole = np.concatenate([known.copied(replica, 40, share) for replica in range(5)])
    for count in (1, 40, 99, 200):
        assert whole[:count].sum() == int(np.floor(round(count * share, 9)))


def test_a_part_copier_copies_some_training_films_and_draws_the_others(films, tmp_path):
    drawn = of_films(films, tmp_path, {"kind": "part_copier", "copies": 0.25})
    own, plain = parents(films, drawn), of_films(films, tmp_path, {"kind": "oracle"})
    copies = (drawn.images == films.images[own]).all(axis=(1, 2, 3))
    assert copies.sum() == len(copies) // 4
    assert np.array_equal(drawn.images[~copies], plain.images[~copies])
    assert np.array_equal(drawn.masks[copies], films.masks[own][copies])
