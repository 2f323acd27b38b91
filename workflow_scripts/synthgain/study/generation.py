"""Config of generators: one kind for each registered family."""

from typing import TYPE_CHECKING, Annotated, Union

from pydantic import Field

from synthgain.generators.family import Family, GeneratorBase
from synthgain.registry import FAMILY_ENTRIES
from synthgain.runtime.loading import load

KNOWN_FAMILIES: dict[str, Family[GeneratorBase]] = {name: load(FAMILY_ENTRIES, name).FAMILY for name in FAMILY_ENTRIES}
if TYPE_CHECKING:
    Generator = GeneratorBase
else:
    Generator = Annotated[
        Union[tuple(family.entry for family in KNOWN_FAMILIES.values())],  # noqa: UP007
        Field(discriminator="family"),
    ]


def family_of(generator: GeneratorBase) -> Family[GeneratorBase]:
    """Return what is known of a generator's family."""
    return KNOWN_FAMILIES[generator.family]
