"""Starting weights from a local file: safetensors, or a .pth of plain tensors. No pickle is ever run."""

import pickle
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import sha256_file

COUNTER = "num_batches_tracked"  # of batch normalisation: older files have none, and it moves no output


def load_pretrained(network: nn.Module, path: Path) -> dict[str, object]:
    """Copy the tensors of `path` into `network` and return facts: {sha256, loaded, left_fresh}.

    The first convolution is summed over its input channels where the file has more of them (three equal
    grey channels give the same output). A classifier's last layer (the file's outputs differ) stays fresh. Raises
    SynthGainError where the file is not readable, any other tensor is missing or of another shape, or one is left over
    in a part that the network has: ResNet-34's file holds all that ResNet-18 needs, and is of another network.
    """
    return _load(network, path, _last_layer(network))


def load_encoder(network: nn.Module, path: Path) -> dict[str, object]:
    """Copy the tensors of `path` into the encoder of `network`, all of them, and return facts as `load_pretrained`.

    What the file holds besides (a classifier's last layer) is passed over; counters of batch normalisation may lack.
    """
    encoder = getattr(network, "encoder", None)
    if not isinstance(encoder, nn.Module):
        raise SynthGainError(f"{path}: weights of an encoder, and the network has none by itself; take an smp_ network")
    return _load(encoder, path, None)


def _load(network: nn.Module, path: Path, last: str | None) -> dict[str, object]:
    """last: the layer that stays fresh where the file's has another shape."""
    given = _read(path)
    own = network.state_dict()
    chosen: dict[str, torch.Tensor] = {}
    for name, tensor in own.items():
        if name.rpartition(".")[0] == last and (name not in given or given[name].shape != tensor.shape):
            continue
        if name not in given and name.endswith(COUNTER):
            continue
        if name not in given:
            raise SynthGainError(f"{path}: has no tensor {name!r}; it is of another network")
        chosen[name] = _fit(given[name], tensor, name, path)
    parts = {name.partition(".")[0] for name in own if name.rpartition(".")[0] != last}
    for name in given:
        if name not in own and name.partition(".")[0] in parts and not name.endswith(COUNTER):
            raise SynthGainError(f"{path}: tensor {name!r} has no place in the network; it is of another, larger one")
    network.load_state_dict(chosen, strict=False)
    fresh = sorted(set(own) - set(chosen))
    return {"sha256": sha256_file(path), "loaded": len(chosen), "left_fresh": fresh}


def _read(path: Path) -> dict[str, torch.Tensor]:
    if not path.is_file():
        raise SynthGainError(f"{path}: no such pretrained weights; give a path relative to the data root")
    try:
        loaded = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise SynthGainError(f"{path}: not readable as plain weights ({reason}); save a state_dict") from error
    if not isinstance(loaded, dict) or not all(isinstance(value, torch.Tensor) for value in loaded.values()):
        raise SynthGainError(f"{path}: holds more than named tensors; save a plain state_dict")
    return loaded


def _fit(given: torch.Tensor, wanted: torch.Tensor, name: str, path: Path) -> torch.Tensor:
    if given.shape == wanted.shape:
        return given
    same_but_channels = given.ndim == 4 == wanted.ndim and given.shape[0::2] == wanted.shape[0::2]
    if same_but_channels and given.shape[3] == wanted.shape[3] and wanted.shape[1] == 1:
        return given.sum(dim=1, keepdim=True)
    raise SynthGainError(f"{path}: tensor {name!r} has shape {tuple(given.shape)}, wanted {tuple(wanted.shape)}")


def _last_layer(network: nn.Module) -> str | None:
    """Return the layer that gives a classifier's outputs; None for a segmenter, which ends in a convolution."""
    name, module = [(n, m) for n, m in network.named_modules() if next(m.parameters(recurse=False), None) is not None][
        -1
    ]
    return name if isinstance(module, nn.Linear) else None
