# Figures and the report.


rule draw_figures:
    input:
        inputs("draw_figures"),
    output:
        f"{RUN}/figures/{{model}}/manifest.json",
    log:
        f"{RUN}/logs/draw_figures/{{model}}.log",
    benchmark:
        f"{RUN}/benchmarks/draw_figures/{{model}}.tsv"
    conda:
        "../envs/environment.yaml"
    resources:
        mem_mb=larger_with_attempt(4000),
        runtime=larger_with_attempt(60),
    params:
        job=job("draw_figures"),
    message:
        "Drawing the figures of {wildcards.model}"
    shell:
        'python "$SYNTHGAIN_SCRIPTS/draw_figures.py" --job {params.job:q} --run results/{wildcards.run}'
        " --threads {threads} --log {log:q} --output {output:q}"


rule write_report:
    input:
        inputs("write_report"),
    output:
        report(
            f"{RUN}/report.html",
            category="Results",
            caption="../workflow_scripts/synthgain/report/captions/results.rst",
        ),
    log:
        f"{RUN}/logs/write_report/report.log",
    benchmark:
        f"{RUN}/benchmarks/write_report/report.tsv"
    conda:
        "../envs/environment.yaml"
    params:
        job=job("write_report"),
    message:
        "Writing the report of {wildcards.run}"
    shell:
        'python "$SYNTHGAIN_SCRIPTS/write_report.py" --job {params.job:q} --run results/{wildcards.run}'
        " --threads {threads} --log {log:q} --output {output:q}"
