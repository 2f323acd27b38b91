"""Planned looks, an unplanned one, and a ledger that was tampered with, in a whole tiny study."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from studies import tiny
from workshop import Workshop, new_workshop

from synthgain.runtime.files import read_json
from synthgain.runtime.ledger import NAME, read_ledger
from synthgain.runtime.protocols import read_protocols

pytestmark = [pytest.mark.slow, pytest.mark.workflow]
ARMS = {"real": {"real": "hospital_a"}, "supplemented": {"real": "hospital_a", "synthetic": "drawn", "ratios": [100]}}
LOOKS = {"count": 8, "looks": [4, 8], "per_job": 4}


def write(shop: Workshop, **changes: Any) -> None:
    """Two arms on a pool of known truth, nothing measured beside them; enough test patients for a p."""
    config = tiny(
        generators=...,
        datasets__hospital_a={
            "adapter": "phantom",
            "patients": 150,
            "seed": 1,
            "prevalence": {"opacity": 0.5},
            "split": {"train": 0.2, "validation": 0.1, "test": 0.7},
        },
        datasets__hospital_b=...,
        pools={"drawn": {"known": "label_shuffled", "rows_of": "hospital_a", "replicas": 1}},
        arms=ARMS,
        evaluate_on=["hospital_a"],
        evaluation={"fidelity": None, "memorisation": None, "label_consistency": False},
        **{"replicates": LOOKS, **changes},
    )
    (shop.folder / "tiny.yaml").write_text(yaml.safe_dump(config, sort_keys=False))


@pytest.fixture(scope="module")
def looked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workshop, str]:
    """The study after its first look, and what the call said."""
    shop = new_workshop(tmp_path_factory.mktemp("looked"))
    write(shop)
    return shop, shop.build()


def test_an_undecided_look_says_how_to_go_on_and_trains_nothing_beyond(looked: tuple[Workshop, str]) -> None:
    shop, said = looked
    run = shop.folder / "results" / "tiny"
    assert "report: results/tiny/look-1/report.html" in said
    assert "undecided at look 1 of 2 (4 replicates): run the same command to go on" in said
    assert not list((run / "downstream").rglob("1/manifest.json"))
    (line,) = read_ledger(run).entries
    assert (line["look"], line["replicates"], line["unplanned"]) == (1, 4, "")
    (protocol,), _ = read_protocols(run)
    assert (line["protocol"]["sha256"], protocol.results) == (protocol.sha256, 0)
    assert read_json(run / "statistics" / "look-1" / "cnn" / "manifest.json")["ledger"][0]["hash"] == line["hash"]
    plan = shop.plan()
    assert (plan["train_downstream"], plan["compare_arms"]) == (2, 1)
    assert "write_protocol" not in plan


def test_a_decided_look_ends_the_study(looked: tuple[Workshop, str], tmp_path: Path) -> None:
    """Only the ledger says so: with another verdict in its line, the same study has nothing to do."""
    shop = looked[0].copy(tmp_path)
    path = shop.folder / "results" / "tiny" / NAME
    path.write_text(path.read_text().replace('"decided":false', '"decided":true'))
    assert shop.plan() == {}


def test_tampering_and_unplanned_looks_are_named(looked: tuple[Workshop, str], tmp_path: Path) -> None:
    shop = looked[0].copy(tmp_path)
    run = shop.folder / "results" / "tiny"
    ledger = (run / NAME).read_bytes()
    (run / NAME).unlink()
    said = shop.snakemake("--cores", "1", "verify", "--quiet", "all", check=False)
    assert "line 1, of which statistics/look-1/cnn was written, is not there any more" in said
    (run / NAME).write_bytes(ledger)
    shutil.copytree(run, tmp_path / "kept")
    write(shop, replicates={"count": 6, "per_job": 4})
    shop.build()
    verdict = read_json(run / "statistics" / "cnn" / "verdict.json")
    assert verdict["verdict"] == "unplanned look"
    assert verdict["reason"] == "6 replicates, where looks were planned at 4 and 8"
    assert verdict["primary"]["p"] == read_ledger(run).entries[-1]["p"]
    page = (run / "report.html").read_text()
    for text in (
        "unplanned look",
        "1 of 2 planned, 1 unplanned",
        "replicates.count 8, now 6",
        "Deviations from protocol 1",
    ):
        assert text in page, text
    assert [protocol.number for protocol in read_protocols(run)[0]] == [1, 2]
    lines = [json.loads(line) for line in (run / NAME).read_text().splitlines()]
    assert [bool(line["unplanned"]) for line in lines] == [False, True]
