"""Feature extractors: the packaged network against a known photo, clean-fid's own FID, errors in one line."""

from pathlib import Path

import numpy as np
import pytest
import torch
from evaluation_run import pictures
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from synthgain.evaluation.distances import frechet_distance
from synthgain.evaluation.features import cached_features, content_key
from synthgain.networks import downstream_features, efficientnet_lite, inception, small_cnn, torchscript_features
from synthgain.runtime.errors import SynthGainError

CPU = torch.device("cpu")
MILITARY_UNIFORM = 652  # the ImageNet class of matplotlib's sample photo


class _Layers(nn.Module):
    """Stands in for Inception: 2048 features of a 299 px image."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 32, 7, stride=7)
        self.pool = nn.AdaptiveAvgPool2d(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.pool(torch.relu(self.conv(x))).flatten(1)


class _StandIn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = _Layers()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


@pytest.fixture
def stand_in(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    path = tmp_path / "inception-2015-12-05.pt"
    torch.jit.script(_StandIn()).save(str(path))
    return path


def test_packaged_network_recognises_the_sample_photo() -> None:
    cbook = pytest.importorskip("matplotlib.cbook")
    with Image.open(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)) as photo:
        square = photo.convert("RGB").crop((0, 0, photo.width, photo.width))
    pixels = np.array(square.resize((224, 224), Image.Resampling.BICUBIC))
    network, checksum = efficientnet_lite.load_network(None)
    assert checksum == efficientnet_lite.PACKAGED_SHA256
    with torch.inference_mode():
        shown = efficientnet_lite.normalise(torch.from_numpy(pixels).permute(2, 0, 1)[None].float())
        likelihood, label = network(shown).softmax(1).max(1)
    assert int(label) == MILITARY_UNIFORM
    assert float(likelihood) == pytest.approx(0.32, abs=0.03)


def test_features_do_not_depend_on_the_batch_and_grey_equals_rgb() -> None:
    images, _ = pictures(5, seed=0)
    one = efficientnet_lite.build({"size": 64, "batch": 1}, None, CPU)
    five = efficientnet_lite.build({"size": 64, "batch": 5}, None, CPU)
    features = one.extract(images)
    assert features.shape == (5, 1280)
    assert features.dtype == np.float32
    assert features == pytest.approx(five.extract(images), abs=1e-4)
    assert features == pytest.approx(one.extract(np.repeat(images, 3, axis=3)), abs=1e-4)
    assert one.identity == five.identity
    assert one.identity != efficientnet_lite.build({"size": 96}, None, CPU).identity


def test_wrong_images_are_refused() -> None:
    extractor = efficientnet_lite.build({"size": 64}, None, CPU)
    with pytest.raises(ValueError, match=r"must be \(N, H, W, C\) uint8, got \(2, 8, 8, 1\) float64"):
        extractor.extract(np.zeros((2, 8, 8, 1)))
    with pytest.raises(SynthGainError, match="takes 1 or 3 channels, the images have 2"):
        extractor.extract(np.zeros((2, 8, 8, 2), dtype=np.uint8))


def _exported(tmp_path: Path, channels: int) -> tuple[list[np.ndarray], list[str]]:
    sides, folders = [], []
    for seed in (0, 1):
        images = np.concatenate([pictures(12, seed=10 * seed + c)[0] for c in range(channels)], axis=3)
        folder = tmp_path / f"{channels}-{seed}"
        folder.mkdir()
        for number, image in enumerate(images):
            Image.fromarray(image[..., 0] if channels == 1 else image).save(folder / f"{number:03d}.png")
        sides.append(images)
        folders.append(str(folder))
    return sides, folders


def _clean_fid(stand_in: Path) -> nn.Module:
    torchscript = pytest.importorskip("cleanfid.inception_torchscript")
    return torchscript.InceptionV3W(str(stand_in.parent), download=False).eval()


@pytest.mark.parametrize("channels", [1, 3])
def test_features_and_distance_equal_clean_fids_on_exported_folders(
    stand_in: Path, tmp_path: Path, channels: int
) -> None:
    fid = pytest.importorskip("cleanfid.fid")
    extractor, network = inception.build({}, stand_in, CPU), _clean_fid(stand_in)
    assert extractor.fid
    sides, folders = _exported(tmp_path, channels)
    ours = [extractor.extract(side) for side in sides]
    settings = {"mode": "clean", "device": CPU, "num_workers": 0, "verbose": False}
    theirs = [fid.get_folder_features(folder, network, **settings) for folder in folders]
    for own, other in zip(ours, theirs, strict=True):
        assert own == pytest.approx(other, abs=1e-5)
    # clean-fid's matrix square root takes a minute in 2048 dimensions; the slow test below does all of them.
    few = [side[:, ::64] for side in theirs]
    assert frechet_distance(*[side[:, ::64] for side in ours]) == pytest.approx(fid.fid_from_feats(*few), rel=1e-3)


@pytest.mark.slow
def test_fid_equals_clean_fid_on_exported_folders(stand_in: Path, tmp_path: Path) -> None:
    fid = pytest.importorskip("cleanfid.fid")
    extractor, network = inception.build({}, stand_in, CPU), _clean_fid(stand_in)
    sides, folders = _exported(tmp_path, channels=1)
    expected = fid.compare_folders(*folders, network, mode="clean", device=CPU, num_workers=0, verbose=False)
    ours = frechet_distance(*[extractor.extract(side) for side in sides])
    assert ours == pytest.approx(float(expected), rel=1e-3)


def test_torchscript_and_downstream_spaces(stand_in: Path, tmp_path: Path) -> None:
    images, _ = pictures(4, seed=0)
    assert torchscript_features.build({"size": 64}, stand_in, CPU).extract(images).shape == (4, 2048)
    network = small_cnn.build(1, 2, 32)
    weights = tmp_path / "weights-0.safetensors"
    save_file(network.state_dict(), weights)
    options = {"network": {"module": "small_cnn", "options": {}}}
    shape = {"in_channels": 1, "outputs": 2, "image_size": 32}
    features = downstream_features.build(options | shape, weights, CPU).extract(images)
    with torch.inference_mode():
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
        expected = small_cnn.features(network.eval(), pixels).numpy()
    assert features == pytest.approx(expected, abs=1e-5)
    with pytest.raises(SynthGainError, match="not weights of SmallCNN"):
        downstream_features.build({**options, **shape, "outputs": 3}, weights, CPU)


def test_wrong_weights_give_one_clear_line(stand_in: Path, tmp_path: Path) -> None:
    with pytest.raises(SynthGainError, match="inception: needs `weights:`"):
        inception.build({}, None, CPU)
    with pytest.raises(SynthGainError, match="no weights file at"):
        inception.build({}, tmp_path / "none.pt", CPU)
    with pytest.raises(SynthGainError, match=r"has SHA-256 [0-9a-f]{12}…, expected 0{12}…"):
        inception.build({"sha256": "0" * 64}, stand_in, CPU)
    wrong = tmp_path / "text.pt"
    wrong.write_text("not weights")
    for module in (inception, torchscript_features):
        with pytest.raises(SynthGainError, match=r"text\.pt: not a TorchScript file"):
            module.build({}, wrong, CPU)
    with pytest.raises(SynthGainError, match=r"text\.pt: not weights of EfficientNetLite0"):
        efficientnet_lite.build({}, wrong, CPU)
    other = tmp_path / "other.pt"
    torch.jit.script(_Layers()).save(str(other))
    with pytest.raises(SynthGainError, match="has no part 'layers'"):
        inception.build({}, other, CPU)


def test_kept_features_are_those_of_the_content(tmp_path: Path) -> None:
    images, _ = pictures(3, seed=0)
    extractor = efficientnet_lite.build({"size": 64}, None, CPU)
    first = cached_features(extractor, images, tmp_path)
    assert cached_features(extractor, images, tmp_path).tolist() == first.tolist()
    assert content_key(extractor, images) != content_key(extractor, images[::-1])
    assert len(list(tmp_path.glob("*/features.npy"))) == 1
