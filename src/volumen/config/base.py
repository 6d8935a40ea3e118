"""What every section of a configuration shares: frozen, strict, and no key that nobody knows.

Every number has bounds. They are far from what anybody would train with, and near enough that no sum, product or
allocation made of settings inside them overflows unheard.
"""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

LARGEST_SEED = 2**63 - 1
Seed = Annotated[int, Field(ge=0, le=LARGEST_SEED)]
Epoch = Annotated[int, Field(ge=0, le=1_000_000)]
"""Of a run, counted from 0."""
Count = Annotated[int, Field(ge=1, le=1_000_000)]
"""Of epochs, validations and the like."""


class Section(BaseModel):
    """A frozen group of settings; an unknown key or a value of another type is an error, never a warning."""

    model_config = ConfigDict(
        frozen=True,
        strict=True,
        extra="forbid",
        validate_default=True,
        use_attribute_docstrings=True,
        allow_inf_nan=False,
    )
