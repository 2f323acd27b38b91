"""A reader study through its stages: kit, answers of a simulated panel, tables, section of the report."""

import copy
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from simulated_run import PHANTOM, Code, made
from test_reader_kit import chained_answers

from draw_pool_shard import draw_pool_shard
from merge_pool_replica import merge_pool_replica
from prepare_dataset import prepare_dataset
from read_ratings import read_ratings
from split_dataset import split_dataset
from synthgain.readers.kit import read_kit
from synthgain.readers.options import Panel
from synthgain.report.blocks import Facts, Text
from synthgain.report.evidence import _readers
from synthgain.report.sections.readers import readers_section
from synthgain.runtime.command import Job, job_of
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import read_json, read_table
from synthgain.study.load import parse_study
from synthgain.study.planner import Planner
from synthgain.study.stages.table import STAGES
from write_reader_kit import _real, write_reader_kit

PANEL = {
    "items": {"real": {"hospital_a": 12}, "pools": {"drawn": 12}},
    "questions": ["quality", "finding", "realism"],
    "findings": ["opacity"],
    "readers": 3,
    "repeats": 0.25,
    "ratings": "sent",
}
STUDY = copy.deepcopy(PHANTOM) | {"generators": {}, "readers": {"panel": PANEL}}
STUDY["pools"] = {"drawn": {"known": "oracle", "rows_of": "hospital_a", "replicas": 1}}
STUDY["arms"] = {
    "real": {"real": "hospital_a"},
    "supplemented": {"real": "hospital_a", "synthetic": "drawn", "ratios": [100]},
}
STUDY["analysis"] = {"primary": {"model": "cnn", "arm": "supplemented", "ratio": 100, "test_set": "hospital_a"}}
STUDY["evaluation"] = {"fidelity": None, "memorisation": None, "label_consistency": False}
SCRIPTS = {
    "prepare_dataset": prepare_dataset,
    "split_dataset": split_dataset,
    "draw_pool_shard": draw_pool_shard,
    "merge_pool_replica": merge_pool_replica,
}


class Run:
    """A run whose jobs are planned anew each time, as by a call of Snakemake."""

    def __init__(self, folder: Path) -> None:
        self.results, self.root = folder / "results", folder / "data"
        self.root.mkdir()

    def planner(self) -> Planner:
        return Planner(parse_study(copy.deepcopy(STUDY)), "phantom", 0, Code(), self.results, self.root, STAGES)

    def job(self, rule: str) -> Job:
        plan = self.planner()
        planned = plan.job(rule, panel="panel")
        job = job_of(json.loads(planned.parameter()), plan.folder, [plan.folder / planned.output])
        job.outputs[0].parent.mkdir(parents=True, exist_ok=True)
        return job

    def kit(self) -> Path:
        """Make the kit after its inputs; return the kit's folder."""
        plan = self.planner()
        plan.job("write_reader_kit", panel="panel")
        for planned in plan.jobs():
            if planned.rule in SCRIPTS and not (plan.folder / planned.output).exists():
                job = job_of(json.loads(planned.parameter()), plan.folder, [plan.folder / planned.output])
                job.outputs[0].parent.mkdir(parents=True, exist_ok=True)
                SCRIPTS[planned.rule](job)
        job = self.job("write_reader_kit")
        write_reader_kit(job)
        return job.run / read_json(job.outputs[0])["folder"]

    def section(self) -> str:
        """Return the words of the report's section."""
        plan = self.planner()
        planned = plan.job("write_report")
        fields = json.loads(planned.parameter())
        inputs = job_of(fields, plan.folder, [plan.folder / planned.output])
        readers = {"panel": _readers(inputs, "panel", inputs.inputs.kits["panel"])}
        section = readers_section(SimpleNamespace(readers=readers))
        blocks = [block for block in section.blocks if isinstance(block, Text | Facts)]
        return "\n".join(b.text if isinstance(b, Text) else " ".join(" ".join(i) for i in b.items) for b in blocks)


