# Statistics: every number comes from stored predictions; nothing is retrained to add one.


rule compare_arms:
    input:
        inputs("compare_arms"),
    output:
        f"{RUN}/statistics/{{model}}/manifest.json",
    log:
        f"{RUN}/logs/compare_arms/{{model}}.log",
    benchmark:
        f"{RUN}/benchmarks/compare_arms/{{model}}.tsv"
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
        'python "$SYNTHGAIN_SCRIPTS/compare_arms.py" --job {params.job:q} --run results/{wildcards.run}'
        " --threads {threads} --log {log:q} --output {output:q}"
