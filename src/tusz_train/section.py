"""What every part of a configuration is: a frozen value that takes no unknown key and converts nothing."""

from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, Strict, StringConstraints

T = TypeVar("T")


class Section(BaseModel):
    """A part of a configuration. The text under a field says what it means; docs/configuration.md is made of it."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


Text = Annotated[str, StringConstraints(min_length=1)]
Several = Annotated[tuple[T, ...], Strict(False)]  # a list in a file is a tuple here; what it holds stays strict
Probability = Annotated[float, Field(ge=0, le=1)]
Share = Annotated[float, Field(ge=0, lt=1)]
