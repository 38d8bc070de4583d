"""A sampling policy: what the next corpus should hold more of, learned by a trainer from the last one.

Every factor multiplies how often something is drawn; 1 changes nothing. Areas and severities are told by quarters of
the recipe's own distribution of each mechanism, so that a policy keeps its sense when the recipe's ranges change.

JSON, shortened::

    {"schema_version": 1, "corpus": "demo", "samples": 1490,
     "mechanisms": {"fracture": {"factor": 1.31, "area": [0.8, 1.0, 1.1, 1.1], "severity": [1.0, 1.0, 0.9, 1.1],
                                 "place": {"border": 0.9, "inside": 1.1}}, "dent": {"factor": 0.72, …}}}
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from manifests.config import Section, explain_validation
from manifests.errors import ConfigError

__all__ = ["BORDER_SHARE", "QUARTERS", "MechanismPolicy", "PlacePolicy", "SamplingPolicy", "read_policy"]

QUARTERS = 4
BORDER_SHARE = (
    0.2  # a defect whose anchor is nearer to the picture's border than this share of its side is at the border
)

Factor = Annotated[float, Field(ge=0.05, le=20)]
Quarters = tuple[Factor, Factor, Factor, Factor]


class PlacePolicy(Section):
    """How often the border of a picture and its inside are drawn."""

    border: Factor = 1.0
    inside: Factor = 1.0


class MechanismPolicy(Section):
    """Factors of one mechanism."""

    factor: Factor = 1.0
    area: Quarters = (1.0, 1.0, 1.0, 1.0)
    severity: Quarters = (1.0, 1.0, 1.0, 1.0)
    place: PlacePolicy = PlacePolicy()


class SamplingPolicy(Section):
    """Factors by mechanism; one that is not named keeps its weight.

    Attributes
    ----------
    corpus : str
        Name of the corpus that was learned from.
    samples : int
        How many of its samples were.
    mechanisms : dict of str to MechanismPolicy
        By name.
    """

    schema_version: Literal[1] = 1
    corpus: str
    samples: int = Field(ge=0)
    mechanisms: dict[str, MechanismPolicy]


def read_policy(path: Path) -> SamplingPolicy:
    """A policy from its file.

    Raises
    ------
    ConfigError
        The file cannot be read, or is no policy.
    """
    try:
        return SamplingPolicy.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"policy {path}: cannot be read ({error.strerror}); `bisqad train` writes one") from None
    except ValidationError as error:
        raise ConfigError(f"policy {path}: {explain_validation(error, SamplingPolicy)}") from None
