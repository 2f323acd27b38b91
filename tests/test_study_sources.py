"""Where a study comes from: config.yaml, --configfile, --config, JSON, profiles, the jobs of a cluster.

Most cases open the real Snakefile in this process, as `snakemake` does before it plans; a few call `snakemake -n`.
"""

import copy
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from snakemake.api import SnakemakeApi
from snakemake.cli import get_argument_parser, parse_config
from snakemake.exceptions import WorkflowError
from snakemake.settings.types import (
    ConfigSettings,
    DAGSettings,
    ExecutionSettings,
    ResourceSettings,
    SchedulingSettings,
    StorageSettings,
)
from snakemake.utils import update_config
from snakemake_interface_executor_plugins.settings import CommonSettings
from studies import tiny
from workshop import LEFT_OUT, ROOT

from synthgain.runtime.errors import SynthGainError
from synthgain.study.schema import Study
from synthgain.study.sources import command_line, merged
from synthgain.study.yaml_files import read_yaml

TINY = yaml.safe_dump(tiny(), sort_keys=False)
END = TINY.count("\n")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all cases: the code is read once."""
    return tmp_path_factory.mktemp("sources")


@pytest.fixture(autouse=True)
def _with_no_study_of_another_case(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    for path in [*folder.glob("*.yaml"), *folder.glob("*.json")]:
        path.unlink()


def opened(files: Sequence[str] = (), words: Sequence[str] = (), nodes: int | None = None, **more: Any) -> Any:
    """Return Snakemake's workflow once it has read the Snakefile, called with these config files and --config words."""
    settings = ConfigSettings(
        config=parse_config(list(words)),
        configfiles=[Path(name) for name in files],
        config_args=list(words) or None,
        **more,
    )
    with SnakemakeApi() as api:
        made = api.workflow(
            resource_settings=ResourceSettings(cores=1, nodes=nodes),
            config_settings=settings,
            storage_settings=StorageSettings(),
            snakefile=ROOT / "Snakefile",
        )
        return made._workflow


def study_of(*files: str, words: Sequence[str] = (), **more: Any) -> Study:
    """Return the study that the Snakefile makes of these."""
    return opened(files, words, **more).globals["session"].study


def refused(*files: str, words: Sequence[str] = (), **more: Any) -> str:
    """Return the one line with which the Snakefile refuses these."""
    with pytest.raises(WorkflowError) as caught:
        opened(files, words, **more)
    line = str(caught.value)
    assert "\n" not in line
    assert len(line) < 400
    return line


def snakemake(folder: Path, *arguments: str) -> tuple[int, str]:
    """Call the real `snakemake` in a folder; its exit status, and all it said."""
    command = [sys.executable, "-m", "snakemake", *arguments]
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache")}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)
    return done.returncode, done.stdout + done.stderr


# (file name, text, the line of the refusal, the key, and how it was spelt first)
TWICE: dict[str, tuple[Any, ...]] = {
    "at_the_top": ("study.yaml", TINY + "arms:\n  real: {real: hospital_a}\n", END + 1, "'arms'"),
    "below": (
        "study.yaml",
        TINY + "seed: 4\ncompute:\n  device: cpu\n  device: cpu\n",
        END + 4,
        "'device'",
    ),
    "in_a_list": ("study.yaml", "a: [1, {b: 1, c: 2,\n  b: 3}]\n", 2, "'b'"),
    "quoted_once": ("study.yaml", 'seed: 1\n"seed": 2\n', 2, "'seed'"),
    "one_number_spelt_twice": ("study.yaml", "a:\n  1: x\n  2: y\n  01: z\n", 4, "'01'", " (first as '1')"),
    "one_truth_spelt_twice": ("study.yaml", "a:\n  yes: 1\n  true: 0\n", 3, "'true'", " (first as 'yes')"),
    "in_what_is_merged": ("study.yaml", "a: &a {b: 1}\nc:\n  <<: *a\n  d: 1\n  d: 1\n", 5, "'d'"),
    "merged_twice": ("study.yaml", "a: &a {b: 1}\nc:\n  <<: *a\n  <<: *a\n", 4, "'<<'"),
    "json": ("study.json", '{"seed": 1,\n "study": "a",\n "seed": 2}', 3, "'seed'"),
    "json_with_tabs_and_escapes": ("study.json", '{"a": [{\n\t"seed": 1,\n\t"se\\u0065d": 2}]}', 3, "'seed'"),
}


