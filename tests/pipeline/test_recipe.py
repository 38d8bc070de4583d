"""The recipe: what is accepted, what is refused and in which words, and what decides its hash."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from manifests.config import SourceSpec
from manifests.distributions import Distribution
from manifests.errors import ConfigError
from manifests.hashing import canonical_json, sha256_bytes
from physics.mechanism import MechanismParams
from physics.registry import MECHANISMS
from pipeline.recipe import Recipe, config_sha256, load_recipe, only_mechanisms

ROOT = Path(__file__).resolve().parent.parent.parent
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))

# One valid value other than the default for every setting that no mechanism owns.
CHANGES: dict[str, object] = {
    "name": "other",
    "seed": 1,
    "count": 257,
    "size": 128,
    "fit": "pad",
    "bit_depth": 16,
    "max_pixels": 2_000,
    "allocation": "proportional",
    "sources": [{"kind": "mvtec", "path": "/data"}],
    "foreground.mode": "texture",
    "foreground.overrides": {"tile": "texture"},
    "foreground.margin_px": 3,
    "bank.trajectories": 50,
    "bank.groups": 5,
    "placement.extent": [0.5, 1.0],
    "placement.defects": [1, 3],
    "render.depth_to_width": [2.0, 3.0],
    "render.lip_height": [0.1, 0.2],
    "render.roughness": [0.2, 0.3],
    "render.debris": [0.1, 0.2],
    "render.glint": [0.1, 0.2],
    "render.gloss": [0.2, 0.3],
    "render.gloss_exponent": [10.0, 20.0],
    "render.pit_floor": [0.5, 0.6],
    "render.products": ["white"],
    "npcf.support_px": 8,
    "npcf.screening_px": 7.0,
    "npcf.crack_conductivity": 0.1,
    "npcf.tolerance": 1e-4,
    "npcf.max_cycles": 100,
    "npcfpp.wavelet": "sym4",
    "npcfpp.mode": "periodic",
    "npcfpp.levels": 3,
    "npcfpp.band_px": 8.0,
    "npcfpp.edge": 0.5,
    "npcfpp.energy": 0.5,
    "npcfpp.grain": 0.5,
    "label.visible_threshold": 10,
    "label.fade_px": 5,
    "label.restored_below": 4,
    "label.coherent_px": 5,
    "label.least_visibility": 0.5,
    "label.min_area": 1e-3,
    "label.max_area": 0.5,
    "label.attempts": 8,
    "sqe.enabled": False,
    "sqe.least": 0.5,
    "sqe.below": "drop",
    "sqe.redraws": 3,
    "store.shard_images": 64,
    "store.zstd_level": 3,
    "store.stages": ["paste", "npcf"],
    "policy": {"corpus": "last", "samples": 9, "mechanisms": {"dent": {"factor": 2.0}}},
}
SOURCE_CHANGES: dict[str, object] = {
    "kind": "visa",
    "path": "/elsewhere",
    "name": "parts",
    "categories": ["bottle"],
    "split_file": "split.csv",
    "masks": "/masks",
    "licence": "CC BY 4.0",
}


PHYSICAL = [name for name, known in MECHANISMS.items() if known.physical]
REFERENCES = [name for name in MECHANISMS if name not in PHYSICAL]
PARAMETERS = [(name, field) for name, known in MECHANISMS.items() for field in known.params.model_fields]
named = pytest.mark.parametrize("name", MECHANISMS)
each_parameter = pytest.mark.parametrize(("name", "field"), PARAMETERS, ids=[".".join(pair) for pair in PARAMETERS])


def neighbours(value: object, annotation: object) -> Iterator[object]:
    """Values of the same kind that differ a little, as a recipe would have them."""
    if isinstance(value, Distribution):
        plain = value.model_dump()
        yield plain | {"high": 0.5 * (value.low + value.high)}
        yield plain | {"low": 0.5 * value.low}
    elif isinstance(value, bool):
        yield not value
    elif isinstance(value, int):
        yield from (value + 1, value - 1, 2 * value, value // 2)
    elif isinstance(value, float):
        yield from (1.01 * value, 0.99 * value, value + 0.01)
    elif isinstance(value, tuple) and isinstance(value[0], int | float):
        low, high = value
        yield from ([low, 0.5 * (low + high)], [0.99 * low, high], [low, high + 1], [low, high - 1])
    elif isinstance(value, tuple):
        yield from ([*value[1:]], [*value, *value])
    else:
        yield from (choice for choice in get_args(annotation) if choice != value)


def changed(name: str, field: str) -> dict[str, object]:
    """A recipe of that mechanism alone with this parameter, and no other, off its default."""
    model: type[MechanismParams] = MECHANISMS[name].params
    default = getattr(model(), field)
    for value in neighbours(default, model.model_fields[field].annotation):
        try:
            if getattr(model.model_validate({field: value}), field) != default:
                return {"mechanisms": {name: {field: value}}}
        except ValidationError:
            continue
    pytest.fail(f"no other value of {name}.{field} is known here")


def nested(dotted: str, value: object) -> dict[str, object]:
    """``a.b`` and 1 as ``{"a": {"b": 1}}``."""
    for key in reversed(dotted.split(".")):
        value = {key: value}
    assert isinstance(value, dict)
    return value


def settings(model: dict[str, object], prefix: str = "") -> set[str]:
    """Dotted names of a recipe's settings; ``overrides`` is one setting, and of a mechanism only the name counts."""
    names: set[str] = set()
    for key, value in model.items():
        dotted = prefix + key
        if isinstance(value, dict) and dotted != "foreground.overrides" and prefix != "mechanisms.":
            names |= settings(value, f"{dotted}.")
        else:
            names.add(dotted)
    return names


