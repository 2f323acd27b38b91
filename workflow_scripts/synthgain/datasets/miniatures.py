"""Small copies of published layouts with phantom films in them: for tests, and for users who wait for access.

Columns, quirks and traps are those that the layouts' modules name, with their sources; the films are the phantom's (the
polyps those of polyp_miniatures.py), so that no patient's image is in a miniature. The first rows of each hold its
traps, with values that tests know by heart.
"""

import gzip
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from synthgain.data.run_lengths import EMPTY
from synthgain.datasets import phantom
from synthgain.datasets.layouts.chest_labels import CHEXPERT
from synthgain.datasets.layouts.mimic_cxr_jpg import METADATA, SPLIT, TEST
from synthgain.datasets.layouts.nih_cxr14 import SIDE
from synthgain.datasets.layouts.padchest import TABLES as PADCHEST
from synthgain.datasets.polyp_miniatures import POLYP_MINIATURES, draw_frames
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import write_text

DRAWN = 64  # pixels a side of the phantom's films, before they are enlarged where a set's boxes need their size
OTHER_FINDINGS = 0.4  # share of the films with a finding that have each of those which the phantom has no look of
# Findings of the phantom and what CheXpert and NIH call them.
_CHEXPERT = {
    "opacity": "Lung Opacity",
    "nodule": "Lung Lesion",
    "effusion": "Pleural Effusion",
    "cardiomegaly": "Cardiomegaly",
}
_NIH = {"opacity": "Infiltration", "nodule": "Nodule", "effusion": "Effusion", "cardiomegaly": "Cardiomegaly"}


@dataclass(frozen=True)
class Films:
    """Phantom films: images (N, DRAWN, DRAWN) uint8; findings, lungs, heart alike, bool; table: labels, sex, age."""

    images: np.ndarray
    findings: np.ndarray
    lungs: np.ndarray
    heart: np.ndarray
    table: pd.DataFrame

    def __len__(self) -> int:
        return len(self.table)


def write_miniature(layout: str, root: Path, folder: str, patients: int, seed: int = 0) -> Path:
    """Write a miniature of MINIATURES into `root / folder`, which must not be there yet, and return the folder.

    patients: of a set of polyps the frames.
    """
    place = root / folder
    if place.exists():
        raise SynthGainError(f"{place}: there already; a miniature is written into a new folder")
    if layout in POLYP_MINIATURES:
        POLYP_MINIATURES[layout](place, draw_frames(patients, seed, layout))
    else:
        CHEST_MINIATURES[layout](place, draw(patients, seed, layout))
    return place


def draw(patients: int, seed: int, site: str) -> Films:
    """Draw phantom films of `patients`, one or two each; those of another site are of other patients."""
    options = {
        "patients": patients,
        "seed": seed,
        "site": site,
        "prevalence": {"opacity": 0.5, "effusion": 0.4, "nodule": 0.3},
    }
    made = phantom.prepare(options, {"size": DRAWN, "channels": 1}, seed, None)
    assert made.masks is not None
    finding, lungs, heart = (
        made.masks[..., made.mask_names.index(name)].astype(bool) for name in ("finding", "lungs", "heart")
    )
    return Films(made.images[..., 0], finding, lungs, heart, made.table)


