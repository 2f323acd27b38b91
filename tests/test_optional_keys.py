"""Whatever is optional in a study may be left out, or be null: it is refused in one line, or planned and reported."""

import copy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image
from pydantic import BaseModel
from simulated_run import make_run, report_job
from studies import tiny

from synthgain.datasets import table
from synthgain.report.blocks import Text
from synthgain.report.evidence import Evidence, gather
from synthgain.report.sections.checklist import known_facts
from synthgain.report.sections.methods import methods
from synthgain.report.sections.study import study_sections
from synthgain.report.sections.utility import utility_sections
from synthgain.report.sections.verdicts import headlines
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import write_text
from synthgain.speed.documents import SizeSource
from synthgain.speed.sizes import dataset_sizes
from synthgain.study.code import CodeDigests
from synthgain.study.load import parse_study
from synthgain.study.planner import Planner
from synthgain.study.schema import Study
from synthgain.study.stages.table import STAGES

ROOT = Path(__file__).parent.parent
CLINIC = {
    "adapter": "table",
    "table": "clinic/metadata.csv",
    "patient_id": "patient",
    "site": {"constant": "clinic"},
    "mask": [{"column": "mask", "name": "lungs", "value": 1, "allowed": [1, 2]}],
    "targets": {
        "opacity": {"column": "label", "map": {"yes": 1, "no": 0}, "uncertain": {"value": "?", "policy": "zero"}}
    },
    "covariates": {"age": {"column": "age", "kind": "continuous", "bins": [0, 50, 100], "range": [0, 120]}},
}
CLASSES = {
    "datasets__clinic": CLINIC,
    "datasets__published": {"adapter": "medmnist", "name": "pneumoniamnist", "cache": "mnist"},
    "evaluate_on": ["hospital_a", "hospital_b", "clinic"],
    "generators__gan": {
        "family": "gan",
        "train_on": {"datasets": ["hospital_a"]},
        "training": {"steps": 4, "batch_size": 8, "r1_gamma": 1.0},
    },
    "generators__tuned": {
        "family": "diffusion",
        "train_on": {"datasets": ["hospital_a"]},
        "formulation": {"kind": "v_prediction", "zero_terminal_snr": False, "min_snr_gamma": 5.0},
        "training": {"steps": 4, "batch_size": 8},
        "init_from": "ddpm",
    },
    "pools__drawn__sampling": {"guidance_scale": 1.5, "guidance_interval": [0.1, 2.0]},
    "pools__drawn__snapshot": 3,
    "pools__from_gan": {"from": "gan", "rows_of": "hospital_a"},
    "pools__even": {"from": "tuned", "rows_of": "hospital_a", "balance": {"opacity": 0.5}, "shuffled": True},
    "pools__copies": {"known": "copier", "known_options": {}, "rows_of": "hospital_a"},
    "pools__clean": {"of": "drawn", "filter": {"scores": "memorisation", "column": "flagged", "keep": "false"}},
    "pools__sure": {"of": "drawn", "filter": {"scores": "label_consistency", "column": "agreement", "threshold": 0.5}},
    "pools__thin": {"of": "drawn", "thin_to": "clean"},
    "pools__bought": {"imported": {"table": "bought/metadata.csv"}},
    "arms__half": {"real": "hospital_a", "real_fraction": 0.5, "baseline": "real"},
    "arms__evened": {"real": "hospital_a", "balance": {"mode": "oversample", "targets": {"opacity": 0.5}}},
    "arms__cleaned": {"real": "hospital_a", "synthetic": "clean", "ratios": [50]},
    "arms__first": {"real": "hospital_a", "synthetic": "drawn", "ratios": [100], "pretrain": {"share": 0.5}},
    "arms__shares": {
        "real": "hospital_a", "synthetic": "drawn", "ratios": [100], "mixing": {"mode": "fixed_share", "share": 0.5},
    },
    "arms__siblings": {"real": "hospital_a", "synthetic": "drawn", "ratios": [100], "sibling_probability": 0.5},
    "arms__ganned": {"real": "hospital_a", "synthetic": "from_gan", "ratios": [100]},
    "models__cnn__network": {"name": "small_cnn", "width": 8},
    "models__cnn__augmentation": {"standard": {"rotation": 5}, "strong": {"rotation": 9}},
    "analysis__subgroups": ["sex"],
    "evaluation__snapshots": True,
    "evaluation__pools": ["drawn", "from_gan"],
}  # fmt: skip
MASKS = {
    "generators__ddpm": {
        "family": "diffusion",
        "output": "image+mask",
        "structures": ["lungs"],
        "train_on": {"datasets": ["hospital_a"]},
        "training": {"steps": 4, "batch_size": 8},
    },
    "generators__shapes": {
        "family": "diffusion",
        "output": "mask",
        "structures": ["lungs"],
        "train_on": {"datasets": ["hospital_a"]},
        "training": {"steps": 4, "batch_size": 8},
    },
    "generators__dressed": {
        "family": "diffusion",
        "condition_on": ["mask"],
        "structures": ["lungs"],
        "train_on": {"datasets": ["hospital_a"]},
        "training": {"steps": 4, "batch_size": 8},
    },
    "pools__inside": {
        "from": "ddpm", "rows_of": "hospital_a", "inpainting": {"structure": "lungs", "jump_length": 1},
    },
    "pools__moved": {
        "from": "dressed", "rows_of": "hospital_a", "masks": {"source": "transformed", "transform": {"rotation": 5}},
    },
    "pools__shaped": {"from": "dressed", "rows_of": "hospital_a", "masks": {"source": "generated", "from": "shapes"}},
    "pools__agreeing": {"of": "drawn", "filter": {"scores": "mask_agreement", "column": "dice", "quantile": 0.5}},
    "models__cnn": {"task": "segmentation", "structures": ["lungs"], "network": "unet", "steps": 4, "window": 16},
    "analysis__primary__metric": "dice",
    "analysis__margin": 0.03,
    "analysis__margin_reason": "less than two readers differ by",
}  # fmt: skip
STUDIES = {"classes": tiny(**CLASSES), "masks": tiny(**MASKS)}

