"""The published protocols as studies: planned and rehearsed on miniatures of the sets that they name."""

import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import segmentation_models_pytorch as smp
from planned_jobs import run_study
from safetensors.torch import save_file

from synthgain.datasets.known_layouts import KNOWN_LAYOUTS
from synthgain.datasets.miniatures import write_miniature
from synthgain.study.load import parse_study
from synthgain.study.roles import baseline_of, borrowed, total_steps
from synthgain.study.session import Session
from synthgain.study.yaml_files import read_yaml

ROOT = Path(__file__).parent.parent
ON_MINIATURES = {
    "khosravi2024": ("chexpert", "mimic_cxr_jpg"),
    "huijben2024": ("chexpert",),
    "pink2026": ("shenzhen", "montgomery"),
    "saragih2024": ("hyperkvasir", "cvc_clinicdb", "polypgen"),
    "prakash2024": ("chexpert",),
    "prakash2024_rsna": ("rsna_pneumonia",),
    "prakash2024_masks": ("candid_ptx",),
    "prakash2024_siim": ("siim_acr",),
}
# One of each kind of entry: the others of the study differ from them in a number, or need no more code.
OF_SARAGIH = {
    "clusters": ("looks_10", "looks_40"),
    "generators": ("pairs", "pairs_16", "pairs_k10", "pairs_k40", "gan_pairs"),
    "pools": ("inpainted", "inpainted_k10", "styled", "inpainted_k40", "gan", "inpainted_16"),
    "arms": (
        "real", "repeated", "supplemented", "supplemented_gan", "sibling", "supplemented_k10", "supplemented_styled",
        "synthetic_only_k40", "real_16", "small_16",
    ),
}  # fmt: skip
ENCODER = "mobilenet_v2"  # the least; the study's takes seconds a step on a CPU
SMALLER = {"generator_steps": 1, "model_steps": 4, "sampling_steps": 2}


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sets")
    for layout in dict.fromkeys(name for names in ON_MINIATURES.values() for name in names):
        # HyperKvasir's first image has no mask, and the study takes 4.57 % of the training images: more than one.
        patients = 200 if layout == "hyperkvasir" else 120
        write_miniature(layout, root, KNOWN_LAYOUTS[layout].folder, patients=patients)
    (root / "weights").mkdir()
    encoder = smp.encoders.get_encoder(ENCODER, weights=None)
    save_file(encoder.state_dict(), root / "weights/se_resnext50_32x4d.safetensors")
    return root


def config_of(name: str, **changes: Any) -> dict[str, Any]:
    return {**read_yaml(ROOT / "studies" / f"{name}.yaml"), **changes}


@pytest.mark.parametrize("name", ON_MINIATURES)
@pytest.mark.parametrize("rehearsal", [False, True], ids=["whole", "rehearsed"])
def test_a_published_study_is_planned_on_miniatures(name: str, rehearsal: bool, sets: Path, tmp_path: Path) -> None:
    config = config_of(name, data_root=str(sets), rehearsal=rehearsal)
    ((_, plan),) = Session(config, ROOT, tmp_path).planners.items()
    plan.job("write_report")
    rules = {job.rule for job in plan.jobs()}
    assert {"train_generator", "draw_pool_shard", "train_downstream", "compare_arms"} <= rules


@pytest.mark.parametrize("name", ON_MINIATURES)
def test_its_header_says_what_differs_and_how_to_try_it(name: str) -> None:
    text = (ROOT / "studies" / f"{name}.yaml").read_text(encoding="utf-8")
    header = text[: text.index("\nstudy:")]
    assert all(line.startswith("#") for line in header.splitlines())
    for words in (
        "Confounds of the published protocol",
        "Left out, with why",
        "make miniatures DIR=data",
        f"studies/{name}.yaml",
    ):
        assert words in header, words
    named = re.search(r'SETS="?([\w ]+)"?', header)
    assert named is not None
    assert tuple(named[1].split()) == ON_MINIATURES[name]


