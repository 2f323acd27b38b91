"""`snakemake verify`: all that a reader trusts is compared, and what was changed, added or taken away is named."""

import json
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from job_inputs import new_job
from PIL import Image
from studies import tiny
from workshop import Workshop

import prepare_dataset as prepare_script
import verify_results
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import (
    SEAL,
    read_json,
    read_manifest,
    read_table,
    seal_of,
    write_json,
    write_manifest,
    write_table,
)
from synthgain.runtime.inputs import Input, Inputs, NamedInputs
from synthgain.runtime.ledger import Mark, append
from synthgain.runtime.protocols import page_of, write_protocol
from synthgain.runtime.seals import Sealing, changed_page, is_as_marked, write_sealed_page
from synthgain.runtime.verification import NOT_COMPARED, Compared, compare_run
from synthgain.study.code import CodeDigests
from synthgain.study.expected import plan_all
from synthgain.study.load import parse_study
from synthgain.study.planner import Planner
from synthgain.study.stages.table import STAGES

ROOT = Path(__file__).parents[1]

PLAN = {
    "datasets/a/manifest.json": "id-data",
    "predictions/cnn/real.parquet": "id-predictions",
    "statistics/cnn/manifest.json": "id-statistics",
    "samples/g/0/3.png": "id-grid",
    "report.html": "id-report",
}


def sealed(run: Path, output: str, write: Callable[[Path], None], *made_from: str) -> None:
    """Let a job write its output, from other results of the plan."""
    inputs = {name: Input(name, run / name, PLAN[name]) for name in made_from}
    path = run / output
    path.parent.mkdir(parents=True, exist_ok=True)
    sealing = Sealing([path], PLAN[output], Inputs({"all": NamedInputs("all", inputs)}))  # type: ignore[arg-type]
    write(path)
    sealing.finish()


def write_statistics(path: Path) -> None:
    (path.parent / "summary.csv").write_text("arm,mean\nreal,0.7\n")
    (path.parent / "unlisted.csv").write_text("a\n")
    write_manifest(path, PLAN["statistics/cnn/manifest.json"], ["summary.csv"], patients=30, mean={"real": 0.7})


