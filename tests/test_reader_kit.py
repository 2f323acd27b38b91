"""A reader kit: nothing in it tells, a whole reading in a browser, answers come back whole or are refused by name."""

import base64
import http.server
import io
import json
import re
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import PIL.Image
import pytest
from test_report_browser import console, open_page

from synthgain.data.image_set import ImageStore
from synthgain.readers.encoding import stored_png
from synthgain.readers.items import choose, sequence
from synthgain.readers.kit import FACTS, KEY, SECRET, Shown, read_kit, write_kit
from synthgain.readers.options import Panel
from synthgain.readers.questions import questions_of
from synthgain.readers.ratings import missing_answers, ratings, read_answers
from synthgain.readers.sealing import chain_start, chained, closing_code, commitment, reader_token
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import read_table, write_table

SIZE = 24
PANEL = Panel.model_validate(
    {
        "items": {"real": {"hospital_a": 12}, "pools": {"sampled": 8, "copied": 4}},
        "questions": ["quality", "finding", "mask_fit", "prompt_fit", "realism"],
        "findings": ["opacity"],
        "structures": ["lungs"],
        "scales": {"quality": {"low": 0, "high": 5}},
        "readers": 2,
        "common": 0.5,
        "repeats": 0.25,
    }
)


def shown(count: int, prefix: str, smooth: bool, parents: int | None = None) -> Shown:
    """Images of `count` patients; of a pool the parents are patients of hospital_a."""
    rng = np.random.default_rng(len(prefix) + count)
    noise = rng.integers(0, 256, (count, SIZE, SIZE, 1), dtype=np.uint8)
    flat = np.broadcast_to(np.linspace(0, 255, SIZE).astype(np.uint8)[None, :, None, None], noise.shape)
    table = pd.DataFrame(
        {
            "image_id": [f"{prefix}_{i}" for i in range(count)],
            "patient_id": [f"patient_{i}" for i in range(count)],
            "opacity": np.arange(count) % 2,
            "prompt": [f"Film {'with' if i % 2 else 'without'} opacity <b>" for i in range(count)],
        }
    )
    if parents is not None:
        table["parent_patient_id"] = [f"patient_{i % parents}" for i in range(count)]
    masks = (rng.random((count, SIZE, SIZE, 1)) > 0.5).astype(np.uint8)
    return Shown(table, ImageStore([np.array(flat if smooth else noise)]), ImageStore([masks]), ["lungs"])


REAL = {"hospital_a": shown(90, "film", smooth=False)}
POOLS = {"sampled": shown(60, "made", smooth=True, parents=30), "copied": shown(40, "copy", smooth=True, parents=40)}


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kits") / "reader_kit-panel-0123"
    write_kit(folder, "panel", PANEL, REAL, POOLS, seed=1)
    return folder


def data_of(page: Path) -> dict:
    found = re.search(
        r'<script type="application/json" id="data">(.*?)</script>', page.read_text(encoding="utf-8"), re.S
    )
    assert found is not None
    return json.loads(found.group(1))


def test_equal_shapes_have_equal_lengths_and_the_pixels_come_back() -> None:
    rng = np.random.default_rng(0)
    for channels in (1, 3):
        noisy = rng.integers(0, 256, (31, 17, channels), dtype=np.uint8)
        flat = np.zeros_like(noisy)
        assert len(stored_png(noisy)) == len(stored_png(flat))
        with PIL.Image.open(io.BytesIO(stored_png(noisy))) as image:
            np.testing.assert_array_equal(np.asarray(image).reshape(noisy.shape), noisy)


def test_no_patient_twice_and_no_parent_with_its_child() -> None:
    rng = np.random.default_rng(2)
    chosen = choose(PANEL, {n: s.table for n, s in REAL.items()}, {n: s.table for n, s in POOLS.items()}, rng)
    assert not chosen["patient_id"].duplicated().any()
    for reader in (1, 2):
        seen = chosen[chosen["for"].isin([0, reader])]
        assert seen.groupby("source").size().to_dict() == {"hospital_a": 12, "sampled": 8, "copied": 4}
    assert (chosen["for"] == 0).sum() == 12


def test_real_images_have_the_findings_of_the_synthetic_ones() -> None:
    pools = {name: pool.table.assign(opacity=1) for name, pool in POOLS.items()}
    chosen = choose(PANEL, {n: s.table for n, s in REAL.items()}, pools, np.random.default_rng(2))
    real = chosen[chosen["origin"] == "real"]
    assert REAL["hospital_a"].table["opacity"].iloc[real["row"]].eq(1).all()


