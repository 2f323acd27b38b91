"""The recipes of docs/extending.md, followed with toys in a copy of the project: how many of its files they touch."""

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
from studies import tiny

ROOT = Path(__file__).parents[1]
TOYS = Path(__file__).parent / "toys"
LIBRARY = "workflow_scripts/synthgain"
REGISTRY = f"{LIBRARY}/registry.py"
Edit = tuple[str, str, str]  # file, a line of it, and what stands in its place


@dataclass(frozen=True)
class Recipe:
    """New modules {toy: place below the library}, edits of what is there, and how many files these may be."""

    new: dict[str, str]
    edits: list[Edit]
    most: int


def after(line: str, *more: str) -> tuple[str, str]:
    """Return an edit that adds lines after one."""
    return line, "\n".join([line, *more])


def holder(text: str) -> str:
    """Return the one file of the library that holds a line."""
    (found,) = [path for path in (ROOT / LIBRARY).rglob("*.py") if text in path.read_text()]
    return found.relative_to(ROOT).as_posix()


MIRRORED = (
    "def _mirrored(plan: Planner, draw: Draw) -> Images:",
    '    return Images("mirrored", {})',
    "",
    "",
)
RECIPES = {
    "family": Recipe(
        {
            **{f"{name}.py": f"generators/mean/{name}.py" for name in ("family", "generator", "training")},
            "prose.py": "report/families/mean.py",
        },
        [
            (REGISTRY, *after("FAMILIES = {", '    "mean": "synthgain.generators.mean.generator",')),
            (REGISTRY, *after("FAMILY_ENTRIES = {", '    "mean": "synthgain.generators.mean.family",')),
            (REGISTRY, *after("FAMILY_TRAINING = {", '    "mean": "synthgain.generators.mean.training",')),
            (REGISTRY, *after("FAMILY_PROSE = {", '    "mean": "synthgain.report.families.mean",')),
            (REGISTRY, *after("NETWORKS = {", '    "mean": "synthgain.generators.mean.generator",')),
        ],
        4,
    ),
    "adapter": Recipe(
        {"stripes.py": "datasets/stripes.py", "stripes_entry.py": "datasets/entries/stripes.py"},
        [
            (REGISTRY, *after("ADAPTERS = {", '    "stripes": "synthgain.datasets.stripes",')),
            (REGISTRY, *after("ADAPTER_ENTRIES = {", '    "stripes": "synthgain.datasets.entries.stripes",')),
        ],
        2,
    ),
    "pool source": Recipe(
        {"mirrored.py": "pools/mirrored.py"},
        [
            (REGISTRY, *after("POOL_SOURCES = {", '    "mirrored": "synthgain.pools.mirrored",')),
            (
                holder("class Pool(Entry)"),
                *after(
                    '    known_options: KnownOptions = Field(KnownOptions(), description="Options of a known pool.")',
                    "    mirrored: Annotated[bool | None, Source()] = Field(",
                    '        None, description="The real images, left and right exchanged."',
                    "    )",
                ),
            ),
            (holder('    "from_": _generated,'), *after("SOURCES = {", '    "mirrored": _mirrored,')),
            (holder('    "from_": _generated,'), "SOURCES = {", "\n".join([*MIRRORED, "SOURCES = {"])),
        ],
        3,
    ),
    "arm recipe": Recipe(
        {},
        [
            (
                holder("class StrongAugmentation"),
                "class Augmentations(Entry)",
                'class GentleAugmentation(Augmentation):\n    rotation: Amount = Field(2, description="Angle.")\n\n\n'
                "class Augmentations(Entry)",
            ),
            (
                holder("class StrongAugmentation"),
                "    laterality: bool",
                "    gentle: GentleAugmentation = GentleAugmentation()\n    laterality: bool",
            ),
            (
                holder("class ArmRecipe(Entry)"),
                'augmentation: Literal["standard", "strong", "none"]',
                'augmentation: Literal["standard", "strong", "none", "gentle"]',
            ),
        ],
        4,
    ),
    "task": Recipe(
        {"coarse.py": "downstream/coarse.py"},
        [
            (REGISTRY, *after("TASKS = {", '    "coarse": "synthgain.downstream.coarse",')),
            (
                holder("TASK_KINDS = {"),
                *after(
                    "TASK_KINDS = {",
                    '    "coarse": TaskKind(',
                    '        "structures", DOWNSTREAM["segmentation"], "dice", "mask_agreement", "segmentation"',
                    "    ),",
                ),
            ),
        ],
        6,
    ),
    "metric": Recipe(
        {"success_rate.py": "statistics/success_rate.py"},
        [
            (
                holder("_ENTRIES = ("),
                *after(
                    "_ENTRIES = (",
                    '    _masks("success_rate", "Success rate", computed_by="synthgain.statistics.success_rate"),',
                ),
            )
        ],
        2,
    ),
    "network": Recipe(
        {"tiny_cnn.py": "networks/tiny_cnn.py"},
        [
            (REGISTRY, *after("NETWORKS = {", '    "tiny_cnn": "synthgain.networks.tiny_cnn",')),
            (
                holder("class SmallCnn"),
                "AnyDownstream = (",
                'class TinyCnn(Network):\n    module = "tiny_cnn"\n    name: Literal["tiny_cnn"] = "tiny_cnn"\n\n\n'
                "AnyDownstream = (\n    TinyCnn |",
            ),
            (holder("class SmallCnn"), "by_name(SmallCnn, ", "by_name(SmallCnn, TinyCnn, "),
        ],
        2,
    ),
    "published layout": Recipe(
        {},
        [
            (
                holder("KNOWN_LAYOUTS = {"),
                *after("KNOWN_LAYOUTS = {", '    "kvasir_two": Layout("kvasir_seg", "Kvasir-two", ("polyp",)),'),
            ),
        ],
        2,
    ),
}


