"""Show the appearance clusters beside the audit: clusters.html, and which image is in which as <clusters>.csv."""

from synthgain.clusters.options import Clusters
from synthgain.data.clusters import read_clusters
from synthgain.entry import checked
from synthgain.report.blocks import harmless
from synthgain.report.cluster_evidence import cluster_evidence
from synthgain.report.cluster_page import cluster_page
from synthgain.report.sections.clusters import cluster_blocks
from synthgain.runtime.command import Job, logger, run_script
from synthgain.runtime.files import write_manifest, write_text

PAGE = "clusters.html"


def audit_clusters(job: Job) -> None:
    """Slice: study, clusters {name: its options}. Members: image_id, cluster, trained_with, distance to the centre."""
    folder, said, files = job.outputs[0].parent, {}, [PAGE]
    for name, given in job.slice["clusters"].items():
        made = job.inputs.clusters[name]
        options = checked(Clusters, given, f"clusters.{name}", of_slice=True)
        said[name] = cluster_blocks(name, cluster_evidence(name, made), options)
        members = read_clusters(made.folder(), name).table.sort_values(["cluster", "distance"], kind="stable")
        files.append(f"{name}.csv")
        write_text(folder / files[-1], harmless(members).to_csv(index=False))
    write_text(folder / PAGE, cluster_page(job.slice["study"], said))
    write_manifest(job.outputs[0], job.identity, files)
    logger.info("[audit] appearance clusters: %s", folder / PAGE)


if __name__ == "__main__":
    run_script(audit_clusters)