def shuffled(value: object, draw: st.DrawFn) -> object:
    """The same tree with the keys of every mapping in another order."""
    if isinstance(value, dict):
        return {key: shuffled(value[key], draw) for key in draw(st.permutations(list(value)))}
    if isinstance(value, list):
        return [shuffled(item, draw) for item in value]
    return value


@st.composite
def recipe_trees(draw: st.DrawFn) -> tuple[dict[str, object], dict[str, object]]:
    """A valid recipe as a plain tree, and the same with its keys in another order."""
    tree = Recipe().model_dump(mode="json")
    for dotted in draw(st.lists(st.sampled_from(sorted(CHANGES)), unique=True)):
        section, _, key = dotted.rpartition(".")
        (tree[section] if section else tree)[key] = CHANGES[dotted]
    other = shuffled(tree, draw)
    assert isinstance(other, dict)
    return tree, other


def write(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def refusal(folder: Path, text: str, **overrides: object) -> str:
    """The message with which a recipe is refused; always one line."""
    with pytest.raises(ConfigError) as caught:
        load_recipe(write(folder, text), overrides=overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message


# --- what is shipped ---


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_shipped_recipe_loads_under_its_own_name(path: Path) -> None:
    assert load_recipe(path, overrides={}).name == path.stem


def test_demo_makes_at_least_256_samples_at_256_px_without_a_download() -> None:
    demo = load_recipe(ROOT / "recipes" / "demo.yaml", overrides={})
    assert (demo.count >= 256, demo.size, [spec.kind for spec in demo.sources]) == (True, 256, ["builtin"])


def test_demo_recipe_shows_every_setting_with_its_default() -> None:
    text = (ROOT / "recipes" / "demo.yaml").read_text(encoding="utf-8")
    defaults = Recipe().model_dump(mode="json")
    shown = yaml.safe_load(text)
    assert settings(shown) == settings(defaults)
    assert shown["mechanisms"] == {name: {} for name in PHYSICAL}, "their names, in the order of the registry"
    own = {"name", "count", "seed"}
    resolved = Recipe.model_validate(shown).model_dump(mode="json")
    assert {k: v for k, v in resolved.items() if k not in own} == {k: v for k, v in defaults.items() if k not in own}


def test_reference_corpus_is_115987_samples_over_30_named_categories() -> None:
    reference = load_recipe(ROOT / "recipes" / "maphc2f-115987.yaml", overrides={})
    assert reference.count == 115_987
    named = {spec.dataset: len(spec.categories) for spec in reference.sources}
    assert named == {"mvtec_ad": 15, "visa": 12, "btad": 3}
    categories = {(spec.dataset, category) for spec in reference.sources for category in spec.categories}
    assert len(categories) == 30
    assert set(reference.foreground.overrides) <= {category for _, category in categories}


def test_reference_corpus_names_the_categories_of_the_official_visa_split(real_photographs: Path) -> None:
    rows = (real_photographs / "visa_1cls.csv").read_text(encoding="utf-8").splitlines()[1:]
    reference = load_recipe(ROOT / "recipes" / "maphc2f-115987.yaml", overrides={})
    (visa,) = [spec for spec in reference.sources if spec.kind == "visa"]
    assert set(visa.categories) == {row.split(",")[0] for row in rows}


# --- keys ---


@pytest.mark.parametrize(
    ("text", "key", "nearest"),
    [
        ("cuont: 5", "cuont", "count"),
        ("foreground: {moed: auto}", "foreground.moed", "mode"),
        ("mechanisms: {fractur: {}}", "mechanisms.fractur", "fracture"),
        ("mechanisms: {fracture: {wieght: 1}}", "mechanisms.fracture.wieght", "weight"),
        ("mechanisms: {pitting: {area: {low: 0.1, hihg: 0.2}}}", "mechanisms.pitting.area.hihg", "high"),
        ("bank: {group: 5}", "bank.group", "groups"),
        ("placement: {exent: [0.1, 0.2]}", "placement.exent", "extent"),
        ("render: {ruoghness: [0.1, 0.2]}", "render.ruoghness", "roughness"),
        ("npcf: {suport_px: 5}", "npcf.suport_px", "support_px"),
        ("npcf: {max_cycle: 5}", "npcf.max_cycle", "max_cycles"),
        ("npcfpp: {wavelt: db3}", "npcfpp.wavelt", "wavelet"),
        ("placement: {defect: [1, 2]}", "placement.defect", "defects"),
        ("label: {min_aera: 0.1}", "label.min_aera", "min_area"),
        ("store: {zstdlevel: 2}", "store.zstdlevel", "zstd_level"),
        ("sources: [{kind: builtin, categroies: [brick]}]", "sources.0.categroies", "categories"),
        ("sources: [{kind: builtin}, {kind: visa, pth: /x}]", "sources.1.pth", "path"),
    ],
)
def test_unknown_key_is_refused_with_the_nearest_known_one(tmp_path: Path, text: str, key: str, nearest: str) -> None:
    message = refusal(tmp_path, text)
    assert f"unknown key {key!r}; did you mean {nearest!r}?" in message
    assert str(tmp_path / "recipe.yaml") in message


def test_unknown_key_like_no_other_is_refused_with_all_known_ones(tmp_path: Path) -> None:
    assert "known: shard_images, zstd_level, stages" in refusal(tmp_path, "store: {qqqq: 1}")


def test_repeated_key_is_refused(tmp_path: Path) -> None:
    assert "key 'sources' is given twice" in refusal(tmp_path, "sources: [{kind: builtin}]\nseed: 1\nsources: []\n")


def test_merge_key_of_yaml_still_works(tmp_path: Path) -> None:
    text = "sources:\n  - &first {kind: mvtec, path: /a, name: a}\n  - {<<: *first, path: /b, name: b}\n"
    recipe = load_recipe(write(tmp_path, text), overrides={})
    assert [(spec.kind, spec.path, spec.name) for spec in recipe.sources] == [
        ("mvtec", "/a", "a"),
        ("mvtec", "/b", "b"),
    ]


# --- values ---


@pytest.mark.parametrize(
    ("text", "key", "bound", "got"),
    [
        ("count: 0", "count", "1", "0"),
        ("count: 100000001", "count", "100000000", "100000001"),
        ("size: 7", "size", "32", "7"),
        ("size: 5000", "size", "4096", "5000"),
        ("seed: -1", "seed", "0", "-1"),
        ("seed: 9223372036854775808", "seed", "9223372036854775808", "9223372036854775808"),
        ("bank: {groups: 1}", "bank.groups", "2", "1"),
        ("store: {shard_images: 0}", "store.shard_images", ">= 1", "0"),
        ("store: {zstd_level: 20}", "store.zstd_level", "19", "20"),
        ("placement: {extent: [-0.1, 0.1]}", "placement.extent.0", "0", "-0.1"),
        ("render: {pit_floor: [0.5, 1.5]}", "render.pit_floor.1", "1", "1.5"),
        ("mechanisms: {fracture: {edge_share: 1.5}}", "mechanisms.fracture.edge_share", "1", "1.5"),
        ("mechanisms: {pitting: {grid: 16}}", "mechanisms.pitting.grid", "32", "16"),
        ("mechanisms: {pitting: {weight: -1}}", "mechanisms.pitting.weight", "0", "-1"),
        ("mechanisms: {pitting: {area: {low: 0, high: 0.1}}}", "mechanisms.pitting.area.low", "0", "0"),
        ("mechanisms: {pitting: {area: {low: 0.1, high: 3}}}", "mechanisms.pitting.area.high", "1", "3.0"),
        ("mechanisms: {fracture: {severity: {low: 2, high: 3}}}", "mechanisms.fracture.severity.high", "1", "3.0"),
        ("render: {lip_height: [-1, 0]}", "render.lip_height.0", "0", "-1"),
        ("npcf: {tolerance: 0}", "npcf.tolerance", "0", "0"),
        ("npcf: {max_cycles: 0}", "npcf.max_cycles", "1", "0"),
        ("npcfpp: {levels: 7}", "npcfpp.levels", "6", "7"),
        ("npcfpp: {edge: -1}", "npcfpp.edge", "0", "-1"),
        ("placement: {defects: [0, 2]}", "placement.defects.0", "1", "0"),
        ("placement: {defects: [1, 17]}", "placement.defects.1", "16", "17"),
    ],
)
def test_value_out_of_bounds_is_refused_with_key_bound_and_value(
    tmp_path: Path, text: str, key: str, bound: str, got: str
) -> None:
    message = refusal(tmp_path, text)
    before, _, shown = message.rpartition(", got ")
    assert f": {key}: " in before
    assert before.endswith(bound) or f"{bound}, or auto" in before
    assert shown == got


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("count: many", "count: Input should be a valid integer"),
        ("count:", "count: Input should be a valid integer, got None"),
        ("count: 1.5", "count: Input should be a valid integer"),
        ("foreground:", "foreground: expected a mapping of settings, got None"),
        ("foreground: auto", "foreground: expected a mapping of settings, got 'auto'"),
        ("sources: {kind: builtin}", "sources: expected a list"),
        ("sources: []", "sources: "),
        ("placement: {extent: 0.1}", "placement.extent: expected a list, got 0.1"),
        ("mechanisms: fracture", "mechanisms: expected a mapping of settings, got 'fracture'"),
        ("mechanisms: [fracture]", "mechanisms: expected a mapping of settings, got ['fracture']"),
        ("mechanisms: {fracture: 1}", "mechanisms.fracture: expected a mapping of settings, got 1"),
        ("mechanisms: {fracture: {area: 0.1}}", "mechanisms.fracture.area: expected a mapping of settings, got 0.1"),
        (
            "mechanisms: {fracture: {area: {kind: normal, low: 0.1, high: 0.2}}}",
            "mechanisms.fracture.area.kind: Input should be 'uniform' or 'loguniform', got 'normal'",
        ),
        ("mechanisms: {fracture: {weight: .nan}}", "mechanisms.fracture.weight: Input should be a finite number"),
        ("mechanisms: {fracture: {weight: .inf}}", "mechanisms.fracture.weight: Input should be a finite number"),
        ("bank: {trajectories: lots}", "bank.trajectories: expected a whole number >= 1, or auto, got 'lots'"),
        ("bank: {trajectories: true}", "bank.trajectories: expected a whole number >= 1, or auto, got True"),
        ("bit_depth: 12", "bit_depth: Input should be 8 or 16, got 12"),
        ("npcfpp: {mode: mirror}", "npcfpp.mode: Input should be 'zero', "),
        ("store: {stages: [pasted]}", "store.stages.0: Input should be 'paste', 'render' or 'npcf', got 'pasted'"),
        ("placement: {defects: [2, 1]}", "placement.defects: a range is [low, high] with low <= high, got [2, 1]"),
        ("fit: squash", "fit: Input should be 'crop', 'pad' or 'stretch', got 'squash'"),
        ("foreground: {overrides: {tile: cloth}}", "foreground.overrides.tile: "),
        ("name: ../up", "name: String should match pattern"),
        ("1: 2", "1: Keys should be strings"),
        ("sources: [{kind: btad, path: /x, categories: [01]}]", "put 01 or 2024 in quotes"),
    ],
)
def test_value_of_the_wrong_kind_is_refused_by_its_key(tmp_path: Path, text: str, expected: str) -> None:
    assert expected in refusal(tmp_path, text)


