# Figures and the report.


rule draw_figures:
    input:
        statistics=needs("draw_figures", "statistics"),
        fidelity=needs("draw_figures", "fidelity"),
        snapshots=needs("draw_figures", "snapshots"),
        consistency=needs("draw_figures", "consistency"),
        replicas=needs("draw_figures", "replicas"),
        datasets=needs("draw_figures", "datasets"),
        splits=needs("draw_figures", "splits"),
        generators=needs("draw_figures", "generators"),
    output:
        f"{RUN}/figures/{{look}}{{model}}/manifest.json",
    log:
        log_of("draw_figures"),
    benchmark:
        benchmark_of("draw_figures")
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
        script("draw_figures")


rule write_report:
    input:
        audit=needs("write_report", "audit"),
        datasets=needs("write_report", "datasets"),
        splits=needs("write_report", "splits"),
        autoencoders=needs("write_report", "autoencoders"),
        generators=needs("write_report", "generators"),
        clusters=needs("write_report", "clusters"),
        grids=needs("write_report", "grids"),
        replicas=needs("write_report", "replicas"),
        fidelity=needs("write_report", "fidelity"),
        memorisation=needs("write_report", "memorisation"),
        consistency=needs("write_report", "consistency"),
        snapshots=needs("write_report", "snapshots"),
        relations=needs("write_report", "relations"),
        statistics=needs("write_report", "statistics"),
        figures=needs("write_report", "figures"),
        trainings=needs("write_report", "trainings"),
        kits=needs("write_report", "kits"),
        ratings=needs("write_report", "ratings"),
        forecast=needs("write_report", "forecast"),
    output:
        report(
            f"{RUN}/{{look}}report.html",
            category="Results",
            caption="../workflow_scripts/synthgain/report/captions/results.rst",
        ),
    log:
        log_of("write_report"),
    benchmark:
        benchmark_of("write_report")
    conda:
        "../envs/environment.yaml"
    params:
        job=job("write_report"),
    message:
        "Writing the report of {wildcards.run}"
    shell:
        script("write_report")
