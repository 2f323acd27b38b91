"""`snakemake accept` and what a dry run says, on planned records and made-up results: no job runs here."""

import contextlib
import copy
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from studies import tiny
from workshop import LEFT_OUT, ROOT

from accept_results import accept
from synthgain.report.accepted import still_accepted, with_accepted
from synthgain.runtime.accepted import NAME, Accepted, read_accepted
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import read_json, write_json, write_manifest
from synthgain.study.session import Session

LIBRARY = Path("repository/workflow_scripts/synthgain")
SAMPLER, TRAINING = LIBRARY / "pools" / "sampling.py", LIBRARY / "downstream" / "training.py"
CALIBRATION = ROOT / "studies" / "calibration.yaml"


class Place:
    """A copy of the code in the present folder, made-up results, and what Snakemake would have recorded of them."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config
        self.records: dict[str, list[str]] = {}
        self.made("nothing yet")

    def session(self, **changes: Any) -> Session:
        return Session({**self.config, **changes}, Path("repository"), Path("results"))

    def made(self, what: str) -> None:
        """Run everything: results with the identities of the present plan, recorded."""
        session = self.session()
        for run, job in self.jobs(session):
            path = Path("results", run, job.output)
            if path.suffix == ".json":
                write_manifest(path, job.identity, [])
            elif path.suffix == ".html":
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(f"<main>{what}</main>")
            self.records[str(path)] = [repr(job.parameter())]
        session.remember_code()

    @staticmethod
    def jobs(session: Session) -> list[tuple[str, Any]]:
        session.expected()
        jobs = [(run, job) for run, plan in session.planners.items() for job in plan.jobs()]
        if session.study.study_seeds is not None:
            jobs += [(session.study.study, job) for job in session._all_over_runs()]
        return jobs

    def accept(self, **changes: Any) -> list[tuple[str, str, str]]:
        """Call `snakemake accept`: what its rule's params function and its script do."""
        session = self.session(**changes)
        found = read_json(Path(session.write_acceptable(Path("acceptable.json"), self.records.get)))
        return [result for run, facts in found.items() for result in accept(Path("results", run), facts)]

    def out_of_date(self, **changes: Any) -> set[str]:
        """Return the rules of the jobs whose param is not the recorded one."""
        jobs = self.jobs(self.session(**changes))
        return {
            job.rule for run, job in jobs if self.records.get(f"results/{run}/{job.output}") != [repr(job.parameter())]
        }

    def changes(self, **changes: Any) -> str:
        session = self.session(**changes)
        session.expected()
        return session.changes(self.records.get)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Place]:
    """The tiny study, planned and made up once."""
    folder = tmp_path_factory.mktemp("accept")
    for name in ("workflow_scripts", "envs"):
        shutil.copytree(ROOT / name, folder / "repository" / name, ignore=LEFT_OUT)
    with contextlib.chdir(folder), pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "environ", os.environ.copy())  # a session sets some
        return folder, Place(tiny())


@pytest.fixture
def place(template: tuple[Path, Place], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Place]:
    """In a copy of it, the present folder: the tiny study, or another one made up there."""
    folder, made = template
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)

    def new(config: dict[str, Any] | None = None) -> Place:
        if config is not None:
            return Place(config)
        shop = copy.copy(made)
        shop.records = dict(made.records)
        return shop

    return new


def edit(path: Path, line: str = "EDITED = 1") -> None:
    path.write_text(f"{path.read_text()}\n{line}\n")


def refused(results: list[tuple[str, str, str]]) -> dict[str, str]:
    no = "not accepted: "
    return {
        path.removeprefix("results/tiny/"): what.removeprefix(no) for _, path, what in results if what.startswith(no)
    }


def test_after_accept_nothing_is_out_of_date_and_no_result_was_touched(place: Callable[..., Place]) -> None:
    shop = place()
    before = {path: path.read_bytes() for path in Path("results").rglob("manifest.json")}
    edit(SAMPLER)
    edit(TRAINING)
    assert {"draw_pool_shard", "train_downstream", "write_report"} <= shop.out_of_date()
    lines = shop.accept()
    assert not refused(lines)
    assert shop.out_of_date() == set()
    assert shop.changes() == ""
    assert {path: path.read_bytes() for path in before} == before
    entries = read_accepted(Path("results/tiny"))
    # Those whose own code differs, and no other: what rests on them has its own code and their recorded identity.
    assert {name.split("/")[0] for name in entries} == {"forecast", "samples", "pools", "downstream", "predictions"}
    page = Path("results/tiny/report.html").read_text()
    assert page.count("Results of older code") == 1
    assert "pools/drawn/0/replica-1/shard-0/manifest.json" in page


