"""Which module is behind a name. Slices and manifests carry the names, so that a moved module changes neither.

Only tables, read with `synthgain.runtime.loading.load`: this module is outside the code digest (`study/code.py`), so
that a new entry reruns nothing. What a job loads by name joins its code by the plan's list of modules.
"""

ADAPTERS = {
    "phantom": "synthgain.datasets.phantom",
    "table": "synthgain.datasets.table",
    "folder": "synthgain.datasets.folder",
    "medmnist": "synthgain.datasets.medmnist",
    "published": "synthgain.datasets.published",
}
# What the config and the planner know of a data set of an adapter (`datasets/entries/base.py`).
ADAPTER_ENTRIES = {
    "phantom": "synthgain.datasets.entries.phantom",
    "table": "synthgain.datasets.entries.table",
    "folder": "synthgain.datasets.entries.folder",
    "medmnist": "synthgain.datasets.entries.medmnist",
    "published": "synthgain.datasets.entries.published",
}
LAYOUTS = {
    "kvasir_seg": "synthgain.datasets.layouts.kvasir_seg",
    "hyperkvasir": "synthgain.datasets.layouts.hyperkvasir",
    "cvc_clinicdb": "synthgain.datasets.layouts.cvc_clinicdb",
    "polypgen": "synthgain.datasets.layouts.polypgen",
    "montgomery": "synthgain.datasets.layouts.montgomery",
    "shenzhen": "synthgain.datasets.layouts.shenzhen",
    "siim_acr": "synthgain.datasets.layouts.siim_acr",
    "chexpert": "synthgain.datasets.layouts.chexpert",
    "chexpert_plus": "synthgain.datasets.layouts.chexpert_plus",
    "mimic_cxr_jpg": "synthgain.datasets.layouts.mimic_cxr_jpg",
    "nih_cxr14": "synthgain.datasets.layouts.nih_cxr14",
    "rsna_pneumonia": "synthgain.datasets.layouts.rsna_pneumonia",
    "candid_ptx": "synthgain.datasets.layouts.candid_ptx",
    "vindr_cxr": "synthgain.datasets.layouts.vindr_cxr",
    "padchest": "synthgain.datasets.layouts.padchest",
}
FAMILIES = {
    "diffusion": "synthgain.generators.diffusion.generator",
    "gan": "synthgain.generators.gan.generator",
}
# What the config and the planner know of a family (`generators/family.py`).
FAMILY_ENTRIES = {
    "diffusion": "synthgain.generators.diffusion.family",
    "gan": "synthgain.generators.gan.family",
}
# The part of the package that trains a family: imported there only by the jobs that train.
FAMILY_TRAINING = {
    "diffusion": "synthgain.generators.diffusion.training",
    "gan": "synthgain.generators.gan.training",
}
# Trains a family's generator further on its own samples, weighted by scores.
STEERING = {
    "diffusion": "synthgain.steering.rounds",
}
# Who scores a generator's own samples: `scorer(run)`.
STEERING_SCORES = {
    "proxy": "synthgain.steering.proxy_scores",
    "segmenter": "synthgain.steering.segmenter_scores",
    "readers": "synthgain.steering.reader_scores",
}
# How the report describes a family: no part of any training.
FAMILY_PROSE = {
    "diffusion": "synthgain.report.families.diffusion",
    "gan": "synthgain.report.families.gan",
}
NETWORKS = {
    "small_cnn": "synthgain.networks.small_cnn",
    "torchvision_classifiers": "synthgain.networks.torchvision_classifiers",
    "monai_classifiers": "synthgain.networks.monai_classifiers",
    "monai_segmenters": "synthgain.networks.monai_segmenters",
    "smp_segmenters": "synthgain.networks.smp_segmenters",
    "unet": "synthgain.networks.unet",
    "unet_condition": "synthgain.networks.unet_condition",
    "unet_text": "synthgain.networks.unet_text",
    "gan": "synthgain.networks.gan",
}
SPACES = {
    "downstream": "synthgain.networks.downstream_features",
    "efficientnet_lite0": "synthgain.networks.efficientnet_lite",
    "inception": "synthgain.networks.inception",
    "torchscript": "synthgain.networks.torchscript_features",
}
TASKS = {
    "classification": "synthgain.downstream.classification",
    "segmentation": "synthgain.downstream.segmentation",
}
POOL_SOURCES = {
    "generated": "synthgain.pools.generated",
    "pairs": "synthgain.pools.pairs",  # of its own: what changes there redraws no pool of images alone
    "clustered": "synthgain.pools.clustered",
    "known": "synthgain.pools.known",
    "imported": "synthgain.pools.imported",
    "derived": "synthgain.pools.derived",
}
MASK_CHECKS = {
    "mask_agreement": "synthgain.evaluation.mask_agreement",
    "mask_shape": "synthgain.evaluation.mask_shape",
}
SPEED = {
    "autoencoders": "synthgain.speed.autoencoders",
    "downstream": "synthgain.speed.downstream",
    "generators": "synthgain.speed.generators",
    "features": "synthgain.speed.features",
}
