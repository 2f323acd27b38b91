"""What planning must know of the published data sets without reading them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Layout:
    """One published layout: its registered module, its folder below the data root, and what its rows have.

    structures: names of the mask planes; columns: targets and covariates; patients: False where no patient is named,
    so that the split is by image. archive: (URL, checksum in hex digits) where the publisher offers a direct download
    and the checksum was found in a source that is named beside it; else None: the user gets it.
    findings: labels that a study may choose from, None where any of the set's many; takes: keys of the config that it
    heeds (`labels`, `findings`, `confirmed`, `mapping`). films: the collection they are from, where
    several sets share one.
    """

    module: str
    folder: str
    structures: tuple[str, ...]
    columns: tuple[str, ...] = ()
    patients: bool = True
    archive: tuple[str, str] | None = None
    findings: tuple[str, ...] | None = ()
    takes: tuple[str, ...] = ()
    films: str = ""


CHEXPERT_FINDINGS = (
    "no_finding", "enlarged_cardiomediastinum", "cardiomegaly", "lung_opacity", "lung_lesion", "edema", "consolidation",
    "pneumonia", "atelectasis", "pneumothorax", "pleural_effusion", "pleural_other", "fracture", "support_devices",
)  # fmt: skip
# In the order of the publisher's README.
NIH_FINDINGS = (
    "atelectasis", "cardiomegaly", "effusion", "infiltration", "mass", "nodule", "pneumonia", "pneumothorax",
    "consolidation", "edema", "emphysema", "fibrosis", "pleural_thickening", "hernia", "no_finding",
)  # fmt: skip
_NIH_BOXES = ("atelectasis", "cardiomegaly", "effusion", "infiltration", "mass", "nodule", "pneumonia", "pneumothorax")
_PEOPLE = ("sex", "age", "view")
CHEXMASK = ("heart", "lungs")  # structures of its files (datasets/chexmask.py)
_FILMS = ("tb", "sex", "age")
KNOWN_LAYOUTS = {
    "kvasir_seg": Layout(
        "kvasir_seg",
        "Kvasir-SEG",
        ("polyp",),
        patients=False,
        archive=(  # SHA-256 as in torch-em (torch_em/data/datasets/medical/kvasir.py)
            "https://datasets.simula.no/downloads/kvasir-seg.zip",
            "03b30e21d584e04facf49397a2576738fd626815771afbbf788f74a7153478f7",
        ),
    ),
    "hyperkvasir": Layout(
        "hyperkvasir",
        "segmented-images",
        ("polyp",),
        patients=False,
        archive=(  # SHA-384 as in OpenFL's Kvasir tutorials (zip_sha384)
            "https://datasets.simula.no/downloads/hyper-kvasir/hyper-kvasir-segmented-images.zip",
            "66cd659d0e8afd8c834081741ade2b75dada8d4648b816f2533c8748b1658efa3d49e205415d4116faade2c5810e241e",
        ),
    ),
    "cvc_clinicdb": Layout("cvc_clinicdb", "CVC-ClinicDB", ("polyp",)),
    "polypgen": Layout("polypgen", "PolypGen2021_MultiCenterData_v3", ("polyp",)),
    "montgomery": Layout(
        "montgomery",
        "MontgomerySet",
        ("lungs",),
        _FILMS,
        archive=(  # SHA-256 as in torch-em (torch_em/data/datasets/medical/montgomery.py)
            "https://openi.nlm.nih.gov/imgs/collections/NLM-MontgomeryCXRSet.zip",
            "54601e952315d8f67383e9202a6e145997ade429f54f7e0af44b4e158714f424",
        ),
    ),
    "shenzhen": Layout("shenzhen", "ChinaSet_AllFiles", ("lungs",), _FILMS),
    "siim_acr": Layout("siim_acr", "siim-acr", ("pneumothorax",), ("pneumothorax",), patients=False, films="nih"),
    "chexpert": Layout(
        "chexpert",
        "CheXpert-v1.0",
        (),
        (*_PEOPLE, "race"),
        findings=CHEXPERT_FINDINGS,
        takes=("labels", "findings"),
        films="chexpert",
    ),
    "chexpert_plus": Layout(
        "chexpert_plus",
        "chexpert-plus",
        (),
        (*_PEOPLE, "race"),
        findings=CHEXPERT_FINDINGS,
        takes=("labels", "findings"),
        films="chexpert",
    ),
    "mimic_cxr_jpg": Layout(
        "mimic_cxr_jpg",
        "mimic-cxr-jpg",
        (),
        (*_PEOPLE, "race"),
        findings=CHEXPERT_FINDINGS,
        takes=("labels", "findings"),
    ),
    "nih_cxr14": Layout(
        "nih_cxr14",
        "nih-cxr14",
        tuple(f"{name}_box" for name in _NIH_BOXES),
        _PEOPLE,
        findings=NIH_FINDINGS,
        takes=("findings",),
        films="nih",
    ),
    "rsna_pneumonia": Layout(
        "rsna_pneumonia",
        "rsna-pneumonia",
        ("pneumonia_box",),
        ("pneumonia", "class"),
        takes=("mapping",),
        films="nih",
    ),
    "candid_ptx": Layout(
        "candid_ptx",
        "candid-ptx",
        ("pneumothorax", "chest_tube", "rib_fracture"),
        ("pneumothorax", "chest_tube", "rib_fracture"),
        takes=("confirmed",),
    ),
    "vindr_cxr": Layout("vindr_cxr", "vindr-cxr", (), patients=False, findings=None, takes=("labels", "findings")),
    "padchest": Layout("padchest", "padchest", (), _PEOPLE, findings=None, takes=("findings",)),
}