def panel_of_readers(kit: Path, folder: Path, shift: float, seed: int = 0) -> None:
    """Write the answers of simulated readers who see `shift` standard deviations between real and synthetic images."""
    _, secret, key = read_kit(kit)
    facts = key.set_index("item")
    shared = dict(zip(facts.index, np.random.default_rng(seed).normal(size=len(facts)), strict=True))
    folder.mkdir(exist_ok=True)
    for number, reader in enumerate(secret["orders"]):
        rng = np.random.default_rng([seed, number])

        def value(item: str, question: str, rng: np.random.Generator = rng) -> int:
            noise = 0.5 * shared[item] + 0.5 * rng.normal()
            if question == "realism":
                return int(np.clip(3.5 + noise + shift * (facts.loc[item, "origin"] == "synthetic"), 1, 6))
            if question.startswith("finding"):
                return int(np.clip(np.round(3 + (2 if facts.loc[item, "opacity"] == 1 else -2) + noise), 1, 5))
            return int(np.clip(np.round(3 + 2 * noise), 1, 5))

        content = chained_answers(kit, reader, PANEL_OPTIONS, value)
        (folder / f"panel-{reader}.json").write_text(json.dumps(content), encoding="utf-8")


PANEL_OPTIONS = parse_study(copy.deepcopy(STUDY)).readers["panel"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(tmp_path_factory.mktemp("panel"))


@pytest.fixture
def run(whole: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("SYNTHGAIN_DATA", str(whole.root))
    return whole


def test_the_truth_is_printed_before_answers_come_and_the_answers_become_tables(run: Run) -> None:
    kit = run.kit()
    facts, _, key = read_kit(kit)
    before = run.section()
    assert facts["key_sha256"] in before
    assert "no answers yet" in before

    panel_of_readers(kit, run.root / "sent", shift=1.5)
    job = run.job("read_ratings")
    read_ratings(job)
    folder = job.outputs[0].parent
    scores = read_table(folder / "scores.parquet")
    assert sorted(scores["image_id"]) == sorted(key["image_id"])
    assert scores["realism"].between(0, 1).all()
    by_origin = scores.groupby("origin")["realism"].mean()
    assert by_origin["synthetic"] > by_origin["real"] + 0.2
    sources = pd.read_csv(folder / "sources.csv").set_index(["question", "origin"])
    assert sources.loc[("finding.opacity", "real"), "right"] > 0.9
    agreement = pd.read_csv(folder / "agreement.csv").set_index(["question", "measure"])
    assert agreement.loc[("quality", "gwet_ac2"), "value"].item() > 0.2
    after = run.section()
    assert "better than chance" in after
    assert "not thereby useful" in after


def test_the_same_images_keep_their_kit_and_other_images_get_another(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    kit = run.kit()
    assert run.kit() == kit
    monkeypatch.setitem(STUDY, "readers", {"panel": {**PANEL, "seed": 1}})
    other = run.kit()
    assert other != kit
    assert kit.exists()
    panel_of_readers(kit, run.root / "sent", shift=0.0)
    job = run.job("read_ratings")
    read_ratings(job)
    assert read_json(job.outputs[0])["current"] is False
    assert "earlier kit" in run.section()


def test_answers_to_two_kits_are_refused_by_name(run: Run) -> None:
    kit = run.kit()
    panel_of_readers(kit, run.root / "sent", shift=0.0)
    path = run.root / "sent" / "panel-reader_2.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "kit": "0" * 16}), encoding="utf-8")
    with pytest.raises(SynthGainError, match=r"panel-reader_2\.json: answers to kit 0{16}"):
        read_ratings(run.job("read_ratings"))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("panel-reader_1.csv", r"readers\.panel\.ratings: 'panel-reader_1\.csv' is not read, only the \.json files"),
        ("reader_key.parquet", "'reader_key.parquet' is not read"),
        ("panel-reader_1.json.txt", "'panel-reader_1.json.txt' is not read"),
        ("sent.zip", "'sent.zip' is not read"),
        ("two\nlines.csv", r"'two\\nlines\.csv' is not read"),
    ],
)
def test_what_is_not_read_of_a_folder_of_answers_is_named_while_planning(name: str, said: str, tmp_path: Path) -> None:
    run = Run(tmp_path)
    (run.root / "sent").mkdir()
    (run.root / "sent" / name).write_text("kit,reader", encoding="utf-8")
    with pytest.raises(SynthGainError, match=said) as caught:
        run.planner().job("write_report")
    assert "\n" not in str(caught.value)


def test_a_csv_file_beside_its_json_file_and_hidden_files_are_left_alone(tmp_path: Path) -> None:
    run = Run(tmp_path)
    (run.root / "sent").mkdir()
    for name in ("panel-reader_1.JSON", "panel-reader_1.csv", ".DS_Store", "Thumbs.db"):
        (run.root / "sent" / name).write_text("{}", encoding="utf-8")
    assert list(run.planner().job("read_ratings", panel="panel").slice["ratings"]) == ["panel-reader_1.JSON"]


def test_a_panel_whose_name_tells_readers_what_it_is_about_is_refused_while_planning() -> None:
    for name in ("real_or_fake", "turing_test", "synthetic"):
        with pytest.raises(SynthGainError, match="readers see this name on their files"):
            parse_study(copy.deepcopy(STUDY) | {"readers": {name: PANEL}})
    parse_study(copy.deepcopy(STUDY) | {"readers": {"realism_panel": PANEL}})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"items": {"real": {"hospital_c": 9}, "pools": {"drawn": 9}}}, "readers.panel.items.real.* did you mean"),
        (
            {"items": {"real": {"hospital_a": 9}, "pools": {"draw": 9}}},
            "readers.panel.items.pools.*did you mean 'drawn'",
        ),
        ({"findings": ["opacities"]}, "readers.panel.findings.*did you mean 'opacity'"),
        ({"items": {"real": {"hospital_b": 9}, "pools": {"drawn": 9}}}, "say part: test"),
        ({"questions": ["qualty"]}, "readers.panel.questions"),
        ({"items": {"real": {"hospital_a": 1}, "pools": {"drawn": 9}}}, "1 images; give 2 to 5000"),
        ({"items": {"real": {"hospital_a": 9}, "pools": {}}}, "readers.panel.items.pools: is empty; give at least 1"),
        ({"items": {"real": {}, "pools": {"drawn": 9}}}, "readers.panel.items.real: is empty"),
        (
            {"items": {"real": {"hospital_a": 300}, "pools": {"drawn": 9}}},
            r"readers.panel.items: 309 patients of data set 'hospital_a' \(train\) are needed.*it has at most \d+; ask",
        ),
        ({"common": 0.0, "readers": 50}, "1200 patients of data set 'hospital_a'"),
        ({"findings": ["age"]}, "readers.panel.findings: 'age' is a number; name a label"),
        ({"ratings": "../sent"}, r"ratings: '../sent' must be a folder below the data root"),
        ({"ratings": "/sent"}, r"ratings: '/sent' must be a folder below the data root"),
        ({"ratings": ""}, r"ratings: '' must be a folder below the data root"),
        ({"codes": {"reader_1": "1f0c"}}, r"codes.reader_1: '1f0c' is no closing code; a page shows one such as"),
        (
            {"questions": ["prompt_fit"], "findings": []},
            r"questions: prompt_fit: its pools need one prompt, the same \(drawn: none\)",
        ),
    ],
    ids=range(16),
)
def test_what_leads_nowhere_is_refused_while_planning(change: dict, said: str) -> None:
    study = copy.deepcopy(STUDY)
    study["readers"]["panel"] = {**study["readers"]["panel"], **change}
    with pytest.raises(SynthGainError, match=said):
        parse_study(study)


