"""Every command and every program that README and docs show is run, page by page, in a folder as the reader has it.

Counts and sizes are made smaller; what needs another machine says so in a comment before it, which readers do not see.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from manifests import Corpus
from pipeline.sources.builtin import builtin_image

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
RUN = {"sh", "python", "yaml", "json"}
SHOWN = {"", "text"}  # layouts, equations, output
ELSEWHERE = {  # pages that a test of their own runs
    "adding-a-mechanism": "tests/test_docs.py",
    "export": "tests/pipeline/export/test_export_page.py",
    "format": "tests/pipeline/test_format.py",
}
BLOCK = re.compile(
    r"(?:<!-- not run here: (?P<why>[^>]+?) -->\n)?^```(?P<language>\w*)\n(?P<body>.*?)^```", re.DOTALL | re.MULTILINE
)
SIDE = 96


@dataclass(frozen=True)
class Snippet:
    """A fenced block of a page."""

    language: str
    body: str
    why_not: str | None


def snippets(page: Path) -> list[Snippet]:
    found = BLOCK.finditer(page.read_text(encoding="utf-8"))
    return [Snippet(match["language"], match["body"], match["why"]) for match in found]


def test_every_block_has_a_known_language_and_a_reason_if_it_is_not_run() -> None:
    for page in PAGES:
        assert page.read_text(encoding="utf-8").count("\n```") == 2 * len(snippets(page)), page.name
        for snippet in snippets(page):
            assert snippet.language in RUN | SHOWN, (page.name, snippet.body[:80])
            assert snippet.why_not is None or len(snippet.why_not) > 10


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What pages call out, where they do not make it themselves."""
    out = tmp_path_factory.mktemp("snippets") / "out"
    command = [sys.executable, "-m", "pipeline.cli", "generate", str(out), "--source", "builtin"]
    command += ["--mechanism", "pitting", "--mechanism", "fracture", "--count", "44", "--size", str(SIDE)]
    subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
    return out


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Recipes, photographs of a part, and a set in MVTec AD layout with a defect that cannot be missed."""
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    (tmp_path / "quick.yaml").write_text(yaml.safe_dump(QUICK))
    for name in ("photos/bracket", "photographs", "data/mtd/train/good"):
        (tmp_path / name).mkdir(parents=True)
        for k in range(10):
            picture("hex_nut" if name == "photos/bracket" else "brushed_metal", k).save(tmp_path / name / f"{k:03}.png")
    picture("brushed_metal", 3).save(tmp_path / "part-17.png")
    for kind in ("good", "crack"):
        (tmp_path / "data/mtd/test" / kind).mkdir(parents=True)
        (tmp_path / "data/mtd/ground_truth/crack").mkdir(parents=True, exist_ok=True)
        for k in range(4):
            pixels = np.array(picture("brushed_metal", 10 + k))
            mask = np.zeros(pixels.shape[:2], dtype=np.uint8)
            if kind == "crack":
                mask[40:44, 20:76] = 255
                pixels[mask > 0] //= 4
                Image.fromarray(mask).save(tmp_path / f"data/mtd/ground_truth/crack/{k:03}_mask.png")
            Image.fromarray(pixels).save(tmp_path / "data/mtd/test" / kind / f"{k:03}.png")
    return tmp_path


def picture(category: str, k: int) -> Image.Image:
    image = Image.fromarray(builtin_image(category, k).squeeze())
    return image.resize((SIDE, SIDE), Image.Resampling.BICUBIC)


SHARDS = {"shard_images": 11}
RECIPE = {"sources": [{"kind": "folder", "path": "photos/bracket"}], "mechanisms": {"pitting": {}}, "store": SHARDS}
QUICK = {"detector": {"size": SIDE, "memory_cells": 2048}, "optimiser": {"epochs": 2}}


def smaller(body: str) -> str:
    """The commands of a block, with fewer and smaller samples; `make` and what it installs are left out."""
    lines = []
    for line in body.replace("\\\n", " ").splitlines():
        command = line.split(" #")[0].rstrip()
        if re.match(r"make (?!demo)|pip |\. |export (PATH|VIRTUAL)", command):
            continue
        if re.match(r"make demo", command):
            command = "maphc2f generate demo/corpus --config recipes/demo.yaml"
        command = re.sub(r"--range 0:\d+", "--range 0:11", re.sub(r"--range [1-9]\d*:", "--range 11:", command))
        command = re.sub(r"^(maphc2f extend .*--count) \d+", r"\1 8", re.sub(r"--to \d+", "--to 40", command))
        if re.match(r"maphc2f (generate|plan|bank)\b", command) and "--picture" not in command:
            command = re.sub(r" --(count|size|workers) \d+", "", command)
            if re.search(r"--(config|source)", command):
                command += f" --count 22 --size {SIDE} --workers 1"
        if re.match(r"bisqad (train|ablate)\b", command) and "--config" not in command:
            command += " --config quick.yaml"
        if command.startswith("bisqad ablate"):
            command += " --seeds 1"
        lines.append(command)
    return "\n".join(lines) + "\n"


RUN_HERE = [p for p in PAGES if p.stem not in ELSEWHERE and any(s.language in {"sh", "python"} for s in snippets(p))]


@pytest.mark.parametrize("page", RUN_HERE, ids=lambda page: page.stem)
def test_what_a_page_shows_can_be_run(page: Path, folder: Path, corpus: Path) -> None:
    env = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "MTD_ROOT": str(folder / "data/mtd"),
    }
    run = [s for s in snippets(page) if s.why_not is None and s.language in {"sh", "python"}]
    if not any(re.search(r"generate out\b", snippet.body) for snippet in run):
        for name in ("out", "other"):
            shutil.copytree(corpus, folder / name)
    first = Corpus(corpus)[0].record.id
    for snippet in run:
        body = snippet.body.replace("3f9c2a71d05be846", first).replace("3f9c2a71", first[:8])
        body = smaller(body) if snippet.language == "sh" else body
        command = ["bash", "-euo", "pipefail", "-c", body] if snippet.language == "sh" else [sys.executable, "-c", body]
        ran = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=500)
        assert ran.returncode == 0, f"{page.name}:\n{body}\n{ran.stdout[-2000:]}\n{ran.stderr[-3000:]}"


@pytest.mark.parametrize(("page", "test"), ELSEWHERE.items())
def test_a_page_that_another_test_runs_is_named_there(page: str, test: str) -> None:
    assert f"{page}.md" in (ROOT / test).read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_recipes_and_records_that_a_page_shows_can_be_read(page: Path) -> None:
    for snippet in snippets(page):
        if snippet.language == "yaml":
            assert yaml.safe_load(snippet.body)