def test_accept_with_nothing_to_accept_writes_nothing(place: Callable[..., Place]) -> None:
    shop = place()
    assert shop.accept() == []
    assert not Path("results/tiny", NAME).exists()
    assert "accepted" not in Path("results/tiny/report.html").read_text()


def test_another_config_is_not_accepted_and_runs_after_it(place: Callable[..., Place]) -> None:
    shop = place()
    edit(TRAINING)
    changed = tiny(models__cnn__learning_rate=0.01)
    lines = shop.accept(**changed)
    found = refused(lines)
    cell = "downstream/cnn/real/0/0/manifest.json"
    assert found[cell] == "model.learning_rate 0.001, now 0.01; code"
    assert found["statistics/cnn/manifest.json"] == "rests on a result that is not accepted"
    assert shop.accept()  # the old config again
    assert shop.out_of_date() == set()
    assert "train_downstream" in shop.out_of_date(**changed)
    jobs = {job.output: job for _, job in shop.jobs(shop.session(**changed))}
    now = {job.output: job for _, job in Place.jobs(shop.session())}
    assert jobs[cell].code != now[cell].code, "another config is computed, and recorded, with the code of now"


def test_code_that_changes_again_needs_accept_again(place: Callable[..., Place]) -> None:
    shop = place()
    edit(SAMPLER)
    shop.accept()
    edit(SAMPLER, "EDITED = 2")
    assert "draw_pool_shard" in shop.out_of_date()
    text = shop.changes()
    assert "draw_pool_shard ×4: code of pools/sampling.py" in text
    assert "were accepted before a further change: they need it again" in text
    shop.accept()
    assert shop.out_of_date() == set()
    edit(TRAINING)
    shop.accept()
    shop.accept()  # one after another, the same
    assert shop.out_of_date() == set()
    assert {name.split("/")[0] for name in read_accepted(Path("results/tiny"))} >= {"pools", "downstream"}


def test_code_that_is_as_it_was_needs_no_acceptance(place: Callable[..., Place]) -> None:
    shop = place()
    text = SAMPLER.read_text()
    edit(SAMPLER)
    shop.accept()
    SAMPLER.write_text(text)
    assert shop.out_of_date() == set()
    assert shop.accept() == []
    assert not Path("results/tiny", NAME).exists()
    assert "Results of older code" not in Path("results/tiny/report.html").read_text()


def test_only_the_rules_that_are_named(place: Callable[..., Place]) -> None:
    shop = place()
    edit(SAMPLER)
    edit(TRAINING)
    found = refused(shop.accept(accept="draw_pool_shard, draw_sample_grid"))
    assert found["downstream/cnn/real/0/0/manifest.json"] == "not among the rules to accept"
    assert not {"draw_pool_shard", "merge_pool_replica", "draw_sample_grid"} & shop.out_of_date()
    assert {"train_downstream", "write_report"} <= shop.out_of_date()
    shop.accept(accept="train_downstream,predict_downstream,measure_speed,forecast_cost")
    assert shop.out_of_date() == set(), "what was accepted of other rules stays accepted"
    with pytest.raises(SynthGainError, match="accept: no rule 'train_generato'; did you mean 'train_generator'"):
        shop.accept(accept="train_generato")


def test_a_result_that_is_not_the_recorded_one_is_not_accepted(place: Callable[..., Place]) -> None:
    shop = place()
    edit(SAMPLER)
    shard = Path("results/tiny/pools/drawn/0/replica-1/shard-0/manifest.json")
    write_manifest(shard, "0" * 32, [])
    found = refused(shop.accept())
    assert found["pools/drawn/0/replica-1/shard-0/manifest.json"].startswith("is not the file")
    assert "draw_pool_shard" in shop.out_of_date()
    assert "pools/drawn/0/replica-2/shard-0/manifest.json" in read_accepted(Path("results/tiny"))


def test_without_snakemakes_records_nothing_is_accepted(place: Callable[..., Place]) -> None:
    shop = place()
    edit(SAMPLER)
    shop.records.clear()
    found = refused(shop.accept())
    assert set(found.values()) == {"no record of how it was made (.snakemake/metadata)"}
    assert not Path("results/tiny", NAME).exists()


def test_acceptance_outlives_snakemakes_records(place: Callable[..., Place]) -> None:
    shop = place()
    edit(SAMPLER)
    shop.accept()
    kept = dict(shop.records)
    shop.records.clear()
    planned = {f"results/{run}/{job.output}": [repr(job.parameter())] for run, job in shop.jobs(shop.session())}
    assert planned == kept


