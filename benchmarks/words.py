"""Is a text followed? On a finished run of studies/phantom_text.yaml: words swapped one at a time, the null prompt, and
prompts against the same labels as numbers, all judged by the study's classifiers of real films alone.

python benchmarks/words.py STUDY.yaml RUN_FOLDER [--pairs N]

A swap: two films of one noise whose prompts differ by one thing, followed where the classifier's score moves the right
way. Beside it the same swap in pairs of films of the law of the phantom, which share all that chance decides.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "workflow_scripts"))

from synthgain.data.image_set import open_dataset  # noqa: E402
from synthgain.data.pixels import to_uint8  # noqa: E402
from synthgain.data.replicas import read_replicas  # noqa: E402
from synthgain.datasets import phantom  # noqa: E402
from synthgain.downstream.prediction import build_network  # noqa: E402
from synthgain.evaluation.agreement import logits_of  # noqa: E402
from synthgain.generators.diffusion.generator import DiffusionGenerator, load  # noqa: E402
from synthgain.metrics import auroc  # noqa: E402
from synthgain.networks.extractors import load_state_dict  # noqa: E402
from synthgain.networks.options import NetworkChoice, TaskFacts  # noqa: E402
from synthgain.pools.sampling import sample  # noqa: E402
from synthgain.runtime.files import read_manifest, read_table  # noqa: E402
from synthgain.study.load import parse_study  # noqa: E402
from synthgain.study.schema import Study  # noqa: E402
from synthgain.study.yaml_files import read_yaml  # noqa: E402

FOLLOWED, NEAR_LAW = 0.95, 0.05  # share of pairs that is enough, and how near to the law's is enough otherwise
SEES = 0.75  # least share of the law's own pairs that a judge must get right
AGREEMENT = 0.05  # largest difference of label-consistency AUROC between words and numbers
MARGINAL = 0.05  # largest difference of a classifier's mean score between null prompts and real films
SAMPLING = {"solver": "dpmpp_2m", "steps": 12}
BATCH, RESAMPLES = 100, 1000
Values = Mapping[str, object]


@dataclass(frozen=True)
class Swap:
    """One change of a row: from `before` to `after`; the score of `label` of a model must rise."""

    name: str
    before: Values
    after: Values
    label: str


# A film without an effusion has none on any side; one with it has it somewhere.
SWAPS = (
    Swap("opacity", {"opacity": 0.0}, {"opacity": 1.0}, "opacity"),
    Swap("cardiomegaly", {"cardiomegaly": 0.0}, {"cardiomegaly": 1.0}, "cardiomegaly"),
    Swap(
        "effusion", {"effusion": 0.0, "effusion_side": "none"}, {"effusion": 1.0, "effusion_side": "left"}, "effusion"
    ),
    Swap("sex", {"sex": "F"}, {"sex": "M"}, "M"),
    Swap(
        "effusion_side",
        {"effusion": 1.0, "effusion_side": "right"},
        {"effusion": 1.0, "effusion_side": "left"},
        "left",
    ),
)


@dataclass(frozen=True)
class Judge:
    """Classifiers of real films alone, one per replicate of the plain arm; labels in the order of their logits."""

    labels: tuple[str, ...]
    networks: tuple[torch.nn.Module, ...]
    exclusive: bool

    def scores(self, images: np.ndarray) -> np.ndarray:
        """Return (N, K) log-odds of each label against its absence or, of levels, the others; mean over replicates."""
        found = [self._log_odds(logits_of(network, images, torch.device("cpu"))) for network in self.networks]
        return np.asarray(torch.stack(found).mean(dim=0).numpy())

    def _log_odds(self, logits: torch.Tensor) -> torch.Tensor:
        return torch.logit(torch.softmax(logits, dim=1), eps=1e-6) if self.exclusive else logits


def judges(study: Study, run: Path) -> dict[str, Judge]:
    """Return {label: the judge that tells it}, from the plain arm `real` of all models of the study."""
    found = {}
    for name, model in study.models.items():
        networks, facts = [], None
        for manifest in sorted((run / "downstream" / name / "real" / "0").glob("*/manifest.json")):
            for replicate, trained in read_manifest(manifest)["replicates"].items():
                facts = TaskFacts.model_validate(trained["task"])
                entry = NetworkChoice(module=model.network.module, options=model.network.options())
                network = build_network(entry, facts.channels, len(facts.labels), facts.image_size, name)
                load_state_dict(network, manifest.parent / f"weights-{replicate}.safetensors")
                networks.append(network)
        assert facts is not None, f"{run}: no classifier of {name}"
        found |= dict.fromkeys(facts.labels, Judge(facts.labels, tuple(networks), facts.kind == "multi-class"))
    return found


def drawn(generator: DiffusionGenerator, rows: pd.DataFrame | int, seed: int = 0) -> np.ndarray:
    """Return the films (N, H, W, C) uint8 for rows, or of so many null prompts; noise by position alone."""
    count = rows if isinstance(rows, int) else len(rows)
    noise = torch.randn(count, *generator.sample_shape, generator=torch.Generator().manual_seed(seed))
    parts = []
    with torch.inference_mode():
        for start in range(0, count, BATCH):
            part = slice(start, min(start + BATCH, count))
            if isinstance(rows, int):
                condition = generator.null_condition(part.stop - start)
            else:
                condition = generator.encode_conditions(rows.iloc[part].reset_index(drop=True))
            made = sample(generator, condition, noise[part], SAMPLING["solver"], SAMPLING["steps"])  # type: ignore[arg-type]
            parts.append(to_uint8(generator.decode(made)))
    return np.concatenate(parts)


def share_moved(before: np.ndarray, after: np.ndarray) -> float:
    """Return the share of pairs whose score rose."""
    return float((after > before).mean())


def followed(share: float, law: float) -> bool:
    """True where enough pairs moved the right way: nearly all, or nearly as many as in films of the law itself.

    Never where the judge does not see the swap in films of the law.
    """
    return law >= SEES and (share >= FOLLOWED or share >= law - NEAR_LAW)


def swap_rows(
    generator: DiffusionGenerator, judge: Mapping[str, Judge], rows: pd.DataFrame, law: dict[str, object], size: int
) -> list[dict[str, object]]:
    """Return a row per swap: share of pairs that moved the right way, drawn by the generator and by the law."""
    image, keys = {"size": size, "channels": 1}, [{"step": "swap", "row": row} for row in range(len(rows))]
    found: list[dict[str, object]] = []
    for swap in SWAPS:
        ends = [rows.assign(**dict(values)) for values in (swap.before, swap.after)]
        column = judge[swap.label].labels.index(swap.label)
        by_text = [judge[swap.label].scores(drawn(generator, end))[:, column] for end in ends]
        by_law = [judge[swap.label].scores(phantom.draw(end, image, keys, law)[0])[:, column] for end in ends]
        share, of_law = share_moved(*by_text), share_moved(*by_law)
        change = float((by_text[1] - by_text[0]).mean()), float((by_law[1] - by_law[0]).mean())
        found.append(
            {
                "swap": swap.name, "pairs": len(rows), "share": share, "law_share": of_law, "change": change[0],
                "law_change": change[1], "met": followed(share, of_law),
            }
        )  # fmt: skip
    return found


def null_rows(judge: Mapping[str, Judge], films: np.ndarray, real: np.ndarray) -> list[dict[str, object]]:
    """Return a row per label: mean probability that the judge gives to films of the null prompt, and to real films."""
    found: list[dict[str, object]] = []
    for label, one in judge.items():
        column = one.labels.index(label)
        ours, theirs = (1 / (1 + np.exp(-one.scores(images)[:, column])) for images in (films, real))
        difference = float(ours.mean() - theirs.mean())
        error = float(np.sqrt(ours.var() / len(ours) + theirs.var() / len(theirs)))
        found.append(
            {
                "label": label, "null": float(ours.mean()), "real": float(theirs.mean()), "difference": difference,
                "error": error, "met": abs(difference) <= MARGINAL + 1.96 * error,
            }
        )  # fmt: skip
    return found


Side = tuple[np.ndarray, np.ndarray]  # truth and score of rows


def auroc_difference(
    labels: Sequence[tuple[Side, Side]], patients: np.ndarray, seed: int = 0
) -> tuple[float, float, float]:
    """Return the difference of two AUROCs of the same rows, mean over labels, and its 95 % interval over patients."""

    def mean(of: np.ndarray) -> float:
        return float(np.mean([np.subtract(*(auroc(t[of], s[of]) for t, s in sides)) for sides in labels]))

    _, code = np.unique(patients, return_inverse=True)
    random, found = np.random.default_rng(seed), []
    for _ in range(RESAMPLES):
        times = np.bincount(random.integers(code.max() + 1, size=code.max() + 1), minlength=code.max() + 1)[code]
        found.append(mean(np.repeat(np.arange(len(code)), times)))
    low, high = np.quantile(found, [0.025, 0.975])
    return mean(np.arange(len(code))), float(low), float(high)


def agreement_rows(run: Path, pools: Sequence[str], labels: Sequence[str]) -> list[dict[str, object]]:
    """Return a row per label and for their mean: AUROC of the judge on the first pool's films less the second's."""
    tables = []
    for pool in pools:
        manifests = sorted((run / "pools" / pool / "0").glob("replica-*/manifest.json"))
        table = read_replicas([(path, None) for path in manifests]).table
        folder = run / "label_consistency" / pool / "0"
        scores = read_table(folder / "scores.parquet", read_manifest(folder / "manifest.json")["identity"])
        tables.append(table.merge(scores, on="image_id", validate="one_to_one"))
    first, second = tables
    assert (first["parent_image_id"] == second["parent_image_id"]).all()
    of_label: dict[str, tuple[Side, Side]] = {}
    for label in labels:
        ours, theirs = ((table[label].to_numpy(float), table[f"score_{label}"].to_numpy(float)) for table in tables)
        of_label[label] = ours, theirs
    found: list[dict[str, object]] = []
    for name, chosen in [*((label, [sides]) for label, sides in of_label.items()), ("mean", [*of_label.values()])]:
        value, low, high = auroc_difference(chosen, first["parent_patient_id"].to_numpy())
        levels = {pool: np.mean([auroc(*sides[at]) for sides in chosen]) for at, pool in enumerate(pools)}
        found.append(
            {
                "label": name, **levels, "difference": value, "low": low, "high": high,
                "met": max(-low, high) <= AGREEMENT,
            }
        )  # fmt: skip
    return found


def main() -> None:
    """Print the three tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("--pairs", type=int, default=300)
    given = parser.parse_args()
    torch.set_num_threads(1)
    study = parse_study(read_yaml(given.study))
    (dataset,) = study.generators["words"].train_on.datasets
    data = open_dataset(given.run / "datasets" / dataset, given.run / "splits" / dataset)
    judge, generator = judges(study, given.run), load(given.run / "generators" / "words" / "0")
    rows = data.images.table[data.parts == "test"].head(given.pairs).reset_index(drop=True)
    real = np.array(data.images.images[data.parts == "test"])
    law = dict(data.images.manifest["law"])
    findings = [label for label in judge if label in data.images.columns]
    for title, found in (
        ("Words against numbers: label-consistency AUROC", agreement_rows(given.run, ("words", "vector"), findings)),
        ("One word swapped", swap_rows(generator, judge, rows, law, study.image.size)),
        ("The null prompt", null_rows(judge, drawn(generator, len(real), seed=1), real)),
    ):
        print(f"\n{title}\n{pd.DataFrame(found).round(3).to_string(index=False)}")


if __name__ == "__main__":
    main()
