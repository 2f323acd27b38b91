"""What precision, memory format, compiling and CUDA graphs do for the default networks on this GPU.

    python benchmarks/gpu.py [--sizes 32 256] [--only TEXT] [--uncompiled] [--json FILE]

Milliseconds of an evaluation of the U-Net (batch 64), of a step of its training (batch 32), and of a step of a
classifier (batch 16); and what they take of this GPU's own rate of matrix products in the same precision. Variants take
turns; compiling is timed once, with an empty cache. Ours against stock parts on a GPU:
SYNTHGAIN_DEVICE=cuda python benchmarks/run.py --only sampling generator_training downstream_training
"""

import argparse
import contextlib
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow_scripts"))

import torch
from measure import MATMUL_SIDE, flops_of, machine
from torch.nn import functional

from synthgain.device import make_deterministic
from synthgain.networks import small_cnn, torchvision_classifiers
from synthgain.networks.recording import Recorded
from synthgain.networks.unet import build, condition_dimension, evaluate, prepare_memory_format

ROUNDS, REPEATS = 5, 4
EVALUATED, TRAINED, CLASSIFIED = 64, 32, 16  # images a batch
# Classifiers of the default study and of a usual one, and the images' side.
CLASSIFIERS: dict[str, tuple[Callable[[], torch.nn.Module], int]] = {
    "small_cnn": (lambda: small_cnn.build(1, 1, 32, width=8, max_width=32), 32),
    "resnet50": (lambda: torchvision_classifiers.build(1, 1, 224, name="resnet50"), 224),
}


@dataclass
class Variant:
    """One way to run a network. compiled: torch.compile's mode, or "" for none; recorded: our CUDA graph."""

    name: str
    half: bool = False
    channels_last: bool = False
    compiled: str = ""
    recorded: bool = False
    compile_seconds: float = 0.0
    milliseconds: list[float] = field(default_factory=list)

    def precision(self) -> contextlib.AbstractContextManager[Any]:
        """Return the context to run in."""
        return torch.autocast("cuda", torch.bfloat16) if self.half else contextlib.nullcontext()


def of_evaluation() -> list[Variant]:
    """Return the ways to draw."""
    return [
        Variant("TF32"),
        Variant("TF32, channels last", channels_last=True),
        Variant("TF32, CUDA graph (default)", recorded=True),
        Variant("TF32, compiled, CUDA graph", compiled="default", recorded=True),
        Variant("bfloat16", half=True),
        Variant("bfloat16, CUDA graph", half=True, recorded=True),
    ]


def of_training() -> list[Variant]:
    """Return the ways to train."""
    return [
        Variant("TF32"),
        Variant("TF32, channels last", channels_last=True),
        Variant("bfloat16", half=True),
        Variant("bfloat16, compiled, CUDA graphs", half=True, compiled="reduce-overhead"),
    ]


def main() -> None:
    """Measure and print a table for each network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[32, 256], help="px, of the U-Nets")
    parser.add_argument("--only", default="", help="part of the titles of the tables wanted")
    parser.add_argument("--uncompiled", action="store_true", help="leave out what is compiled: a minute or more each")
    parser.add_argument("--json", type=Path)
    parsed = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("no GPU here")
    torch.set_float32_matmul_precision("high")
    make_deterministic(torch.device("cuda"))  # as jobs do
    rates = {half: matmul_rate(half) for half in (False, True)}
    print(f"matrix products: TF32 {rates[False] / 1e12:.0f}, bfloat16 {rates[True] / 1e12:.0f} Tflop/s")
    found: dict[str, Any] = {"machine": machine(torch.get_num_threads()), "rates": list(rates.values())}
    works: dict[str, tuple[Callable[..., Any], Any, int, list[Variant]]] = {}
    for size in parsed.sizes:
        works[f"evaluation of the U-Net, {size} px"] = (drawing, size, EVALUATED, of_evaluation())
    for name in CLASSIFIERS:
        works[f"training step of {name}, {CLASSIFIERS[name][1]} px"] = (classifying, name, CLASSIFIED, of_training())
    for size in parsed.sizes:
        works[f"training step of the U-Net, {size} px"] = (generating, size, TRAINED, of_training())
    for title, (work, argument, batch, every) in works.items():
        if parsed.only not in title:
            continue
        variants = [variant for variant in every if not (parsed.uncompiled and variant.compiled)]
        flops = take_turns(work, argument, variants)
        found[title] = {"flops": flops, "batch": batch, "variants": [asdict(variant) for variant in variants]}
        print_table(f"{title}, batch {batch}", flops, variants, rates)
        if parsed.json is not None:
            parsed.json.write_text(json.dumps(found, indent=1) + "\n")


def take_turns(work: Callable[..., Any], argument: Any, variants: list[Variant]) -> float:
    """Fill in every variant's times; return the operations of the first one's piece."""
    torch.compiler.reset()  # each network anew: what is compiled counts against a limit
    pieces: list[Callable[[], None]] = []
    for variant in variants:
        with TemporaryDirectory() as cache:
            os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache
            os.environ.pop("TRITON_CACHE_DIR", None)  # which the first compilation sets
            began = time.perf_counter()
            pieces.append(work(variant, argument))
            for _ in range(3):
                pieces[-1]()
            torch.cuda.synchronize()
            variant.compile_seconds = time.perf_counter() - began if variant.compiled else 0.0
    for _ in range(ROUNDS):
        for variant, piece in zip(variants, pieces, strict=True):
            variant.milliseconds.append(milliseconds_of(piece))
    return flops_of(pieces[0])


def drawing(variant: Variant, size: int) -> Callable[[], None]:
    """Return one evaluation of the U-Net."""
    network = placed(variant, build({}, size, 1)).eval().requires_grad_(False)
    images = laid_out(variant, torch.randn(EVALUATED, 1, size, size, device="cuda"))
    more = torch.ones(EVALUATED, device="cuda"), torch.randn(EVALUATED, condition_dimension(network), device="cuda")
    own: Any = lambda *arguments: evaluate(network, *arguments)  # noqa: E731
    run = Recorded(own) if variant.recorded else own

    def piece() -> None:
        with torch.inference_mode(), variant.precision():
            run(images, *more)

    return piece


def generating(variant: Variant, size: int) -> Callable[[], None]:
    """Return one step of the U-Net's training: forward, backward, optimiser."""
    network = placed(variant, build({}, size, 1)).train()
    images = laid_out(variant, torch.randn(TRAINED, 1, size, size, device="cuda"))
    more = torch.ones(TRAINED, device="cuda"), torch.randn(TRAINED, condition_dimension(network), device="cuda")
    return stepping(variant, network, lambda: evaluate(network, images, *more).float().square().mean())


