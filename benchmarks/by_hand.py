"""The same study written by hand from stock parts: what `whole_sweep` is compared with.

    python benchmarks/by_hand.py SPEC.json

diffusers' training loop on PNG files, the stock pipeline once per ratio, a classifier per ratio and seed with
PNG files, a DataLoader and torchvision transforms, and a Fréchet distance per ratio in clean-fid's way (PNG files,
features, SciPy's matrix square root; features of the classifier trained on real images, which our study uses too).
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow_scripts"))

import numpy as np
import stock
import torch
from diffusers import UNet2DModel
from scipy.linalg import sqrtm
from sklearn.metrics import roc_auc_score
from torch.nn import functional
from torch.utils.data import DataLoader

from synthgain.networks.small_cnn import build


@dataclass(frozen=True)
class Spec:
    """What both studies share. folder: `train`, `validation` and `test` with PNG files and labels.json."""

    folder: str
    network: dict[str, Any]  # UNet2DModel's arguments
    generator_steps: int
    generator_batch: int
    sampling_steps: int
    sampling_batch: int
    ratios: list[int]
    replicates: int
    classifier: dict[str, int]  # small_cnn's width and max_width
    classifier_steps: int
    classifier_batch: int
    validate_every: int
    learning_rate: float
    size: int
    threads: int


def run_study(spec: Spec) -> dict[str, Any]:
    """Train the generator, then for every ratio draw, measure and train; return AUROC and distance per ratio."""
    folder = Path(spec.folder)
    labels = {part: np.array(json.loads((folder / part / "labels.json").read_text())) for part in PARTS}
    count = len(labels["train"])
    network = UNet2DModel(**spec.network)
    loop = stock.GeneratorLoop(network, folder / "train", count, spec.size, spec.generator_batch, spec.generator_steps)
    loop.train(spec.generator_steps)
    loop.average.copy_to(network.parameters())
    network.eval()
    found: dict[str, Any] = {}
    features = None
    for ratio in (0, *spec.ratios):
        drawn = folder / f"synthetic-{ratio}"
        wanted = count * ratio // 100
        if wanted:
            stock.draw_pngs(network, wanted, spec.sampling_steps, drawn, spec.size, spec.sampling_batch, "dpmpp_2m")
        folders = [folder / "train", drawn] if wanted else [folder / "train"]
        truth = np.concatenate([labels["train"], np.resize(labels["train"], wanted)])
        aurocs = []
        for seed in range(spec.replicates):
            torch.manual_seed(seed)
            classifier = train_classifier(spec, folders, truth, folder, labels["validation"])
            aurocs.append(roc_auc_score(labels["test"], scores_of(classifier, spec, folder / "test", labels["test"])))
            features = features or classifier
        distance = frechet(features, spec, folder / "train", drawn, count, wanted) if wanted else 0.0
        found[str(ratio)] = {"auroc": aurocs, "frechet": distance}
    return found


PARTS = ("train", "validation", "test")


def train_classifier(
    spec: Spec, folders: list[Path], truth: np.ndarray, folder: Path, validation: np.ndarray
) -> torch.nn.Module:
    """Train on PNG files, keep the weights of the lowest validation loss."""
    network = build(1, 1, spec.size, **spec.classifier)
    data = stock.PngFolder(folders, truth, stock.to_tensor(spec.size))
    loader = DataLoader(data, spec.classifier_batch, shuffle=True, drop_last=len(data) >= spec.classifier_batch)
    optimiser = torch.optim.AdamW(network.parameters(), lr=spec.learning_rate)
    batches, best, weights = stock.endless(loader), float("inf"), network.state_dict()
    for step in range(1, spec.classifier_steps + 1):
        network.train()
        images, labels = next(batches)
        optimiser.zero_grad()
        loss = functional.binary_cross_entropy_with_logits(network(images)[:, 0], labels.float())
        loss.backward()
        optimiser.step()
        if step % spec.validate_every == 0 or step == spec.classifier_steps:
            scores = torch.from_numpy(scores_of(network, spec, folder / "validation", validation))
            error = float(functional.binary_cross_entropy(scores, torch.from_numpy(validation).float()))
            if error < best:
                best, weights = error, {name: value.clone() for name, value in network.state_dict().items()}
    network.load_state_dict(weights)
    return network


@torch.no_grad()
def scores_of(network: torch.nn.Module, spec: Spec, folder: Path, labels: np.ndarray) -> np.ndarray:
    """Return the probabilities (N,) of a folder's images."""
    network.eval()
    loader = DataLoader(stock.PngFolder([folder], labels, stock.to_tensor(spec.size)), batch_size=64)
    return torch.cat([network(images)[:, 0].sigmoid() for images, _ in loader]).numpy()


@torch.no_grad()
def frechet(network: Any, spec: Spec, real: Path, drawn: Path, count: int, wanted: int) -> float:
    """Return the Fréchet distance of two PNG folders in the classifier's features."""
    network.eval()
    moments = []
    for folder, number in ((real, count), (drawn, wanted)):
        loader = DataLoader(stock.PngFolder([folder], np.zeros(number), stock.to_tensor(spec.size)), batch_size=64)
        features = torch.cat([network.features(images) for images, _ in loader]).double().numpy()
        moments.append((features.mean(0), np.cov(features, rowvar=False)))
    (first, own), (second, other) = moments
    root = np.asarray(sqrtm(own @ other)).real
    return float(((first - second) ** 2).sum() + np.trace(own + other - 2 * root))


if __name__ == "__main__":
    chosen = Spec(**json.loads(Path(sys.argv[1]).read_text()))
    torch.set_num_threads(chosen.threads)
    print(json.dumps(run_study(chosen)))
