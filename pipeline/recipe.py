"""The recipe: one frozen tree that says everything that decides a byte of the corpus.

How fast or where it runs (workers, output folder) is no part of it. The sections of `manifests.config` are joined here
with the parameters of every registered mechanism, so a new mechanism has its section without a change in this module.
"""

from __future__ import annotations

import difflib
from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

import yaml
from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    create_model,
    field_validator,
    model_serializer,
    model_validator,
)

from manifests.config import (
    MAX_SIZE_PX,
    MIN_SIZE_PX,
    AllocationPolicy,
    BankConfig,
    BitDepth,
    FitPolicy,
    ForegroundConfig,
    LabelConfig,
    NpcfConfig,
    NpcfppConfig,
    PlacementConfig,
    RenderConfig,
    Section,
    SourceSpec,
    SqeConfig,
    StoreConfig,
    explain_validation,
)
from manifests.errors import ConfigError
from manifests.hashing import canonical_json, sha256_bytes
from manifests.policy import MechanismPolicy, QuarteredDistribution, SamplingPolicy
from physics.mechanism import MechanismParams
from physics.registry import MECHANISMS

__all__ = ["MechanismSection", "Recipe", "config_sha256", "load_recipe", "only_mechanisms"]


class _MechanismsByName(Section):
    """Parameters by the name of their mechanism; None for one that takes no part."""

    @model_serializer(mode="wrap")
    def _leave_out_references(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A recipe without reference generators is the one that it was before there were any: same JSON, same hash."""
        content: dict[str, Any] = handler(self)
        return {name: value for name, value in content.items() if MECHANISMS[name].physical or value is not None}

    def named(self) -> dict[str, MechanismParams]:
        """Parameters of the mechanisms that are named, in the order of the registry."""
        return {name: getattr(self, name) for name in MECHANISMS if getattr(self, name) is not None}


if TYPE_CHECKING:
    MechanismSection = _MechanismsByName
else:
    MechanismSection = create_model(
        "MechanismSection",
        __base__=_MechanismsByName,
        __doc__=_MechanismsByName.__doc__,
        **{
            name: (mechanism.params | None, Field(None, description=f"{mechanism.title}: {mechanism.summary}"))
            for name, mechanism in MECHANISMS.items()
        },
    )


def _all_physical() -> MechanismSection:
    return _section({name: mechanism.params() for name, mechanism in MECHANISMS.items() if mechanism.physical})


def _section(params: dict[str, MechanismParams]) -> MechanismSection:
    section: MechanismSection = cast("type[Any]", MechanismSection)(**params)
    return section


class Recipe(Section):
    """Everything that decides the bytes of a corpus."""

    name: str = Field("maphc2f", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="name of the corpus")
    seed: int = Field(0, ge=0, lt=2**63, description="root of all random streams; 0 is a seed like any other")
    count: int = Field(256, ge=1, le=100_000_000, description="samples in all, exactly")
    size: int = Field(256, ge=MIN_SIZE_PX, le=MAX_SIZE_PX, description="side of the square pictures, in pixels")
    fit: FitPolicy = Field("crop", description="non-square photographs: crop the middle, pad, or stretch")
    bit_depth: BitDepth = Field(
        8, description="bits of each channel of the stored pictures; 16 keeps what 16-bit photographs hold"
    )
    max_pixels: int = Field(100_000_000, ge=1_000, le=10**9, description="largest photograph that is decoded")
    allocation: AllocationPolicy = Field(
        "equal", description="samples over categories: equal, or proportional to their usable photographs"
    )
    sources: tuple[SourceSpec, ...] = Field(
        (SourceSpec(kind="builtin"),), min_length=1, description="the data sets of photographs to start from"
    )
    foreground: ForegroundConfig = ForegroundConfig()
    mechanisms: MechanismSection = Field(
        default_factory=_all_physical,
        description="the mechanisms to make; those not named take no part; without this section all physical ones do",
    )
    bank: BankConfig = BankConfig()
    placement: PlacementConfig = PlacementConfig()
    render: RenderConfig = RenderConfig()
    npcf: NpcfConfig = NpcfConfig()
    npcfpp: NpcfppConfig = NpcfppConfig()
    label: LabelConfig = LabelConfig()
    sqe: SqeConfig = SqeConfig()
    store: StoreConfig = StoreConfig()
    policy: SamplingPolicy | None = Field(
        None, description="what to hold more of, and less: policy.json of `bisqad train`; none changes nothing"
    )

    @field_validator("policy")
    @classmethod
    def _mechanisms_known(cls, policy: SamplingPolicy | None) -> SamplingPolicy | None:
        for name in policy.mechanisms if policy else ():
            if name not in MECHANISMS:
                raise ValueError(f"there is no mechanism {name!r}; there are {', '.join(MECHANISMS)}")
        return policy

    @model_serializer(mode="wrap")
    def _leave_out_no_policy(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A recipe without a policy is the one that it was before there were any: same JSON, same hash."""
        content: dict[str, Any] = handler(self)
        return {key: value for key, value in content.items() if key != "policy" or value is not None}

    @model_validator(mode="after")
    def _some_mechanism(self) -> Self:
        if not self.mechanism_weights():
            raise ValueError("every mechanism has weight 0: nothing to make")
        return self

    @model_validator(mode="after")
    def _shares_at_most_one(self) -> Self:
        for name, params in self.mechanisms.named().items():
            for quantity, asked in (("severity", params.severity), ("area", params.area)):
                if asked.high > 1:
                    where = f"mechanisms.{name}.{quantity}.high"
                    raise ValueError(f"{where}: Input should be less than or equal to 1, got {asked.high}")
        return self

    @model_validator(mode="after")
    def _wavelet_known(self) -> Self:
        if self.npcfpp.wavelet != NpcfppConfig.model_fields["wavelet"].default:
            _check_wavelet(self.npcfpp.wavelet)
        return self

    def mechanism_weights(self) -> dict[str, float]:
        """Mechanisms that take part, with their weights times the policy's factors, in the order of the registry."""
        weights = {name: params.weight for name, params in self.mechanisms.named().items() if params.weight > 0}
        if self.policy is None:
            return weights
        factors = self.policy.factors(weights)
        return {name: weight * factors[name] for name, weight in weights.items()}

    def params(self, mechanism: str) -> MechanismParams:
        """Parameters of a mechanism that takes part.

        Raises
        ------
        KeyError
            It takes no part.
        """
        params: MechanismParams | None = getattr(self.mechanisms, mechanism, None)
        if params is None:
            raise KeyError(mechanism)
        return params

    def asked_area(self, mechanism: str) -> QuarteredDistribution:
        """Distribution of area / picture that is asked of a mechanism's defects, policy included."""
        return QuarteredDistribution(self.params(mechanism).area, self.policy_of(mechanism).area)

    def asked_severity(self, mechanism: str) -> QuarteredDistribution:
        """Distribution of severity that is asked of a mechanism's defects, policy included."""
        return QuarteredDistribution(self.params(mechanism).severity, self.policy_of(mechanism).severity)

    def policy_of(self, mechanism: str) -> MechanismPolicy:
        """The policy's factors for a mechanism; all 1 without a policy."""
        return self.policy.of(mechanism) if self.policy else MechanismPolicy()


def _check_wavelet(name: str) -> None:
    import pywt  # only where a recipe names another wavelet than the default

    known = pywt.wavelist(kind="discrete")
    if name not in known:
        near = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}?" if near else "there are haar, db1 to db38, sym2 to sym20, ..."
        raise ValueError(f"npcfpp.wavelet: expected a discrete wavelet of PyWavelets, got {name!r}; {hint}")


