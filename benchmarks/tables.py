"""Tables: studies of CheXpert's 223,414 rows and MIMIC-CXR-JPG's 377,110 planned, the tables read, labelled and split.

Made-up tables of the releases' shape (rows, patients, columns, share of blank and uncertain labels) are written, with
an empty file for each film where the release has it: planning lists these, and opens none. A quiet dry run of a study
on each set is timed, then the layout, the table reader and the split read it in a process of its own; of both the peak
memory is taken. Alone: `python benchmarks/tables.py` prints each.
"""

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import yaml

ROWS = {"chexpert": 223_414, "mimic_cxr_jpg": 377_110}
PATIENTS = {"chexpert": 64_540, "mimic_cxr_jpg": 65_379}
SMALL = 20  # a twentieth of both
SECONDS, BYTES = 120.0, 2e9
SHARES = (0.10, 0.05, 0.12, 0.73)  # of labels: 1, 0, -1, blank
FOLDERS = {"chexpert": "CheXpert-v1.0", "mimic_cxr_jpg": "mimic-cxr-jpg"}


def measure(options: Any) -> Any:
    """Write both sets, plan a study of each and read its tables."""
    from measure import Row

    found = {layout: measured(layout, SMALL if options.small else 1) for layout in ROWS}
    whole = [one["rows"] for one in found.values()]
    met = all(one["seconds"] + one["planning_s"] < SECONDS and one["peak"] < BYTES for one in found.values())
    ours = "; ".join(
        f"{k} {v['rows']}: {v['planning_s']:.0f} + {v['seconds']:.0f} s, {v['peak'] / 1e9:.2f} GB"
        for k, v in found.items()
    )
    return Row(
        "tables", f"studies of {' and '.join(map(str, whole))} rows planned + read and split, processor seconds", ours,
        "", "< 120 s and < 2 GB each", None, None if options.small else met, "", found,
    )  # fmt: skip


def measured(layout: str, cut: int) -> dict[str, Any]:
    """Write one set, cut to a share of its rows, plan a study of it and read its tables; `peak`: of both, in bytes."""
    from planning import dry_run

    with TemporaryDirectory(prefix="synthgain-tables-") as name:
        folder, call = Path(name) / FOLDERS[layout], Path(name) / "call"
        films = WRITERS[layout](folder, ROWS[layout] // cut, PATIENTS[layout] // cut)
        for parent in {film.rpartition("/")[0] for film in films}:
            (folder / parent).mkdir(parents=True, exist_ok=True)
        for film in films:
            os.close(os.open(folder / film, os.O_CREAT))
        (call / ".snakemake").mkdir(parents=True)
        (call / "study.yaml").write_text(yaml.safe_dump(study_of(layout, name)))
        seconds, wall, planning = dry_run(call / "study.yaml", call)
        command = [sys.executable, str(Path(__file__)), layout, str(folder)]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    found |= {"files": len(films), "planning_s": seconds, "planning_wall_s": wall, "planning_peak_bytes": planning}
    return {**found, "peak": max(planning, found["peak_bytes"])}


def study_of(layout: str, root: str) -> dict[str, Any]:
    """Return the default study's generator, pool and arms on this set."""
    from study_jobs import default_study

    config, finding = default_study(data_root=root), "cardiomegaly"
    labels = {"uncertain": "unknown", "blank": "zero"}
    split = {"column": "part", "validation": 0.1} if layout == "chexpert" else {"column": "part"}
    config["datasets"] = {"films": {"adapter": "published", "layout": layout, "labels": labels, "split": split}}
    config["generators"]["ddpm"] |= {"train_on": {"datasets": ["films"]}, "condition_on": [finding, "sex"]}
    config["pools"] = {"drawn": {"from": "ddpm", "rows_of": "films", "replicas": 3}}
    config["models"]["cnn"]["targets"] = [finding]
    config["arms"] = {"real": {"real": "films"}, "with": {"real": "films", "synthetic": "drawn", "ratios": [100, 300]}}
    config["evaluate_on"] = ["films"]
    config["analysis"] = {"primary": {"model": "cnn", "arm": "with", "ratio": 100, "test_set": "films"}}
    return {**config, "evaluation": {}}


def read(layout: str, folder: Path) -> dict[str, Any]:
    """Read the tables of one set as its data set job does, and split them; seconds of this process by part."""
    from synthgain.datasets.cells import text_table
    from synthgain.datasets.entries.options import JobRows
    from synthgain.datasets.known_layouts import KNOWN_LAYOUTS
    from synthgain.datasets.layout_options import LayoutOptions
    from synthgain.datasets.rows import read_table
    from synthgain.datasets.split import label_indicators, split_by_fractions
    from synthgain.entry import checked
    from synthgain.registry import LAYOUTS
    from synthgain.runtime.loading import load

    start = time.process_time()
    module = load(LAYOUTS, KNOWN_LAYOUTS[layout].module)
    chosen = LayoutOptions(findings=list(KNOWN_LAYOUTS[layout].findings or ()))
    rows = text_table(module.rows(folder, chosen))
    listed = time.process_time()
    told = read_table(rows, checked(JobRows, module.reading(rows, chosen), layout), layout)
    read_at = time.process_time()
    frame = pd.DataFrame({**told.ids, **told.columns.values}).iloc[told.kept]
    groups = pd.factorize(frame["patient_id"])[0]
    labels = label_indicators(frame.reset_index(drop=True), [*chosen.findings, "sex", "view"])
    parts = split_by_fractions(groups, labels, {"train": 0.7, "validation": 0.1, "test": 0.2}, np.random.default_rng(0))
    done = time.process_time()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "rows": len(told.shown), "kept": len(told.kept), "patients": int(groups.max()) + 1,
        "test_share": round(float((parts == "test").mean()), 3), "seconds": done - start, "layout": listed - start,
        "columns": read_at - listed, "split": done - read_at, "peak_bytes": peak,
    }  # fmt: skip


