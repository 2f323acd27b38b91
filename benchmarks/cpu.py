"""What threads, the allocator, oneDNN, memory format, compiling and freezing do on this CPU: the defaults rest on it.

    python benchmarks/cpu.py [--compiled] [--rounds N] [--json FILE]

Each variant is a process of its own, since most of them are read once, at the start; variants take turns. Measured by
the clock, on an idle machine: one evaluation of the default study's U-Net (batch 64), one step of its classifier.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "workflow_scripts"))

BATCH, EVALUATIONS, STEPS = 64, 5, 80
LARGE = str(1 << 30)
# Variant → environment; the names before "compiled" alone are measured by default.
PLAIN: dict[str, dict[str, str]] = {
    "1 thread": {},
    "2 threads": {"OMP_NUM_THREADS": "2"},
    "all cores": {"OMP_NUM_THREADS": str(os.cpu_count() or 1)},
    "channels first": {"BENCH_FORMAT": "first"},
    "without oneDNN": {"BENCH_ONEDNN": "0"},
    "glibc, one arena": {"MALLOC_ARENA_MAX": "1"},
    "glibc keeps freed blocks": {"MALLOC_TRIM_THRESHOLD_": LARGE, "MALLOC_MMAP_THRESHOLD_": LARGE},
}
COMPILED = {"compiled": {"BENCH_COMPILE": "1"}, "compiled and frozen": {"BENCH_COMPILE": "1", "BENCH_FREEZE": "1"}}


def main() -> None:
    """Measure every variant in turn and print milliseconds and ratios to the first."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--compiled", action="store_true", help="compiled variants too: minutes each")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    parsed = parser.parse_args()
    if parsed.one:
        print(json.dumps(measured()))
        return
    variants = PLAIN | (COMPILED if parsed.compiled else {})
    if (os.cpu_count() or 1) <= 2:
        variants.pop("all cores")
    found: dict[str, list[dict[str, float]]] = {name: [] for name in variants}
    for turn in range(parsed.rounds):
        for name, environment in variants.items():
            if turn == 0 or name not in COMPILED:
                found[name].append(in_process(environment))
    first = found["1 thread"]
    print(f"load {os.getloadavg()[0]:.1f}")
    print("| variant | ms an image and evaluation | ratio | ms a step | ratio |\n| --- | --- | --- | --- | --- |")
    for name, runs in found.items():
        cells = []
        for key in ("evaluation_ms", "step_ms"):
            own, base = (statistics.median(run[key] for run in some) for some in (runs, first))
            cells += [f"{own:.2f}", f"{base / own:.2f}×"]
        print(f"| {name} | " + " | ".join(cells) + " |")
    if parsed.json is not None:
        parsed.json.write_text(json.dumps(found, indent=1) + "\n")


def in_process(environment: dict[str, str]) -> dict[str, float]:
    """Return what `measured` finds in a fresh process."""
    told = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    done = subprocess.run(
        [sys.executable, __file__, "--one"], env=told, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def measured() -> dict[str, float]:
    """Return milliseconds of an evaluation for one image and of a training step, medians."""
    import torch
    from torch.nn import functional

    from synthgain.networks.small_cnn import build as build_classifier
    from synthgain.networks.unet import build as build_unet
    from synthgain.networks.unet import condition_dimension, evaluate, prepare_memory_format

    torch.backends.mkldnn.enabled = os.environ.get("BENCH_ONEDNN") != "0"  # type: ignore[assignment]
    first = os.environ.get("BENCH_FORMAT") == "first"
    network: Any = build_unet({"attention_resolutions": []}, 32, 1).eval()
    width = condition_dimension(network)
    classifier = build_classifier(1, 1, 32, width=8, max_width=32)
    if not first:
        network = prepare_memory_format(network)
        classifier = classifier.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if os.environ.get("BENCH_FREEZE"):
        import torch._inductor.config as inductor

        inductor.freezing = True
    if os.environ.get("BENCH_COMPILE"):
        network.forward = torch.compile(network.forward, dynamic=False)
    images, sigma, condition = torch.randn(BATCH, 1, 32, 32), torch.ones(BATCH), torch.zeros(BATCH, width)

    def evaluation() -> None:
        with torch.no_grad():
            evaluate(network, images, sigma, condition)

    optimiser = torch.optim.AdamW(classifier.parameters(), lr=1e-3, fused=True)
    few, labels = torch.randn(16, 1, 32, 32), torch.rand(16, 1).round()

    def step() -> None:
        optimiser.zero_grad()
        functional.binary_cross_entropy_with_logits(classifier(few), labels).backward()
        optimiser.step()

    return {
        "evaluation_ms": 1000 * median_seconds(evaluation, EVALUATIONS, 2) / BATCH,
        "step_ms": 1000 * median_seconds(step, STEPS, 20),
    }


def median_seconds(piece: Callable[[], None], repeats: int, unmeasured: int) -> float:
    """Return the median wall time of `repeats` calls after some that are not counted."""
    times = []
    for number in range(unmeasured + repeats):
        began = time.perf_counter()
        piece()
        if number >= unmeasured:
            times.append(time.perf_counter() - began)
    return statistics.median(times)


if __name__ == "__main__":
    main()