def test_another_cut_of_an_accepted_pool_reruns_nothing_that_rests_on_it(place: Callable[..., Place]) -> None:
    shop = place()
    edit(SAMPLER)
    shop.accept()
    recut = shop.out_of_date(**tiny(pools__drawn__shards=3))
    assert recut == {"draw_pool_shard", "merge_pool_replica", "forecast_cost", "write_protocol", "write_report"}


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: path.write_text(path.read_text()[:-20]), "damaged"),
        (lambda path: path.write_text("[]"), "damaged"),
        (lambda path: write_json(path, {"accepted": [{"output": "x"}], "digest": ""}), "damaged"),
        (lambda path: path.write_bytes(b"\xff\x00"), "damaged"),
        (lambda path: path.write_text(path.read_text().replace("replica-1", "replica-9")), "edited by hand"),
    ],
)
def test_a_damaged_or_edited_list_is_one_line(place: Callable[..., Place], damage: Any, words: str) -> None:
    shop = place()
    edit(SAMPLER)
    shop.accept()
    damage(Path("results/tiny", NAME))
    with pytest.raises(SynthGainError, match=rf"^accepted.json: .*{words}; delete it and run .*: results/tiny/acc"):
        shop.session()


def test_all_runs_of_a_study_of_several_seeds_and_their_summary(place: Callable[..., Place]) -> None:
    config = yaml.safe_load(CALIBRATION.read_text())
    config["study_seeds"] = config["study_seeds"][:2]
    shop = place(config)
    edit(LIBRARY / "statistics" / "delong.py")
    edit(LIBRARY / "report" / "calibration_page.py")
    assert {"compare_arms", "summarise_calibration"} <= shop.out_of_date()
    assert "summarise_calibration ×1: code of report/calibration_page.py" in shop.changes()
    assert not refused(shop.accept())
    assert shop.out_of_date() == set()
    assert "calibration.json" in read_accepted(Path("results", config["study"]))


class TestWhatADryRunSays:
    """Which keys and which modules differ."""

    def test_no_identity_of_something_before_it(self, place: Callable[..., Place]) -> None:
        text = place().changes(**tiny(datasets__hospital_a__seed=5))
        assert "prepare_dataset ×1: options.seed 1, now 5" in text
        assert "identity" not in text

    def test_keys(self, place: Callable[..., Place]) -> None:
        text = place().changes(**tiny(models__cnn__learning_rate=0.01, models__cnn__warmup_steps=...))
        assert "train_downstream ×6: model.learning_rate 0.001, now 0.01; model.warmup_steps 2, now 20" in text
        assert "snakemake accept" not in text
        assert "compare_arms" not in text, "it runs again only since what it reads does"

    def test_modules_and_packages(self, place: Callable[..., Place]) -> None:
        shop = place()
        edit(LIBRARY / "networks" / "unet.py")
        lock = Path("repository/envs/requirements.lock")
        lock.write_text(lock.read_text().replace("diffusers==", "diffusers==9."))
        text = shop.changes()
        assert "train_generator ×1: code of diffusers 9." in text
        assert "networks/unet.py" in text
        assert "`snakemake accept` takes results as current whose code alone differs" in text

    def test_nothing(self, place: Callable[..., Place]) -> None:
        assert place().changes() == ""

    def test_without_what_older_digests_covered(self, place: Callable[..., Place]) -> None:
        shop = place()
        shutil.rmtree(".snakemake")
        edit(SAMPLER)
        assert "draw_pool_shard ×4: code\n" in shop.changes()


def test_the_list_is_sealed_and_sorted(place: Callable[..., Place]) -> None:
    shop = place()
    edit(SAMPLER)
    shop.accept()
    listed = json.loads(Path("results/tiny", NAME).read_text())["accepted"]
    assert [entry["output"] for entry in listed] == sorted(entry["output"] for entry in listed)
    assert set(listed[0]) == {"output", "recorded", "taken_as", "basis", "identity", "date"}


def test_the_reports_list_holds_what_still_lies_there(place: Callable[..., Place]) -> None:
    shop = place()
    edit(SAMPLER)
    shop.accept()
    run, made = Path("results/tiny"), "pools/drawn/0/replica-1/shard-0/manifest.json"
    assert made in {entry.output for entry in still_accepted(run)}
    write_manifest(run / made, "0" * 32, [])  # computed again under another config
    (run / made.replace("shard-0", "shard-1")).write_text("{")
    left = {entry.output for entry in still_accepted(run)}
    assert "pools/drawn/0/replica-2/shard-0/manifest.json" in left
    assert not {name for name in left if name.startswith("pools/drawn/0/replica-1/shard")}


def test_the_reports_list_is_escaped_and_replaced() -> None:
    entry = Accepted("<b>&", "a" * 32, "b" * 32, "", "", "2026-01-01")
    page = with_accepted("<main>text</main>", [entry])
    assert "&lt;b&gt;&amp;" in page
    assert "<b>&" not in page
    assert with_accepted(page, [entry]) == page
    assert with_accepted(page, []) == "<main>text</main>"