def _chexpert(place: Path, films: Films) -> None:
    """Traps: one film of unknown sex and age 0, an age of 90 (the cap), −1, blanks, a lateral, the release's name."""
    rows = []
    patients = pd.factorize(films.table["patient_id"])[0] + 1
    for i, number in enumerate(patients):
        part = "valid" if number % 10 == 0 else "train"
        view = "lateral" if i == 3 else "frontal"
        path = f"CheXpert-v1.0-small/{part}/patient{number:05d}/study1/view{i + 1}_{view}.jpg"
        labels = dict.fromkeys(CHEXPERT, "")
        positive = [name for column, name in _CHEXPERT.items() if films.table[column].iloc[i] == 1]
        labels |= dict.fromkeys(positive, "1.0")
        if positive and i > 3:
            labels |= dict.fromkeys(_others(i), "1.0")
        labels["No Finding"] = "" if positive else "1.0"
        sex, age = films.table["sex"].iloc[i], int(films.table["age"].iloc[i])
        row = {"Path": path, "Sex": {"F": "Female", "M": "Male"}[sex], "Age": age}
        row |= {"Frontal/Lateral": view.capitalize(), "AP/PA": "" if view == "lateral" else ("AP" if i % 2 else "PA")}
        rows.append({**row, **labels})
        _write(place / path.split("/", 1)[1], films.images[i], "JPEG")
    rows[0] |= {"Sex": "Unknown", "Age": 0, "Edema": "-1.0", "Pleural Effusion": "0.0", "Support Devices": ""}
    rows[1] |= {"Age": 90}
    # A film without a finding, whose devices are not mentioned.
    rows[2] |= {**dict.fromkeys(CHEXPERT, ""), "No Finding": "1.0"}
    table = pd.DataFrame(rows)
    train = table["Path"].str.contains("/train/")
    _csv(place / "train.csv", table[train])
    _csv(place / "valid.csv", table[~train])
    people = table["Path"].str.extract(r"(patient\d+)", expand=False).drop_duplicates()
    races = ["White, non-Hispanic", "Black or African American", "Asian", "Unknown", "Native Hawaiian or Other Pacific"]
    demographics = pd.DataFrame({"PATIENT": people, "GENDER": "Female", "AGE_AT_CXR": 50, "ETHNICITY": "Non-Hispanic"})
    demographics["PRIMARY_RACE"] = [races[i % len(races)] for i in range(len(people))]
    _csv(place / "CHEXPERT DEMO.csv", demographics)
    path = "test/patient64741/study1/view1_frontal.jpg"
    _write(place / path, films.images[0], "JPEG")
    _chexmask(place, films, table["Path"].tolist())
    _csv(place / "test_labels.csv", pd.DataFrame([{"Path": path, **dict.fromkeys(CHEXPERT, "0.0"), "Edema": "1.0"}]))


def _mimic_cxr_jpg(place: Path, films: Films) -> None:
    """Traps: labels per study, two films of one; a test label by a radiologist; a subject who is not in MIMIC-IV."""
    metadata, labels, split, people, stays = [], [], [], [], []
    for number, (_, own) in enumerate(films.table.reset_index().groupby("patient_id", sort=False)):
        subject, study = str(10_000_032 + 101 * number), str(50_414_267 + number)
        part = ("train", "train", "train", "validate", "test")[number % 5]
        for k, (_, row) in enumerate(own.iterrows()):
            name = f"{number:08x}-{k:08x}"
            path = f"files/p{subject[:2]}/p{subject}/s{study}/{name}.jpg"
            _write(place / path, films.images[row["index"]], "JPEG")
            year = 2180 + number % 3
            metadata.append(
                {
                    "dicom_id": name, "subject_id": subject, "study_id": study, "ViewPosition": ("PA", "AP",
                    "LATERAL")[k % 3], "Rows": DRAWN, "Columns": DRAWN, "StudyDate": f"{year}0506", "StudyTime":
                    "213014.531",
                }
            )  # fmt: skip
            split.append({"dicom_id": name, "study_id": study, "subject_id": subject, "split": part})
        first = own.iloc[0]
        found = {name: "1.0" for column, name in _CHEXPERT.items() if first[column] == 1}
        if found and number > 3:
            found |= dict.fromkeys(_others(number), "1.0")
        found = found or {"No Finding": "1.0"}
        labels.append({"subject_id": subject, "study_id": study, **dict.fromkeys(CHEXPERT, ""), **found})
        if number != 1:  # no match in MIMIC-IV
            people.append({"subject_id": subject, "gender": first["sex"], "anchor_age": 40, "anchor_year": 2178})
            stays.append({"subject_id": subject, "race": ("WHITE", "BLACK/AFRICAN AMERICAN", "UNKNOWN")[number % 3]})
        text = "FINAL REPORT\nFINDINGS: as seen.\n\nIMPRESSION:\nNo acute\n cardiopulmonary process.\n"
        write_text(place / f"mimic-cxr-reports/files/p{subject[:2]}/p{subject}/s{study}.txt", text)
    stays += [{"subject_id": people[0]["subject_id"], "race": "ASIAN - CHINESE"}] * 2  # several, the commonest counts
    negbio = [{**row, "Edema": "-1.0"} for row in labels]
    _csv(place / METADATA[0], pd.DataFrame(metadata))
    _csv(place / SPLIT[0], pd.DataFrame(split))
    _csv(place / "mimic-cxr-2.0.0-chexpert.csv.gz", pd.DataFrame(labels))
    _csv(place / "mimic-cxr-2.0.0-negbio.csv.gz", pd.DataFrame(negbio))
    tested = next(row["study_id"] for row in split if row["split"] == "test")
    read = {name: "0.0" for name in CHEXPERT if name not in ("Lung Opacity", "No Finding")}
    _csv(place / TEST[0], pd.DataFrame([{"study_id": tested, "Airspace Opacity": "1.0", **read}]))
    _csv(place / "patients.csv.gz", pd.DataFrame(people))
    _csv(place / "admissions.csv.gz", pd.DataFrame(stays))


