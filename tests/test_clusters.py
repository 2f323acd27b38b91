"""Appearance clusters: images divided, a generator on each, pools drawn from their own, the gate by cluster."""

import base64
import copy
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from appearances import TINTS, write_planted
from devices import DEVICE
from evaluation_run import make_job, memorisation_slice, pictures, write_pool, write_real
from generator_jobs import TINY_NETWORK, training_job
from job_inputs import new_job
from pool_sources import call, job_line, shard_slice
from sklearn.metrics import adjusted_rand_score
from studies import tiny

from audit_clusters import audit_clusters
from check_memorisation import check_memorisation
from cluster_images import cluster_images
from draw_pool_shard import draw_pool_shard
from synthgain.clusters.appearance import divide, joined, mask_facts
from synthgain.clusters.options import Clusters
from synthgain.data.clusters import read_clusters
from synthgain.data.image_set import read_image_set
from synthgain.datasets.audit_page import audit_page
from synthgain.generators.training import train_family
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import digest, read_json, read_manifest, write_manifest, write_table
from synthgain.study.code import CodeDigests
from synthgain.study.load import parse_study
from synthgain.study.planner import Planner
from synthgain.study.session import Session
from synthgain.study.stages.table import STAGES

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def _on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNTHGAIN_DEVICE", DEVICE)


def divided(run: Path, inputs: dict[str, str], **changes: Any) -> tuple[dict[str, str], Path]:
    """Run cluster_images on `toy`; return the inputs with it, and its folder."""
    options = {"of": "toy", "k": 3, **changes}
    part = {"name": "looks", "clusters": options, "space_options": {"size": 64}, "seed": 0}
    output = "clusters/looks/manifest.json"
    identity = digest([part, inputs])
    call(cluster_images, job_line(run, output, part, inputs, identity))
    return {**inputs, output: identity}, run / "clusters/looks"


def test_planted_appearances_are_recovered(tmp_path: Path) -> None:
    kinds = np.arange(45) % 3
    _, folder = divided(tmp_path, write_planted(tmp_path, kinds))
    table = read_clusters(folder, "looks").table
    truth = [kinds[int(name.split("-")[1])] for name in table["image_id"]]
    assert adjusted_rand_score(truth, table["cluster"]) >= 0.9
    manifest = read_manifest(folder / "manifest.json")
    assert {"clusters.parquet", "sizes.csv", "cluster-0.png", "cluster-2.png"} <= set(manifest["files"])
    assert len(table) == 45  # training images alone


def test_the_audit_shows_members_sizes_and_a_picture_per_cluster(tmp_path: Path) -> None:
    inputs, folder = divided(tmp_path, write_planted(tmp_path, np.arange(45) % 3))
    part = {"study": "tiny", "clusters": {"looks": {"of": "toy", "k": 3}}}
    output = "audit/clusters/manifest.json"
    call(audit_clusters, job_line(tmp_path, output, part, inputs, "i" * 32))
    assert set(read_manifest(tmp_path / output)["files"]) == {"clusters.html", "looks.csv"}
    page = (tmp_path / "audit/clusters/clusters.html").read_text()
    for number in range(3):  # the pictures of the report, whole
        assert base64.b64encode((folder / f"cluster-{number}.png").read_bytes()).decode() in page
    assert page.count("<td") == 3 * 5
    assert ">0.0<" not in page
    assert 'href="looks.csv"' in page
    members = pd.read_csv(tmp_path / "audit/clusters/looks.csv")
    assert members.columns.tolist() == ["image_id", "cluster", "trained_with", "distance"]
    known = read_clusters(folder, "looks").table.set_index("image_id")["cluster"]
    assert members.set_index("image_id")["cluster"].to_dict() == known.to_dict()


def test_the_page_of_the_audit_links_that_of_the_clusters() -> None:
    nothing: dict[str, Any] = {"datasets": {}, "between": [], "excluded": {}}
    assert 'href="clusters/clusters.html"' in audit_page(nothing, {}, clusters=["looks"])
    assert "clusters.html" not in audit_page(nothing, {})


