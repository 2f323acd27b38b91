"""All of a run that a reader trusts, compared with the present plan, its own seals, and what it was made from."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import (
    SEAL,
    Listed,
    changed_keys,
    check_file,
    identity_of,
    read_json,
    read_manifest,
    read_table,
)
from synthgain.runtime.ledger import NAME as LEDGER
from synthgain.runtime.protocols import numbers_of, page_of, path_of, read_protocols, tampered
from synthgain.runtime.seals import MADE_FROM, is_as_marked, link, mark_of, owns_folder

# Beside the results: what jobs keep on their way or measure of the machine, and what was accepted.
NOT_COMPARED = ("state", "logs", "benchmarks", "forecast", "accepted.json")
UNSEALED = "has no seal, so that changes in it cannot be seen; delete it and run snakemake again"
RECEIPT = "receipt"  # an empty file for which others wait
SHOWN = 5  # names in a line of what is not covered


@dataclass
class Compared:
    """What a comparison found: one line per difference; the files that were compared; those of other configs."""

    differences: list[str] = field(default_factory=list)
    files: set[Path] = field(default_factory=set)
    stale: list[Path] = field(default_factory=list)

    def add(self, other: "Compared") -> None:
        """Take over what another comparison found."""
        self.differences += other.differences
        self.files |= other.files
        self.stale += other.stale


def compare_run(run: Path, identities: Mapping[str, str], others: frozenset[Path] = frozenset()) -> Compared:
    """Compare a run's folder with {path relative to it: identity} of what the plan makes; others: folders inside it
    of other runs, which are compared by themselves."""
    found = Compared()
    for relative, identity in sorted(identities.items()):
        found.files.add(run / relative)
        found.differences += _result(run, run / relative, identity, found.files)
    _protocols_and_ledger(run, found)
    _kits(run, found)
    _look_for_more(run, found, others)
    return found


def _result(run: Path, path: Path, identity: str, compared: set[Path]) -> list[str]:
    """Return how a result differs, and add the files that it lists to those compared."""
    try:
        if path.suffix == ".parquet":
            read_table(path, identity, columns=[])
            return []
        if path.suffix != ".json":
            return _page(run, path, identity)
        manifest = read_json(path)
    except SynthGainError as error:
        return [str(error)]
    lines = [] if isinstance(manifest, dict) and SEAL in manifest else [f"{path}: {UNSEALED}"]
    try:
        read_manifest(path, identity)
    except SynthGainError as error:
        lines.append(str(error))
    try:
        for name, listed in manifest.get("files", {}).items():
            compared.add(path.parent / name)
            lines += _listed(path.parent, name, listed)
        return lines + _origins(run, path, manifest.get(MADE_FROM, {}))
    except (AttributeError, TypeError, KeyError, ValueError):  # another shape than write_manifest gives it
        return lines or [f"{path}: not a manifest; delete it and run snakemake again"]


def _listed(folder: Path, name: str, listed: Listed) -> list[str]:
    try:
        check_file(folder, name, listed, every_byte=True)
    except SynthGainError as error:
        return [str(error)]
    return []


def _page(run: Path, path: Path, identity: str) -> list[str]:
    if not path.exists():
        return [f"{path}: missing; run snakemake again to make it"]
    content = path.read_bytes()
    mark = mark_of(path, content)
    if mark is None:
        return [f"{path}: {UNSEALED}"]
    if not is_as_marked(path, content):
        return [f"{path}: changed after its job wrote it; delete it and run snakemake again"]
    if mark["identity"] != identity:
        return [f"{path}: made by another config or code; run snakemake without --touch, or delete the file"]
    return _origins(run, path, mark["made_from"])


def _protocols_and_ledger(run: Path, found: Compared) -> None:
    """Compare what no rule declares and none deletes: protocols and the ledger by their own chain, pages by seals."""
    found.differences += tampered(run)
    protocols, _ = read_protocols(run)
    for protocol in protocols:
        page = page_of(run, protocol.number)
        found.files |= {path_of(run, protocol.number), page}
        again = f"delete it and {run / 'protocol' / 'receipt.json'}, and run snakemake again"
        found.differences += [f"{line.partition(';')[0]}; {again}" for line in _page(run, page, protocol.sha256)]
    damaged = {path_of(run, number) for number in numbers_of(run)} - found.files
    found.files |= {*damaged, *(path.with_suffix(".html") for path in damaged)}  # named by `tampered`
    if (run / LEDGER).exists():
        found.files.add(run / LEDGER)
    receipt = run / "protocol" / "receipt.json"
    try:
        named = read_json(receipt) if receipt.exists() else None
        if named is not None and named["sha256"] not in {protocol.sha256 for protocol in protocols}:
            path = path_of(run, named["protocol"])
            found.differences.append(f"{path}: gone, or not the one that {receipt} names; take it from a copy")
    except (SynthGainError, KeyError, TypeError):  # said before
        return


def _kits(run: Path, found: Compared) -> None:
    """Compare reader kits, of which readers may hold pages: each by its own manifest, and those that are named."""
    for path in sorted(run.glob("reader_kit-*/kit.json")):
        found.files.add(path)
        try:
            kit = read_json(path)
            changed = changed_keys(kit) if SEAL in kit else ["it has no seal"]
            listed = dict(kit.get("files", {}))
            found.files |= {path.parent / name for name in listed}
            lines = [line for name, facts in listed.items() for line in _listed(path.parent, name, facts)]
        except (SynthGainError, AttributeError, TypeError, KeyError, ValueError):
            changed, lines = ["it cannot be read"], []
        if changed:
            lines.append(f"{path}: changed since the kit was made ({', '.join(changed)})")
        found.differences += [
            f"{line.partition(';')[0]}; readers may hold this kit: take it from a copy" for line in lines
        ]
    for receipt in sorted(run.glob("readers/*/kit.json")):
        try:
            kit = read_json(receipt)
            named = run / kit["folder"] / "kit.json"
            same = named.exists() and read_json(named)["kit"] == kit["kit"]
        except (SynthGainError, KeyError, TypeError):  # said before
            continue
        if not same:
            found.differences.append(f"{named.parent}: gone, or not the kit that {receipt} names; take it from a copy")


def _origins(run: Path, path: Path, made_from: Mapping[str, str]) -> list[str]:
    compared = [name for name in made_from if not _beside(name.partition("/")[0]) and (run / name).exists()]
    other = [name for name in compared if link(run / name) != made_from[name]]
    more = f" and {len(other) - 1} more" if len(other) > 1 else ""
    return [f"{path}: made from another {other[0]}{more} than lies there now; delete it and rerun"] if other else []


def _look_for_more(run: Path, found: Compared, others: frozenset[Path]) -> None:
    """Name files that no result lists; those of a result of another config are told apart."""
    known: dict[Path, frozenset[str] | None] = {}
    for path in _files(run, others):
        if path.name == RECEIPT and not path.stat().st_size:
            continue
        if path not in found.files:
            if _of_another_config(run, path, known):
                found.stale.append(path)
            else:
                found.differences.append(f"{path}: no result of this study lists it; delete it or move it away")


def _files(run: Path, others: frozenset[Path]) -> Iterator[Path]:
    for folder, below, names in os.walk(run):
        here = Path(folder)
        if here == run:
            below[:] = [name for name in below if not _beside(name)]
            names = [name for name in names if not _beside(name)]
        below[:] = sorted(name for name in below if here / name not in others)
        yield from (here / name for name in sorted(names) if name != ".snakemake_timestamp")


def _beside(name: str) -> bool:
    return name in NOT_COMPARED


def _of_another_config(run: Path, path: Path, known: dict[Path, frozenset[str] | None]) -> bool:
    """True for a whole result that the plan does not make: it carries an identity, or a manifest lists it."""
    try:
        if path.suffix in (".html", ".png") and is_as_marked(path, path.read_bytes()):
            return True
        if path.suffix == ".parquet" and identity_of(path):
            return True
    except SynthGainError:
        return False
    for folder in [path.parent, *path.parent.parents]:
        if folder not in known:
            known[folder] = _listed_in(folder)
        names = known[folder]
        if names is not None:
            return path.relative_to(folder).as_posix() in names
        if folder == run:
            break
    return False


def _listed_in(folder: Path) -> frozenset[str] | None:
    """Return what the manifest of a folder lists, and its own name; None where the folder has none that is whole."""
    for path in (folder / "manifest.json", folder / f"{folder.name}.json"):
        try:
            if path.exists() and owns_folder(path):
                return frozenset([path.name, *read_manifest(path).get("files", {})])
        except (SynthGainError, AttributeError, TypeError):
            return None
    return None
