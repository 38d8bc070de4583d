"""What each registered mechanism solves, yields and can be told, as Markdown: ``docs/mechanisms.md``.

Written from the registry and the parameters' own descriptions, so it cannot fall behind them.
"""

from __future__ import annotations

from collections.abc import Iterator

from manifests.distributions import Distribution
from physics.mechanism import Mechanism, MechanismParams
from physics.registry import MECHANISMS

__all__ = ["mechanism_reference", "parameter_rows"]

_HEAD = """# Mechanisms

Written by `maphc2f mechanisms --markdown > docs/mechanisms.md`; a test keeps it up to date. In a recipe, `mechanisms:`
names those that take part, each with the parameters that differ from the defaults below:

```yaml
mechanisms:
  fracture: {weight: 2}
  pitting: {area: {kind: loguniform, low: 0.001, high: 0.02}}
```

Lengths are in sides of the simulated square, or in its grid spacings h where it says so; `area` and `width` are
relative to the picture. Fields are stored with every sample, in pixels. How one is added:
[adding-a-mechanism.md](adding-a-mechanism.md); how they are held to known answers: [verification.md](verification.md).
"""


def mechanism_reference() -> str:
    """The whole page."""
    return "\n".join([_HEAD, *(line for mechanism in MECHANISMS.values() for line in _section(mechanism))]) + "\n"


def parameter_rows(params: MechanismParams) -> Iterator[tuple[str, str, str, str]]:
    """Name, default, unit and meaning of each parameter."""
    for name, field in type(params).model_fields.items():
        extra = field.json_schema_extra
        unit = str(extra["unit"]) if isinstance(extra, dict) and "unit" in extra else "1"
        meaning = (field.description or "").removesuffix(f" [{unit}]")
        yield name, _text(getattr(params, name)), unit, meaning


def _section(mechanism: Mechanism[MechanismParams, object]) -> Iterator[str]:
    yield f"## {mechanism.title} (`{mechanism.name}`)\n"
    yield f"{mechanism.summary}\n"
    if not mechanism.physical:
        yield "A reference generator, not physical: it takes part only where a recipe names it.\n"
    yield "| field | unit | meaning |\n|---|---|---|"
    for spec in mechanism.field_specs:
        yield f"| `{spec.name}` | {spec.unit} | {spec.meaning} |"
    yield "\n| parameter | default | unit | meaning |\n|---|---|---|---|"
    for name, default, unit, meaning in parameter_rows(mechanism.params()):
        yield f"| `{name}` | {default} | {unit} | {meaning} |"
    yield ""


def _text(value: object) -> str:
    if isinstance(value, Distribution):
        return f"{value.kind} {value.low:g} to {value.high:g}"
    if isinstance(value, tuple | list):
        return f"[{', '.join(_text(v) for v in value)}]"
    return f"{value:g}" if isinstance(value, float) else str(value)
