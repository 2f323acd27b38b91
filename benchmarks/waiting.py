"""Threads that wait: training steps of two threads that sleep at their barriers, as in jobs, or spin, as by default.

Each step ends many small layers, and at each of them the threads wait for each other. On an idle machine spinning costs
nothing; where another program has a core, the thread that lacks it keeps the other spinning.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from measure import Options, Row

SCRIPTS = Path(__file__).resolve().parents[1] / "workflow_scripts"
THREADS, ROUNDS, SMALL_ROUNDS = 2, 5, 1
STEPS, SMALL_STEPS = 60, 10
BUSY = "while True: pass"


def measure(options: Options) -> Row:
    """Time both, alone and beside a busy program for each core but one, in turn."""
    from synthgain.study.session import WAITING

    found: dict[str, list[float]] = {}
    steps = SMALL_STEPS if options.small else STEPS
    for _ in range(SMALL_ROUNDS if options.small else ROUNDS):
        for busy in (0, max(1, (os.cpu_count() or 1) - 1)):
            with busy_programs(busy):
                for name, environment in (("sleeping", WAITING), ("spinning", dict.fromkeys(WAITING))):
                    found.setdefault(f"{name}, {'contended' if busy else 'alone'}", []).append(
                        step_seconds(environment, steps)
                    )
    middle = {name: 1000 * statistics.median(seconds) for name, seconds in found.items()}
    pairs = zip(found["spinning, contended"], found["sleeping, contended"], strict=True)
    ratios = [theirs / ours for theirs, ours in pairs]
    return Row(
        "waiting", f"a training step of {THREADS} threads beside a busy program, ms",
        f"{middle['sleeping, contended']:.1f} (alone {middle['sleeping, alone']:.1f})",
        f"{middle['spinning, contended']:.1f} (alone {middle['spinning, alone']:.1f})",
        ">= 1 contended", (statistics.median(ratios), min(ratios), max(ratios)),
        statistics.median(ratios) >= 1.0, "", {"ms": middle, "steps": steps},
    )  # fmt: skip


@contextmanager
def busy_programs(count: int) -> Iterator[None]:
    """Keep `count` programs busy meanwhile."""
    programs = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(count)]
    try:
        yield
    finally:
        for program in programs:
            program.kill()
            program.wait()


def step_seconds(environment: Mapping[str, str | None], steps: int) -> float:
    """Return the seconds of a step of the default study's classifier, by the clock, in a process of its own.

    environment: what is set besides; None: not set.
    """
    told = {**os.environ, **environment, "OMP_NUM_THREADS": str(THREADS), "PYTHONPATH": str(SCRIPTS)}
    done = subprocess.run(
        [sys.executable, __file__, str(steps)],
        env={name: value for name, value in told.items() if value is not None},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return float(json.loads(done.stdout.splitlines()[-1]))


def timed_steps(steps: int) -> float:
    """Return the mean seconds of `steps` training steps, after a few to warm up; stalls count."""
    import torch
    from torch.nn import functional

    from synthgain.networks.small_cnn import build

    torch.set_num_threads(THREADS)
    network = build(1, 1, 32, width=8, max_width=32).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3, fused=True)
    images, labels = torch.randn(16, 1, 32, 32), torch.rand(16, 1).round()
    began = 0.0
    for step in range(-10, steps):
        began = time.perf_counter() if step == 0 else began
        optimiser.zero_grad()
        functional.binary_cross_entropy_with_logits(network(images), labels).backward()
        optimiser.step()
    return (time.perf_counter() - began) / steps


if __name__ == "__main__":
    print(json.dumps(timed_steps(int(sys.argv[1]))))
