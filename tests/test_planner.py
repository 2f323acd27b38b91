"""Job identities: what changes them and what does not, without running anything."""

from pathlib import Path
from typing import Any

import pytest
from studies import tiny

from synthgain.runtime.errors import SynthGainError
from synthgain.study.code import CodeDigests
from synthgain.study.session import Session
from synthgain.study.stages.table import STAGES

ROOT = Path(__file__).parent.parent


def identities(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> dict[str, str]:
    monkeypatch.chdir(ROOT)
    session = Session(tiny(**changes), ROOT, Path("results"))
    (run,) = session.expected().values()
    return run


def rules_that_differ(before: dict[str, str], after: dict[str, str]) -> set[str]:
    changed = [path for path in after if before.get(path) != after[path]]
    return {_rule(path) for path in changed}


def _rule(path: str) -> str:
    import re

    for rule, stage in STAGES.items():
        if re.fullmatch(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(stage.output.replace("{look}", ""))), path):
            return rule
    raise AssertionError(path)


PROTOCOL = {"write_protocol"}
STATISTICS = {"compare_arms", "relate_fidelity", "draw_figures", "write_report"}
END = {"collect_predictions"} | STATISTICS
TRAINING = {"train_downstream", "predict_downstream"}
MEASURED = {"measure_fidelity", "score_pool"}  # they look through the real-only model's eyes


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, set()),
        ({"compute__device": "cpu", "compute__downstream_threads": 2}, set()),
        ({"datasets__hospital_a__description": "text"}, {"write_report"}),
        ({"analysis__margin": 0.03}, PROTOCOL | STATISTICS),
        ({"models__cnn__learning_rate": 0.01}, PROTOCOL | TRAINING | MEASURED | END),
        (
            {"datasets__hospital_b__seed": 9},
            {"prepare_dataset", "audit_datasets", "predict_downstream", "forecast_cost"} | PROTOCOL | END,
        ),
        ({"replicates__count": 3}, PROTOCOL | TRAINING | END | {"forecast_cost"}),
        ({"replicates__count": 3, "replicates__per_job": 2}, PROTOCOL | TRAINING | END | {"forecast_cost"}),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else "",  # no sets: their order differs by process
)
def test_what_a_config_change_reruns(monkeypatch: pytest.MonkeyPatch, change: dict, expected: set[str]) -> None:
    before, after = identities(monkeypatch), identities(monkeypatch, **change)
    assert rules_that_differ(before, after) == expected


def test_one_more_replica_touches_no_smaller_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    before = identities(monkeypatch)
    after = identities(monkeypatch, pools__drawn__replicas=5, arms__supplemented__ratios=[100, 450])
    kept = {path for path in before if path.startswith(("pools/", "downstream/", "predictions/cnn/supplemented/"))}
    assert all(after[path] == before[path] for path in kept)
    assert "downstream/cnn/supplemented/450/0/manifest.json" in after
    assert sum(path.startswith("pools/drawn/0/replica-5/") for path in after) == 3  # two shards and their merge


def test_sampler_keeps_the_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    before = identities(monkeypatch)
    differ = rules_that_differ(before, identities(monkeypatch, pools__drawn__sampling__steps=3))
    assert "train_generator" not in differ
    assert {"draw_pool_shard", "merge_pool_replica", "train_downstream"} <= differ


def test_shards_change_no_pool_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    found = set()
    for shards in (1, 2, 5):
        session = Session(tiny(pools__drawn__shards=shards), ROOT, Path("results"))
        (plan,) = session.planners.values()
        found.add(plan.job("draw_pool_shard", pool="drawn", index=0, replica=1, shard=0).slice["pool_identity"])
    assert len(found) == 1


