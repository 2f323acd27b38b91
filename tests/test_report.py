"""The report: verdict first, everything escaped, nothing fetched, nothing silently left out."""

import base64
import io
import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from job_inputs import inputs_at, new_job, paths_of
from simulated_run import config, make_run, report_job, restate

from synthgain.report.blocks import Column, interval, make_table, number, p_value, plain_table, signed
from synthgain.report.costs import StageFacts, device_hours, read_benchmarks, rule_times, synthesis_hours
from synthgain.report.embedding import inline_svg
from synthgain.report.evidence import DatasetEvidence, Measured, gather
from synthgain.report.facts import DatasetFacts, GateFacts, MeasuredFacts
from synthgain.report.page import TEMPLATES
from synthgain.report.sections.checklist import STANDARDS, completeness, fill
from synthgain.report.sections.fidelity import relation_sentence
from synthgain.report.sections.methods import methods
from synthgain.report.sections.study import _parts
from synthgain.report.sections.verdicts import ALARMS, answers, banners, headlines
from synthgain.report.tables import at_floor
from synthgain.report.vocabulary import listed
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import read_json, write_manifest
from synthgain.runtime.protocols import read_protocols
from synthgain.study.code import CodeDigests
from synthgain.study.schema import Study
from synthgain.study.stages.report import described
from synthgain.study.stages.table import STAGES
from write_report import write_report

MODEL = "cnn"
EVIL = "<script>alert('x')</script>&\"'"


