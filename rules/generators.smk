# Generators: images divided by appearance, training on training patients only, grids.


rule cluster_images:
    input:
        datasets=needs("cluster_images", "datasets"),
        splits=needs("cluster_images", "splits"),
    output:
        f"{RUN}/clusters/{{clusters}}/manifest.json",
    log:
        log_of("cluster_images"),
    benchmark:
        benchmark_of("cluster_images")
    conda:
        "../envs/environment.yaml"
    resources:
        mem_mb=larger_with_attempt(4000),
        runtime=larger_with_attempt(60),
        gpu=gpus("cluster_images"),
    params:
        job=job("cluster_images"),
    message:
        "Dividing training images by appearance: {wildcards.clusters}"
    shell:
        script("cluster_images")


rule train_autoencoder:
    input:
        datasets=needs("train_autoencoder", "datasets"),
        splits=needs("train_autoencoder", "splits"),
        audited=audited("train_autoencoder"),
        protocol=declared("train_autoencoder"),
    output:
        f"{RUN}/autoencoders/{{autoencoder}}/manifest.json",
    log:
        log_of("train_autoencoder"),
    benchmark:
        benchmark_of("train_autoencoder")
    conda:
        "../envs/environment.yaml"
    threads: max(session.study.compute.generator_threads, session.study.compute.generator_processes)
    resources:
        mem_mb=larger_with_attempt(8000 * session.study.compute.generator_processes),
        runtime=larger_with_attempt(480),
        gpu=gpus("train_autoencoder"),
        nodes=1,
    params:
        job=job("train_autoencoder"),
    message:
        "Training autoencoder {wildcards.autoencoder}"
    shell:
        script("train_autoencoder")


rule train_generator:
    input:
        datasets=needs("train_generator", "datasets"),
        splits=needs("train_generator", "splits"),
        autoencoders=needs("train_generator", "autoencoders"),
        start=needs("train_generator", "start"),
        ratings=needs("train_generator", "ratings"),
        rated=needs("train_generator", "rated"),
        clusters=needs("train_generator", "clusters"),
        audited=audited("train_generator"),
        protocol=declared("train_generator"),
    output:
        f"{RUN}/generators/{{generator}}/{{index}}/manifest.json",
    log:
        log_of("train_generator"),
    benchmark:
        benchmark_of("train_generator")
    conda:
        "../envs/environment.yaml"
    threads: max(session.study.compute.generator_threads, session.study.compute.generator_processes)
    resources:
        mem_mb=larger_with_attempt(8000 * session.study.compute.generator_processes),
        runtime=larger_with_attempt(480),
        gpu=gpus("train_generator"),
        nodes=1,  # all processes of a training share one machine
    params:
        job=job("train_generator"),
    message:
        "Training generator {wildcards.generator} ({wildcards.index})"
    shell:
        script("train_generator")


rule draw_sample_grid:
    input:
        generators=needs("draw_sample_grid", "generators"),
        datasets=needs("draw_sample_grid", "datasets"),
        splits=needs("draw_sample_grid", "splits"),
    output:
        report(
            f"{RUN}/samples/{{generator}}/{{index}}/{{snapshot}}.png",
            category="Generators",
            caption="../workflow_scripts/synthgain/report/captions/samples.rst",
            labels={
                "generator": "{generator}",
                "index": "{index}",
                "snapshot": "{snapshot}",
            },
        ),
    log:
        log_of("draw_sample_grid"),
    benchmark:
        benchmark_of("draw_sample_grid")
    conda:
        "../envs/environment.yaml"
    resources:
        mem_mb=larger_with_attempt(4000),
        runtime=larger_with_attempt(60),
        gpu=gpus("draw_sample_grid"),
    params:
        job=job("draw_sample_grid"),
    message:
        "Drawing samples of {wildcards.generator} ({wildcards.index}) after {wildcards.snapshot} steps"
    shell:
        script("draw_sample_grid")