@pytest.mark.parametrize(
    "dotted", [d for d, v in CHANGES.items() if isinstance(v, list) and isinstance(v[0], float)], ids=lambda d: d
)
def test_range_with_its_ends_exchanged_is_refused(tmp_path: Path, dotted: str) -> None:
    ends = CHANGES[dotted]
    assert isinstance(ends, list)
    message = refusal(tmp_path, yaml.safe_dump(nested(dotted, ends[::-1])))
    assert f"{dotted}: a range is [low, high] with low <= high, got {ends[::-1]}" in message


def test_range_of_one_point_is_accepted(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, "placement: {extent: [0.5, 0.5]}"), overrides={})
    assert recipe.placement.extent == (0.5, 0.5)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("label: {coherent_px: 4}", "coherent_px must be odd, so that the square has a middle, got 4"),
        ("label: {restored_below: 9}", "restored_below must not be above visible_threshold, got 9 and 8"),
        ("label: {min_area: 0.3}", "min_area must be below max_area, got 0.3 and 0.25"),
        ("bank: {trajectories: 9}", "trajectories must be at least groups (10), got 9"),
        ("mechanisms: {fracture: {weight: 0}, pitting: {weight: 0}}", "every mechanism has weight 0"),
        ("mechanisms: {}", "every mechanism has weight 0"),
        ("mechanisms: {pitting: {area: {low: 0.2, high: 0.1}}}", "low must not be above high, got 0.2 and 0.1"),
        ("sources: [{kind: visa}]", "kind visa needs a path"),
        ("sources: [{kind: builtin, path: /x}]", "kind builtin takes no path"),
        ("sources: [{kind: folder, path: ''}]", "sources.0.path"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(tmp_path: Path, text: str, expected: str) -> None:
    assert expected in refusal(tmp_path, text)


@pytest.mark.parametrize(
    ("wavelet", "hint"),
    [
        ("bd2", "did you mean 'db2'?"),
        ("daubechies2", "did you mean 'db2'?"),
        ("DB4", "did you mean 'db4'?"),
        ("bior22", "did you mean 'bior2.2'?"),
        ("db39", "did you mean 'db"),
        ("xyz", "there are haar, db1 to db38"),  # like none of them
        ("", "there are haar, db1 to db38"),
    ],
)
def test_wavelet_that_is_not_discrete_is_refused_with_the_nearest_name(tmp_path: Path, wavelet: str, hint: str) -> None:
    message = refusal(tmp_path, f"npcfpp: {{wavelet: '{wavelet}'}}")
    assert f"npcfpp.wavelet: expected a discrete wavelet of PyWavelets, got {wavelet!r}; {hint}" in message


def test_wavelet_of_continuous_analysis_is_refused(tmp_path: Path) -> None:
    assert "npcfpp.wavelet: expected a discrete wavelet" in refusal(tmp_path, "npcfpp: {wavelet: morl}")


@pytest.mark.parametrize("wavelet", ["haar", "db38", "sym20", "bior6.8", "dmey"])
def test_every_discrete_wavelet_is_accepted(wavelet: str) -> None:
    assert Recipe.model_validate({"npcfpp": {"wavelet": wavelet}}).npcfpp.wavelet == wavelet


def test_seed_0_of_the_command_line_is_a_seed(tmp_path: Path) -> None:
    assert load_recipe(write(tmp_path, "seed: 7"), overrides={"seed": 0}).seed == 0


def test_command_line_wins_over_the_recipe(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, "seed: 7\ncount: 5"), overrides={"count": 9})
    assert (recipe.seed, recipe.count) == (7, 9)


