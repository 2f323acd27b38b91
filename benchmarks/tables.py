"""Tables: CheXpert's 223,414 rows and MIMIC-CXR-JPG's 377,110, read, labelled and split by patient; no film is opened.

Made-up tables of the releases' shape (rows, patients, columns, share of blank and uncertain labels) are written, then
read by the layout, the table reader and the split, each set in a process of its own whose peak memory is taken.
"""

import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd

ROWS = {"chexpert": 223_414, "mimic_cxr_jpg": 377_110}
PATIENTS = {"chexpert": 64_540, "mimic_cxr_jpg": 65_379}
SMALL = 20  # a twentieth of both
SECONDS, BYTES = 120.0, 2e9
SHARES = (0.10, 0.05, 0.12, 0.73)  # of labels: 1, 0, -1, blank
FOLDERS = {"chexpert": "CheXpert-v1.0", "mimic_cxr_jpg": "mimic-cxr-jpg"}


def measure(options: Any) -> Any:
    """Write both sets' tables and read each of them."""
    from measure import Row

    found, cut = {}, SMALL if options.small else 1
    with TemporaryDirectory(prefix="synthgain-tables-") as name:
        for layout, rows in ROWS.items():
            folder = Path(name) / FOLDERS[layout]
            WRITERS[layout](folder, rows // cut, PATIENTS[layout] // cut)
            command = [sys.executable, str(Path(__file__)), layout, str(folder)]
            found[layout] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    whole = [one["rows"] for one in found.values()]
    met = all(one["seconds"] < SECONDS and one["peak_bytes"] < BYTES for one in found.values())
    ours = "; ".join(f"{k} {v['rows']}: {v['seconds']:.0f} s, {v['peak_bytes'] / 1e9:.2f} GB" for k, v in found.items())
    return Row(
        "tables", f"tables of {' and '.join(map(str, whole))} rows read and split, processor seconds", ours, "",
        "< 120 s and < 2 GB each", None, None if options.small else met, "", found,
    )  # fmt: skip


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


def write_chexpert(folder: Path, count: int, patients: int) -> None:
    """Write train.csv and valid.csv of made-up studies."""
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
    table.join(_labels(names, count, random)).head(200).assign(
        Path=[one.replace("/train/", "/valid/").replace("patient", "patient9") for one in path[:200]]
    ).to_csv(folder / "valid.csv", index=False)


def write_mimic(folder: Path, count: int, patients: int) -> None:
    """Write the metadata, split, labels and people of made-up studies."""
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


WRITERS = {"chexpert": write_chexpert, "mimic_cxr_jpg": write_mimic}


def _findings() -> tuple[str, ...]:
    from synthgain.datasets.layouts.chest_labels import CHEXPERT

    return CHEXPERT


def _labels(names: tuple[str, ...], count: int, random: np.random.Generator) -> pd.DataFrame:
    cells = random.choice(["1.0", "0.0", "-1.0", ""], (count, len(names)), p=SHARES)
    return pd.DataFrame(cells, columns=list(names))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow_scripts"))
    print(json.dumps(read(sys.argv[1], Path(sys.argv[2]))))
