"""How much work a planned job is, counted from its slice: optimiser steps, network passes, images, bytes.

A term of work is {kind, unit, amount, images, at_most, passes}: `amount` units of the kind of work `kind` (measured by
measure_speed), or amount for each of so many images: `images` is {"data set/part": weight}, since how many images a
data set has is known only when it is read, and `at_most` caps their number; `passes` are the forward passes of single
images in a step. Units: step (an optimiser step), image
(an image through a network that looks), pass (an image once through a network that draws).
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

from synthgain.pools.options import Inpainting, Sampling
from synthgain.pools.passes import evaluations
from synthgain.study.planner import PlannedJob

MEMBERSHIP_LEVELS = 4  # noise levels of evaluation/membership.py
GRID_ROWS, LEVELS_A_COLUMN = 16, 2  # rows of draw_sample_grid: its most, and about how many a condition has
NETWORK_COPIES = 2  # a downstream job keeps its finished weights as state beside the published ones
FIDELITY_CAP = 2000  # images a side where the config sets none (measure_fidelity.py)

Term = dict[str, Any]
Slice = Mapping[str, Any]


def term(kind: str, unit: str, amount: float, images: Mapping[str, float] | None = None, at_most: int = 0) -> Term:
    """Return one term of work."""
    entry: Term = {"kind": kind, "unit": unit, "amount": amount}
    if images:
        entry["images"] = dict(images)
    return {**entry, "at_most": at_most} if at_most else entry


def train_generator(job: Slice) -> list[Term]:
    """Steps, each a batch forward and backward."""
    passes = job["training"]["batch_size"] * job["step_passes"]
    return [term(f"generator {job['generator']}", "step", job["training"]["steps"]) | {"passes": passes}]


def draw_sample_grid(job: Slice) -> list[Term]:
    """Passes of every picture of the grid."""
    rows = min(GRID_ROWS, max(1, LEVELS_A_COLUMN * len(job["condition_on"])))
    return [_passes(job["generator"], rows * job["columns"] * _evaluations(job, job["denoises"]))]


def draw_pool_shard(job: Slice) -> list[Term]:
    """Passes of the shard's images, and of their masks where a generator draws those; nothing for other pools."""
    if job["draws"] is None:
        return []
    share = {f"{job['rows_of']}/train": 1 / job["shards"]}
    each = _evaluations(job, job["denoises"][job["draws"]])
    terms = [_passes(job["draws"], each, share)]
    if job["draws_masks"] is not None:
        terms.append(_passes(job["draws_masks"], evaluations(Sampling.from_slice(job["sampling"])), share))
    return terms


def _evaluations(job: Slice, denoises: bool) -> int:
    """Return the passes through its network of each image that a job draws."""
    inpainting = job.get("inpainting")
    if not denoises:
        return 1
    return evaluations(Sampling.from_slice(job["sampling"]), inpainting and Inpainting.from_slice(inpainting))


def steps_of(model: Slice, arm: Slice, ratio: int) -> int:
    """Return the optimiser steps of one replicate of a cell (`downstream/cell.py`, to the rounding of its counts)."""
    steps = round(model["steps"] * arm["steps_factor"])
    if arm["match"] != "epochs":
        return steps
    copies = ratio / 100 * (arm["sibling_probability"] or 1.0)
    return round(steps * ((1.0 if arm["real"] else 0.0) + copies if ratio else 1.0))


def train_downstream(job: Slice) -> list[Term]:
    """Steps of all replicates, and the validation images that they look at."""
    model, arm = job["model"], job["arm"]
    steps, replicates = steps_of(model, arm, job["ratio"]), len(job["replicates"])
    kind = f"model {model['name']}, {arm['augmentation']} augmentation"
    seen = {f"{arm['validation']}/validation": arm["real_fraction"]}
    looks = replicates * math.ceil(steps / model["validate_every"])
    learnt = term(kind, "step", replicates * steps) | {"passes": model["batch_size"]}
    return [learnt, term(kind, "image", looks, seen)]


def predict_downstream(job: Slice) -> list[Term]:
    """Images of every evaluation part, by each replicate."""
    seen: dict[str, float] = {}
    for entry in job["evaluate"]:
        for part in entry["parts"]:
            share = job["model"]["real_fraction"] if part == "validation" else 1.0
            seen[f"{entry['dataset']}/{part if entry['split'] else 'all'}"] = share
    return [term(job["kind"], "image", len(job["replicates"]), seen)]


def measure_fidelity(job: Slice) -> list[Term]:
    """Images of three sides through every feature space."""
    rows, most = job["rows_of"], job["n"] or FIDELITY_CAP
    sides = [{f"{rows}/train": 1.0}, {f"{rows}/train": 1.0}, {f"{rows}/validation": 1.0, f"{rows}/test": 1.0}]
    return [term(job["spaces_kinds"][name], "image", 1, side, most) for name in job["spaces_kinds"] for side in sides]


