"""Energy of a run: counters that go round, domains that overlap, and what cannot be read is not measured."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from synthgain.runtime.energy import EnergyMeter, total_energy

RANGE = 65_532_610_987  # microjoules, as Intel's packages have it


def domain(powercap: Path, number: str, name: str, microjoules: int, largest: int = RANGE) -> Path:
    """Write one powercap counter and return its file."""
    folder = powercap / f"intel-rapl:{number}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "name").write_text(f"{name}\n")
    (folder / "max_energy_range_uj").write_text(f"{largest}\n")
    (folder / "energy_uj").write_text(f"{microjoules}\n")
    return folder / "energy_uj"


def test_packages_and_memory_are_summed_and_nothing_is_counted_twice(tmp_path: Path) -> None:
    counters = {
        name: domain(tmp_path, number, name, 0)
        for number, name in {
            "0": "package-0", "0:0": "core", "0:1": "dram", "1": "package-1", "2": "psys",
        }.items()
    }  # fmt: skip
    meter = EnergyMeter(powercap=tmp_path)
    for counter in counters.values():
        counter.write_text("2000000\n")
    assert meter.source == "RAPL package-0, dram, package-1"
    assert meter.since_last() == pytest.approx(6.0)
    assert meter.since_last() == 0.0


@given(st.integers(0, RANGE), st.integers(0, RANGE))
def test_a_counter_that_goes_round_loses_nothing(
    tmp_path_factory: pytest.TempPathFactory, start: int, used: int
) -> None:
    powercap = tmp_path_factory.mktemp("powercap")
    counter = domain(powercap, "0", "package-0", start)
    meter = EnergyMeter(powercap=powercap)
    counter.write_text(str((start + used) % (RANGE + 1)))
    assert meter.since_last() == pytest.approx(used / 1e6)


@pytest.mark.parametrize("broken", ["absent", "unreadable", "damaged"])
def test_what_cannot_be_read_is_not_measured(tmp_path: Path, broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if broken != "absent":
        counter = domain(tmp_path, "0", "package-0", 1)
        if broken == "damaged":
            counter.write_text("none")
        else:
            original = Path.read_text

            def read_text(path: Path) -> str:
                if path.name == "energy_uj":
                    raise PermissionError(13, "Permission denied")  # mode 0400 since Linux 5.10; root reads anyway
                return original(path)

            monkeypatch.setattr(Path, "read_text", read_text)
    meter = EnergyMeter(powercap=tmp_path)
    assert meter.source is None
    assert meter.since_last() is None


def test_a_counter_that_goes_away_ends_the_measurement(tmp_path: Path) -> None:
    counter = domain(tmp_path, "0", "package-0", 0)
    meter = EnergyMeter(powercap=tmp_path)
    counter.unlink()
    assert meter.since_last() is None
    counter.write_text("5000000")
    assert meter.since_last() is None


def test_one_part_not_measured_makes_the_total_unknown() -> None:
    assert total_energy(1.5, 2.0) == 3.5
    assert total_energy(None, 2.0) is None
    assert total_energy(1.5, None) is None


class FakeNvml:
    """pynvml's calls that the meter makes; a GPU uses a joule between two readings."""

    NVMLError = type("NVMLError", (Exception,), {})

    def __init__(self, known: str) -> None:
        self.known, self.millijoules = known, 7000

    def nvmlInit(self) -> None: ...

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        if uuid != self.known:
            raise self.NVMLError(uuid)
        return uuid

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:
        self.millijoules += 1000
        return self.millijoules


def test_a_run_on_a_gpu_is_measured_by_the_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="abc"))
    gpu = torch.device("cuda", 0)
    counter = domain(tmp_path, "0", "package-0", 0)
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml("GPU-abc"))
    meter = EnergyMeter([gpu], tmp_path)
    counter.write_text("500000")
    assert meter.source == "RAPL package-0 + NVML 1 GPU"
    assert meter.since_last() == pytest.approx(1.5)
    assert EnergyMeter([gpu], tmp_path / "none").source == "NVML 1 GPU"
    # The processor alone would make a GPU's run look thrifty.
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml("GPU-other"))
    assert EnergyMeter([gpu], tmp_path).source is None
    monkeypatch.setitem(sys.modules, "pynvml", None)  # not installed
    assert EnergyMeter([gpu], tmp_path).source is None
