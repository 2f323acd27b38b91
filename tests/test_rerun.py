"""docs/rerun.md, row by row, against Snakemake's own plan."""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from workshop import CLINIC_ROWS, ROOT, Workshop, write_clinic

from synthgain.runtime.files import SEAL, read_manifest, write_manifest
from synthgain.runtime.seals import MADE_FROM
from synthgain.study.session import Session

pytestmark = [pytest.mark.slow, pytest.mark.workflow]

SHARDS = 1700
ONE_ARGUMENT = 128 * 1024  # bytes that Linux takes for one, and a rule's whole shell command is one
LIBRARY = "workflow_scripts/synthgain"
# What rests on a stage's output; the numbers of jobs do not matter here.
AFTER_TRAINING = {
    "predict_downstream",
    "collect_predictions",
    "score_pool",
    "measure_fidelity",
    "relate_fidelity",
    "compare_arms",
    "draw_figures",
    "write_report",
}
AFTER_POOL = {"merge_pool_replica", "check_memorisation", "train_downstream"} | AFTER_TRAINING
AFTER = {
    "train_downstream": AFTER_TRAINING,
    "draw_pool_shard": AFTER_POOL,
    "train_generator": {"draw_sample_grid", "draw_pool_shard"} | AFTER_POOL,
}


def table(part: int = 0) -> dict[str, str]:
    """Return {change: rules} of a table of docs/rerun.md: the first, of pairs, clusters, readers, or latents."""
    whole = (ROOT / "docs" / "rerun.md").read_text(encoding="utf-8")
    text = re.split(
        "## Image and mask pairs|## Clusters and styling|## Steering and readers|## Texts and latents", whole
    )[part]
    rows = re.findall(r"^\| (.+?) \| (.+?) \|$", text, re.MULTILINE)
    return {change: rules for change, rules in rows if change not in ("change", "---")}


def expected(text: str) -> tuple[set[str], dict[str, int]]:
    """Return the rules that a cell names, and the job numbers where it gives them."""
    if text == "nothing":
        return set(), {}
    rules = set(re.findall(r"\b[a-z]+(?:_[a-z]+)+\b", text.split("everything after")[0]))
    after = re.search(r"everything after (\w+)", text)
    counts = {rule: int(number) for rule, number in re.findall(r"(\w+) ×(\d+)", text)}
    return rules | (AFTER[after[1]] | {after[1]} if after else set()), counts


def comments(shop: Workshop) -> None:
    for path in (shop.folder / "workflow_scripts").rglob("*.py"):
        text = path.read_text()
        if path.name != "__init__.py":
            path.write_text(text.replace('"""', '"""Now: ', 1) + '\n\n# a comment\n"""A bare string."""\n')


def touch(shop: Workshop) -> None:
    for path in [*shop.folder.rglob("*.py"), *shop.folder.rglob("*.smk"), *shop.folder.rglob("manifest.json")]:
        os.utime(path)
    os.utime(shop.folder.parent / "data" / "clinic" / "metadata.csv")


def moved_data(shop: Workshop) -> None:
    (shop.folder.parent / "data").rename(shop.folder.parent / "elsewhere")


def fresh_clone(shop: Workshop) -> None:
    """The same files with new time stamps in a new folder; results and Snakemake's records moved there."""
    clone = shop.folder.parent / "clone"
    shutil.copytree(
        shop.folder, clone, ignore=shutil.ignore_patterns("results", ".snakemake"), copy_function=shutil.copyfile
    )
    for name in ("results", ".snakemake"):
        (shop.folder / name).rename(clone / name)
    shutil.rmtree(shop.folder)
    clone.rename(shop.folder)


def image_added(shop: Workshop) -> None:
    write_clinic(shop.folder.parent / "data", CLINIC_ROWS + 1)


def new_adapter(shop: Workshop) -> None:
    shop.replace(f"{LIBRARY}/registry.py", "ADAPTERS = {", 'ADAPTERS = {\n    "other": "synthgain.datasets.other",')
    (shop.folder / LIBRARY / "datasets" / "other.py").write_text('"""Another source."""\n\nVALUE = 1\n')


def new_family(shop: Workshop) -> None:
    shop.replace(f"{LIBRARY}/registry.py", "FAMILIES = {", 'FAMILIES = {"flow": "synthgain.generators.flow", ')
    (shop.folder / LIBRARY / "generators" / "flow.py").write_text('"""Another family."""\n\nVALUE = 1\n')


