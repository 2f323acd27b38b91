"""From a study to jobs: for each rule and its wildcards the slice, the inputs and the identity.

A job's identity is a digest of its slice, its code and the identities of its inputs, computed from
the config alone: what lies on disk is compared with it, never read for it.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import canonical_json, digest, sha256_file
from synthgain.study.code import CodeDigests
from synthgain.study.schema import Study

# First output of every rule, relative to the run folder. The rule files say the same; a test compares them.
OUTPUTS = {
    "prepare_dataset": "datasets/{dataset}/manifest.json",
    "split_dataset": "splits/{dataset}/manifest.json",
    "audit_datasets": "audit/audit.json",
    "train_generator": "generators/{generator}/{index}/manifest.json",
    "draw_sample_grid": "samples/{generator}/{index}/{snapshot}.png",
    "draw_pool_shard": "pools/{pool}/{index}/replica-{replica}/shard-{shard}/manifest.json",
    "merge_pool_replica": "pools/{pool}/{index}/replica-{replica}/manifest.json",
    "export_pool": "exports/{pool}/{index}/manifest.json",
    "train_downstream": "downstream/{model}/{arm}/{ratio}/{chunk}/manifest.json",
    "predict_downstream": "predictions/{model}/{arm}/{ratio}/{chunk}.parquet",
    "collect_predictions": "predictions/{model}/{arm}.parquet",
    "trivial_floor": "floors/{model}.parquet",
    "measure_fidelity": "fidelity/{pool}/{index}/manifest.json",
    "check_memorisation": "memorisation/{pool}/{index}/manifest.json",
    "score_pool": "label_consistency/{pool}/{index}/manifest.json",
    "evaluate_snapshots": "snapshots/{generator}/{index}/manifest.json",
    "compare_arms": "statistics/{model}/manifest.json",
    "relate_fidelity": "fidelity_utility/{model}/manifest.json",
    "draw_figures": "figures/{model}/manifest.json",
    "write_report": "report.html",
    "measure_speed": "forecast/speed.json",
    "forecast_cost": "forecast/forecast.json",
    "summarise_calibration": "calibration.json",  # below the study, not the run
}


@dataclass(frozen=True)
class Draft:
    """What a plan function says of a job: slice, inputs as (rule, wildcards), dotted modules it will load.

    result: what the identity rests on in place of slice and inputs, where these hold more than the result depends on;
    basis: likewise what must be unchanged for a result of older code to stay accepted.
    """

    slice: Mapping[str, Any]
    inputs: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    modules: tuple[str, ...] = ()
    result: Mapping[str, Any] | None = None
    basis: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class PlannedJob:
    """A job with its identity. inputs: {path relative to the run folder: identity}."""

    rule: str
    output: str
    slice: Mapping[str, Any]
    inputs: Mapping[str, str]
    code: str
    identity: str

    def parameter(self) -> str:
        """Return the rule's one param: canonical JSON."""
        fields = {"slice": self.slice, "inputs": self.inputs, "code": self.code, "identity": self.identity}
        return canonical_json(fields)


@dataclass(frozen=True)
class Made:
    """What a job's identity is made of, asked of an `Acceptance`. output: relative to the run folder."""

    rule: str
    output: str
    slice: Mapping[str, Any]
    inputs: Mapping[str, str]
    code: str
    draft: Draft | None = None

    @property
    def _result(self) -> Mapping[str, Any]:
        return (self.draft and self.draft.result) or {"slice": self.slice, "inputs": self.inputs}

    def identity(self, code: str) -> str:
        """Return the identity of the job's result if `code` made it."""
        return digest({"rule": self.rule, "code": code, **self._result})

    def basis(self) -> str:
        """Return the digest of what the result rests on besides its code."""
        return digest({"rule": self.rule, **((self.draft and self.draft.basis) or self._result)})

    def planned(self, accepted: "Acceptance") -> PlannedJob:
        """Return the job under the digest that is taken as its code's."""
        code = accepted(self)
        return PlannedJob(self.rule, self.output, self.slice, self.inputs, code, self.identity(code))


Acceptance = Callable[[Made], str]  # the digest under which a job is planned: its code's, or an accepted older one


def nothing_accepted(made: Made) -> str:
    """Plan every job under the digest of its code."""
    return made.code


Plan = Callable[..., Draft]
PLANS: dict[str, Plan] = {}


def plans(function: Plan) -> Plan:
    """Register a plan function under its name, which is the rule's."""
    PLANS[function.__name__] = function
    return function


class Planner:
    """Plans one run of a study. `run` is its folder below results/, `root` the data root if known."""

    def __init__(
        self,
        study: Study,
        run: str,
        seed: int,
        code: CodeDigests,
        results: Path,
        root: Path | None,
        accepted: Acceptance = nothing_accepted,
    ) -> None:
        self.study, self.run, self.seed, self.code = study, run, seed, code
        self.folder, self.root, self.accepted = results / run, root, accepted
        self._jobs: dict[tuple[str, str], PlannedJob] = {}
        self._checksums: dict[str, str] = {}

    def job(self, rule: str, **wildcards: Any) -> PlannedJob:
        """Return the planned job of a rule with these wildcards; KeyError for names that the study lacks."""
        output = OUTPUTS[rule].format(**wildcards)
        key = (rule, output)
        if key not in self._jobs:
            draft = PLANS[rule](self, **wildcards)
            inputs = {job.output: job.identity for job in (self.job(name, **w) for name, w in draft.inputs)}
            code = self.code.digest(f"{rule}.py", tuple(sorted(set(draft.modules))))
            self._jobs[key] = Made(rule, output, draft.slice, inputs, code, draft).planned(self.accepted)
        return self._jobs[key]

    def jobs(self) -> list[PlannedJob]:
        """Return every job planned so far."""
        return list(self._jobs.values())

    def chunks(self) -> range:
        """Return the numbers of a cell's downstream jobs."""
        return range(-(-self.study.replicates.count // self.study.replicates.per_job))

    def replicates_of(self, chunk: Any) -> list[int]:
        """Return the replicates of downstream job `chunk`: chunk·per_job … (chunk+1)·per_job − 1.

        Raises KeyError for a chunk that the study lacks.
        """
        if int(chunk) not in self.chunks():
            raise KeyError(f"chunk {chunk}")
        count, size = self.study.replicates.count, self.study.replicates.per_job
        return list(range(int(chunk) * size, min((int(chunk) + 1) * size, count)))

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
        """Return how many draws of each pool are used: replicate i takes draw i mod this.

        The least common multiple, so that a replicate gets generator i mod `generators` and pool draw i mod
        `pools` at once, whichever of the two is larger.
        """
        replicates = self.study.replicates
        return min(math.lcm(replicates.generators, replicates.pools), replicates.count)

    def ratios(self, arm: str) -> list[int]:
        """Return the ratios of an arm; [0] for one without."""
        return self.study.arms[arm].ratios or [0]
