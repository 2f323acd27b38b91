"""Reader studies: a kit per panel, and what came back."""

from pathlib import Path

from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import sha256_file
from synthgain.study.planner import Planner
from synthgain.study.roles import prompt_of, root_pool
from synthgain.study.stage import Draft, Stage, Wildcards
from synthgain.study.stages.data import whole_datasets
from synthgain.study.stages.pools import replicas_of

RATINGS = ".json"  # files that readers' pages export
LATER = {"ratings", "codes", "simulated"}  # keys that are given when the kit is out: they change no kit


def write_reader_kit(plan: Planner, panel: str) -> Draft:
    config = plan.study.readers[panel]
    pools = [place for pool in config.items.pools for place in replicas_of(plan, pool, 0)]
    slice_ = {"panel": panel, "config": config.dump(exclude=LATER), "seed": plan.seed}
    if "prompt_fit" in config.questions:  # real images are told as the synthetic ones are
        name = prompt_of(plan.study, root_pool(plan.study, next(iter(config.items.pools))))
        slice_["prompt"] = plan.study.prompts[str(name)].dump()
    return Draft(
        slice_,
        {**whole_datasets(plan.study, config.items.real), "replicas": pools},
    )


def read_ratings(plan: Planner, panel: str) -> Draft:
    config = plan.study.readers[panel]
    found = answer_files(plan, panel)
    return Draft(
        {
            "panel": panel,
            "config": config.dump(),
            "ratings": {path.name: sha256_file(path) for path in found},
            "alpha": plan.study.analysis.alpha,
            "seed": plan.seed,
        },
        {"kits": [{"panel": panel}]},
    )


def answer_files(plan: Planner, panel: str) -> list[Path]:
    """Return the answer files of a panel that lie below the data root, none where they have not come yet.

    A CSV file may lie beside the JSON file of its name. SynthGainError names any other file: answers that are not read
    must not be missed in silence.
    """
    folder = plan.study.readers[panel].ratings
    if folder is None or plan.root is None or not (plan.root / folder).is_dir():
        return []
    every = sorted(path for path in (plan.root / folder).iterdir() if not path.name.startswith((".", "Thumbs.db")))
    found = [path for path in every if path.suffix.lower() == RATINGS and path.is_file()]
    read = {path.stem.lower() for path in found}
    for path in every:
        if path not in found and not (path.suffix.lower() == ".csv" and path.stem.lower() in read):
            raise SynthGainError(
                f"readers.{panel}.ratings: {path.name!r} is not read, only the {RATINGS} files that "
                "readers' pages save, since "
                "they carry the chain of answers; ask for that file, or take this one out"
            )
    return found


def panels(plan: Planner) -> list[Wildcards]:
    """Return the panels of the study."""
    return [{"panel": name} for name in plan.study.readers]


def answered(plan: Planner) -> list[Wildcards]:
    """Return the panels of which answers have come, or came in an earlier run."""
    output = STAGES[1].output
    return [
        {"panel": name}
        for name in plan.study.readers
        if plan.study.readers[name].simulated is not None
        or answer_files(plan, name)
        or (plan.root is None and (plan.folder / output.format(panel=name)).exists())
    ]


STAGES = (
    Stage(
        "write_reader_kit",
        "Making reader kits",
        "readers/{panel}/kit.json",
        write_reader_kit,
        {"datasets": "prepare_dataset", "splits": "split_dataset", "replicas": "merge_pool_replica"},
        shown=panels,
        values={"panel": lambda study: list(study.readers)},
    ),
    Stage(
        "read_ratings",
        "Reading ratings",
        "readers/{panel}/ratings/manifest.json",
        read_ratings,
        {"kits": "write_reader_kit"},
        shown=answered,
        values={"panel": lambda study: list(study.readers)},
    ),
)