def test_clusters_are_made_and_shown_before_anything_trains(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    wanted = ["results/tiny/audit/audit.json", "results/tiny/audit/clusters/manifest.json"]
    assert Session(clustered(), ROOT, Path("results")).targets("audit", "tiny") == wanted
    assert Session(tiny(), ROOT, Path("results")).targets("audit") == wanted[:1]
    receipt = (ROOT / "Snakefile").read_text().split("rule confirm_audit:")[1].split("output:")[0]
    assert 'targets("audit", wildcards.run)' in receipt


def points(*sizes: int) -> np.ndarray:
    """Return clouds of points far apart."""
    random = np.random.default_rng(0)
    return np.concatenate(
        [np.array([10.0 * k * k, 0]) + random.normal(0, 0.1, (size, 2)) for k, size in enumerate(sizes)]
    )


def test_a_tiny_cluster_is_refused_or_trains_with_its_nearest() -> None:
    cloud = points(9, 1, 6)
    with pytest.raises(SynthGainError, match=r"clusters\.looks: cluster 2 has 1, below smallest: 3; take a smaller k"):
        divide(cloud, Clusters(of="a", k=3, smallest=3), 0, "clusters.looks")
    found = divide(cloud, Clusters(of="a", k=3, smallest=3, rule="merge"), 0, "clusters.looks")
    assert found.sizes.tolist() == [9, 6, 1]  # the largest first
    assert found.trained_with[2] == found.trained_with[0]  # the cloud at 10 is nearer to that at 0 than to that at 40
    assert found.trained_with[1] == 1


def test_merging_goes_on_until_none_is_tiny() -> None:
    found = divide(points(2, 2, 2, 2), Clusters(of="a", k=4, smallest=4, rule="merge"), 0, "clusters.looks")
    together = np.bincount(found.trained_with[found.labels])
    assert (together[together > 0] >= 4).all()


@pytest.mark.parametrize(
    ("cloud", "message"),
    [
        (points(4), r"clusters\.looks\.k: 5 clusters of 4 training images; take k of 4 or less"),
        (np.ones((8, 2)), r"clusters\.looks\.k: 5 clusters of 1 different images"),
    ],
)
def test_k_over_the_number_of_images_is_one_line(cloud: np.ndarray, message: str) -> None:
    with pytest.raises(SynthGainError, match=message):
        divide(cloud, Clusters(of="a", k=5), 0, "clusters.looks")


def test_masks_join_by_area_and_centre() -> None:
    masks = np.zeros((2, 8, 8, 1), np.uint8)
    masks[0, :4, :4] = 1
    assert mask_facts(masks).tolist() == [[0.5, -0.25, -0.25], [0.0, 0.0, 0.0]]
    features = np.random.default_rng(0).normal(size=(2, 5))
    both = joined(features, masks, 0.5)
    assert np.isclose(both[:, :5].var(axis=0).sum(), 1)
    assert np.isclose(both[:, 5:].var(axis=0).sum(), 0.25)


def generator_per_cluster(run: Path, inputs: dict[str, str], k: int, steps: int) -> dict[str, str]:
    """Train a generator of images and masks on each cluster; return the inputs with them."""
    made = {}
    for cluster in range(k):
        job = training_job(
            run, inputs, "each", output="image+mask", structures=["lesion"], condition_on=[], index=cluster,
            network=TINY_NETWORK, image={"size": 16, "channels": 3},
            train_on={"datasets": ["toy"], "real_fraction": 1.0, "label_fraction": 1.0, "cluster": ["looks", cluster]},
            training={"steps": steps, "batch_size": 8, "learning_rate": 4e-3, "dropout": 0.0},
        )  # fmt: skip
        output = f"generators/each/{cluster}/manifest.json"
        place = new_job(job.slice, inputs, "code", job.identity, run, [run / output])
        train_family(place)
        made[output] = read_manifest(run / output)["identity"]
    return {**inputs, **made}


@pytest.mark.slow
def test_every_row_is_drawn_in_the_appearance_of_its_own_cluster(tmp_path: Path) -> None:
    kinds = np.arange(36) % 3
    inputs, folder = divided(tmp_path, write_planted(tmp_path, kinds, size=16))
    clusters = read_clusters(folder, "looks")
    inputs = generator_per_cluster(tmp_path, inputs, 3, 150)
    seen = read_manifest(tmp_path / "generators/each/1/manifest.json")["saw"]
    assert seen["images"] == len(clusters.trained_on(1)) == 12
    options = {"clusters": "looks", "generators": [["each", c] for c in range(3)], "snapshot": None, "draws": "pairs"}
    part = shard_slice(
        pool="clustered", module="clustered", rows_of="toy", options=options, image={"size": 16, "channels": 3},
        sampling={"solver": "dpmpp_2m", "steps": 12, "batch_size": 8},
    )  # fmt: skip
    output = "pools/clustered/0/replica-1/shard-0/manifest.json"
    call(draw_pool_shard, job_line(tmp_path, output, part, inputs, digest(part)))
    drawn = read_image_set((tmp_path / output).parent)
    parents = [int(name.split("-")[1]) for name in drawn.table["parent_image_id"]]
    tints = np.array([image.reshape(-1, 3).mean(axis=0) for image in drawn.images])
    nearest = np.linalg.norm(tints[:, None] - np.array(TINTS[:3]), axis=2).argmin(axis=1)
    assert (nearest == kinds[parents]).mean() >= 0.95
    assert drawn.table["image_id"].is_unique
    assert sorted(parents) == list(range(36))
    manifest = read_manifest(tmp_path / output)
    assert manifest["clusters"] == "looks"
    assert manifest["mask_counts"]["empty"]["lesion"] <= 36


def write_clusters(run: Path, rows: list[str], numbers: np.ndarray) -> str:
    """Write clusters `looks` of these training images; return the manifest's path."""

    table = pd.DataFrame({"image_id": rows, "cluster": numbers, "trained_with": numbers, "distance": 0.0})
    write_table(run / "clusters/looks/clusters.parquet", table, "e" * 32)
    write_manifest(run / "clusters/looks/manifest.json", "e" * 32, ["clusters.parquet"])
    return "clusters/looks/manifest.json"


@pytest.mark.parametrize("copied", [True, False])
def test_the_gate_catches_the_copies_of_a_cluster_of_one_image(tmp_path: Path, copied: bool) -> None:
    images, table = pictures(120, seed=3)
    rows = write_real(tmp_path, images, table)
    lone = rows["image_id"].iloc[7]
    clusters = write_clusters(tmp_path, list(rows["image_id"]), (rows["image_id"] == lone).to_numpy(np.int64))
    fresh, _ = pictures(len(rows), seed=99)
    if copied:
        fresh[7] = images[table["image_id"].eq(lone).to_numpy().argmax()]
    write_pool(tmp_path, fresh, rows, "p")
    given = memorisation_slice("p", clusters={"name": "looks", "only": None}, membership={"images": 50, "draws": 1})
    check_memorisation(make_job(tmp_path, "memorisation/p/0/manifest.json", given, "p", clusters))
    gate = read_json(tmp_path / "memorisation/p/0/gate.json")
    assert gate["exceeded"] == copied
    expected = "in 1 of 2: cluster 1 (1 of 1 images; its generator saw 1)" if copied else "in none of 2"
    assert expected in gate["sentence"]
    assert "clusters.csv" in read_manifest(tmp_path / "memorisation/p/0/manifest.json")["files"]
    assert "a generator per cluster" in gate["membership"]["note"]


def clustered(**changes: Any) -> dict[str, Any]:
    """Return the tiny study with a generator per cluster."""
    config = copy.deepcopy(tiny())
    config["clusters"] = {"looks": {"of": "hospital_a", "k": 3, **changes}}
    config["generators"]["ddpm"]["train_on"] = {"per": "looks"}
    return config


def planner(config: dict[str, Any]) -> Planner:
    code = CodeDigests(ROOT / "workflow_scripts", ROOT / "envs" / "requirements.lock")
    study = parse_study(config, "config")
    return Planner(study, study.study, study.seed, code, Path("results"), None, STAGES)


def test_one_entry_is_k_trainings_and_a_pool_reads_all_of_them() -> None:
    plan = planner(clustered())
    jobs = [plan.job("train_generator", generator="ddpm", index=index) for index in range(3)]
    assert [job.slice["train_on"]["cluster"] for job in jobs] == [("looks", 0), ("looks", 1), ("looks", 2)]
    assert jobs[0].slice["train_on"]["datasets"] == ["hospital_a"]
    shard = plan.job("draw_pool_shard", pool="drawn", index=0, replica=1, shard=0)
    assert [key for key, _ in shard.named["generators"]] == [("ddpm", 0), ("ddpm", 1), ("ddpm", 2)]
    assert shard.slice["shards"] == 1
    gate = plan.job("check_memorisation", pool="drawn", index=0)
    assert gate.slice["clusters"] == {"name": "looks", "only": None}


def test_another_k_divides_trains_and_draws_anew() -> None:
    before, after = planner(clustered()), planner(clustered(k=4))
    for rule, place in (
        ("cluster_images", {"clusters": "looks"}),
        ("train_generator", {"generator": "ddpm", "index": 0}),
        ("draw_pool_shard", {"pool": "drawn", "index": 0, "replica": 1, "shard": 0}),
    ):
        assert before.job(rule, **place).identity != after.job(rule, **place).identity
    real = {"model": "cnn", "arm": "real", "ratio": 0, "chunk": 0}
    assert before.job("train_downstream", **real).identity == after.job("train_downstream", **real).identity


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"k": 900}, r"clusters\.looks\.k: 900 clusters of about \d+ training images of 'hospital_a'; take fewer"),
        ({"k": 4, "smallest": 100}, r"clusters\.looks\.smallest: 4 clusters of 100 images and more, of about \d+"),
    ],
)
def test_more_clusters_than_images_are_refused_while_planning(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SynthGainError, match=message) as error:
        planner(clustered(**changes)).job("train_generator", generator="ddpm", index=0)
    assert "\n" not in str(error.value)
    if "smallest" in changes:  # they join until none is tiny
        planner(clustered(**changes, rule="merge")).job("train_generator", generator="ddpm", index=0)