class TestCode:
    """The code digest on a small tree of its own."""

    @pytest.fixture
    def tree(self, tmp_path: Path) -> Path:
        (tmp_path / "synthgain").mkdir()
        (tmp_path / "requirements.lock").write_text("numpy==1.0\ntorch==2.0\npillow==9.0\n")
        (tmp_path / "stage.py").write_text("import numpy\nfrom synthgain.maths import double\nprint(double(2))\n")
        (tmp_path / "synthgain" / "__init__.py").write_text("")
        (tmp_path / "synthgain" / "maths.py").write_text("def double(x):\n    return 2 * x\n")
        (tmp_path / "synthgain" / "family.py").write_text("import torch\nVALUE = 1\n")
        return tmp_path

    def digest(self, tree: Path, *modules: str) -> str:
        return CodeDigests(tree, tree / "requirements.lock").digest("stage.py", modules)

    def test_comments_docstrings_and_layout_do_not_count(self, tree: Path) -> None:
        before = self.digest(tree)
        (tree / "synthgain" / "maths.py").write_text(
            '"""Sums."""\n\n# why\ndef double(x):\n    """Twice."""\n    return 2*x\n'
        )
        assert self.digest(tree) == before

    @pytest.mark.parametrize(
        ("file", "text"),
        [
            ("synthgain/maths.py", "def double(x):\n    return 3 * x\n"),
            ("stage.py", "import numpy\nfrom synthgain.maths import double\nprint(double(3))\n"),
            ("requirements.lock", "numpy==1.1\ntorch==2.0\n"),
        ],
    )
    def test_code_and_pins_count(self, tree: Path, file: str, text: str) -> None:
        before = self.digest(tree)
        (tree / file).write_text(text)
        assert self.digest(tree) != before

    def test_other_modules_and_other_pins_do_not_count(self, tree: Path) -> None:
        before = self.digest(tree)
        (tree / "synthgain" / "family.py").write_text("VALUE = 2\n")
        (tree / "synthgain" / "new.py").write_text("VALUE = 2\n")
        (tree / "requirements.lock").write_text("numpy==1.0\ntorch==2.1\n")
        assert self.digest(tree) == before

    def test_named_modules_count(self, tree: Path) -> None:
        before = self.digest(tree, "synthgain.family")
        assert before != self.digest(tree)
        (tree / "synthgain" / "family.py").write_text("import torch\nVALUE = 2\n")
        assert self.digest(tree, "synthgain.family") != before

    def test_imports_inside_functions_and_data_files_count(self, tree: Path) -> None:
        maths = tree / "synthgain" / "maths.py"
        maths.write_text(
            'DATA_FILES = ("page.html",)\ndef double(x):\n    from synthgain import family\n    return x\n'
        )
        (tree / "synthgain" / "page.html").write_text("<p>")
        before = self.digest(tree)
        (tree / "synthgain" / "page.html").write_text("<b>")
        middle = self.digest(tree)
        (tree / "synthgain" / "family.py").write_text("VALUE = 3\n")
        assert len({before, middle, self.digest(tree)}) == 3

    def test_cache_gives_the_same(self, tree: Path) -> None:
        cache = tree / "cache.json"
        first = CodeDigests(tree, tree / "requirements.lock", cache)
        digest = first.digest("stage.py")
        first.warm()
        assert cache.exists()
        assert CodeDigests(tree, tree / "requirements.lock", cache).digest("stage.py") == digest


@pytest.mark.parametrize(("generators", "pools", "draws"), [(3, 1, 3), (1, 2, 2), (2, 3, 6), (5, 5, 5)])
def test_replicates_take_generators_and_pools_in_turn(
    monkeypatch: pytest.MonkeyPatch, generators: int, pools: int, draws: int
) -> None:
    monkeypatch.chdir(ROOT)
    repeated = {"count": 7, "per_job": 1, "generators": generators, "pools": pools}
    (plan,) = Session(tiny(replicates=repeated), ROOT, Path("results")).planners.values()
    for replicate in range(7):
        cell = plan.job("train_downstream", model="cnn", arm="supplemented", ratio=100, chunk=replicate)
        (path,) = [name for name in cell.inputs if name.startswith("pools/")]
        index = int(path.split("/")[2])
        assert index == replicate % draws
        shard = plan.job("draw_pool_shard", pool="drawn", index=index, replica=1, shard=0)
        assert f"generators/ddpm/{replicate % generators}/manifest.json" in shard.inputs


def test_a_recipe_reruns_only_the_arms_that_use_it(monkeypatch: pytest.MonkeyPatch) -> None:
    before = identities(monkeypatch)
    after = identities(monkeypatch, models__cnn__augmentation__strong={"noise": 0.1})
    differ = {path for path in after if before[path] != after[path] and path.startswith("downstream/")}
    assert differ == {"downstream/cnn/real_strong/0/0/manifest.json"}


def test_other_pretrained_weights_train_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNTHGAIN_DATA", str(tmp_path))
    change = {"models__cnn__pretrained": "weights.safetensors"}
    with pytest.raises(SynthGainError, match=r"models\.cnn\.pretrained: 'weights\.safetensors' not in"):
        identities(monkeypatch, **change)
    found = []
    for content in (b"one", b"two"):
        (tmp_path / "weights.safetensors").write_bytes(content)
        found.append(identities(monkeypatch, **change))
    assert "train_downstream" in rules_that_differ(*found)
    assert "train_generator" not in rules_that_differ(*found)


def test_a_snapshot_that_is_not_kept_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SynthGainError, match="snapshot: 4 of generator 'ddpm' is not kept; kept are 3, 6"):
        identities(monkeypatch, pools__drawn__snapshot=4)