def test_every_ratio_of_the_sweep_has_its_control_and_the_sweep_is_the_published_one() -> None:
    study = parse_study(config_of("khosravi2024"))
    assert study.arms["supplemented"].ratios == list(range(100, 1001, 100)) == study.arms["synthetic_only"].ratios
    assert len(study.models["convnext"].targets) == 14
    assert study.match == "steps"
    assert parse_study(config_of("khosravi2024", match="epochs", study="khosravi2024_epochs")).match == "epochs"
    pink = parse_study(config_of("pink2026"))
    assert pink.arms["repeated"].ratios == pink.arms["supplemented"].ratios


def test_a_pretrained_generator_and_one_from_scratch_have_equal_total_steps_in_huijben() -> None:
    generators = parse_study(config_of("huijben2024")).generators
    pretrained = generators["unlabelled"].training.steps
    assert generators["unlabelled"].train_on.label_fraction == 0
    for name in ("", "_50", "_25", "_10"):
        tuned, scratch = generators[f"tuned{name}"], generators[f"scratch{name}"]
        assert tuned.training.steps + pretrained == scratch.training.steps
        assert tuned.train_on.label_fraction == scratch.train_on.label_fraction


@pytest.mark.parametrize("name", ["nih_labels", "nih_demographics"])
def test_a_study_of_open_films_is_planned(name: str, data_root: Path, tmp_path: Path) -> None:
    for rehearsal in (False, True):
        ((_, plan),) = Session(
            config_of(name, data_root=str(data_root), rehearsal=rehearsal), ROOT, tmp_path
        ).planners.items()
        plan.job("write_report")
        assert {"draw_pool_shard", "compare_arms"} <= {job.rule for job in plan.jobs()}


def test_label_fractions_of_open_films_stand_beside_classifiers_with_the_same_labels() -> None:
    study = parse_study(config_of("nih_labels"))
    for name, arm in study.arms.items():
        if arm.synthetic is not None:
            base = study.arms[baseline_of(study, name) or ""]
            assert base.label_fraction == arm.label_fraction
            assert not borrowed(study, name), name
    steps = {total_steps(study, name) for name in study.generators if name != "unlabelled"}
    assert len(steps) == 1


