"""Who may import whom: docs/architecture.md, as a test."""

import ast
from collections.abc import Mapping
from pathlib import Path

import pytest

from synthgain import registry
from synthgain.study.syntax import facts_of

SCRIPTS = Path(__file__).parent.parent / "workflow_scripts"
PACKAGE = SCRIPTS / "synthgain"
BASE = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"}
CONFIG_TYPES = ("schema", "data", "generation", "training", "roles")
# package: what it may import besides `runtime`, `data`, the base modules and itself
ALLOWED = {
    "runtime": set(),  # nothing else, no base module either
    "data": set(),
    "datasets": set(),
    "networks": set(),
    "clusters": set(),  # declarations and arithmetic; its script extracts and writes
    "generators": {"networks"},
    "pools": {"datasets", "networks", "generators"},
    "downstream": {"datasets", "networks"},
    "evaluation": {"networks", "generators"},
    "statistics": set(),
    "readers": {"statistics"},
    "steering": {"networks", "generators", "pools", "evaluation.distances"},
    # the study as its config types
    "report": {
        "statistics.metric_registry",
        "statistics.readings",
        "clusters.options",
        "datasets.entries.base",
        "downstream.options",
        "generators.autoencoders.options",
        "generators.steering_options",
        "pools.options",
        *(f"generators.{name}.family" for name in registry.FAMILY_ENTRIES),
        *(f"study.{name}" for name in CONFIG_TYPES),
    },
    # The config is made of the options of those who use them: declarations alone, without torch.
    "study": {
        "networks.options",
        "networks.weight_folder",
        "clusters.options",
        "datasets.entries.base",
        "datasets.entries.table",
        "downstream.kinds",
        "downstream.options",
        "generators.autoencoders.options",
        "generators.autoencoders.saved",
        "generators.family",
        "generators.options",
        "generators.snapshots",
        "generators.steering_options",
        "pools.known_checks",
        "readers.options",
        "readers.questions",
        "pools.options",
        "pools.passes",
        "speed.documents",
        "speed.sizes",  # how many images a table has, asked where a study has clusters alone: it loads pandas
        "statistics.metric_registry",
    },
    # reads the user's files as the adapters do, and asks the planner and the forecast
    "starter": {"datasets", "speed", "study"},
    # measures all of them; from statistics how many generators a claim needs
    "speed": {"datasets", "networks", "generators", "pools", "downstream", "statistics"},
    # What a person sees of a call: the stages' titles, and the forecast.
    "terminal": {"study", "speed.documents", "speed.forecast", "speed.plan_text"},
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
        everywhere = set() if package == "runtime" else BASE | {"runtime", "data"}
        allowed = {package} | ALLOWED[package] | everywhere
        assert top in allowed or name in allowed, f"{package} must not import {name}"


# Circles that are left, each as its modules: a list that may only become shorter.
CIRCLES: list[set[str]] = [
    {"study.check_clusters", "study.check_masks", "study.check_styling", "study.checks", "study.roles", "study.schema"},
]


def test_no_circles_of_imports() -> None:
    """Imports inside functions and under TYPE_CHECKING count."""
    modules = {".".join(path.relative_to(PACKAGE).with_suffix("").parts): path for path in PACKAGE.rglob("*.py")}
    links = {name: imported_modules(path, modules) - {name} for name, path in modules.items()}
    assert circles(links) == sorted(CIRCLES, key=min)


def imported_modules(path: Path, modules: Mapping[str, Path]) -> set[str]:
    """Return which of `modules` a file imports, `from package import module` resolved."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
        base = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
        for name in (f"{base}{name}".removeprefix("synthgain.") for name in names):
            found |= {name, name.rpartition(".")[0]} & set(modules)
    return found


def circles(links: Mapping[str, set[str]]) -> list[set[str]]:
    """Return the groups of modules that reach each other, sorted."""
    reach = {name: set(targets) for name, targets in links.items()}
    for middle in links:
        for name in links:
            if middle in reach[name]:
                reach[name] |= reach[middle]
    groups = {frozenset({name} | {other for other in reach[name] if name in reach[other]}) for name in links}
    return sorted((set(group) for group in groups if len(group) > 1), key=min)


def test_a_circle_is_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set()}) == [{"a", "b", "c"}]


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


def test_package_inits_name_and_import_nothing_of_ours() -> None:
    for path in PACKAGE.rglob("__init__.py"):
        root = path.parent == PACKAGE  # keeps transformers out of jobs that need none
        assert path.read_text() == "" or (root and "import synthgain" not in path.read_text()), path


def test_every_package_is_listed() -> None:
    assert {path.parent.name for path in PACKAGE.glob("*/__init__.py")} == set(ALLOWED)


@pytest.mark.parametrize("path", sorted(SCRIPTS.glob("*.py")), ids=lambda path: path.stem)
def test_scripts_do_not_import_the_study(path: Path) -> None:
    assert not {name for name in imported(path) if name.split(".")[0] == "study"}


@pytest.mark.parametrize("path", sorted(SCRIPTS.rglob("*.py")), ids=lambda path: str(path.relative_to(SCRIPTS)))
def test_modules_stay_small(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400
