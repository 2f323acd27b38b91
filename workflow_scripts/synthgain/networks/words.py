"""A small text encoder of a closed vocabulary, trained with the generator that it belongs to.

Words are looked up, learned positions added, a Transformer encoder (Vaswani et al. 2017, pre-norm) run over them. The
tokens go to the network's cross-attention, their masked mean to its time embedding. The null prompt is one learned
token.
"""

import difflib
from collections.abc import Sequence

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from synthgain.data.prompts import words_of
from synthgain.networks.text_options import TEXT_WIDTH
from synthgain.runtime.errors import SynthGainError

NOTHING = 0  # id of an empty place; a row of them is the null prompt
FIRST_WORD = 1


class WordEncoder(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Prompts → tokens (N, T, TEXT_WIDTH), which of them count (N, T) bool, and a vector (N, dimension).

    vocabulary: the words that it knows, in their order; dimension: of the vector that joins the time embedding.
    """

    @register_to_config
    def __init__(
        self, vocabulary: list[str], dimension: int, layers: int = 2, heads: int = 4, longest: int = 48
    ) -> None:
        super().__init__()
        self.vocabulary, self.longest = list(vocabulary), longest
        self._ids = {word: number for number, word in enumerate(self.vocabulary, start=FIRST_WORD)}
        self.embedding = nn.Embedding(len(self.vocabulary) + FIRST_WORD, TEXT_WIDTH)
        self.positions = nn.Parameter(torch.randn(longest, TEXT_WIDTH) * 0.02)
        self.null = nn.Parameter(torch.randn(TEXT_WIDTH) * 0.02)
        layer = nn.TransformerEncoderLayer(
            TEXT_WIDTH, heads, 4 * TEXT_WIDTH, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.transformer = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(TEXT_WIDTH)
        self.vector = nn.Linear(TEXT_WIDTH, dimension)

    def inputs_of(self, prompts: Sequence[str]) -> Tensor:
        """Return the ids (N, longest) int64 of these prompts.

        Raises SynthGainError for a word outside of the vocabulary, with its nearest neighbour, and for a long prompt.
        """
        ids = torch.full((len(prompts), self.longest), NOTHING, dtype=torch.int64)
        for row, prompt in enumerate(prompts):
            words = words_of(prompt)
            if len(words) > self.longest:
                raise SynthGainError(
                    f"prompt {prompt[:60]!r} … has {len(words)} words; text_encoder.longest is {self.longest}"
                )
            for place, word in enumerate(words):
                if word not in self._ids:
                    near = difflib.get_close_matches(word, self.vocabulary, n=1, cutoff=0.0)
                    raise SynthGainError(
                        f"prompt {prompt[:60]!r}: the generator never saw the word {word!r}; did you mean {near[0]!r}?"
                    )
                ids[row, place] = self._ids[word]
        return ids

    @property
    def facts(self) -> dict[str, object]:
        """What a generator's manifest says of it."""
        return {"text_kind": "words", "vocabulary": len(self.vocabulary)}

    def null_inputs(self, count: int) -> Tensor:
        """Return the inputs of `count` null prompts."""
        return torch.full((count, self.longest), NOTHING, dtype=torch.int64)

    def take_over(self, other: nn.Module) -> int:
        """Copy what `other` learned: its layers where they are of one shape, and the words that both know.

        Returns the number of these words.
        """
        if not isinstance(other, WordEncoder):
            return 0
        fitting = {n: w for n, w in other.state_dict().items() if n != "embedding.weight" and n in self.state_dict()}
        own = self.state_dict()
        self.load_state_dict({n: w for n, w in fitting.items() if own[n].shape == w.shape}, strict=False)
        shared = [word for word in self.vocabulary if word in other._ids]
        with torch.no_grad():
            for word in shared:
                self.embedding.weight[self._ids[word]] = other.embedding.weight[other._ids[word]]
        return len(shared)

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return tokens (N, T, TEXT_WIDTH), their mask (N, T) bool and the vector (N, dimension) of ids (N, T)."""
        mask = ids != NOTHING
        nothing = ~mask.any(dim=1)
        hidden = self.embedding(ids)
        first = torch.where(nothing[:, None], self.null.to(hidden.dtype), hidden[:, 0])
        hidden = torch.cat([first[:, None], hidden[:, 1:]], dim=1) + self.positions
        mask = torch.cat([(mask[:, 0] | nothing)[:, None], mask[:, 1:]], dim=1)
        tokens = self.norm(self.transformer(hidden, src_key_padding_mask=~mask))
        tokens = tokens * mask[..., None]  # an empty place is nothing, to whoever takes no mask
        mean = tokens.sum(dim=1) / mask.sum(dim=1, keepdim=True)
        return tokens, mask, self.vector(mean)


def build(prompts: Sequence[str], vocabulary: Sequence[str], dimension: int, options: dict[str, int]) -> WordEncoder:
    """Return an encoder with fresh weights for these words. `prompts` are those of training: the longest must fit."""
    made = WordEncoder(list(vocabulary), dimension, **options)
    seen = made.inputs_of(sorted(set(prompts))).unique()
    unseen = torch.ones(len(made.embedding.weight), dtype=torch.bool)
    unseen[seen] = False
    with torch.no_grad():
        made.embedding.weight[unseen] = 0.0  # what no training text holds says nothing, in place of something random
    return made
