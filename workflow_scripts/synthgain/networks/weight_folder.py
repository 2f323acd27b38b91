"""A folder of someone's weights, as diffusers and transformers write it: what is checked before it is opened.

No torch here: what can be refused is refused while planning.
"""

import json
from pathlib import Path

from pydantic import BaseModel

from synthgain.entry import checked
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import sha256_file

CONFIG = "config.json"
PICKLES = ("*.bin", "*.ckpt", "*.pt", "*.pth", "*.pkl")
TEXT_WEIGHTS = "model.safetensors"
TEXT_KINDS = ("bert", "clip", "clip_text_model")  # model types of transformers


class SavedText(BaseModel):
    """What config.json of a text encoder says of its kind."""

    model_type: str = ""


def saved_config(folder: Path, weights: str, place: str) -> dict[str, object]:
    """Return config.json of a folder whose weights are the file `weights`; place: of the config, for messages.

    Raises SynthGainError, one line, where one of them is missing or cannot be read, or the weights are a pickle.
    """
    if not folder.is_dir():
        raise SynthGainError(f"{place}: no such folder: {folder}; give it relative to the data root")
    if not (folder / CONFIG).is_file():
        raise SynthGainError(f"{place}: {folder} has no {CONFIG}; give the folder that the library wrote")
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except ValueError as error:
        raise SynthGainError(f"{place}: {folder / CONFIG} is not readable as JSON") from error
    if not isinstance(config, dict):
        raise SynthGainError(f"{place}: {folder / CONFIG} holds no facts of a model, but a {type(config).__name__}")
    if not (folder / weights).is_file():
        pickles = sorted(path.name for pattern in PICKLES for path in folder.glob(pattern))
        hint = "it is missing"
        if (folder / f"{weights}.index.json").is_file():
            hint = "the weights are in several files; save them as one"
        elif pickles:
            hint = f"{pickles[0]} is a pickle, which is never opened; save it as safetensors"
        raise SynthGainError(f"{place}: no {weights} in {folder}; {hint}")
    return config


def check_checksum(file: Path, found: str, wanted: str | None, place: str) -> None:
    """Raise SynthGainError where a file has another SHA-256 than the config says (None: says nothing)."""
    if wanted is not None and found != wanted:
        raise SynthGainError(f"{place}: {file} has SHA-256 {found}, not the {wanted} that was given")


def check_text_folder(folder: Path, place: str) -> str:
    """Return the model type of a text encoder's folder; SynthGainError where it is none that can be opened."""
    kind = checked(SavedText, saved_config(folder, TEXT_WEIGHTS, place), str(folder / CONFIG)).model_type
    if kind not in TEXT_KINDS:
        raise SynthGainError(f"{place}: {folder} holds a model of type {kind!r}; known are bert and clip")
    return kind


def checked_text_folder(folder: Path, sha256: str | None, place: str) -> tuple[str, str]:
    """Return model type and checksum of a text encoder's folder; SynthGainError as above, or for another checksum."""
    kind, file = check_text_folder(folder, place), folder / TEXT_WEIGHTS
    found = sha256_file(file)
    check_checksum(file, found, sha256, place)
    return kind, found
