"""Segmenters of segmentation-models-pytorch: shapes, the encoder's normalisation, weights from a local file."""

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from job_inputs import new_job
from safetensors.torch import save_file
from studies import tiny
from timm.models import get_pretrained_cfg
from torch import nn

from check_weights import check_weights
from synthgain.downstream.options import TrainingModel
from synthgain.downstream.training import learning_rate
from synthgain.networks import smp_segmenters
from synthgain.networks.options import SMP_ENCODERS, network_of
from synthgain.networks.pretrained import load_encoder, load_pretrained
from synthgain.runtime.errors import SynthGainError
from synthgain.study.code import CodeDigests
from synthgain.study.load import parse_study
from synthgain.study.planner import Planner
from synthgain.study.session import Session
from synthgain.study.stages.table import STAGES
from synthgain.study.training import Model

ROOT = Path(__file__).parent.parent
SMALL = "mobilenet_v2"
BASE = {"task": "segmentation", "structures": ["polyp"], "steps": 6}


@pytest.mark.parametrize("name", ["unet", "unetplusplus", "fpn", "deeplabv3plus"])
def test_every_decoder_gives_logits_of_the_images_size(name: str) -> None:
    network = smp_segmenters.build(3, 2, 64, name=f"smp_{name}", encoder=SMALL).eval()
    images = torch.rand(2, 3, 64, 64) * 2 - 1
    with torch.inference_mode():
        assert network(images).shape == (2, 2, 64, 64)
        assert smp_segmenters.features(network, images).shape[0] == 2


def test_the_encoder_gets_what_it_was_trained_with_or_what_the_study_gave_it() -> None:
    grey = torch.zeros(1, 3, 1, 1)  # 127.5 of 255
    for normalisation, expected in (
        ("encoder", (0.5 - np.array([0.485, 0.456, 0.406])) / [0.229, 0.224, 0.225]),
        ("none_255", [127.5] * 3),
        ("none", [0, 0, 0]),
    ):
        scale, offset = smp_segmenters.scaling(normalisation)
        seen = (grey.flatten() * scale + offset).numpy()
        assert np.allclose(seen, expected, atol=1e-5), normalisation


def named_by_timm(encoder: str) -> str:
    """Return what timm calls the weights of an encoder; smp's own table of constants is on a server."""
    if encoder == "mobilenet_v2":
        return "mobilenetv2_100"
    if encoder.startswith("efficientnet"):
        return "tf_" + encoder.replace("-", "_")
    return "legacy_" + encoder.replace("se_res", "seres") if encoder.startswith("se") else encoder


def test_the_normalisation_is_timms_for_every_encoder() -> None:
    scale, offset = smp_segmenters.scaling("encoder")
    pixels = torch.rand(7, 3)
    for encoder in SMP_ENCODERS:
        wanted = get_pretrained_cfg(named_by_timm(encoder))
        assert wanted is not None, encoder
        theirs = (pixels - torch.tensor(wanted.mean)) / torch.tensor(wanted.std)
        assert torch.allclose((2 * pixels - 1) * scale + offset, theirs, atol=1e-5), encoder


@pytest.mark.parametrize(("larger", "smaller"), [("resnet34", "resnet18"), ("resnet152", "resnet101")])
def test_encoder_weights_of_a_deeper_network_are_one_line(tmp_path: Path, larger: str, smaller: str) -> None:
    """They hold every tensor that the smaller one needs."""
    with torch.device("meta"):
        shapes = {name: smp.encoders.get_encoder(name, weights=None).state_dict() for name in (larger, smaller)}
    assert set(shapes[smaller]) < set(shapes[larger])
    path = tmp_path / "weights.safetensors"
    file = {name: torch.zeros(tensor.shape, dtype=tensor.dtype) for name, tensor in shapes[larger].items()}
    save_file({**file, "fc.weight": torch.zeros(2, 2)}, path)
    network = nn.Module()
    network.encoder = smp.encoders.get_encoder(smaller, weights=None)
    with pytest.raises(SynthGainError, match="has no place in the network; it is of another, larger one") as error:
        load_encoder(network, path)
    assert "\n" not in str(error.value)


