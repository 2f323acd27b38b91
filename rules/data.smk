# Data sets: read and prepared, divided by patient, audited.


rule prepare_dataset:
    input:
        inputs("prepare_dataset"),
    output:
        f"{RUN}/datasets/{{dataset}}/manifest.json",
    log:
        f"{RUN}/logs/prepare_dataset/{{dataset}}.log",
    benchmark:
        f"{RUN}/benchmarks/prepare_dataset/{{dataset}}.tsv"
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
        'python "$SYNTHGAIN_SCRIPTS/prepare_dataset.py" --job {params.job:q} --run results/{wildcards.run}'
        " --threads {threads} --log {log:q} --output {output:q}"


rule split_dataset:
    input:
        inputs("split_dataset"),
    output:
        f"{RUN}/splits/{{dataset}}/manifest.json",
    log:
        f"{RUN}/logs/split_dataset/{{dataset}}.log",
    benchmark:
        f"{RUN}/benchmarks/split_dataset/{{dataset}}.tsv"
    conda:
        "../envs/environment.yaml"
    params:
        job=job("split_dataset"),
    message:
        "Dividing the patients of {wildcards.dataset}"
    shell:
        'python "$SYNTHGAIN_SCRIPTS/split_dataset.py" --job {params.job:q} --run results/{wildcards.run}'
        " --threads {threads} --log {log:q} --output {output:q}"


rule audit_datasets:
    input:
        inputs("audit_datasets"),
    output:
        f"{RUN}/audit/audit.json",
        report(
            f"{RUN}/audit/audit.html",
            category="Data",
            caption="../workflow_scripts/synthgain/report/captions/audit.rst",
        ),
    log:
        f"{RUN}/logs/audit_datasets/all.log",
    benchmark:
        f"{RUN}/benchmarks/audit_datasets/all.tsv"
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
        'python "$SYNTHGAIN_SCRIPTS/audit_datasets.py" --job {params.job:q} --run results/{wildcards.run}'
        " --threads {threads} --log {log:q} --output {output:q}"