def test_too_few_patients_is_one_line() -> None:
    few = {"sampled": shown(60, "made", smooth=True, parents=8).table, "copied": POOLS["copied"].table}
    with pytest.raises(SynthGainError, match=r"items\.pools\.sampled: 12 images are asked for, and 8 patients"):
        choose(PANEL, {"hospital_a": REAL["hospital_a"].table}, few, np.random.default_rng(0))


def test_repeats_come_late() -> None:
    items = [f"{i:02d}" for i in range(40)]
    order = sequence(items, 0.25, np.random.default_rng(1))
    assert sum(again for _, again in order) == 10
    first = {item: place for place, (item, again) in enumerate(order) if not again}
    assert all(place - first[item] >= 10 for place, (item, again) in enumerate(order) if again)


def test_a_page_holds_nothing_that_tells(kit: Path) -> None:
    facts, secret, key = read_kit(kit)
    for page in facts["pages"].values():
        text = (kit / page).read_text(encoding="utf-8")
        told = [
            *key["image_id"],
            *key["patient_id"],
            "hospital_a",
            "sampled",
            "copied",
            secret["secret"],
            secret["nonce"],
        ]
        assert [word for word in map(str, told) if word in text] == []
        assert [word for word in ("http://", "https://", "parent", "origin") if word in text.replace('"kit"', "")] == []
        for item in data_of(kit / page)["items"].values():
            with PIL.Image.open(io.BytesIO(base64.b64decode(item["image"].split(",")[1]))) as image:
                assert image.info == {}
                assert image.mode == "L"


# What somebody who looks into a page may hold against an image without looking at it.
def clues(data: dict, item: str, phase: str, place: int, repeat: bool) -> list[float]:
    content, names = data["items"][item], list(data["items"])
    pages = [base64.b64decode(address.split(",")[1]) for address in (content["image"], *content["masks"].values())]
    chunks = [float(png.count(name)) for png in pages for name in (b"IHDR", b"IDAT", b"tEXt", b"tIME", b"pHYs")]
    heads = [float(int.from_bytes(png[16:29], "big") % 2**31) for png in pages]  # IHDR
    streams = [float(int.from_bytes(png[41:46], "big") % 2**31) for png in pages]  # how the first block is stored
    lengths = [float(len(png)) for png in pages] + [float(len(content["image"])), float(len(content["prompt"]))]
    order = [float(sorted(content).index(key)) for key in content]
    seen = [entry[0] for entry in data["phases"][phase]]
    digits = [float(int(item[start : start + 4], 16)) for start in range(0, 16, 4)]
    places = [float(place), float(names.index(item)), float(seen.count(item)), float(repeat)]
    return [*chunks, *heads, *streams, *lengths, *order, *digits, *places]


@pytest.mark.parametrize("kind", ["linear", "forest"])
def test_nothing_but_the_pixels_tells_real_from_synthetic_better_than_chance(kind: str, large: tuple) -> None:
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from synthgain.statistics.delong import components, covariance

    data, synthetic = large
    rows, truth, owner = [], [], []
    for phase in ("1", "2"):
        for place, (item, repeat) in enumerate(data["phases"][phase]):
            rows.append(clues(data, item, phase, place, repeat))
            truth.append(float(synthetic[item]))
            owner.append(item)
    made = {
        "linear": make_pipeline(StandardScaler(), LogisticRegression()),
        "forest": RandomForestClassifier(60, min_samples_leaf=5, random_state=0),
    }
    groups = pd.factorize(pd.Series(owner))[0]
    scores = cross_val_predict(
        made[kind], np.array(rows), np.array(truth), groups=groups, cv=GroupKFold(5), method="predict_proba"
    )
    parts = components(np.array(truth), scores[None, :, 1], groups, groups.max() + 1)
    half = 1.96 * np.sqrt(covariance([parts])[0, 0])
    assert abs(parts.auroc[0] - 0.5) <= half + 0.02, parts.auroc
    assert half < 0.1
    assert len({len(data["items"][item]["image"]) for item in data["items"]}) == 1