Path_ = tuple[str | int, ...]


def optional_keys(entry: Any, path: Path_ = ()) -> Iterator[Path_]:
    """Every key with a default of a config entry and of all below it, as the user writes them."""
    if isinstance(entry, BaseModel):
        for name, field in type(entry).model_fields.items():
            here = (*path, field.alias or name)
            if not field.is_required():
                yield here
            yield from optional_keys(getattr(entry, name), here)
    elif isinstance(entry, dict):
        for name, value in entry.items():
            yield from optional_keys(value, (*path, name))
    elif isinstance(entry, list):
        for place, value in enumerate(entry):
            yield from optional_keys(value, (*path, place))


def keys_of(study: str) -> list[Path_]:
    """Of keys that many entries have with one value, the first."""
    parsed = parse_study(copy.deepcopy(STUDIES[study]))
    found: dict[str, Path_] = {}
    for path in optional_keys(parsed):
        holder: Any = parsed
        for key in path[:-1]:
            holder = holder[key] if isinstance(holder, dict | list) else getattr(holder, field_name(holder, key))
        value = getattr(holder, field_name(holder, path[-1]))
        found.setdefault(f"{type(holder).__name__} {path[-1]} {value!r}", path)
    return list(found.values())


def field_name(entry: BaseModel, key: str | int) -> str:
    return next(name for name, field in type(entry).model_fields.items() if key in (name, field.alias))


def holder(config: dict[str, Any], path: Path_, make: bool) -> Any:
    """The mapping that holds the last key of `path`; made where it is not there, or None."""
    here: Any = config
    for key in path[:-1]:
        if isinstance(here, dict) and key not in here:
            if not make:
                return None
            here[key] = {}
        here = here[key]
    return here if isinstance(here, dict) else None


