"""Write the report: one HTML file that opens offline.

Slice: {study, title, description, config, seed, rehearsal, models, image_level}. Inputs: the manifests of
statistics and figures of every model, data sets, splits, generators, pools, trainings; fidelity and memorisation as
they exist. Benchmark files and accepted.json are read from the run's folder, since they are no input of any job.
"""

from synthgain.report.accepted import still_accepted, with_accepted
from synthgain.report.evidence import gather
from synthgain.report.page import render
from synthgain.runtime.command import Job, run_script
from synthgain.runtime.files import write_text


def write_report(job: Job) -> None:
    """Gather what the job names, render, write atomically."""
    write_text(job.outputs[0], with_accepted(render(gather(job)), still_accepted(job.run)))


if __name__ == "__main__":
    run_script(write_report)
