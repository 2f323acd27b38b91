"""The report's list of results that older code made and the user took as current (`snakemake accept`)."""

import re
from collections.abc import Sequence
from html import escape
from pathlib import Path

from synthgain.runtime.accepted import Accepted, read_accepted
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import identity_of

_START, _END = "<!-- accepted -->", "<!-- /accepted -->"
_SECTION = re.compile(f"{_START}.*?{_END}\n", re.DOTALL)
LEAD = (
    "Older code made these results. The person who ran the study took them as equal to what the code of that day would "
    "make (snakemake accept); nothing was computed again to check it."
)


def with_accepted(page: str, entries: Sequence[Accepted]) -> str:
    """Return a report's page with the list at its end, in place of one that is there; without one for no entries."""
    page = _SECTION.sub("", page)
    return page.replace("</main>", f"{_section(entries)}</main>", 1) if entries else page


def still_accepted(run: Path) -> list[Accepted]:
    """Return what is accepted in a run and still lies there as it was then."""
    return [entry for entry in read_accepted(run).values() if _is_there(run / entry.output, entry)]


def _is_there(path: Path, entry: Accepted) -> bool:
    try:
        return path.exists() and identity_of(path) in (None, entry.identity)
    except SynthGainError:
        return False


def _section(entries: Sequence[Accepted]) -> str:
    heads = ("Result", "Made by code", "Taken as", "Accepted")
    cells = [(entry.output, entry.recorded[:8], entry.taken_as[:8], entry.date) for entry in entries]
    rows = "\n".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in cells)
    return (
        f'{_START}\n<section id="accepted">\n<h2>Results of older code</h2>\n<p class="lead">{LEAD}</p>\n'
        f"<details><summary>{len(entries)} results</summary>\n<table>\n"
        f"<thead><tr>{''.join(f'<th scope=col>{head}</th>' for head in heads)}</tr></thead>\n"
        f"<tbody>{rows}</tbody>\n</table></details>\n</section>\n{_END}\n"
    )
