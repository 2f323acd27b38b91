"""A study runs without a network (method test 16): the download of published sets is the only code that fetches."""

import ast
from pathlib import Path

SCRIPTS = Path(__file__).parents[1] / "workflow_scripts"
HARMLESS = "urllib.parse"  # takes addresses apart and fetches nothing
FETCHING = {"urllib", "http", "socket", "ftplib", "ssl", "requests", "httpx", "aiohttp", "huggingface_hub"}


def _imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name for name in names if not f"{name}.".startswith(f"{HARMLESS}.")}


def test_only_the_download_of_published_sets_reaches_for_a_network() -> None:
    modules = {str(path.relative_to(SCRIPTS)): _imported(path) for path in sorted(SCRIPTS.rglob("*.py"))}
    fetching = [name for name, found in modules.items() if {part.split(".")[0] for part in found} & FETCHING]
    assert fetching == ["synthgain/datasets/download.py"]
    users = [name for name, found in modules.items() if "synthgain.datasets.download" in found]
    assert users == ["synthgain/datasets/medmnist.py", "synthgain/datasets/published.py"]
