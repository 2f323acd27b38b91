"""No pickle is ever run: in the code by its syntax, and at every place where a user's file is read by trying it."""

import ast
import hashlib
import io
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from pyarrow import parquet

from synthgain.data.image_set import _open_array
from synthgain.datasets.medmnist import prepare as prepare_medmnist
from synthgain.datasets.table import prepare as prepare_table
from synthgain.generators.loading import load_generator
from synthgain.networks.extractors import load_state_dict, load_torchscript
from synthgain.networks.pretrained import load_pretrained
from synthgain.networks.small_cnn import build
from synthgain.pools.sampling import FinishedBatches
from synthgain.runtime.checkpoints import Checkpoints
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import write_manifest
from synthgain.study.yaml_files import read_yaml

SCRIPTS = Path(__file__).parent.parent / "workflow_scripts"
# Calls that run what a file says, by the last two parts of their name; None: never, else the keywords that must stand.
FORBIDDEN: dict[str, dict[str, Any] | None] = {
    **dict.fromkeys(["pickle.load", "pickle.loads", "pickle.Unpickler", "pickle.dump", "pickle.dumps"]),
    **dict.fromkeys(["marshal.load", "marshal.loads", "shelve.open", "joblib.load", "dill.load", "cloudpickle.load"]),
    **dict.fromkeys(["pd.read_pickle", "pandas.read_pickle", "pd.read_hdf", "pd.eval", "yaml.unsafe_load"]),
    **dict.fromkeys(["yaml.full_load", "yaml.load_all", "hub.load", "os.system", "os.popen", "np.fromfile"]),
    **dict.fromkeys(["tarfile.open", "shutil.unpack_archive", "archive.extractall", "archive.extract"]),
    "torch.load": {"weights_only": True},
    "np.load": {"allow_pickle": False},
    "np.save": {"allow_pickle": False},
    "made.from_pretrained": {"use_safetensors": True},
}
FORBIDDEN_NAMES = {"eval", "exec", "compile", "__import__"}
FORBIDDEN_KEYWORDS = {"shell": True, "allow_pickle": True, "weights_only": False, "trust_remote_code": True}
MODULES = sorted(SCRIPTS.rglob("*.py"))


def complaints(source: str) -> list[str]:
    """Return what a module calls that could run what a file says."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names]
            module = getattr(node, "module", None)
            if module in ("pickle", "marshal", "shelve", "dill", "joblib") or {"dill", "joblib", "shelve"} & set(names):
                found.append(f"line {node.lineno}: imports {module or names}")
        if not isinstance(node, ast.Call):
            continue
        given = {word.arg: getattr(word.value, "value", ...) for word in node.keywords}
        called = ast.unparse(node.func)
        short = ".".join(called.split(".")[-2:])
        wanted = FORBIDDEN.get(short, {})
        if called in FORBIDDEN_NAMES or wanted is None or any(given.get(k) is not v for k, v in (wanted or {}).items()):
            found.append(f"line {node.lineno}: {called}({given})")
        if called.endswith(".from_pretrained") and given.get("use_safetensors") is not True:
            found.append(f"line {node.lineno}: {called} without use_safetensors=True")
        if called == "yaml.load" and "Loader=_UniqueKeys" not in ast.unparse(node):  # a SafeLoader
            found.append(f"line {node.lineno}: yaml.load without the safe loader")
        found += [f"line {node.lineno}: {k}={v}" for k, v in FORBIDDEN_KEYWORDS.items() if given.get(k, ...) is v]
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SCRIPTS)))
def test_no_module_runs_what_a_file_says(path: Path) -> None:
    assert complaints(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle\npickle.load(f)", "from pickle import load", "import joblib", "torch.load(p)", "eval(text)",
        "torch.load(p, weights_only=False)", "np.load(p)", "np.load(p, allow_pickle=True)", "pd.read_pickle(p)",
        "yaml.load(t, Loader=yaml.Loader)", "yaml.unsafe_load(t)", "subprocess.run(c, shell=True)", "os.system(c)",
        "UNet.from_pretrained(p)", "import numpy\nnumpy.lib.format.read_array(f, allow_pickle=True)",
        "zipfile.ZipFile(p).extractall()", "tarfile.open(p)",
    ],
)  # fmt: skip
def test_the_check_would_see_it(source: str) -> None:
    source = source.replace("zipfile.ZipFile(p)", "archive")
    assert complaints(source)


class Payload:
    """Unpickling it writes the file `mark`: proof that foreign code ran."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (str(self.mark),)


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    return tmp_path / "pwned"


