"""What jobs learn through the environment, since it may not rerun them (`synthgain.runtime.settings`)."""

from synthgain.generators.family import TRAINING_SETTINGS
from synthgain.study.schema import Study

THREAD_ROLES = ("generator", "sampling", "downstream")  # of `compute.<role>_threads`


def job_settings(study: Study) -> dict[str, object]:
    """Return {section of the config: settings, or {entry: settings}}."""
    return {
        "compute": {
            "generator_processes": study.compute.generator_processes,
            "threads": {role: getattr(study.compute, f"{role}_threads") for role in THREAD_ROLES},
        },
        "datasets": {name: entry.settings for name, entry in study.datasets.items() if entry.settings},
        "autoencoders": {
            name: entry.training.dump(include=TRAINING_SETTINGS)
            for name, entry in study.autoencoders.items()
            if entry.training is not None
        },
        "generators": {
            name: entry.training.dump(include=TRAINING_SETTINGS) for name, entry in study.generators.items()
        },
    }


def keys_of_no_result(study: Study) -> dict[str, dict[str, dict[str, bool | set[str]]]]:
    """Return {section: {entry: {key: True, or keys below it}}} on which no result rests.

    They are the keys behind `job_settings`, and those that cut the same work into more jobs or fewer.
    """
    return {
        "datasets": {name: dict.fromkeys(entry.setting_keys, True) for name, entry in study.datasets.items()},
        "autoencoders": {name: {"training": TRAINING_SETTINGS} for name in study.autoencoders},
        "generators": {name: {"training": TRAINING_SETTINGS} for name in study.generators},
        "pools": {name: {"shards": True} for name in study.pools},
    }