def test_the_clues_find_a_compressed_encoder(large: tuple) -> None:
    """The hunt itself can fail: with compressed PNGs the length alone tells."""
    data, synthetic = large
    lengths = {}
    for item, content in data["items"].items():
        with PIL.Image.open(io.BytesIO(base64.b64decode(content["image"].split(",")[1]))) as image:
            file = io.BytesIO()
            image.save(file, "PNG")
        lengths[item] = len(file.getvalue())
    of_synthetic = [length for item, length in lengths.items() if synthetic[item]]
    of_real = [length for item, length in lengths.items() if not synthetic[item]]
    assert max(of_synthetic) < min(of_real)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, dict[str, bool]]:
    """The data of a reader's page of 300 images, and which of them are synthetic."""
    panel = Panel.model_validate(
        {
            "items": {"real": {"hospital_a": 150}, "pools": {"sampled": 150}},
            "questions": ["quality", "mask_fit", "prompt_fit", "realism"],
            "structures": ["lungs"],
            "readers": 2,
            "common": 0.5,
        }
    )
    real, pools = shown(700, "film", smooth=False), shown(700, "made", smooth=True, parents=350)
    folder = tmp_path_factory.mktemp("large") / "kit"
    write_kit(folder, "panel", panel, {"hospital_a": real}, {"sampled": pools}, seed=3)
    facts, _, key = read_kit(folder)
    data = data_of(folder / facts["pages"]["reader_1"])
    return data, key.set_index("item")["origin"].eq("synthetic").to_dict()


def test_a_kit_is_never_overwritten(kit: Path) -> None:
    before = {path.name: path.read_bytes() for path in kit.iterdir()}
    with pytest.raises(SynthGainError, match="never overwritten"):
        write_kit(kit, "panel", PANEL, REAL, POOLS, seed=1)
    assert {path.name: path.read_bytes() for path in kit.iterdir()} == before


def test_the_secret_is_for_its_owner_alone(kit: Path) -> None:
    assert (kit / SECRET).stat().st_mode & 0o077 == 0


def test_another_key_is_noticed(kit: Path, tmp_path: Path) -> None:
    for name in (KEY, SECRET, FACTS):
        (tmp_path / name).write_bytes((kit / name).read_bytes())
    table = read_table(tmp_path / KEY)
    write_table(tmp_path / KEY, table.assign(origin="real"))
    with pytest.raises(SynthGainError, match="not the key"):
        read_kit(tmp_path)


# Reads all images by the keyboard, reloads the page in the middle and catches what it exports.
DRIVER = """<script>
addEventListener("load", async () => {
  const wait = () => new Promise(done => setTimeout(done, 4));
  const press = key => document.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true}));
  const files = [], make = URL.createObjectURL;
  URL.createObjectURL = blob => { files.push(blob.text()); return make(blob); };
  HTMLAnchorElement.prototype.click = () => {};
  let told = 0;
  for (let round = 0; round < 20000; round++) {
    await wait();
    if (!at("reading").hidden) {
      if (!picture) continue;
      if (state.phase === 1 && /synthetic/i.test(document.body.innerText)) told += 1;
      if (state.position === 3 && !sessionStorage.copy) { at("copy").click(); sessionStorage.copy = await files.pop(); }
      if (state.phase === 1 && state.position === 6 && !sessionStorage.reloaded) {
        press("1"); sessionStorage.reloaded = "1"; location.reload(); return;
      }
      press("+"); press("ArrowLeft"); press("w"); press("e"); press("o"); press("r");
      press("9"); press("3"); press("Backspace");
      for (const {low, high} of questions()) press(String(low + (state.position % (high - low + 1))));
      press("Enter");
    } else if (state.phase === 3) break;
    else document.activeElement.click();
  }
  for (const button of document.querySelectorAll("#text button")) button.click();
  const [answers, csv] = await Promise.all(files);
  const code = document.querySelector(".code").textContent;
  document.body.dataset.found = JSON.stringify({answers, csv, told, code, ...sessionStorage});
});
</script></body>"""


@pytest.fixture(scope="module")
def reading(kit: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, list[str], list[str]]:
    """What the driver found, what was asked of the server, what the console said."""
    folder = tmp_path_factory.mktemp("reading")
    page = (kit / "panel-reader_1.html").read_text(encoding="utf-8")
    (folder / "page.html").write_text(page.replace("</body>", DRIVER), encoding="utf-8")
    asked: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments, directory=str(folder))  # type: ignore[arg-type]

        def log_message(self, *arguments: object) -> None:
            asked.append(self.path)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/page.html"
        done = open_page(folder, address, "--virtual-time-budget=120000", "--dump-dom")
        server.shutdown()
    found = re.search(r'data-found="([^"]*)"', done.stdout)
    assert found is not None, (done.stdout[-1500:], console(done))
    text = found.group(1).replace("&quot;", '"').replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    return json.loads(text), asked, console(done)


