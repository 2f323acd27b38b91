"""The tiny study on a real Slurm of one node: `snakemake --profile slurm`, through all that a cluster does to jobs.

One story for all tests here, since every Slurm job costs seconds. A first call is ended with Ctrl-C while the generator
trains. A second one goes to the report, while the generator's job is requeued and later killed at its time limit, and
the audit is killed for its memory. A twin of the study, built on this machine undisturbed, says what must come out.
"""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import pytest
import yaml
from slurm_node import DEVICES, SlurmMissing, SlurmNode, wait_for
from studies import tiny
from workshop import Workshop, new_workshop

from synthgain.runtime.files import read_table
from synthgain.runtime.seals import is_as_marked

pytestmark = pytest.mark.slurm

GENERATOR = "results/tiny/generators/ddpm/0/manifest.json"
PREDICTIONS = "results/tiny/predictions/cnn/supplemented/100/0.parquet"
CELL = "cell_predict_downstream_train_downstream"  # the profile's group of a model's two steps
STEPS = 80  # of the generator, which is stopped three times on the way
SHARDS = 3
PATIENCE = 1200.0  # seconds, on a busy machine
TIME_LIMIT = 1  # minutes: Slurm's smallest limit
# What is asked of Slurm beside the shipped profile: shorter waits, and an audit that gets too little at first.
CALL = ("--profile", "slurm", "--slurm-init-seconds-before-status-checks", "5", "--slurm-keep-successful-logs")
AUDIT = ("--set-resources", "audit_datasets:mem_mb=100 * 40 ** (attempt - 1)")