def _nih_cxr14(place: Path, films: Films) -> None:
    """Traps: headers broken at commas, an age of 058Y and one of 414, Infiltrate in the boxes, films in two folders."""
    rows: list[list[str]] = []
    train: list[str] = []
    test: list[str] = []
    names: list[str] = []
    for number, (_, own) in enumerate(films.table.reset_index().groupby("patient_id", sort=False), start=1):
        for k, (_, row) in enumerate(own.iterrows()):
            name = f"{number:08d}_{k:03d}.png"
            names.append(name)
            found = "|".join(label for column, label in _NIH.items() if row[column] == 1) or "No Finding"
            age = "058Y" if number == 1 else "414" if number == 2 else str(int(row["age"]))
            view = "PA" if k else "AP"
            rows.append([name, found, str(k), str(number), age, row["sex"], view, "2500", "2048", "0.1", "0.1"])
            (test if number % 4 == 0 else train).append(name)
            part = "images_001" if number % 2 else "images_002"
            _write(place / part / "images" / name, _enlarged(films.images[row["index"]]), "PNG")
    header = (
        "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
        "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],"
    )
    write_text(place / "Data_Entry_2017.csv", "\n".join([header, *(",".join([*row, ""]) for row in rows)]) + "\n")
    write_text(place / "train_val_list.txt", "\n".join(train) + "\n")
    write_text(place / "test_list.txt", "\n".join(test) + "\n")
    boxes = [f"{names[0]},Infiltrate,100.5,200.0,300.0,150.0,,,", f"{names[1]},Effusion,10.0,20.0,30.0,40.0,,,"]
    write_text(place / "BBox_List_2017.csv", "\n".join(["Image Index,Finding Label,Bbox [x,y,w,h],,,", *boxes]) + "\n")


def _rsna_pneumonia(place: Path, films: Films) -> None:
    """Traps: a row per box (the first film has two), patientId names an image, patients with several films."""
    rows, classes, mapping = [], [], []
    for i in range(len(films)):
        name = f"{i:08x}-0000-4000-8000-{i:012x}"
        positive = bool(films.table["opacity"].iloc[i] == 1) or i == 0
        boxes = [("", "", "", "")]
        if positive:
            boxes = [("264.0", "152.0", "213.0", "379.0"), ("562.0", "152.0", "256.0", "453.0")][: 2 if i == 0 else 1]
        rows += [(name, *box, str(int(positive))) for box in boxes]
        kind = "Lung Opacity" if positive else "Normal" if i % 2 else "No Lung Opacity / Not Normal"
        classes += [(name, kind)] * len(boxes)
        patient = int(films.table["patient_id"].iloc[i].rsplit("-", 1)[1]) + 1
        mapping.append({"img_id": f"{patient:08d}_{i:03d}.png", "subset_img_id": name, "orig_labels": []})
        _write_dicom(place / "stage_2_train_images" / f"{name}.dcm", _enlarged(films.images[i]))
    columns = ["patientId", "x", "y", "width", "height", "Target"]
    _csv(place / "stage_2_train_labels.csv", pd.DataFrame(rows, columns=columns))
    _csv(place / "stage_2_detailed_class_info.csv", pd.DataFrame(classes, columns=["patientId", "class"]))
    write_text(place / "pneumonia-challenge-dataset-mappings_2018.json", json.dumps(mapping))


