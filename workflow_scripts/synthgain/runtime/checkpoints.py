"""Training state that survives kill, timeout, requeue and retry, and never resumes the wrong job."""

import hashlib
import pickle
from pathlib import Path
from typing import Any

import torch

from synthgain.runtime.command import logger
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import atomic_path, marked_identity, read_json, remove_parts, sha256_file, write_json

KEEP = 2  # the newest, and one to fall back on if its bytes are damaged


class Checkpoints:
    """Saves and loads one job's state in `folder`, guarded by the job's `identity`.

    A state is a nested dict of tensors, numbers, strings, lists and None: it is loaded with
    `weights_only=True`, so no pickle is ever run. State of another identity is removed at once.
    """

    def __init__(self, folder: Path, identity: str) -> None:
        self.folder, self.identity = folder, identity
        marker = folder / "identity.json"
        if marker.exists() and marked_identity(marker) != identity:
            logger.info("state of another config or code in %s: starting afresh", folder)
            for path in [*folder.glob("step-*"), marker]:
                path.unlink()
        if not marker.exists():
            write_json(marker, {"identity": identity})
        remove_parts(folder, "step-*")

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Write the state of `step` atomically with its checksum; keep the newest KEEP."""
        path = self.folder / f"step-{step:012d}.pt"
        with atomic_path(path) as temporary:
            torch.save(state, temporary)
            checksum = sha256_file(temporary)
        write_json(path.with_suffix(".json"), {"sha256": checksum, "identity": self.identity, "step": step})
        for old in sorted(self.folder.glob("step-*.pt"))[:-KEEP]:
            old.with_suffix(".json").unlink(missing_ok=True)
            old.unlink()

    def load_latest(self) -> tuple[int, dict[str, Any]] | None:
        """Return (step, state) of the newest whole state, or None; damaged ones are said and removed."""
        for path in sorted(self.folder.glob("step-*.pt"), reverse=True):
            try:
                facts = read_json(path.with_suffix(".json"))
                if facts["identity"] == self.identity and facts["sha256"] == sha256_file(path):
                    return int(facts["step"]), torch.load(path, map_location="cpu", weights_only=True)
                logger.warning("%s: checksum differs, using an earlier state", path)
            except (SynthGainError, KeyError, OSError, RuntimeError, pickle.UnpicklingError) as error:
                reason = (str(error).splitlines() or [type(error).__name__])[0]
                logger.warning("%s: not usable (%s), using an earlier state", path, reason)
            # Gone at once: `save` keeps the newest steps, and must not keep these in place of whole ones.
            path.unlink(missing_ok=True)
            path.with_suffix(".json").unlink(missing_ok=True)
        return None

    def clear(self) -> None:
        """Remove the states once the declared outputs are written."""
        for path in self.folder.glob("step-*"):
            path.unlink()


def tensor_digest(tensors: dict[str, torch.Tensor]) -> str:
    """SHA-256 (64 hex digits) over names, dtypes, shapes and bytes: equal weights give equal text."""
    total = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        total.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()
