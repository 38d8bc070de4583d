"""The project's own files: what a clone, the checks and the container are built from agrees with itself."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from manifests import __version__

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGES = ("manifests", "physics", "refine", "pipeline", "bisqad")
TARGETS = ("install", "demo", "test", "check", "bench", "clean", "help")
# Of the text at apache.org/licenses/LICENSE-2.0.txt.
APACHE_2_SHA256 = "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"
FOLDERS = (*PACKAGES, "tests", "benchmarks", "docs", "recipes", ".ci")


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def pins() -> dict[str, Version]:
    """Pinned version by canonical name."""
    lines = [line for line in text("constraints.txt").splitlines() if line and not line.startswith("#")]
    found = [re.fullmatch(r"([a-z0-9-]+)==([0-9][0-9a-z.]*)", line) for line in lines]
    assert all(found), [line for line, match in zip(lines, found, strict=True) if not match]
    names = [match[1] for match in found if match]
    assert len(names) == len(set(names))
    return {match[1]: Version(match[2]) for match in found if match}


def instructions() -> list[tuple[str, str]]:
    """Instruction and argument of every line of the Dockerfile, continued lines joined."""
    lines = [line for line in text("Dockerfile").splitlines() if line and not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in joined.splitlines())]


def makefile_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):(?!=)", text("Makefile"), flags=re.MULTILINE))


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MAKELEVEL", "MFLAGS"}}
    return subprocess.run(["make", *arguments], cwd=folder, env=env, capture_output=True, text=True, check=False)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with what the Makefile looks at, and a .venv that counts as installed since this second."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
        os.utime(tmp_path / name, (1_000_000_000, 1_000_000_000))
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").touch()
    return tmp_path


# --- licence, version, changelog ---


def test_licence_is_apache_2_to_the_letter() -> None:
    assert hashlib.sha256((ROOT / "LICENSE").read_bytes()).hexdigest() == APACHE_2_SHA256
    assert PROJECT["project"]["license"] == "Apache-2.0"


def test_version_is_written_in_one_place_and_opens_the_changelog() -> None:
    assert "version" in PROJECT["project"]["dynamic"]
    assert PROJECT["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "manifests.__version__"}
    headings = re.findall(r"^## \[([^\]]+)\]", text("CHANGELOG.md"), flags=re.MULTILINE)
    released = [heading for heading in headings if heading != "Unreleased"]
    assert Version(released[0]) == Version(__version__)


# --- dependencies ---


def test_torch_is_pinned_to_the_tested_release() -> None:
    assert str(pins()["torch"]) == "2.13.0"


@pytest.mark.parametrize("extra", ["", *PROJECT["project"]["optional-dependencies"]])
def test_every_dependency_is_pinned_to_a_release_that_pyproject_allows(extra: str) -> None:
    project = PROJECT["project"]
    wanted = [
        Requirement(line) for line in (project["optional-dependencies"][extra] if extra else project["dependencies"])
    ]
    pinned = pins()
    wrong = [
        str(requirement)
        for requirement in wanted
        if (version := pinned.get(canonicalize_name(requirement.name))) is None or version not in requirement.specifier
    ]
    assert wrong == []


def indirect(name: str, seen: set[str]) -> Iterator[str]:
    """Canonical names of all that an installed distribution asks for without extras."""
    for line in importlib.metadata.requires(name) or []:
        requirement = Requirement(line)
        child = canonicalize_name(requirement.name)
        if child in seen or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        seen.add(child)
        yield child
        yield from indirect(child, seen)


def test_every_indirect_dependency_is_pinned() -> None:
    seen: set[str] = set()
    names = {child for line in PROJECT["project"]["dependencies"] for child in indirect(Requirement(line).name, seen)}
    # A torch build with CUDA pins its own CUDA libraries, exactly.
    names = {name for name in names if not name.startswith(("nvidia-", "cuda-", "triton"))}
    assert names - set(pins()) == set()


def registry_hosts() -> list[str]:
    # Put together here, or this file would be found.
    return [
        ".".join(parts)
        for parts in (("pypi", "org"), ("pythonhosted", "org"), ("download", "pytorch"), ("conda", "anaconda"))
    ]


def test_no_file_names_a_package_registry() -> None:
    files = [path for path in ROOT.iterdir() if path.is_file()]
    files += [path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.is_file()]
    files = [path for path in files if "__pycache__" not in path.parts]
    assert ROOT / "Makefile" in files
    found = [(path, host) for path in files for host in registry_hosts() if host.encode() in path.read_bytes()]
    assert found == []


# --- layers ---


def test_every_package_is_installed_linted_and_type_checked() -> None:
    tool = PROJECT["tool"]
    assert tool["setuptools"]["packages"]["find"]["include"] == [f"{package}*" for package in PACKAGES]
    assert sorted(tool["importlinter"]["root_packages"]) == sorted(PACKAGES)
    assert sorted(tool["mypy"]["packages"]) == sorted(PACKAGES)
    assert sorted(tool["setuptools"]["package-data"]) == sorted(PACKAGES)
    assert all((ROOT / package / "py.typed").is_file() for package in PACKAGES)


def test_layers_are_pipeline_over_refine_and_physics_over_manifests() -> None:
    contracts = PROJECT["tool"]["importlinter"]["contracts"]
    (layers,) = [contract for contract in contracts if contract["type"] == "layers"]
    assert layers["layers"] == ["pipeline", "refine | physics", "manifests"]


@pytest.mark.parametrize(
    ("package", "statement"),
    [
        ("physics", "import refine"),
        ("refine", "import physics"),
        ("manifests", "import pipeline"),
        ("physics", "import torch"),
        ("pipeline", "import torch"),
        ("refine", "import numba"),
        ("refine", "import dask.array"),
        ("pipeline", "import zarr"),
        ("bisqad", "import pipeline"),
        ("bisqad", "import physics"),
        ("bisqad", "import refine.passes"),
        ("bisqad", "import zarr"),
        ("refine", "import bisqad"),
    ],
)
def test_import_across_the_layers_is_found(tmp_path: Path, package: str, statement: str) -> None:
    for name in PACKAGES:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()
    # What the contracts name by module has to exist for the linter to start.
    for name in ("passes", "render", "npcf", "npcfpp"):
        (tmp_path / "refine" / f"{name}.py").touch()
    # The exceptions that pyproject.toml grants have to exist for the linter to start.
    (tmp_path / "pipeline" / "store.py").write_text("import zarr\n", encoding="utf-8")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    assert lint_imports(tmp_path).returncode == 0, lint_imports(tmp_path).stdout
    (tmp_path / package / "wrong.py").write_text(f"{statement}\n", encoding="utf-8")
    result = lint_imports(tmp_path)
    assert result.returncode == 1
    assert f"{package}.wrong" in result.stdout


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    tool = Path(sys.executable).with_name("lint-imports")
    return subprocess.run([tool, "--no-cache"], cwd=folder, capture_output=True, text=True, check=False)


# --- Makefile ---


def test_make_has_every_target() -> None:
    assert makefile_targets() >= set(TARGETS)


def test_make_alone_lists_every_target() -> None:
    result = make(ROOT)
    assert result.returncode == 0, result.stderr
    listed = {line.split()[1] for line in result.stdout.splitlines()}
    assert listed == makefile_targets()


@pytest.mark.parametrize("target", TARGETS)
def test_make_knows_how_to_reach_every_target_from_a_bare_checkout(checkout: Path, target: str) -> None:
    shutil.rmtree(checkout / ".venv")
    result = make(checkout, "-n", target)
    assert result.returncode == 0, result.stderr


def test_demo_generates_verifies_reports_and_draws(checkout: Path) -> None:
    (checkout / ".venv" / ".installed").touch()
    lines = make(checkout, "-n", "demo").stdout.splitlines()
    commands = [line.split()[1] for line in lines if line.startswith(".venv/bin/maphc2f ")]
    assert commands == ["generate", "verify", "info", "sheet"]
    assert "demo/sheet.png" in lines[-1]


@pytest.mark.parametrize(
    ("stamps", "target", "installs"),
    [
        ([], "demo", True),
        ([".installed"], "demo", False),
        ([".installed"], "test", True),
        ([".installed", ".installed-dev"], "test", False),
        ([".installed", ".installed-dev"], "check", False),
        ([".installed", ".installed-dev"], "demo", False),
    ],
)
def test_make_installs_only_what_is_missing(checkout: Path, stamps: list[str], target: str, installs: bool) -> None:
    for stamp in stamps:
        (checkout / ".venv" / stamp).touch()
    assert ("pip" in make(checkout, "-n", target).stdout) == installs


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_make_installs_again_when_dependencies_change(checkout: Path, name: str) -> None:
    (checkout / ".venv" / ".installed").touch()
    later = (checkout / ".venv" / ".installed").stat().st_mtime + 10
    os.utime(checkout / name, (later, later))
    assert "pip" in make(checkout, "-n", "demo").stdout


def test_make_installs_under_the_constraints() -> None:
    installs = [line for line in text("Makefile").splitlines() if "$(PIP) install" in line]
    assert len(installs) == 2
    assert all("--constraint constraints.txt" in line for line in installs)


@pytest.mark.parametrize("answer", ["exit 1", None])
def test_make_says_which_python_it_needs(checkout: Path, answer: str | None) -> None:
    shutil.rmtree(checkout / ".venv")
    old = checkout / "old-python"
    if answer is not None:
        old.write_text(f"#!/bin/sh\n{answer}\n", encoding="utf-8")
        old.chmod(0o755)
    result = make(checkout, "install", f"PYTHON={old}")
    assert result.returncode != 0
    assert "needs Python 3.11 or newer" in result.stderr
    assert not (checkout / ".venv").exists()


def test_check_runs_every_tool() -> None:
    recipe = text("Makefile").partition("\ncheck:")[2].partition("\n\n")[0]
    commands = [line.split("$(BIN)/")[1] for line in recipe.splitlines()[1:]]
    assert commands == ["ruff check .", "ruff format --check .", "mypy", "lint-imports", "deptry ."]
    assert PROJECT["tool"]["mypy"]["strict"] is True


# --- continuous integration and hooks ---


def run_ci(folder: Path, failing: str) -> tuple[int, list[str]]:
    """Exit status of .ci/run with a `make` that fails on one target, and the targets it was asked for."""
    (folder / "make").write_text(f'#!/bin/sh\necho "$@" >> {folder}/asked\n[ "$1" != "{failing}" ]\n', encoding="utf-8")
    (folder / "make").chmod(0o755)
    env = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
    status = subprocess.run([ROOT / ".ci" / "run"], env=env, check=False, capture_output=True).returncode
    return status, (folder / "asked").read_text(encoding="utf-8").splitlines()


def test_ci_runs_check_and_test(tmp_path: Path) -> None:
    assert run_ci(tmp_path, failing="nothing") == (0, ["check", "test"])


@pytest.mark.parametrize(("failing", "asked"), [("check", ["check"]), ("test", ["check", "test"])])
def test_ci_fails_with_either(tmp_path: Path, failing: str, asked: list[str]) -> None:
    assert run_ci(tmp_path, failing=failing) == (1, asked)


def test_ci_is_strict_bash() -> None:
    lines = text(".ci/run").splitlines()
    assert lines[0] == "#!/usr/bin/env bash"
    assert "set -euo pipefail" in lines


def test_hooks_run_the_tools_of_make_check() -> None:
    config = yaml.safe_load(text(".pre-commit-config.yaml"))
    entries = [hook["entry"].split() for repo in config["repos"] for hook in repo["hooks"]]
    assert [repo["repo"] for repo in config["repos"]] == ["local"]
    for command in entries:
        assert command[0].startswith(".venv/bin/")
        assert f"$(BIN)/{command[0].removeprefix('.venv/bin/')}" in text("Makefile")


# --- container ---


def test_container_starts_as_maphc2f_and_not_as_root() -> None:
    users = [argument for word, argument in instructions() if word == "USER"]
    assert users
    assert users[-1].split(":")[0] not in {"root", "0"}
    assert f" {users[-1]}" in next(argument for word, argument in instructions() if "useradd" in argument)
    (entrypoint,) = [argument for word, argument in instructions() if word == "ENTRYPOINT"]
    assert json.loads(entrypoint) == ["maphc2f"]
    assert "maphc2f" in PROJECT["project"]["scripts"]


def test_container_installs_by_the_makefile_as_root_and_then_steps_down() -> None:
    steps = instructions()
    install = next(i for i, (word, argument) in enumerate(steps) if word == "RUN" and argument.endswith("install"))
    assert "make" in shlex.split(steps[install][1])
    assert install < next(i for i, (word, _) in enumerate(steps) if word == "USER")


def test_container_uses_targets_that_exist() -> None:
    used = [
        target
        for word, argument in instructions()
        if word == "RUN"
        for command in argument.split("&&")
        if "make" in (words := shlex.split(command)) and "apt-get" not in words
        for target in words[words.index("make") + 1 :]
        if not target.startswith("-")
    ]
    assert used
    assert set(used) <= makefile_targets()


def test_container_copies_what_exists() -> None:
    copies = [shlex.split(argument) for word, argument in instructions() if word in {"COPY", "ADD"}]
    sources = [word for words in copies for word in words[:-1] if not word.startswith("--")]
    assert sources
    assert [source for source in sources if not (ROOT / source).exists()] == []


def test_container_warms_the_numba_cache_as_its_own_user() -> None:
    steps = instructions()
    words = [word for word, _ in steps]
    warm = next(i for i, (word, argument) in enumerate(steps) if word == "RUN" and "maphc2f generate" in argument)
    cache = next(i for i, (word, argument) in enumerate(steps) if word == "ENV" and "NUMBA_CACHE_DIR=" in argument)
    assert cache < words.index("USER") < warm


def test_container_python_is_new_enough() -> None:
    (base,) = [argument for word, argument in instructions() if word == "FROM"]
    match = re.fullmatch(r"python:(\d+\.\d+)-slim", base)
    assert match is not None
    assert Version(match[1]) in Requirement(f"python{PROJECT['project']['requires-python']}").specifier


def test_docker_context_holds_what_the_install_needs_and_no_pictures() -> None:
    lines = [line for line in text(".dockerignore").splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    kept = {line.removeprefix("!") for line in lines if line.startswith("!")}
    project = PROJECT["project"]
    needed = {"Makefile", "pyproject.toml", "constraints.txt", project["readme"], *project["license-files"], *PACKAGES}
    assert needed <= kept
    assert [name for name in kept if not (ROOT / name).exists()] == []
