# Thin adapters between Snakemake and synthgain.study, which plans every job; no logic here.
import atexit
import sys
from functools import partial

from snakemake.io import IOFile
from snakemake.settings.enums import RerunTrigger

from synthgain.study import cluster
from synthgain.study.stages.table import STAGES
from synthgain.study.wildcards import wildcards_of_stages

RUN = "results/{run}"
STUDY = "results/{study}"  # above the runs of a study with several seeds


wildcard_constraints:
    **wildcards_of_stages(),
    run=session.run_pattern(),
    study=session.study.study,


def planned(rule, method, *about):
    """Return a function of wildcards that asks the session, with errors as one line."""

    def ask(wildcards):
        try:
            return getattr(session, method)(rule, *about, **dict(wildcards))
        except SynthGainError as problem:
            raise refused(problem) from None

    return ask


def needs(rule, name):
    """Return the input function of what `rule` reads under this name."""
    ask = planned(rule, "inputs", name)
    return lambda wildcards: [ancient(p) if old else p for p, old in ask(wildcards)]


def after(receipt, rule):
    """Return the input function of what puts a job that is due after the receipt of another."""
    ask = planned(rule, "waits_for", receipt)

    def path_of_receipt(wildcards):
        # What a job reads stands in its one param; a receipt that it once waited for is no reason to run it again,
        # without profiles/default too.
        workflow.dag_settings.rerun_triggers -= {RerunTrigger.INPUT}
        return ask(wildcards)

    return path_of_receipt


audited = partial(after, "audit/receipt")
declared = partial(after, "protocol/receipt.json")


def job(rule):
    return planned(rule, "parameter")


def log_of(rule):
    return f"results/{STAGES[rule].record('logs', 'log')}"


def benchmark_of(rule):
    return f"results/{STAGES[rule].record('benchmarks', 'tsv')}"


def script(rule, folder="{wildcards.run}"):
    """Return how every job is called: the script of the rule's name, with one param (docs/architecture.md)."""
    return (
        f'python "$SYNTHGAIN_SCRIPTS/{rule}.py" --job {{params.job:q}} --run results/{folder}'
        " --threads {threads} --log {log:q} --output {output:q}"
    )


def targets(kind, run=None):
    try:
        return session.targets(kind, run)
    except SynthGainError as problem:
        raise refused(problem) from None


def expected(wildcards):
    return session.write_expected(session.own_file("expected.json"))


def recorded(path):
    """Return the params with which Snakemake recorded a result."""
    return workflow.persistence.params(IOFile(path))


def acceptable(wildcards):
    return session.write_acceptable(session.own_file("acceptable.json"), recorded)


def planned_jobs(wildcards):
    return session.write_planned(session.own_file("planned.json"))


def jobs_at_once(wildcards):
    """Cores of this machine, or jobs of a cluster; 0 where neither is known."""
    settings = workflow.resource_settings
    return settings.cores or settings.nodes or 0


def larger_with_attempt(amount):
    """Memory (MB) or time (minutes) that grows with each retry."""
    return lambda wildcards, attempt: amount * attempt


def gpus(rule):
    """As many GPUs as the job computes on."""
    return lambda wildcards: cluster.gpus(session.study, STAGES[rule], wildcards)


def say_what_changed():
    """After a dry run: which keys and modules differ from those that made the results."""
    if workflow.is_main_process and workflow.dryrun and workflow.persistence:
        try:
            text = session.changes(recorded)
        except SynthGainError:  # said before
            return
        if text:
            print(f"\n{text}", file=sys.stderr)


atexit.register(say_what_changed)


def say_what_is_known():
    session.remember_code()
    if session.notice():
        print(session.notice(), file=sys.stderr)


def say_that_it_ended_well():
    if terminal and terminal.view:
        terminal.view.ended_well = True  # it has the last word
    else:
        print(*session.told_at_the_end(), sep="\n", file=sys.stderr)
