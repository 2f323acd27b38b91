"""Options of prompts: how a row's labels and covariates become a text. Declarations alone."""

from typing import Literal

from pydantic import Field, model_validator

from synthgain.entry import Entry, Name


class Prompt(Entry):
    """The text of a row: a template over its columns, or a column that holds text."""

    template: str | None = Field(
        None,
        min_length=1,
        max_length=2000,
        description="Text with {columns}; {findings}: the row's positive findings. A sentence, or a part in [ ], that "
        "names something unknown is left out.",
    )
    column: str | None = Field(None, description="Table column that holds the text (captions, impressions).")
    findings: Literal["all", "one", "none"] = Field(
        "all", description="Findings named: all, one (by turns, replica by replica), or none."
    )
    of: list[Name] | None = Field(None, description="Targets that count as findings; default: all binary ones.")
    others: Literal["unknown", "absent"] = Field(
        "unknown", description="What labels become that are not named: unknown (left out of the loss), or absent."
    )
    say_absent: bool = Field(False, description="Also name findings that are absent, as “no …”.")
    none: str = Field("no finding", description="What stands for the findings of a row in which all are absent.")
    words: dict[str, str] = Field(
        default_factory=dict,
        description="Words for columns and levels: {pleural_effusion: pleural effusion, F: female}; an empty text says "
        "nothing of it.",
    )

    @model_validator(mode="after")
    def _template_or_column(self) -> "Prompt":
        if (self.template is None) == (self.column is None):
            raise ValueError("give a template or a column")
        said = {
            "template": self.template,
            "none": self.none,
            **{f"words.{k}": text for k, text in self.words.items() if text},
        }
        for name, text in said.items():
            if text is not None and not text.strip(" .,;"):
                raise ValueError(f"{name}: {text!r} holds no word; give one, or leave {name} out")
        if self.column is not None and (self.findings != "all" or self.of is not None or self.say_absent):
            raise ValueError("column: its text is taken as it is; findings, of and say_absent are for templates")
        return self
