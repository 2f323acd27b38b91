"""Pools of image and mask pairs: joint, for given masks, inpainted, of a GAN, and misaligned."""

import json
import signal

import numpy as np
import pandas as pd
import pytest
import torch
from devices import DEVICE
from job_inputs import inputs_at
from pair_sources import Conditioned, Gan, Masks, Painted, Pairs, field_covariance, make_pairs
from pool_sources import COLUMNS, DATA_INPUTS, SIZE, call, job_line, make_request, make_source, shard_slice, training_of

import synthgain.pools.generated
import synthgain.pools.mask_conditions
from draw_pool_shard import draw_pool_shard
from merge_pool_replica import merge_pool_replica
from synthgain.data.image_set import write_image_set
from synthgain.data.order import training_order
from synthgain.data.replicas import read_replicas
from synthgain.pools import known, pairs
from synthgain.pools.inpainting import region_of
from synthgain.pools.misaligned import draw_misaligned, partners
from synthgain.pools.pair_decoding import clean, decode_planes
from synthgain.pools.shards import positions_of
from synthgain.runtime.command import Terminated
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import digest, read_manifest, write_json

IMAGES, MASKS = "generators/g/0/manifest.json", "generators/m/0/manifest.json"
INPUTS = {**DATA_INPUTS, IMAGES: "generator"}
TRANSFORM = {
    "rotation": 20.0,
    "translation": 0.15,
    "scale": 0.2,
    "elastic": 0.03,
    "mirror": False,
    "keep_inside": True,
    "area_change": 0.5,
}
TRANSFORMED = {"source": "transformed", "transform": TRANSFORM, "generator": None}
GENERATED = {"source": "generated", "transform": None, "generator": ["m", 0]}
INPAINTING = {"structure": "lung", "dilate": 0.13, "resamples": 2, "jump_length": 2, "redraw_mask": False}


@pytest.fixture(autouse=True)
def _here(monkeypatch):
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    threads = torch.get_num_threads()
    monkeypatch.setenv("SYNTHGAIN_DEVICE", DEVICE)
    monkeypatch.setattr(synthgain.pools.mask_conditions, "load_generator", lambda *_: Masks())
    yield
    torch.set_num_threads(threads)
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def run(tmp_path):
    return prepared(tmp_path)


def prepared(folder):
    make_pairs(folder)
    write_json(folder / IMAGES, {"identity": "generator"})
    write_json(folder / MASKS, {"identity": "masks"})
    return folder


def use(monkeypatch, generator):
    monkeypatch.setattr(synthgain.pools.generated, "load_generator", lambda *_: generator)
    return generator


def draw(run, shards=1, replica=1, **changes):
    """Draw and merge a replica; return images, table, masks and the merged manifest."""
    base, parts = f"pools/drawn/0/replica-{replica}", {}
    inputs = {**INPUTS, MASKS: "masks"} if (changes.get("masks") or {}).get("generator") else INPUTS
    for shard in range(shards):
        part = shard_slice(shard, shards, replica, **{"module": "pairs", **changes})
        output = f"{base}/shard-{shard}/manifest.json"
        call(draw_pool_shard, job_line(run, output, part, inputs, digest(part)))
        parts[output] = digest(part)
    merged = {"pool": "drawn", "index": 0, "replica": replica, "shards": shards}
    call(merge_pool_replica, job_line(run, f"{base}/manifest.json", merged, parts, "merged"))
    pool = read_replicas([(run / base / "manifest.json", None)])
    return pool.pixels.gather(), pool.table, pool.planes.gather(), read_manifest(run / base / "manifest.json")


def sources(run):
    from synthgain.data.image_set import read_image_set

    source = read_image_set(run / "datasets/a")
    return source, training_of(source)


WAYS = [
    (Pairs, {}),
    (Conditioned, {"masks": {"source": "training", "transform": None, "generator": None}}),
    (Conditioned, {"masks": TRANSFORMED}),
    (Conditioned, {"masks": GENERATED}),
    (Pairs, {"inpainting": INPAINTING}),
    (lambda: Gan(pairs=True), {}),
]
NAMES = ["joint", "training", "transformed", "generated", "inpainted", "gan"]


