# Data sets: read and prepared, divided by patient, audited, with appearance clusters beside them.


rule prepare_dataset:
    output:
        f"{RUN}/datasets/{{dataset}}/manifest.json",
    log:
        log_of("prepare_dataset"),
    benchmark:
        benchmark_of("prepare_dataset")
    conda:
        "../envs/environment.yaml"
    threads: 4
    resources:
        mem_mb=larger_with_attempt(4000),
        runtime=larger_with_attempt(240),
    params:
        job=job("prepare_dataset"),
    message:
        "Reading data set {wildcards.dataset}"
    shell:
        script("prepare_dataset")


rule split_dataset:
    input:
        datasets=needs("split_dataset", "datasets"),
    output:
        f"{RUN}/splits/{{dataset}}/manifest.json",
    log:
        log_of("split_dataset"),
    benchmark:
        benchmark_of("split_dataset")
    conda:
        "../envs/environment.yaml"
    params:
        job=job("split_dataset"),
    message:
        "Dividing the patients of {wildcards.dataset}"
    shell:
        script("split_dataset")


rule audit_datasets:
    input:
        datasets=needs("audit_datasets", "datasets"),
        splits=needs("audit_datasets", "splits"),
    output:
        f"{RUN}/audit/audit.json",
        report(
            f"{RUN}/audit/audit.html",
            category="Data",
            caption="../workflow_scripts/synthgain/report/captions/audit.rst",
        ),
    log:
        log_of("audit_datasets"),
    benchmark:
        benchmark_of("audit_datasets")
    conda:
        "../envs/environment.yaml"
    resources:
        mem_mb=larger_with_attempt(4000),
        runtime=larger_with_attempt(120),
    params:
        job=job("audit_datasets"),
    message:
        "Auditing the data sets"
    shell:
        script("audit_datasets")


rule audit_clusters:
    input:
        clusters=needs("audit_clusters", "clusters"),
    output:
        f"{RUN}/audit/clusters/manifest.json",
        report(
            f"{RUN}/audit/clusters/clusters.html",
            category="Data",
            caption="../workflow_scripts/synthgain/report/captions/clusters.rst",
        ),
    log:
        log_of("audit_clusters"),
    benchmark:
        benchmark_of("audit_clusters")
    conda:
        "../envs/environment.yaml"
    params:
        job=job("audit_clusters"),
    message:
        "Showing the appearance clusters"
    shell:
        script("audit_clusters")