def test_two_panels_in_one_folder_of_answers_are_refused_while_planning() -> None:
    with pytest.raises(
        SynthGainError, match=r"readers.second.ratings: the folder of 'panel'; give each panel a folder"
    ):
        parse_study(copy.deepcopy(STUDY) | {"readers": {"panel": PANEL, "second": PANEL | {"ratings": "sent/"}}})


def test_a_code_that_was_read_out_may_come_in_capitals() -> None:
    panel = Panel.model_validate(PANEL | {"codes": {"reader_1": " 1F0C-92AB-0D4E-77C1 "}})
    assert panel.codes == {"reader_1": "1f0c-92ab-0d4e-77c1"}


def test_real_images_are_told_as_the_synthetic_ones_are(run: Run) -> None:
    job = run.job("write_reader_kit")
    told = {"template": "{age} year old. {findings}."}
    shown = _real(replace(job, slice=job.slice | {"prompt": told}), "hospital_a", "train")
    assert "opacity" in " ".join(shown.table["prompt"])
    assert shown.table["prompt"].str.contains("year old").all()
    assert "prompt" not in _real(job, "hospital_a", "train").table


LIKED = {"of": "drawn", "filter": {"scores": "readers", "name": "panel", "column": "quality", "threshold": 0.5}}


def rated(change: dict, **panel: object) -> dict:
    """The study with a pool filtered by what readers say."""
    study = copy.deepcopy(STUDY)
    study["readers"]["panel"] |= panel
    study["pools"]["liked"] = {"of": "drawn", "filter": {**LIKED["filter"], **change}}
    study["arms"]["liked"] = {"real": "hospital_a", "synthetic": "liked", "ratios": [50]}
    return study