def test_bad_option_is_blamed_on_the_command_line_and_not_on_the_recipe(tmp_path: Path) -> None:
    message = refusal(tmp_path, "count: 5", size=7)
    assert message.startswith("command line: size: ")
    assert "recipe.yaml" not in message


def test_no_recipe_means_the_defaults() -> None:
    assert load_recipe(None, overrides={}) == Recipe()


# --- files ---


def test_empty_recipe_means_the_defaults(tmp_path: Path) -> None:
    assert load_recipe(write(tmp_path, "# nothing yet\n"), overrides={}) == Recipe()


@pytest.mark.parametrize("text", ["[]", "false", "- count: 5", "just text", "12"])
def test_recipe_that_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    assert "expected a mapping of settings" in refusal(tmp_path, text)


def test_broken_yaml_is_refused_with_its_line(tmp_path: Path) -> None:
    message = refusal(tmp_path, "count: 5\nsources: [")
    assert "not valid YAML" in message
    assert "line 2" in message


def test_yaml_that_would_run_code_is_refused(tmp_path: Path) -> None:
    assert "not valid YAML" in refusal(tmp_path, "name: !!python/object/apply:os.getcwd []")


def test_missing_recipe_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot be read"):
        load_recipe(tmp_path / "none.yaml", overrides={})