def test_a_whole_reading_by_the_keyboard(reading: tuple[dict, list[str], list[str]], kit: Path, tmp_path: Path) -> None:
    found, asked, said = reading
    assert said == []
    assert asked == ["/page.html", "/page.html"]  # the page, and the page again
    assert found["reloaded"] == "1"
    assert found["told"] == 0  # phase 1 never says that an image may be synthetic
    (tmp_path / "a.json").write_text(found["answers"], encoding="utf-8")
    sent = read_answers(tmp_path / "a.json")
    facts, secret, key = read_kit(kit)
    table = ratings(PANEL, facts, secret, key, {"a.json": sent})
    assert sent.finished
    assert sent.code == found["code"]
    assert len(found["csv"].splitlines()) == 1 + len(table)
    counts = missing_answers(PANEL, secret, table).set_index("reader")
    assert counts.loc["reader_1", "answered"] == counts.loc["reader_1", "asked"] == 30 * 5
    assert counts.loc["reader_2", "answered"] == 0
    (tmp_path / "copy.json").write_text(found["copy"], encoding="utf-8")
    copy = read_answers(tmp_path / "copy.json")
    assert not copy.finished
    assert len(ratings(PANEL, facts, secret, key, {"copy.json": copy})) == 3 * 4
    quality = table[table["question"] == "quality"].sort_values("position")
    np.testing.assert_array_equal(quality["value"], np.arange(30) % 6)


def chained_answers(kit: Path, reader: str, panel: Panel, value: Callable[[str, str], int]) -> dict:
    """Answers of a reader as a page would export them; value: of item and question."""
    facts, secret, _ = read_kit(kit)
    last = chain_start(facts["kit"], reader, reader_token(secret["secret"], facts["kit"], reader))
    rows = []
    for phase in (1, 2):
        for position, (item, repeat) in enumerate(secret["orders"][reader][str(phase)]):
            for question in (q for q in questions_of(panel) if q.phase == phase):
                record = (phase, position, item, repeat, question.name, value(item, question.name), 900)
                last = chained(last, record)
                names = ("phase", "position", "item", "repeat", "question", "value", "milliseconds")
                rows.append({**dict(zip(names, record, strict=True)), "digest": last})
    code = closing_code(last)
    return {"panel": "panel", "kit": facts["kit"], "reader": reader, "finished": True, "code": code, "answers": rows}


def answered(kit: Path, reader: str, until: int | None = None) -> dict:
    """A reader who always gives the lowest answer, whole or until some answer."""
    lowest = {question.name: question.low for question in questions_of(PANEL)}
    whole = chained_answers(kit, reader, PANEL, lambda item, question: lowest[question])
    rows = whole["answers"][:until]
    return {**whole, "finished": until is None, "code": closing_code(rows[-1]["digest"]), "answers": rows}


def taken(kit: Path, tmp_path: Path, panel: Panel = PANEL, **files: dict) -> pd.DataFrame:
    read = {}
    for name, content in files.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
        read[f"{name}.json"] = read_answers(tmp_path / f"{name}.json")
    return ratings(panel, *read_kit(kit), read)


def test_whole_and_unfinished_answers_are_taken(kit: Path, tmp_path: Path) -> None:
    table = taken(kit, tmp_path, a=answered(kit, "reader_1"), b=answered(kit, "reader_2", until=40))
    assert table.groupby("reader").size().to_dict() == {"reader_1": 150, "reader_2": 40}


def _changed(content: dict) -> dict:
    content["answers"][5]["value"] += 1
    return content


def _swapped(content: dict) -> dict:
    return {**content, "reader": "reader_2"}


def _of_another_kit(content: dict) -> dict:
    return {**content, "kit": "0" * 16}


def _without_one(content: dict) -> dict:
    del content["answers"][3]
    return content


def _cut(content: dict) -> dict:
    return {**content, "answers": content["answers"][:-5]}