def config_sha256(recipe: Recipe) -> str:
    """Identity of a recipe: sha256 of its canonical JSON."""
    return sha256_bytes(canonical_json(recipe.model_dump(mode="json")))


def load_recipe(path: Path | None, *, overrides: dict[str, object]) -> Recipe:
    """Read a YAML recipe and lay command-line options over it.

    Parameters
    ----------
    path : Path or None
        The YAML file; None starts from the defaults.
    overrides : dict
        Top-level values given on the command line.

    Raises
    ------
    ConfigError
        The file is missing, not YAML, not a mapping, or has an unknown key or a value out of range.
    """
    where = str(path) if path else "command line"
    content: object = {}
    if path is not None:
        try:
            content = _read_yaml(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"recipe {path}: cannot be read ({error}); give a YAML file") from None
        except yaml.YAMLError as error:
            raise ConfigError(f"recipe {path}: not valid YAML ({' '.join(str(error).split())})") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{where}: expected a mapping of settings, got {type(content).__name__}")
    try:
        return Recipe.model_validate({**content, **overrides})
    except ValidationError as error:
        given = error.errors()[0]["loc"][:1]
        where = "command line" if given and given[0] in overrides else where
        raise ConfigError(f"{where}: {explain_validation(error, Recipe)}") from None


def only_mechanisms(recipe: Recipe, names: Iterable[str]) -> Recipe:
    """The recipe with these mechanisms alone: as it has them, or with their defaults.

    Raises
    ------
    ConfigError
        There is no such mechanism, or the recipe gives weight 0 to all of them.
    """
    had = recipe.mechanisms.named()
    wanted = list(dict.fromkeys(names))
    for name in wanted:
        if name not in MECHANISMS:
            raise ConfigError(f"--mechanism {name}: there is none of this name; there are {', '.join(MECHANISMS)}")
    made = recipe.model_copy(
        update={"mechanisms": _section({name: had.get(name) or MECHANISMS[name].params() for name in wanted})}
    )
    if not made.mechanism_weights():
        raise ConfigError(f"--mechanism {wanted[0]}: the recipe gives it weight 0; give it another weight there")
    return made


class _UniqueKeyLoader(yaml.SafeLoader):
    """Safe YAML in which a repeated key is an error; plain YAML keeps the last one in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, object]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is given twice", node.start_mark)
        return super().construct_mapping(node, deep=deep)


def _read_yaml(text: str) -> object:
    content = yaml.load(text, Loader=_UniqueKeyLoader)  # noqa: S506 - a subclass of SafeLoader
    return {} if content is None else content
