# Statistics: every number comes from stored predictions; nothing is retrained to add one.


rule compare_arms:
    input:
        predictions=needs("compare_arms", "predictions"),
        datasets=needs("compare_arms", "datasets"),
        splits=needs("compare_arms", "splits"),
        audit=needs("compare_arms", "audit"),
        floors=needs("compare_arms", "floors"),
        memorisation=needs("compare_arms", "memorisation"),
        protocol=declared("compare_arms"),
    output:
        f"{RUN}/statistics/{{look}}{{model}}/manifest.json",
    log:
        log_of("compare_arms"),
    benchmark:
        benchmark_of("compare_arms")
    conda:
        "../envs/environment.yaml"
    resources:
        mem_mb=larger_with_attempt(4000),
        runtime=larger_with_attempt(240),
    params:
        job=job("compare_arms"),
    message:
        "Comparing the arms of {wildcards.model}"
    shell:
        script("compare_arms")
