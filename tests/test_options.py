"""Options below the config's top level: whatever is mistyped there is refused before anything is planned."""

import json
import math
import re
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import pytest
from pydantic import ValidationError
from studies import tiny

from synthgain.entry import Entry
from synthgain.runtime.errors import SynthGainError
from synthgain.study.load import parse_study

MASKS: dict[str, Any] = {"task": "segmentation", "structures": ["lungs"], "steps": 6}


def known(kind: str, **more: Any) -> dict[str, Any]:
    return {"pools__truth": {"known": kind, "rows_of": "hospital_a", **more}}


def gan(**more: Any) -> dict[str, Any]:
    return {"generators__gan": {"family": "gan", "train_on": {"datasets": ["hospital_a"]}, **more}}


def standard(**parts: Any) -> dict[str, Any]:
    return {"models__cnn__augmentation": {"standard": parts}}


# (change of the tiny study, words that the one line must hold)
AUGMENTATION = {
    "a part mistyped": (standard(rotaton=5), ["models.cnn.augmentation.standard", "'rotaton'", "'rotation'"]),
    "of the heavy recipe": ({"models__cnn__augmentation": {"strong": {"mixp": 1}}}, [".strong", "'mixp'", "'mixup'"]),
    "a number that is text": (standard(rotation="1e1"), [".rotation: write 10.0 or 1.0e+1: YAML reads 1e1 as text"]),
    "a small number that is text": (standard(noise="5E-2"), [".noise: write 0.05 or 5.0e-2: YAML reads 5E-2 as text"]),
    "a number in quotes": (standard(rotation="5"), [".rotation: '5' is text; write 5, without quotes"]),
    "a word": (standard(rotation="ten"), [".rotation: 'ten' is text, not a number"]),
    "a truth": (standard(flip=True), [".flip: true is no number"]),
    "below zero": (standard(noise=-1), [".noise", "greater than or equal to 0"]),
    "infinite": (standard(noise=float("inf")), [".noise", "finite"]),
    "no number at all": (standard(noise=float("nan")), [".noise", "finite"]),
    "more than all of the time": (standard(flip=2), [".flip", "less than or equal to 1"]),
}
NETWORKS = {
    "an option": ({"models__cnn__network": {"name": "small_cnn", "widht": 4}}, [".network", "'widht'", "'width'"]),
    "without a name": ({"models__cnn__network": {"widht": 4}}, ["models.cnn.network", "'widht'", "'width'"]),
    "of another": ({"models__cnn__network": {"name": "resnet18", "width": 4}}, ["'width'", "name, stem"]),
    "its name": ({"models__cnn__network": {"name": "smal_cnn"}}, ["models.cnn.network", "'smal_cnn'", "'small_cnn'"]),
    "its name alone": ({"models__cnn__network": "resnet81"}, ["models.cnn.network", "'resnet81'", "'resnet18'"]),
    "a choice": (
        {"models__cnn__network": {"name": "resnet50", "stem": "smal"}},
        [".network.stem", "'smal'", "'small'"],
    ),
    "a number": ({"models__cnn__network": {"width": "8"}}, [".network.width: '8' is text; write 8, without quotes"]),
    "a width that cannot be": ({"models__cnn__network": {"width": 6}}, ["models.cnn.network.width", "multiple of 4"]),
    "a list": ({"models__cnn__network": [8]}, ["models.cnn.network", "a name, or"]),
    "of a segmenter": ({"models__seg": {**MASKS, "network": {"chanels": [8]}}}, [".seg.network", "'channels'"]),
    "a segmenter's name": ({"models__seg": {**MASKS, "network": "segresnt"}}, [".seg.network", "'segresnet'"]),
    "a classifier that should segment": ({"models__seg": {**MASKS, "network": "small_cnn"}}, ["for segmentation"]),
    "a backbone": (
        {"models__seg": {**MASKS, "network": {"name": "flexible_unet", "backbone": "resnet11"}}},
        ["models.seg.network.backbone", "'resnet11'", "'resnet10"],
    ),
    "as many features as levels": (
        {"models__seg": {**MASKS, "network": {"name": "basic_unet_plusplus", "features": [8, 8]}}},
        ["models.seg.network.features", "6 items"],
    ),
    "a generator's option": (
        {"generators__ddpm__network": {"block_out_chanels": [8]}},
        ["generators.ddpm.network", "'block_out_chanels'", "'block_out_channels'"],
    ),
    "a generator's network": (
        {"generators__ddpm__network": {"name": "unett"}},
        ["generators.ddpm.network", "'unett'", "'unet'"],
    ),
    "attention where there is none": (
        {"generators__ddpm__network": {"name": "unet_condition", "attention_resolutions": [8]}},
        ["generators.ddpm.network", "'attention_resolutions'"],
    ),
    "groups that do not fit": (
        {"generators__ddpm__network": {"block_out_channels": [8, 20], "norm_groups": 8}},
        ["generators.ddpm.network", "block_out_channels", "multiple of 8"],
    ),
    "a share that is text": ({"generators__ddpm__network": {"dropout": "1e-1"}}, [".dropout: write 0.1 or 1.0e-1"]),
    "levels that do not divide the image": (
        {"generators__ddpm__network": {"block_out_channels": [8] * 7}},
        ["generators.ddpm.network", "image.size 32", "multiple of 64"],
    ),
    "a gan's": (gan(network={"chanels": [8]}, training={"steps": 3}), ["generators.gan.network", "'channels'"]),
    "a gan's levels": (
        gan(network={"channels": [8, 8]}, training={"steps": 3}),
        ["generators.gan.network", "4 widths"],
    ),
    "a unet for a gan": (gan(network={"name": "unet"}, training={"steps": 3}), ["generators.gan.network", "'unet'"]),
    "a gan that is compiled": (gan(training={"steps": 3, "compile": True}), ["generators.gan.training", "compile"]),
}
GENERATORS = {
    "a formulation": ({"generators__ddpm__formulation": {"kind": "emd"}}, [".formulation.kind", "'emd'", "'edm'"]),
    "its key": ({"generators__ddpm__formulation": {"p_maen": 1}}, [".formulation", "'p_maen'", "'p_mean'"]),
    "its schedule": (
        {"generators__ddpm__formulation": {"kind": "v_prediction", "schedule": "cosin"}},
        [".formulation.schedule", "'cosin'", "'cosine'"],
    ),
    "a key of the other kind": (
        {"generators__ddpm__formulation": {"kind": "edm", "train_steps": 500}},
        ["generators.ddpm.formulation", "train_steps", "v_prediction"],
    ),
    "weights that hide the last step": (
        {"generators__ddpm__formulation": {"kind": "v_prediction", "min_snr_gamma": 5}},
        ["generators.ddpm.formulation", "min_snr_gamma", "zero_terminal_snr"],
    ),
    "a solver": ({"pools__drawn__sampling__solver": "dpmp_2m"}, ["pools.drawn.sampling.solver", "'dpmpp_2m'"]),
    "its option": ({"pools__drawn__sampling__stesp": 4}, ["pools.drawn.sampling", "'stesp'", "'steps'"]),
    "a precision": ({"generators__ddpm__training__precision": "bf16"}, [".precision", "'bf16'", "'bfloat16'"]),
}
POOLS = {
    "a known pool": (known("orcale"), ["pools.truth.known", "'orcale'", "'oracle'"]),
    "its option": (known("noise", known_options={"bse": "copier"}), ["pools.truth.known_options", "'bse'", "'base'"]),
    "its base": (
        known("label_shuffled", known_options={"base": "coper"}),
        ["pools.truth.known_options.base", "'coper'", "'copier'"],
    ),
    "a base of none": (known("noise", known_options={"base": "copier"}), ["known_options.base", "label_shuffled"]),
    "a drop of none": (known("oracle", known_options={"drop": {"sex": "F"}}), ["known_options.drop", "mode_dropper"]),
    "nothing to drop": (known("mode_dropper"), ["pools.truth.known_options.drop", "missing"]),
    "a column to drop": (
        known("mode_dropper", known_options={"drop": {"sx": "F"}}),
        ["pools.truth.known_options.drop", "'sx'", "'sex'"],
    ),
    "no prevalence": (known("wrong_prevalence"), ["pools.truth.balance", "missing"]),
    "options of a drawn pool": (
        {"pools__drawn__known_options": {"base": "noise"}},
        ["known_options", "goes with known"],
    ),
    "an imported table": (
        {"pools__own": {"imported": {"tabel": "t.csv"}}},
        ["pools.own.imported", "'tabel'", "'table'"],
    ),
    "no table": ({"pools__own": {"imported": {"patient_id": "p"}}}, ["pools.own.imported.table", "missing"]),
    "a target of it": (
        {"pools__own": {"imported": {"table": "t.csv", "targets": {"opacity": {"colum": "x"}}}}},
        ["pools.own.imported.targets.opacity", "'colum'", "'column'"],
    ),
    "a parent": (
        {"pools__own": {"imported": {"table": "t.csv", "parent_image": "x"}}},
        ["pools.own.imported", "'parent_image'", "'parent_image_id'"],
    ),
}
PHANTOM = {
    "a style": ({"datasets__hospital_b__style": "bb"}, ["datasets.hospital_b.style", "'bb'", "'b'"]),
    "its base": ({"datasets__hospital_b__style": {"base": "c"}}, ["datasets.hospital_b.style.base", "'c'", "a, b"]),
    "its key": ({"datasets__hospital_b__style": {"contast": 1}}, [".style", "'contast'", "'contrast'"]),
    "its value": ({"datasets__hospital_b__style": {"contrast": 9}}, [".style.contrast", "less than or equal to 4"]),
    "a finding": ({"datasets__hospital_b__prevalence": {"opacty": 0.5}}, [".prevalence", "'opacty'", "'opacity'"]),
    "a column": ({"datasets__hospital_b__missing": {"agee": 0.5}}, ["hospital_b.missing", "'agee'", "'age'"]),
    "ages of children": ({"datasets__hospital_b__age_range": [5, 40]}, ["hospital_b.age_range", "equal to 18"]),
    "a range upside down": ({"datasets__hospital_b__images_per_patient": [3, 1]}, ["b.images_per_patient", "[3, 1]"]),
}
WORDS = {
    "a seed": ({"seed": "1e1"}, ["config: seed: write 10.0 or 1.0e+1"]),
    "a seed that is true": ({"seed": True}, ["config: seed: true is no number"]),
    "steps": ({"pools__drawn__sampling": {"steps": "8"}}, ["pools.drawn.sampling.steps: '8' is text; write 8"]),
    "one of a pair": (
        {"pools__drawn__sampling": {"guidance_interval": [0.1, "2"]}},
        ["pools.drawn.sampling.guidance_interval.1: '2' is text; write 2"],
    ),
    "infinite": ({"analysis__margin": math.inf}, ["analysis.margin: inf is not finite"]),
    "a share of a balance": (
        {"pools__drawn__balance": {"sex": {"f": "5e-1"}}},
        ["pools.drawn.balance.sex.f: write 0.5 or 5.0e-1"],
    ),
    "a truth as text": (
        {"evaluation": {"label_consistency": "True"}},
        ["evaluation.label_consistency: 'True' is text; write true, without quotes"],
    ),
    "neither a truth nor auto": (
        {"pools__drawn__sampling": {"compile": "atuo"}},
        ["pools.drawn.sampling.compile: unknown 'atuo'; did you mean 'auto'?"],
    ),
    "a size in quotes": ({"image__channels": "1"}, ["image.channels: '1' is text; write 1"]),
}
ALL = {
    f"{group}: {case}": change
    for group, cases in {
        "augmentation": AUGMENTATION,
        "network": NETWORKS,
        "generator": GENERATORS,
        "pool": POOLS,
        "phantom": PHANTOM,
        "words": WORDS,
    }.items()
    for case, change in cases.items()
}


