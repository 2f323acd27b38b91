# Studies on pools of known truth (study_seeds): over all seeds, the known answers beside the found ones.


rule summarise_calibration:
    input:
        inputs("summarise_calibration"),
    output:
        f"{STUDY}/calibration.json",
        f"{STUDY}/calibration.csv",
        report(
            f"{STUDY}/calibration.html",
            category="Results",
            caption="../workflow_scripts/synthgain/report/captions/calibration.rst",
        ),
    log:
        f"{STUDY}/logs/summarise_calibration/all.log",
    benchmark:
        f"{STUDY}/benchmarks/summarise_calibration/all.tsv"
    conda:
        "../envs/environment.yaml"
    params:
        job=job("summarise_calibration"),
    message:
        "Comparing known and found answers of {wildcards.study}"
    shell:
        'python "$SYNTHGAIN_SCRIPTS/summarise_calibration.py" --job {params.job:q} --run results/{wildcards.study}'
        " --threads {threads} --log {log:q} --output {output:q}"
