"""The questions of a reader study in words, and in which phase each is asked."""

from dataclasses import asdict, dataclass

from synthgain.readers.options import Panel

FIRST, SECOND = 1, 2  # phases: the second begins when the first is sealed, and alone says that images may be synthetic


@dataclass(frozen=True)
class Question:
    """One question. name: that of its answers (a finding's or structure's joins it); low, high: ends of its scale."""

    name: str
    phase: int
    text: str
    low: int
    high: int
    low_label: str
    high_label: str
    shows: str = ""  # "mask:<structure>" or "prompt": what is shown with it

    def as_json(self) -> dict[str, str | int]:
        """Return the question for the page."""
        return asdict(self)


def _as_title(name: str) -> str:
    words = name.replace("_", " ")
    return words[:1].upper() + words[1:]


def questions_of(panel: Panel) -> list[Question]:
    """Return the questions in the order in which they are asked."""
    made: list[Question] = []
    for name in ("quality", "finding", "mask_fit", "prompt_fit", "realism"):
        if name not in panel.questions:
            continue
        scale = panel.scales.get(name)
        low, high = (scale.low, scale.high) if scale is not None else (1, 6 if name == "realism" else 5)
        if name == "quality":
            made.append(Question(name, FIRST, "Image quality", low, high, "unusable", "excellent"))
        elif name == "finding":
            made += [
                Question(f"finding.{finding}", FIRST, _as_title(finding), low, high, "surely absent", "surely there")
                for finding in panel.findings
            ]
        elif name == "mask_fit":
            made += [
                Question(
                    f"mask_fit.{structure}",
                    FIRST,
                    f"The outline fits: {structure.replace('_', ' ')}",
                    low,
                    high,
                    "not at all",
                    "exactly",
                    f"mask:{structure}",
                )
                for structure in panel.structures
            ]
        elif name == "prompt_fit":
            made.append(
                Question(
                    name, FIRST, "The image shows what the text says", low, high, "not at all", "all of it", "prompt"
                )
            )
        else:
            made.append(Question(name, SECOND, "Real or synthetic?", low, high, "surely real", "surely synthetic"))
    return made
