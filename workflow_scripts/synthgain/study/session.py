"""What the Snakefile opens: the study, a planner per run, and the environment of its jobs."""

import atexit
import os
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from synthgain.runtime.accepted import read_accepted
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import canonical_json, read_manifest, write_json
from synthgain.runtime.job_pack import PACK, JobPack
from synthgain.runtime.settings import VARIABLE
from synthgain.study.acceptance import FromRecords, chosen_rules, described, from_file
from synthgain.study.code import CodeDigests
from synthgain.study.expected import plan_all, sources
from synthgain.study.job_settings import job_settings
from synthgain.study.load import parse_study, run_names
from synthgain.study.looks import look_now
from synthgain.study.looks import told as told_of_looks
from synthgain.study.planner import Planner, plan_over_runs
from synthgain.study.records import Recorded, record_of, told, what_changed
from synthgain.study.roles import trainings_of
from synthgain.study.schema import Study
from synthgain.study.stage import Acceptance, PlannedJob
from synthgain.study.stages.forecast import planned_outputs
from synthgain.study.stages.generators import snapshots_of
from synthgain.study.stages.table import STAGES
from synthgain.study.stages.weights import from_files
from synthgain.study.wildcards import check_wildcards
from synthgain.study.yaml_files import Place

# Linux takes 128 KiB for one argument, and a rule's whole shell command is one.
LONGEST_PARAMETER = 64 * 1024
JOB_PACKS = Path(".snakemake") / "synthgain_jobs"
DIGESTS = Path(".snakemake") / "synthgain_digests.json"
# OpenMP of the wheels (libgomp) reads the first, that of conda and of Intel (libomp) also the second, in milliseconds.
WAITING = {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}
PROTOCOL = STAGES["write_protocol"].output  # a receipt: the protocols themselves are no rule's output
CALL = "synthgain_call-"  # folders of single calls below .snakemake
ACCEPT = "accept"  # not a key of the study: which rules' results `snakemake accept` takes as current


