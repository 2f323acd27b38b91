# The forecast: a few measured steps of every kind of work, times what the plan counts.


localrules:
    forecast_cost,


# Before anything that takes long, so that the forecast is one; with the threads of the jobs whose steps it measures.
rule measure_speed:
    input:
        audited=audited("measure_speed"),
    output:
        f"{RUN}/forecast/speed.json",
    log:
        log_of("measure_speed"),
    benchmark:
        benchmark_of("measure_speed")
    priority: 100
    conda:
        "../envs/environment.yaml"
    threads:
        max(
            session.study.compute.generator_threads,
            session.study.compute.sampling_threads,
            session.study.compute.downstream_threads,
        )
    resources:
        mem_mb=larger_with_attempt(8000),
        runtime=larger_with_attempt(30),
        gpu=gpus("measure_speed"),
    params:
        job=job("measure_speed"),
    message:
        "Measuring a few steps of every kind of work"
    shell:
        script("measure_speed")


rule forecast_cost:
    input:
        speed=needs("forecast_cost", "speed"),
    output:
        f"{RUN}/forecast/forecast.json",
    log:
        log_of("forecast_cost"),
    benchmark:
        benchmark_of("forecast_cost")
    priority: 100
    conda:
        "../envs/environment.yaml"
    params:
        job=job("forecast_cost"),
    message:
        "Forecasting the cost of {wildcards.run}"
    shell:
        script("forecast_cost")
