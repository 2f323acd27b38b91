# Reader studies: a kit per panel, and what its readers sent back.


# The kit is a folder of its own, which no rule declares: Snakemake would delete it before it made it anew.
rule write_reader_kit:
    input:
        datasets=needs("write_reader_kit", "datasets"),
        splits=needs("write_reader_kit", "splits"),
        replicas=needs("write_reader_kit", "replicas"),
    output:
        f"{RUN}/readers/{{panel}}/kit.json",
    log:
        log_of("write_reader_kit"),
    benchmark:
        benchmark_of("write_reader_kit")
    conda:
        "../envs/environment.yaml"
    resources:
        mem_mb=larger_with_attempt(4000),
    params:
        job=job("write_reader_kit"),
    message:
        "Making the reader kit of {wildcards.panel}"
    shell:
        script("write_reader_kit")


rule read_ratings:
    input:
        kits=needs("read_ratings", "kits"),
    output:
        f"{RUN}/readers/{{panel}}/ratings/manifest.json",
    log:
        log_of("read_ratings"),
    benchmark:
        benchmark_of("read_ratings")
    conda:
        "../envs/environment.yaml"
    params:
        job=job("read_ratings"),
    message:
        "Reading what the readers of {wildcards.panel} sent back"
    shell:
        script("read_ratings")
