"""What a person sees of a call, from Snakemake's own log records: no Snakemake is started here."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from snakemake.logging import ColorizingTextHandler
from snakemake_interface_logger_plugins.common import LogEvent

from synthgain.runtime import command
from synthgain.runtime.command import Progress
from synthgain.speed.documents import Cost, Forecast
from synthgain.terminal import failures, handler, outlook
from synthgain.terminal.failures import Failure, Try, failure, summary
from synthgain.terminal.handler import RunHandler, install, screenful
from synthgain.terminal.outlook import Left, Outlook, duration
from synthgain.terminal.view import Facts, View

SCREEN = 12  # lines within which the clear one must be
JSON = '{"code": "' + "c" * 4000 + '"}'
COMMAND = f"""python "$SYNTHGAIN_SCRIPTS/train_downstream.py" --job '{JSON}' --run results/tiny --threads 1"""
TITLES = {"prepare_dataset": "Reading data sets", "train_downstream": "Training models", "forecast_cost": "Forecast"}


class Terminal:
    """A handler in Snakemake's place, and the lines that it has written."""

    def __init__(self, folder: Path, own: bool = True, quiet: bool = False, **facts: Any) -> None:
        self.folder, self.lines = folder, []
        self.logger = logging.Logger("of a test", logging.INFO)
        inner = ColorizingTextHandler(nocolor=True, stream=self)  # type: ignore[arg-type]
        inner.name = handler.OWN_HANDLER
        self.logger.addHandler(inner)
        found = install(self.logger, own)
        assert found is not None
        self.handler: RunHandler = found
        self.view = View(Facts("tiny", TITLES, **{"forecasts": (), "cores": 2, "quiet": quiet, **facts}), self.line)
        self.handler.write = self.line
        self.handler.start = lambda: self.view

    def line(self, text: str) -> None:
        self.lines.append(text)

    def write(self, text: str) -> None:
        self.lines += text.splitlines()

    def flush(self) -> None:
        pass

    def log(self, text: str | None, event: LogEvent | None = None, level: int = logging.INFO, **facts: Any) -> None:
        self.logger.log(level, text, extra={"event": event, **facts})

    def begin(self, **jobs: int) -> None:
        self.log("Workflow has started!", LogEvent.WORKFLOW_STARTED)
        self.log("Job stats: …", LogEvent.RUN_INFO, stats={**jobs, "report": 1, "total": sum(jobs.values()) + 1})

    def job(self, number: int, rule: str = "train_downstream", what: str = "Training cnn") -> Path:
        log = self.folder / f"{rule}-{number}.log"
        log.touch()
        self.log("Rule: …", LogEvent.JOB_INFO, jobid=number, rule_name=rule, rule_msg=what, log=[str(log)])
        return log

    def fail(self, number: int, rule: str = "train_downstream", told: str | None = None) -> None:
        """As Snakemake's local executor does: the command, thrice, and a job that failed."""
        where = 'RuleException:\nCalledProcessError in file "rules/x.smk", line 29:'
        told_by = f"{where}\nCommand 'set -euo pipefail;  {COMMAND}' returned non-zero exit status 1."
        self.log(told_by, LogEvent.ERROR, logging.ERROR, exception="RuleException")
        logs = [str(self.folder / f"{rule}-{number}.log")]
        facts = {"jobid": number, "rule_name": rule, "rule_msg": told, "log": logs, "shellcmd": COMMAND}
        self.log(f"Error in rule {rule}, jobid: {number}", LogEvent.JOB_ERROR, logging.ERROR, **facts)

    def end(self) -> list[str]:
        """As Snakemake ends a run in which a job failed; return all lines with the last ones."""
        self.log("Exiting because a job execution failed. Look below for error messages", level=logging.ERROR)
        self.log("WorkflowError:\nAt least one job did not complete successfully.", LogEvent.ERROR, logging.ERROR)
        return self.lines + self.view.close()


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    return Terminal(tmp_path)


def writes(log: Path, *lines: str) -> None:
    with log.open("a") as handle:
        handle.writelines(f"2026-01-01 10:00:00,000 {line}\n" for line in lines)


def test_stage_and_number_of_jobs_are_seen(terminal: Terminal) -> None:
    terminal.begin(prepare_dataset=2, train_downstream=3)
    terminal.job(1, "prepare_dataset", "Reading data set a")
    terminal.job(2, "prepare_dataset", "Reading data set b")
    told = [line.split("  ", 1)[1] for line in terminal.lines]
    assert told == ["planning", "tiny: 5 jobs to do, on 2 cores", "Reading data sets (2 jobs)"]