def check_memorisation(job: Slice) -> list[Term]:
    """Features of the pool and of the real images, and the denoising losses of membership inference."""
    terms = [term(job["space_kind"], "image", 1, _pool_and_real(job))] if job["space_kind"] else []
    if job["membership"] and job["draws"] is not None and job["denoises"][job["draws"]]:
        each, most = MEMBERSHIP_LEVELS * job["membership"]["draws"], job["membership"]["images"]
        members = {f"{name}/train": 1.0 for name in job["train_on"]}
        others = {f"{name}/{part}": 1.0 for name in job["train_on"] for part in ("validation", "test")}
        terms += [_passes(job["draws"], each, side, most) for side in (members, others)]
    return terms


def score_pool(job: Slice) -> list[Term]:
    """The pool's and the real images through the real-only model."""
    return [term(job["kind"], "image", 1, _pool_and_real(job))]


def evaluate_snapshots(job: Slice) -> list[Term]:
    """Images drawn from every snapshot, and their features."""
    count, rows = len(job["snapshots"]), {f"{name}/train": 1.0 for name in job["train_on"]}
    drawn = _passes(job["generator"], count * _evaluations(job, denoises=True), rows, job["n"])
    return [drawn, term(job["space_kind"], "image", count, rows, job["n"])]


def _pool_and_real(job: Slice) -> dict[str, float]:
    seen: dict[str, float] = {f"{job['rows_of']}/train": float(job["replicas"])}
    for name in job.get("train_on") or [job["rows_of"]]:
        for part in ("train", "validation", "test"):
            seen[f"{name}/{part}"] = seen.get(f"{name}/{part}", 0.0) + 1.0
    return seen


def _passes(generator: str, each: float, images: Mapping[str, float] | None = None, at_most: int = 0) -> Term:
    return term(f"sampling {generator}", "pass", each, images, at_most)


WORK: dict[str, Callable[[Slice], list[Term]]] = {
    function.__name__: function
    for function in (
        train_generator, draw_sample_grid, draw_pool_shard, train_downstream, predict_downstream, measure_fidelity,
        check_memorisation, score_pool, evaluate_snapshots,
    )
}  # fmt: skip


def disk_of(rule: str, job: Slice, image: Mapping[str, int]) -> list[Term]:
    """Return what a job leaves on disk: unit "bytes" for images, "network" for copies of a kind's weights."""
    plane = image["size"] ** 2
    if rule == "prepare_dataset":
        return [term("", "bytes", plane * (image["channels"] + job["planes"]), {f"{job['dataset']}/all": 1.0})]
    if rule == "draw_pool_shard":
        share = {f"{job['rows_of']}/train": 1 / job["shards"]}
        return [term("", "bytes", plane * (image["channels"] + job["planes"]), share)]
    if rule == "train_generator":
        return [term(f"generator {job['generator']}", "network", len(job["training"]["snapshots"]))]
    if rule == "train_downstream":
        kind = f"model {job['model']['name']}, {job['arm']['augmentation']} augmentation"
        return [term(kind, "network", NETWORK_COPIES * len(job["replicates"]))]
    return []


def size_of(terms: list[Term]) -> float:
    """Return a number that grows with a job's work, to tell the longest of jobs of one group."""
    return sum(entry["amount"] * (sum(entry.get("images", {}).values()) or 1.0) for entry in terms)


def joined(terms: list[Term]) -> list[Term]:
    """Return the sum of terms, those of one kind and unit as one where their images can be added."""
    found: dict[tuple[Any, ...], Term] = {}
    for entry in terms:
        images, most = entry.get("images", {}), entry.get("at_most", 0)
        if images and not most:
            key: tuple[Any, ...] = (entry["kind"], entry["unit"], "images")
            kept = found.setdefault(key, {**term(entry["kind"], entry["unit"], 1), "images": {}})
            for name, weight in images.items():
                kept["images"][name] = kept["images"].get(name, 0.0) + weight * entry["amount"]
        else:
            key = (entry["kind"], entry["unit"], tuple(sorted(images.items())), most)
            kept = found.setdefault(key, {**entry, "amount": 0})
            kept["amount"] += entry["amount"]
    return list(found.values())


def closure(first: list[str], jobs: Mapping[str, PlannedJob]) -> list[PlannedJob]:
    """Return the jobs behind the outputs `first`, inputs before what needs them."""
    order: dict[str, PlannedJob] = {}
    pending = [(path, False) for path in reversed(first)]
    while pending:
        path, ready = pending.pop()
        if path in order:
            continue
        if ready:
            order[path] = jobs[path]
            continue
        pending.append((path, True))
        pending += [(name, False) for name in reversed(list(jobs[path].inputs)) if name not in order]
    return list(order.values())
