"""Classifier networks: shapes, features, pretrained weights."""

import importlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch.utils.flop_counter import FlopCounterMode

from synthgain.networks.pretrained import load_pretrained
from synthgain.networks.small_cnn import build
from synthgain.runtime.errors import SynthGainError

TORCHVISION = "synthgain.networks.torchvision_classifiers"
CASES = [
    ("synthgain.networks.small_cnn", {}, 16),
    ("synthgain.networks.small_cnn", {"width": 8, "depth": 1}, 50),
    (TORCHVISION, {"name": "resnet18"}, 32),
    (TORCHVISION, {"name": "resnet18", "stem": "imagenet"}, 96),
    (TORCHVISION, {"name": "resnet18"}, 64),
    (TORCHVISION, {"name": "convnext_tiny"}, 32),
    ("synthgain.networks.monai_classifiers", {}, 32),
]


@pytest.mark.parametrize(("name", "options", "size"), CASES)
def test_logits_are_the_last_layer_of_the_features(name: str, options: dict, size: int) -> None:
    module = importlib.import_module(name)
    torch.manual_seed(0)
    network = module.build(1, 3, size, **options).eval()
    images = torch.rand(2, 1, size, size) * 2 - 1
    with torch.inference_mode():
        logits, penultimate = network(images), module.features(network, images)
        last = [part for part in network.modules() if isinstance(part, torch.nn.Linear)][-1]
        assert logits.shape == (2, 3)
        assert torch.allclose(last(penultimate), logits, atol=1e-5)


def operations(size: int, **options: str) -> float:
    """Floating point operations of an image, per pixel; counted on shapes alone."""
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        network = importlib.import_module(TORCHVISION).build(1, 2, size, **options).eval()
        network(torch.empty(1, 1, size, size))
    return counter.get_total_flops() / size**2


@pytest.mark.parametrize("name", ["resnet18", "convnext_tiny"])
def test_an_image_above_the_smallest_costs_no_more_than_twice_the_published_network_per_pixel(name: str) -> None:
    published = operations(224, name=name)
    assert operations(32, name=name) > 3 * published  # the small stem, which a map of 1 × 1 would be left without
    for size in (33, 48, 64, 65, 96, 128):
        assert operations(size, name=name) <= 2 * operations(size, name=name, stem="imagenet")
    assert operations(64, name=name, stem="small") > 3 * published  # chosen by hand it stays


def test_bad_options_give_one_line() -> None:
    with pytest.raises(SynthGainError, match=r"network\.width: Input should be a multiple of 4"):
        build(1, 1, 32, width=6)
    with pytest.raises(SynthGainError, match=r"network\.name: unknown 'vgg'; known: conv"):
        importlib.import_module(TORCHVISION).build(1, 1, 32, name="vgg")


@pytest.mark.parametrize("ending", ["safetensors", "pth"])
def test_pretrained_colour_weights_give_the_same_output_on_grey_images(tmp_path: Path, ending: str) -> None:
    colour, grey = build(3, 5, 16), build(1, 2, 16)
    path = tmp_path / f"weights.{ending}"
    save_file(colour.state_dict(), path) if ending == "safetensors" else torch.save(colour.state_dict(), path)
    facts = load_pretrained(grey, path)
    assert facts["left_fresh"] == ["head.bias", "head.weight"]
    assert len(str(facts["sha256"])) == 64
    images = torch.rand(2, 1, 16, 16)
    assert torch.allclose(grey.features(images), colour.features(images.expand(-1, 3, -1, -1)), atol=1e-5)


def test_pretrained_files_of_another_kind_are_refused(tmp_path: Path) -> None:
    network = build(1, 1, 16)
    with pytest.raises(SynthGainError, match="no such pretrained weights"):
        load_pretrained(network, tmp_path / "none.pth")
    (tmp_path / "text.pth").write_text("hello")
    (tmp_path / "text.safetensors").write_text("hello")
    torch.save(network, tmp_path / "pickled.pth")
    for name in ("text.pth", "text.safetensors", "pickled.pth"):
        with pytest.raises(SynthGainError, match="not readable as plain weights") as caught:
            load_pretrained(network, tmp_path / name)
        assert "\n" not in str(caught.value)
    save_file(build(1, 1, 16, width=8).state_dict(), tmp_path / "narrow.safetensors")
    with pytest.raises(SynthGainError, match="has shape"):
        load_pretrained(network, tmp_path / "narrow.safetensors")
    torch.save({"epoch": 3}, tmp_path / "more.pth")
    with pytest.raises(SynthGainError, match="plain state_dict"):
        load_pretrained(network, tmp_path / "more.pth")
