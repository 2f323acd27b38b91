"""Config of generators and pools: made of the options of the families and of the pools."""

from typing import TYPE_CHECKING, Annotated, Any, Union

from pydantic import Field, model_validator

from synthgain.datasets.entries.table import Imported
from synthgain.entry import Entry, Name
from synthgain.generators.family import Family, GeneratorBase
from synthgain.pools.known_checks import known_problem
from synthgain.pools.options import Filter, Inpainting, Kind, KnownOptions, PoolMasks, Sampling
from synthgain.registry import FAMILY_ENTRIES
from synthgain.runtime.loading import load

KNOWN_FAMILIES: dict[str, Family[Any]] = {name: load(FAMILY_ENTRIES, name).FAMILY for name in FAMILY_ENTRIES}
if TYPE_CHECKING:
    Generator = GeneratorBase
else:
    Generator = Annotated[
        Union[tuple(family.entry for family in KNOWN_FAMILIES.values())],  # noqa: UP007
        Field(discriminator="family"),
    ]


def family_of(generator: GeneratorBase) -> Family[Any]:
    """Return what is known of a generator's family."""
    return KNOWN_FAMILIES[generator.family]


class Pool(Entry):
    """Synthetic images. Exactly one of from, known, imported, of says where they come from."""

    from_: Name | None = Field(None, alias="from", description="Generator that draws them.")
    snapshot: int | None = Field(None, description="Generator snapshot; default: the last.")
    known: Kind | None = Field(None, description="Pool of known truth.")
    known_options: KnownOptions = Field(KnownOptions(), description="Options of a known pool.")
    imported: Imported | None = Field(None, description="Your own folder of synthetic images, as a table.")
    of: Name | None = Field(None, description="Another pool, filtered or thinned.")
    filter: Filter | None = Field(None, description="Which images of `of` are kept.")
    thin_to: Name | None = Field(None, description="Control of a filtered pool: as many images of `of`, unselected.")
    rows_of: Name | None = Field(None, description="Data set whose training rows give the conditions.")
    replicas: int = Field(1, ge=1, le=100, description="Copies of the training rows: 10 allow ratios up to 1000.")
    shards: int = Field(1, ge=1, le=10000, description="Jobs a replica is cut into.")
    balance: dict[str, float | dict[str, float]] | None = Field(
        None, description="Target shares, such as {opacity: 0.5}: rows are redrawn with raked weights."
    )
    shuffled: bool = Field(False, description="Permute the synthetic labels: a negative control.")
    masks: PoolMasks | None = Field(None, description="Condition masks; default: the training rows' own.")
    inpainting: Inpainting | None = Field(None, description="Draw the region of a structure in the real image anew.")
    misaligned: bool = Field(False, description="Permute the masks among the images: a negative control.")
    sampling: Sampling = Field(Sampling(), description="Solver, steps, guidance.")
    description: str = Field("", description="Free text for the report; changes nothing.")

    @model_validator(mode="after")
    def _one_source(self) -> "Pool":
        given = [name for name in ("from_", "known", "imported", "of") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError("give exactly one of from, known, imported, of")
        if self.known is None and self.known_options.given():
            raise ValueError("known_options: goes with known, and only with it")
        problem = self.known and known_problem(self.known, self.known_options, bool(self.balance))
        if problem:
            raise ValueError(problem)
        if self.of is not None and (self.filter is None) == (self.thin_to is None):
            raise ValueError("a pool `of` another needs either filter or thin_to")
        if self.of is None and self.rows_of is None and self.imported is None:
            raise ValueError("rows_of is missing: the data set whose training rows give the conditions")
        if self.from_ is None and self.snapshot is not None:
            raise ValueError("snapshot goes with from, and only with it")
        if (self.shuffled or self.misaligned or self.balance is not None) and (self.from_ or self.known) is None:
            raise ValueError(
                "shuffled, misaligned and balance go with from or known: other pools keep the rows that they have"
            )
        if (self.masks or self.inpainting) and self.from_ is None:
            raise ValueError("masks and inpainting go with from")
        if self.masks is not None and self.inpainting is not None:
            raise ValueError("give masks (a mask-conditioned generator) or inpainting (an image+mask one), not both")
        return self
