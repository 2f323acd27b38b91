# Studies on pools of known truth (study_seeds): over all seeds, the known answers beside the found ones.


rule summarise_calibration:
    input:
        statistics=needs("summarise_calibration", "statistics"),
        memorisation=needs("summarise_calibration", "memorisation"),
        fidelity=needs("summarise_calibration", "fidelity"),
        predictions=needs("summarise_calibration", "predictions"),
    output:
        f"{STUDY}/calibration.json",
        f"{STUDY}/calibration.csv",
        report(
            f"{STUDY}/calibration.html",
            category="Results",
            caption="../workflow_scripts/synthgain/report/captions/calibration.rst",
        ),
    log:
        log_of("summarise_calibration"),
    benchmark:
        benchmark_of("summarise_calibration")
    conda:
        "../envs/environment.yaml"
    params:
        job=job("summarise_calibration"),
    message:
        "Comparing known and found answers of {wildcards.study}"
    shell:
        script("summarise_calibration", "{wildcards.study}")