def variants(study: str, path: Path_) -> Iterator[tuple[str, dict[str, Any]]]:
    """The study without the key, and with the key and nothing behind it (null)."""
    for how in ("left out", "null"):
        config = copy.deepcopy(STUDIES[study])
        inside = holder(config, path, make=how == "null")
        if inside is None or (how == "left out" and path[-1] not in inside):
            continue
        if how == "null":
            inside[path[-1]] = None
        else:
            del inside[path[-1]]
        yield how, config


@pytest.fixture(scope="module")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    """A simulated run with short tables: what is read of the config does not depend on their length."""
    found = gather(report_job(make_run(tmp_path_factory.mktemp("run"))))
    for model in found.models:
        model.tables = {name: rows.head(6) for name, rows in model.tables.items()}
    return found


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> CodeDigests:
    return CodeDigests(ROOT / "workflow_scripts", ROOT / "envs" / "requirements.lock")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for name in ("clinic", "bought"):
        write_text(folder / name / "metadata.csv", "image,patient,label,age,mask\n")
    return folder


def report_on(evidence: Evidence, facts: dict[str, Any]) -> None:
    """Make the parts of the report that read the study's config."""
    seen = replace(evidence, study=Study.model_validate(facts["config"]))
    assert all((methods(seen), known_facts(seen), headlines(seen)))
    sections = [*study_sections(seen), *(part for model in seen.models for part in utility_sections(seen, model))]
    texts = [block.text for section in sections for block in section.blocks if isinstance(block, Text)]
    assert not [text for text in texts if "section failed" in text]


@pytest.mark.parametrize("rehearsal", [False, True], ids=["study", "rehearsal"])
@pytest.mark.parametrize("name", list(STUDIES))
def test_every_optional_key_may_be_left_out_or_null(
    name: str, rehearsal: bool, evidence: Evidence, code: CodeDigests, root: Path, tmp_path: Path
) -> None:
    problems, seen, refused = [], set(), 0
    for path in keys_of(name):
        for how, config in variants(name, path):
            where = f"{'.'.join(map(str, path))} {how}"
            try:
                study = parse_study(config | {"rehearsal": rehearsal})
                if (same := study.model_dump_json()) in seen:  # null is what is left out, which is often the default
                    continue
                seen.add(same)
                job = Planner(study, "run", 0, code, tmp_path, root, STAGES).job("write_report")
                if not rehearsal:
                    report_on(evidence, dict(job.slice))
            except SynthGainError as error:
                refused += 1
                if "Input should be" in str(error) or "\n" in str(error):
                    problems.append(f"{where}: {error}")
            except Exception as error:  # what a user would meet as a traceback, some of them hours later
                problems.append(f"{where}: {type(error).__name__}: {error}")
    assert not problems, "\n".join(problems)
    assert len(seen) > 20
    assert refused > 5


@pytest.mark.parametrize(
    ("task", "network", "name"),
    [
        ("classification", ..., "small_cnn"),
        ("classification", None, "small_cnn"),
        ("classification", {"width": 8}, "small_cnn"),
        ("classification", {"name": None, "width": 8}, "small_cnn"),
        ("segmentation", ..., "unet"),
        ("segmentation", {"channels": [8, 16]}, "unet"),
        ("segmentation", "segresnet", "segresnet"),
        ("classification", {"name": "resnet18"}, "resnet18"),
    ],
)
def test_the_report_names_the_network_whether_given_or_not(
    task: str, network: Any, name: str, evidence: Evidence, code: CodeDigests, root: Path, tmp_path: Path
) -> None:
    config = tiny(**(MASKS if task == "segmentation" else {}), models__cnn__network=network)
    study = parse_study(config)
    plan = Planner(study, "run", 0, code, tmp_path, root, STAGES)
    text = " ".join(methods(replace(evidence, study=Study.model_validate(plan.job("write_report").slice["config"]))))
    assert f"Model cnn ({name}, {task} of " in text
    options = {key: value for key, value in network.items() if key != "name"} if isinstance(network, dict) else {}
    entry = plan.job("train_downstream", model="cnn", arm="real", ratio=0, chunk=0).slice["model"]["network"]
    assert {**entry["options"], "name": 0} == {**options, "name": 0}, "no null among the options"