def moved_modules(shop: Workshop) -> None:
    """One that others import, and one that is registered."""
    for old, new in (("pools.sampling", "pools.ode.steps"), ("networks.unet", "generators.plain_unet")):
        source, target = (shop.folder / LIBRARY / (name.replace(".", "/") + ".py") for name in (old, new))
        target.parent.mkdir(exist_ok=True)
        source.rename(target)
        for path in (shop.folder / "workflow_scripts").rglob("*.py"):
            path.write_text(re.sub(rf"\bsynthgain\.{re.escape(old)}\b", f"synthgain.{new}", path.read_text()))


def renamed(shop: Workshop) -> None:
    path = shop.folder / LIBRARY / "pools" / "sampling.py"
    assert "_unipc_weights" in path.read_text()
    path.write_text(path.read_text().replace("_unipc_weights", "_weights_of_unipc"))


def new_key(shop: Workshop) -> None:
    path = f"{LIBRARY}/study/training.py"
    key = "    smoothing: Annotated[float, OmittedWhen(0.0)] = Field(0.0, ge=0, description='Of labels.')\n"
    shop.replace(path, "    steps: int = Field(ge=1", f"{key}    steps: int = Field(ge=1")
    shop.replace(path, "from typing import", "from typing import Annotated,")
    shop.replace(path, "from synthgain.entry import", "from synthgain.entry import OmittedWhen,")


def accepted(shop: Workshop) -> None:
    """Another sampler, taken as equal: what a dry run says before, and what the report and `verify` say after."""
    shop.append(f"{LIBRARY}/pools/sampling.py", "\nEDITED = 1\n")
    text = shop.snakemake("--cores", "2", "--dry-run", "--quiet", "all")
    assert "draw_pool_shard ×4: code of pools/sampling.py" in text
    assert "`snakemake accept` takes results as current" in text
    results = list((shop.folder / "results" / "tiny").rglob("manifest.json"))
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in results}
    text = shop.snakemake("--cores", "1", "accept", "--quiet", "all")
    assert re.search(r"accept: \d+ results of older code are taken as current, 0 are not", text), text
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in results} == before
    assert "Results of older code" in (shop.folder / "results" / "tiny" / "report.html").read_text()
    assert "0 differ" in shop.snakemake("--cores", "1", "verify", "--quiet", "all")


def study(**changes: object) -> Callable[[Workshop], None]:
    return lambda shop: shop.write_study(**changes)