def test_the_rows_of_a_table_say_how_many_clusters_there_can_be(tmp_path: Path) -> None:
    (tmp_path / "films").mkdir()
    lines = ["image,mask,part", *(f"{n}.png,{n}.png,{'train' if n < 30 else 'test'}" for n in range(50))]
    (tmp_path / "films/table.csv").write_text("\n".join(lines) + "\n")
    table = {
        "adapter": "table",
        "table": "films/table.csv",
        "patient_id": None,
        "mask": [{"column": "mask", "name": "lesion"}],
    }
    for split, count in (({"train": 0.5, "validation": 0.25, "test": 0.25}, 25), ({"column": "part"}, 30)):
        config = clustered()
        config["datasets"]["films"] = {**table, "split": split}
        config["clusters"]["others"] = {"of": "films", "k": 31}
        study = parse_study(config, "config")
        code = CodeDigests(ROOT / "workflow_scripts", ROOT / "envs" / "requirements.lock")
        plan = Planner(study, study.study, study.seed, code, Path("results"), tmp_path, STAGES)
        with pytest.raises(SynthGainError, match=f"31 clusters of about {count} training images of 'films'"):
            plan.job("cluster_images", clusters="others")


@pytest.mark.parametrize(
    ("train_on", "message"),
    [
        ({"per": "lookz"}, "there is no 'lookz' in clusters; did you mean 'looks'?"),
        ({"cluster": ["looks", 3]}, "train_on.cluster: 'looks' has clusters 0 to 2, not 3"),
        ({"per": "looks", "cluster": ["looks", 1]}, "give cluster (one of them) or per"),
        ({"per": "looks", "real_fraction": 0.5}, "clusters are made of all training images"),
        ({"per": "looks", "datasets": ["hospital_b"]}, "clusters 'looks' are of 'hospital_a'; leave datasets out"),
    ],
)
def test_what_cannot_train_on_clusters_is_refused_while_planning(train_on: dict[str, Any], message: str) -> None:
    config = clustered()
    config["datasets"]["hospital_b"]["split"] = {"train": 0.5, "validation": 0.2, "test": 0.3}
    config["generators"]["ddpm"]["train_on"] = train_on
    with pytest.raises(SynthGainError) as error:
        parse_study(config, "config")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_rows_of_another_data_set_have_no_clusters() -> None:
    config = clustered()
    config["datasets"]["hospital_b"]["split"] = {"train": 0.5, "validation": 0.2, "test": 0.3}
    config["pools"]["drawn"]["rows_of"] = "hospital_b"
    with pytest.raises(SynthGainError, match="'hospital_b' has no such clusters; name 'hospital_a'"):
        parse_study(config, "config")


def test_a_rehearsal_has_few_clusters_and_refuses_none() -> None:
    config = {**clustered(k=40, smallest=5), "rehearsal": True}
    small = parse_study(config, "config").clusters["looks"]
    assert (small.k, small.smallest) == (3, 1)


def test_an_autoencoder_trains_on_no_cluster() -> None:
    config = clustered()
    seen = {"datasets": ["hospital_a"], "per": "looks"}
    config["autoencoders"] = {"vae": {"train_on": seen, "training": {"steps": 4, "batch_size": 8}}}
    with pytest.raises(SynthGainError, match=r"autoencoders\.vae\.train_on: .*, not for clusters; name data sets$"):
        parse_study(config, "config")
