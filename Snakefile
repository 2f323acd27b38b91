# SynthGain: does synthetic data help? This file is the table of contents; the stages are in rules/, in the
# order in which data flow; what a job does is in workflow_scripts/<rule>.py.
from snakemake.utils import min_version

min_version("9.19")


report: "workflow_scripts/synthgain/report/captions/workflow.rst"


include: "rules/terminal.smk"
include: "rules/study.smk"
include: "rules/common.smk"
include: "rules/protocol.smk"
include: "rules/forecast.smk"
include: "rules/data.smk"
include: "rules/weights.smk"
include: "rules/generators.smk"
include: "rules/pools.smk"
include: "rules/downstream.smk"
include: "rules/evaluation.smk"
include: "rules/statistics.smk"
include: "rules/readers.smk"
include: "rules/report.smk"
include: "rules/calibration.smk"


localrules:
    report,
    protocol,
    plan,
    audit,
    confirm_audit,
    samples,
    exports,
    reader_kit,
    verify,
    accept,


# Everything, up to results/<study>/report.html.
rule report:
    default_target: True
    input:
        targets("report"),


# What the study declares, written and dated first in every run: whatever trains or analyses waits for it.
rule protocol:
    input:
        targets("protocol"),


# What the study will cost, before anything of it runs: a few steps are measured, the rest is counted.
rule plan:
    input:
        forecast=targets("plan"),
    log:
        "results/plan.log",
    conda:
        "envs/environment.yaml"
    params:
        planned=planned_jobs,
        cores=jobs_at_once,
    shell:
        'python "$SYNTHGAIN_SCRIPTS/print_plan.py" --forecast {input.forecast:q} --planned {params.planned:q}'
        " --results results --cores {params.cores} --log {log:q}"


# The data sets as read: tables, duplicates, contact sheets, appearance clusters.
rule audit:
    input:
        targets("audit"),


# What takes long waits for this receipt, and no later audit makes it out of date (Session.after_audit).
rule confirm_audit:
    input:
        lambda wildcards: targets("audit", wildcards.run),
    output:
        touch(f"{RUN}/audit/receipt"),
    message:
        "All data sets are read, divided and audited"


# Sample grids of every generator snapshot, before any pool is drawn.
rule samples:
    input:
        targets("samples"),


# The pages for readers, before any model is trained: results/<study>/reader_kit-<panel>-…/.
rule reader_kit:
    input:
        lambda wildcards: targets("reader_kit"),


# Every pool as PNG files with a table and a datasheet.
rule exports:
    input:
        targets("exports"),


# Compares every result with the present config and code, and every source image with its recorded hash.
rule verify:
    log:
        "results/verify.log",
    conda:
        "envs/environment.yaml"
    params:
        expected=expected,
    shell:
        'python "$SYNTHGAIN_SCRIPTS/verify_results.py" --expected {params.expected:q} --results results --log {log:q}'


# Takes results as current whose code alone differs from the present one (docs/rerun.md); computes nothing.
rule accept:
    log:
        "results/accept.log",
    conda:
        "envs/environment.yaml"
    params:
        acceptable=acceptable,
    shell:
        'python "$SYNTHGAIN_SCRIPTS/accept_results.py" --acceptable {params.acceptable:q} --results results'
        " --log {log:q}"


onstart:
    say_what_is_known()


onsuccess:
    say_that_it_ended_well()
