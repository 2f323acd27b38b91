"""From a study to jobs: for each rule and its wildcards the slice, the inputs and the identity.

A job's identity is a digest of its slice, its code and the identities of its inputs, computed from
the config alone: what lies on disk is compared with it, never read for it.
"""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TypeVar, cast

from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import sha256_file
from synthgain.study.code import CodeDigests
from synthgain.study.schema import Study
from synthgain.study.stage import (
    LOOK,
    Acceptance,
    Made,
    Named,
    PlannedJob,
    Stage,
    Wildcard,
    Wildcards,
    nothing_accepted,
)

Part = TypeVar("Part")


class Planner:
    """Plans one run of a study. `run` is its folder below results/, `root` the data root if known.

    stages: {name: stage}, all that there are (`stages/table.py`).
    """

    def __init__(
        self,
        study: Study,
        run: str,
        seed: int,
        code: CodeDigests,
        results: Path,
        root: Path | None,
        stages: Mapping[str, Stage],
        accepted: Acceptance = nothing_accepted,
    ) -> None:
        self.study, self.run, self.seed, self.code = study, run, seed, code
        self.folder, self.root, self.stages, self.accepted = results / run, root, stages, accepted
        self.look = look_folders(study)[-1]
        self._jobs: dict[tuple[str, str], PlannedJob] = {}
        self._parts: dict[tuple[str, ...], object] = {}
        self._checksums: dict[str, str] = {}
        self._at: dict[str, Planner] = {self.look: self}

    def job(self, rule: str, **wildcards: Wildcard) -> PlannedJob:
        """Return the planned job of a rule with these wildcards; KeyError for names that the study lacks.

        Without a look it is that of this planner's. A stage that has none is planned for all looks.
        """
        stage = self.stages[rule]
        look = str(wildcards.pop(LOOK, self.look)) if LOOK in stage.wildcards else look_folders(self.study)[-1]
        output = stage.output.format(**{**wildcards, LOOK: look})
        key = (rule, output)
        if key not in self._jobs:
            plan = self.at(look)
            draft = stage.plan(plan, **wildcards)
            named, inputs = plan.inputs_of(stage, draft.inputs)
            code = self.code.digest(f"{rule}.py", tuple(sorted(set(draft.modules))))
            made = Made(rule, output, draft.slice, inputs, code, draft, named, wildcards, stage.key(wildcards))
            self._jobs[key] = made.planned(self.accepted)
        return self._jobs[key]

    def inputs_of(self, stage: Stage, wanted: Mapping[str, Sequence[Wildcards]]) -> tuple[Named, dict[str, str]]:
        """Return the inputs of a job by name, and {path: identity} of all of them."""
        assert wanted.keys() <= stage.inputs.keys(), f"{stage.name}: {sorted(wanted)}"
        named: dict[str, list[tuple[tuple[str | int, ...], str]]] = {}
        identities: dict[str, str] = {}
        for name, rule in stage.inputs.items():
            named[name] = []
            for place in wanted.get(name, ()):
                job = self.job(rule, **place)
                identities[job.output] = job.identity
                named[name].append((job.key, job.output))
        return named, identities

    def identities(self, rule: str, wanted: Mapping[str, Sequence[Wildcards]]) -> dict[str, str]:
        """Return {path: identity} of these inputs of a rule."""
        return self.inputs_of(self.stages[rule], wanted)[1]

    def once(self, about: tuple[str, ...], make: Callable[[], Part]) -> Part:
        """Return what many jobs share, made for the first of them; nobody may change it."""
        if about not in self._parts:
            self._parts[about] = make()
        return cast(Part, self._parts[about])

    def jobs(self) -> list[PlannedJob]:
        """Return every job planned so far."""
        return list(self._jobs.values())

    def at(self, look: str) -> "Planner":
        """Return the planner of the same jobs as one look has them: with its replicates, and what these need."""
        if look not in self._at:
            self._at[look] = copy.copy(self)
            self._at[look].look = look
        return self._at[look]

    @property
    def replicates(self) -> int:
        """Replicates at this planner's look."""
        return self.study.replicates.planned[look_folders(self.study).index(self.look)]

    def chunks(self) -> range:
        """Return the numbers of a cell's downstream jobs, up to this planner's look."""
        return range(sum(chunk.start < self.replicates for chunk in self._cut()))

    def replicates_of(self, chunk: Wildcard) -> list[int]:
        """Return the replicates of downstream job `chunk`, at most `per_job`; no job reaches over a look.

        Raises KeyError for a chunk that the study lacks.
        """
        if int(chunk) not in range(len(self._cut())):
            raise KeyError(f"chunk {chunk}")
        return list(self._cut()[int(chunk)])

    def chunk_of(self, replicate: int) -> int:
        """Return which downstream job of a cell trains a replicate."""
        return next(place for place, chunk in enumerate(self._cut()) if replicate in chunk)

    def _cut(self) -> list[range]:
        size, looks = self.study.replicates.per_job, self.study.replicates.planned
        pairs = pairwise((0, *looks))
        return [range(start, min(start + size, end)) for first, end in pairs for start in range(first, end, size)]

    def checksum(self, name: str | None, place: str) -> str | None:
        """Return the SHA-256 of a file below the data root (None for no file); SynthGainError where it is missing."""
        if name is None:
            return None
        if name not in self._checksums:
            path = None if self.root is None else self.root / name
            if path is None or not path.is_file():
                where = f"not in {self.root}" if self.root else "but the data root is not known"
                raise SynthGainError(f"{place}: {name!r} {where}; pass --config data_root=FOLDER or set SYNTHGAIN_DATA")
            self._checksums[name] = sha256_file(path)
        return self._checksums[name]

    def pool_draws(self) -> int:
        """Return how many draws of each pool are used up to this planner's look: replicate i takes draw i mod the most.

        The least common multiple, so that a replicate gets generator i mod `generators` and pool draw i mod
        `pools` at once, whichever of the two is larger.
        """
        replicates = self.study.replicates
        return min(math.lcm(replicates.generators, replicates.pools), self.replicates)

    def ratios(self, arm: str) -> list[int]:
        """Return the ratios of an arm; [0] for one without."""
        return self.study.arms[arm].ratios or [0]