def test_the_file_of_weights_is_the_declared_one(tmp_path: Path) -> None:
    (tmp_path / "weights.safetensors").write_bytes(b"other")
    config = tiny()
    config["models"]["cnn"] |= {"network": "resnet18", "pretrained": "weights.safetensors"}
    place = {"model": "cnn", "arm": "real", "ratio": 0, "chunk": 0}
    before = planner(config, tmp_path).job("train_downstream", **place)
    config["models"]["cnn"]["pretrained_sha256"] = hashlib.sha256(b"other").hexdigest()
    assert planner(config, tmp_path).job("train_downstream", **place).identity == before.identity
    config["models"]["cnn"]["pretrained_sha256"] = "0" * 64
    with pytest.raises(
        SynthGainError, match=r"models\.cnn\.pretrained: 'weights\.safetensors' has the SHA-256"
    ) as error:
        planner(config, tmp_path).job("train_downstream", **place)
    assert "\n" not in str(error.value)
    del config["models"]["cnn"]["pretrained"]
    with pytest.raises(SynthGainError, match="pretrained_sha256: of which file"):
        planner(config, tmp_path)


def planner(config: dict[str, Any], root: Path) -> Planner:
    code = CodeDigests(ROOT / "workflow_scripts", ROOT / "envs" / "requirements.lock")
    study = parse_study(config, "config")
    return Planner(study, study.study, study.seed, code, Path("results"), root, STAGES)


def test_encoder_weights_are_read_from_a_local_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    encoder = smp.create_model("unet", encoder_name=SMALL, encoder_weights=None).encoder
    save_file(encoder.state_dict(), tmp_path / "mobilenet.safetensors")
    network = smp_segmenters.build(3, 1, 64, name="smp_unet", encoder=SMALL)
    facts = load_encoder(network, tmp_path / "mobilenet.safetensors")
    loaded = network.encoder.state_dict()
    assert all(torch.equal(tensor, loaded[name]) for name, tensor in encoder.state_dict().items())
    assert facts["loaded"] == len(loaded)
    grey = smp_segmenters.build(1, 1, 64, name="smp_unet", encoder=SMALL)
    load_encoder(grey, tmp_path / "mobilenet.safetensors")  # its first convolution is summed over the colours


def test_encoder_weights_of_another_network_are_one_line(tmp_path: Path) -> None:
    other = smp.create_model("unet", encoder_name="resnet18", encoder_weights=None).encoder
    save_file(other.state_dict(), tmp_path / "resnet18.safetensors")
    network = smp_segmenters.build(3, 1, 64, name="smp_unet", encoder=SMALL)
    with pytest.raises(SynthGainError, match="it is of another network") as error:
        load_encoder(network, tmp_path / "resnet18.safetensors")
    assert "\n" not in str(error.value)


def test_an_unknown_encoder_is_refused_while_planning() -> None:
    with pytest.raises(ValueError, match="se_resnext50_32x4d"):
        Model(**BASE, network={"name": "smp_unetplusplus", "encoder": "se_resnext50"})
    with pytest.raises(SynthGainError, match="no multiple of 32"):
        network_of({"name": "smp_unet", "encoder": SMALL}, Model(**BASE).kind.networks, "segmentation").check_size(48)


def test_every_encoder_that_may_be_named_is_one_of_the_package() -> None:
    assert set(SMP_ENCODERS) <= set(smp.encoders.get_encoder_names())


def test_the_rate_steps_down_after_a_share_of_the_steps() -> None:
    config = Model(**BASE, schedule="step", learning_rate=1e-4, warmup_steps=0, step_at=1 / 3, step_factor=0.1)
    recipe = TrainingModel(
        name="m", network={"module": "unet"}, **config.dump(exclude={"network", "augmentation", "description", "task"})
    )
    rates = [learning_rate(recipe, step, 150) for step in (0, 49, 50, 149)]
    assert rates == pytest.approx([1e-4, 1e-4, 1e-5, 1e-5])


