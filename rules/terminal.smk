# What a person sees of a call, how it stops, and what a call before it has left behind; no logic here.
import sys

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger as snakemake_logger

sys.path.insert(0, f"{workflow.basedir}/workflow_scripts")

from synthgain.terminal.call import facts_of, start_run
from synthgain.terminal.handler import install

shown = workflow.output_settings
terminal = None
if workflow.is_main_process:
    plain = shown.dryrun or shown.verbose or shown.printshellcmds or shown.debug_dag
    terminal = install(snakemake_logger, own=not plain)


def refused(problem):
    """Return the exception that ends a call with the problem's one line."""
    return WorkflowError(terminal.refuse(str(problem)) if terminal else str(problem))


def show_run(session, cores, sends):
    """Have a real run shown, and what a killed one left ended before."""
    if terminal and not shown.dryrun:
        facts = facts_of(session, cores, sends, quiet=plain or bool(shown.quiet))
        start_run(terminal, facts)
