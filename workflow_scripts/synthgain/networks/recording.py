"""A network's evaluation as a CUDA graph: one launch instead of several hundred.

Launching bounds small networks on a GPU (docs/performance.md). The recorded kernels are those that would be launched
one by one, so the results are the same to the bit.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

WARM_UPS = 3  # before recording: libraries choose their kernels, a compiled network is compiled


@dataclass(frozen=True)
class _Recording:
    """A graph, and the memory that it reads and writes."""

    graph: torch.cuda.CUDAGraph
    inputs: list[Tensor | None]
    output: Tensor


class Recorded:
    """`evaluate` of CUDA tensors (or None), recorded when it first meets their shapes and replayed from then on.

    For inference alone: to be called below `torch.inference_mode()`, on weights that need no gradient.
    """

    def __init__(self, evaluate: Callable[..., Tensor]) -> None:
        self.evaluate = evaluate
        self._recordings: dict[tuple[object, ...], _Recording] = {}

    def __call__(self, *arguments: Tensor | None) -> Tensor:
        """Return what `evaluate` returns for these arguments, in memory of its own."""
        if not torch.is_inference_mode_enabled():
            raise RuntimeError("a recorded network is for inference: call it below torch.inference_mode()")
        shapes = tuple(None if given is None else (given.shape, given.stride(), given.dtype) for given in arguments)
        key = (torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda"), shapes)
        if key not in self._recordings:
            self._recordings[key] = self._record(arguments)
        recording = self._recordings[key]
        for own, given in zip(recording.inputs, arguments, strict=True):
            if own is not None and given is not None:
                own.copy_(given)
        recording.graph.replay()
        return recording.output.clone()

    def _record(self, arguments: tuple[Tensor | None, ...]) -> _Recording:
        inputs = [None if given is None else given.clone() for given in arguments]
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(WARM_UPS):
                self.evaluate(*inputs)
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            output = self.evaluate(*inputs)
        return _Recording(graph, inputs, output)