@pytest.mark.parametrize(("kind", "changes"), WAYS, ids=NAMES)
def test_shards_and_restarts_move_no_pixel_and_no_mask(run, tmp_path_factory, monkeypatch, kind, changes):
    generator = use(monkeypatch, kind())
    images, table, masks, manifest = draw(run, **changes)
    source, training = sources(run)
    assert images.dtype == masks.dtype == np.uint8
    assert images.shape == (len(training), SIZE, SIZE, 1)
    assert masks.shape == (len(training), SIZE, SIZE, 1)
    assert set(np.unique(masks)) <= {0, 1}
    assert manifest["mask_names"] == ["lung"]
    assert table["has_mask_lung"].all()
    assert manifest["columns"] == COLUMNS
    empty = int((~masks.any(axis=(1, 2, 3))).sum())
    assert manifest["mask_counts"]["empty"] == {"lung": empty}
    assert sorted(table["parent_image_id"]) == sorted(training["image_id"])
    assert len(source) > len(training)
    for shards in (2, 3):
        again = draw(prepared(tmp_path_factory.mktemp("cut")), shards, **changes)
        assert np.array_equal(again[0], images)
        assert np.array_equal(again[2], masks)
        pd.testing.assert_frame_equal(again[1], table)
        assert again[3]["mask_counts"] == manifest["mask_counts"]
    other = draw(run, replica=2, **changes)
    assert not np.array_equal(other[0], images)
    assert generator.calls > 0


