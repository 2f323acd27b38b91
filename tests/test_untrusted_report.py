"""Hostile text in tables and config changes not one element or attribute of the report, nor runs in a browser."""

import io
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from simulated_run import figures_job, make_run, report_job
from test_report_browser import console, open_page, with_script

from draw_figures import draw_figures
from synthgain.datasets.audit_page import audit_page
from synthgain.datasets.contact_sheet import contact_sheet
from synthgain.report.blocks import make_table, plain_table
from synthgain.report.embedding import inline_svg
from synthgain.runtime.files import read_json, read_table, sha256_file, write_json, write_table
from write_report import write_report

RUNS = "document.body.dataset.pwned=1"
EVIL = (
    f'"\'></title></style></td></svg></script><script>{RUNS}</script><img src=x onerror="{RUNS}">'
    f'<svg onload="{RUNS}"><a href="javascript:{RUNS}">x</a><iframe srcdoc=\'<script>{RUNS}</script>\'>'
    "{{7*7}}{% raw %}<!-- &lt;b&gt; \x1b[31m \u202e"
)
# Free text of tables and configs as the made-up run has it: labels, levels, notes, reasons, file names, prose.
FREE_TEXT = (
    "effusion", "(20, 50]", "sex: F", "not readable", "broken.png", "made up", "A simulated study for the tests.",
    "Phantom: two hospitals", "half of the gain from 50 to 100 %", "read with kid", "No copying beyond chance",
    "copies above their null",
)  # fmt: skip
DATA = re.compile(r"^(data:|#)")