@dataclass
class Watch:
    """What Slurm said of each job while it could be asked: {job id: the last record}, and what the jobs saw."""

    node: SlurmNode
    folder: Path  # where the jobs work
    records: dict[int, dict[str, str]] = field(default_factory=dict)
    together: list[list[str]] = field(default_factory=list)  # at each look, the GPUs of the jobs that run
    waited: set[str] = field(default_factory=set)  # jobs that had to wait for a free GPU
    visible: dict[int, str | None] = field(default_factory=dict)  # job → CUDA_VISIBLE_DEVICES of its script
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "Watch":
        threading.Thread(target=self._run, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.wait(1.0):
            self.look()

    def look(self) -> None:
        """Ask once."""
        found = {}
        for line in self.node.ask("scontrol", "--details", "--oneliner", "show", "job").splitlines():
            record = dict(re.findall(r"(\w+)=(\S*)", line))
            if record.get("JobId", "").isdigit():
                found[int(record["JobId"])] = record
        self.records |= found
        on_gpu = [record for record in found.values() if "gpu" in record.get("TresPerJob", "")]
        self.together.append([r["GRES"] for r in on_gpu if r["JobState"] == "RUNNING" and "GRES" in r])
        self.waited |= {r["Comment"] for r in on_gpu if r["JobState"] == "PENDING" and r["Reason"] == "Resources"}
        for _, _, environment in scripts(self.folder):
            self.visible[int(environment["SLURM_JOB_ID"])] = environment.get("CUDA_VISIBLE_DEVICES")


@dataclass
class Call:
    """A call of Snakemake and the file of what it says."""

    process: subprocess.Popen[bytes]
    log: Path

    def ended_well(self) -> bool:
        """Wait for its end; AssertionError with its last words where something failed."""
        assert self.process.wait(2 * PATIENCE) == 0, self.said()[-6000:]
        return True

    def said(self) -> str:
        """Return all that it said."""
        return self.log.read_text(errors="replace")


@dataclass
class Story:
    """What is left to look at when all has run."""

    shop: Workshop
    twin: Workshop
    watch: Watch
    jobs: pd.DataFrame  # one row per Slurm job that ended: job, rule, call, attempt, state, restarts, gpu, memory …
    first_code: int = 0
    first: str = ""  # what the first call said
    left_after_first: str = ""
    resumed: dict[str, int] = field(default_factory=dict)  # after what → step of the generator
    after: str = ""
    calls: list[Call] = field(default_factory=list)

    def of(self, rule: str) -> pd.DataFrame:
        """Return the jobs of one rule, oldest first."""
        return self.jobs[self.jobs["rule"] == rule]


@pytest.fixture(scope="module")
def node() -> Iterator[SlurmNode]:
    """A running cluster; where there can be none the tests are skipped, but not in CI."""
    try:
        # Not below pytest's folder, which is closed to others: munged refuses to work there.
        with tempfile.TemporaryDirectory(prefix="slurm-") as folder, SlurmNode(Path(folder)) as running:
            yield running
    except SlurmMissing as reason:
        if os.environ.get("CI"):
            pytest.fail(f"CI must have Slurm: {reason}")
        pytest.skip(str(reason))


@pytest.fixture(scope="module")
def story(node: SlurmNode, tmp_path_factory: pytest.TempPathFactory) -> Story:
    """Everything that happens, once."""
    shop, twin = (new_workshop(tmp_path_factory.mktemp(name)) for name in ("slurm", "twin"))
    for one in (shop, twin):
        (one.folder / "tiny.yaml").write_text(yaml.safe_dump(study(), sort_keys=False))
    with Watch(node, shop.folder) as watch:
        told = Story(shop, twin, watch, pd.DataFrame())
        try:
            first_call(told, node)
            second_call(told, node)
        finally:
            for call in told.calls:
                if call.process.poll() is None:  # only where something went wrong
                    os.killpg(call.process.pid, signal.SIGKILL)
            watch.look()
            told.jobs = transcript(node, watch)
            print("\n" + told.jobs.to_string(index=False))
    again = snakemake(told, node, "--cores", "1", "--dry-run")
    told.after = again.said() if again.ended_well() else ""
    return told


def first_call(told: Story, node: SlurmNode) -> None:
    """Start, and press Ctrl-C while the generator trains."""
    call = snakemake(told, node, *CALL, *AUDIT, "--", GENERATOR)
    frozen(told, call, after=0)
    os.killpg(call.process.pid, signal.SIGINT)
    told.first_code = call.process.wait(PATIENCE)
    told.first = call.said()
    told.left_after_first = node.ask("squeue", "--noheader", "--states=running,pending")
    wait_for("the cancelled job's end", lambda: not node.ask("squeue", "--noheader").strip(), PATIENCE)


def second_call(told: Story, node: SlurmNode) -> None:
    """Build the report, while the generator's job is requeued, and then killed at its time limit."""
    reached = told.shop.saved_step()
    call = snakemake(told, node, *CALL, *AUDIT)
    pid, reached = frozen(told, call, after=reached)
    told.resumed["Ctrl-C"] = last_of(told.shop.resumed_steps())
    (job,) = (record["JobId"] for record in told.watch.records.values() if running_generator(record))
    node.ask("scontrol", "requeue", job)
    wait_for("the requeued job's end", lambda: not Path(f"/proc/{pid}").exists(), PATIENCE)
    reached = max(reached, told.shop.saved_step())
    frozen(told, call, after=reached)
    told.resumed["requeue"] = last_of(told.shop.resumed_steps())
    node.ask("scontrol", "update", f"JobId={job}", f"TimeLimit={TIME_LIMIT}")
    twin = snakemake(told, node, "--cores", "1", "--", PREDICTIONS, folder=told.twin.folder)
    wait_for("the end at the time limit", lambda: over_time(node, job), PATIENCE)
    assert call.ended_well()
    told.resumed["time limit"] = last_of(told.shop.resumed_steps())
    assert twin.ended_well()


def study() -> dict:
    """Two arms on three shards of one replica, on GPUs where there are some: that is what asks Slurm for them."""
    return tiny(
        generators__ddpm__training={"steps": STEPS, "batch_size": 8, "snapshots": [STEPS], "save_every_seconds": 0.3},
        pools__drawn__replicas=1,
        pools__drawn__shards=SHARDS,
        pools__drawn__sampling={"steps": 2, "batch_size": 8},
        arms={
            "real": {"real": "hospital_a"},
            "supplemented": {"real": "hospital_a", "synthetic": "drawn", "ratios": [100]},
        },
        evaluation={"fidelity": None, "memorisation": None, "label_consistency": False, "snapshots": False},
        compute={"device": "cuda", "allow_cpu": True, "generator_threads": 1},
    )


def snakemake(told: Story, node: SlurmNode, *arguments: str, folder: Path | None = None) -> Call:
    """Start Snakemake in the copy (or in `folder`), on the cluster's PATH."""
    environment = {name: value for name, value in node.environment.items() if not name.startswith("SYNTHGAIN_")}
    environment["XDG_CACHE_HOME"] = str(told.shop.folder.parent / "cache")
    log = told.shop.folder.parent / f"call-{len(told.calls)}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "snakemake", "--configfile", "tiny.yaml", *arguments],
            cwd=folder or told.shop.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # not ignored: a terminal's
        )
    told.calls.append(Call(process, log))
    return told.calls[-1]