class Page(HTMLParser):
    """Collects what the tests ask of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.ids: list[str] = []
        self.scripts = 0
        self.downloads: dict[str, str] = {}
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.scripts += tag == "script"
        self.ids += [found["id"]] if found.get("id") else []
        self.addresses += [value for name, value in attrs if name in ("src", "href", "xlink:href", "srcset") and value]
        if "download" in found and found.get("href"):
            self.downloads[str(found["download"])] = str(found["href"])

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def written(run: Path, **changes: Any) -> str:
    job = report_job(run, **changes)
    write_report(job)
    return job.outputs[0].read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def html(run: Path) -> str:
    return written(run)


@pytest.fixture(autouse=True)
def _one_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("synthgain.report.environment.commit", lambda folder: "0123456789ab")


def shown_difference(row: dict[str, Any]) -> str:
    """A difference with its interval, as the report writes it."""
    return f"{signed(row['difference'])} ({interval(row['low'], row['high'], sign=True)})"


def test_verdict_stands_first_with_effect_and_interval(run: Path, html: str) -> None:
    text = Page(html.split("<main")[1]).text
    start = text[:700]
    row = read_json(run / "statistics" / MODEL / "verdict.json")["primary"]
    numbers = (signed(row["difference"]), interval(row["low"], row["high"], sign=True))
    assert row["difference"] > row["low"] > 0
    for wanted in ("helps", *numbers, "95 % interval", "helps, for this generator"):
        assert wanted in start
    scope = "new training seeds, for this generator, of this training recipe (200 steps; checkpoint: the one of best"
    assert scope in text
    assert "patients like those of hospital_a. It says nothing about other recipes or sites" in text
    assert text.index("helps") < text.index("Controls")


def test_first_page_names_declaration_seed_and_versions(run: Path, html: str) -> None:
    first = Page(html.split('id="result"')[0]).text
    (declared,), _ = read_protocols(run)
    assert f"1, written {declared.written}, before any prediction; SHA-256 {declared.hash[:32]}" in first
    assert "1 of 1 planned" in first
    assert "Study seed" in first
    assert "python 3." in first


def test_nothing_is_fetched(html: str) -> None:
    for address in Page(html).addresses:
        assert address.startswith(("#", "data:")), address[:60]
    assert "@import" not in html
    assert not re.search(r"url\((?!#)[^)]*\)", html)


def test_ids_are_unique_and_anchors_lead_somewhere(html: str) -> None:
    page = Page(html)
    assert len(page.ids) == len(set(page.ids))
    anchors = {address[1:] for address in page.addresses if address.startswith("#")}
    assert anchors <= set(page.ids)


def test_sections_in_the_order_of_a_reviewer(html: str) -> None:
    names = "verdict controls dose sites subgroups fidelity memorisation cost methods checklist provenance"
    wanted = names.split()
    places = [html.index(f'<section id="{name}"') for name in wanted]
    assert places == sorted(places)


def test_every_table_can_be_downloaded_whole(run: Path, html: str) -> None:
    downloads = Page(html).downloads
    assert html.count('<figure class="table">') == sum(name.endswith(".csv") for name in downloads)
    address = downloads["phantom_exploratory.csv"]
    table = pd.read_csv(io.BytesIO(base64.b64decode(address.partition("base64,")[2])))
    source = pd.read_csv(run / "statistics" / MODEL / "comparisons.csv")
    assert len(table) == (source["family"] == "exploratory").sum()
    assert list(table.columns) == list(source.columns)
    declared = base64.b64decode(downloads["phantom_protocol-1.json"].partition("base64,")[2])
    assert json.loads(declared) == read_protocols(run)[0][0].content


def test_text_from_tables_and_config_is_escaped(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    table = pd.read_csv(run / "statistics" / MODEL / "comparisons.csv")
    restate(run / "statistics" / MODEL, "comparisons.csv", table.assign(dataset=EVIL, arm=EVIL))
    verdict = read_json(run / "statistics" / MODEL / "verdict.json")
    verdict["comparisons"][0]["sentence"] = verdict["notes"][0] = EVIL
    restate(run / "statistics" / MODEL, "verdict.json", verdict)
    resolved = config()
    resolved["datasets"]["hospital_a"]["licence"] = EVIL
    html = written(run, config=resolved | {"title": EVIL, "description": EVIL})
    assert Page(html).scripts == 1  # the page's own
    assert "<script>alert" not in html
    assert EVIL in "".join(Page(html).words)


def test_svg_is_cleaned_and_its_names_are_its_own() -> None:
    text = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="72pt" height="9pt" '
        'onload="alert(1)"><script>alert(1)</script><defs><path id="p"/></defs><use xlink:href="#p"/>'
        '<g clip-path="url(#p)"/><image xlink:href="https://example.org/x.png"/><text>A &lt; B</text></svg>'
    )
    clean = inline_svg(text, "one", 'label "quoted"')
    assert "alert" not in clean
    assert "example.org" not in clean
    assert 'id="one-p"' in clean
    assert 'href="#one-p"' in clean
    assert "url(#one-p)" in clean
    assert "A &lt; B" in clean
    assert "&quot;quoted&quot;" in clean
    with pytest.raises(SynthGainError, match="not a readable SVG"):
        inline_svg("<svg", "two", "")


def test_rehearsal_is_marked_everywhere_and_gives_no_verdict(tmp_path: Path) -> None:
    html = written(make_run(tmp_path, "rehearsal"))
    assert html.count("<h2") == html.count('<span class="tag">rehearsal</span>')
    assert 'class="word"' not in html
    assert "No verdict: this is a rehearsal." in html
    assert "(rehearsal)</title>" in html
    assert "no gain was shown" in Page(html).text


def test_raised_alarm_is_on_the_first_page(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    verdict = read_json(run / "statistics" / MODEL / "verdict.json")
    verdict["alarms"]["a_a"]["raised"] = True
    restate(run / "statistics" / MODEL, "verdict.json", verdict)
    html = written(run)
    assert ALARMS["a_a"][1] in Page(html.split('id="result"')[0]).text
    assert "✗ alarm" in Page(html.split('id="controls"')[1]).text


def test_every_control_prints_its_interval_and_none_passes_by_being_bad(run: Path, html: str) -> None:
    alarms = read_json(run / "statistics" / MODEL / "verdict.json")["alarms"]
    repeated, head = (shown_difference(alarms[name]["tested"][0]) for name in ("a_a", "step_matched_control"))
    strong = alarms["strong_augmentation"]["tested"][0]["difference"]
    controls = Page(html.split('<section id="controls"')[1].split("</section>")[0]).text
    assert f"✓ no alarm. repeated 100 % against real: {repeated}" in controls
    assert f"✓ no alarm. supplemented 300 % against repeated: {head}" in controls
    worse = "– not informative (significantly worse than the baseline itself). real_strong against real: "
    assert strong < -0.1
    assert f"{worse}{signed(strong)}" in controls
    assert "– not checked (no such arm for this comparison)" in controls
    assert "passed" not in controls


def test_controls_of_a_model_without_a_declared_comparison_are_not_called_missing(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    verdict = read_json(run / "statistics" / MODEL / "verdict.json")
    restate(run / "statistics" / MODEL, "verdict.json", {**verdict, "comparisons": []})
    controls = Page(written(run).split('<section id="controls"')[1].split("</section>")[0]).text
    assert "No primary comparison was declared for this model" in controls
    assert "no such arm" not in controls


def test_a_verdict_that_is_not_estimable_says_why_in_its_table(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    table = pd.read_csv(run / "statistics" / MODEL / "comparisons.csv")
    why = "the scores of supplemented do not vary"
    first = table["family"] == "primary"
    table.loc[first, ["low", "high", "p", "p_adjusted"]] = float("nan")
    table.loc[first, "verdict"] = "inconclusive"
    table["reason"] = ["" if not one else why for one in first]
    restate(run / "statistics" / MODEL, "comparisons.csv", table)
    dose = Page(written(run).split('<section id="dose"')[1].split("</section>")[0]).text
    assert why in dose


def copying(run: Path, filtered: bool) -> None:
    """Let the gate of the main arm's pool be exceeded, and the verdict be barred."""
    verdict = read_json(run / "statistics" / MODEL / "verdict.json")
    twin = {"arm": "supplemented_filtered", "ratio": 300, "dataset": "hospital_a", "label": "macro", "metric": "auroc"}
    twin |= {"difference": 0.0123, "low": -0.01, "high": 0.03, "verdict": "inconclusive"}
    row = {"arm": "supplemented", "excess": 0.12, "low": 0.08, "high": 0.16, "limit": 0.01, "exceeded": True}
    row |= {"sentence": "The pool copies.", "filtered": [twin] if filtered else []}
    verdict["alarms"]["memorisation"] = {"checked": True, "raised": True, "rows": [row]}
    verdict["comparisons"][0]["verdict"] = "barred"
    restate(run / "statistics" / MODEL, "verdict.json", verdict)
    folder = run / "memorisation" / "drawn" / "0"
    gate = read_json(folder / "gate.json") | {"exceeded": True, "state": "exceeded", "barred_sets": ["hospital_a/test"]}
    restate(folder, "gate.json", gate)