def test_recipe_that_is_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_recipe(tmp_path, overrides={})


def test_recipe_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_recipe(tmp_path / "recipe.yaml", overrides={})


# --- the frozen tree ---


def test_recipe_cannot_be_changed() -> None:
    recipe = Recipe()
    with pytest.raises(ValidationError, match="frozen"):
        recipe.seed = 3  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        recipe.mechanisms.fracture = None  # type: ignore[attr-defined]
    with pytest.raises(ValidationError, match="frozen"):
        recipe.params("fracture").grid = 64  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        recipe.params("fracture").area.low = 0.5  # type: ignore[misc]


@given(recipe_trees())
def test_recipe_survives_json_and_yaml(trees: tuple[dict[str, object], dict[str, object]]) -> None:
    recipe = Recipe.model_validate(trees[0])
    dumped = recipe.model_dump(mode="json")
    assert Recipe.model_validate(json.loads(json.dumps(dumped))) == recipe
    assert Recipe.model_validate(yaml.safe_load(yaml.safe_dump(dumped))) == recipe


# --- the hash ---


def test_a_change_is_listed_here_for_every_setting() -> None:
    of_mechanisms = {f"mechanisms.{name}" for name in MECHANISMS}
    left_out = {"policy", *(f"mechanisms.{name}" for name in REFERENCES)}  # no part of the JSON where there is none
    assert set(CHANGES) | of_mechanisms == settings(Recipe().model_dump(mode="json")) | left_out
    assert set(SOURCE_CHANGES) == set(SourceSpec.model_fields)