def plan_over_runs(rule: str, planners: Mapping[str, Planner], accepted: Acceptance = nothing_accepted) -> PlannedJob:
    """Return the one job of a stage over all runs of a study; its paths are relative to the study's folder.

    planners: {run folder: planner}. The key of an input begins with its run: ("seed-3", "cnn").
    """
    first = next(iter(planners.values()))
    stage = first.stages[rule]
    draft = stage.plan(planners)
    named: dict[str, list[tuple[tuple[str | int, ...], str]]] = {name: [] for name in stage.inputs}
    inputs: dict[str, str] = {}
    for folder, plan in planners.items():
        run = run_below(plan.study, folder)
        of_run, identities = plan.inputs_of(stage, draft.inputs)
        inputs |= {f"{run}/{path}": identity for path, identity in identities.items()}
        for name, entries in of_run.items():
            named[name] += [((run, *key), f"{run}/{path}") for key, path in entries]
    code = first.code.digest(f"{rule}.py")
    return Made(rule, stage.output, draft.slice, inputs, code, draft, named).planned(accepted)


def look_folders(study: Study) -> list[str]:
    """Return the folders of what each planned look makes, `look-1/` …; [""] for a study that is looked at once."""
    looks = study.replicates.looks
    return [""] if looks is None else [f"look-{number}/" for number in range(1, len(looks) + 1)]


def run_below(study: Study, run: str) -> str:
    """Return the folder of a run relative to that of its study."""
    return run.removeprefix(f"{study.study}/")
