"""Fixtures that several test files share."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from workshop import ROOT, Workshop, new_workshop

import synthgain  # noqa: F401

os.environ.setdefault("OMP_NUM_THREADS", "1")
# Our package keeps transformers out of jobs (its `__init__.py`); torchmetrics, which tests compare with, asks for it.
if sys.modules.get("transformers", ...) is None:
    del sys.modules["transformers"]
# No test asserts a wall time: a busy machine is no failure.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")


@pytest.fixture(autouse=True)
def _the_environment_of_one_session_is_not_the_next_tests() -> Iterator[None]:
    """A `Session` leaves what its jobs shall know in the environment; each test starts without another's."""
    before = dict(os.environ)
    yield
    for name in set(os.environ) - set(before):
        if name.startswith("SYNTHGAIN_"):
            del os.environ[name]
    os.environ.update({name: value for name, value in before.items() if name.startswith("SYNTHGAIN_")})


@pytest.fixture(scope="session", autouse=True)
def _a_folder_for_what_test_processes_share(tmp_path_factory: pytest.TempPathFactory) -> None:
    """One folder of this call of pytest, whichever process asks; pytest itself removes it some calls later."""
    own = tmp_path_factory.getbasetemp()
    folder = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    os.environ["TEST_SESSION_FOLDER"] = str(folder)


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
