"""A kit: a folder with one page per reader, the key, and what is told of it before answers come.

Never a rule's output and never overwritten: Snakemake deletes outputs before a rerun, and a kit that readers hold must
stay what it was.
"""

import json
import secrets
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict, TypeVar, cast

import numpy as np
import pandas as pd

from synthgain.data.image_set import ImageStore, image_hashes
from synthgain.readers.encoding import data_address
from synthgain.readers.items import REAL, choose, sequence
from synthgain.readers.options import Panel
from synthgain.readers.questions import SECOND, questions_of
from synthgain.readers.sealing import chain_start, commitment, item_id, reader_token
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import (
    SEAL,
    atomic_folder,
    read_json,
    read_table,
    seal_of,
    write_json,
    write_manifest,
    write_table,
    write_text,
)
from synthgain.seeds import random_generator

TEMPLATE = Path(__file__).parent / "templates" / "kit.html"
KEY, SECRET, FACTS = "reader_key.parquet", "reader_secret.json", "kit.json"


class Secret(TypedDict):
    """What only the study holds: HMAC key, nonce of the commitment, {reader: {phase: [[item, repeat]]}}."""

    secret: str
    nonce: str
    orders: dict[str, dict[str, list[tuple[str, bool]]]]


class KitFacts(TypedDict):
    """What may be told before the answers come; `readers`: {reader: images in the first phase}."""

    panel: str
    kit: str
    key_sha256: str
    images: int
    real: int
    synthetic: int
    readers: dict[str, int]
    pages: dict[str, str]


@dataclass(frozen=True)
class Shown:
    """Images that a panel may show. table: a row per image; pixels, masks: (n, H, W, C) and (n, H, W, K) of these rows.

    structures: names of the K masks.
    """

    table: pd.DataFrame
    pixels: ImageStore
    masks: ImageStore | None
    structures: list[str]


def kit_folder(run: Path, panel: str, digest: str) -> Path:
    """Return where a kit lies: its name follows from the panel's config and the images' identities."""
    return run / f"reader_kit-{panel}-{digest[:12]}"


def write_kit(
    folder: Path, name: str, panel: Panel, real: Mapping[str, Shown], pools: Mapping[str, Shown], seed: int
) -> KitFacts:
    """Choose the images and write pages and key. SynthGainError where the folder is there or the images do not do."""
    if folder.exists():
        raise SynthGainError(f"{folder}: there already; a kit is never overwritten")
    _check(panel, real, pools)
    rng = random_generator(study=seed, step="reader_kit", panel=name, panel_seed=panel.seed)
    chosen = choose(panel, {n: s.table for n, s in real.items()}, {n: s.table for n, s in pools.items()}, rng)
    secret = secrets.token_hex(32)
    sources = {**{(REAL, n): s for n, s in real.items()}, **{("synthetic", n): s for n, s in pools.items()}}
    found = [
        (sources[origin, source], int(row), item_id(secret, f"{origin}/{source}", image_id))
        for origin, source, row, image_id in zip(
            *(chosen[name].tolist() for name in ("origin", "source", "row", "image_id")), strict=True
        )
    ]
    pixels = np.stack([shown.pixels.gather(np.array([row]))[0] for shown, row, _ in found])
    chosen["item"] = [item for _, _, item in found]
    chosen["sha256"] = image_hashes(pixels)
    for finding in panel.findings:
        chosen[finding] = pd.Series([shown.table[finding].iloc[row] for shown, row, _ in found])
    orders = {f"reader_{number}": _orders(chosen, number, panel, rng) for number in range(1, panel.readers + 1)}
    with atomic_folder(folder) as made:
        key = chosen.drop(columns="row")
        write_table(made / KEY, key)
        nonce = secrets.token_hex(16)
        sealed = commitment((made / KEY).read_bytes(), nonce)
        kit = sealed[:16]
        contents = {
            item: _content(image, row, shown, panel) for image, (shown, row, item) in zip(pixels, found, strict=True)
        }
        pages = {}
        for reader, phases in orders.items():
            pages[reader] = f"{name}-{reader}.html"
            token = reader_token(secret, kit, reader)
            write_text(made / pages[reader], _page(name, panel, kit, sealed, reader, token, phases, contents))
        stored: Secret = {"secret": secret, "nonce": nonce, "orders": orders}
        write_json(made / SECRET, stored)
        (made / SECRET).chmod(0o600)
        facts: KitFacts = {
            "panel": name,
            "kit": kit,
            "key_sha256": sealed,
            "images": len(key),
            "real": int((key["origin"] == REAL).sum()),
            "synthetic": int((key["origin"] != REAL).sum()),
            "readers": {reader: len(phases["1"] or phases["2"]) for reader, phases in orders.items()},
            "pages": pages,
        }
        # The kit's own manifest: no job seals it, since it is no rule's output.
        manifest = write_manifest(made / FACTS, kit, [KEY, SECRET, *pages.values()], **facts)
        write_json(made / FACTS, {**manifest, SEAL: seal_of(manifest)})
    return facts


