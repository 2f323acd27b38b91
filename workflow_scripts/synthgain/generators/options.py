"""Options of generator training, checked."""

from dataclasses import dataclass, fields
from typing import Any, TypeVar

from synthgain.runtime.errors import SynthGainError

PRECISIONS = {"float32": "no", "bfloat16": "bf16"}  # ours: accelerate's
SNAPSHOT_SHARES = (0.25, 0.5, 1.0)  # geometric, since memorisation sets in late (method notes, 3.6)


@dataclass(frozen=True)
class TrainingOptions:
    """How a generator is trained; the defaults suit small sets (Karras et al. 2022; Ho and Salimans 2022)."""

    steps: int
    batch_size: int = 64  # over all processes
    learning_rate: float = 5e-4
    warmup_steps: int = 100
    weight_decay: float = 0.01
    condition_dropout: float = 0.1  # share of rows whose conditions all become null, for guidance
    gradient_clip: float = 1.0
    ema_decay: float = 0.999  # upper bound; the warm-up 1 − (1 + step / inv_gamma)^−power lies below it at first
    ema_inv_gamma: float = 1.0
    ema_power: float = 0.75
    dropout: float = 0.0
    precision: str = "float32"
    snapshots: list[int] | None = None
    save_every: int | None = None  # steps
    save_every_seconds: float = 60.0
    log_every: int = 10
    compile: bool = False

    def snapshot_steps(self) -> list[int]:
        """Return the steps that are kept, increasing; the last step is always one."""
        wanted = self.snapshots or [max(1, round(share * self.steps)) for share in SNAPSHOT_SHARES]
        return sorted({step for step in wanted if 0 < step < self.steps} | {self.steps})

    def learning_rate_at(self, step: int) -> float:
        """Linear warm-up, then constant: the weight average takes the place of a decay."""
        return self.learning_rate * min(1.0, (step + 1) / max(self.warmup_steps, 1))


Options = TypeVar("Options", bound=TrainingOptions)


def training_options(config: dict[str, Any]) -> TrainingOptions:
    """Return the options of a slice's `training`; SynthGainError for an unknown key or an impossible value."""
    return checked_options(config, TrainingOptions)


def checked_options(config: dict[str, Any], kind: type[Options]) -> Options:
    """Return options of a family's own `kind`, likewise checked."""
    known = [entry.name for entry in fields(kind)]
    unknown = sorted(set(config) - set(known))
    if unknown:
        raise SynthGainError(f"training: unknown key {unknown[0]!r}; known: {', '.join(known)}")
    if "steps" not in config:
        raise SynthGainError("training.steps: missing; give the number of optimiser steps")
    options = kind(**config)
    for name in ("steps", "batch_size", "log_every", "learning_rate", "gradient_clip"):
        if getattr(options, name) <= 0:
            raise SynthGainError(f"training.{name}: {getattr(options, name)} must be above 0")
    if options.precision not in PRECISIONS:
        raise SynthGainError(f"training.precision {options.precision!r}: known are {', '.join(PRECISIONS)}")
    return options