def study_of_toys() -> dict:
    """The tiny study with an entry of each toy."""
    return tiny(
        datasets__striped={
            "adapter": "stripes", "patients": 24, "split": {"train": 0.5, "validation": 0.25, "test": 0.25}
        },
        datasets__polyps={"adapter": "published", "layout": "kvasir_two"},
        generators__average={
            "family": "mean", "train_on": {"datasets": ["striped"]},
            "training": {"steps": 4, "batch_size": 4},
        },
        pools__averages={"from": "average", "rows_of": "hospital_a", "sampling": {"batch_size": 8}},
        pools__mirrored={"mirrored": True, "rows_of": "hospital_a"},
        arms__gentle={"real": "hospital_a", "augmentation": "gentle"},
        arms__averaged={"real": "hospital_a", "synthetic": "averages", "ratios": [100]},
        arms__mirrored={"real": "hospital_a", "synthetic": "mirrored", "ratios": [100]},
        models__cnn__network={"name": "tiny_cnn"},
    )  # fmt: skip


def study_of_a_task() -> dict:
    """A study of real images with a model of the toy task, whose primary endpoint is the toy metric."""
    primary = {"model": "cnn", "arm": "real_strong", "metric": "success_rate", "test_set": "hospital_a"}
    model = {"task": "coarse", "structures": ["lungs"], "steps": 2, "batch_size": 4, "validate_every": 2}
    arms = {"real": {"real": "hospital_a"}, "real_strong": {"real": "hospital_a", "augmentation": "strong"}}
    changes = {"study": "outlines", "generators": {}, "pools": {}, "models": {"cnn": model}, "arms": arms}
    margin = {"analysis__margin": 0.1, "analysis__margin_reason": "a toy's"}
    return tiny(**changes, analysis__primary=primary, **margin)


OUTPUTS = [
    "pools/averages/0/replica-1/shard-0/manifest.json",
    "pools/mirrored/0/replica-1/shard-0/manifest.json",
    "downstream/cnn/gentle/0/0/manifest.json",
]


def followed(recipe: Recipe, copy: Path) -> None:
    """Follow a recipe in a copy of the project."""
    for toy, place in recipe.new.items():
        target = copy / LIBRARY / place
        target.parent.mkdir(exist_ok=True)
        (target.parent / "__init__.py").touch()
        shutil.copyfile(TOYS / toy, target)
    for name, old, new in recipe.edits:
        text = (copy / name).read_text()
        assert text.count(old) == 1, (name, old)
        (copy / name).write_text(text.replace(old, new))


@pytest.mark.parametrize("name", RECIPES)
def test_an_addition_touches_few_files(name: str) -> None:
    assert len({file for file, *_ in RECIPES[name].edits}) <= RECIPES[name].most
    assert f"## A {name}" in (ROOT / "docs" / "extending.md").read_text().replace("## An ", "## A ")


def test_every_recipe_works(tmp_path: Path) -> None:
    """All of them in one copy: planned, and what is new of each made by the workflow's scripts."""
    copy = tmp_path / "copy"
    shutil.copytree(ROOT / "workflow_scripts", copy / "workflow_scripts", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "envs", copy / "envs")
    for recipe in RECIPES.values():
        followed(recipe, copy)
    studies = tmp_path / "studies.json"
    compared = ["statistics/cnn/manifest.json"]
    studies.write_text(json.dumps([[study_of_toys(), OUTPUTS], [study_of_a_task(), compared]]))
    command = [sys.executable, str(TOYS / "study.py"), str(studies), str(copy), str(tmp_path / "results")]
    paths = {"PYTHONPATH": str(copy / "workflow_scripts"), "PATH": "/usr/bin:/bin"}
    environment = {**paths, "OMP_NUM_THREADS": "1", "SYNTHGAIN_DEVICE": "cpu"}
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout.splitlines()[-1]) == [*OUTPUTS, *compared]
    outlines = tmp_path / "results" / "outlines"
    assert (outlines / "predictions" / "cnn" / "real" / "0" / "0.parquet").exists()
    comparisons = pd.read_csv(outlines / "statistics" / "cnn" / "comparisons.csv")
    (primary,) = comparisons[comparisons["family"] == "primary"].to_dict("records")
    assert primary["metric"] == "success_rate"
    assert 0 <= primary["mean"] <= 1