@pytest.mark.parametrize("dotted", CHANGES)
def test_hash_changes_with_every_setting(dotted: str) -> None:
    other = Recipe.model_validate(nested(dotted, CHANGES[dotted]))
    assert config_sha256(other) != config_sha256(Recipe())


@each_parameter
def test_hash_changes_with_every_parameter_of_every_mechanism(name: str, field: str) -> None:
    plain = Recipe.model_validate({"mechanisms": {name: {}}})
    assert config_sha256(Recipe.model_validate(changed(name, field))) != config_sha256(plain)


def test_hash_changes_with_the_mechanisms_that_take_part() -> None:
    parts = [{}, *({"mechanisms": {name: {}}} for name in MECHANISMS)]
    assert len({config_sha256(Recipe.model_validate(part)) for part in parts}) == 1 + len(MECHANISMS)


@pytest.mark.parametrize("key", SOURCE_CHANGES)
def test_hash_changes_with_every_setting_of_a_source(key: str) -> None:
    plain = {"kind": "mvtec", "path": "/data"}
    hashes = {
        config_sha256(Recipe.model_validate({"sources": [spec]}))
        for spec in (plain, plain | {key: SOURCE_CHANGES[key]})
    }
    assert len(hashes) == 2


def test_hash_changes_with_the_order_of_sources() -> None:
    specs = [{"kind": "folder", "path": "/a", "name": "a"}, {"kind": "folder", "path": "/b", "name": "b"}]
    assert config_sha256(Recipe.model_validate({"sources": specs})) != config_sha256(
        Recipe.model_validate({"sources": specs[::-1]})
    )