@pytest.mark.parametrize("case", TWICE)
def test_a_key_given_twice_is_refused_where_snakemake_reads_the_study(case: str) -> None:
    name, text, line, key, *otherwise = TWICE[case]
    Path(name).write_text(text)
    assert refused(name) == f"{name}: line {line}: the key {key} is given twice{''.join(otherwise)}; keep one"


def test_each_of_several_config_files_is_looked_through() -> None:
    Path("study.yaml").write_text(TINY)
    Path("overlay.yaml").write_text("replicates: {count: 5,\n  count: 6}\n")
    expected = "overlay.yaml: line 2: the key 'count' is given twice; keep one"
    assert refused("study.yaml", "overlay.yaml") == expected
    assert refused("overlay.yaml", "study.yaml") == expected
    assert refused("overlay.yaml") == expected, "over the default study"


def test_a_key_given_twice_on_the_command_line_is_refused() -> None:
    Path("study.yaml").write_text(TINY)
    assert refused("study.yaml", words=["compute={device: cpu, device: cuda}"]) == (
        "--config compute: line 1: the key 'device' is given twice; keep one"
    )
    assert refused("study.yaml", words=["compute={'device': 'cpu', 'device': 'cuda'}"]) == (
        "--config compute: line 1: the key 'device' is given twice; keep one"
    )
    assert refused("study.yaml", words=["seed=1", "seed=2"]) == "--config: the key 'seed' is given twice; keep one"


def test_what_is_given_later_lies_over_what_was_given_before() -> None:
    Path("study.yaml").write_text(TINY)
    Path("overlay.yaml").write_text("seed: 5\nreplicates: {count: 4}\n")
    Path("overlay.json").write_text('{"seed": 6, "models": {"cnn": {"learning_rate": 1e-4}}}')
    study = study_of("study.yaml", "overlay.yaml", "overlay.json", words=["rehearsal=false", "compute={device: cpu}"])
    assert (study.study, study.seed, study.replicates.count, study.replicates.per_job) == ("tiny", 6, 4, 2)
    assert study.models["cnn"].learning_rate == 1e-4
    assert study.compute.device == "cpu"
    assert study_of("overlay.json", "study.yaml", "overlay.yaml").seed == 5
    assert study_of("study.yaml", "overlay.yaml", words=["seed=9"]).seed == 9


def test_without_data_sets_the_default_study_lies_below() -> None:
    default = study_of()
    assert default.study == "phantom"
    Path("overlay.yaml").write_text("replicates: {count: 4}\n")
    study = study_of("overlay.yaml", words=["seed=3"])
    assert (study.study, study.replicates.count, study.seed) == ("phantom", 4, 3)
    assert study_of(words=["rehearsal=true"]).rehearsal
    told = refused("overlay.yaml", replace_workflow_config=True)
    assert told.startswith("overlay.yaml: "), "only what the call gave counts"
    assert "is missing" in told


def test_anchors_and_merge_keys_are_read() -> None:
    config = tiny()
    first = yaml.safe_dump({"pools": {"drawn": config.pop("pools")["drawn"]}}, sort_keys=False)
    text = first.replace("drawn:", "drawn: &drawn", 1) + "  again:\n    <<: *drawn\n    replicas: 1\n"
    Path("study.yaml").write_text(yaml.safe_dump(config, sort_keys=False) + text)
    pools = study_of("study.yaml").pools
    assert (pools["drawn"].replicas, pools["again"].replicas) == (2, 1)
    assert pools["again"].model_copy(update={"replicas": 2}) == pools["drawn"]


NESTED = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.lists(st.integers(), max_size=2),
    lambda values: st.dictionaries(st.sampled_from("abc"), values, max_size=3),
    max_leaves=8,
)
CONFIGS = st.lists(st.dictionaries(st.sampled_from("abc"), NESTED, max_size=3), min_size=1, max_size=3)


@given(CONFIGS)
def test_configs_are_merged_as_snakemake_merges_them(configs: list[dict[str, Any]]) -> None:
    before = copy.deepcopy(configs)
    expected: dict[str, Any] = {}
    for config in copy.deepcopy(configs):
        update_config(expected, config)
    assert merged(configs) == expected
    assert configs == before, "what was read stays as it was"


FOLDERS = ["/data/set #1", "/data/a: b", "{data}", "[data]", "1e5", "007", "1_000", "True", "~", "null", 'a"b"', " a "]


@pytest.mark.parametrize("data", FOLDERS)
def test_a_folder_on_the_command_line_is_the_folder_that_was_meant(data: str) -> None:
    Path("study.yaml").write_text(TINY)
    assert study_of("study.yaml", words=[f"data_root={data}"]).data_root == data