@pytest.mark.parametrize("case", ALL)
def test_a_mistyped_option_is_refused_while_planning(case: str) -> None:
    change, words = ALL[case]
    with pytest.raises(SynthGainError) as caught:
        parse_study(tiny(**change))
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 300
    for word in words:
        assert word in message, message


GIVEN = {
    "models.cnn.augmentation": {"standard": {"rotation": 0, "scale": 0.5}, "strong": {"mixup": 1}, "laterality": False},
    "models.cnn.network": {"width": 8},
    "generators.ddpm.network": {"name": "unet_condition", "patch_size": 2, "dropout": 0},
    "pools.truth.known_options": {"base": "copier", "drop": {"sex": "F"}},
    "pools.own.imported": {"table": "t.csv", "replica": "r", "targets": {"opacity": {"column": "o"}}},
    "datasets.hospital_b.style": {"base": "b", "contrast": 1},
}


def test_options_are_written_out_as_they_were_given() -> None:
    """What was not given stays away, and an integer an integer: a job's slice changes only where the config does."""
    changes = {path.replace(".", "__"): value for path, value in GIVEN.items()}
    others = {"pools__truth__known": "mode_dropper", "pools__truth__rows_of": "hospital_a"}
    dumped = parse_study(tiny(**changes, **others)).model_dump(mode="json", by_alias=True)
    for path, value in GIVEN.items():
        here = dumped
        for key in path.split("."):
            here = here[key]
        assert json.dumps(here, sort_keys=True) == json.dumps(value, sort_keys=True)
    assert parse_study(tiny()).model_dump()["models"]["cnn"]["network"] == "small_cnn"
    assert parse_study(dumped) == parse_study(tiny(**changes, **others))


