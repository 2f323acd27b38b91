# The protocol: what the study declares, written and dated before there is any result.


localrules:
    write_protocol,


# The output is a receipt; protocol-<n>.json and its page lie beside it, and no rule ever deletes them.
rule write_protocol:
    output:
        f"{RUN}/protocol/receipt.json",
    log:
        log_of("write_protocol"),
    benchmark:
        benchmark_of("write_protocol")
    priority: 1000
    conda:
        "../envs/environment.yaml"
    params:
        job=job("write_protocol"),
    message:
        "Writing the protocol of {wildcards.run}"
    shell:
        script("write_protocol")