def test_words_on_the_command_line_keep_their_kind() -> None:
    Path("study.yaml").write_text(TINY)
    for word in ("rehearsal=true", "rehearsal=True", "rehearsal=1", "rehearsal=yes"):
        assert study_of("study.yaml", words=[word]).rehearsal, word
    words = ["seed=1e3", "title=7 of 9", "description='quoted'", "evaluate_on=[hospital_a]", "replicates={'count': 7}"]
    study = study_of("study.yaml", words=words, nodes=1)
    assert (study.seed, study.title, study.description) == (1000, "7 of 9", "quoted")
    assert (study.evaluate_on, study.replicates.count) == (["hospital_a"], 7)
    assert study_of("study.yaml", words=["title="]).title == ""
    assert study_of("study.yaml", words=["rehearsal=true", "analysis={'primary': None}"]).analysis.primary is None
    told = refused("study.yaml", words=["seed={a: 1}"])
    assert told.startswith("--config: seed: ")
    assert refused("study.yaml", words=["replicates={count: 7"]).startswith("--config replicates: line 1: ")


def child_words(workflow: Any) -> Any:
    """Return the config settings of a job that this workflow starts by itself, through the shell and the parser."""
    workflow.execution_settings, workflow.scheduling_settings = ExecutionSettings(), SchedulingSettings()
    workflow.dag_settings = DAGSettings()
    settings = CommonSettings(non_local_exec=True, implies_no_shared_fs=False, job_deploy_sources=False)
    line = workflow.spawned_job_args_factory.general_args(settings)
    said = subprocess.run(["sh", "-c", f"printf '%s\\0' {line}"], capture_output=True, text=True, check=True).stdout
    found = get_argument_parser().parse_args([word for word in said.split("\0") if word])
    return SimpleNamespace(files=[str(path) for path in found.configfile], words=found.config or [])


def test_a_job_that_snakemake_starts_elsewhere_reads_the_same_study() -> None:
    Path("study.yaml").write_text(TINY)
    Path("overlay.json").write_text('{"seed": 6}')
    Path("overlay.yaml").write_text("replicates: {count: 4}\n")
    words = ["data_root=/data/set #1", "rehearsal=true", "seed=7", "compute={'device': 'cpu'}", "title=it's 7: {x}"]
    for files in (["study.yaml", "overlay.json", "overlay.yaml"], ["overlay.yaml"], []):
        parent = opened(files, words, nodes=1)
        child = child_words(parent)
        again = opened(child.files, child.words, nodes=1)
        assert again.globals["session"].study == parent.globals["session"].study


@pytest.mark.parametrize("data", ["/data/$HOME", "/data/`id`", "/a\\b", '/it\'s "x"', "/a\nb"])
def test_words_that_would_not_reach_a_cluster_job_unchanged_are_refused(data: str) -> None:
    Path("study.yaml").write_text(TINY)
    told = refused("study.yaml", words=[f"data_root={data}"], nodes=1)
    assert told.startswith("--config data_root: ")
    assert "a config file" in told
    assert study_of("study.yaml", words=[f"data_root={data}"]).data_root == data, "here it needs no other shell"


def test_problems_name_the_file_that_they_are_in() -> None:
    Path("study.yaml").write_text(TINY)
    Path("overlay.yaml").write_text("arms: {extra: {real: hospital_x}}\n")
    Path("more.yaml").write_text("replicates: {cuont: 4}\n")
    assert refused("study.yaml", "overlay.yaml").startswith("overlay.yaml: arms.extra.real: ")
    assert refused("study.yaml", "more.yaml").startswith("more.yaml: replicates: unknown key 'cuont'")
    assert refused("study.yaml", words=["sede=1"]).startswith("--config: unknown key 'sede'")
    Path("less.yaml").write_text("{study: null}")
    assert refused("study.yaml", "less.yaml").startswith("less.yaml: study: "), "it replaces the other"
    Path("less.yaml").write_text("{arms: {real_long: {steps_factor: -1}}}")
    assert refused("study.yaml", "less.yaml").startswith("less.yaml: arms.real_long.steps_factor: ")
    Path("less.yaml").write_text("arms: {more: {real: hospital_a, repeat: true}}")
    assert refused("study.yaml", "less.yaml").startswith("less.yaml: arms.more: ")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [1\nb: 2\n", "line 2: "),
        ("a: {b: 1}\n\tc: 2\n", "line 2: "),
        ("a: !!python/name:os.system x\n", "line 1: could not determine a constructor"),
        ("a: b: c\n", "line 1: "),
        ("a: 1\n---\na: 2\n", "line 2: "),
        ("- a\n", "not a study config"),
        ("", "not a study config"),
        (f"a: {'9' * 6000}\n", "digits"),
        ("[" * 5000, "too deep"),
        ("a: " + "[" * 5000 + "]" * 5000, "too deep"),
        ("__use_yte__: true\nstudy: a\n", "__use_yte__"),
        ("? [a]\n: 1\n", "line 1: "),
    ],
)
def test_a_file_that_cannot_be_read_gives_one_line(text: str, words: str) -> None:
    path = Path("study.yaml")
    path.write_text(text)
    with pytest.raises(SynthGainError) as caught:
        read_yaml(path)
    assert str(caught.value).startswith("study.yaml: ")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    path.write_bytes(b"a: \xff\n")
    with pytest.raises(SynthGainError, match=r"^study\.yaml: .*UTF-8"):
        read_yaml(path)