def _kinds(kind: Any = Entry) -> set[type[Entry]]:
    return {kind}.union(*(_kinds(below) for below in kind.__subclasses__() if below.__module__.startswith("synthgain")))


def _numeric(annotation: Any, text: str) -> Any:
    """Return a value of the annotation's form with `text` where a number is meant, or None where none is."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if annotation in (int, float):
        return text
    if origin is Annotated:
        return _numeric(inner[0], text)
    if origin in (Union, UnionType):
        found = [] if str in inner else [_numeric(part, text) for part in inner]
        return next((value for value in found if value is not None), None)
    part = _numeric(inner[-2 if inner[-1] is Ellipsis else -1], text) if origin in (list, tuple, dict) else None
    return None if part is None else {"opacity": part} if origin is dict else [part] * len(inner)


def test_text_is_refused_at_every_key_that_holds_a_number_at_any_depth() -> None:
    tried = 0
    for kind in _kinds():
        for name, field in kind.model_fields.items():
            for text, words in (("1e1", "write 10.0 or 1.0e+1"), (math.inf, "not finite"), (math.nan, "not finite")):
                given = _numeric(field.annotation, text)
                if given is not None:
                    tried += 1
                    with pytest.raises(ValidationError, match=f"{field.alias or name}.*{re.escape(words)}"):
                        kind.model_validate({field.alias or name: given})
    assert tried > 300
