"""The user's own synthetic images."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image
from planned_jobs import run_study
from pool_sources import SIZE, make_request, make_source, training_of
from studies import tiny

from synthgain.datasets.known_layouts import KNOWN_LAYOUTS
from synthgain.datasets.miniatures import write_miniature
from synthgain.datasets.polyp_miniatures import draw_frames
from synthgain.pools import imported
from synthgain.pools.conditions import PoolKeys
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import read_manifest

ROOT = Path(__file__).parent.parent
UNET = {"task": "segmentation", "structures": ["polyp"], "network": "unet", "steps": 2, "batch_size": 4}
PRIMARY = {"model": "unet", "arm": "with_singan", "ratio": 100, "metric": "dice", "test_set": "hyperkvasir"}
ANALYSIS = {"primary": PRIMARY, "margin": 0.01, "margin_reason": "as little as readers differ by"}
SPLIT = {"train": 0.5, "validation": 0.2, "test": 0.3}
COUNT = 25
IMAGE = {"size": SIZE, "channels": 1, "fit": "pad", "intensity": "none"}
OPTIONS = {"table": "mine/table.csv", "targets": {"opacity": {"column": "opacity"}}}


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """25 images with a table; the pixel value is 5 times the row."""
    folder = tmp_path / "data/mine"
    folder.mkdir(parents=True)
    for row in range(COUNT):
        Image.fromarray(np.full((SIZE, SIZE), 5 * row, np.uint8)).save(folder / f"{row}.png")
    table = pd.DataFrame(
        {"image": [f"{row}.png" for row in range(COUNT)], "opacity": [row % 2 for row in range(COUNT)]}
    )
    table["copy"] = [1 + (row >= 20) for row in range(COUNT)]
    table["parent"] = [f"p{row}" if row % 5 else "" for row in range(COUNT)]
    table.to_csv(folder / "table.csv", index=False)
    monkeypatch.setenv("SYNTHGAIN_DATA", str(tmp_path / "data"))
    return tmp_path


def draw(folder, source=None, replica=1, options=OPTIONS, **changes):
    keys = PoolKeys(0, "mine", 0, replica)
    return imported.draw(make_request(source, folder, keys=keys, options=options, image=IMAGE, **changes))


def rows(drawn):
    return (drawn.images[:, 0, 0, 0] // 5).tolist()


def test_without_rows_of_all_are_replica_one(mine):
    drawn = draw(mine)
    assert rows(drawn) == list(range(COUNT))
    assert drawn.table["opacity"].tolist() == [row % 2 for row in range(COUNT)]
    assert (drawn.table["origin"] == "synthetic").all()
    assert drawn.table["parent_image_id"].isna().all()
    assert drawn.table["seed"].isna().all()
    assert list(drawn.table["patient_id"]) == list(drawn.table["image_id"])
    assert drawn.table["source_image_id"].tolist() == [f"{row}.png" for row in range(COUNT)]


def test_replicas_are_blocks_of_the_training_size(mine):
    source = make_source(mine, patients=12)
    n = len(training_of(source))
    assert n < COUNT < 3 * n
    parts = [rows(draw(mine, source, replica)) for replica in range(1, -(-COUNT // n) + 1)]
    assert [row for part in parts for row in part] == list(range(COUNT))
    assert len(parts[0]) == n
    with pytest.raises(SynthGainError, match="lower the arms' ratios"):
        draw(mine, source, len(parts) + 1)


def test_a_replica_column_decides(mine):
    options = {**OPTIONS, "replica": "copy"}
    assert rows(draw(mine, options=options)) == list(range(20))
    second = draw(mine, replica=2, options=options)
    assert rows(second) == list(range(20, COUNT))
    assert (second.table["replica"] == 2).all()
    assert second.table["image_id"].iloc[0] == "mine-0123456789-r2-000000"


def test_parents_are_read_where_given(mine):
    table = draw(mine, options={**OPTIONS, "parent_image_id": "parent"}).table
    assert table["parent_image_id"].iloc[1] == "p1"
    assert table["parent_image_id"].isna().sum() == 5


def with_parents(folder, parents):
    path = folder / "data/mine/table.csv"
    pd.read_csv(path).assign(parent=parents).to_csv(path, index=False)
    return {**OPTIONS, "parent_image_id": "parent"}


def test_children_of_other_parts_are_left_out_and_the_rest_are_of_their_parents_patients(mine):
    source = make_source(mine, patients=12)
    ids = source.table["image_id"].astype(str).tolist()
    inside = set(training_of(source)["image_id"].astype(str))
    parents = [ids[row % len(ids)] for row in range(COUNT - 1)] + [""]
    assert len(inside & set(parents)) < len(set(parents))
    drawn = draw(mine, source, options=with_parents(mine, parents))
    expected = [row for row, parent in enumerate(parents) if parent in inside or not parent]
    assert rows(drawn) == expected[: len(training_of(source))]
    assert drawn.facts["of_other_parts"] == COUNT - len(expected)
    patients = source.table.set_index(source.table["image_id"].astype(str))["patient_id"]
    table = drawn.table[drawn.table["parent_image_id"].notna()]
    assert table["patient_id"].tolist() == [patients[parent] for parent in table["parent_image_id"]]


def test_a_parent_that_the_data_set_lacks_is_one_line(mine):
    source = make_source(mine, patients=12)
    parents = ["", str(source.table["image_id"].iloc[0]), "nobody"] + [""] * (COUNT - 3)
    with pytest.raises(SynthGainError, match=r"names the parent 'nobody', which '\w+' does not have") as caught:
        draw(mine, source, options=with_parents(mine, parents))
    assert "\n" not in str(caught.value)


def test_shards_join_to_the_same_pool(mine):
    whole = draw(mine)
    parts = [draw(mine, shard=shard, shards=3) for shard in range(3)]
    assert np.array_equal(np.concatenate([part.images for part in parts]), whole.images)
    joined = pd.concat([part.table for part in parts], ignore_index=True)
    assert list(joined["image_id"]) == list(whole.table["image_id"])


def test_masks_come_with_their_images(mine):
    folder = mine / "data/mine"
    table = pd.read_csv(folder / "table.csv")
    for row in range(COUNT):
        mask = np.zeros((SIZE, SIZE), np.uint8)
        mask[: 1 + row % 5, :3] = 255
        Image.fromarray(mask).save(folder / f"mask-{row}.png")
    table["outline"] = [f"mask-{row}.png" if row % 4 else "" for row in range(COUNT)]
    table.to_csv(folder / "table.csv", index=False)
    options = {**OPTIONS, "mask": [{"column": "outline", "name": "lesion"}]}
    whole = draw(mine, options=options)
    assert whole.mask_names == ["lesion"]
    assert whole.table["has_mask_lesion"].tolist() == [row % 4 > 0 for row in range(COUNT)]
    areas = [3 * (1 + row % 5) if row % 4 else 0 for row in range(COUNT)]
    assert whole.masks.sum(axis=(1, 2, 3)).tolist() == areas
    part = draw(mine, options=options, shard=1, shards=3)
    first = len(draw(mine, options=options, shard=0, shards=3).table)
    assert np.array_equal(part.masks, whole.masks[first : first + len(part.table)])


def test_samples_of_one_gan_per_image_as_the_docs_have_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs/masks.md").read_text(encoding="utf-8").split("## One GAN per image")[1]
    header = re.search(r"```csv\n(.+)\n", text)[1]
    example = yaml.safe_load(re.search(r"```yaml\n(.*?)```", text, re.DOTALL)[1])
    write_miniature("hyperkvasir", tmp_path, KNOWN_LAYOUTS["hyperkvasir"].folder, patients=24)
    lines, parents = [header], sorted(path.stem for path in (tmp_path / "segmented-images/images").iterdir())
    for sample in (1, 2):
        images, masks = draw_frames(len(parents), sample, "singan")
        for parent, image, mask in zip(parents, images, masks, strict=True):
            for kind, pixels in (("images", image), ("masks", mask.astype(np.uint8) * 255)):
                (tmp_path / "singan" / kind).mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(tmp_path / f"singan/{kind}/{parent}-{sample}.png")
            lines.append(f"images/{parent}-{sample}.png,masks/{parent}-{sample}.png,{parent},{sample}")
    (tmp_path / "singan/table.csv").write_text("\n".join(lines) + "\n")
    config = tiny(
        **example,
        data_root=str(tmp_path),
        image={"size": 32, "channels": 3},
        generators={},
        datasets={"hyperkvasir": {"adapter": "published", "layout": "hyperkvasir", "split": SPLIT}},
        evaluate_on=["hyperkvasir"],
        models={"unet": UNET},
        analysis=ANALYSIS,
    )
    for arm, ratio in (("sibling_singan", 100), ("with_singan", 200)):
        place = {"model": "unet", "arm": arm, "ratio": ratio, "chunk": 0}
        run = run_study(config, ROOT, Path("results"), "train_downstream", **place).parents[5]
    split = pd.read_parquet(run / "splits/hyperkvasir/split.parquet").set_index("image_id")["part"]
    for replica in (1, 2):
        folder = run / f"pools/singan/0/replica-{replica}/shard-0/manifest.json"
        drawn = pd.read_parquet(folder.parent / "table.parquet")
        assert set(split[drawn["parent_image_id"]]) == {"train"}
        assert len(drawn) == (split == "train").sum()
        assert read_manifest(folder)["of_other_parts"] == 2 * (split != "train").sum()


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"table": "mine/none.csv"}, "none.csv"),
        ({"replica": "parent"}, "replica must be"),
        ({"replica": "cpy"}, "cpy"),
    ],
)
def test_wrong_tables_are_refused_in_one_line(mine, change, word):
    with pytest.raises(SynthGainError, match=word) as caught:
        draw(mine, options={**OPTIONS, **change})
    assert "\n" not in str(caught.value)


def test_a_missing_root_is_named(mine, monkeypatch):
    monkeypatch.delenv("SYNTHGAIN_DATA")
    with pytest.raises(SynthGainError, match="SYNTHGAIN_DATA"):
        draw(mine)