@given(recipe_trees(), st.booleans(), st.integers(1, 8), st.integers(10, 120))
def test_hash_is_blind_to_key_order_and_yaml_layout(
    trees: tuple[dict[str, object], dict[str, object]], flow: bool, indent: int, width: int
) -> None:
    tree, other = trees
    text = yaml.safe_dump(other, default_flow_style=flow, indent=indent, width=width, sort_keys=False)
    again = Recipe.model_validate(yaml.safe_load(text))
    assert config_sha256(again) == config_sha256(Recipe.model_validate(tree))


def test_hash_is_blind_to_defaults_written_out_and_to_whole_numbers_as_floats() -> None:
    plain = config_sha256(Recipe())
    assert config_sha256(Recipe.model_validate({"foreground": {"mode": "auto"}})) == plain
    every: dict[str, object] = {name: {"weight": 1} for name in reversed(PHYSICAL)}
    assert config_sha256(Recipe.model_validate({"mechanisms": every})) == plain
    assert config_sha256(Recipe.model_validate({"npcf": {"screening_px": 6}})) == plain


def test_recipe_without_a_policy_is_written_and_hashed_as_before_there_were_any() -> None:
    plain = Recipe()
    assert "policy" not in plain.model_dump(mode="json")
    assert "policy" not in json.loads(plain.model_dump_json())
    content = {name: plain.model_dump(mode="json")[name] for name in Recipe.model_fields if name != "policy"}
    assert config_sha256(plain) == sha256_bytes(canonical_json(content))
    assert config_sha256(Recipe.model_validate({"policy": None})) == config_sha256(plain)


def test_hash_does_not_depend_on_the_hash_seed_of_the_process() -> None:
    overrides = "{'carpet': 'texture', 'wood': 'texture', 'bottle': 'object', 'tile': 'texture', 'zipper': 'object'}"
    program = (
        "from pipeline.recipe import Recipe, config_sha256\n"
        f"print(config_sha256(Recipe.model_validate({{'foreground': {{'overrides': {overrides}}}}})))\n"
    )
    hashes = [
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert hashes[0] == hashes[1]
    assert len(hashes[0].strip()) == 64


# --- the schema ---


def test_schema_describes_every_setting() -> None:
    schema = Recipe.model_json_schema()
    sections = {"Recipe": schema, **schema["$defs"]}
    silent = [
        f"{section}.{key}"
        for section, content in sections.items()
        for key, field in content["properties"].items()
        if not (field.get("description") or schema["$defs"].get(field.get("$ref", "")[8:], {}).get("description"))
    ]
    assert silent == []


@each_parameter
def test_schema_tells_unit_and_meaning_of_every_parameter_of_every_mechanism(name: str, field: str) -> None:
    told: dict[str, Any] = MECHANISMS[name].params.model_json_schema()["properties"][field]
    assert told["unit"].strip()
    meaning, _, unit = told["description"].rpartition(" [")
    assert unit == f"{told['unit']}]"
    assert len(meaning) > 8
    assert Recipe.model_json_schema()["$defs"][MECHANISMS[name].params.__name__]["properties"][field] == told


@named
def test_parameters_of_every_mechanism_have_those_that_all_share(name: str) -> None:
    params = MECHANISMS[name].params()
    assert isinstance(params, MechanismParams)
    assert set(MechanismParams.model_fields) <= set(type(params).model_fields)
    assert params.severity.high <= 1.0
    assert params.area.high <= 1.0


def test_schema_states_bounds_and_refuses_unknown_keys() -> None:
    schema = Recipe.model_json_schema()
    assert schema["properties"]["size"]["minimum"] == 32
    assert schema["properties"]["count"]["minimum"] == 1
    assert all(content["additionalProperties"] is False for content in (schema, *schema["$defs"].values()))


# --- mechanisms ---


def test_recipe_without_mechanisms_has_all_physical_ones_with_their_defaults() -> None:
    assert Recipe().mechanisms.named() == {name: MECHANISMS[name].params() for name in PHYSICAL}
    assert list(Recipe().mechanism_weights()) == PHYSICAL


@pytest.mark.parametrize("name", REFERENCES)
def test_reference_generators_take_part_only_where_they_are_named(name: str) -> None:
    assert not MECHANISMS[name].physical
    assert getattr(Recipe().mechanisms, name) is None
    assert name not in Recipe().model_dump(mode="json")["mechanisms"]
    named_alone = Recipe.model_validate({"mechanisms": {name: {}, "dent": {}}})
    assert named_alone.mechanism_weights() == {"dent": 1.0, name: 1.0}
    assert name in named_alone.model_dump(mode="json")["mechanisms"]
    assert Recipe.model_validate(named_alone.model_dump(mode="json")) == named_alone


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_shipped_recipes_are_of_physics_alone_but_for_those_that_say_hybrid(path: Path) -> None:
    weights = load_recipe(path, overrides={}).mechanism_weights()
    assert set(weights) <= set(PHYSICAL) or "hybrid" in path.stem
    assert "hybrid" not in path.stem or set(weights) == set(MECHANISMS)


@pytest.mark.parametrize("mechanisms", [PHYSICAL, ["dent"]], ids=["all", "one"])
def test_recipe_without_reference_generators_is_written_and_hashed_as_before_there_were_any(
    mechanisms: list[str],
) -> None:
    content = Recipe.model_validate({"mechanisms": {name: {} for name in mechanisms}}).model_dump(mode="json")
    assert list(content["mechanisms"]) == PHYSICAL, "null for one that takes no part"


def test_mechanisms_that_are_not_named_take_no_part(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, "mechanisms: {pitting: {weight: 3}, fracture: {grid: 64}}"), overrides={})
    assert recipe.mechanism_weights() == {"fracture": 1.0, "pitting": 3.0}, "in the order of the registry"
    assert recipe.params("fracture").grid == 64
    assert recipe.params("pitting").grid == MECHANISMS["pitting"].params().grid
    with pytest.raises(KeyError):
        recipe.params("warp")


