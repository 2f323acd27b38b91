# Downstream models: one job per arm, ratio and chunk of replicates; predictions on every evaluation set; trivial
# floors beside a segmenter's.


rule train_downstream:
    input:
        datasets=needs("train_downstream", "datasets"),
        splits=needs("train_downstream", "splits"),
        replicas=needs("train_downstream", "replicas"),
        audited=audited("train_downstream"),
        protocol=declared("train_downstream"),
    output:
        f"{RUN}/downstream/{{model}}/{{arm}}/{{ratio}}/{{chunk}}/manifest.json",
    log:
        log_of("train_downstream"),
    benchmark:
        benchmark_of("train_downstream")
    conda:
        "../envs/environment.yaml"
    threads: session.study.compute.downstream_threads
    resources:
        mem_mb=larger_with_attempt(6000),
        runtime=larger_with_attempt(240),
        gpu=gpus("train_downstream"),
    params:
        job=job("train_downstream"),
    message:
        "Training {wildcards.model}: arm {wildcards.arm} at {wildcards.ratio} %, chunk {wildcards.chunk}"
    shell:
        script("train_downstream")


rule predict_downstream:
    input:
        trainings=needs("predict_downstream", "trainings"),
        datasets=needs("predict_downstream", "datasets"),
        splits=needs("predict_downstream", "splits"),
    output:
        f"{RUN}/predictions/{{model}}/{{arm}}/{{ratio}}/{{chunk}}.parquet",
    log:
        log_of("predict_downstream"),
    benchmark:
        benchmark_of("predict_downstream")
    conda:
        "../envs/environment.yaml"
    threads: session.study.compute.downstream_threads
    resources:
        mem_mb=larger_with_attempt(4000),
        runtime=larger_with_attempt(60),
        gpu=gpus("predict_downstream"),
    params:
        job=job("predict_downstream"),
    message:
        "Predicting with {wildcards.model}: arm {wildcards.arm} at {wildcards.ratio} %, chunk {wildcards.chunk}"
    shell:
        script("predict_downstream")


rule collect_predictions:
    input:
        predictions=needs("collect_predictions", "predictions"),
    output:
        f"{RUN}/predictions/{{look}}{{model}}/{{arm}}.parquet",
    log:
        log_of("collect_predictions"),
    benchmark:
        benchmark_of("collect_predictions")
    conda:
        "../envs/environment.yaml"
    params:
        job=job("collect_predictions"),
    message:
        "Collecting the predictions of {wildcards.model}, arm {wildcards.arm}"
    shell:
        script("collect_predictions")


rule trivial_floor:
    input:
        datasets=needs("trivial_floor", "datasets"),
        splits=needs("trivial_floor", "splits"),
    output:
        f"{RUN}/floors/{{model}}.parquet",
    log:
        log_of("trivial_floor"),
    benchmark:
        benchmark_of("trivial_floor")
    conda:
        "../envs/environment.yaml"
    resources:
        mem_mb=larger_with_attempt(3000),
        runtime=larger_with_attempt(60),
    params:
        job=job("trivial_floor"),
    message:
        "Scoring trivial segmentations beside {wildcards.model}"
    shell:
        script("trivial_floor")
