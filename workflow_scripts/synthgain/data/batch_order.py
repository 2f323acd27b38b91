"""Which rows are in which batch: an order by hashes, the same in every arm for the rows they share.

Each pass sorts its rows by a 64-bit hash of (replicate seed, source row, copy, pass). The hash of a row
does not depend on what other rows there are, so two arms keep the relative order of common images, and
nothing needs to be stored to resume: the batch of step t follows from t.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from synthgain.seeds import random_generator

# Finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): a bijection of 64-bit words that mixes all bits.
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_PASS_SALT = 0x5041535300000000  # "PASS": keeps pass numbers apart from copy numbers
_OCCURRENCE_SALT = 0x4F43435500000000  # "OCCU"


def row_keys(ids: Iterable[str]) -> np.ndarray:
    """Return (N,) uint64: the first 8 bytes of the SHA-256 of each id."""
    return np.array([int.from_bytes(hashlib.sha256(i.encode()).digest()[:8], "little") for i in ids], dtype=np.uint64)


def mix(values: np.ndarray) -> np.ndarray:
    """Return SplitMix64's output for each state in `values`, uint64, element-wise."""
    with np.errstate(over="ignore"):
        mixed = values + _GOLDEN
        mixed = (mixed ^ (mixed >> np.uint64(30))) * _MIX_1
        mixed = (mixed ^ (mixed >> np.uint64(27))) * _MIX_2
        return np.asarray(mixed ^ (mixed >> np.uint64(31)))


def copy_keys(keys: np.ndarray, copies: np.ndarray, seed: int) -> np.ndarray:
    """Return (N,) uint64 hashes of (seed, source row, copy); copy 0 is real, k a repeat or replica k."""
    seeded = mix(keys ^ mix(np.array([seed], dtype=np.uint64)))
    return mix(seeded ^ mix(copies.astype(np.uint64)))


class Stream:
    """An endless sequence of rows: pass after pass over `rows`, each in its own hashed order.

    rows: (N,) int64 positions in the training set; keys: (N,) uint64 from `copy_keys`; rates: how often a
    row comes in a pass on average ((N,) float64, any scale), None for once each. A pass has N draws.
    """

    def __init__(self, rows: np.ndarray, keys: np.ndarray, rates: np.ndarray | None = None) -> None:
        if len(rows) == 0:
            raise ValueError("a stream needs at least one row")
        self.rows, self.keys, self.rates = rows, keys, rates
        self._pass = -1
        self._order = rows

    def pass_rows(self, number: int) -> np.ndarray:
        """Return the N rows of pass `number` in their order."""
        if number != self._pass:
            hashes = self._hashes(number)
            picked = np.argsort(hashes, kind="stable")
            if self.rates is not None:
                picked = self._by_rates(picked, number)
            self._pass, self._order = number, self.rows[picked]
        return self._order

    def take(self, start: int, count: int) -> np.ndarray:
        """Return rows `start` … `start + count - 1` of the sequence, across passes where needed."""
        parts = []
        while count > 0:
            number, offset = divmod(start, len(self.rows))
            part = self.pass_rows(number)[offset : offset + count]
            parts.append(part)
            start, count = start + len(part), count - len(part)
        return np.concatenate(parts) if parts else self.rows[:0]

    def _hashes(self, number: int) -> np.ndarray:
        return mix(self.keys ^ mix(np.array([_PASS_SALT + number], dtype=np.uint64)))

    def _by_rates(self, order: np.ndarray, number: int) -> np.ndarray:
        """Systematic sampling over the hashed order: each row ⌊rate⌋ or ⌈rate⌉ times, then hashed afresh."""
        assert self.rates is not None
        edges = np.cumsum(self.rates[order])
        edges *= len(order) / edges[-1]
        start = float(mix(np.array([_PASS_SALT + number], dtype=np.uint64) ^ self.keys.min())[0]) / 2.0**64
        places = np.searchsorted(edges, start + np.arange(len(order)), side="right").clip(max=len(order) - 1)
        occurrence = np.arange(len(places)) - np.searchsorted(places, places, side="left")
        salted = mix(occurrence.astype(np.uint64) + np.uint64(_OCCURRENCE_SALT))
        return np.asarray(order[places][np.argsort(self._hashes(number)[order[places]] ^ salted, kind="stable")])


@dataclass(frozen=True)
class Phase:
    """`steps` optimiser steps over `main`, or over `main` and `second` with `share` of each batch from the latter."""

    steps: int
    main: Stream
    second: Stream | None = None
    share: float = 0.0

    def batch(self, step: int, batch_size: int) -> np.ndarray:
        """Return the (B,) int64 training-set rows of the phase's step `step` (counted from 0).

        With a share that does not divide the batch, batch counts alternate so that the running total is
        always within half an image of `share`.
        """
        if self.second is None:
            return self.main.take(step * batch_size, batch_size)
        before, after = self._second_until(step, batch_size), self._second_until(step + 1, batch_size)
        first = self.main.take(step * batch_size - before, batch_size - (after - before))
        return np.concatenate([first, self.second.take(before, after - before)])

    def _second_until(self, step: int, batch_size: int) -> int:
        return int(step * batch_size * self.share + 0.5)


class PassOrder:
    """Rows of each step: passes through the data, each a permutation by its own seed; any step can be asked for."""

    def __init__(self, rows: int, batch_size: int, seed_keys: Mapping[str, str | int]) -> None:
        self.rows, self.batch_size, self.seed_keys = rows, batch_size, dict(seed_keys)
        self._cached: dict[int, np.ndarray] = {}

    def batch(self, step: int) -> np.ndarray:
        """Return the row positions (batch_size,) int64 of `step` (from 0)."""
        positions = step * self.batch_size + np.arange(self.batch_size)
        passes, within = np.divmod(positions, self.rows)
        needed = range(int(passes[0]), int(passes[-1]) + 1)
        kept = {number: self._cached[number] for number in needed if number in self._cached}
        self._cached = kept | {number: self._permutation(number) for number in needed if number not in kept}
        return np.array([self._cached[number][place] for number, place in zip(passes, within, strict=True)])

    def _permutation(self, number: int) -> np.ndarray:
        keys: dict[str, str | int] = {**self.seed_keys, "step": "order", "pass": number}
        return random_generator(**keys).permutation(self.rows)
