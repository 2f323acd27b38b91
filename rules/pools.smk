# Pools: synthetic images drawn replica by replica, each cut into shards; exports for other tools.


localrules:
    merge_pool_replica,


rule draw_pool_shard:
    input:
        datasets=needs("draw_pool_shard", "datasets"),
        splits=needs("draw_pool_shard", "splits"),
        autoencoders=needs("draw_pool_shard", "autoencoders"),
        generators=needs("draw_pool_shard", "generators"),
        mask_generators=needs("draw_pool_shard", "mask_generators"),
        replicas=needs("draw_pool_shard", "replicas"),
        memorisation=needs("draw_pool_shard", "memorisation"),
        consistency=needs("draw_pool_shard", "consistency"),
        clusters=needs("draw_pool_shard", "clusters"),
        ratings=needs("draw_pool_shard", "ratings"),
    output:
        f"{RUN}/pools/{{pool}}/{{index}}/replica-{{replica}}/shard-{{shard}}/manifest.json",
    log:
        log_of("draw_pool_shard"),
    benchmark:
        benchmark_of("draw_pool_shard")
    conda:
        "../envs/environment.yaml"
    threads: session.study.compute.sampling_threads
    resources:
        mem_mb=larger_with_attempt(8000),
        runtime=larger_with_attempt(240),
        gpu=gpus("draw_pool_shard"),
    params:
        job=job("draw_pool_shard"),
    message:
        "Drawing pool {wildcards.pool} ({wildcards.index}), replica {wildcards.replica}, shard {wildcards.shard}"
    shell:
        script("draw_pool_shard")


rule merge_pool_replica:
    input:
        shards=needs("merge_pool_replica", "shards"),
    output:
        f"{RUN}/pools/{{pool}}/{{index}}/replica-{{replica}}/manifest.json",
    log:
        log_of("merge_pool_replica"),
    benchmark:
        benchmark_of("merge_pool_replica")
    conda:
        "../envs/environment.yaml"
    params:
        job=job("merge_pool_replica"),
    message:
        "Closing pool {wildcards.pool} ({wildcards.index}), replica {wildcards.replica}"
    shell:
        script("merge_pool_replica")


rule export_pool:
    input:
        replicas=needs("export_pool", "replicas"),
    output:
        f"{RUN}/exports/{{pool}}/{{index}}/manifest.json",
    log:
        log_of("export_pool"),
    benchmark:
        benchmark_of("export_pool")
    conda:
        "../envs/environment.yaml"
    params:
        job=job("export_pool"),
    message:
        "Exporting pool {wildcards.pool} ({wildcards.index})"
    shell:
        script("export_pool")