def scripts(folder: Path) -> list[tuple[int, str, dict[str, str]]]:
    """Return (process id, name, environment) of each of the workflow's scripts that a Slurm job runs in `folder`."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_text().split("\0")
            if len(command) > 1 and command[1].endswith(".py") and (process / "cwd").readlink() == folder:
                pairs = (item.partition("=") for item in (process / "environ").read_text().split("\0"))
                environment = {name: value for name, _, value in pairs}
                if "SLURM_JOB_ID" in environment:
                    found.append((int(process.name), Path(command[1]).name, environment))
        except (OSError, UnicodeDecodeError):  # it has ended, or is not ours
            continue
    return found


def frozen(told: Story, call: Call, after: int) -> tuple[int, int]:
    """Stop the generator's training once it has saved a step > `after`; return its process and that step.

    So that what comes next hits it in the midst of training, on a machine of any speed. Slurm wakes what it ends.
    """
    found: list[int] = []

    def saved() -> bool:
        assert call.process.poll() is None, call.said()[-6000:]
        if told.shop.saved_step() > after:
            found[:] = [pid for pid, name, _ in scripts(told.shop.folder) if name == "train_generator.py"]
        return len(found) == 1

    wait_for("training that has saved", saved, PATIENCE)
    os.kill(found[0], signal.SIGSTOP)
    step = told.shop.saved_step()
    assert step < STEPS, "the training was over before it could be stopped"
    told.watch.look()
    return found[0], step


def last_of(steps: list[int]) -> int:
    """Return the last step, 0 where there is none."""
    return steps[-1] if steps else 0


def running_generator(record: dict[str, str]) -> bool:
    """True for a record of Slurm about the generator's job while it runs."""
    return record["JobState"] == "RUNNING" and "train_generator" in record["Comment"]


def over_time(node: SlurmNode, job: str) -> bool:
    """True once Slurm has ended a job at its time limit."""
    return any(line["JobId"] == job and line["JobState"] == "TIMEOUT" for line in node.finished())


def transcript(node: SlurmNode, watch: Watch) -> pd.DataFrame:
    """Return one row per job of the cluster, in the order of submission."""
    rows = []
    failed: Counter[tuple[str, str]] = Counter()
    last = {int(line["JobId"]): line for line in node.finished()}
    for job, record in sorted(watch.records.items()):
        name, end = record["Comment"].removeprefix("rule_"), last.get(job, {})
        rule = name.partition("_wildcards_")[0]
        state = end.get("JobState", record["JobState"])
        rows.append(
            {
                "job": job,
                "rule": rule,
                "of": name.partition("_wildcards_")[2],
                "attempt": 1 + failed[name, record["JobName"]],
                "state": state,
                "restarts": int(record["Restarts"]),
                "gpus": record.get("TresPerJob", "").removeprefix("gres:"),
                "memory_mb": int(record["MinMemoryNode"].removesuffix("M")),
                "minutes": record["TimeLimit"],
                "start": end.get("StartTime", "").partition("T")[2],
                "end": end.get("EndTime", "").partition("T")[2],
                "run": record["JobName"],
            }
        )
        failed[name, record["JobName"]] += state in ("FAILED", "TIMEOUT")
    runs = list(dict.fromkeys(row["run"] for row in rows))
    return pd.DataFrame([{"call": 1 + runs.index(row.pop("run")), **row} for row in rows])


def test_jobs_by_final_state(story: Story) -> None:
    """Nothing ran that was not needed: what was done is not done again after Ctrl-C, a limit or a requeue."""
    assert Counter(zip(story.jobs["call"], story.jobs["state"], strict=True)) == {
        (1, "COMPLETED"): 4,  # both data sets, a split, the audit at its second try: all before the generator
        (1, "FAILED"): 1,
        (1, "CANCELLED"): 1,
        (2, "COMPLETED"): 11,  # with the measured speeds of the forecast
        (2, "TIMEOUT"): 1,
    }