@pytest.mark.slow
@pytest.mark.workflow
def test_prakash_is_rehearsed_to_its_report(sets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Words, masks, latents, filtered pools and a reader kit in one study."""
    monkeypatch.chdir(tmp_path)
    config = config_of("prakash2024", data_root=str(sets), rehearsal=True, rehearsal_sizes=SMALLER)
    config["image"] = {**config["image"], "size": 64}
    config["autoencoders"]["vae"] |= {"network": {"block_out_channels": [8, 8, 16, 16]}}
    config["autoencoders"]["vae"]["training"] |= {"batch_size": 4, "precision": "float32"}
    for generator in config["generators"].values():
        generator["network"] = {"name": "unet_text", "block_out_channels": [16, 16], "layers_per_block": 1}
        generator["training"] |= {"batch_size": 4, "precision": "float32"}
    for pool in config["pools"].values():
        if "sampling" in pool:
            pool["sampling"] = {**pool["sampling"], "precision": "float32"}
    config["models"]["densenet"] |= {"network": "small_cnn", "batch_size": 8, "precision": "float32"}
    page = run_study(config, ROOT, Path("results")).read_text(encoding="utf-8")
    assert page.rstrip().endswith("</html>")
    for words in ("text_and_moved_mask", "Gates of vae", "prevalence per part", "chest radiograph"):
        assert words in page, words


def smaller(config: dict[str, Any]) -> dict[str, Any]:
    """As it is, but for what is slow on a CPU: the size of the films, and networks and precision of GPUs."""
    config["image"] = {**config["image"], "size": 32}
    for generator in config["generators"].values():
        if generator["family"] == "diffusion":
            generator["network"] = {"block_out_channels": [16, 32], "layers_per_block": 1, "attention_resolutions": []}
        generator["training"] = {**generator["training"], "batch_size": 8, "precision": "float32"}
    for pool in config["pools"].values():
        if "sampling" in pool:
            pool["sampling"] = {**pool["sampling"], "precision": "float32"}
    for model in config["models"].values():
        model |= {"network": "small_cnn", "batch_size": 8, "precision": "float32"}
    return config


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "arm", "ratio", "labels"),
    [("huijben2024", "only_tuned_25", 100, 5), ("pink2026", "supplemented_gan", 25, 1)],
)
def test_a_generator_and_an_arm_of_the_others_are_rehearsed(
    name: str, arm: str, ratio: int, labels: int, sets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = smaller(config_of(name, data_root=str(sets), rehearsal=True, rehearsal_sizes=SMALLER))
    (model,) = config["models"]
    cell = {"model": model, "arm": arm, "ratio": ratio, "chunk": 0}
    table = pd.read_parquet(run_study(config, ROOT, Path("results"), "predict_downstream", **cell))
    assert table["label"].nunique() == labels
    assert set(table["dataset"]) == set(config["evaluate_on"])
    assert table["score"].between(0, 1).all()


@pytest.mark.slow
@pytest.mark.workflow
def test_khosravi_is_rehearsed_to_its_report(sets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = config_of("khosravi2024", data_root=str(sets), rehearsal=True, rehearsal_sizes=SMALLER)
    smaller(config)["models"]["convnext"]["patience"] = 5
    report = run_study(config, ROOT, Path("results"))
    page = report.read_text(encoding="utf-8")
    assert page.rstrip().endswith("</html>")
    for words in ("mixed_sites", "enlarged_cardiomediastinum", "mimic", "Lion", "smoothed by 0.1", "running average"):
        assert words in page, words
    table = pd.read_parquet(report.parent / "datasets" / "chexpert" / "table.parquet")
    assert set(table["view"]) <= {"AP", "PA"}
    assert table["race"].notna().any()


@pytest.mark.slow
@pytest.mark.workflow
def test_saragih_is_rehearsed_to_its_report(sets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = config_of("saragih2024", data_root=str(sets), rehearsal=True, rehearsal_sizes=SMALLER)
    # As it is, but for what is slow on a CPU: how many entries, the size of the frames and of the networks, bfloat16.
    for kind, names in OF_SARAGIH.items():
        config[kind] = {name: config[kind][name] for name in names}
    config["evaluation"] = {"pools": ["inpainted_k10", "styled"]}
    config["image"] = {**config["image"], "size": 32}
    for generator in config["generators"].values():
        generator["training"] |= {"batch_size": 8, "precision": "float32"}
        if generator["family"] == "diffusion":
            generator["network"] = {"block_out_channels": [8, 16], "layers_per_block": 1, "attention_resolutions": []}
    for pool in config["pools"].values():
        pool.setdefault("sampling", {})["precision"] = "float32"
    model = config["models"]["unet_plusplus"]
    model |= {"network": {"name": "smp_unetplusplus", "encoder": ENCODER}, "batch_size": 8, "precision": "float32"}
    report = run_study(config, ROOT, Path("results"))
    page = report.read_text(encoding="utf-8")
    assert page.rstrip().endswith("</html>")
    for words in ("looks_40", "supplemented_styled", "pretrained elsewhere", "Appearance clusters", "polypgen"):
        assert words in page, words
    sites = pd.read_parquet(report.parent / "datasets" / "polypgen" / "table.parquet")["site"]
    assert {"C1", "C6"} <= set(sites.dropna())
    gate = pd.read_csv(report.parent / "memorisation" / "inpainted_k10" / "0" / "clusters.csv")
    assert len(gate) == 3
