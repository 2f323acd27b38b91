"""What a stage of the workflow is, and a job of it: facts only; `stages/table.py` lists them all.

Rules, Slurm profile, forecast, report and wildcards read a stage's facts here; a test holds them against each other.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from string import Formatter

from synthgain.runtime.files import canonical_json, digest
from synthgain.speed.documents import Term
from synthgain.study.schema import Study

Slice = Mapping[str, object]  # JSON values, on their way to a digest
Wildcard = str | int  # text from Snakemake, a number from the plan
Wildcards = Mapping[str, Wildcard]  # {name: value} of one job
Named = Mapping[str, Sequence[tuple[tuple[str | int, ...], str]]]  # {input name: [(key, path)]} of a job
NUMBERS = frozenset({"index", "replica", "shard", "ratio", "chunk", "snapshot"})  # wildcards that are numbers
# Wildcard of what each planned look makes anew: the folder of the look, "" in a study that is looked at once.
LOOK = "look"

# What a job loads before it computes, as measure_speed times it: a job starts as slowly as its libraries.
TABLES, TORCH, DRAWING = "tables", "torch", "drawing"


@dataclass(frozen=True)
class Draft:
    """What a plan function says of a job: slice, inputs as {name: wildcards of their jobs}, dotted modules it loads.

    Which stage makes the inputs of a name is said once, in `Stage.inputs`.
    result: what the identity rests on in place of slice and inputs, where these hold more than the result depends on;
    basis: likewise what must be unchanged for a result of older code to stay accepted.
    """

    slice: Slice
    inputs: Mapping[str, Sequence[Wildcards]] = field(default_factory=dict)
    modules: tuple[str, ...] = ()
    result: Slice | None = None
    basis: Slice | None = None


def no_gpu(study: Study, wildcards: Wildcards) -> int:
    """Of a stage that never computes on a GPU."""
    return 0


def one_gpu(study: Study, wildcards: Wildcards) -> int:
    """Of a stage whose jobs compute on one GPU each, where there are any."""
    return 1


@dataclass(frozen=True)
class Stage:
    """One stage: a rule, its script, its log and benchmark folder are called `name`.

    title: the stage in a reader's words.
    output: its first output, relative to the run folder (with `over_runs` to the study's), with its wildcards.
    plan: the function of a planner and the wildcards that drafts a job.
    inputs: {name in the rule file and of `job.inputs`: stage that makes them}.
    gpus: how many GPUs a job computes on where there are any; loads: libraries that it loads first.
    synthesis: True for work that exists only because synthetic images were wanted.
    work, disk: the functions of a planner and the wildcards that give a job's terms of work, and of what it leaves on
    disk (`study/work.py`).
    shown: the jobs behind the report, under the name that write_report reads them by.
    values: the values of a wildcard where they are fewer than any stage's (`study/wildcards.py`).
    """

    name: str
    title: str
    output: str
    plan: Callable[..., Draft]
    inputs: Mapping[str, str] = field(default_factory=dict)
    gpus: Callable[[Study, Wildcards], int] = no_gpu
    loads: str = TABLES
    synthesis: bool = False
    work: Callable[..., list[Term]] | None = None
    disk: Callable[..., list[Term]] | None = None
    shown: Callable[..., Sequence[Wildcards]] | None = None
    values: Mapping[str, Callable[[Study], Sequence[str]]] = field(default_factory=dict)
    over_runs: bool = False

    @cached_property
    def wildcards(self) -> tuple[str, ...]:
        """Names of the wildcards, in the order of the output's path."""
        return tuple(name for _, name, _, _ in Formatter().parse(self.output) if name is not None)

    def record(self, folder: str, ending: str) -> str:
        """Return where a job's log (or run times) lie below results/, with its wildcards and that of its run."""
        run = "{study}" if self.over_runs else "{run}"
        look = f"{{{LOOK}}}" if LOOK in self.wildcards else ""
        job = "-".join(f"{{{name}}}" for name in self.wildcards if name != LOOK) or "all"
        return f"{run}/{folder}/{self.name}/{look}{job}.{ending}"

    @property
    def on_gpu(self) -> bool:
        """True for a stage whose jobs may compute on a GPU."""
        return self.gpus is not no_gpu

    def key(self, wildcards: Wildcards) -> tuple[str | int, ...]:
        """Return the wildcards' values in the order of the path, numbers as such: how `job.inputs` finds an input."""
        named = (name for name in self.wildcards if name != LOOK)  # one look is all that a job knows
        return tuple(int(wildcards[n]) if n in NUMBERS else str(wildcards[n]) for n in named)


@dataclass(frozen=True)
class PlannedJob:
    """A job with its identity. inputs: {path relative to the run folder: identity}.

    named: {input name: [(key of the job that makes it, path)]}; place: the job's own wildcards; key: their values.
    """

    rule: str
    output: str
    slice: Slice
    inputs: Mapping[str, str]
    code: str
    identity: str
    named: Named = field(default_factory=dict)
    place: Wildcards = field(default_factory=dict)
    key: tuple[str | int, ...] = ()

    def parameter(self) -> str:
        """Return the rule's one param: canonical JSON."""
        fields = {"slice": self.slice, "inputs": self.inputs, "code": self.code, "identity": self.identity}
        return canonical_json({**fields, "named": self.named})


@dataclass(frozen=True)
class Made:
    """What a job's identity is made of, asked of an `Acceptance`. output: relative to the run folder."""

    rule: str
    output: str
    slice: Slice
    inputs: Mapping[str, str]
    code: str
    draft: Draft | None = None
    named: Named = field(default_factory=dict)
    place: Wildcards = field(default_factory=dict)
    key: tuple[str | int, ...] = ()

    @property
    def _result(self) -> Slice:
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
        return PlannedJob(
            self.rule, self.output, self.slice, self.inputs, code, self.identity(code), self.named, self.place, self.key
        )


Acceptance = Callable[[Made], str]  # the digest under which a job is planned: its code's, or an accepted older one


def nothing_accepted(made: Made) -> str:
    """Plan every job under the digest of its code."""
    return made.code