class Session:
    """One call of Snakemake: `config` the study as it was given, `repository` the folder of the Snakefile.

    `source` is what the config is called in messages, or says so for a place in it.
    """

    def __init__(
        self,
        config: Mapping[str, object],
        repository: Path,
        results: Path,
        source: str | Callable[[Place], str] = "config",
    ) -> None:
        self.study: Study = parse_study({key: value for key, value in config.items() if key != ACCEPT}, source)
        self._rules_to_accept = chosen_rules(config.get(ACCEPT))
        self.results = results
        self._packs: dict[str, JobPack] = {}
        self._own: Path | None = None
        self._asked: dict[tuple[str, ...], PlannedJob] = {}
        self._made: dict[Path, str] = {}  # manifests on disk: their identities
        root = self.study.data_root or os.environ.get("SYNTHGAIN_DATA")
        self.root = Path(root).expanduser().resolve() if root else None
        self.code = CodeDigests(
            repository / "workflow_scripts",
            repository / "envs" / "requirements.lock",
            Path(".snakemake") / "synthgain_code.json",
        )
        self.code.warm()
        seeds = self.study.study_seeds or [self.study.seed]
        self._seeds = dict(zip(run_names(self.study), seeds, strict=True))
        folders = [*self._seeds, *([self.study.study] if self.study.study_seeds is not None else [])]
        self.accepted = {folder: read_accepted(results / folder) for folder in folders}
        # Frozen for this call: what the looks of this call decide is for the next one.
        self._looks = {run: look_now(self.study, results / run) for run in self._seeds}
        self.planners = {run: self._planner(run, from_file(self.accepted[run])) for run in self._seeds}
        self._set_environment(repository)

    def _planner(self, run: str, accepted: Acceptance) -> Planner:
        plan = Planner(self.study, run, self._seeds[run], self.code, self.results, self.root, STAGES, accepted)
        return plan.at(self._looks[run])

    def _over_runs(self, rule: str) -> PlannedJob:
        return plan_over_runs(rule, self.planners, from_file(self.accepted[self.study.study]))

    def _all_over_runs(self) -> list[PlannedJob]:
        return [self._over_runs(name) for name, stage in STAGES.items() if stage.over_runs]

    def run_pattern(self) -> str:
        """Return the regular expression of this study's run folders."""
        return "|".join(re.escape(run) for run in self.planners)

    def inputs(self, rule: str, name: str, **wildcards: str) -> list[tuple[str, bool]]:
        """Return the input paths of a job under one name, each with whether to mark it `ancient`.

        To be marked is a replica of a pool that is there with the identity it should have: cut into other shards it is
        written again, and is the same.
        """
        folder, job = self._job(rule, **wildcards)
        replicas = STAGES[rule].inputs[name] == "merge_pool_replica"
        return [
            (f"{self.results}/{folder}/{path}", replicas and self._is_made(folder, path, job.inputs[path]))
            for _, path in job.named[name]
        ]

    def waits_for(self, rule: str, receipt: str, **wildcards: str) -> list[str]:
        """Return the receipt (of the audit, of the protocol) that a job waits for; nothing for a job that is done.

        `ancient` would not do: while the receipt is due, Snakemake does not look whether what comes after it, by
        ancient files too, has reasons of its own to run.
        """
        folder, job = self._job(rule, **wildcards)
        done = self._is_made(folder, job.output, job.identity)
        return [] if done else [f"{self.results}/{folder}/{receipt}"]

    def told_at_the_end(self) -> list[str]:
        """Return where the reports of this call are, and how a study with planned looks stands now."""
        pages = [path for path in self.targets("report") if path.endswith(".html") and Path(path).exists()]
        looks = (told_of_looks(self.study, self.results / run) for run in self.planners)
        return [*(f"report: {path}" for path in pages), *(line for line in looks if line)]

    def _is_made(self, folder: str, path: str, identity: str) -> bool:
        """Return whether a manifest is there with the identity it should have."""
        place = self.results / folder / path
        if place not in self._made:
            try:
                self._made[place] = str(read_manifest(place)["identity"])
            except SynthGainError:  # not there yet, or damaged
                self._made[place] = ""
        return self._made[place] == identity

    def parameter(self, rule: str, **wildcards: str) -> str:
        """Return the one param of a job: its JSON, or where that is too long its digest, and the pack that holds it."""
        return self._parameter(self._job(rule, **wildcards)[1])

    def _parameter(self, job: PlannedJob) -> str:
        text = job.parameter()
        if len(shlex.quote(text)) <= LONGEST_PARAMETER:
            return text
        pack = self._packs.setdefault(job.rule, JobPack(JOB_PACKS / f"{job.rule}.jobs"))
        facts = {PACK: str(pack.path), "digest": pack.keep(text), "code": job.code, "identity": job.identity}
        return canonical_json(facts)

    def targets(self, kind: str, run: str | None = None) -> list[str]:
        """Return the files of a named target: protocol, audit, plan, samples, exports or report; of one run or all."""
        planners = self.planners if run is None else {run: self.planners[run]}
        if kind == "plan":  # all seeds of a study are the same work: the forecast of one stands for all
            planners = dict(list(planners.items())[:1])
        found = [f"{self.results}/{run}/{path}" for run, plan in planners.items() for path in _targets(plan, kind)]
        if kind == "report" and self.study.study_seeds is not None:
            found.append(f"{self.results}/{self.study.study}/calibration.html")
        return found

    def _job(self, rule: str, run: str | None = None, study: str = "", **wildcards: str) -> tuple[str, PlannedJob]:
        """Return a job and the folder of its paths: a run's, or the study's for the one job over all runs."""
        if run is not None:
            asked = (rule, run, *wildcards.values())  # once for each name of its inputs
            if asked not in self._asked:
                check_wildcards(self.planners[run], rule, wildcards)
                self._asked[asked] = self.planners[run].job(rule, **wildcards)
            return run, self._asked[asked]
        return self.study.study, self._over_runs(rule)

    def write_expected(self, path: Path) -> str:
        """Write `expected()` with the sources of data sets as JSON for verify_results.py, and return the path."""
        found: dict[str, dict[str, object]] = {
            run: {"identities": identities, "sources": {}} for run, identities in self.expected().items()
        }
        for run, plan in self.planners.items():
            found[run]["sources"] = sources(plan.jobs())
        write_json(path, found)
        return str(path)

    def write_planned(self, path: Path) -> str:
        """Write {run: [{path: identity} of each group of the forecast]} as JSON for print_plan.py; return the path."""
        write_json(path, {run: planned_outputs(plan) for run, plan in self.planners.items()})
        return str(path)

    def write_acceptable(self, path: Path, recorded: Recorded) -> str:
        """Write as JSON for accept_results.py which results may be taken as current, and return the path.

        Only results whose code alone differs from what Snakemake recorded, of the rules in `--config accept=…`.
        """
        rules, found = self._rules_to_accept, {}
        planners: dict[str, Planner] = {}
        for run in self.planners:
            acceptance = FromRecords(f"{self.results}/{run}", recorded, rules, self.accepted[run])
            planners[run] = self._planner(run, acceptance)
            planners[run].job("write_report")
            for pool in self.study.pools:
                if (self.results / run / STAGES["export_pool"].output.format(pool=pool, index=0)).exists():
                    planners[run].job("export_pool", pool=pool, index=0)
            found[run] = described(acceptance, planners[run].jobs())
        if self.study.study_seeds is not None:
            study = self.study.study
            acceptance = FromRecords(f"{self.results}/{study}", recorded, rules, self.accepted[study])
            found[study] = described(
                acceptance,
                [plan_over_runs(name, planners, acceptance) for name, stage in STAGES.items() if stage.over_runs],
            )
        write_json(path, found)
        return str(path)

    def changes(self, recorded: Recorded) -> str:
        """Return in lines, rule by rule, which keys and modules differ from what made the results; "" where none do."""
        runs = {run: plan for run, plan in self.planners.items() if (self.results / run).exists()}
        jobs = [(run, job) for run, plan in runs.items() for job in plan.jobs()]
        if self.study.study_seeds is not None:
            jobs += [(self.study.study, job) for job in self._all_over_runs()]
        changed = []
        for run, job in jobs:
            params = recorded(f"{self.results}/{run}/{job.output}")
            record = record_of(params) if params and params != [repr(self._parameter(job))] else None
            if record is not None:
                changed.append((job, what_changed(record, job, partial(self.code.changed, kept=DIGESTS))))
        accepted = [job for job, _ in changed if any(job.output in entries for entries in self.accepted.values())]
        return told([(job.rule, reasons) for job, reasons in changed], len(accepted))

    def remember_code(self) -> None:
        """Keep what each code digest covers, so that a later call can say which modules changed."""
        self.code.remember(DIGESTS)

    def notice(self) -> str:
        """Return a warning if results stand here without Snakemake's records of how they were made, else nothing."""
        records = Path(".snakemake/metadata")  # Snakemake makes the folder anew; what counts is what it holds
        if (records.exists() and any(records.iterdir())) or not any(
            (self.results / run).exists() for run in self.planners
        ):
            return ""
        return (
            "note: .snakemake/metadata is gone, so only time stamps tell what is up to date; `snakemake verify` lists "
            "every file that another config or code made"
        )

    def expected(self) -> dict[str, dict[str, str]]:
        """Return {run: {path: identity}} of every file that the report rests on, and of samples and exports there."""
        found = {
            run: {job.output: job.identity for job in plan_all(plan, self.results)}
            for run, plan in self.planners.items()
        }
        if self.study.study_seeds is not None:
            found[self.study.study] = {job.output: job.identity for job in self._all_over_runs()}
        return found

    def own_file(self, name: str) -> Path:
        """Return a path that no other call of Snakemake has; its folder is removed when this process ends."""
        if self._own is None:
            Path(".snakemake").mkdir(exist_ok=True)
            self._own = Path(tempfile.mkdtemp(prefix=CALL, dir=".snakemake"))
            atexit.register(_remove, self._own, os.getpid())
        return self._own / name

    def _set_environment(self, repository: Path) -> None:
        """Jobs inherit these; as they are no params, moving the data, the checkout or the device reruns nothing."""
        os.environ["SYNTHGAIN_SCRIPTS"] = str(repository.resolve() / "workflow_scripts")
        if self.root is not None:
            os.environ["SYNTHGAIN_DATA"] = str(self.root)
        os.environ[VARIABLE] = canonical_json(job_settings(self.study))
        compute = self.study.compute
        os.environ["SYNTHGAIN_DEVICE"] = os.environ.get("SYNTHGAIN_DEVICE", compute.device)
        os.environ["SYNTHGAIN_ALLOW_CPU"] = str(int(compute.allow_cpu))  # the config alone allows it
        # Threads that wait at the end of a layer sleep instead of spinning, so that a core shared with others (a login
        # node, a container's quota) costs its share and no more. What the user has set wins.
        for name, value in WAITING.items():
            os.environ.setdefault(name, value)
        os.environ.pop("PYTHONSAFEPATH", None)  # a script finds the library in its own folder
        # `python` in the rules is the interpreter that runs Snakemake, activated or not.
        os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])