def test_a_slice_without_a_network_is_described_too(evidence: Evidence) -> None:
    config: dict[str, Any] = evidence.study.model_dump(by_alias=True, exclude_unset=True)
    for network in (None, {"width": 8}, {"name": None}):
        config["models"]["cnn"]["network"] = network
        study = Study.model_validate(config)
        assert "Model cnn (small_cnn, classification of " in " ".join(methods(replace(evidence, study=study)))
    masks = tiny(**MASKS)
    masks["models"]["cnn"]["network"] = None
    text = " ".join(methods(replace(evidence, study=Study.model_validate(masks))))
    assert "Model cnn (unet, segmentation of lungs" in text


def test_inception_without_its_weights_is_refused_before_anything_runs() -> None:
    spaces = {"evaluation__fidelity__spaces": ["downstream", "inception"]}
    with pytest.raises(SynthGainError, match=r"evaluation\.fidelity\.inception_weights: .*inception.* needs"):
        parse_study(tiny(**spaces))
    parse_study(tiny(**spaces, evaluation__fidelity__inception_weights="inception.pt"))


def test_a_validation_share_beside_a_split_column_reaches_the_split(
    code: CodeDigests, root: Path, tmp_path: Path
) -> None:
    clinic = {**CLINIC, "split": {"column": "part", "validation": 0.2}}
    study = parse_study(tiny(datasets__clinic=clinic, evaluate_on=["hospital_a", "clinic"]))
    job = Planner(study, "run", 0, code, tmp_path, root, STAGES).job("split_dataset", dataset="clinic")
    assert job.slice["column"]["validation"] == 0.2


@pytest.mark.parametrize("given", [{}, {"site": None}], ids=["left out", "null"])
@pytest.mark.parametrize(
    ("column", "sites"), [(None, "clinic clinic"), ("site", "north unknown"), ("ward", "clinic clinic")]
)
def test_a_table_without_a_site_is_one_site_named_like_the_data_set(
    given: dict[str, Any], column: str | None, sites: str, code: CodeDigests, tmp_path: Path
) -> None:
    rows = pd.DataFrame({"image": ["0.png", "1.png"], "patient": ["a", "b"]})
    rows = rows if column is None else rows.assign(**{column: ["north", ""]})
    for place, name in enumerate(rows["image"]):
        Image.new("L", (32, 32), 9 + place).save(tmp_path / name)
    rows.to_csv(tmp_path / "t.csv", index=False)
    clinic = {"adapter": "table", "table": "t.csv", "patient_id": "patient", "constants": {"opacity": "1"}, **given}
    study = parse_study(tiny(datasets__clinic=clinic, evaluate_on=["hospital_a", "clinic"]))
    job = Planner(study, "run", 0, code, tmp_path, tmp_path, STAGES).job("prepare_dataset", dataset="clinic").slice
    prepared = table.prepare(job["options"], job["image"], 0, tmp_path)
    assert prepared.table["site"].tolist() == sites.split()


def test_a_site_column_that_is_named_must_be_there(tmp_path: Path) -> None:
    Image.new("L", (32, 32)).save(tmp_path / "0.png")
    pd.DataFrame({"image": ["0.png"]}).to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(SynthGainError, match="no column 'site'"):
        table.prepare({"table": "t.csv", "patient_id": None, "site": "site"}, {"size": 32, "channels": 1}, 0, tmp_path)


def test_the_forecast_counts_validation_images_that_are_cut_from_training(tmp_path: Path) -> None:
    pd.DataFrame({"part": ["train"] * 8 + ["test"] * 2}).to_csv(tmp_path / "t.csv", index=False)
    entry = {"manifest": "datasets/a/manifest.json", "identity": "i", "table": {"path": "t.csv", "where": {}}}
    column = {"name": "part", "map": {}}
    for share, expected in ((None, (8, 0, 2)), (0.25, (6, 2, 2))):
        source = SizeSource.model_validate({**entry, "column": {**column, "validation": share}})
        found = dataset_sizes(tmp_path, {"a": source}, tmp_path)["a"]
        assert (found.train, found.validation, found.test) == expected