def _unknown(content: dict) -> dict:
    return {**content, "reader": "reader_9"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_changed, r"a\.json: answer 6 .* was changed after it was given"),
        (_swapped, r"a\.json: answer 1 .* another reader's"),
        (_of_another_kit, r"a\.json: answers to kit 0{16}"),
        (_without_one, r"a\.json: answer 4 "),
        (_cut, r"a\.json: answers are missing at its end"),
        (_unknown, r"a\.json: 'reader_9' is no reader"),
    ],
    ids=["changed", "swapped reader", "another kit", "one taken out", "cut", "unknown reader"],
)
def test_tampered_answers_are_refused_by_name(change, said: str, kit: Path, tmp_path: Path) -> None:
    with pytest.raises(SynthGainError, match=said):
        taken(kit, tmp_path, a=change(answered(kit, "reader_1")))


def _typed_anew(content: dict, change: Callable[[list[dict]], None], kit: Path) -> dict:
    """Answers changed by somebody who has the reader's page, and chains them anew."""
    facts, secret, _ = read_kit(kit)
    rows, reader = content["answers"], content["reader"]
    change(rows)
    last = chain_start(facts["kit"], reader, reader_token(secret["secret"], facts["kit"], reader))
    for row in rows:
        last = row["digest"] = chained(last, [value for name, value in row.items() if name != "digest"])
    return {**content, "code": closing_code(last)}


def _off_the_scale(rows: list[dict]) -> None:
    rows[4]["value"] = 9


def _twice(rows: list[dict]) -> None:
    rows.insert(5, dict(rows[4]))


def _other_order(rows: list[dict]) -> None:
    rows[0]["position"] = 3


def _of_the_other_phase(rows: list[dict]) -> None:
    rows[0]["question"] = "realism"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_off_the_scale, r"a\.json: phase 1, image 2, \S+: 9 is outside 1 to 5|9 is outside 0 to 5"),
        (_twice, r"a\.json: phase 1, image 2, \S+: answered twice"),
        (_other_order, r"a\.json: phase 1, image 4, quality: was not asked in reader_1's page"),
        (_of_the_other_phase, r"a\.json: phase 1, image 1, realism: was not asked"),
    ],
    ids=["off the scale", "twice", "another order", "other phase"],
)
def test_answers_that_were_never_possible_are_refused_though_chained_anew(
    change, said: str, kit: Path, tmp_path: Path
) -> None:
    with pytest.raises(SynthGainError, match=said):
        taken(kit, tmp_path, a=_typed_anew(answered(kit, "reader_1"), change, kit))


def _with(**changes: object) -> Callable[[dict], dict]:
    return lambda content: {**content, **changes}


def _first(**changes: object) -> Callable[[dict], dict]:
    return lambda content: {**content, "answers": [{**content["answers"][0], **changes}, *content["answers"][1:]]}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_with(format=2), "written by a page of format 2, and this SynthGain reads 1"),
        (_with(format=0), "written by a page of format 0, and this SynthGain reads 1"),
        (_with(panel="other"), "says panel 'other', and kit [0-9a-f]{16} is of 'panel'"),
        (_with(version=2), "not answers of a reader's page, or changed since .version: "),
        (_with(reader="Reader_1"), "'Reader_1' is no reader of kit"),
        (_with(reader="reader_1\n"), "reader: String should match"),
        (_with(kit="x\ny"), "kit: String should match"),
        (_with(code="none"), "code: String should match"),
        (_with(**{"no\nline": 1}), r"no\\nline: Extra inputs"),
        (_first(value=3.0), r"answers\.0\.value"),
        (_first(value=True), r"answers\.0\.value"),
        (_first(value="3"), r"answers\.0\.value"),
        (_first(value=None), r"answers\.0\.value"),
        (_first(milliseconds=-5), r"answers\.0\.milliseconds"),
        (_first(item="../../etc"), r"answers\.0\.item"),
        (_first(note="mine"), r"answers\.0\.note"),
    ],
    ids=range(16),
)
def test_a_file_that_no_page_wrote_is_refused_in_one_line(change, said: str, kit: Path, tmp_path: Path) -> None:
    with pytest.raises(SynthGainError, match=said) as caught:
        taken(kit, tmp_path, a=change(answered(kit, "reader_1")))
    assert "\n" not in str(caught.value)
    assert "a.json: " in str(caught.value)


