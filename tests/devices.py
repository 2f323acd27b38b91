"""The device of tests that compute: SYNTHGAIN_TEST_DEVICE=cuda runs the same tests on a GPU."""

import os

import pytest

DEVICE = os.environ.get("SYNTHGAIN_TEST_DEVICE", "cpu")
assert DEVICE in ("cpu", "cuda"), f"SYNTHGAIN_TEST_DEVICE={DEVICE}"
ON_CPU = pytest.mark.skipif(DEVICE != "cpu", reason="of the CPU's own checks, random numbers or rounding")
