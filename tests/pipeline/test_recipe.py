"""The recipe: what is accepted, what is refused and in which words, and what decides its hash."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from manifests.config import SourceSpec, expand_path, parse_source
from pipeline.recipe import Recipe, config_sha256, load_recipe
from manifests.errors import ConfigError

ROOT = Path(__file__).resolve().parent.parent.parent
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))

# One valid value other than the default for every setting of the tree.
CHANGES: dict[str, object] = {
    "name": "other",
    "seed": 1,
    "count": 257,
    "size": 128,
    "fit": "pad",
    "max_pixels": 2_000,
    "allocation": "proportional",
    "sources": [{"kind": "mvtec", "path": "/data"}],
    "foreground.mode": "texture",
    "foreground.overrides": {"tile": "texture"},
    "foreground.margin_px": 3,
    "fracture.weight": 2.0,
    "fracture.grid": 64,
    "fracture.length_ratio": 2.5,
    "fracture.residual_stiffness": 1e-3,
    "fracture.toughness_sigma": [0.1, 0.2],
    "fracture.correlation_cells": [2.0, 3.0],
    "fracture.notch_fraction": [0.1, 0.2],
    "fracture.edge_share": 0.25,
    "fracture.snapshots": 12,
    "bank.trajectories": 50,
    "bank.groups": 5,
    "placement.extent": [0.5, 1.0],
    "placement.width": [0.01, 0.02],
    "placement.growth": [0.5, 1.0],
    "render.depth_to_width": [2.0, 3.0],
    "render.lip_height": [0.1, 0.2],
    "render.roughness": [0.2, 0.3],
    "render.debris": [0.1, 0.2],
    "render.glint": [0.1, 0.2],
    "npcf.support_px": 8,
    "npcf.screening_px": 7.0,
    "npcf.crack_conductivity": 0.1,
    "npcf.tolerance": 1e-4,
    "npcf.max_iterations": 100,
    "label.visible_threshold": 10,
    "label.min_area": 1e-3,
    "label.max_area": 0.5,
    "label.attempts": 8,
    "store.shard_images": 64,
    "store.zstd_level": 3,
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


def nested(dotted: str, value: object) -> dict[str, object]:
    """``a.b`` and 1 as ``{"a": {"b": 1}}``."""
    for key in reversed(dotted.split(".")):
        value = {key: value}
    assert isinstance(value, dict)
    return value


def settings(model: dict[str, object], prefix: str = "") -> set[str]:
    """Dotted names of a recipe's settings; ``overrides`` is one setting, whatever categories it names."""
    names: set[str] = set()
    for key, value in model.items():
        dotted = prefix + key
        if isinstance(value, dict) and dotted != "foreground.overrides":
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
        ("fracture: {wieght: 1}", "fracture.wieght", "weight"),
        ("bank: {group: 5}", "bank.group", "groups"),
        ("placement: {widht: [0.1, 0.2]}", "placement.widht", "width"),
        ("render: {ruoghness: [0.1, 0.2]}", "render.ruoghness", "roughness"),
        ("npcf: {suport_px: 5}", "npcf.suport_px", "support_px"),
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
    assert "known: shard_images, zstd_level" in refusal(tmp_path, "store: {qqqq: 1}")


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
        ("placement: {width: [-0.1, 0.1]}", "placement.width.0", "0", "-0.1"),
        ("placement: {growth: [0.5, 1.5]}", "placement.growth.1", "1", "1.5"),
        ("render: {lip_height: [-1, 0]}", "render.lip_height.0", "0", "-1"),
        ("npcf: {tolerance: 0}", "npcf.tolerance", "0", "0"),
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
        ("placement: {width: 0.1}", "placement.width: expected a list, got 0.1"),
        ("fracture: {weight: .nan}", "fracture.weight: Input should be a finite number"),
        ("fracture: {weight: .inf}", "fracture.weight: Input should be a finite number"),
        ("bank: {trajectories: lots}", "bank.trajectories: expected a whole number >= 1, or auto, got 'lots'"),
        ("bank: {trajectories: true}", "bank.trajectories: expected a whole number >= 1, or auto, got True"),
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
    "dotted", [d for d, v in CHANGES.items() if isinstance(v, list) and d != "sources"], ids=lambda d: d
)
def test_range_with_its_ends_exchanged_is_refused(tmp_path: Path, dotted: str) -> None:
    ends = CHANGES[dotted]
    assert isinstance(ends, list)
    message = refusal(tmp_path, yaml.safe_dump(nested(dotted, ends[::-1])))
    assert f"{dotted}: a range is [low, high] with low <= high, got {ends[::-1]}" in message


def test_range_of_one_point_is_accepted(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, "placement: {width: [0.01, 0.01]}"), overrides={})
    assert recipe.placement.width == (0.01, 0.01)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("label: {min_area: 0.3}", "min_area must be below max_area, got 0.3 and 0.25"),
        ("bank: {trajectories: 9}", "trajectories must be at least groups (10), got 9"),
        ("fracture: {weight: 0}", "every mechanism has weight 0"),
        ("sources: [{kind: visa}]", "kind visa needs a path"),
        ("sources: [{kind: builtin, path: /x}]", "kind builtin takes no path"),
        ("sources: [{kind: folder, path: ''}]", "sources.0.path"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(tmp_path: Path, text: str, expected: str) -> None:
    assert expected in refusal(tmp_path, text)


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
        recipe.fracture.grid = 64  # type: ignore[misc]


@given(recipe_trees())
def test_recipe_survives_json_and_yaml(trees: tuple[dict[str, object], dict[str, object]]) -> None:
    recipe = Recipe.model_validate(trees[0])
    dumped = recipe.model_dump(mode="json")
    assert Recipe.model_validate(json.loads(json.dumps(dumped))) == recipe
    assert Recipe.model_validate(yaml.safe_load(yaml.safe_dump(dumped))) == recipe


# --- the hash ---


def test_a_change_is_listed_here_for_every_setting() -> None:
    assert set(CHANGES) == settings(Recipe().model_dump(mode="json"))
    assert set(SOURCE_CHANGES) == set(SourceSpec.model_fields)


@pytest.mark.parametrize("dotted", CHANGES)
def test_hash_changes_with_every_setting(dotted: str) -> None:
    changed = Recipe.model_validate(nested(dotted, CHANGES[dotted]))
    assert config_sha256(changed) != config_sha256(Recipe())


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
    assert config_sha256(Recipe.model_validate({"fracture": {"weight": 1}, "npcf": {"screening_px": 6}})) == plain


def test_hash_does_not_depend_on_the_hash_seed_of_the_process() -> None:
    overrides = "{'carpet': 'texture', 'wood': 'texture', 'bottle': 'object', 'tile': 'texture', 'zipper': 'object'}"
    program = (
        "from manifests.config import Recipe, config_sha256\n"
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


def test_schema_states_bounds_and_refuses_unknown_keys() -> None:
    schema = Recipe.model_json_schema()
    assert schema["properties"]["size"]["minimum"] == 32
    assert schema["properties"]["count"]["minimum"] == 1
    assert all(content["additionalProperties"] is False for content in (schema, *schema["$defs"].values()))
