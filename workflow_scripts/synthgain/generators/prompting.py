"""A generator's text condition: how rows become prompts, and prompts what the network attends to."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from synthgain.data.image_set import Columns
from synthgain.data.options import Prompt
from synthgain.data.prompts import COLUMN, texts_of, vocabulary_of
from synthgain.networks.text_options import Words
from synthgain.networks.words import WordEncoder, build
from synthgain.seeds import random_generator

VARIANTS = 4  # texts of each training row: the findings in other orders, or another of them


class TextEncoder(Protocol):
    """Prompts to what a network attends to. A row of zeros in the inputs is the null prompt."""

    def inputs_of(self, prompts: Sequence[str]) -> Tensor:
        """Return what `__call__` takes of these prompts, a row each. SynthGainError for one that it cannot read."""

    def null_inputs(self, count: int) -> Tensor:
        """Return the inputs of `count` null prompts."""

    def __call__(self, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return tokens (N, T, width), which of them count (N, T) bool, and a vector for the time embedding."""


@dataclass(frozen=True)
class Text:
    """What a network is told of a text: tokens (N, T, width) float32 and which of them count (N, T) bool."""

    tokens: Tensor
    mask: Tensor


@dataclass(frozen=True)
class Prompting:
    """How a generator makes prompts of rows. columns: those of its training sets."""

    prompt: Prompt
    columns: Columns

    def prompts_of(self, table: pd.DataFrame) -> list[str]:
        """Return the rows' prompts: those that the table holds, or what the generator's own rule makes of them."""
        if COLUMN in table:
            return [str(text) for text in table[COLUMN]]
        return texts_of(table, self.columns, self.prompt).prompts

    def training_prompts(self, table: pd.DataFrame, **seed_keys: str | int) -> list[list[str]]:
        """Return VARIANTS lists of prompts of the training rows."""
        orders = [random_generator(step="prompt order", variant=k, **seed_keys) for k in range(VARIANTS)]
        return [texts_of(table, self.columns, self.prompt, k + 1, order).prompts for k, order in enumerate(orders)]


def word_encoder(variants: Sequence[Sequence[str]], dimension: int, options: Words) -> WordEncoder:
    """Return a fresh encoder whose vocabulary is that of the training prompts."""
    texts = {text for variant in variants for text in variant}
    chosen = {"layers": options.layers, "heads": options.heads, "longest": options.longest}
    return build(sorted(texts), vocabulary_of(texts), dimension, chosen)


def training_inputs(encoder: TextEncoder, variants: Sequence[Sequence[str]], labelled: np.ndarray) -> Tensor:
    """Return (N, VARIANTS, …) inputs of the training rows; a row whose conditions may not be used has null prompts.

    Without variants all rows have.
    """
    known = torch.from_numpy(labelled)
    if not variants:  # the null prompt alone
        return torch.stack([encoder.null_inputs(len(labelled))] * VARIANTS, dim=1)
    inputs = torch.stack([encoder.inputs_of(variant) for variant in variants], dim=1)
    return inputs * known.reshape(-1, *[1] * (inputs.dim() - 1)).to(inputs.dtype)
