"""Segmenters of segmentation-models-pytorch: shapes, the encoder's normalisation, weights from a local file."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from safetensors.torch import save_file

from synthgain.downstream.options import TrainingModel
from synthgain.downstream.training import learning_rate
from synthgain.networks import smp_segmenters
from synthgain.networks.options import network_of
from synthgain.networks.pretrained import load_encoder
from synthgain.runtime.errors import SynthGainError
from synthgain.study.training import Model

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
    from synthgain.networks.options import SMP_ENCODERS

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
