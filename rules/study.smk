# The study that this call is about: read, checked, and opened as `session`; no logic here.
import sys
from functools import partial
from pathlib import Path

from snakemake.exceptions import WorkflowError

sys.path.insert(0, f"{workflow.basedir}/workflow_scripts")

from synthgain.runtime.errors import SynthGainError
from synthgain.study.session import Session
from synthgain.study.sources import blamed, merged, read_sources
from synthgain.study.yaml_files import read_yaml

# Snakemake merges --configfile over this one, entry by entry: the default study is read only where no other is given.
# It is looked through first: an alias bomb in it would take Snakemake's reader minutes and gigabytes.
if "datasets" not in config:
    try:
        read_yaml(Path(workflow.basedir) / "config.yaml")
    except SynthGainError as problem:
        raise WorkflowError(str(problem)) from None

    configfile: f"{workflow.basedir}/config.yaml"


# Snakemake's own `config` passes over a key given twice: the same files and words are read again.
try:
    sources = read_sources(
        workflow.configfiles,
        workflow.config_settings,
        sent=bool(workflow.resource_settings.nodes),
    )
    session = Session(
        merged(source.values for source in sources),
        Path(workflow.basedir),
        Path("results"),
        source=partial(blamed, sources),
    )
except SynthGainError as problem:
    raise WorkflowError(str(problem)) from None
