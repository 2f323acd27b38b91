"""What of the code behind a job counts, and what does not, on a small tree of modules."""

from pathlib import Path

import pytest

from synthgain.study.code import CodeDigests

DRAW = '''
from synthgain.runtime.files import write
from synthgain.runtime.log import Progress, logger
from synthgain.maths import double


def draw(count, names, facts):
    """Draw."""
    if count < 1:
        raise ValueError(f"count {count} is below 1; known: {', '.join(names)}", count, 7)
    if facts["kind"] == "odd":
        raise KeyError(f"odd: {facts['why']!r} " + ("few" if facts["kind"] == "small" else "many"))
    progress = Progress("drawing", count)
    logger.info("drawn %d of %s", double(count), f"all {count:.2f}")
    progress.advance(1, note="done")
    return write(double(count), "drawn")
'''
MATHS = "def double(x):\n    return 2 * x\n"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A script, two modules and infrastructure."""
    files = {
        "stage.py": "from synthgain.pools.draw import draw\nprint(draw(2, [], {}))\n",
        "synthgain/pools/draw.py": DRAW,
        "synthgain/maths.py": MATHS,
        "synthgain/runtime/files.py": "import pyarrow\n\n\ndef write(value, name):\n    return (value, name)\n",
        "synthgain/runtime/log.py": "import logging\n\nlogger = logging.getLogger('x')\n\n\nclass Progress: ...\n",
        "synthgain/runtime/format.py": "FORMAT = 1\n",
        "requirements.lock": "numpy==1.0\npyarrow==9.0\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def digest(tree: Path, *modules: str) -> str:
    return CodeDigests(tree, tree / "requirements.lock").digest("stage.py", modules)


def edit(tree: Path, name: str, old: str, new: str) -> None:
    text = (tree / name).read_text()
    assert old in text
    (tree / name).write_text(text.replace(old, new))


def move(tree: Path, old: str, new: str) -> None:
    """Move a module, and write its new name wherever the old one stands."""
    target = tree / (new.replace(".", "/") + ".py")
    target.parent.mkdir(parents=True, exist_ok=True)
    (tree / (old.replace(".", "/") + ".py")).rename(target)
    for path in tree.rglob("*.py"):
        path.write_text(path.read_text().replace(old, new))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("is below 1", "must be above 0"),
        ("; known: {', '.join(names)}", "; one of {' '.join(names)}"),
        ("odd: {facts['why']!r} ", "a strange one, {facts['why']} "),
        ('"few" if', '"a few" if'),
        ('"drawing"', '"drawing images"'),
        ("drawn %d of %s", "%d drawn, of %s"),
        ("all {count:.2f}", "in all {count:.3f}"),
        ('note="done"', 'note="finished"'),
        ('"""Draw."""', '"""Draw some."""  # why'),
    ],
)
def test_text_that_only_people_read_does_not_count(tree: Path, old: str, new: str) -> None:
    before = digest(tree)
    edit(tree, "synthgain/pools/draw.py", old, new)
    assert digest(tree) == before


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("count, 7)", "count, 8)"),  # an exception carries data
        ("count, 7)", "names, 7)"),
        ("ValueError(", "TypeError("),
        ("{count} is below", "{names} is below"),
        ("facts['why']", "facts['who']"),  # a key, not text
        ('== "small"', '== "little"'),
        ("double(count), f", "count, f"),
        ("advance(1,", "advance(2,"),
        ('write(double(count), "drawn")', 'write(double(count), "made")'),
        ("count < 1", "count < 2"),
    ],
)
def test_what_a_message_is_made_of_counts(tree: Path, old: str, new: str) -> None:
    before = digest(tree)
    edit(tree, "synthgain/pools/draw.py", old, new)
    assert digest(tree) != before


def test_a_keyword_of_an_exception_is_data(tree: Path) -> None:
    edit(tree, "synthgain/pools/draw.py", "count, 7)", 'kind="count")')
    before = digest(tree)
    edit(tree, "synthgain/pools/draw.py", 'kind="count"', 'kind="number"')
    assert digest(tree) != before


def test_a_function_that_makes_an_exception_is_called_with_data(tree: Path) -> None:
    edit(tree, "synthgain/pools/draw.py", "raise ValueError(f", "raise refusal('few', f")
    before = digest(tree)
    edit(tree, "synthgain/pools/draw.py", "'few', f", "'many', f")
    assert digest(tree) != before


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("synthgain.maths", "synthgain.sums"),
        ("synthgain.maths", "synthgain.numbers.sums"),
        ("synthgain.pools.draw", "synthgain.drawing"),
        ("synthgain.pools.draw", "synthgain.aaa.draw"),
    ],
)
def test_a_moved_module_does_not_count(tree: Path, old: str, new: str) -> None:
    before = digest(tree)
    move(tree, old, new)
    assert digest(tree) == before


def test_the_order_of_imports_does_not_count(tree: Path) -> None:
    before = digest(tree)
    edit(tree, "synthgain/pools/draw.py", "from synthgain.maths import double\n", "")
    edit(
        tree,
        "synthgain/pools/draw.py",
        "from synthgain.runtime.f",
        "from synthgain.maths import double\nfrom synthgain.runtime.f",
    )
    assert digest(tree) == before


def test_a_module_that_holds_the_same_name_is_another(tree: Path) -> None:
    """Both are in the closure before and after: only the link says which one is used."""
    (tree / "synthgain" / "thirds.py").write_text("def double(x):\n    return 3 * x\n")
    edit(
        tree,
        "stage.py",
        "print(",
        "from synthgain.thirds import double as a\nfrom synthgain.maths import double as b\nprint(a, b, ",
    )
    before = digest(tree)
    edit(tree, "synthgain/pools/draw.py", "synthgain.maths", "synthgain.thirds")
    assert digest(tree) != before


def test_the_imported_name_counts(tree: Path) -> None:
    edit(tree, "synthgain/maths.py", MATHS, MATHS + "\n\ndef triple(x):\n    return 3 * x\n")
    before = digest(tree)
    edit(tree, "synthgain/pools/draw.py", "import double\n", "import triple as double\n")
    assert digest(tree) != before


def test_infrastructure_counts_by_its_format_number_alone(tree: Path) -> None:
    before = digest(tree)
    (tree / "synthgain" / "runtime" / "files.py").write_text(
        "import numpy\n\n\ndef write(value, name):\n    return None\n"
    )
    edit(tree, "requirements.lock", "pyarrow==9.0", "pyarrow==9.1")
    assert digest(tree) == before
    move(tree, "synthgain.runtime.files", "synthgain.runtime.disk.whole")
    assert digest(tree) == before
    edit(tree, "synthgain/runtime/format.py", "1", "2")
    assert digest(tree) != before


OPTIONS = '''
from typing import Annotated, Literal

from pydantic import BaseModel, Field, model_validator

Share = Annotated[float, Field(ge=0, le=1)]
Solver = Literal["heun", "euler"] | None


class Sampling(BaseModel):
    """How."""

    steps: int = Field(18, description="Steps.")

    @model_validator(mode="after")
    def _fits(self):
        return self
'''


class TestDeclarations:
    """Options and registries: what they say stands in the slice, or chooses the modules of the closure."""

    @pytest.fixture
    def options(self, tree: Path) -> Path:
        (tree / "synthgain" / "pools" / "options.py").write_text(OPTIONS)
        edit(
            tree,
            "synthgain/pools/draw.py",
            "from synthgain.maths",
            "from synthgain.pools.options import Sampling\nfrom synthgain.maths",
        )
        return tree

    def test_options_that_only_declare_do_not_count(self, options: Path) -> None:
        before = digest(options)
        edit(options, "synthgain/pools/options.py", "Field(18", "Field(20")
        edit(
            options,
            "synthgain/pools/options.py",
            "class Sampling",
            "class Further(BaseModel):\n    x: int = 1\n\n\nclass Sampling",
        )
        assert digest(options) == before

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ("class Sampling", "def learning_rate_at(step):\n    return 1.0\n\n\nclass Sampling"),
            (
                "    @model_validator",
                "    @property\n    def halved(self):\n        return self.steps // 2\n\n    @model_validator",
            ),
            ("class Sampling", "STEPS = 18\n\n\nclass Sampling"),
            ("class Sampling", "KNOWN = {'a': 1}\n\n\nclass Sampling"),
            ("class Sampling", "STEPS: int = 18\n\n\nclass Sampling"),
            ("    steps: int", "    halve = lambda self: 2\n    steps: int"),
            ("    steps: int", "    SHARES = (0.25, 0.5)\n    steps: int"),  # no field: in no slice
            ("    steps: int", "    shares: ClassVar[tuple[float, ...]] = (0.25, 0.5)\n    steps: int"),
        ],
    )
    def test_options_that_do_more_count_whole(self, options: Path, old: str, new: str) -> None:
        edit(options, "synthgain/pools/options.py", old, new)
        before = digest(options)
        edit(options, "synthgain/pools/options.py", "Field(18", "Field(20")
        assert digest(options) != before

    def test_a_registry_of_names_does_not_count(self, tree: Path) -> None:
        registry = tree / "synthgain" / "pools" / "registry.py"
        registry.write_text('SOURCES = {"known": "synthgain.pools.known"}\n')
        edit(
            tree,
            "synthgain/pools/draw.py",
            "from synthgain.maths",
            "from synthgain.pools.registry import SOURCES\nfrom synthgain.maths",
        )
        before = digest(tree)
        registry.write_text('SOURCES = {"known": "synthgain.pools.known", "new": "synthgain.pools.new"}\n')
        assert digest(tree) == before
        for more in ("def size():\n    return 3\n", "SIZES = {'known': 3}\n"):
            registry.write_text(f'SOURCES = {{"known": "synthgain.pools.known"}}\n\n\n{more}')
            assert digest(tree) != before


def test_a_module_named_in_code_is_known_by_what_it_holds(tree: Path) -> None:
    edit(tree, "stage.py", "print(", 'NAMED = "synthgain.other", "synthgain.maths"\nprint(')
    (tree / "synthgain" / "other.py").write_text("VALUE = 1\n")
    before = digest(tree)
    move(tree, "synthgain.other", "synthgain.pools.else_where")
    assert digest(tree) == before
    edit(
        tree,
        "stage.py",
        '"synthgain.pools.else_where", "synthgain.maths"',
        '"synthgain.maths", "synthgain.pools.else_where"',
    )
    assert digest(tree) != before, "which comes first counts"
    edit(
        tree,
        "stage.py",
        '"synthgain.maths", "synthgain.pools.else_where"',
        '"synthgain.pools.else_where", "synthgain.maths"',
    )
    edit(tree, "synthgain/pools/else_where.py", "1", "2")
    assert digest(tree) != before


def test_data_files_count_by_name_and_bytes(tree: Path) -> None:
    edit(tree, "synthgain/maths.py", "def double", 'DATA_FILES = ("*.txt",)\n\n\ndef double')
    (tree / "synthgain" / "words.txt").write_text("one")
    before = digest(tree)
    (tree / "synthgain" / "words.txt").write_text("two")
    assert digest(tree) != before


def test_data_files_of_one_name_in_two_folders_both_count(tree: Path) -> None:
    for module in ("synthgain/maths.py", "synthgain/pools/draw.py"):
        edit(tree, module, "def d", 'DATA_FILES = ("words.txt",)\n\n\ndef d')
        (tree / module).with_name("words.txt").write_text("one")
    found = {digest(tree)}
    for module in ("synthgain/maths.py", "synthgain/pools/draw.py"):
        (tree / module).with_name("words.txt").write_text("two")
        found.add(digest(tree))
    assert len(found) == 3


def test_which_modules_differ_between_two_digests(tree: Path) -> None:
    lock, kept = tree / "requirements.lock", tree / "digests.json"
    first = CodeDigests(tree, lock)
    before = first.digest("stage.py")
    first.remember(kept)
    move(tree, "synthgain.pools.draw", "synthgain.drawing")
    edit(tree, "synthgain/maths.py", "2 * x", "x + x")
    (tree / "requirements.lock").write_text("numpy==1.1\n")
    edit(tree, "stage.py", "print(", "import numpy\n\nprint(")
    second = CodeDigests(tree, lock)
    after = second.digest("stage.py")
    assert second.changed(before, after, kept) == ["maths.py", "numpy 1.1", "stage.py"]
    assert second.changed("0" * 32, after, kept) == []
