# The study that this call is about: read, checked, and opened as `session`; no logic here.
from functools import partial
from pathlib import Path

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
        raise refused(problem) from None

    configfile: f"{workflow.basedir}/config.yaml"


# Snakemake's own `config` passes over a key given twice: the same files and words are read again.
try:
    sources = read_sources(
        workflow.configfiles,
        workflow.config_settings,
        sent=bool(workflow.resource_settings.nodes),
        typed=sys.argv if "snakemake" in sys.argv[0] else None,
    )
    session = Session(
        merged(source.values for source in sources),
        Path(workflow.basedir),
        Path("results"),
        source=partial(blamed, sources),
    )
except SynthGainError as problem:
    raise refused(problem) from None

show_run(
    session,
    workflow.resource_settings.cores or workflow.resource_settings.nodes or 0,
    sends=bool(workflow.resource_settings.nodes),
)