def test_a_killed_shard_of_pairs_goes_on(run, tmp_path_factory, monkeypatch):
    class Interrupted(Conditioned):
        def denoise(self, x, sigma, condition):
            if self.calls == 6:
                signal.raise_signal(signal.SIGTERM)
            return super().denoise(x, sigma, condition)

    def request(folder):
        source, training = sources(folder)
        return make_request(
            source, folder, training=training, masks=GENERATED, options={"generator": ["g", 0], "snapshot": None},
            sampling={"steps": 4, "batch_size": 4}, inputs=inputs_at(folder, {IMAGES: "generator", MASKS: "masks"}),
        )  # fmt: skip

    use(monkeypatch, Interrupted())
    with pytest.raises(Terminated):
        pairs.draw(request(run))
    generator = use(monkeypatch, Conditioned())
    resumed = pairs.draw(request(run))
    batches = -(-len(resumed.table) // 4)
    assert generator.calls == 4 * (batches - 1)
    fresh = pairs.draw(request(prepared(tmp_path_factory.mktemp("fresh"))))
    assert np.array_equal(resumed.images, fresh.images)
    assert np.array_equal(resumed.masks, fresh.masks)


def test_joint_masks_have_no_parent_and_follow_the_generator(run, monkeypatch):
    use(monkeypatch, Pairs())
    images, table, masks, _ = draw(run)
    assert table["mask_parent_id"].isna().all()
    assert masks.mean() == pytest.approx(0.5, abs=0.15)
    sick = (table["opacity"] == 1).to_numpy()
    assert images[sick].mean() > images[~sick].mean() + 60


def test_condition_masks_are_the_rows_own_or_of_a_row_with_the_same_targets(run, monkeypatch):
    use(monkeypatch, Conditioned())
    images, table, masks, manifest = draw(run)
    source, training = sources(run)
    own = source.masks[positions_of(source, table["mask_parent_id"])]
    assert np.array_equal(own, masks)
    rows = training.set_index("image_id").loc[table["parent_image_id"]]
    has = rows["has_mask_lung"].to_numpy()
    assert (table["mask_parent_id"][has] == table["parent_image_id"][has]).all()
    assert (~has).sum() == manifest["mask_counts"]["borrowed"]["rows"] > 0
    lenders = training.set_index("image_id").loc[table["mask_parent_id"]]
    assert lenders["has_mask_lung"].all()
    assert np.array_equal(lenders["opacity"], table["opacity"])
    order = training_order(training, COLUMNS, 0, "a")
    patients = list(dict.fromkeys(training["patient_id"].iloc[order]))
    own = training.set_index("image_id").loc[table["parent_image_id"], "patient_id"].map(patients.index)
    lent = lenders["patient_id"].map(patients.index)
    late = (lent.to_numpy() > own.to_numpy()).mean()
    assert late < 0.1, "an arm on the first patients alone borrows from them, but for the first few"
    assert ((images > 128) == masks).mean() > 0.999  # the drawn image follows its mask


def test_transformed_masks_keep_their_parent_and_say_how_they_moved(run, monkeypatch):
    use(monkeypatch, Conditioned())
    images, table, masks, manifest = draw(run, masks=TRANSFORMED)
    source, _ = sources(run)
    own = source.masks[positions_of(source, table["mask_parent_id"])]
    full = own.any(axis=(1, 2, 3))
    moved = table["mask_transform"].notna().to_numpy()
    counts = manifest["mask_counts"]["transform"]
    assert counts["moved"] == moved.sum() > 0.5 * len(table)
    assert counts["empty"] == (~full).sum()
    assert counts["moved"] + counts["empty"] + counts["given up"] == len(table)
    assert np.array_equal(masks[~moved], own[~moved])
    assert (masks[moved] != own[moved]).any(axis=(1, 2, 3)).mean() > 0.5
    areas = masks[moved].sum(axis=(1, 2, 3)) / own[moved].sum(axis=(1, 2, 3))
    assert np.abs(areas - 1).max() <= 0.5
    assert json.loads(table["mask_transform"][moved].iloc[0]).keys() > {"rotation", "scale", "elastic"}
    assert ((images > 128) == masks).mean() > 0.999


def test_generated_masks_depend_on_the_row_and_not_on_the_images_noise(run, monkeypatch):
    use(monkeypatch, Conditioned())
    images, table, masks, _ = draw(run, masks=GENERATED)
    assert table["mask_parent_id"].isna().all()
    assert len({mask.tobytes() for mask in masks}) == len(masks)
    assert ((images > 128) == masks).mean() > 0.999


def test_a_gan_draws_images_and_pairs(run, monkeypatch):
    use(monkeypatch, Gan(pairs=False))
    part = shard_slice()
    output = "pools/drawn/0/replica-1/shard-0/manifest.json"
    call(draw_pool_shard, job_line(run, output, part, INPUTS, "s"))
    manifest = read_manifest(run / output)
    assert manifest["sampling"] == {"batch_size": 4, "precision": "float32", "compile": False}
    assert manifest["mask_names"] == []
    gan = use(monkeypatch, Gan(pairs=True))
    _, table, masks, _ = draw(run)
    assert gan.calls == -(-len(table) // 4)
    assert 0.1 < masks.mean() < 0.9


@pytest.mark.parametrize("redraw_mask", [False, True])
def test_inpainting_keeps_the_surroundings_exactly(run, monkeypatch, redraw_mask):
    use(monkeypatch, Pairs())
    options = {**INPAINTING, "redraw_mask": redraw_mask}
    images, table, masks, manifest = draw(run, inpainting=options)
    source, training = sources(run)
    parents = source.images[positions_of(source, table["parent_image_id"])]
    lent = positions_of(source, table["mask_parent_id"])
    own = source.masks[positions_of(source, table["parent_image_id"])]
    has = training.set_index("image_id").loc[table["parent_image_id"], "has_mask_lung"].to_numpy()
    for row in range(len(table)):
        region = region_of(source.masks[lent[row], :, :, 0], INPAINTING["dilate"])
        assert 9 < region.sum() < 40
        assert np.array_equal(images[row][~region], parents[row][~region])
        assert (images[row][region] != parents[row][region]).mean() > 0.5
        if has[row]:
            assert np.array_equal(masks[row][~region], own[row][~region])
    stays = (masks[has] == own[has]).all(axis=(1, 2, 3))
    assert has.any()
    assert stays.mean() < 0.5 if redraw_mask else stays.all()
    assert manifest["inpainting"] == options
    assert manifest["sampling"]["solver"] == "repaint"
    lends = table["mask_parent_id"] != table["parent_image_id"]
    assert manifest["mask_counts"]["borrowed"]["rows"] == lends.sum() > 0


def test_the_object_is_painted_where_the_mask_is(run, monkeypatch):
    use(monkeypatch, Painted())
    images, table, masks, _ = draw(run, inpainting=INPAINTING, sampling={"steps": 18, "batch_size": 16})
    source, _ = sources(run)
    own = positions_of(source, table["parent_image_id"])
    filled = table["mask_parent_id"] == table["parent_image_id"]  # not a region that another image lent
    assert filled.sum() > 10
    assert np.array_equal(masks[filled], source.masks[own[filled]])
    inside = masks[filled] > 0
    assert np.median(images[filled][inside]) > 180  # the parents' own is 174 at the most, and 60 to 89 outside


def seam(images, region):
    """Mean absolute step across the region's border, grey levels."""
    steps = []
    for axis in (0, 1):
        crosses = np.diff(region.astype(int), axis=axis) != 0
        steps.append(np.abs(np.diff(images[..., 0].astype(float), axis=axis))[crosses])
    return np.concatenate(steps).mean()


def test_inpainting_leaves_no_seam(run, monkeypatch):
    source, _ = sources(run)
    use(monkeypatch, Pairs())
    root = np.linalg.cholesky(field_covariance())
    fields = np.random.default_rng(3).standard_normal((len(source), SIZE * SIZE)) @ root.T
    images = np.clip(fields * 127.5 + 127.5, 0, 255).astype(np.uint8).reshape(-1, SIZE, SIZE, 1)
    table = source.table.drop(columns="sha256").assign(opacity=np.float32(0.5))
    source = write_image_set(run / "datasets/a", images, table, COLUMNS, "dataset", np.asarray(source.masks), ["lung"])
    drawn, table, _, _ = draw(run, inpainting={**INPAINTING, "resamples": 6}, sampling={"steps": 18, "batch_size": 16})
    parents = images[positions_of(source, table["parent_image_id"])]
    lent = positions_of(source, table["mask_parent_id"])
    regions = [region_of(source.masks[row, :, :, 0], INPAINTING["dilate"]) for row in lent]
    found = np.mean([seam(image, region) for image, region in zip(drawn, regions, strict=True)])
    real = np.mean([seam(image, region) for image, region in zip(parents, regions, strict=True)])
    pasted = [np.where(region[..., None], np.roll(parents, 1, axis=0)[row], parents[row])
              for row, region in enumerate(regions)]  # fmt: skip
    careless = np.mean([seam(image, region) for image, region in zip(pasted, regions, strict=True)])
    assert found < 1.3 * real
    assert careless > 1.5 * real  # the measure sees what a careless paste does


BAD = [
    (Pairs, {"masks": TRANSFORMED}, "takes no masks"),
    (Conditioned, {"inpainting": INPAINTING}, "needs a generator that denoises"),
    (lambda: Gan(pairs=True), {"inpainting": INPAINTING}, "needs a generator that denoises"),
    (lambda: Gan(pairs=False), {}, "no masks"),
    (Pairs, {"inpainting": {**INPAINTING, "structure": "polyp"}}, "polyp"),
    (Masks, {}, "draws masks"),
    (Pairs, {"module": "generated"}, "has masks"),
    (Pairs, {"image": {"size": 16, "channels": 1}}, "16"),
]


@pytest.mark.parametrize(("kind", "changes", "word"), BAD)
def test_what_does_not_fit_is_refused_in_one_line(run, monkeypatch, capfd, kind, changes, word):
    use(monkeypatch, kind())
    with pytest.raises(SystemExit):
        draw(run, **changes)
    message = capfd.readouterr().err
    assert word in message
    assert "Traceback" not in message


def test_a_mask_generator_must_draw_the_structures_that_are_asked_for(run, monkeypatch, capfd):
    use(monkeypatch, Conditioned())
    monkeypatch.setattr(synthgain.pools.mask_conditions, "load_generator", lambda *_: Pairs())
    with pytest.raises(SystemExit):
        draw(run, masks=GENERATED)
    assert "masks.from" in capfd.readouterr().err


def test_data_without_the_masks_are_named(run, monkeypatch, capfd):
    generator = use(monkeypatch, Conditioned())
    generator.structures = ("spleen",)
    with pytest.raises(SystemExit):
        draw(run)
    assert "no masks of 'spleen'" in capfd.readouterr().err
    source, _ = sources(run)
    table = source.table.drop(columns="sha256").assign(has_mask_lung=False)
    write_image_set(run / "datasets/a", source.images, table, COLUMNS, "dataset", source.masks * 0, ["lung"])
    other = use(monkeypatch, Pairs())
    other.structures = ("spleen",)
    with pytest.raises(SystemExit):
        draw(run, inpainting={**INPAINTING, "structure": "spleen"})
    assert "no masks of 'spleen'" in capfd.readouterr().err
    use(monkeypatch, generator).structures = ("lung",)
    with pytest.raises(SystemExit):
        draw(run)
    assert "no training row of a has a mask of lung" in capfd.readouterr().err


def test_decoding_cuts_halfway_and_takes_specks_and_pinholes_away():
    planes = np.zeros((1, 64, 64, 2), np.uint8)
    planes[0, 10:40, 10:40, 0] = 200
    planes[0, 20:24, 20:24, 0] = 90  # a hole of 16 pixels
    planes[0, 50, 50, 0] = 255  # a speck
    planes[0, 10:50, 10:50, 1] = 255
    planes[0, 15:45, 15:45, 1] = 0  # a ring around an organ stays a ring
    masks = decode_planes(planes)
    assert masks[0, :, :, 0].sum() == 900
    assert masks[0, 10:40, 10:40, 0].all()
    assert masks[0, :, :, 1].sum() == 1600 - 900
    assert not clean(np.zeros((64, 64), bool)).any()
    assert clean(np.ones((64, 64), bool)).all()
    assert decode_planes(np.full((1, 8, 8, 1), 127, np.uint8)).sum() == 0
    assert decode_planes(np.full((1, 8, 8, 1), 128, np.uint8)).sum() == 64


@pytest.mark.parametrize("sizes", [[1, 1], [3, 2, 1, 4], [1] * 9, [5, 5], [2, 9, 1]])
def test_partners_are_a_permutation_to_other_patients(sizes):
    patients = np.repeat([f"p{number}" for number in range(len(sizes))], sizes)
    for seed in range(10):
        other = partners(patients, np.random.default_rng(seed))
        assert sorted(other) == list(range(len(patients)))
        assert (other != np.arange(len(patients))).all()
        if 2 * max(sizes) <= sum(sizes):
            assert (patients[other] != patients).all()


@pytest.mark.parametrize("shards", [1, 3])
def test_misaligned_masks_are_another_patients(run, monkeypatch, shards):
    use(monkeypatch, Pairs())
    images, table, masks, _ = draw(run)
    mixed, other, moved, manifest = draw(run, shards, misaligned=True)
    assert manifest["misaligned"] is True
    assert np.array_equal(mixed, images)
    pd.testing.assert_frame_equal(other[[*COLUMNS, "image_id", "seed"]], table[[*COLUMNS, "image_id", "seed"]])
    assert sorted(mask.tobytes() for mask in moved) == sorted(mask.tobytes() for mask in masks)
    assert (moved != masks).any(axis=(1, 2, 3)).all()
    empty = int((~masks.any(axis=(1, 2, 3))).sum())
    assert manifest["mask_counts"]["empty"] == {"lung": empty}


def test_misaligned_copies_carry_the_mask_of_the_row_that_is_named(tmp_path):
    source = make_source(tmp_path)
    request = make_request(source, tmp_path, options={"kind": "copier"})
    drawn = draw_misaligned(known.draw, request)
    lent = positions_of(source, drawn.table["mask_parent_id"])
    assert np.array_equal(drawn.images, source.images[positions_of(source, drawn.table["parent_image_id"])])
    assert np.array_equal(drawn.masks, source.masks[lent])
    assert list(drawn.table["has_mask_lung"]) == list(source.table["has_mask_lung"].iloc[lent])
    assert (source.table["patient_id"].iloc[lent].to_numpy() != drawn.table["patient_id"].to_numpy()).all()


def test_a_pool_without_masks_cannot_be_misaligned(tmp_path):
    source = make_source(tmp_path)
    bare = write_image_set(
        tmp_path / "bare", source.images, source.table.drop(columns="has_mask_lung"), COLUMNS, "bare"
    )
    with pytest.raises(SynthGainError, match="no masks to permute"):
        draw_misaligned(known.draw, make_request(bare, tmp_path, options={"kind": "copier"}))