def _candid_ptx(place: Path, films: Films) -> None:
    """Traps: DICOM without a suffix, a film listed twice, one under two patients, regions in several rows."""
    rows, tubes, ribs = [], [], []
    for i in range(len(films)):
        uid = f"1.2.826.0.1.3680043.8.498.{1000 + i}"
        patient = "P" + films.table["patient_id"].iloc[i].rsplit("-", 1)[1].zfill(4)
        filename = f"{patient}_{uid}_{i}.dcm"
        runs = _relative_runs(films.findings[i]) if films.table["opacity"].iloc[i] == 1 else EMPTY
        row = {"SOPInstanceUID": uid, "EncodedPixels": runs, "filename": filename, "Report": "CXR: no change."}
        rows += [row] * (2 if i == 0 else 1)
        if i == 1:
            rows.append({**row, "filename": f"P9999_{uid}_{i}.dcm"})
        if i % 3 == 0:
            tubes.append({"anon_SOPUID": uid, "annotation": "tube", "mask_rle": "100 5 59 5"})
        if i % 4 == 0:
            ribs.append({"anon_SOPUID": uid, "annotation": "rib", "mask_rle": "1200 6 58 6 58 6"})
        _write_dicom(place / "dataset" / uid, films.images[i])
    _csv(place / "Pneumothorax_reports.csv", pd.DataFrame(rows))
    _csv(place / "chest_tube.csv", pd.DataFrame(tubes))
    _csv(place / "acute_rib_fracture.csv", pd.DataFrame(ribs))
    _chexmask(place, films, list(dict.fromkeys(row["SOPInstanceUID"] for row in rows)))


def _vindr_cxr(place: Path, films: Films) -> None:
    """Traps: three readers who disagree about the first film, MONOCHROME1, 16 bit, Other disease(s)."""
    half = len(films) // 2
    for part, rows in (("train", range(half)), ("test", range(half, len(films)))):
        table = []
        for i in rows:
            name = f"{i:032x}"
            heart, opacity = (int(films.table[column].iloc[i]) for column in ("cardiomegaly", "opacity"))
            last = "Other diseases" if part == "train" else "Other disease"
            row = {"image_id": name, "Cardiomegaly": heart, "Lung Opacity": opacity, last: 0}
            row["No finding"] = int(not heart and not opacity)
            readers = ("R8", "R9", "R10") if part == "train" else ("",)
            for k, reader in enumerate(readers):
                vote = {"Cardiomegaly": int(k == 0), "Lung Opacity": int(k < 2)} if i == 0 else {}
                table.append({**({"rad_id": reader} if reader else {}), **row, **vote})
            _write_dicom(place / part / f"{name}.dicom", films.images[i], inverted=i % 2 == 0)
        _csv(place / f"annotations/image_labels_{part}.csv", pd.DataFrame(table))