def _remove(folder: Path, owner: int) -> None:
    """Remove what a call kept for itself; a process forked from it leaves it alone."""
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)


def _targets(plan: Planner, kind: str) -> list[str]:
    study = plan.study
    if kind == "protocol":
        return [PROTOCOL]
    if kind == "audit":
        also = {"audit_clusters": bool(study.clusters), "check_weights": from_files(study)}
        rules = ["audit_datasets", *(rule for rule, wanted in also.items() if wanted)]
        return [STAGES[rule].output for rule in rules]
    if kind == "plan":
        return [STAGES["forecast_cost"].output]
    if kind == "samples":
        return [
            STAGES["draw_sample_grid"].output.format(generator=name, index=index, snapshot=step)
            for name in study.generators
            for index in trainings_of(study, name)
            for step in snapshots_of(plan, name)
        ]
    if kind == "reader_kit":
        if not study.readers:
            raise SynthGainError("reader_kit: the study has no `readers:`; docs/readers.md says how to write them")
        return [STAGES["write_reader_kit"].output.format(panel=name) for name in study.readers]
    if kind == "exports":
        draws = range(plan.pool_draws())
        return [STAGES["export_pool"].output.format(pool=name, index=index) for name in study.pools for index in draws]
    return [PROTOCOL, STAGES["write_report"].output.format(look=plan.look)]