def test_mechanism_of_weight_0_takes_no_part_and_keeps_its_parameters() -> None:
    recipe = Recipe.model_validate({"mechanisms": {"pitting": {"weight": 0, "grid": 64}, "fracture": {}}})
    assert recipe.mechanism_weights() == {"fracture": 1.0}
    assert recipe.params("pitting").grid == 64


def test_policy_of_a_mechanism_that_there_is_not_is_refused_and_one_that_takes_no_part_is_ignored(
    tmp_path: Path,
) -> None:
    text = "mechanisms: {{fracture: {{}}}}\npolicy: {{corpus: a, samples: 1, mechanisms: {{{}: {{factor: 2}}}}}}"
    assert "policy: there is no mechanism 'rust'; there are fracture, " in refusal(tmp_path, text.format("rust"))
    assert load_recipe(write(tmp_path, text.format("dent")), overrides={}).mechanism_weights() == {"fracture": 1.0}


def test_only_some_mechanisms_keep_what_the_recipe_says_of_them_and_others_their_defaults() -> None:
    recipe = Recipe.model_validate({"seed": 3, "mechanisms": {"fracture": {"grid": 64}, "warp": {}}})
    some = only_mechanisms(recipe, ["pitting", "fracture", "pitting"])
    assert some.mechanisms.named() == {
        "fracture": MECHANISMS["fracture"].params(grid=64),
        "pitting": MECHANISMS["pitting"].params(),
    }
    assert some.seed == 3
    assert Recipe.model_validate(some.model_dump(mode="json")) == some
    written = Recipe.model_validate({"seed": 3, "mechanisms": {"fracture": {"grid": 64}, "pitting": {}}})
    assert config_sha256(some) == config_sha256(written)


def test_only_a_mechanism_that_there_is_not_is_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match="--mechanism rust: there is none of this name; there are fracture, "):
        only_mechanisms(Recipe(), ["fracture", "rust"])


def test_only_a_mechanism_of_weight_0_is_refused() -> None:
    recipe = Recipe.model_validate({"mechanisms": {"pitting": {"weight": 0}, "fracture": {}}})
    with pytest.raises(ConfigError, match="--mechanism pitting: the recipe gives it weight 0"):
        only_mechanisms(recipe, ["pitting"])