def test_a_file_cut_short_and_one_with_a_mark_in_front(kit: Path, tmp_path: Path) -> None:
    text = json.dumps(answered(kit, "reader_1"))
    (tmp_path / "a.json").write_text(text[: len(text) // 2], encoding="utf-8")
    with pytest.raises(SynthGainError, match=r"a\.json: not valid JSON .*; ask the reader to export again"):
        read_answers(tmp_path / "a.json")
    (tmp_path / "a.json").write_text(text, encoding="utf-8-sig")
    assert ratings(PANEL, *read_kit(kit), {"a.json": read_answers(tmp_path / "a.json")}).shape[0] == 150


def test_a_reader_who_saved_before_the_first_image_has_no_answers(kit: Path, tmp_path: Path) -> None:
    facts, secret, _ = read_kit(kit)
    start = chain_start(facts["kit"], "reader_1", reader_token(secret["secret"], facts["kit"], "reader_1"))
    none = {**answered(kit, "reader_1", until=1), "answers": [], "code": closing_code(start)}
    table = taken(kit, tmp_path, a=none, b=answered(kit, "reader_2"))
    assert set(table["reader"]) == {"reader_2"}
    with pytest.raises(SynthGainError, match=r"no answers of readers were found \(a\.json\)"):
        taken(kit, tmp_path, a=none)


@pytest.mark.parametrize("name", [FACTS, SECRET, KEY])
@pytest.mark.parametrize("content", [None, b"", b"{}"], ids=["gone", "empty", "hollow"])
def test_a_damaged_kit_is_one_line_that_does_not_advise_to_make_it_again(
    name: str, content: bytes | None, kit: Path, tmp_path: Path
) -> None:
    for one in (KEY, SECRET, FACTS):
        (tmp_path / one).write_bytes((kit / one).read_bytes())
    if content is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_bytes(content)
    fault = "missing" if content is None else "damaged"
    with pytest.raises(SynthGainError, match=rf"{name}: {fault}; a kit cannot be made again: restore its folder"):
        read_kit(tmp_path)


def test_a_key_changed_together_with_its_seal_is_noticed(kit: Path, tmp_path: Path) -> None:
    for name in (KEY, SECRET, FACTS):
        (tmp_path / name).write_bytes((kit / name).read_bytes())
    write_table(tmp_path / KEY, read_table(tmp_path / KEY).assign(origin="real"))
    nonce = json.loads((tmp_path / SECRET).read_text())["nonce"]
    facts = json.loads((tmp_path / FACTS).read_text())
    facts["key_sha256"] = commitment((tmp_path / KEY).read_bytes(), nonce)
    (tmp_path / FACTS).write_text(json.dumps(facts))
    with pytest.raises(SynthGainError, match="not the key"):
        read_kit(tmp_path)


def test_the_same_reader_twice_is_refused_by_name(kit: Path, tmp_path: Path) -> None:
    with pytest.raises(SynthGainError, match=r"b\.json: reader_1's answers are in a\.json already"):
        taken(kit, tmp_path, a=answered(kit, "reader_1"), b=answered(kit, "reader_1"))


def test_another_code_than_the_reader_reported_is_refused(kit: Path, tmp_path: Path) -> None:
    panel = PANEL.model_copy(update={"codes": {"reader_1": "0000-0000-0000-0000"}})
    with pytest.raises(SynthGainError, match="reader_1 reported 0000"):
        taken(kit, tmp_path, panel, a=answered(kit, "reader_1"))


@pytest.mark.parametrize("text", ["{", '{"kit": 1}', "[]", "[" * 100_000, "\x00"], ids=range(5))
def test_a_file_that_is_none_is_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(text, encoding="utf-8")
    with pytest.raises(SynthGainError, match=r"a\.json: ") as caught:
        read_answers(tmp_path / "a.json")
    assert "\n" not in str(caught.value)


def test_questions_must_have_what_they_ask_about() -> None:
    items = {"real": {"a": 5}, "pools": {"b": 5}}
    for extra, said in (
        ({"questions": ["finding"]}, "needs findings"),
        ({"questions": ["quality"], "structures": ["lungs"]}, "is not asked"),
        ({"scales": {"finding": {"low": 0, "high": 3}}}, "is not asked"),
        ({"codes": {"reader_9": "0000-0000-0000-0000"}}, "reader_1 to reader_5"),
        ({"questions": ["quality", "quality"]}, "given twice"),
    ):
        with pytest.raises(ValueError, match=said):
            Panel.model_validate({"items": items, **extra})