def _padchest(place: Path, films: Films) -> None:
    """Traps: 16 bit, labels as a Python list, blank ones, an excluded row, a file that cannot be read."""
    rows = []
    for i in range(len(films)):
        name = f"{i:039d}_{i:06d}.png"
        found = [label.lower() for column, label in _NIH.items() if films.table[column].iloc[i] == 1] or ["normal"]
        text = "" if i == 0 else "['exclude']" if i == 1 else str(found)
        rows.append(
            {
                "ImageID": name, "ImageDir": i % 3, "StudyDate_DICOM": "20140915", "StudyID": str(i),
                "PatientID": films.table["patient_id"].iloc[i], "PatientBirth": "1938.0",
                "PatientSex_DICOM": films.table["sex"].iloc[i], "Projection": "AP_horizontal" if i == 2 else "PA",
                "Labels": text,
            }
        )  # fmt: skip
        _write(place / str(i % 3) / name, films.images[i].astype(np.uint16) * 120 + 500, "PNG")
    (place / "0" / rows[3]["ImageID"]).write_bytes(b"\x89PNG\r\n\x1a\n")
    _csv(place / PADCHEST[0], pd.DataFrame(rows))


def _shenzhen(place: Path, films: Films) -> None:
    """Traps: one film a patient, readings as they were typed, an age in months."""
    for i, (_, row) in enumerate(films.table.reset_index().drop_duplicates("patient_id").iterrows()):
        name = f"CHNCXR_{i + 1:04d}_{int(row['opacity'])}"
        _write(place / f"CXR_png/{name}.png", films.images[row["index"]], "PNG")
        sex, age = {"F": "femal", "M": "male"}[row["sex"]], "16month" if i == 0 else f"{int(row['age'])}yrs"
        write_text(place / f"ClinicalReadings/{name}.txt", f"{sex} {age}\n{'PTB' if row['opacity'] else 'normal'}")


def _montgomery(place: Path, films: Films) -> None:
    """Traps: two masks a film, a patient with two films under two names."""
    for i, (_, row) in enumerate(films.table.iterrows()):
        name = f"MCUCXR_{i + 1:04d}_{int(row['opacity'])}"
        _write(place / f"CXR_png/{name}.png", films.images[i], "PNG")
        same = int(np.flatnonzero(films.table["patient_id"] == row["patient_id"])[0])
        text = f"Patient's Sex: {row['sex']} \nPatient's Age: {int(row['age']):03d}Y\n"
        if same != i:
            text += f"(same pt as MCUCXR_{same + 1:04d}_{int(films.table['opacity'].iloc[same])})"
        write_text(place / f"ClinicalReadings/{name}.txt", text)
        lungs = films.lungs[i].astype(np.uint8) * 255
        half = DRAWN // 2
        sides = {"rightMask": np.arange(DRAWN) < half, "leftMask": np.arange(DRAWN) >= half}
        for side, columns in sides.items():
            _write(place / f"ManualMask/{side}/{name}.png", lungs * columns.astype(np.uint8), "PNG")


def _siim_acr(place: Path, films: Films) -> None:
    """Traps: a leading blank in ` EncodedPixels`, several rows of a film."""
    lines = ["ImageId, EncodedPixels"]
    for i in range(len(films)):
        name = f"1.2.276.0.7230010.3.1.4.8323329.{i}.1517875252.{443873 + i}"
        runs = _relative_runs(films.findings[i]) if films.table["opacity"].iloc[i] == 1 else EMPTY
        lines += [f"{name}, {runs}"] * (2 if i == 0 else 1)
        _write_dicom(place / "dicom-images-train" / f"study{i}" / "series" / f"{name}.dcm", films.images[i])
    write_text(place / "train-rle.csv", "\n".join(lines) + "\n")


CHEST_MINIATURES: Mapping[str, Callable[[Path, Films], None]] = {
    "chexpert": _chexpert,
    "mimic_cxr_jpg": _mimic_cxr_jpg,
    "nih_cxr14": _nih_cxr14,
    "rsna_pneumonia": _rsna_pneumonia,
    "candid_ptx": _candid_ptx,
    "vindr_cxr": _vindr_cxr,
    "padchest": _padchest,
    "siim_acr": _siim_acr,
    "shenzhen": _shenzhen,
    "montgomery": _montgomery,
}
MINIATURES = (*CHEST_MINIATURES, *POLYP_MINIATURES)


