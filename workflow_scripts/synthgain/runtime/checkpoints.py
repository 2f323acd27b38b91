"""Training state on disk."""

import hashlib
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from synthgain.runtime.command import logger
from synthgain.runtime.guarded import GuardedFolder

KEEP = 2  # the newest, and one to fall back on if its bytes are damaged


class Checkpoints(GuardedFolder):
    """Saves and loads one job's states in `folder`, guarded by the job's `identity`.

    A state is a nested dict of tensors, numbers, strings, lists and None: it is loaded with
    `weights_only=True`, so no pickle is ever run.
    """

    def __init__(self, folder: Path, identity: str) -> None:
        super().__init__(folder, identity, "step-*")

    def save(self, step: int, state: Mapping[str, object]) -> None:
        """Write the state of `step`; keep the newest KEEP."""
        self.keep(f"step-{step:012d}.pt", lambda path: torch.save(state, path), step=step)
        for old in sorted(self.folder.glob("step-*.pt"))[:-KEEP]:
            self.drop(old.name)

    def load_latest(self) -> tuple[int, dict[str, Any]] | None:
        """Return (step, state) of the newest whole state, or None; corrupt ones are logged and deleted."""
        for path in sorted(self.folder.glob("step-*.pt"), reverse=True):
            facts = self.find(path.name)
            try:
                if facts is not None:
                    return int(facts["step"]), torch.load(path, map_location="cpu", weights_only=True)
                logger.warning("%s: checksum differs, using an earlier state", path)
            except (KeyError, OSError, RuntimeError, pickle.UnpicklingError) as error:
                reason = (str(error).splitlines() or [type(error).__name__])[0]
                logger.warning("%s: not usable (%s), using an earlier state", path, reason)
            # Gone at once: `save` keeps the newest steps, and must not keep these in place of whole ones.
            self.drop(path.name)
        return None


def tensor_digest(tensors: dict[str, torch.Tensor]) -> str:
    """SHA-256 (64 hex digits) over names, dtypes, shapes and bytes: equal weights give equal text."""
    total = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        total.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()
