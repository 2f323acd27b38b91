"""Config of a reader study: which images, which questions, how many readers."""

import re
from pathlib import PurePath
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, StringConstraints, field_validator, model_validator

from synthgain.entry import Entry, Name, OmittedWhen, Share, shown

QuestionName = Literal["quality", "finding", "mask_fit", "prompt_fit", "realism"]
CODE = r"^[0-9a-f]{4}(-[0-9a-f]{4}){3}$"
Code = Annotated[str, StringConstraints(pattern=CODE)]


def _code(value: object) -> object:
    """A code that was read out may come back in capitals."""
    code = str(value).strip().lower()
    if not re.fullmatch(CODE, code):
        raise ValueError(f"{shown(str(value))!r} is no closing code; a page shows one such as 1f0c-92ab-0d4e-77c1")
    return code


class Items(Entry):
    """What each reader sees: numbers of images."""

    real: dict[Name, int] = Field(min_length=1, description="Real images of a data set: {data set: images}.")
    pools: dict[Name, int] = Field(min_length=1, description="Synthetic images of a pool: {pool: images}.")
    part: Literal["train", "validation", "test"] = Field(
        "train",
        description="Part of the data sets that the real images come from; ratings of test images steer nothing.",
    )

    @model_validator(mode="after")
    def _at_least_two(self) -> "Items":
        for group, counts in (("real", self.real), ("pools", self.pools)):
            for name, count in counts.items():
                if not 2 <= count <= 5000:
                    raise ValueError(f"{group}.{name}: {count} images; give 2 to 5000")
        return self

    @property
    def count(self) -> int:
        """Images that one reader sees, repeats aside."""
        return sum(self.real.values()) + sum(self.pools.values())


class Scale(Entry):
    """The steps of a question's answer."""

    low: int = Field(1, ge=0, le=1, description="First step.")
    high: int = Field(5, ge=2, le=9, description="Last step; one digit, so that a key answers.")


class Impression(Entry):
    """How a simulated reader answers a question."""

    sensitivity: float = Field(
        0.0, ge=0, le=6, description="d′: distance of what is asked about from the rest, in SDs of an impression."
    )
    bias: float = Field(0.0, ge=-4, le=4, description="Shift of all answers upwards, in SDs of an impression.")
    agreement: float = Field(0.3, ge=0, lt=1, description="Correlation of two readers' impressions of an image.")
    repeatability: float = Field(0.7, ge=0, le=1, description="Correlation of a reader's two impressions of an image.")

    @model_validator(mode="after")
    def _with_themselves_first(self) -> "Impression":
        if self.repeatability < self.agreement:
            raise ValueError(
                f"repeatability: {self.repeatability:g} is below agreement ({self.agreement:g}); readers agree with "
                "themselves at least as well as with each other"
            )
        return self


# Columns of a kit's key and of ratings, beside which the key holds what is known of each finding.
TAKEN = (
    *("origin", "source", "row", "image_id", "patient_id", "for", "item", "sha256"),
    *("reader", "phase", "position", "repeat", "question", "value", "seconds"),
)


class Panel(Entry):
    """A reader study: one page per reader, which works offline, and what is read of the answers."""

    items: Items = Field(description="Images that each reader sees.")
    questions: list[QuestionName] = Field(
        ["quality", "realism"],
        min_length=1,
        description="quality, finding, mask_fit, prompt_fit are asked first, realism when these are sealed.",
    )
    scales: dict[QuestionName, Scale] = Field(
        default_factory=dict,
        description="Other scales than 1 to 5 (realism: 1 to 6), such as {quality: {low: 0, high: 5}}.",
    )
    findings: list[str] = Field(default_factory=list, description="Targets that the question `finding` asks about.")
    structures: list[Name] = Field(default_factory=list, description="Structures whose outline `mask_fit` shows.")
    readers: int = Field(5, ge=1, le=50, description="Readers, a page each.")
    common: Share = Field(
        1.0, description="Share of the images that all readers see; the others are each reader's own."
    )
    repeats: float = Field(0.1, ge=0, le=0.5, description="Share of the images that a reader is shown twice.")
    undo: bool = Field(False, description="Readers may go back to an image that they have answered.")
    ratings: str | None = Field(None, description="Folder below the data root with the answers that readers sent back.")
    simulated: Annotated[dict[QuestionName, Impression] | None, OmittedWhen(None)] = Field(
        None,
        description="Instead of `ratings`: simulated readers of known sensitivity, bias and agreement, per question, "
        "such as {realism: {sensitivity: 1}}; to try a study out, or to know the answers.",
    )
    codes: dict[str, Annotated[str, BeforeValidator(_code)]] = Field(
        default_factory=dict,
        description="Closing codes that readers reported: {reader_1: 1f0c-…}; an answer file must match.",
    )
    seed: int = Field(0, description="Draws another choice of images.")

    @field_validator("ratings")
    @classmethod
    def _a_folder_of_its_own(cls, value: str | None) -> str | None:
        parts = PurePath(value).parts if value is not None else ("",)
        if not parts or parts[0] == "/" or ".." in parts:
            raise ValueError(f"{shown(str(value))!r} must be a folder below the data root, without '..'")
        return value

    @model_validator(mode="after")
    def _questions_have_what_they_need(self) -> "Panel":
        if len(set(self.questions)) < len(self.questions):
            raise ValueError("questions: one is given twice")
        for question, needed, key in (
            ("finding", self.findings, "findings"),
            ("mask_fit", self.structures, "structures"),
        ):
            if question in self.questions and not needed:
                raise ValueError(f"questions: {question!r} needs {key}: name what it asks about")
            if needed and question not in self.questions:
                raise ValueError(f"{key}: given, but the question {question!r} is not asked")
        taken = [name for name in self.findings if name in TAKEN]
        if taken:
            raise ValueError(f"findings: {taken[0]!r} is a column of keys or ratings; give the target another name")
        for question in self.simulated or {}:
            if question not in self.questions:
                raise ValueError(f"simulated.{question}: the question is not asked")
        if self.simulated is not None and (self.ratings is not None or self.codes):
            raise ValueError("simulated: not beside `ratings` and `codes`, which are of people; drop one")
        for question in self.scales:
            if question not in self.questions:
                raise ValueError(f"scales.{question}: the question is not asked")
        names = {f"reader_{number}" for number in range(1, self.readers + 1)}
        for reader in self.codes:
            if reader not in names:
                raise ValueError(f"codes.{reader}: the readers are reader_1 to reader_{self.readers}")
        return self

    def images_of(self, count: int) -> int:
        """Return how many images of a source all readers see together, of whom each sees `count`."""
        common = round(self.common * count)
        return common + self.readers * (count - common)

    @property
    def answers(self) -> bool:
        """True where answers come, of people or simulated ones."""
        return self.ratings is not None or self.simulated is not None