def test_a_step_needs_its_schedule() -> None:
    with pytest.raises(ValueError, match="step_at and step_factor go with schedule: step"):
        Model(**BASE, step_at=0.5)


def test_planning_imports_no_segmenter() -> None:
    code = "import sys, synthgain.study.schema; sys.exit('segmentation_models_pytorch' in sys.modules)"
    folder = Path(__file__).parent.parent / "workflow_scripts"
    assert subprocess.run([sys.executable, "-c", code], cwd=folder, check=False).returncode == 0


def filled(run: Path, file: str, key: str = "pretrained_encoder", **spaces: Any) -> None:
    """Run check_weights for an smp_unet with `file` of the data root `run`."""
    network = {"module": "smp_segmenters", "options": {"name": "smp_unet", "encoder": SMALL}}
    model = {"key": key, "file": file, "sha256": "", "network": network, "channels": 3, "outputs": 1, "size": 64}
    part = {"models": {"unet": model}, "spaces": spaces.get("spaces", [])}
    place = run / "audit/weights/manifest.json"
    check_weights(new_job(part, {}, "code", "i" * 32, run, [place]))


def test_weights_of_another_network_are_known_before_anything_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYNTHGAIN_DATA", str(tmp_path))
    encoder = smp_segmenters.build(3, 1, 64, name="smp_unet", encoder=SMALL).encoder
    save_file(encoder.state_dict(), tmp_path / "right.safetensors")
    save_file({"conv1.weight": torch.zeros(8, 3, 7, 7)}, tmp_path / "other.safetensors")
    filled(tmp_path, "right.safetensors")
    assert (tmp_path / "audit/weights/manifest.json").exists()
    wanted = r"^models\.unet\.pretrained_encoder: .*other\.safetensors: has no tensor .*; it is of another network$"
    with pytest.raises(SynthGainError, match=wanted):
        filled(tmp_path, "other.safetensors")
    (tmp_path / "own.pt").write_bytes(b"no program")
    own = {"name": "dino", "module": "torchscript", "options": {"label": "dino"}, "weights": "own.pt"}
    with pytest.raises(SynthGainError, match=r"^evaluation\.fidelity: .*own\.pt: not a TorchScript file"):
        filled(tmp_path, "right.safetensors", spaces=[own])


def test_a_segmenter_takes_the_weights_of_the_whole_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends in a convolution: no layer stays fresh."""
    monkeypatch.setenv("SYNTHGAIN_DATA", str(tmp_path))
    network = smp_segmenters.build(3, 1, 64, name="smp_unet", encoder=SMALL)
    save_file(network.state_dict(), tmp_path / "whole.safetensors")
    filled(tmp_path, "whole.safetensors", "pretrained")
    two = smp_segmenters.build(3, 2, 64, name="smp_unet", encoder=SMALL)
    with pytest.raises(SynthGainError, match="has shape"):
        load_pretrained(two, tmp_path / "whole.safetensors")


def test_the_check_of_weights_comes_with_the_audit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights.safetensors").write_bytes(b"other")
    config = tiny(data_root=str(tmp_path))
    config["models"]["cnn"] |= {"network": "resnet18", "pretrained": "weights.safetensors"}
    session = Session(config, ROOT, Path("results"))
    assert session.targets("audit")[1:] == ["results/tiny/audit/weights/manifest.json"]
    ((_, plan),) = session.planners.items()
    assert plan.job("check_weights").slice["models"]["cnn"]["key"] == "pretrained"
    config = tiny(data_root=str(tmp_path))
    config["evaluation"]["fidelity"]["torchscript"] = {"dino": {"weights": "dino.pt"}}
    ((_, plan),) = Session(config, ROOT, Path("results")).planners.items()
    with pytest.raises(SynthGainError, match=r"^evaluation\.fidelity\.torchscript\.dino\.weights: 'dino\.pt' not in"):
        plan.job("check_weights")
