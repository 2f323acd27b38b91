# What is measured on pools: fidelity and diversity, memorisation, label consistency, snapshots, and whether
# fidelity predicts usefulness.


rule measure_fidelity:
    input:
        replicas=needs("measure_fidelity", "replicas"),
        datasets=needs("measure_fidelity", "datasets"),
        splits=needs("measure_fidelity", "splits"),
        trainings=needs("measure_fidelity", "trainings"),
    output:
        f"{RUN}/fidelity/{{pool}}/{{index}}/manifest.json",
    log:
        log_of("measure_fidelity"),
    benchmark:
        benchmark_of("measure_fidelity")
    conda:
        "../envs/environment.yaml"
    resources:
        mem_mb=larger_with_attempt(8000),
        runtime=larger_with_attempt(120),
        gpu=gpus("measure_fidelity"),
    params:
        job=job("measure_fidelity"),
    message:
        "Measuring the fidelity of pool {wildcards.pool} ({wildcards.index})"
    shell:
        script("measure_fidelity")


rule check_memorisation:
    input:
        replicas=needs("check_memorisation", "replicas"),
        datasets=needs("check_memorisation", "datasets"),
        splits=needs("check_memorisation", "splits"),
        generators=needs("check_memorisation", "generators"),
        autoencoders=needs("check_memorisation", "autoencoders"),
        trainings=needs("check_memorisation", "trainings"),
        clusters=needs("check_memorisation", "clusters"),
    output:
        f"{RUN}/memorisation/{{pool}}/{{index}}/manifest.json",
    log:
        log_of("check_memorisation"),
    benchmark:
        benchmark_of("check_memorisation")
    conda:
        "../envs/environment.yaml"
    resources:
        mem_mb=larger_with_attempt(8000),
        runtime=larger_with_attempt(120),
        gpu=gpus("check_memorisation"),
    params:
        job=job("check_memorisation"),
    message:
        "Looking for copies of training images in pool {wildcards.pool} ({wildcards.index})"
    shell:
        script("check_memorisation")


rule score_pool:
    input:
        replicas=needs("score_pool", "replicas"),
        datasets=needs("score_pool", "datasets"),
        splits=needs("score_pool", "splits"),
        trainings=needs("score_pool", "trainings"),
    output:
        f"{RUN}/label_consistency/{{pool}}/{{index}}/manifest.json",
    log:
        log_of("score_pool"),
    benchmark:
        benchmark_of("score_pool")
    conda:
        "../envs/environment.yaml"
    resources:
        mem_mb=larger_with_attempt(4000),
        runtime=larger_with_attempt(60),
        gpu=gpus("score_pool"),
    params:
        job=job("score_pool"),
    message:
        "Scoring pool {wildcards.pool} ({wildcards.index}) with the real-only model"
    shell:
        script("score_pool")


rule evaluate_snapshots:
    input:
        generators=needs("evaluate_snapshots", "generators"),
        datasets=needs("evaluate_snapshots", "datasets"),
        splits=needs("evaluate_snapshots", "splits"),
    output:
        f"{RUN}/snapshots/{{generator}}/{{index}}/manifest.json",
    log:
        log_of("evaluate_snapshots"),
    benchmark:
        benchmark_of("evaluate_snapshots")
    conda:
        "../envs/environment.yaml"
    resources:
        mem_mb=larger_with_attempt(4000),
        runtime=larger_with_attempt(120),
        gpu=gpus("evaluate_snapshots"),
    params:
        job=job("evaluate_snapshots"),
    message:
        "Measuring the snapshots of generator {wildcards.generator} ({wildcards.index})"
    shell:
        script("evaluate_snapshots")


rule relate_fidelity:
    input:
        statistics=needs("relate_fidelity", "statistics"),
        fidelity=needs("relate_fidelity", "fidelity"),
    output:
        f"{RUN}/fidelity_utility/{{look}}{{model}}/manifest.json",
    log:
        log_of("relate_fidelity"),
    benchmark:
        benchmark_of("relate_fidelity")
    conda:
        "../envs/environment.yaml"
    params:
        job=job("relate_fidelity"),
    message:
        "Setting fidelity beside the gain of {wildcards.model}"
    shell:
        script("relate_fidelity")
