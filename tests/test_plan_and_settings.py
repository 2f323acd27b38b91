"""What a plan leaves out of a job's identity, and how jobs learn it; long jobs; files that the study has not."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from job_inputs import paths_of
from studies import tiny
from test_planner import identities, rules_that_differ

from synthgain.runtime.command import Job, run_script
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import read_manifest, sha256_file, write_json
from synthgain.runtime.settings import settings
from synthgain.study.session import LONGEST_PARAMETER, Session
from synthgain.study.stages.table import STAGES
from synthgain.study.wildcards import wildcards_of_stages

ROOT = Path(__file__).parent.parent
MEDMNIST = {"adapter": "medmnist", "name": "pneumoniamnist"}
ONE_ARGUMENT = 128 * 1024  # bytes that Linux takes


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SYNTHGAIN_SETTINGS", raising=False)
    monkeypatch.setattr(os, "environ", os.environ.copy())  # a session sets some


def session(**changes: Any) -> Session:
    return Session(tiny(**changes), ROOT, Path("results"))


# ---------------------------------------------------------------------------------------------------- identities


@pytest.mark.parametrize("shards", [1, 5])
def test_a_pool_cut_anew_leaves_what_rests_on_it(monkeypatch: pytest.MonkeyPatch, shards: int) -> None:
    before, after = identities(monkeypatch), identities(monkeypatch, pools__drawn__shards=shards)
    # The report prints the config, and a forecast counts jobs.
    assert rules_that_differ(before, after) == {"draw_pool_shard", "forecast_cost", "write_report"}


def test_a_replica_is_another_with_another_sampler_or_code(monkeypatch: pytest.MonkeyPatch) -> None:
    before = identities(monkeypatch)
    assert "merge_pool_replica" in rules_that_differ(before, identities(monkeypatch, pools__drawn__sampling__steps=3))
    assert "merge_pool_replica" in rules_that_differ(before, identities(monkeypatch, seed=1))


def test_settings_rerun_nothing_and_reach_the_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    base = {
        "datasets__published": MEDMNIST,
        "evaluate_on": ["hospital_a", "published"],
        "models__cnn__targets": ["sex"],
    }
    base["arms__real_strong"] = {"real": "hospital_a", "augmentation": "strong"}
    changed = {
        "generators__ddpm__training__save_every_seconds": 5.0,
        "generators__ddpm__training__log_every": 3,
        "compute__generator_processes": 2,
        "compute__generator_threads": 4,
        "datasets__published": {**MEDMNIST, "cache": "elsewhere", "url": "https://example.org/mirror"},
    }
    before, after = identities(monkeypatch, **base), identities(monkeypatch, **base | changed)
    assert rules_that_differ(before, after) == {"write_report"}
    assert settings("compute")["generator_processes"] == 2
    assert settings("generators", "ddpm") == {"save_every_seconds": 5.0, "log_every": 3}
    assert settings("datasets", "published") == {"cache": "elsewhere", "url": "https://example.org/mirror"}
    assert settings("datasets", "hospital_a") == {}


@pytest.mark.parametrize(("allowed", "told"), [(False, "0"), (True, "1")])
def test_the_config_alone_allows_a_job_that_lost_its_gpu_the_cpu(
    monkeypatch: pytest.MonkeyPatch, allowed: bool, told: str
) -> None:
    monkeypatch.setenv("SYNTHGAIN_ALLOW_CPU", "1")  # as some other call left it
    identities(monkeypatch, compute={"device": "cuda", "allow_cpu": allowed})
    assert os.environ["SYNTHGAIN_ALLOW_CPU"] == told


@pytest.mark.parametrize("text", ["[1]", "{", '{"compute": 3}'])
def test_settings_that_are_no_mapping_are_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("SYNTHGAIN_SETTINGS", text)
    with pytest.raises(SynthGainError, match="unset it"):
        settings("compute", "generator_processes")


IMPORTED = {
    "pools__drawn": {"imported": {"table": "mine.csv"}, "rows_of": "hospital_a"},
    "evaluation__label_consistency": False,
}


def test_an_imported_pool_is_the_same_without_the_data_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SYNTHGAIN_DATA", raising=False)
    (tmp_path / "mine.csv").write_text("image\n1.png\n")
    shard = "pools/drawn/0/replica-1/shard-0/manifest.json"
    with pytest.raises(
        SynthGainError, match=r"pools\.drawn: 'mine\.csv' but the data root is not known; pass --config"
    ):
        session(**IMPORTED).expected()
    there = session(**IMPORTED, data_root=str(tmp_path)).expected()["tiny"]
    recorded = {"identity": there[shard], "imported": {"source": sha256_file(tmp_path / "mine.csv")}}
    write_json(tmp_path / "results" / "tiny" / shard, recorded)
    os.environ.pop("SYNTHGAIN_DATA", None)  # as the session above had set it
    assert session(**IMPORTED).expected()["tiny"] == there
    (tmp_path / "mine.csv").write_text("image\n2.png\n")
    assert session(**IMPORTED, data_root=str(tmp_path)).expected()["tiny"][shard] != there[shard]


# ----------------------------------------------------------------------------------------------- a job too long


def run(job: str, folder: Path) -> Job:
    """Return the job that a script is given by this --job."""
    got: list[Job] = []
    run_script(got.append, ["--job", job, "--run", str(folder), "--output", str(folder / "manifest.json")])
    return got[0]


def test_a_long_job_lies_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    monkeypatch.chdir(tmp_path)
    plan = session(pools__drawn__shards=2000)
    place = {"pool": "drawn", "index": "0", "replica": "1"}
    short = plan.parameter("merge_pool_replica", run="tiny", **place)
    whole = plan.planners["tiny"].job("merge_pool_replica", **place).parameter()
    assert len(short) < 200 < ONE_ARGUMENT < len(whole)
    assert len(plan.parameter("train_downstream", run="tiny", model="cnn", arm="real", ratio="0", chunk="0")) > 1000
    assert paths_of(run(short, tmp_path).inputs) == json.loads(whole)["inputs"] == paths_of(run(whole, tmp_path).inputs)
    file = Path(json.loads(short)["job_pack"])
    assert plan.parameter("merge_pool_replica", run="tiny", **place) == short

    packed = file.read_text()
    file.write_text(packed.replace("drawn", "other"))
    for reason in ("was changed", "cannot be read"):
        with pytest.raises(SystemExit):
            run(short, tmp_path)
        assert f"{file}: the job's description {reason}" in capfd.readouterr().err
        file.unlink(missing_ok=True)
    assert plan.parameter("merge_pool_replica", run="tiny", **place) == short  # and the next call writes it again
    assert file.read_text() == packed
    assert LONGEST_PARAMETER < ONE_ARGUMENT


def test_long_jobs_of_a_rule_share_a_file_and_a_changed_one_leaves_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pools = {"pools__drawn__shards": 2000, "pools__other": {"from": "ddpm", "rows_of": "hospital_a", "shards": 2000}}
    places = [{"pool": pool, "index": "0", "replica": "1"} for pool in ("drawn", "other")]

    def commands(**changes: Any) -> list[str]:
        plan = session(**pools, **changes)
        return [plan.parameter("merge_pool_replica", run="tiny", **place) for place in places]

    first, second = commands(), commands(pools__other__shards=2001)
    assert first[0] == second[0]
    assert first[1] != second[1]
    packs = {json.loads(command)["job_pack"] for command in first + second}
    assert packs == {".snakemake/synthgain_jobs/merge_pool_replica.jobs"}
    (pack,) = map(Path, packs)
    assert len(pack.read_text().splitlines()) == 3
    for command in first + second:
        assert run(command, tmp_path).identity == json.loads(command)["identity"]
    pack.write_text(pack.read_text()[:-100])  # a call was killed while it wrote the last
    assert commands(pools__other__shards=2001) == second
    for command in first + second:
        assert run(command, tmp_path).identity == json.loads(command)["identity"]


# ------------------------------------------------------------------------------------ what the study does not have


@pytest.mark.parametrize(
    ("rule", "wildcards", "words"),
    [
        ("merge_pool_replica", {"pool": "nosuch", "index": "0", "replica": "1"}, "no pool 'nosuch' .*known: drawn"),
        ("merge_pool_replica", {"pool": "drawn", "index": "1", "replica": "1"}, "no index 1 .*there is 0 alone"),
        ("merge_pool_replica", {"pool": "drawn", "index": "0", "replica": "3"}, "no replica 3 .*there are 1 to 2"),
        ("draw_pool_shard", {"pool": "drawn", "index": "0", "replica": "1", "shard": "2"}, "no shard 2 .*0 to 1"),
        ("prepare_dataset", {"dataset": "hospital_c"}, "no dataset 'hospital_c' .*did you mean 'hospital_"),
        ("split_dataset", {"dataset": "hospital_b"}, "no dataset 'hospital_b'"),
        ("train_generator", {"generator": "ddpm", "index": "00"}, "no index 00"),
        ("draw_sample_grid", {"generator": "ddpm", "index": "0", "snapshot": "5"}, "no snapshot '5' .*there are 3, 6"),
        ("collect_predictions", {"model": "cnn", "arm": "reel"}, "no arm 'reel' .*did you mean 'real'"),
        ("train_downstream", {"model": "cnn", "arm": "real", "ratio": "100", "chunk": "0"}, "no ratio '100'"),
        ("train_downstream", {"model": "cnn", "arm": "real", "ratio": "0", "chunk": "1"}, "no chunk 1"),
        ("compare_arms", {"model": "unet"}, "no model 'unet'"),
    ],
)
def test_a_file_of_something_else_is_refused_in_one_line(rule: str, wildcards: dict[str, str], words: str) -> None:
    plan = session()
    with pytest.raises(SynthGainError, match=f"^{rule}: {words}") as caught:
        plan.parameter(rule, run="tiny", **wildcards)
    assert "\n" not in str(caught.value)


def test_every_planned_job_is_known() -> None:
    """No file that the report rests on is refused."""
    plan = session(pools__drawn__shards=3, replicates={"count": 5, "per_job": 2, "generators": 2, "pools": 3})
    plan.expected()
    planned = plan.planners["tiny"].jobs()
    assert len(planned) > 50
    values = wildcards_of_stages()
    for job in planned:
        pattern = re.sub(
            r"\\{(\w+)\\}", lambda name: f"(?P<{name[1]}>{values[name[1]]})", re.escape(STAGES[job.rule].output)
        )
        found = re.fullmatch(pattern, job.output)
        assert found is not None
        plan.parameter(job.rule, run="tiny", **found.groupdict())


def test_threads_of_jobs_wait_passively_unless_the_user_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.setenv("KMP_BLOCKTIME", "200")
    identities(monkeypatch)
    assert (os.environ["OMP_WAIT_POLICY"], os.environ["KMP_BLOCKTIME"]) == ("PASSIVE", "200")


def test_jobs_run_whatever_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """PYTHONSAFEPATH hides a script's own folder; others, and a missing TMPDIR or odd language, change nothing."""
    python = {"SAFEPATH": "1", "STARTUP": "/nonexistent", "PATH": "/nonexistent", "OPTIMIZE": "2"}
    given = {f"PYTHON{name}": value for name, value in python.items()}
    given |= {"TMPDIR": "/nonexistent", "HOME": "/nonexistent", "LC_ALL": "xx_YY.bad", "LANG": "zz"}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("USER", raising=False)
    monkeypatch.delenv("LOGNAME", raising=False)
    monkeypatch.chdir(tmp_path)
    planned = Session(tiny(), ROOT, Path("results"))
    output = Path("results/tiny/datasets/hospital_b/manifest.json")
    job = planned.parameter("prepare_dataset", run="tiny", dataset="hospital_b")
    script = ROOT / "workflow_scripts" / "prepare_dataset.py"
    command = [sys.executable, str(script), "--job", job, "--run", "results/tiny", "--output", str(output)]
    done = subprocess.run(command, env=dict(os.environ), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "hospital_b" in done.stderr
    assert read_manifest(output)["images"] > 0


def test_a_call_has_files_of_its_own_that_it_takes_away(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    code = (
        "import sys, json; sys.path[:0] = sys.argv[1:3]\n"
        "from pathlib import Path\n"
        "from studies import tiny\n"
        "from synthgain.study.session import Session\n"
        "session = Session(tiny(), Path(sys.argv[3]), Path('results'))\n"
        "path = Path(session.write_planned(session.own_file('planned.json')))\n"
        "assert path.is_file() and session.own_file('planned.json') == path\n"
        "print(path)"
    )
    command = [sys.executable, "-c", code, str(ROOT / "workflow_scripts"), str(ROOT / "tests"), str(ROOT)]
    calls = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    paths = {call.communicate()[0].strip() for call in calls}
    assert len(paths) == 2, "two calls share none"
    assert not any(Path(path).parent.exists() for path in paths), "nothing is left"