def write_data(path: Path) -> None:
    np.save(path.parent / "masks.npy", np.zeros(4))
    write_manifest(path, PLAN["datasets/a/manifest.json"], ["masks.npy"], images=4)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A small run of all kinds of results."""
    data, predictions, statistics, grid, report = PLAN
    sealed(tmp_path, data, write_data)
    sealed(tmp_path, predictions, lambda path: write_table(path, pd.DataFrame({"a": [1]}), PLAN[predictions]), data)
    sealed(tmp_path, statistics, write_statistics, predictions)
    sealed(tmp_path, grid, lambda path: Image.new("L", (3, 2)).save(path), data)
    sealed(tmp_path, report, lambda path: path.write_text("<html>helps</html>\n"), statistics, grid)
    for name in ("state/x", "logs/y.log", "benchmarks/z.tsv", "accepted.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")
    assert compare_run(tmp_path, PLAN).differences == []
    return tmp_path


def found(run: Path) -> list[str]:
    return compare_run(run, PLAN).differences


def test_every_file_of_a_result_is_compared_also_those_that_its_job_did_not_list(run: Path) -> None:
    assert "unlisted.csv" in read_manifest(run / "statistics/cnn/manifest.json")["files"]
    every = [path for path in run.rglob("*") if path.is_file() and path.relative_to(run).parts[0] not in NOT_COMPARED]
    assert compare_run(run, PLAN).files == set(every)
    for path in every:
        content = path.read_bytes()
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
        assert any(str(path) in line for line in found(run)), f"{path}: a bit changed"
        path.unlink()
        assert any(str(path) in line for line in found(run)), f"{path}: is gone"
        path.write_bytes(content)
    assert found(run) == []


def test_a_number_changed_in_a_manifest_is_named_and_no_job_reads_it(run: Path) -> None:
    path = run / "statistics/cnn/manifest.json"
    manifest = read_json(path)
    for change in (
        {"patients": 31},
        {"mean": {"real": 0.8}},
        {"more": 1},
        {"made_from": {}},
        {"seal": {}},
        {"seal": 1},
    ):
        write_json(path, {**manifest, **change})
        key = "seal" if change == {"seal": 1} else next(iter(change))
        assert any(str(path) in line and (key in line or key == "seal") for line in found(run)), change
        with pytest.raises(SynthGainError, match="changed after its job wrote it"):
            read_manifest(path)
    write_json(path, {key: value for key, value in manifest.items() if key != "patients"})
    assert any("patients" in line for line in found(run))
    write_json(path, {key: value for key, value in manifest.items() if key != "seal"})
    assert any("has no seal" in line for line in found(run))


def test_a_page_whose_word_was_changed_is_named_with_or_without_its_seal(run: Path) -> None:
    page = run / "report.html"
    text = page.read_text()
    page.write_text(text.replace("helps", "harms"))
    assert found(run) == [f"{page}: changed after its job wrote it; delete it and run snakemake again"]
    page.write_text("<html>harms</html>\n")
    assert "has no seal" in found(run)[0]
    page.write_text(text)
    again = changed_page(page, text.replace("helps", "harms").encode())
    page.write_bytes(again)
    assert is_as_marked(page, again), "what `accept` writes into it is sealed again"
    assert found(run) == []


def test_a_result_made_again_from_something_else_is_named_by_what_rests_on_it(run: Path) -> None:
    sealed(run, "datasets/a/manifest.json", lambda path: write_manifest(path, "id-data", [], images=5))
    lines = found(run)
    assert any("samples/g/0/3.png: made from another datasets/a/manifest.json" in line for line in lines)


def test_a_file_added_is_named_and_a_result_of_another_config_is_told_apart(run: Path) -> None:
    for name in ("verdict.html", "statistics/cnn/more.csv", "datasets/a/deep/er.npy", "new/manifest.json"):
        path = run / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
        assert found(run) == [f"{path}: no result of this study lists it; delete it or move it away"], name
        path.unlink()
    shutil.copytree(run / "statistics" / "cnn", run / "statistics" / "older")
    compared = compare_run(run, PLAN)
    assert compared.differences == []
    assert {path.name for path in compared.stale} == {"manifest.json", "summary.csv", "unlisted.csv"}
    assert "statistics/older" in verify_results.not_covered(compared)
    (run / "statistics" / "older" / "x.csv").write_text("")
    assert len(found(run)) == 1


def test_protocols_their_pages_and_the_ledger_are_compared(run: Path) -> None:
    for steps in (1, 2):
        content: Any = {"study": {"steps": steps}, "data": {}, "code": {}, "declared": {}}
        protocol = write_protocol(run, content, 0, [Mark(0, append(run, {"look": steps}).hash)])
        write_sealed_page(page_of(run, steps), "<html></html>\n", protocol.sha256)
    receipt = run / "protocol" / "receipt.json"
    plan = PLAN | {"protocol/receipt.json": "id-protocol"}
    sealed_as = {"protocol": 2, "sha256": protocol.sha256}
    receipt.parent.mkdir()
    sealing = Sealing([receipt], "id-protocol", Inputs({}))
    write_manifest(receipt, "id-protocol", [], **sealed_as)
    sealing.finish()
    assert compare_run(run, plan).differences == []
    kept = [run / "ledger.jsonl", *run.glob("protocol-*")]
    assert len(kept) == 5
    assert set(kept) <= compare_run(run, plan).files
    for path in kept:
        before = path.read_bytes()
        middle = len(before) // 2
        for after in (before[:middle] + bytes([before[middle] ^ 1]) + before[middle + 1 :], None):
            path.unlink() if after is None else path.write_bytes(after)
            assert any(str(path) in line for line in compare_run(run, plan).differences), path
            path.write_bytes(before)


def test_every_file_of_a_reader_kit_is_compared(run: Path) -> None:
    folder, receipt = run / "reader_kit-panel-0123", run / "readers" / "panel" / "kit.json"
    facts: dict[str, Any] = {"kit": "k", "panel": "panel"}
    folder.mkdir()
    receipt.parent.mkdir(parents=True)
    (folder / "panel-reader_1.html").write_text("<html></html>\n")
    manifest = write_manifest(folder / "kit.json", "k", ["panel-reader_1.html"], **facts)
    write_json(folder / "kit.json", {**manifest, SEAL: seal_of(manifest)})
    plan = PLAN | {"readers/panel/kit.json": "id-kit"}
    sealing = Sealing([receipt], "id-kit", Inputs({}))
    write_manifest(receipt, "id-kit", [], folder=folder.name, **facts)
    sealing.finish()
    assert compare_run(run, plan).differences == []
    for path in folder.iterdir():
        before = path.read_bytes()
        middle = len(before) // 2
        for after in (before[:middle] + bytes([before[middle] ^ 1]) + before[middle + 1 :], None):
            path.unlink() if after is None else path.write_bytes(after)
            assert any(str(folder) in line for line in compare_run(run, plan).differences), path
            path.write_bytes(before)
    (folder / "more.html").write_text("")
    assert any("more.html" in line for line in compare_run(run, plan).differences)


def test_two_runs_of_one_study_are_compared_apart(run: Path) -> None:
    (run / "seed-1").mkdir()
    (run / "seed-1" / "x.json").write_text("{}")
    assert compare_run(run, PLAN, frozenset([run / "seed-1"])).differences == []


def test_what_is_not_covered_is_said() -> None:
    said = verify_results.not_covered(Compared())
    assert "state, logs, benchmarks" in said
    assert "no secret" in said


def write_source(root: Path) -> dict[str, Any]:
    """Write a table of 4 images with masks below a data root; return the options that read it."""
    generator = np.random.default_rng(0)
    lines = ["image,mask,patient,label"]
    for row in range(4):
        Image.fromarray(generator.integers(0, 256, (32, 32), dtype=np.uint8)).save(root / f"{row}.png")
        mask = np.zeros((32, 32), np.uint8)
        mask[: 8 + row] = 1
        Image.fromarray(mask).save(root / f"m{row}.png")
        lines.append(f"{row}.png,m{row}.png,p{row},{row % 2}")
    (root / "t.csv").write_text("\n".join(lines) + "\n")
    mask_column = {"column": "mask", "name": "lung", "encoding": "file"}
    targets = {"o": {"column": "label"}}
    return {"table": "t.csv", "patient_id": "patient", "mask": [mask_column], "targets": targets}


def test_images_masks_and_rows_of_the_source_that_changed_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, run = tmp_path / "data", tmp_path / "run"
    root.mkdir()
    options = write_source(root)
    monkeypatch.setenv("SYNTHGAIN_DATA", str(root))
    image = {"size": 32, "channels": 1, "fit": "pad", "intensity": "none"}
    part = {"module": "table", "options": options, "image": image, "seed": 0}
    job = new_job({**part, "dataset": "a"}, {}, "code", "id", run, [run / "datasets/a/manifest.json"])
    prepare_script.prepare_dataset(job)
    source = {**part, "rule": "prepare_dataset", "name": "a", "masks": True}

    def changed() -> list[str]:
        return verify_results._changed_source(run / "datasets/a/manifest.json", source, {})

    assert changed() == []
    kept = {path: path.read_bytes() for path in root.iterdir()}
    shutil.copyfile(root / "1.png", root / "0.png")
    shutil.copyfile(root / "m3.png", root / "m2.png")
    (root / "t.csv").write_text((root / "t.csv").read_text().replace("p3,1", "p3,0"))
    said = " ".join(changed())
    assert "1 source images changed since they were read, first '0.png'" in said
    assert "1 source masks changed since they were read, first '2.png'" in said
    assert "1 rows of the source table changed since they were read, first '3.png'" in said
    for path, content in kept.items():
        path.write_bytes(content)
    with (root / "t.csv").open("a") as table:
        shutil.copyfile(root / "1.png", root / "9.png")
        shutil.copyfile(root / "m1.png", root / "m9.png")
        table.write("9.png,m9.png,p9,1\n")
    assert "1 source images were added since, first '9.png'" in " ".join(changed())
    (root / "t.csv").unlink()
    assert "source not readable now" in " ".join(changed())


@pytest.mark.slow
@pytest.mark.workflow
def test_every_file_of_a_whole_study_is_compared(built: Workshop, tmp_path: Path) -> None:
    """One bit of each, or its absence, is named; and two calls at once each see their own."""
    shop = built.copy(tmp_path)
    assert " 0 differ" in shop.snakemake("--cores", "1", "verify", "--quiet", "all")
    assert not list((shop.folder / ".snakemake").glob("synthgain_*call*")), "what a call wrote for itself is gone"
    (shop.folder / "other.yaml").write_text((shop.folder / "tiny.yaml").read_text() + "seed: 5\n")
    with ThreadPoolExecutor(2) as pool:
        calls = [
            pool.submit(shop.snakemake, "--cores", "1", "verify", "--quiet", "all", study=study, check=False)
            for study in ("tiny.yaml", "other.yaml")
        ]
        first, second = (call.result() for call in calls)
    assert " 0 differ" in first
    assert "made by another config or code" in second
    assert not list((shop.folder / ".snakemake").glob("synthgain_*call*"))
    run = shop.folder / "results" / "tiny"
    plan = expected_of(shop)
    assert compare_run(run, plan).differences == []
    for path in [path for path in sorted(run.rglob("*")) if path.is_file()]:
        if path.relative_to(run).parts[0] in NOT_COMPARED or path.name == "receipt":
            continue
        content = path.read_bytes()
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
        assert any(str(path) in line for line in compare_run(run, plan).differences), path
        path.write_bytes(content)


def expected_of(shop: Workshop) -> dict[str, str]:
    """Return {path: identity} of the tiny study, as `verify` is given it."""
    import subprocess
    import sys

    code = (
        "import sys, json; sys.path.insert(0, 'workflow_scripts')\n"
        "from pathlib import Path\n"
        "from synthgain.study.session import Session\n"
        "from synthgain.study.yaml_files import read_yaml\n"
        f"config = {{**read_yaml(Path('tiny.yaml')), 'data_root': {shop.data!r}}}\n"
        "print(json.dumps(Session(config, Path('.'), Path('results')).expected()['tiny']))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=shop.folder, capture_output=True, text=True, check=True)
    found: dict[str, str] = json.loads(done.stdout)
    return found


def test_what_earlier_planned_looks_made_is_compared_and_of_no_other_config(tmp_path: Path) -> None:
    study = parse_study(tiny(replicates={"count": 8, "looks": [4, 8], "per_job": 4}))
    scripts, lock = ROOT / "workflow_scripts", ROOT / "envs" / "requirements.lock"
    plan = Planner(study, "tiny", 0, CodeDigests(scripts, lock), tmp_path, None, STAGES)
    first, last = plan.at("look-1/"), plan.at("look-2/")
    made = ["look-1/report.html", "statistics/look-1/cnn/manifest.json", "predictions/look-1/cnn/real.parquet"]
    for name in [*made, "statistics/look-1/older/manifest.json"]:
        (tmp_path / "tiny" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tiny" / name).touch()
    compared = {job.output: job.identity for job in plan_all(last, tmp_path)}
    assert {name: compared[name] for name in made} == {
        "look-1/report.html": first.job("write_report").identity,
        "statistics/look-1/cnn/manifest.json": first.job("compare_arms", model="cnn").identity,
        "predictions/look-1/cnn/real.parquet": first.job("collect_predictions", model="cnn", arm="real").identity,
    }
    assert "look-2/report.html" in compared
    assert "statistics/look-1/older/manifest.json" not in compared  # of a model that the study lacks
    assert not [name for name in (job.output for job in plan_all(first, tmp_path)) if "look-2" in name]


def test_files_have_the_rights_that_the_users_umask_leaves(tmp_path: Path) -> None:
    for mask, rights in ((0o077, 0o600), (0o022, 0o644), (0o002, 0o664), (0o027, 0o640)):
        before = os.umask(mask)
        try:
            folder = tmp_path / f"{mask:o}"
            write_table(folder / "a" / "t.parquet", pd.DataFrame({"a": [1]}), "id")
            write_manifest(folder / "a" / "manifest.json", "id", ["t.parquet"])
            page = folder / "report.html"
            Sealing([page], "id", Inputs({})).finish()
            for path in folder.rglob("*"):
                expected = rights if path.is_file() else rights | (rights & 0o444) >> 2
                assert path.stat().st_mode & 0o777 == expected, path
        finally:
            os.umask(before)
    assert read_table(tmp_path / "77" / "a" / "t.parquet", "id").shape == (1, 1)
