"""Independent random streams from named keys: no list positions, no small offsets."""

import hashlib

import numpy as np

from synthgain.runtime.files import canonical_json


def seed_sequence(**keys: str | int) -> np.random.SeedSequence:
    """Return the SeedSequence of these named keys (SHA-256 of their canonical JSON as 8 uint32 words).

    Streams of different keys are independent for all practical purposes; the order of the keys
    does not matter. Example: `seed_sequence(study=0, step="split", dataset="hospital_a")`.
    """
    if not keys:
        raise ValueError("a seed needs at least one named key")
    raw = hashlib.sha256(canonical_json(keys).encode()).digest()
    return np.random.SeedSequence(np.frombuffer(raw, dtype="<u4").tolist())


def random_generator(**keys: str | int) -> np.random.Generator:
    """Return a NumPy generator (PCG64) of these named keys."""
    return np.random.Generator(np.random.PCG64(seed_sequence(**keys)))


def integer_seed(**keys: str | int) -> int:
    """Return a 63-bit seed of these named keys, for torch.manual_seed and for seed columns."""
    return int(seed_sequence(**keys).generate_state(1, np.uint64)[0] >> np.uint64(1))