HOSPITAL_C = {"adapter": "phantom", "patients": 20, "site": "b", "seed": 3}
CHANGES: dict[str, Callable[[Workshop], None]] = {
    "nothing": lambda shop: None,
    "a comment and a docstring in every module": comments,
    "a field description in the config's models": lambda shop: shop.replace(
        f"{LIBRARY}/study/schema.py", "Title of the report.", "What the report is called."
    ),
    "a figure's colour": lambda shop: shop.replace(f"{LIBRARY}/report/figures/style.py", "#0072B2", "#0072B3"),
    "a report template": lambda shop: shop.append(
        f"{LIBRARY}/report/templates/report.css", "\nbody { color: black }\n"
    ),
    "a statistics function": lambda shop: shop.append(f"{LIBRARY}/statistics/obuchowski_rockette.py", "\nNEW = 1\n"),
    "the audit": lambda shop: shop.append(f"{LIBRARY}/datasets/audit.py", "\nEDITED = 1\n"),
    "the audit and a downstream learning rate": lambda shop: (
        shop.append(f"{LIBRARY}/datasets/audit.py", "\nEDITED = 1\n"),
        shop.write_study(models__cnn__learning_rate=0.002),
    ),
    "no receipt of the audit, as in older results": lambda shop: (
        shop.folder / "results" / "tiny" / "audit" / "receipt"
    ).unlink(),
    "the sampler": lambda shop: shop.append(f"{LIBRARY}/pools/sampling.py", "\nEDITED = 1\n"),
    "the generator network": lambda shop: shop.append(f"{LIBRARY}/networks/unet.py", "\nEDITED = 1\n"),
    "a downstream learning rate": study(models__cnn__learning_rate=0.002),
    # 3 and 2 in the tiny study; exchanged, the set of values stays the same
    "two params swapping values": study(models__cnn__warmup_steps=3, models__cnn__validate_every=2),
    "one more ratio": study(arms__supplemented__ratios=[100, 200]),
    "one more replicate": study(replicates__count=3),
    "planned looks at 4 and 8 replicates instead of 2 replicates": study(
        replicates={"count": 8, "looks": [4, 8], "per_job": 2}
    ),
    "the reason of the margin": study(analysis__margin_reason="half of the gain from 50 to 100 %"),
    "the protocol's page": lambda shop: shop.append(f"{LIBRARY}/report/protocol_page.py", "\nNEW = 1\n"),
    "no receipt of the protocol": lambda shop: (
        shop.folder / "results" / "tiny" / "protocol" / "receipt.json"
    ).unlink(),
    "a raised largest ratio": study(pools__drawn__replicas=3, arms__supplemented__ratios=[100, 300]),
    "one more test set": study(
        datasets__hospital_c=HOSPITAL_C, evaluate_on=["hospital_a", "hospital_b", "clinic", "hospital_c"]
    ),
    "a pool cut into three shards instead of two": study(pools__drawn__shards=3),
    "how often a training saves and logs, in how many processes": study(
        generators__ddpm__training__save_every_seconds=5.0,
        generators__ddpm__training__log_every=2,
        compute={"generator_processes": 2, "generator_threads": 2},
    ),
    "a new adapter": new_adapter,
    "a new generator family": new_family,
    "an error message in `runtime/`": lambda shop: shop.replace(
        f"{LIBRARY}/runtime/files.py", "missing; run snakemake again", "not there; run snakemake once more"
    ),
    "an error message in a generator module": lambda shop: shop.replace(
        f"{LIBRARY}/generators/run.py", ": not a multiple of the", ": must be a multiple of the"
    ),
    "a log line of the training loop": lambda shop: shop.replace(
        f"{LIBRARY}/generators/run.py", "resumed at step %d of %d", "goes on at step %d of %d"
    ),
    "an exception's data argument": lambda shop: shop.replace(
        f"{LIBRARY}/generators/run.py", "multiple of the {processes}", "multiple of the {processes + 0}"
    ),
    "a moved module": moved_modules,
    "a renamed internal function": renamed,
    "a new optional key": new_key,
    "a changed default": lambda shop: shop.replace(
        f"{LIBRARY}/study/training.py", "weight_decay: float = Field(1e-4", "weight_decay: float = Field(2e-4"
    ),
    "`accept` after a code change": accepted,
    "an image added to the table": image_added,
    "a moved data root": moved_data,
    "a touched file": touch,
    "one core instead of two": lambda shop: None,
    "a fresh clone beside old results": fresh_clone,
}


def test_the_table_and_the_changes_are_the_same() -> None:
    assert list(table()) == list(CHANGES)


@pytest.mark.parametrize("change", list(CHANGES))
def test_plan_after(change: str, built: Workshop, tmp_path: Path) -> None:
    shop = built.copy(tmp_path)
    CHANGES[change](shop)
    options = {"data": "../elsewhere"} if change == "a moved data root" else {}
    arguments = ["--cores", "1"] if change == "one core instead of two" else []
    plan = shop.plan(*arguments, **options)
    rules, counts = expected(table()[change])
    assert set(plan) == rules
    assert {rule: plan[rule] for rule in counts} == counts


def test_without_the_default_profile_nothing_runs_again_either(built: Workshop) -> None:
    """The receipt of the audit, for which jobs waited once, is no more among their files: no reason to run."""
    assert built.plan("--workflow-profile", "none") == {}


def test_one_more_replicate_and_ratio_keep_every_finished_file(built: Workshop, tmp_path: Path) -> None:
    """Run it for real: the files of the old replicates and ratios stay as they were, to the byte and the second."""
    shop = built.copy(tmp_path)
    shop.write_study(replicates__count=3, arms__supplemented__ratios=[100, 200])
    results = shop.folder / "results" / "tiny"
    kept = [p for p in results.rglob("*") if p.is_file() and _is_training(p, results)]
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in kept}
    assert before
    shop.build()
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in kept} == before
    assert (results / "downstream" / "cnn" / "supplemented" / "200" / "1" / "manifest.json").exists()
    assert shop.plan() == {}


