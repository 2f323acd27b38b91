"""Who may import whom: docs/architecture.md, as a test."""

import ast
from pathlib import Path

import pytest

from synthgain import registry
from synthgain.study.syntax import facts_of

SCRIPTS = Path(__file__).parent.parent / "workflow_scripts"
PACKAGE = SCRIPTS / "synthgain"
BASE = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"}
CONFIG_TYPES = ("schema", "data", "generation", "training", "roles")
# package: what it may import besides `runtime`, the base modules and itself
ALLOWED = {
    "runtime": set(),  # nothing else, no base module either
    "datasets": set(),
    "networks": set(),
    "generators": {"networks", "datasets.order"},
    "pools": {"datasets", "networks", "generators"},
    "downstream": {"datasets", "networks"},
    "evaluation": {"networks", "generators"},
    "statistics": set(),
    # the study as its config types
    "report": {"statistics.metric_registry", *(f"study.{name}" for name in CONFIG_TYPES)},
    # The config is made of the options of those who use them: declarations alone, without torch.
    "study": {
        *(f"{package}.options" for package in ("datasets", "networks", "downstream", "pools")),
        "statistics.metric_registry",
    },
    "speed": {"networks", "generators", "pools", "downstream"},  # measures all of them
}


def imported(path: Path) -> set[str]:
    """Return the project modules that a file imports, without the leading `synthgain.`."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            names = [node.module if node.module != "synthgain" else f"synthgain.{a.name}" for a in node.names]
        else:
            continue
        found |= {name.removeprefix("synthgain.") for name in names if name.startswith("synthgain.")}
    return found


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_allowed_imports(path: Path) -> None:
    parts = path.relative_to(PACKAGE).parts
    package = parts[0] if len(parts) > 1 else None
    for name in imported(path):
        top = name.split(".")[0]
        if package is None:
            assert top in BASE | {"runtime"}, f"base module {path.name} imports {name}"
            continue
        allowed = {package} | ALLOWED[package] | (set() if package == "runtime" else BASE | {"runtime"})
        assert top in allowed or name in allowed, f"{package} must not import {name}"


MOVES_A_BIT = (
    "backends.cuda", "backends.cudnn", "set_deterministic", "use_deterministic", "matmul_precision", "manual_seed",
    "SeedSequence", "default_rng", "autocast", "set_num_threads", "set_default_dtype",
)  # fmt: skip


@pytest.mark.parametrize("path", sorted((PACKAGE / "runtime").glob("*.py")), ids=lambda path: path.stem)
def test_what_is_outside_the_code_digest_moves_no_bit_of_a_result(path: Path) -> None:
    assert not [word for word in MOVES_A_BIT if word in path.read_text()]


def test_the_registry_only_declares() -> None:
    """Else it would count in the code digest, and a new entry would rerun everything."""
    assert facts_of((PACKAGE / "registry.py").read_bytes())["declares"] == "registry"


def test_registered_modules_are_there() -> None:
    tables = {name: table for name, table in vars(registry).items() if name.isupper()}
    missing = [path for table in tables.values() for path in table.values() if not (SCRIPTS / file_of(path)).exists()]
    assert tables
    assert not missing


def file_of(dotted: str) -> str:
    return dotted.replace(".", "/") + ".py"


def test_package_inits_are_empty() -> None:
    for path in PACKAGE.rglob("__init__.py"):
        assert path.read_text() == "", path


def test_every_package_is_listed() -> None:
    assert {path.parent.name for path in PACKAGE.glob("*/__init__.py")} == set(ALLOWED)


@pytest.mark.parametrize("path", sorted(SCRIPTS.glob("*.py")), ids=lambda path: path.stem)
def test_scripts_do_not_import_the_study(path: Path) -> None:
    assert not {name for name in imported(path) if name.split(".")[0] == "study"}


@pytest.mark.parametrize("path", sorted(SCRIPTS.rglob("*.py")), ids=lambda path: str(path.relative_to(SCRIPTS)))
def test_modules_stay_small(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400
