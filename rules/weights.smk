# Weights from elsewhere: does each file fit its network? Known before anything trains.


rule check_weights:
    output:
        f"{RUN}/audit/weights/manifest.json",
    log:
        log_of("check_weights"),
    benchmark:
        benchmark_of("check_weights")
    conda:
        "../envs/environment.yaml"
    resources:
        mem_mb=larger_with_attempt(4000),
    params:
        job=job("check_weights"),
    message:
        "Checking weights from elsewhere"
    shell:
        script("check_weights")