def test_snakemake_itself_refuses_a_key_given_twice(tmp_path: Path) -> None:
    """The default config.yaml, and a config file that a profile names, by the real command."""
    folder = tmp_path / "repository"
    shutil.copytree(ROOT, folder, ignore=LEFT_OUT)
    profile = folder / "site"
    profile.mkdir()
    (profile / "config.yaml").write_text("configfile: [site/study.yaml, site/overlay.yaml]\ncores: 1\n")
    (profile / "study.yaml").write_text(TINY)
    (profile / "overlay.yaml").write_text("seed: 1\nreplicates:\n  count: 5\n  count: 6\n")
    status, said = snakemake(folder, "-n", "--profile", "site", "--config", "rehearsal=true")
    assert status != 0
    assert "site/overlay.yaml: line 4: the key 'count' is given twice; keep one" in said
    assert "Traceback" not in said
    (profile / "overlay.yaml").write_text('{"seed": 4}')
    status, said = snakemake(folder, "-n", "--profile", "site", "--config", "rehearsal=true")
    assert status == 0, said
    assert "results/tiny-rehearsal/report.html" in said
    with (folder / "config.yaml").open("a") as handle:
        handle.write("arms:\n  real: {real: hospital_a}\n")
    status, said = snakemake(folder, "-n")
    assert status != 0
    lines = (folder / "config.yaml").read_text().count("\n")
    assert f"config.yaml: line {lines - 1}: the key 'arms' is given twice; keep one" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("word", ["7", "True", "None", "750", "1000", "1.5", "{'a': 'b'}", "['data']", "-1"])
def test_a_folder_of_a_profile_that_yaml_may_have_changed_is_refused(word: str) -> None:
    """007, yes, ~, 12:30, 1_000, 1.50 and {a: b} of a profile reach the Snakefile as these words."""
    with pytest.raises(SynthGainError, match=r"--config data_root: .* comes from a profile"):
        command_line([f"data_root={word}"], typed=["snakemake", "--profile", "site"])
    assert command_line([f"data_root={word}"], typed=["snakemake", "--config", f"data_root={word}"]) == {
        "data_root": word
    }


@pytest.mark.parametrize("word", ["'007'", '"yes"', "/data/set #1", "007", "data", "2020-01-01", "1e5"])
def test_a_folder_of_a_profile_that_yaml_cannot_have_changed_is_taken(word: str) -> None:
    found = command_line([f"data_root={word}"], typed=["snakemake", "--profile", "site"])
    assert found == {"data_root": word.strip("'\"")}


def test_a_profile_given_to_the_real_command(tmp_path: Path) -> None:
    folder = tmp_path / "repository"
    shutil.copytree(ROOT, folder, ignore=LEFT_OUT)
    (folder / "tiny.yaml").write_text(TINY)
    (folder / "site").mkdir()
    profile = folder / "site" / "config.yaml"
    profile.write_text("configfile: [tiny.yaml]\ncores: 1\nconfig: {data_root: 007, seed: 3}\n")
    status, said = snakemake(folder, "-n", "--profile", "site")
    assert status != 0
    assert "--config data_root: '7' comes from a profile" in said
    assert "Traceback" not in said
    profile.write_text('configfile: [tiny.yaml]\ncores: 1\nconfig: {data_root: "007", seed: 3}\n')
    status, said = snakemake(folder, "-n", "--profile", "site")
    assert status == 0, said