def read_facts(folder: Path) -> KitFacts:
    """Return what may be told of a kit."""
    manifest = _stored(folder / FACTS, read_json, KitFacts.__required_keys__)
    return cast("KitFacts", {key: manifest[key] for key in KitFacts.__required_keys__})


def read_kit(folder: Path) -> tuple[KitFacts, Secret, pd.DataFrame]:
    """Return a kit's facts, secret and key.

    SynthGainError where one is gone or damaged, or the key is not the one that was sealed.
    """
    facts = read_facts(folder)
    secret: Secret = _stored(folder / SECRET, read_json, Secret.__required_keys__)
    key: pd.DataFrame = _stored(folder / KEY, read_table, {"item"})
    sealed = commitment((folder / KEY).read_bytes(), secret["nonce"])
    # The kit's name, which pages and answers carry, is made of the seal: a change of both key and seal is found too.
    if sealed != facts["key_sha256"] or sealed[:16] != facts["kit"]:
        raise SynthGainError(f"{folder / KEY}: not the key that {FACTS} was sealed with; its answers cannot be read")
    return facts, secret, key


Held = TypeVar("Held", bound=Container[str])


def _stored(path: Path, read: Callable[[Path], Held], names: Iterable[str]) -> Held:
    """Return what a file of a kit holds: these names at least. No run makes it again, whatever a reader says."""
    try:
        found = read(path)
    except SynthGainError:
        found = None
    if found is None or any(name not in found for name in names):
        fault = "damaged" if path.exists() else "missing"
        raise SynthGainError(f"{path}: {fault}; a kit cannot be made again: restore its folder from a copy")
    return found


def _check(panel: Panel, real: Mapping[str, Shown], pools: Mapping[str, Shown]) -> None:
    for place, group in (("real", real), ("pools", pools)):
        for name, shown in group.items():
            lacking = [s for s in panel.structures if shown.masks is None or s not in shown.structures]
            if lacking:
                raise SynthGainError(f"items.{place}.{name}: no masks of {', '.join(lacking)}; drop it, or mask_fit")
            if "prompt_fit" in panel.questions and "prompt" not in shown.table:
                raise SynthGainError(f"items.{place}.{name}: its images have no prompt; drop it, or prompt_fit")
            lacking = [finding for finding in panel.findings if finding not in shown.table]
            if lacking:
                raise SynthGainError(f"items.{place}.{name}: no target {', '.join(lacking)}; correct readers.findings")


def _orders(
    chosen: pd.DataFrame, number: int, panel: Panel, rng: np.random.Generator
) -> dict[str, list[tuple[str, bool]]]:
    """Return {phase: sequence} of one reader; a phase without questions is empty."""
    items = chosen.loc[chosen["for"].isin([0, number]), "item"].tolist()
    phases = {question.phase for question in questions_of(panel)}
    return {str(phase): sequence(items, panel.repeats, rng) if phase in phases else [] for phase in (1, 2)}


def _content(image: np.ndarray, position: int, source: Shown, panel: Panel) -> dict[str, object]:
    """Return what the page holds of one image."""
    content: dict[str, object] = {"image": data_address(image)}
    if panel.structures and source.masks is not None:
        masks = source.masks.gather(np.array([position]))[0]
        content["masks"] = {
            name: data_address(masks[..., [source.structures.index(name)]] * np.uint8(255)) for name in panel.structures
        }
    if "prompt_fit" in panel.questions:
        content["prompt"] = str(source.table["prompt"].iloc[position])
    return content


def _page(
    name: str,
    panel: Panel,
    kit: str,
    sealed: str,
    reader: str,
    token: str,
    phases: Mapping[str, list[tuple[str, bool]]],
    contents: Mapping[str, dict[str, object]],
) -> str:
    """Return a reader's page: the template with the data in it. A `<` in the data cannot end their script element."""
    own = sorted({item for sequence in phases.values() for item, _ in sequence})  # their names are random
    data = {
        "panel": name,
        "kit": kit,
        "key_sha256": sealed,
        "reader": reader,
        "token": token,
        "start": chain_start(kit, reader, token),
        "undo": panel.undo,
        "questions": [question.as_json() for question in questions_of(panel)],
        "second": any(question.phase == SECOND for question in questions_of(panel)),
        "phases": {phase: [list(entry) for entry in sequence] for phase, sequence in phases.items()},
        "items": {item: contents[item] for item in own},
    }
    text = json.dumps(data, ensure_ascii=True).replace("<", "\\u003c")
    return TEMPLATE.read_text(encoding="utf-8").replace("/*DATA*/", text)
