"""Images drawn for the ratios 100 to 1000 %: one pool whose prefixes nest, against a draw for each ratio."""

from measure import Options, Row
from study_jobs import default_study, study_jobs

RATIOS = tuple(range(100, 1001, 100))


def measure(options: Options) -> Row:
    """Count the rows of all planned shards of a study with ten ratios; N is the number of training images."""
    config = default_study(
        pools__drawn__replicas=RATIOS[-1] // 100,
        arms__supplemented__ratios=list(RATIOS),
        arms__synthetic_only__ratios=list(RATIOS),
    )
    with study_jobs(config) as jobs:
        jobs.planner.job("write_report")
        shards = [job for job in jobs.planner.jobs() if job.rule == "draw_pool_shard"]
    ours = len({(job.slice["pool"], job.slice["replica"]) for job in shards})
    theirs = sum(RATIOS) // 100
    ratio = theirs / ours
    return Row(
        "pool_draws", "pool for 100 … 1000 %, images drawn", f"{ours} N", f"{theirs} N", "10 N, not 55 N",
        (ratio, ratio, ratio), ours == RATIOS[-1] // 100, details={"shards": len(shards)},
    )  # fmt: skip