def classifying(variant: Variant, name: str) -> Callable[[], None]:
    """Return one step of a classifier's training."""
    built, size = CLASSIFIERS[name]
    network = placed(variant, built()).train()
    images = laid_out(variant, torch.randn(CLASSIFIED, 1, size, size, device="cuda"))
    labels = torch.rand(CLASSIFIED, 1, device="cuda").round()
    loss = functional.binary_cross_entropy_with_logits
    return stepping(variant, network, lambda: loss(network(images).float(), labels))


def stepping(variant: Variant, network: Any, loss_of: Callable[[], torch.Tensor]) -> Callable[[], None]:
    """Return a step of AdamW on this loss."""
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-4, fused=True)

    def piece() -> None:
        optimiser.zero_grad()
        with variant.precision():
            loss = loss_of()
        loss.backward()
        optimiser.step()

    return piece


def placed(variant: Variant, network: Any) -> Any:
    """Return a network on the GPU as the variant wants it."""
    network = network.cuda()
    if variant.channels_last:
        network = prepare_memory_format(network)
    if variant.compiled:
        network.compile(dynamic=False, mode=variant.compiled)
    return network


def laid_out(variant: Variant, images: torch.Tensor) -> torch.Tensor:
    """Return images in the variant's memory format."""
    return images.contiguous(memory_format=torch.channels_last) if variant.channels_last else images


def milliseconds_of(piece: Callable[[], None]) -> float:
    """Return how long the GPU takes for a piece, from the first launch to the end: the mean of a few in a row."""
    torch.cuda.synchronize()
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(REPEATS):
        piece()
    end.record()
    torch.cuda.synchronize()
    return float(start.elapsed_time(end)) / REPEATS


def matmul_rate(half: bool) -> float:
    """Return floating point operations per second of a large matrix product on random numbers."""
    side = MATMUL_SIDE["cuda"]
    kind = torch.bfloat16 if half else torch.float32
    first, second = (torch.randn(side, side, device="cuda", dtype=kind) for _ in range(2))
    times = [milliseconds_of(lambda: torch.mm(first, second)) for _ in range(13)]
    return float(2 * side**3 / (statistics.median(times[3:]) / 1000))


def print_table(title: str, flops: float, variants: list[Variant], rates: dict[bool, float]) -> None:
    """Print the variants as Markdown."""
    base = statistics.median(variants[0].milliseconds)
    print(f"\n{title}, {flops / 1e9:.3g} Gflop\n")
    print("| variant | ms | ratio | Tflop/s | of the matmul rate | compiling, s |")
    print("| --- | --- | --- | --- | --- | --- |")
    for variant in variants:
        own = statistics.median(variant.milliseconds)
        rate = flops / own * 1000
        compiling = f"{variant.compile_seconds:.0f}" if variant.compiled else ""
        share = f"{rate / rates[variant.half]:.1%}"
        cells = variant.name, f"{own:.3f}", f"{base / own:.2f}×", f"{rate / 1e12:.1f}", share, compiling
        print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
