"""What the documentation shows is true: the example mechanism runs and keeps the rules that it explains."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from physics.mechanism import turn_array
from pipeline.mechanism_reference import mechanism_reference

DOCS = Path(__file__).resolve().parent.parent / "docs"


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """The module that docs/adding-a-mechanism.md prints."""
    block = re.search(r"```python\n(.*?)```", (DOCS / "adding-a-mechanism.md").read_text(), re.DOTALL)
    assert block is not None
    path = tmp_path_factory.mktemp("docs") / "scratch.py"
    path.write_text(block.group(1))
    spec = importlib.util.spec_from_file_location("documented_scratch", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["documented_scratch"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("seed", range(4))
def test_documented_mechanism_keeps_the_rules(scratch: ModuleType, seed: int) -> None:
    params = scratch.ScratchParams()
    trajectory = scratch.simulate(params, np.random.default_rng(seed))
    depth = trajectory.fields["depth"]
    assert depth.shape == (params.snapshots, params.grid, params.grid)
    assert (np.diff(depth, axis=0) >= 0).all()
    assert_allclose(trajectory.severity[-1], 1.0)
    assert 0 < trajectory.area[0] <= trajectory.area[-1] < 0.1
    border = np.concatenate([depth[-1, 0], depth[-1, -1], depth[-1, :, 0], depth[-1, :, -1]])
    assert border.max() == 0


def test_documented_mechanism_turns_and_refines(scratch: ModuleType) -> None:
    params = scratch.ScratchParams()
    specimen = scratch.draw(params, np.random.default_rng(2), from_edge=False)
    trajectory = scratch.MECHANISM.grow(params, specimen)
    for dihedral in range(8):
        turned = scratch.MECHANISM.grow(params, scratch.turn(specimen, dihedral))
        assert_array_equal(turned.fields["depth"], turn_array(trajectory.fields["depth"], dihedral))
    fine = scratch.MECHANISM.grow(*scratch.refine(params, specimen))
    assert fine.fields["depth"].shape[1] == 2 * params.grid
    assert_allclose(fine.area[-1], trajectory.area[-1], rtol=0.05)


def test_reference_of_mechanisms_is_up_to_date() -> None:
    """Write it anew with `maphc2f mechanisms --markdown > docs/mechanisms.md`."""
    assert (DOCS / "mechanisms.md").read_text(encoding="utf-8") == mechanism_reference()


PAGES = sorted(
    [DOCS.parent / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")] + list(DOCS.glob("*.md"))
)


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_every_link_and_picture_is_there(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
    lost = [target for target in targets if "://" not in target and not (page.parent / target).exists()]
    assert not lost


def test_every_picture_is_shown() -> None:
    shown = {
        (page.parent / target).resolve()
        for page in PAGES
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
    }
    kept = {path for path in (DOCS / "pictures").rglob("*") if path.is_file()}
    assert kept <= shown