def test_a_pool_filtered_by_readers_waits_for_their_ratings(run: Run) -> None:
    plan = Planner(parse_study(rated({})), "phantom", 0, Code(), run.results, run.root, STAGES)
    job = plan.job("draw_pool_shard", pool="liked", index=0, replica=1, shard=0)
    assert job.named["ratings"] == [(("panel",), "readers/panel/ratings/manifest.json")]


@pytest.mark.parametrize(
    ("change", "panel", "said"),
    [
        ({"name": "panels"}, {}, r"pools.liked.filter.name: there is no panel 'panels'; did you mean 'panel'"),
        ({"name": None}, {}, r"pools.liked.filter.name: name the panel"),
        ({"threshold": 3}, {}, r"liked.filter.threshold: 3; the scores of readers are ranks from 0 to 1"),
        ({"column": "qualty"}, {}, r"filter.column: panel 'panel' is not asked 'qualty'; did you mean 'quality'"),
        ({}, {"ratings": None}, r"readers.panel.ratings is missing"),
        ({}, {"items": {"real": {"hospital_a": 9}, "pools": {"liked": 9}}}, r"see liked, not 'drawn'"),
        (
            {},
            {"items": {"real": {"hospital_a": 9}, "pools": {"drawn": 9, "liked": 9}}},
            r"items.pools: 'liked' is filtered by what this panel says; show 'drawn'",
        ),
    ],
    ids=range(7),
)
def test_filters_on_ratings_that_cannot_be_are_refused_while_planning(change: dict, panel: dict, said: str) -> None:
    with pytest.raises(SynthGainError, match=said):
        parse_study(rated(change, **panel))


def test_ratings_that_have_not_come_end_with_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run.kit()
    monkeypatch.setitem(STUDY, "readers", {"panel": {**PANEL, "ratings": "nothing_yet"}})
    with pytest.raises(SynthGainError, match=r"nothing_yet: no answers of readers yet; `snakemake reader_kit`"):
        read_ratings(run.job("read_ratings"))


def test_a_study_without_readers_reports_as_before() -> None:
    assert "readers" not in made("phantom").plan.job("write_report").slice["config"]
