"""Pairs drawn from generators that this project trained: joint, for masks, of drawn masks, inpainted, of a GAN."""

import numpy as np
import pandas as pd
import pytest
from devices import DEVICE
from generator_jobs import training_job, write_data
from pool_sources import call, job_line, shard_slice

from draw_pool_shard import draw_pool_shard
from synthgain.data.image_set import read_image_set
from synthgain.generators.training import train_family
from synthgain.pools.inpainting import region_of
from synthgain.pools.shards import positions_of
from synthgain.runtime.files import digest, read_manifest

SAMPLING = {"solver": "dpmpp_2m", "steps": 3, "batch_size": 8}
PAIRED = {"structures": ["disc"], "mask_by": None, "training": {"steps": 4, "warmup_steps": 1}}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Run folder with discs and their masks, and generators of a few steps."""
    run = tmp_path_factory.mktemp("run")
    inputs = write_data(run, masks=True, without_disc=[1])
    jobs = {
        "joint": {"output": "image+mask"},
        "for_masks": {"output": "image", "mask_by": "concatenation"},
        "masks": {"output": "mask", "structures": ["upper", "disc"]},
    }
    for name, changes in jobs.items():
        train_family(training_job(run, inputs, name=name, **{**PAIRED, **changes}))
    names = [f"generators/{name}/0/manifest.json" for name in jobs]
    return run, {**inputs, **{name: read_manifest(run / name)["identity"] for name in names}}


@pytest.fixture(autouse=True)
def _on_the_cpu(monkeypatch):
    monkeypatch.setenv("SYNTHGAIN_DEVICE", DEVICE)


def draw(trained, generator, shards=1, **changes):
    run, inputs = trained
    parts = []
    for shard in range(shards):
        options = {"generator": [generator, 0], "snapshot": None}
        entry = {"module": "pairs", "options": options, "rows_of": "toy", "sampling": SAMPLING}
        part = shard_slice(shard, shards, pool=generator, **{**entry, **changes})
        output = f"pools/{generator}/0/replica-1/shard-{shard}/manifest.json"
        call(draw_pool_shard, job_line(run, output, part, inputs, digest(part)))
        parts.append(read_image_set((run / output).parent))
    table = pd.concat([part.table for part in parts], ignore_index=True)
    images, masks = (np.concatenate([getattr(part, name) for part in parts]) for name in ("images", "masks"))
    return images, masks, table, parts[0].manifest


GENERATED = {"source": "generated", "transform": None, "generator": ["masks", 0]}
INPAINTING = {"structure": "disc", "dilate": 0.0, "resamples": 2, "jump_length": 1, "redraw_mask": False}
WAYS = {
    "joint": ("joint", {}),
    "training masks": ("for_masks", {}),
    "transformed masks": ("for_masks", {"masks": {"source": "transformed", "transform": None, "generator": None}}),
    "drawn masks": ("for_masks", {"masks": GENERATED}),
    "inpainted": ("joint", {"inpainting": INPAINTING}),
}


@pytest.mark.parametrize("way", WAYS)
def test_pairs_are_bit_identical_for_any_number_of_shards(trained, way):
    generator, changes = WAYS[way]
    images, masks, table, manifest = draw(trained, generator, **changes)
    assert images.shape == masks.shape == (20, 8, 8, 1)
    assert manifest["mask_names"] == ["disc"]
    assert len({image.tobytes() for image in images}) == len(images)
    cut_images, cut_masks, cut_table, _ = draw(trained, generator, shards=3, **changes)
    assert np.array_equal(cut_images, images)
    assert np.array_equal(cut_masks, masks)
    pd.testing.assert_frame_equal(cut_table, table)


def test_an_inpainted_image_is_its_parent_outside_the_region(trained):
    images, _, table, _ = draw(trained, "joint", inpainting=INPAINTING)
    source = read_image_set(trained[0] / "datasets/toy")
    parents = source.images[positions_of(source, table["parent_image_id"])]
    discs = source.masks[positions_of(source, table["mask_parent_id"])][..., 0]
    for image, parent, disc in zip(images, parents, discs, strict=True):
        region = region_of(disc, 0.0)
        assert np.array_equal(image[~region], parent[~region])
        assert (image[region] != parent[region]).any()


def test_a_generator_of_masks_draws_no_pool(trained, capfd):
    with pytest.raises(SystemExit):
        draw(trained, "masks")
    message = capfd.readouterr().err
    assert "draws masks" in message
    assert "Traceback" not in message