def _chexmask(place: Path, films: Films, names: list[str]) -> None:
    """Write chexmask.csv, CheXmask's table of these films. Trap: the third is below its authors' limit."""
    left = np.arange(DRAWN) >= DRAWN // 2  # the patient's left is at the viewer's right
    sides = {"Left Lung": films.lungs & left, "Right Lung": films.lungs & ~left, "Heart": films.heart}
    runs = {structure: [_runs_along_rows(mask) for mask in masks] for structure, masks in sides.items()}
    quality = [0.5 if i == 2 else 0.9 for i in range(len(films))]
    table = pd.DataFrame({"Image": names, "Dice RCA (Mean)": quality, **runs, "Height": DRAWN, "Width": DRAWN})
    _csv(place / "chexmask.csv", table)


def _runs_along_rows(mask: np.ndarray) -> str:
    """Return a mask as pairs start and length along the rows, the first pixel being 1, as CheXmask writes them."""
    first, end = np.flatnonzero(np.diff(np.concatenate([[0], mask.reshape(-1).astype(np.int8), [0]]))).reshape(-1, 2).T
    return " ".join(f"{start + 1} {stop - start}" for start, stop in zip(first, end, strict=True))


def _others(number: int) -> list[str]:
    """Return findings that the phantom has no look of, drawn by a film's number."""
    others = [name for name in CHEXPERT if name not in _CHEXPERT.values() and name != "No Finding"]
    drawn = np.random.default_rng(number).random(len(others)) < OTHER_FINDINGS
    return [name for name, found in zip(others, drawn, strict=True) if found]


def _enlarged(film: np.ndarray) -> np.ndarray:
    """Return a film at the size in which the NIH's boxes are counted."""
    return np.asarray(Image.fromarray(film).resize((SIDE, SIDE), Image.Resampling.NEAREST))


def _relative_runs(mask: np.ndarray) -> str:
    """Return a mask as pairs gap and length down the columns, as SIIM-ACR writes them; -1 for an empty one."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.T.reshape(-1).astype(np.int8), [0]])))
    gaps = np.diff(np.concatenate([[0], edges]))
    return " ".join(map(str, gaps)) or EMPTY


def _write(path: Path, pixels: np.ndarray, kind: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, format=kind, **({"quality": 95} if kind == "JPEG" else {}))


def _write_dicom(path: Path, film: np.ndarray, inverted: bool = False) -> None:
    """Write a film as DICOM with one JPEG frame; `inverted`: 12 bit, not compressed, MONOCHROME1, with a window."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.encaps import encapsulate
    from pydicom.uid import ExplicitVRLittleEndian, JPEGBaseline8Bit, SecondaryCaptureImageStorage, generate_uid

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[path.name])
    meta.TransferSyntaxUID = ExplicitVRLittleEndian if inverted else JPEGBaseline8Bit
    data: FileDataset = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    data.Rows, data.Columns = film.shape
    data.SamplesPerPixel, data.PixelRepresentation = 1, 0
    if inverted:
        data.PhotometricInterpretation, data.BitsAllocated, data.BitsStored, data.HighBit = "MONOCHROME1", 16, 12, 11
        data.WindowCenter, data.WindowWidth = 2048, 4096
        data.PixelData = ((255 - film.astype(np.uint16)) * 16).tobytes()
    else:
        data.PhotometricInterpretation, data.BitsAllocated, data.BitsStored, data.HighBit = "MONOCHROME2", 8, 8, 7
        frame = io.BytesIO()
        Image.fromarray(film).save(frame, format="JPEG", quality=95)
        data.PixelData = encapsulate([frame.getvalue()])
        data["PixelData"].is_undefined_length = True
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)


def _csv(path: Path, table: pd.DataFrame) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = table.to_csv(index=False).encode()
    path.write_bytes(gzip.compress(text, mtime=0) if path.suffix == ".gz" else text)
