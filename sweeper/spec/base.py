"""What every part of a job file shares: frozen models that reject unknown keys."""

import os
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints


@dataclass(frozen=True)
class Allowed:
    """Says in words what a type allows, for error messages; validates nothing."""

    text: str


Name = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9]([A-Za-z0-9_-]|\.[A-Za-z0-9_-])*$", max_length=100),
    Allowed("a name of at most 100 letters, digits, _, - and single dots inside"),
]
"""The name of a job. It becomes part of paths, so it can hold no separator and no ``..``."""

EntryName = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=100),
    Allowed("a name of at most 100 letters, digits, _ and -"),
]
"""The name of a model, corpus, task or condition. Without dots, since overrides split at them."""

Text = Annotated[str, Field(min_length=1), Allowed("text that is not empty")]

PathText = Annotated[Text, AfterValidator(os.path.expanduser)]
"""A path or address as written, with a leading ``~`` replaced by the home folder."""

FileText = Annotated[PathText, AfterValidator(os.path.abspath)]
"""A local file. Made absolute, since workers have working folders of their own."""

Fraction = Annotated[float, Field(gt=0, le=1)]
"""A share above 0 and at most 1."""

Count = Annotated[int, Field(ge=1)]

Index = Annotated[int, Field(ge=0)]


class Strict(BaseModel):
    """Base of all parts of a job: immutable, unknown keys are errors, no silent conversion."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        use_attribute_docstrings=True,
        allow_inf_nan=False,
    )
