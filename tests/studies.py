"""Study configs for tests."""

import copy
from typing import Any

TINY: dict[str, Any] = {
    "study": "tiny",
    "image": {"size": 32, "channels": 1},
    "datasets": {
        "hospital_a": {
            "adapter": "phantom",
            "patients": 60,
            "site": "a",
            "seed": 1,
            "prevalence": {"opacity": 0.5},
            "split": {"train": 0.5, "validation": 0.2, "test": 0.3},
        },
        "hospital_b": {"adapter": "phantom", "patients": 30, "site": "b", "seed": 2},
    },
    "generators": {
        "ddpm": {
            "family": "diffusion",
            "train_on": {"datasets": ["hospital_a"]},
            "condition_on": ["opacity", "sex", "age"],
            "network": {"block_out_channels": [16, 32], "layers_per_block": 1},
            "training": {"steps": 6, "batch_size": 8, "snapshots": [3]},
        }
    },
    "pools": {
        "drawn": {
            "from": "ddpm",
            "rows_of": "hospital_a",
            "replicas": 2,
            "shards": 2,
            "sampling": {"steps": 2, "batch_size": 16},
        }
    },
    "models": {
        "cnn": {
            "targets": ["opacity"],
            "network": "small_cnn",
            "steps": 6,
            "batch_size": 8,
            "validate_every": 3,
            "warmup_steps": 2,
        }
    },
    "arms": {
        "real": {"real": "hospital_a"},
        "real_long": {"real": "hospital_a", "steps_factor": 2},
        "real_strong": {"real": "hospital_a", "augmentation": "strong"},
        "repeated": {"real": "hospital_a", "repeat": True, "ratios": [100]},
        "supplemented": {"real": "hospital_a", "synthetic": "drawn", "ratios": [100]},
        "synthetic_only": {"synthetic": "drawn", "ratios": [100]},
    },
    "evaluate_on": ["hospital_a", "hospital_b"],
    "replicates": {"count": 2, "per_job": 2},
    "analysis": {
        "primary": {"model": "cnn", "arm": "supplemented", "ratio": 100, "test_set": "hospital_a"},
        "bootstrap": 100,
    },
    "evaluation": {"fidelity": {"spaces": ["downstream"], "images": 50, "floor_splits": 2}},
}


def tiny(**changes: Any) -> dict[str, Any]:
    """Return the tiny study with `changes`: keys are dotted paths with `__` for dots; a value of ... deletes."""
    config = copy.deepcopy(TINY)
    for path, value in changes.items():
        *parents, last = path.split("__")
        here = config
        for parent in parents:
            here = here.setdefault(parent, {})
        if value is ...:
            here.pop(last)
        else:
            here[last] = copy.deepcopy(value)
    return config
