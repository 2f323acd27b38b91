"""With what the report was made: Python, packages, commit."""

import platform
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

PACKAGES = [
    "torch",
    "torchvision",
    "diffusers",
    "monai",
    "accelerate",
    "numpy",
    "pandas",
    "pyarrow",
    "scipy",
    "scikit-learn",
    "pingouin",
    "statsmodels",
    "matplotlib",
    "pydicom",
    "pydantic",
    "jinja2",
    "snakemake",
]
GIT_SECONDS = 10


def versions() -> list[tuple[str, str]]:
    """Return (name, version) of Python, the system and the packages that are installed."""
    found = [("python", platform.python_version()), ("system", f"{platform.system()} {platform.machine()}")]
    for package in PACKAGES:
        try:
            found.append((package, metadata.version(package)))
        except metadata.PackageNotFoundError:
            continue
    return found


def commit(folder: Path) -> str:
    """Return the Git commit of the source in `folder`, with "+ changes" where files differ; "" without Git."""
    git = shutil.which("git")
    if git is None:
        return ""
    try:
        head = _git(git, folder, "rev-parse", "HEAD")
        changed = _git(git, folder, "status", "--porcelain", "--untracked-files=no", "--", ".")
    except (OSError, subprocess.SubprocessError):
        return ""
    return head[:12] + (" + changes" if changed else "")


def _git(git: str, folder: Path, *arguments: str) -> str:
    command = [git, "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=GIT_SECONDS).stdout.strip()
