"""Energy that a training run takes: NVML for NVIDIA GPUs, RAPL for the processor; None where one cannot be read.

Both count the whole device, so whatever else runs on it at the time is counted too. A total is the sum of all parts
of a run; one part that was not measured makes the total unknown: a part alone would understate it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

POWERCAP = Path("/sys/class/powercap")
# Domains that do not overlap: `core` and `uncore` lie inside a package, `psys` around all of them.
COUNTED_DOMAINS = ("package", "dram")
MICROJOULES_PER_JOULE = 1_000_000
MILLIJOULES_PER_JOULE = 1_000


class RaplDomain:
    """One counter of Linux' powercap tree: `energy_uj` in microjoules, back at 0 above `max_energy_range_uj`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = (folder / "name").read_text().strip()
        self.range = int((folder / "max_energy_range_uj").read_text())
        self.last = self._counter()

    def since_last(self) -> float:
        """Return joules since the last call; exact if the counter went round at most once (minutes at least)."""
        now = self._counter()
        added = (now - self.last) % (self.range + 1)
        self.last = now
        return added / MICROJOULES_PER_JOULE

    def _counter(self) -> int:
        return int((self.folder / "energy_uj").read_text())


class NvmlDevice:
    """One NVIDIA GPU's own counter, in millijoules since its driver was loaded (Volta and later)."""

    def __init__(self, nvml: Any, device: torch.device) -> None:
        self.nvml = nvml
        uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}"  # numbers differ under CUDA_VISIBLE_DEVICES
        self.handle = nvml.nvmlDeviceGetHandleByUUID(uuid)
        self.last = self._counter()

    def since_last(self) -> float:
        """Return joules since the last call."""
        now = self._counter()
        added, self.last = now - self.last, now
        return added / MILLIJOULES_PER_JOULE

    def _counter(self) -> int:
        return int(self.nvml.nvmlDeviceGetTotalEnergyConsumption(self.handle))


class EnergyMeter:
    """Joules of the processor and of `gpus` since the last reading.

    source: what is read, say "RAPL package-0, dram + NVML 1 GPU"; None where the processor (or, of a run on GPUs,
    a GPU) cannot be read. A run on GPUs is measured by its GPUs, and by the processor too where that can be read.
    """

    def __init__(self, gpus: Sequence[torch.device] = (), powercap: Path = POWERCAP) -> None:
        domains = rapl_domains(powercap)
        devices = nvml_devices(gpus)
        measured = devices is not None and bool(devices or domains)
        self.counters: list[RaplDomain | NvmlDevice] = [*domains, *(devices or [])] if measured else []
        self.source = _source(domains, devices or []) if measured else None

    def since_last(self) -> float | None:
        """Return joules since the last call (or since this meter was made), None where not measured."""
        if self.source is None:
            return None
        try:
            return sum(counter.since_last() for counter in self.counters)
        except (OSError, ValueError, _nvml_error()):  # a counter went away: from here on nothing is known
            self.source = None
            return None


def total_energy(so_far: float | None, added: float | None) -> float | None:
    """Sum of two energies in joules; unknown where either is."""
    return None if so_far is None or added is None else so_far + added


def rapl_domains(powercap: Path = POWERCAP) -> list[RaplDomain]:
    """Return the readable package and memory counters; none where one of them may not be read (often root only)."""
    domains = []
    try:
        for folder in sorted(powercap.glob("intel-rapl:*")):  # AMD's carry this name too
            if (folder / "name").read_text().strip().startswith(COUNTED_DOMAINS):
                domains.append(RaplDomain(folder))
    except (OSError, ValueError):
        return []
    return domains


def nvml_devices(gpus: Sequence[torch.device]) -> list[NvmlDevice] | None:
    """Return a counter per GPU; None where one cannot be read (no NVML, an old GPU, a slice of a GPU)."""
    if not gpus:
        return []
    try:
        import pynvml

        pynvml.nvmlInit()
        return [NvmlDevice(pynvml, gpu) for gpu in gpus]
    except (ImportError, AttributeError, _nvml_error()):
        return None


def _nvml_error() -> type[Exception]:
    try:
        from pynvml import NVMLError
    except ImportError:
        return ImportError
    return NVMLError


def _source(domains: list[RaplDomain], devices: list[NvmlDevice]) -> str:
    parts = []
    if domains:
        parts.append("RAPL " + ", ".join(domain.name for domain in domains))
    if devices:
        parts.append(f"NVML {len(devices)} GPU{'s' if len(devices) > 1 else ''}")
    return " + ".join(parts)