def test_the_audit_is_named_with_the_number_of_images_left_out(tmp_path: Path) -> None:
    page = tmp_path / "audit" / "audit.html"
    page.parent.mkdir()
    page.with_name("audit.json").write_text('{"datasets": {"a": {"quarantined": 2}, "b": {"quarantined": 0}}}')
    terminal = Terminal(tmp_path, audits=(page,))
    terminal.view.start(Try(1, "audit_datasets", "Auditing", ()))
    terminal.view.facts = replace(terminal.view.facts, titles={**TITLES, "audit_datasets": "Auditing"})
    terminal.view.finish(1)
    assert any(line.endswith(f"{page}; 2 images left out, each with its reason there") for line in terminal.lines)


def test_how_far_a_job_is_comes_from_its_log(terminal: Terminal) -> None:
    terminal.begin(prepare_dataset=1, train_downstream=3)
    log = terminal.job(1)
    writes(log, "INFO [train cnn] 20/400 (5 %) about 2:00 to go", "INFO [train cnn] 128/400 (32 %) about 1:10 to go")
    assert terminal.view.status() == "0 of 4 jobs: Training models 0/3, this one 32 %"


def test_progress_is_written_as_it_is_read(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    with caplog.at_level(logging.INFO, "synthgain"):
        Progress("train cnn", 4).advance(4)
    assert read_back(tmp_path, caplog.messages).done == 1


def read_back(folder: Path, messages: list[str]) -> Try:
    """Return a job that has written these messages, as the terminal sees it."""
    log = folder / "unet-real-0-3.log"
    log.unlink(missing_ok=True)
    job = Try(1, "train_downstream", "Training unet", (log,))
    writes(log, *(f"INFO {message}" for message in messages))
    job.look()
    return job


def test_a_job_of_several_parts_says_how_far_it_is_as_a_whole(
    caplog: pytest.LogCaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "PROGRESS_SECONDS", -1.0)
    monkeypatch.setattr(Progress, "_outer", None)
    told = []
    with caplog.at_level(logging.INFO, "synthgain"):
        for replicate in (2, 3):  # an earlier run has finished 0 and 1
            with command.part_of_job(replicate, 4):
                bar = Progress(f"unet, replicate {replicate}", 10)
                bar.advance(5)
                told.append(read_back(tmp_path, caplog.messages))
                inner = Progress("images for its next step", 10)  # a tenth of the part
                inner.advance(5)
                told.append(read_back(tmp_path, caplog.messages))
    assert [job.done for job in told] == [0.62, 0.64, 0.88, 0.89]
    assert {job.earlier for job in told} == {0.5}
    assert told[0].group == ("train_downstream", "unet real")


def test_a_training_that_goes_on_says_what_was_done_before(
    caplog: pytest.LogCaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Progress, "_outer", None)
    with caplog.at_level(logging.INFO, "synthgain"):
        Progress("generator ddpm", 200, 120).advance(80)
    job = read_back(tmp_path, caplog.messages)
    assert (job.earlier, job.done) == (0.6, 1.0)
    assert "(60 %) done before" in caplog.messages[0]


def cost(rule: str, jobs: int, seconds: float, after: list[int]) -> Cost:
    return Cost(
        rule=rule, jobs=jobs, seconds=seconds, longest_seconds=seconds / jobs, after=after, disk_bytes=1e8 * jobs
    )


class Groups:
    runs = 1
    groups = (cost("prepare_dataset", 2, 20, []), cost("train_downstream", 10, 1000, [0]))


def test_the_forecast_is_of_what_is_left() -> None:
    whole = Left({"prepare_dataset": 2, "train_downstream": 10})
    ahead = Outlook(Groups(), whole, cores=2)  # type: ignore[arg-type]
    assert ahead.words(whole, sends=False) == "about 8 minutes on these 2 cores (17 processor minutes), 1.2 GB of disk"
    half = ahead.words(Left({"train_downstream": 5}), sends=False)
    assert half == "about 4 minutes on these 2 cores (8 processor minutes), 500.0 MB of disk"
    assert not ahead.unknown(whole)
    assert "with 2 jobs at once" in ahead.words(whole, sends=True)
    assert ahead.share(whole) == 0
    assert ahead.share(Left({"train_downstream": 5})) == pytest.approx(260 / 510)
    assert ahead.share(Left({})) == 1


class Generators:
    """Two generators, one ten times as dear as the other, and what is trained on their images."""

    runs = 1
    groups = (
        cost("train_generator", 1, 800, []).model_copy(update={"name": "large"}),
        cost("train_generator", 1, 80, []).model_copy(update={"name": "small"}),
        cost("train_downstream", 10, 200, [0, 1]),
    )


LARGE, SMALL = ("train_generator", "large"), ("train_generator", "small")
ALL = {"train_generator": 2, "train_downstream": 10}


def going(done: dict[tuple[str, str], float], downstream: int = 10) -> Left:
    """Return what is left while these generators run, so much of each being done."""
    return Left({"train_downstream": downstream}, dict.fromkeys(done, 1), {name: [1 - of] for name, of in done.items()})


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds since the call began, as `time.monotonic` gives them."""
    now = [0.0]
    monkeypatch.setattr(outlook.time, "monotonic", lambda: now[0])
    return now


def test_the_share_of_the_work_and_the_time_to_go_follow_a_job_that_runs_long(clock: list[float]) -> None:
    ahead = Outlook(Generators(), Left(ALL), cores=1)  # type: ignore[arg-type]
    seen = [ahead.share(going({LARGE: of, SMALL: 0.0})) for of in (0.0, 0.25, 0.5, 1.0)]
    assert seen == pytest.approx([0, 200 / 1080, 400 / 1080, 800 / 1080])
    assert ahead.share(going({LARGE: 0.0, SMALL: 0.5})) == pytest.approx(40 / 1080)
    clock[0] = 440.0
    assert ahead.seconds(going({LARGE: 0.5, SMALL: 0.5})) == pytest.approx(640)


def test_what_the_longest_job_still_takes_bounds_the_time_to_go_of_jobs_in_parallel(clock: list[float]) -> None:
    ahead = Outlook(Generators(), Left(ALL), cores=8)  # type: ignore[arg-type]
    assert ahead.seconds(Left(ALL)) == pytest.approx(820)  # the large generator, then one training
    clock[0] = 400.0
    assert ahead.seconds(going({LARGE: 0.5, SMALL: 0.5})) == pytest.approx(420)
    assert ahead.share(going({LARGE: 0.5, SMALL: 1.0})) == pytest.approx(400 / 820)


def test_what_an_earlier_call_has_done_of_a_job_is_no_work_and_no_speed_of_this_one(clock: list[float]) -> None:
    ahead = Outlook(Generators(), Left(ALL), cores=1)  # type: ignore[arg-type]
    resumed = {LARGE: [0.75]}
    assert ahead.share(going({LARGE: 0.75, SMALL: 0.0}), resumed) == 0
    clock[0] = 200.0  # it has gone on for as long as forecast
    assert ahead.share(going({LARGE: 1.0, SMALL: 0.0}), resumed) == pytest.approx(200 / 480)
    assert ahead.seconds(going({LARGE: 1.0, SMALL: 0.0}), resumed) == pytest.approx(280)
    alone = Outlook(Generators(), Left({"train_generator": 1}, {SMALL: 1}), cores=8)  # type: ignore[arg-type]
    assert alone.share(Left({}, {LARGE: 1}, {LARGE: [0.25]}), resumed) == 0


def test_percent_and_time_to_go_are_those_of_the_logs(tmp_path: Path, clock: list[float]) -> None:
    terminal = Terminal(tmp_path)
    terminal.view.facts = replace(terminal.view.facts, titles={**TITLES, "train_generator": "Training generators"})
    terminal.begin(train_generator=2, train_downstream=10)
    for number, name in ((1, "large-0"), (2, "small-0")):
        log = tmp_path / f"{name}.log"
        log.touch()
        terminal.view.start(Try(number, "train_generator", "Training a generator", (log,)))
    view = terminal.view
    view._outlook = Outlook(Generators(), view.left(), cores=2)  # type: ignore[arg-type]
    assert view.status() == "0 of 12 jobs, 0 % of the work, about 14 minutes to go: Training generators 0/2"
    writes(
        tmp_path / "large-0.log", "INFO [large] 10/20 (50 %) done before", "INFO [large] 15/20 (75 %) about 2:00 to go"
    )
    # This call needs 420 s: what was left of the large generator, and a training after it; 240 s are to go.
    clock[0] = 180.0
    assert "43 % of the work, about 4 minutes to go" in view.status()
    view.finish(1)
    assert view.left().running == {SMALL: [1.0]}


def test_a_forecast_that_leaves_a_stage_out_says_so(tmp_path: Path) -> None:
    unmeasured = cost("train_downstream", 10, 1, []).model_copy(update={"missing": ["model cnn: no memory"]})
    groups = [cost("prepare_dataset", 2, 2000, []), unmeasured]
    machine = {"device": "cpu", "gpu": False, "cores": 2, "measured": "2026-01-01", "busy": 0.0}
    speed = {"kinds": {}, "start_up": {}, "threads": {}, "machine": machine, "seconds": 1.0}
    whole = Forecast.model_validate({"study": "tiny", "runs": 1, "groups": groups, "sizes": {}, "speed": speed})
    place = tmp_path / "forecast.json"
    place.write_text(whole.model_dump_json())
    terminal = Terminal(tmp_path, forecasts=(place,))
    terminal.begin(prepare_dataset=2, train_downstream=10)
    assert "forecast: at least 17 minutes on these 2 cores" in terminal.lines[-2]
    assert terminal.lines[-1].endswith("warning: that leaves out Training models: model cnn: no memory")
    done = Outlook(whole, Left({"prepare_dataset": 2}), cores=2)
    assert done.words(Left({"prepare_dataset": 2}), sends=False).startswith("about 17 minutes"), (
        "what is done does not count"
    )


def test_time_to_go_follows_the_speed_so_far(clock: list[float]) -> None:
    whole = Left({"prepare_dataset": 2, "train_downstream": 10})
    ahead = Outlook(Groups(), whole, cores=2)  # type: ignore[arg-type]
    clock[0] = 3.0
    assert ahead.seconds(whole) == 510
    clock[0] = 2 * 260.0  # half of the work in twice the time
    assert ahead.seconds(Left({"train_downstream": 5})) == pytest.approx(2 * 250)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (3, "less than a minute"),
        (62, "about 1 minute"),
        (16 * 60, "about 16 minutes"),
        (3.5 * 3600, "about 3.5 hours"),
        (4 * 86400, "about 4 days"),
    ],
)
def test_durations_in_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_an_error_is_one_screen_its_clear_line_last_and_no_json(terminal: Terminal) -> None:
    terminal.begin(train_downstream=3)
    log = terminal.job(1)
    writes(log, "INFO [train cnn] 20/400 (5 %)", "ERROR error: images.npy: no space left in results", "INFO bye")
    terminal.fail(1)
    lines = terminal.end()
    assert len(lines) <= SCREEN
    assert "error: images.npy: no space left in results" in lines
    assert lines[-3:] == [
        "error: images.npy: no space left in results",
        f"  in: Training cnn ({log})",
        "mend it, then run the same command again: finished work is kept",
    ]
    assert "cccc" not in "\n".join(lines)
    assert "--job" not in "\n".join(lines)


@pytest.mark.parametrize("reasons", [1, 2, 7])
def test_of_many_failed_jobs_each_reason_is_named_and_the_end_is_short(terminal: Terminal, reasons: int) -> None:
    terminal.begin(train_downstream=40)
    for number in range(40):
        log = terminal.job(number, what=f"Training cnn {number}")
        writes(log, f"ERROR error: reason {number % reasons}")
        terminal.fail(number)
    last = terminal.end()[-SCREEN:]
    assert "error: reason 0" in last
    assert any("40 jobs failed" in line for line in last)
    assert any("and " in line and " more" in line for line in last)
    assert ("and 4 other errors above" in last) == (reasons == 7)


def test_what_an_earlier_try_wrote_is_no_reason(terminal: Terminal) -> None:
    """A log goes on from try to try: a job that is killed says nothing, and what stood there before is old."""
    log = terminal.folder / "train_downstream-1.log"
    writes(log, "ERROR error: of yesterday")
    terminal.begin(train_downstream=1)
    terminal.job(1)
    terminal.fail(1)
    last = terminal.end()[-SCREEN:]
    assert not any("yesterday" in line for line in last)
    assert any("ended without a word" in line for line in last)


def test_a_retry_that_ends_well_is_no_failure(terminal: Terminal) -> None:
    terminal.begin(train_downstream=1)
    terminal.job(1)
    terminal.fail(1)
    terminal.log("Trying to restart job 1.")
    terminal.job(1)
    terminal.log("Finished jobid: 1", LogEvent.JOB_FINISHED, job_id=1)
    terminal.view.ended_well = True
    assert "tiny: done" in terminal.view.close()[0]


def test_what_slurm_did_is_said(tmp_path: Path) -> None:
    job = Try(1, "train_downstream", "Training cnn", (tmp_path / "a.log",))
    told = "SLURM-job '7' failed, SLURM status is: 'TIMEOUT'. For further error details see the cluster/cloud log"
    assert failure(job, told).line == "ended by Slurm (TIMEOUT) at its time limit"


def test_on_a_cluster_the_line_is_shown_when_it_happens(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path, sends=True)
    terminal.begin(train_downstream=2)
    writes(terminal.job(1), "ERROR error: clear")
    terminal.fail(1)
    assert terminal.lines[-1].endswith("failed: Training cnn: clear")


def test_a_full_disk_keeps_even_the_log_from_saying_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failures, "no_space_left", lambda folder: True)
    job = Try(1, "train_downstream", "Training cnn", (tmp_path / "a.log",))
    assert "no space left on the disk" in failure(job, "").line


def test_an_error_while_planning_is_the_clear_line_alone(terminal: Terminal) -> None:
    line = terminal.handler.refuse("config.yaml: analysis: unknown key 'primry'; did you mean 'primary'?")
    wrapped = f'InputFunctionException in rule x in file "rules/x.smk", line 9:\nError:\n  WorkflowError:\n    {line}\n'
    terminal.log(wrapped + "Traceback:\n  File …", LogEvent.ERROR, logging.ERROR)
    assert terminal.lines == [f"error: {line}"]


def test_an_error_that_nobody_foresaw_fits_the_screen(terminal: Terminal) -> None:
    assert len(screenful("\n".join(f"line {i}" for i in range(300)))) == SCREEN
    assert screenful("one\ntwo") == ["one", "two"]
    assert len(screenful(f"Command '{COMMAND}' is strange")[0]) < 200


def test_ctrl_c_is_no_failure(terminal: Terminal) -> None:
    terminal.begin(train_downstream=2)
    terminal.job(1)
    terminal.log("Terminating processes on user request, this might take some time.")
    terminal.fail(1)
    lines = terminal.end()
    assert lines[-1] == "stopped: 0 of 2 jobs done; to go on, run the same command again: finished work is kept"
    assert not any("failed" in line for line in lines)


@pytest.mark.parametrize("own", [True, False])
def test_a_quiet_call_says_only_how_it_ended(tmp_path: Path, own: bool) -> None:
    terminal = Terminal(tmp_path, own=own, quiet=True, at_the_end=lambda: ["report: report.html"])
    seen = len(terminal.lines)
    terminal.begin(train_downstream=1)
    terminal.job(1)
    terminal.log("Finished jobid: 1", LogEvent.JOB_FINISHED, job_id=1)
    terminal.view.ended_well = True
    assert not own or terminal.lines[seen:] == []
    assert terminal.view.close() == ["report: report.html"]


def test_a_call_with_nothing_to_do_says_so_and_where_the_report_is(tmp_path: Path) -> None:
    quiet = Terminal(tmp_path, at_the_end=lambda: ["report: report.html"])
    quiet.log("Workflow has started!", LogEvent.WORKFLOW_STARTED)
    quiet.log("Nothing to be done (all requested files are present and up to date).")
    quiet.view.ended_well = True
    assert "Nothing to be done" in quiet.lines[-1]
    assert quiet.view.close() == ["report: report.html"]


@pytest.mark.parametrize("text", ["Unlocked working directory.", "Building DAG of jobs..."])
def test_what_is_no_run_is_shown_as_snakemake_shows_it(terminal: Terminal, text: str) -> None:
    terminal.handler.start = None
    terminal.log(text)
    assert terminal.lines[0] == text


def test_a_warning_is_said_once(terminal: Terminal) -> None:
    terminal.begin(train_downstream=1)
    for _ in range(3):
        terminal.log("Unable to guess SLURM account. Trying to proceed without.", level=logging.WARNING)
    assert [line for line in terminal.lines if "warning: Unable to guess" in line] == [terminal.lines[-1]]


def test_a_logger_plugin_in_snakemakes_place_is_left_alone() -> None:
    logger = logging.Logger("other")
    logger.addHandler(logging.NullHandler())
    assert install(logger, own=True) is None
    assert len(logger.handlers) == 1


def test_a_summary_never_passes_its_lines() -> None:
    for count in range(1, 20):
        found = [Failure(f"job {i}", f"reason {i}", "log") for i in range(count)]
        assert len(summary(found, lines=8)) <= 8
