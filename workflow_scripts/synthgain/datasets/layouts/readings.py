"""Sex and age from the reading files of the two chest film sets of the U.S. National Library of Medicine."""

import re
from pathlib import Path

LICENCE = "U.S. National Library of Medicine, public release for research; do not share outside the research group"
CITATION = (
    "Jaeger S et al. Two public chest X-ray datasets for computer-aided screening of pulmonary diseases. Quant Imaging "
    "Med Surg 2014;4(6):475-477; Jaeger S et al. IEEE Trans Med Imaging 2014;33(2):233-245; Candemir S et al. ibid. "
    "577-590"
)
TARGETS = {"tb": {"column": "tb", "kind": "binary"}}
COVARIATES = {
    "sex": {"column": "sex", "kind": "category", "levels": ["F", "M"]},
    "age": {"column": "age", "kind": "continuous", "range": [0, 120]},
}
# "Patient's Sex: F" and "Patient's Age: 027Y" (Montgomery); "male 45yrs", "femal 32yrs", "male 16month" (Shenzhen).
_SEX = re.compile(r"(?:sex:\s*|\A\s*)([fm])", re.IGNORECASE)
_AGE = re.compile(r"(?:age:\s*|\A[^\n\d]*)(\d+)\s*([ymd])", re.IGNORECASE)
_PER_YEAR = {"y": 1.0, "m": 12.0, "d": 365.25}


def read_reading(path: Path) -> tuple[str, str, str]:
    """Return (sex: F, M or "", age in years or "", the whole text) of a reading; empty where there is no file."""
    if not path.is_file():
        return "", "", ""
    text = path.read_text(encoding="latin-1")
    sex, age = _SEX.search(text), _AGE.search(text)
    years = f"{int(age[1]) / _PER_YEAR[age[2].lower()]:.3g}" if age else ""
    return (sex[1].upper() if sex else ""), years, text


def label(stem: str) -> str:
    """Return 1 (signs of tuberculosis) or 0 from a file name, NAME_1 or NAME_0; "" for other names."""
    return stem[-1] if stem.endswith(("_0", "_1")) else ""