def write_chexpert(folder: Path, count: int, patients: int) -> list[str]:
    """Write train.csv and valid.csv of made-up studies; return the films' paths."""
    random, names = np.random.default_rng(0), _findings()
    patient = np.sort(random.integers(0, patients, count))
    side = np.where(random.random(count) < 0.855, "Frontal", "Lateral")
    number = pd.Series(patient).groupby(patient).cumcount() + 1
    path = [
        f"CheXpert-v1.0/train/patient{p + 1:05d}/study{k}/view1_{s.lower()}.jpg"
        for p, k, s in zip(patient, number, side, strict=True)
    ]
    table = pd.DataFrame({"Path": path, "Sex": np.where(patient % 2 == 0, "Male", "Female")})
    table["Age"], table["Frontal/Lateral"] = random.integers(18, 91, count), side
    table["AP/PA"] = np.where(side == "Lateral", "", np.where(random.random(count) < 0.8, "AP", "PA"))
    folder.mkdir(parents=True)
    table.join(_labels(names, count, random)).to_csv(folder / "train.csv", index=False)
    valid = [one.replace("/train/", "/valid/").replace("patient", "patient9") for one in path[:200]]
    table.join(_labels(names, count, random)).head(200).assign(Path=valid).to_csv(folder / "valid.csv", index=False)
    return [one.partition("/")[2] for one in [*path, *valid]]


def write_mimic(folder: Path, count: int, patients: int) -> list[str]:
    """Write the metadata, split, labels and people of made-up studies; return the films' paths."""
    random = np.random.default_rng(0)
    patient = np.sort(random.integers(10_000_000, 10_000_000 + patients, count))
    study = 50_000_000 + np.arange(count) * 3 // 5  # 1.66 films a study
    patient = pd.Series(patient).groupby(study).transform("first").to_numpy()
    films = [f"{one:08x}-{one % 7:08x}-{one % 11:08x}-{one % 13:08x}-{one % 17:08x}" for one in range(count)]
    view = random.choice(["PA", "AP", "LATERAL", "LL", ""], count, p=[0.26, 0.39, 0.22, 0.09, 0.04])
    metadata = pd.DataFrame({"dicom_id": films, "subject_id": patient, "study_id": study, "ViewPosition": view})
    folder.mkdir(parents=True)
    part = np.where(patient % 100 == 0, "test", np.where(patient % 100 == 1, "validate", "train"))
    metadata.assign(StudyDate=21_500_101).to_csv(folder / "mimic-cxr-2.0.0-metadata.csv.gz", index=False)
    metadata[["dicom_id", "subject_id", "study_id"]].assign(split=part).to_csv(
        folder / "mimic-cxr-2.0.0-split.csv.gz", index=False
    )
    studies = metadata.drop_duplicates("study_id")[["subject_id", "study_id"]].reset_index(drop=True)
    studies.join(_labels(_findings(), len(studies), random)).to_csv(
        folder / "mimic-cxr-2.0.0-chexpert.csv.gz", index=False
    )
    people = pd.DataFrame({"subject_id": np.unique(patient)})
    people = people.assign(gender=np.where(people["subject_id"] % 2 == 0, "M", "F"), anchor_age=60, anchor_year=2145)
    people.to_csv(folder / "patients.csv.gz", index=False)
    people[["subject_id"]].assign(race="WHITE").to_csv(folder / "admissions.csv.gz", index=False)
    return [f"files/p{str(p)[:2]}/p{p}/s{s}/{film}.jpg" for p, s, film in zip(patient, study, films, strict=True)]


WRITERS = {"chexpert": write_chexpert, "mimic_cxr_jpg": write_mimic}


def _findings() -> tuple[str, ...]:
    from synthgain.datasets.layouts.chest_labels import CHEXPERT

    return CHEXPERT


def _labels(names: tuple[str, ...], count: int, random: np.random.Generator) -> pd.DataFrame:
    cells = random.choice(["1.0", "0.0", "-1.0", ""], (count, len(names)), p=SHARES)
    return pd.DataFrame(cells, columns=list(names))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow_scripts"))
    if sys.argv[1:]:
        print(json.dumps(read(sys.argv[1], Path(sys.argv[2]))))
    else:
        for name in ROWS:
            print(name, json.dumps(measured(name, 1)), flush=True)
