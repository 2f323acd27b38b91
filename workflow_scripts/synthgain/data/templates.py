"""The templates of prompts: which columns they name. Planning asks too, so nothing heavy is imported here."""

import re
from string import Formatter

from synthgain.data.options import Prompt
from synthgain.runtime.errors import SynthGainError

FINDINGS = "findings"  # the field for a row's positive findings


def fields_of(prompt: Prompt, place: str) -> list[str]:
    """Return the columns that a template names, `findings` among them. Raises SynthGainError for a wrong template."""
    if prompt.template is None:
        return []
    try:
        parts = list(Formatter().parse(prompt.template.replace("[", "").replace("]", "")))
    except ValueError as error:
        raise SynthGainError(f"{place}.template: {error}; write a field as {{age}}") from None
    names = [name for _, name, _, _ in parts if name is not None]
    for _, name, form, conversion in parts:
        if name is not None and (form or conversion or not re.fullmatch(r"[A-Za-z_]\w*", name)):
            raise SynthGainError(
                f"{place}.template: {{{name}{':' if form else ''}…}} is no column; write {{column}} alone"
            )
    if prompt.template.count("[") != prompt.template.count("]"):
        raise SynthGainError(f"{place}.template: its square brackets do not match")
    return names
