"""One run of the real Snakemake where folder, data root, table and config try to reach the shell."""

import os
from pathlib import Path

import pytest
import yaml
from studies import tiny
from test_untrusted_tables import HOSTILE, hostile_table, readable
from workshop import Workshop, new_workshop

from synthgain.data.image_set import read_image_set

FOLDER = "a b; touch pwned $(touch pwned) `touch pwned` 'q \"d *"  # Snakemake itself fails in a folder with braces
PROSE = "$(touch pwned); touch pwned `touch pwned` ' \" {params.job} {{x}} \\ \n%s"
YAML_TEXT = [text for text in HOSTILE if readable(text) and "\n" not in text and len(text) < 100]


def pwned(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.name.startswith("pwned")]


@pytest.mark.workflow
def test_the_shell_sees_nothing_of_names_values_and_prose(tmp_path: Path) -> None:
    workshop = new_workshop(_made(tmp_path / FOLDER))
    root = _made(tmp_path / FOLDER / "data $(touch pwned); x")
    options = hostile_table(root)
    # A config that holds what no screen shows as it is (here U+FEFF) is refused: tests/test_untrusted_config.py.
    texts = [text for text in YAML_TEXT if "\ufeff" not in text]
    levels = {"kind": "category", "levels": texts}
    clinic = {
        **options,
        "adapter": "table",
        "description": PROSE,
        "licence": PROSE,
        "targets": {"opacity": {"column": "sex", "map": {text: row % 2 for row, text in enumerate(texts)}}},
        "covariates": {"sex": {"column": "sex", **levels}},
        "constants": {"view": PROSE},
        "where": {"site": texts},
        "max_quarantined_share": 1.0,
    }
    config = tiny(datasets__clinic=clinic, title=PROSE, description=PROSE, arms__real__description=PROSE)
    config["datasets"]["hospital_a"].update(patients=20, licence=PROSE)
    config["datasets"]["hospital_b"].update(patients=20)
    config["evaluate_on"].append("clinic")
    (workshop.folder / "tiny.yaml").write_text(yaml.safe_dump(config, allow_unicode=True))
    data = os.path.relpath(root, workshop.folder)
    workshop.snakemake("--cores", "2", "--printshellcmds", "audit", data=data)
    run = workshop.folder / "results/tiny"
    table = read_image_set(run / "datasets/clinic").table
    assert set(table["site"]) == set(texts)
    assert set(table["view"]) == {PROSE}
    assert (run / "audit/audit.html").exists()
    assert pwned(tmp_path) == []
    for name in ("../../x; rm", "$(touch pwned)", "a b", "x\nrm"):
        _refused(workshop, name, data)
    assert pwned(tmp_path) == []
    assert sorted(path.name for path in (workshop.folder / "results").iterdir()) == ["tiny"]


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def _refused(workshop: Workshop, name: str, data: str) -> None:
    (workshop.folder / "bad.yaml").write_text(yaml.safe_dump(tiny(study=name)))
    said = workshop.snakemake("--cores", "1", "--dry-run", study="bad.yaml", data=data, check=False)
    lines = [line for line in said.splitlines() if "is not a name: small letters, digits and _" in line]
    assert len(lines) == 1, said[-2000:]
    assert "Traceback" not in said