def _is_training(path: Path, results: Path) -> bool:
    return path.relative_to(results).parts[0] in ("downstream", "pools", "generators", "datasets", "splits")


def test_a_pool_cut_anew_and_a_job_too_long_for_a_command_line(
    built: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Close a replica of 1,700 shards for real (each a copy of a drawn one): the job is handed over in a file."""
    shop = built.copy(tmp_path)
    shop.write_study(pools__drawn__shards=SHARDS)
    monkeypatch.chdir(shop.folder)
    monkeypatch.setattr(os, "environ", os.environ.copy())  # a session sets some
    config = yaml.safe_load((shop.folder / "tiny.yaml").read_text())
    plan = Session({**config, "data_root": shop.data}, shop.folder, Path("results")).planners["tiny"]
    job = plan.job("merge_pool_replica", pool="drawn", index=0, replica=1)
    assert len(job.parameter()) > ONE_ARGUMENT
    run = Path("results") / "tiny"
    replica = run / job.output
    trained = (run / "downstream").rglob("manifest.json")
    before = {path: path.stat().st_mtime_ns for path in trained}
    identity, shard = read_manifest(replica)["identity"], read_manifest(replica.parent / "shard-0" / "manifest.json")
    for path, planned in job.inputs.items():
        write_manifest(
            run / path,
            planned,
            [],
            **{k: v for k, v in shard.items() if k not in ("identity", "files", SEAL, MADE_FROM)},
        )
    (replica.parent / f"shard-{SHARDS}").mkdir()  # left from a finer cut
    shop.snakemake("--cores", "1", "--quiet", "all", "--allowed-rules", "merge_pool_replica", "--", str(replica))
    closed = read_manifest(replica, identity)
    assert closed["images"] == SHARDS * shard["images"]
    assert sorted(closed["shards"]) == sorted(path.name for path in replica.parent.glob("shard-*"))
    # The replica is newer than what rests on it, and the same.
    assert shop.plan(*map(str, before), "--allowed-rules", "train_downstream") == {}
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_generator_in_two_processes(built: Workshop, tmp_path: Path) -> None:
    """The workflow starts both, and what says how many they are makes nothing out of date."""
    shop = built.copy(tmp_path)
    training = {"steps": 8, "batch_size": 8, "snapshots": [3]}
    shop.write_study(generators__ddpm__training=training, compute={"device": "cpu", "generator_processes": 2})
    target = "results/tiny/generators/ddpm/0/manifest.json"
    shop.snakemake("--cores", "2", "--quiet", "all", "--", target)
    manifest = read_manifest(shop.folder / target)
    assert [(part["from_step"], part["processes"]) for part in manifest["environments"]] == [(0, 2)]
    shop.write_study(generators__ddpm__training=training)
    assert "train_generator" not in shop.plan()


def test_a_file_of_something_else_is_one_line(built: Workshop) -> None:
    target = "results/tiny/pools/nosuch/0/replica-1/manifest.json"
    text = built.snakemake("--cores", "1", "--dry-run", target, check=False)
    assert "merge_pool_replica: no pool 'nosuch' in study tiny; known: drawn" in text
    assert "KeyError" not in text


def test_verify_finds_what_time_stamps_hide(built: Workshop, tmp_path: Path) -> None:
    shop = built.copy(tmp_path)
    assert "0 differ" in shop.snakemake("--cores", "1", "verify", "--quiet", "all")
    shutil.rmtree(shop.folder / ".snakemake" / "metadata")
    shop.write_study(models__cnn__learning_rate=0.002)
    image = shop.folder.parent / "data" / "clinic" / "0.png"
    shutil.copyfile(image.parent / "1.png", image)
    weights = next((shop.folder / "results" / "tiny").rglob("weights-0.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x00")
    text = shop.snakemake("--cores", "1", "verify", "--quiet", "all", check=False)
    assert "only time stamps" in text
    assert "made by another config or code" in text
    assert "1 source images changed" in text
    assert "'0.png'" in text


def test_report_of_snakemake_itself(built: Workshop, tmp_path: Path) -> None:
    shop = built.copy(tmp_path)
    shop.snakemake("--report", "provenance.zip")
    assert (shop.folder / "provenance.zip").stat().st_size > 100_000
