"""CheXpert Plus as published: `df_chexpert_plus_240401.csv`, films as PNG, and labels apart.

Chambon et al., arXiv:2405.19538; stanfordaimi.azurewebsites.net. Columns: path_to_image, frontal_lateral, ap_pa,
deid_patient_id, report, section_impression, age, sex, race, ethnicity, split. Labels: `chexbert_labels/*.json`, a
JSON line per film with its path_to_image. There is no test part. The shape of the label files was taken from code
that reads them, not from the files: what does not fit is refused in one line.
"""

import json
from pathlib import Path

import pandas as pd

from synthgain.datasets.layout_options import LayoutOptions
from synthgain.datasets.layouts import chexpert
from synthgain.datasets.layouts.chest_labels import CHEXPERT, columns_or_error, findings_at, race_of, sex_of, snake
from synthgain.datasets.layouts.companions import companion, numbers_of, one_row_each, words_of
from synthgain.runtime.errors import SynthGainError

LICENCE = chexpert.LICENCE
CITATION = "Chambon P et al. CheXpert Plus. arXiv:2405.19538"
GET = (
    "get the CheXpert Plus release of https://stanfordaimi.azurewebsites.net and put it there, so that it holds PNG/, "
    "df_chexpert_plus_240401.csv and chexbert_labels/"
)
TABLE = ("df_chexpert_plus_240401.csv",)
FILMS = "PNG"
LABELS = ("chexbert_labels/impression_fixed.json", "chexbert_labels/report_fixed.json")
_NEEDED = ("path_to_image", "frontal_lateral", "ap_pa", "deid_patient_id", "age", "sex", "split")
_PARTS = {"train": "train", "valid": "validation"}
reading = chexpert.reading


def rows(folder: Path, options: LayoutOptions) -> pd.DataFrame:
    """Return one row per film: image_id, image, patient, part, view, sex, age, race, impression, the findings."""
    table = companion(folder, TABLE, GET)
    columns_or_error(table, _NEEDED, TABLE[0], "CheXpert Plus of April 2024")
    paths = table["path_to_image"].str.strip()
    films = paths.str.replace(r"\.\w+$", ".png", regex=True)
    lateral = table["frontal_lateral"].str.strip().str.lower().eq("lateral")
    age = numbers_of(table["age"], TABLE[0])
    made = pd.DataFrame(
        {
            "image_id": films.str.replace(".png", "").str.split("/", n=1).str[-1].str.replace("/", "-"),
            "image": f"{FILMS}/" + films,
            "patient": table["deid_patient_id"].str.strip(),
            "part": words_of(table["split"], _PARTS, TABLE[0]),
            "view": table["ap_pa"].str.strip().mask(lateral, "lateral"),
            "sex": sex_of(table["sex"], TABLE[0]),
            "age": ["" if pd.isna(value) or value <= 0 else f"{value:g}" for value in age],
        }
    )
    if "race" in table:
        made["race"] = race_of(table["race"])
    if "section_impression" in table:
        made["impression"] = table["section_impression"].map(lambda text: " ".join(text.split()))
    found = findings_at(_labels(folder), paths, options, folder / "chexbert_labels", "films")
    return made.join(found[list(options.findings)])


def _labels(folder: Path) -> pd.DataFrame:
    path = next((folder / name for name in LABELS if (folder / name).is_file()), None)
    if path is None:
        raise SynthGainError(f"{folder}: no {' or '.join(LABELS)} in it; {GET}")
    try:
        entries = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        table = pd.DataFrame(entries)
        columns_or_error(table, ("path_to_image", *CHEXPERT), path, "CheXpert Plus of April 2024")
    except (ValueError, AttributeError) as error:
        raise SynthGainError(f"{path}: wanted a JSON object per line ({error})") from error
    labels = one_row_each(table.astype(object).where(table.notna(), ""), "path_to_image", CHEXPERT, path)
    return labels.rename(columns=snake)