@pytest.mark.parametrize("filtered", [True, False])
def test_copies_are_a_banner_an_answer_and_a_control(tmp_path: Path, filtered: bool) -> None:
    run = make_run(tmp_path)
    copying(run, filtered)
    html = written(run)
    first = Page(html.split('id="controls"')[0].split("<main")[1]).text
    assert first.index("12.0 % more images than chance explains") < first.index("barred")
    assert "In pool drawn (trained on by supplemented), " in first
    assert "95 % interval 8.0 to 16.0 %; limit 1.0 %" in first
    assert "holds copies of images of hospital_a/test: no verdict on that test set" in first
    assert "✗ No: pool drawn holds copies of real images" in first
    controls = Page(html.split('<section id="controls"')[1].split("</section>")[0]).text
    assert "The pool copies." in controls
    assert ("supplemented_filtered" in controls) is filtered
    assert ("No arm trains on the pool of supplemented without the flagged images" in controls) is not filtered
    assert html.count('class="danger"') == 2


def test_one_banner_for_a_pool_of_several_arms_and_an_answer_that_names_it(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    copying(run, False)
    verdict = read_json(run / "statistics" / MODEL / "verdict.json")
    rows = verdict["alarms"]["memorisation"]["rows"]
    rows.append({**rows[0], "arm": "synthetic_only"})
    restate(run / "statistics" / MODEL, "verdict.json", verdict)
    job = report_job(run)
    evidence = gather(job)
    given = config()
    given["pools"]["other"] = given["pools"]["drawn"]
    given["arms"]["copied"] = {"synthetic": "other", "ratios": [100]}
    evidence = replace(evidence, study=Study.model_validate(given))
    titles = [text for title, text in banners(evidence) if title == "Copies of training images."]
    assert len(titles) == 1
    assert "In pool drawn (trained on by supplemented, synthetic_only), 12.0 % more" in titles[0]
    clean = replace(
        evidence.memorisation[0], pool="other", gate=GateFacts(sentence="", state="within limit", none_found=True)
    )
    evidence.memorisation.append(clean)
    for arm, wanted in (("supplemented", "✗ No: pool drawn holds"), ("copied", "✗ Not all of them: pool drawn holds")):
        tone, answer = answers(evidence.models[0].verdict, evidence, arm)[1][1:]
        assert tone == "bad"
        assert answer.startswith(wanted)
    assert answer.endswith("None beyond chance in pool other, which the verdict is about.")


def with_gate(run: Path, **changes: Any) -> None:
    """Change what the gate of the pool `drawn` says."""
    folder = run / "memorisation" / "drawn" / "0"
    restate(folder, "gate.json", read_json(folder / "gate.json") | changes)


def test_near_exact_copies_are_said_wherever_safety_is_spoken_of(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    found = {"state": "copies found", "exceeded": True, "copies": 12, "images": 400, "excess": 0.004}
    with_gate(run, **found, sentence="Memorisation warning: 12 of 400.")
    verdict = read_json(run / "statistics" / MODEL / "verdict.json")
    row = {"arm": "supplemented", "low": -0.01, "high": 0.02, "limit": 0.01, **found}
    row |= {"sentence": "Memorisation warning: 12 of 400.", "filtered": []}
    verdict["alarms"]["memorisation"] = {"checked": True, "raised": True, "rows": [row]}
    restate(run / "statistics" / MODEL, "verdict.json", verdict)
    text = Page(written(run)).text
    assert (
        "12 of 400 images of pool drawn (trained on by supplemented) are near-exact copies of training images" in text
    )
    assert "✗ No: pool drawn holds copies of real images" in text
    assert "than chance explains" not in text
    for word in ("No copying", "No copies", "no copies found"):
        assert word not in text


def test_copies_that_twins_may_explain_are_not_called_none(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    doubt = {"state": "undecided", "none_found": False, "copies": 2, "held_out_copies": 1}
    with_gate(run, **doubt, sentence="Copying is not excluded: 2 of 400.")
    text = Page(written(run)).text
    assert "? Not decided for pool drawn: see section Memorisation." in text
    assert "? not decided: see section Memorisation" in text
    for word in ("No copying", "No copies", "no copies found"):
        assert word not in text


def test_a_gate_of_another_state_reassures_nobody(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    with_gate(run, state="torn", sentence="?")
    (_, _, _), (_, tone, answer) = headlines(gather(report_job(run)))[0].answers
    assert tone == "open"
    assert "No copying" not in answer


def test_first_screen_answers_belief_and_safety(html: str, tmp_path: Path) -> None:
    first = Page(html.split('id="controls"')[0].split("<main")[1]).text
    assert "May I believe it? ✓ No alarm from 3 controls; 1 not checked; 1 not informative." in first
    assert "Are the samples safe? ✓ No copying beyond chance was seen (pool drawn)" in first
    run = make_run(tmp_path)
    verdict = read_json(run / "statistics" / MODEL / "verdict.json")
    verdict["alarms"]["a_a"]["raised"] = True
    restate(run / "statistics" / MODEL, "verdict.json", verdict | {"pilot": True})
    job = report_job(run)
    inputs = {name: value for name, value in paths_of(job.inputs).items() if not name.startswith("memorisation/")}
    [card] = headlines(gather(new_job(job.slice, inputs, job.code, job.identity, job.run, job.outputs, 1)))
    (_, belief, why), (_, safety, answer) = card.answers
    assert (belief, safety) == ("bad", "open")
    assert "1 of 3 controls raised an alarm. A pilot only: 5 replicates." in why
    assert "no pool was searched" in answer


def test_diverged_trainings_of_each_arm_are_on_the_first_page(html: str, tmp_path: Path) -> None:
    assert "Diverged trainings" not in html
    run = make_run(tmp_path)
    lost = {"0": {"diverged": [{"attempt": 0, "step": 7}]}, "1": {"diverged": [{}, {}], "at_chance": True}}
    for path in (run / "downstream" / MODEL / "supplemented" / "300").rglob("manifest.json"):
        manifest = read_json(path)
        replicates = {n: facts | lost.get(n, {}) for n, facts in manifest["replicates"].items()}
        write_manifest(path, manifest["identity"], [], replicates=replicates)
    first = Page(written(run).split('id="controls"')[0].split("<main")[1]).text
    line = "Diverged trainings of supplemented: 2 of 10 (1 trained again with the next seed, 1 counted at chance)."
    assert line in first
    assert first.count("Diverged trainings") == 1


def test_at_the_floor_by_the_error_of_the_value_and_of_the_floor() -> None:
    rows = pd.DataFrame(
        {"value": [5.0, 4.1, 4.1, 4.1, 3.9, 4.1], "floor": 3.0, "floor_sd": [1, 0.3, 0.3, 0.5, 0.3, 0.3]}
    )
    error = 0.5 * 1.959964 * np.array([0, 1, 0, 0, 1, np.nan])  # half of the interval of a value with an SD of 0.5
    rows = rows.assign(low=rows["value"] - error, high=rows["value"] + error)
    # two SDs of the floor alone; of both together; of the floor alone too far; a wider floor; nearer; without interval
    assert list(at_floor(rows)) == [True, True, False, False, True, False]
    mirrored = rows.assign(value=6 - rows["value"], low=6 - rows["high"], high=6 - rows["low"])
    assert list(at_floor(mirrored)) == list(at_floor(rows))  # below the floor is no merit


def test_every_stage_has_its_place(run: Path, html: str) -> None:
    labels = pd.read_csv(run / "label_consistency" / "drawn" / "0" / "label_consistency.csv").set_index("label")
    opacity = labels.loc["opacity"]
    relation = pd.read_csv(run / "fidelity_utility" / MODEL / "relation.csv").set_index(["metric", "method"])
    kid = relation.loc["kid", "spearman"]
    [worth] = [
        entry
        for entry in read_json(run / "statistics" / MODEL / "learning_curve.json")
        if (entry["arm"], entry["ratio"], entry["dataset"]) == ("supplemented", 300, "hospital_a")
    ]
    fidelity = Page(html.split('<section id="fidelity"')[1].split("</section>")[0]).text
    assert re.search(r"Pool drawn: 1\d of 16 measures are at the real-versus-real floor", fidelity)
    values = f"AUROC {number(opacity['value'])} on synthetic, {number(opacity['real_value'])} on real (easier)"
    assert f"opacity: {values}" in fidelity
    assert "1 of 2 fidelity numbers goes with the measured gain" in fidelity
    r = f"{number(kid['value'], 2)} ({interval(kid['low'], kid['high'], 2)})"
    assert f"KID in the space of EfficientNet-Lite0: {r}" in fidelity
    memorisation = Page(html.split('<section id="memorisation"')[1].split("</section>")[0]).text
    assert "snapshot 1000 is recommended; drawn from another one: drawn (snapshot 2000)" in memorisation
    assert "0.2 × data SD" in memorisation
    assert "data:image/png" in html.split('<section id="memorisation"')[1].split("</section>")[0]
    dose = Page(html.split('<section id="dose"')[1].split("</section>")[0]).text
    times = number(worth["fraction"], 2)
    assert worth["fraction"] > 1
    assert f"supplemented 300 % reached what about {times} times the real patients would reach" in dose
    for raw in ("held_out", "sigma_data", "tpr_at", "ms_ssim", "f1_max", "efficientnet_lite0 "):
        assert raw not in fidelity.partition("weights")[0] + memorisation + dose, raw


def test_two_copying_pools_are_told_apart_though_both_have_tables(run: Path) -> None:
    evidence, rates = gather(report_job(run)), pd.DataFrame({"rule": ["nearest", "distance ratio"]})
    copying = GateFacts(sentence="", state="exceeded", exceeded=True)
    clean = GateFacts(sentence="", state="within limit", none_found=True)
    evidence.memorisation = [
        Measured(pool, "0", MeasuredFacts(files={}), [], gate, tables={"memorisation": rates.copy()})
        for pool, gate in (("other", copying), ("drawn", clean))
    ]
    assert answers(evidence.models[0].verdict, evidence, "supplemented")[1][2].startswith(
        "✗ Not all of them: pool other"
    )


def test_too_few_configurations_are_no_answer() -> None:
    relation = pd.DataFrame({"metric": ["kid"], "method": ["spearman"], "value": [None], "low": [None], "high": [None]})
    measured = Measured(
        MODEL,
        "0",
        MeasuredFacts(files={}, configurations=1),
        [],
        tables={"relation": relation.assign(note="too few: 1 configurations, at least 8 are needed")},
    )
    assert (
        "Not answered, since this study has 1 configuration (a pool at a ratio): at least 8 are needed."
        in relation_sentence(measured)
    )


STAGE_FACTS = {name: StageFacts(**facts) for name, facts in described(STAGES).items()}


def test_gpu_hours_are_those_that_jobs_recorded() -> None:
    times = pd.DataFrame({"rule": ["train_generator", "train_downstream", "compare_arms"], "hours": [4.0, 2.0, 1.0]})
    table = device_hours(times, {"train_generator": {"NVIDIA H100": 30.0, "cpu": 10.0}}, STAGE_FACTS)
    assert table.values.tolist() == [
        ["train_generator", "NVIDIA H100", 3.0],
        ["train_generator", "cpu", 1.0],
        ["train_downstream", "not recorded", 2.0],
    ]
    assert device_hours(times, {}, STAGE_FACTS).empty


def test_an_edited_template_changes_the_report_and_no_figure(tmp_path: Path) -> None:
    scripts = tmp_path / "workflow_scripts"
    source = TEMPLATES.parents[2]
    shutil.copytree(source, scripts, ignore=shutil.ignore_patterns("__pycache__"))
    lock = tmp_path / "lock.txt"
    lock.write_text("jinja2==3.1.6\n")
    for template in ("report.css", "checklist.json"):
        before = {name: CodeDigests(scripts, lock).digest(name) for name in ("draw_figures.py", "write_report.py")}
        with (scripts / "synthgain/report/templates" / template).open("a") as handle:
            handle.write("\n")
        after = {name: CodeDigests(scripts, lock).digest(name) for name in before}
        assert [name for name in before if before[name] != after[name]] == ["write_report.py"]


def test_what_is_missing_is_called_not_done(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    job = report_job(run)
    inputs = {name: identity for name, identity in paths_of(job.inputs).items() if name.startswith("statistics/")}
    bare = new_job(job.slice, inputs, job.code, job.identity, job.run, job.outputs, 1)
    write_report(bare)
    html = bare.outputs[0].read_text(encoding="utf-8")
    for name in ("fidelity", "memorisation", "samples", "data"):
        section = html.split(f'<section id="{name}"')[1].split("</section>")[0]
        assert "Not done" in section, name


def test_a_test_set_without_estimate_is_named(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    table = pd.read_csv(run / "statistics" / MODEL / "comparisons.csv")
    restate(
        run / "statistics" / MODEL,
        "comparisons.csv",
        table[table["dataset"] == "hospital_a"].assign(p_adjusted=float("nan")),
    )
    text = Page(written(run)).text
    assert "hospital_b: AUROC is not estimable" in text
    assert "Only one test set was declared" not in text
    assert "0 comparisons tested, 0 of them below alpha" in text
    alone = config() | {"evaluate_on": ["hospital_a"]}
    assert "Only one test set was declared" in Page(written(run, config=alone)).text


def test_only_declared_inputs_are_read(run: Path) -> None:
    job = report_job(run)
    inputs = {name: identity for name, identity in paths_of(job.inputs).items() if not name.startswith("fidelity/")}
    found = gather(new_job(job.slice, inputs, job.code, job.identity, job.run, job.outputs, 1))
    assert found.fidelity == []
    assert len(found.memorisation) == 1


def test_damaged_input_is_one_clear_line(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    with (run / "statistics" / MODEL / "summary.csv").open("a") as handle:
        handle.write("cut off")
    with pytest.raises(SynthGainError, match=r"summary\.csv: \d+ bytes, its manifest says"):
        write_report(report_job(run))
    assert not (run / "report.html").exists()


def test_same_inputs_same_bytes(run: Path) -> None:
    assert written(run) == written(run)


def test_several_models_get_sections_and_cards_of_their_own(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    (run / "statistics" / "second").mkdir()
    for path in (run / "statistics" / MODEL).iterdir():
        (run / "statistics" / "second" / path.name).write_bytes(path.read_bytes())
    given = config()
    given["models"]["second"] = given["models"][MODEL]
    two = report_job(run, models=["second", MODEL], config=given)
    paths = paths_of(two.inputs)
    paths["statistics/second/manifest.json"] = paths[f"statistics/{MODEL}/manifest.json"]
    two = replace(two, inputs=inputs_at(run, paths))
    write_report(two)
    page = Page(two.outputs[0].read_text(encoding="utf-8"))
    assert {f"result-{MODEL}", "result-second"} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    names = list(page.downloads)
    assert len(names) == len(set(names))
    assert len(headlines(gather(two))) == 2


def test_methods_paragraph_says_what_was_configured(run: Path) -> None:
    text = " ".join(methods(gather(report_job(run))))
    images = len(pd.read_parquet(run / "datasets" / "hospital_b" / "table.parquet"))
    for wanted in (
        "32 × 32",
        f"hospital_b (90 patients, {images} images; testing only)",
        "dpmpp_2m in 18 steps",
        "small_cnn",
    ):
        assert wanted in text
    assert "supplemented at 300 % against its baseline, macro AUROC on hospital_a" in text
    assert "90 % interval lay within ±0.02 (half of the gain from 50 to 100 %)" in text
    assert "?" not in text


def test_checklist_never_invents() -> None:
    items = fill({})
    assert len(items) >= 50
    assert all(item.value == "not done" for item in items)
    items = fill({"question": "is answered", "readers": "not applicable, because nobody was asked"})
    assert completeness(items, "CLAIM 2024")[0] == 1
    assert {item.state for item in items} == {"done", "not applicable", "not done"}
    entries = json.loads((TEMPLATES / "checklist.json").read_text(encoding="utf-8"))
    assert len({entry["key"] for entry in entries}) == len(entries)
    assert {name for entry in entries for name in entry["standards"]} <= set(STANDARDS)


def test_checklist_knows_only_keys_that_exist(run: Path) -> None:
    from synthgain.report.sections.checklist import known_facts

    keys = {entry["key"] for entry in json.loads((TEMPLATES / "checklist.json").read_text(encoding="utf-8"))}
    facts = known_facts(gather(report_job(run)))
    assert set(facts) <= keys
    assert facts["readers"] is None
    assert facts["question"] is not None
    assert "supplemented 300" in facts["question"]


def test_costs_survive_odd_benchmark_files(run: Path, tmp_path: Path) -> None:
    jobs = read_benchmarks(run / "benchmarks")
    times = rule_times(jobs).set_index("rule")
    assert times.loc["train_downstream", "jobs"] == 12
    assert times.loc["train_generator", "hours"] == pytest.approx(310 / 3600)
    assert synthesis_hours(times.reset_index(), STAGE_FACTS) == pytest.approx((310 + 44 + 47.5) / 3600)
    folder = tmp_path / "quick"
    folder.mkdir()
    (folder / "a.tsv").write_text("s\tmax_rss\tcpu_time\n0.2\tNA\tNA\n")
    (folder / "b.tsv").write_text("")
    (folder / "c.tsv").write_text("something else\n1\n")
    assert len(read_benchmarks(tmp_path)) == 1
    assert len(rule_times(read_benchmarks(tmp_path / "nothing"))) == 0


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0124, "+0.0124"), (-0.0124, "−0.0124"), (-0.00001, "+0.0000"), (None, "–"), (float("nan"), "–"), ("", "–")],
)
def test_signed_numbers(value: Any, text: str) -> None:
    assert signed(value) == text


def test_numbers_p_values_and_lists() -> None:
    assert number(1234.5678, 1) == "1234.6"
    assert p_value(0.00004) == "<0.0001"
    assert p_value(0.0496) == "0.0496"
    assert interval(0.1, float("nan")) == "–"
    assert [listed(["a"]), listed(["a", "b"]), listed(["a", "b", "c"])] == ["a", "a and b", "a, b and c"]


def test_tables_leave_out_what_they_lack_and_what_never_changes() -> None:
    table = pd.DataFrame({"a": [1.0, 2.0], "b": ["x", "x"], "low": [0.1, 0.2], "high": [0.3, None]})
    columns = [
        Column("a", "A", "number", 1),
        Column("b", "B", optional=True),
        Column(("low", "high"), "Interval", "interval", 1),
        Column("missing", "Missing"),
    ]
    shown = make_table("T", table, columns, "t.csv", pd.Series([False, True]))
    assert [name for name, _ in shown.headers] == ["A", "Interval"]
    assert shown.rows == [["1.0", "0.1 to 0.3"], ["2.0", "–"]]
    assert shown.strong == {1}
    assert plain_table("P", pd.DataFrame({"n": [1, 2], "x": [0.5, None], "ok": [True, False]}), "p.csv").rows == [
        ["1", "0.5000", "True"],
        ["2", "–", "False"],
    ]


def test_twins_on_both_sides_of_a_given_split_are_said_first(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    path = run / "audit" / "audit.json"
    audit = json.loads(path.read_text())
    first = next(iter(audit["datasets"]))
    audit["datasets"][first]["crossing"]["near_duplicates"] = 3
    path.write_text(json.dumps(audit))
    job = report_job(run)
    write_report(job)
    page = job.outputs[0].read_text()
    banner = page.index("3 pairs of equal or nearly equal images lie on two sides of the split")
    assert banner < page.index("<h2>", page.index("<h2>") + 1)  # beside the verdict, before every section


def test_a_table_with_a_column_of_its_own_for_parts_is_counted_by_the_split() -> None:
    table = pd.DataFrame({"image_id": ["a", "b"], "patient_id": ["p", "q"], "part": ["old", "old"]})
    split = pd.DataFrame({"image_id": ["a", "b"], "part": ["train", "test"]})
    dataset = DatasetEvidence(DatasetFacts(identity=""), table, table.iloc[:0])
    assert [(row["part"], row["images"]) for row in _parts("chexpert", dataset, split)] == [("train", 1), ("test", 1)]
    assert [row["part"] for row in _parts("chexpert", dataset, None)] == ["test"]