def test_the_payload_would_run(mark: Path) -> None:
    pickle.loads(pickle.dumps(Payload(mark)))
    assert mark.exists()


def refuses(mark: Path, read: Callable[..., Any], *arguments: Any, match: str = "") -> None:
    with pytest.raises(SynthGainError, match=match) as error:
        read(*arguments)
    assert "\n" not in str(error.value)
    assert not mark.exists()


def object_array(mark: Path) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([[Payload(mark)]], dtype=object), allow_pickle=True)
    return buffer.getvalue()


@pytest.mark.parametrize("member", ["train_images.npy", "val_labels.npy", "test_labels.npy"])
def test_medmnist_archives(tmp_path: Path, mark: Path, member: str) -> None:
    path = tmp_path / "medmnist" / "pneumoniamnist.npz"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        for part in ("train", "val", "test"):
            for what, shape in (("images", (3, 28, 28)), ("labels", (3, 1))):
                buffer = io.BytesIO()
                np.save(buffer, np.zeros(shape, np.uint8), allow_pickle=False)
                archive.writestr(f"{part}_{what}.npy", buffer.getvalue())
    name = {"name": "pneumoniamnist", "url": "http://127.0.0.1:9"}
    image = {"size": 28, "channels": 1, "fit": "pad", "intensity": "none"}
    md5 = hashlib.md5(path.read_bytes()).hexdigest()
    assert len(prepare_medmnist({**name, "md5": md5}, image, 0, tmp_path).table) == 9
    with zipfile.ZipFile(path) as old:
        kept = {entry: old.read(entry) for entry in old.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for entry, content in {**kept, member: object_array(mark)}.items():
            archive.writestr(entry, content)
    md5 = hashlib.md5(path.read_bytes()).hexdigest()  # the user trusts it: the checksum is no protection here
    refuses(mark, prepare_medmnist, {**name, "md5": md5}, image, 0, tmp_path, match=f"{member} holds")


def test_arrays_of_image_sets_and_finished_batches(tmp_path: Path, mark: Path) -> None:
    (tmp_path / "images.npy").write_bytes(object_array(mark))
    refuses(mark, _open_array, tmp_path / "images.npy", match="not a readable array")
    (tmp_path / "images.npy").write_bytes(pickle.dumps(Payload(mark)))
    refuses(mark, _open_array, tmp_path / "images.npy", match="not a readable array")
    batches = FinishedBatches(tmp_path / "state", "i" * 32)
    batches.save(0, np.zeros((1, 2, 2, 1), np.uint8))
    (path,) = (tmp_path / "state").glob("*.npy")
    path.write_bytes(object_array(mark))
    write_manifest(path.with_suffix(".json"), "i" * 32, [path.name], environment={})
    assert batches.load(0) is None
    assert not mark.exists()


def test_checkpoints_with_a_right_checksum(tmp_path: Path, mark: Path) -> None:
    checkpoints = Checkpoints(tmp_path, "i" * 32)
    checkpoints.save(1, {"weights": torch.ones(2)})
    checkpoints.save(2, {"weights": torch.zeros(2)})
    path = tmp_path / "step-000000000002.pt"
    for content in (pickle.dumps(Payload(mark)), torch_file(mark)):
        checkpoints.save(2, {"weights": torch.zeros(2)})
        path.write_bytes(content)
        write_manifest(path.with_suffix(".json"), "i" * 32, [path.name], step=2)
        found = checkpoints.load_latest()
        assert found is not None
        assert found[0] == 1  # the earlier state is used
        assert not mark.exists()


def torch_file(mark: Path) -> bytes:
    buffer = io.BytesIO()
    torch.save({"weights": Payload(mark)}, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin", ".safetensors"])
def test_weights(tmp_path: Path, mark: Path, suffix: str) -> None:
    network = build(1, 1, 16)
    path = tmp_path / f"weights{suffix}"
    for content in (torch_file(mark), pickle.dumps(Payload(mark)), b"", b"\x08" + b"\0" * 7 + b'{"a": 1}'):
        path.write_bytes(content)
        refuses(mark, load_pretrained, network, path, match="not readable as plain weights")
        refuses(mark, load_state_dict, network, path, match="not weights of")


def test_a_torchscript_file_that_is_a_pickle(tmp_path: Path, mark: Path) -> None:
    """A TorchScript file is a program by design (docs/fidelity.md); a pickle in its place is not run."""
    path = tmp_path / "network.pt"
    torch.jit.trace(torch.nn.Conv2d(3, 1, 1).eval(), torch.zeros(1, 3, 4, 4)).save(str(path))
    load_torchscript(path, torch.device("cpu"))
    with zipfile.ZipFile(path) as old:
        kept = {entry: old.read(entry) for entry in old.namelist()}
    with zipfile.ZipFile(tmp_path / "exchanged.pt", "w") as new:
        for entry, content in kept.items():
            new.writestr(entry, pickle.dumps(Payload(mark), 2) if entry.endswith("data.pkl") else content)
    for content in (torch_file(mark), pickle.dumps(Payload(mark)), (tmp_path / "exchanged.pt").read_bytes()):
        path.write_bytes(content)
        refuses(mark, load_torchscript, path, torch.device("cpu"), match="not a TorchScript file")


def test_parquet_tables_of_python_types(tmp_path: Path, mark: Path) -> None:
    """Arrow once loaded extension types from pickle in a file's metadata (CVE-2023-47248)."""
    metadata = {b"ARROW:extension:name": b"arrow.py_extension_type"}
    metadata[b"ARROW:extension:metadata"] = pickle.dumps(Payload(mark))
    field = pa.field("image", pa.string(), metadata=metadata)
    table = pa.table([pa.array(["a.png"])], schema=pa.schema([field]))
    parquet.write_table(table, tmp_path / "t.parquet")
    options = {"table": "t.parquet", "patient_id": None, "site": {"constant": "a"}}
    image = {"size": 16, "channels": 1, "fit": "pad", "intensity": "none"}
    assert prepare_table(options, image, 0, tmp_path).quarantine["reason"].tolist() == ["file not found"]
    assert not mark.exists()
    (tmp_path / "t.parquet").write_bytes(pickle.dumps(Payload(mark)))
    refuses(mark, prepare_table, options, image, 0, tmp_path, match="not a readable table")
    pd.to_pickle(Payload(mark), tmp_path / "t.pkl")
    refuses(mark, prepare_table, {**options, "table": "t.pkl"}, image, 0, tmp_path, match="not a readable table")


def test_study_configs_are_plain_yaml(tmp_path: Path, mark: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(f"study: !!python/object/apply:os.mkdir ['{mark}']\n")
    refuses(mark, read_yaml, path, match="could not determine a constructor")


def test_a_generator_manifest_names_no_module_of_its_own(tmp_path: Path, mark: Path) -> None:
    write_manifest(tmp_path / "manifest.json", "i" * 32, [], module="os", final=1)
    refuses(mark, load_generator, tmp_path, match="generator family .* is not registered")