class Skeleton(HTMLParser):
    """The elements of a page with the names of their attributes; those inside figures apart, as they are laid out."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, ...]] = []
        self.drawn: set[tuple[str, ...]] = set()
        self.values: list[tuple[str, str]] = []
        self.words: list[str] = []
        self._inside = 0
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        shape = (tag, *(name for name, _ in attrs))
        self._inside += tag == "svg"
        self.drawn.add(shape) if self._inside else self.elements.append(shape)
        self.values += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        self._inside -= tag == "svg"

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def exchange(value: Any, by: str) -> Any:
    """Return a JSON value with every piece of FREE_TEXT replaced."""
    text = json.dumps(value)
    for word in FREE_TEXT:
        text = text.replace(json.dumps(word)[1:-1], json.dumps(by)[1:-1])
    return json.loads(text)


def in_table(table: pd.DataFrame, by: str) -> pd.DataFrame:
    table = table.rename(columns={name: exchange(str(name), by) for name in table.columns})
    return table.map(lambda cell: exchange(cell, by) if isinstance(cell, str) else cell)


def rewrite(run: Path, by: str) -> None:
    """Replace FREE_TEXT in every file of a run, and mend the manifests."""
    for path in run.rglob("*.csv"):
        in_table(pd.read_csv(path, keep_default_na=False, dtype=str), by).to_csv(path, index=False)
    for path in run.rglob("*.parquet"):
        if (path.parent / "manifest.json").exists():  # else it is no input of the report
            identity = read_json(path.parent / "manifest.json")["identity"]
            write_table(path, in_table(read_table(path), by), identity)
    for path in run.rglob("*.json"):
        write_json(path, exchange(read_json(path), by))
    for path in run.rglob("manifest.json"):
        manifest = read_json(path)
        for name in manifest["files"]:
            file = path.parent / name
            manifest["files"][name] |= {"bytes": file.stat().st_size, "sha256": sha256_file(file)}
        write_json(path, manifest)


def with_prose(config: dict[str, Any], by: str) -> dict[str, Any]:
    """Return the config with free text wherever it may stand."""
    config = json.loads(json.dumps(config))
    for kind in ("datasets", "generators", "pools", "models", "arms"):
        for entry in config[kind].values():
            entry["description"] = by
    findings = {"column": "findings", "labels": config["models"]["cnn"]["targets"]}  # as strangers' tables name them
    covariates = {name: {"column": name, "kind": "category"} for name in ("sex", "age")}
    table = {"adapter": "table", "table": "x.csv", "patient_id": "p", "multilabel": findings, "covariates": covariates}
    for name, entry in config["datasets"].items():
        config["datasets"][name] = {"split": entry.get("split"), "licence": by, "description": by, **table}
    return config


def report(folder: Path, by: str) -> Path:
    run = make_run(folder)
    (run / "datasets" / "hospital_a" / "quarantine.csv").write_text("image,reason\nbroken.png,not readable\n")
    rewrite(run, by)
    figures = figures_job(run)
    draw_figures(type(figures)(**{**vars(figures), "slice": exchange(figures.slice, by)}))
    page = report_job(run)
    slice_ = exchange(page.slice, by)
    slice_["config"] = with_prose(slice_["config"], by)
    write_report(type(page)(**{**vars(page), "slice": slice_}))
    return page.outputs[0]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("synthgain.report.environment.commit", lambda folder: "0123456789ab")
        return report(tmp_path_factory.mktemp("plain"), "plain"), report(tmp_path_factory.mktemp("evil"), EVIL)


def test_not_one_element_or_attribute_comes_from_text(pages: tuple[Path, Path]) -> None:
    plain, evil = (Skeleton(page.read_text(encoding="utf-8")) for page in pages)
    assert evil.elements == plain.elements
    assert evil.drawn <= plain.drawn | {("tspan", "x", "y")}
    assert not any(name.startswith("on") for name, _ in evil.values)
    addresses = [value for name, value in evil.values if name in ("href", "src", "srcset", "xlink:href", "action")]
    assert addresses
    assert all(DATA.match(value) for value in addresses)
    said = "".join(evil.words)
    assert said.count(f"<script>{RUNS}</script>") > 20  # shown as text: labels, levels, notes, licences
    assert "{{7*7}}" in said


def test_the_check_would_see_an_unescaped_word(pages: tuple[Path, Path]) -> None:
    plain = pages[0].read_text(encoding="utf-8")
    assert Skeleton(plain.replace("</h1>", f"{EVIL}</h1>")).elements != Skeleton(plain).elements


def seen(folder: Path, page: Path) -> tuple[bool, list[str]]:
    """Return whether foreign code ran in Chromium, and what the console said."""
    done = open_page(folder, page.as_uri(), "--virtual-time-budget=4000", "--dump-dom")
    body = re.search(r"<body[^>]*>", done.stdout)
    assert body is not None
    return "data-pwned" in body[0], console(done)


def test_nothing_runs_in_a_browser_even_without_the_policy(pages: tuple[Path, Path], tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(with_script(pages[1], "</body>"), encoding="utf-8")
    assert seen(tmp_path, page) == (False, [])
    page.write_text(with_script(pages[1], f"<script>{RUNS}</script></body>"), encoding="utf-8")
    assert seen(tmp_path, page)[0], "the check would see it"


def test_the_policy_stops_what_escaping_would_miss(pages: tuple[Path, Path], tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    for code in (f"<script>{RUNS}</script>", f'<img src="data:," onerror="{RUNS}">'):
        page.write_text(pages[0].read_text(encoding="utf-8").replace("</body>", f"{code}</body>"), encoding="utf-8")
        ran, said = seen(tmp_path, page)
        assert not ran
        assert "Content Security Policy" in "".join(said)


def audited(by: str) -> str:
    counts = {"images": 2, "patients": 2, "classes": {by: {by: 2}}}
    duplicates = {"groups": 1, "listed": [{"images": [by, by]}]}
    near = {"pairs": 1, "threshold": 0.9, "listed": [{"first": by, "second": by, "similarity": 0.95, "crosses": True}]}
    masks = {"with_mask": 1, "without_mask": 1, "empty": 0, "full": 0, "vanished": 0, "wrong_size": 0}
    masks |= {"without_image": 1, "values": {by: 1}, "without_image_listed": [by], "area": {"median": 0.1}}
    number = dict.fromkeys(["known", "unknown", "min", "q1", "median", "q3", "max"], 1)
    facts = {
        "role": "test", "images": 2, "patients": 2, "split_unit": by, "quarantined": 1, "exact_duplicates": duplicates,
        "near_duplicates": near, "crossing": {"patients": 1, "exact_duplicates": 1, "near_duplicates": 1},
        "shape": [32, 32, 1], "sites": {by: 2}, "impossible_values": {by: 1}, "impossible_labels": {by: 1},
        "licence": by, "citation": by, "parts": {by: counts}, "notes": [by],
        "passed_over": {"count": 1, "listed": [by]}, "masks": {by: masks}, "numbers": {by: number},
        "quarantine": [{"image": by, "reason": by}],
    }  # fmt: skip
    film = {"first": by, "second": by, "similarity": 0.95, "how": by}
    pair = {"first": by, "second": by, "exact_duplicates": 1, "near_duplicates": None, "near_listed": [film]}
    between = [{**pair, "shared_patient_ids": 1, "equal_names": 1, "collection": by}]
    return audit_page({"datasets": {by: facts}, "between": between, "excluded": {by: [by]}}, {by: b"png"})


def test_the_audit_page_has_the_same_elements(tmp_path: Path) -> None:
    plain, evil = Skeleton(audited("plain")), Skeleton(audited(EVIL))
    assert evil.elements == plain.elements
    assert "".join(evil.words).count(RUNS) > 30
    assert not any(name.startswith("on") for name, _ in evil.values)
    assert ("http-equiv", "Content-Security-Policy") in evil.values  # the page has no script, and may have none
    assert "script-src" not in "".join(value for _, value in evil.values)


@pytest.mark.parametrize("by", ["x" * 100_000, "a\nb\nc", "\x00\x1b", "\u202e病院", "", "$\\frac{1}{2}$"], ids=ascii)
def test_any_caption_can_be_drawn(by: str) -> None:
    table = pd.DataFrame({"kind": [by, by, "other"]})
    sheet = contact_sheet(np.zeros((3, 8, 8, 1), np.uint8), table, ["kind"], np.random.default_rng(0), None)
    assert sheet.height < 300


def test_control_characters_in_a_label_leave_the_figure_readable() -> None:
    text = "<svg xmlns='http://www.w3.org/2000/svg'><text>a\x00\x1b\x0bb\ufffe</text></svg>"
    assert "a\ufffd\ufffd\ufffdb\ufffd" in inline_svg(text, "p", "l")


FORMULAS = ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1"]


@pytest.mark.parametrize("build", [plain_table, lambda title, table, file: make_table(title, table, [], file)])
def test_downloads_for_spreadsheets_hold_no_formula(build: Callable[..., Any]) -> None:
    table = pd.DataFrame({"text": [*FORMULAS, "-0.25", "+3", "plain", None], "number": [-1.5, *range(8)]})
    shown = pd.read_csv(io.StringIO(build("t", table, "t.csv").csv))
    assert shown["text"].tolist()[: len(FORMULAS)] == [f"'{text}" for text in FORMULAS]
    assert shown["text"].tolist()[len(FORMULAS) : -1] == ["-0.25", "+3", "plain"]
    assert shown["number"].tolist() == table["number"].tolist()
    assert table["text"].tolist()[:2] == FORMULAS[:2], "the table itself is as it was"