def test_the_sites_profile_counts_beside_the_default_one(story: Story) -> None:
    """What Slurm was asked for is what its profile says: the default profile, read too, took none of it away."""
    assert "workflow specific profile profiles/default" in story.first
    (split,) = story.of("split_dataset").itertuples()
    assert (split.memory_mb, split.minutes) == (2000, "01:00:00")


def test_all_data_are_audited_before_anything_trains(story: Story) -> None:
    audited = story.of("audit_datasets")["end"].iloc[-1]
    dear = story.jobs[story.jobs["rule"].isin(["train_generator", "measure_speed", CELL])]
    assert set(dear["rule"]) == {"train_generator", "measure_speed", CELL}
    assert dear["start"].min() >= audited


def test_ctrl_c_cancels_and_a_second_call_finishes(story: Story) -> None:
    assert story.first_code != 0
    assert story.left_after_first == ""
    assert story.of("train_generator")["state"].iloc[0] == "CANCELLED"
    assert story.resumed["Ctrl-C"] > 0
    report = story.shop.folder / "results/tiny/report.html"
    assert is_as_marked(report, report.read_bytes()), "it was sealed after its last byte"
    assert "Nothing to be done" in story.after


def test_requeued_job_resumes(story: Story) -> None:
    """It keeps its number, and Snakemake notices nothing."""
    assert list(story.of("train_generator")["restarts"]) == [0, 1, 0]
    assert story.resumed["requeue"] > story.resumed["Ctrl-C"]


def test_job_over_its_time_resumes_with_more_of_everything(story: Story) -> None:
    cancelled, over, last = story.of("train_generator").itertuples()
    assert (over.state, last.state) == ("TIMEOUT", "COMPLETED")
    assert (over.attempt, last.attempt) == (1, 2)
    assert story.resumed["time limit"] > story.resumed["requeue"]
    assert last.memory_mb == 2 * over.memory_mb
    assert (cancelled.minutes, last.minutes) == ("08:00:00", "16:00:00")


def test_job_over_its_memory_is_retried_with_more(story: Story) -> None:
    killed, again = story.of("audit_datasets").itertuples()
    assert (killed.state, again.state) == ("FAILED", "COMPLETED")
    assert (killed.memory_mb, again.memory_mb) == (100, 4000)


def test_gpus_are_given_by_slurm(story: Story) -> None:
    """What computes on a GPU asks for one, sees its own, and waits where none is free; nothing else asks."""
    asked = set(story.jobs.loc[story.jobs["gpus"] == "gpu:1", "rule"])
    assert set(story.jobs["gpus"]) == {"gpu:1", ""}
    assert asked == {"measure_speed", "train_generator", "draw_sample_grid", "draw_pool_shard", CELL}
    for job, devices in story.watch.visible.items():
        wanted = bool(story.jobs.set_index("job").loc[job, "gpus"])
        assert (devices in ("0", "1", "2")) if wanted else devices is None, (job, devices)
    assert len(story.watch.visible) >= len(story.jobs) / 2
    assert all(len(set(given)) == len(given) for given in story.watch.together)
    assert max(map(len, story.watch.together)) == len(DEVICES)
    assert story.watch.waited, "three shards and a grid of samples, three GPUs: one job waits"


def test_shards_are_drawn_in_parallel(story: Story) -> None:
    shards = story.of("draw_pool_shard")
    assert len(shards) == SHARDS
    first, second = sorted(zip(shards["start"], shards["end"], strict=True))[:2]
    assert second[0] < first[1], "the second began before the first had ended"


def test_result_is_that_of_an_undisturbed_run(story: Story) -> None:
    """Generator, pool and predictions, bit for bit, after Ctrl-C, a requeue and a time limit."""
    there, twin = (one.folder for one in (story.shop, story.twin))
    for pattern in (GENERATOR, "results/tiny/pools/drawn/0/replica-1/shard-*/manifest.json"):
        for path in sorted(twin.glob(pattern)):
            wanted = {n: f["sha256"] for n, f in json.loads(path.read_text())["files"].items() if n != "training.csv"}
            found = json.loads((there / path.relative_to(twin)).read_text())["files"]
            assert {name: found[name]["sha256"] for name in wanted} == wanted
    pd.testing.assert_frame_equal(read_table(there / PREDICTIONS), read_table(twin / PREDICTIONS))
