"""Fixtures that several test files share."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from workshop import ROOT, Workshop, new_workshop

os.environ.setdefault("OMP_NUM_THREADS", "1")
# No test asserts a wall time: a busy machine is no failure.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of the real data sets; tests that need it are skipped where it is not at hand."""
    root = Path(os.environ.get("SYNTHGAIN_DATA", ROOT.parent / "shared" / "data"))
    if not (root / "nih-cxr-1000" / "metadata.csv").exists():
        pytest.skip("real data not at hand: set SYNTHGAIN_DATA to their folder")
    return root


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """The tiny study, built once from a copy of the repository. Tests that change it work on a copy of their own."""
    workshop = new_workshop(tmp_path_factory.mktemp("built"))
    workshop.build()
    return workshop
