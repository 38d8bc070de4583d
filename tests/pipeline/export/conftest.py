"""A deep corpus beside the others: 16 bits, grey and colour, with a mechanism that is not physical."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from PIL import Image

from manifests import Corpus, Sample
from manifests.pictures import Pixels, decode
from pipeline.export.job import Options, export_corpus
from pipeline.generate import generate
from pipeline.recipe import Recipe

CORPORA = ["finished", "rich", "deep"]
Exported = Callable[..., Path]


@pytest.fixture(scope="session")
def deep(tmp_path_factory: pytest.TempPathFactory, finished: Path, recipe_text: str) -> Path:
    """A corpus of 16 bits, a category of grey pictures and one of colour, a third of it pasted; not to be changed."""
    settings = yaml.safe_load(recipe_text)
    settings.update(
        name="deep", count=12, bit_depth=16, sources=[{"kind": "builtin", "categories": ["brick", "coins"]}]
    )
    settings["sources"][0]["categories"] = ["brick", "cast_plaster"]
    settings["mechanisms"]["cutpaste"] = {}
    out = tmp_path_factory.mktemp("deep") / "corpus"
    generate(out, Recipe.model_validate(settings), workers=1, shared_bank=finished)
    return out


@pytest.fixture(params=CORPORA)
def corpus(request: pytest.FixtureRequest) -> Corpus:
    """Each corpus in turn: one defect a picture, several, and 16 bits."""
    return Corpus(request.getfixturevalue(request.param))


@pytest.fixture
def exported(tmp_path: Path) -> Exported:
    """Export a corpus in parts of five, and say where to."""

    def run(corpus: Corpus, name: str, **options: object) -> Path:
        dest = tmp_path / f"{corpus.info.name}-{name}"
        export_corpus(corpus.path, dest, Options(name, **{"part_samples": 5, **options}))  # type: ignore[arg-type]
        return dest

    return run


def pixels_of(data: bytes) -> Pixels:
    """Pixels (H, W) or (H, W, 3) of a PNG file in its own depth."""
    depth = 16 if data[24] == 16 else 8  # IHDR
    pixels = decode(data, max_pixels=10**8, bit_depth=depth).pixels
    return pixels[..., 0] if pixels.shape[2] == 1 else pixels


def as_pillow_reads(pixels: Pixels) -> Pixels:
    """Pixels as a reader that knows no colour of 16 bits hands them out: their upper bytes."""
    plain = pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels
    return (plain >> 8).astype(np.uint8) if plain.ndim == 3 and plain.dtype == np.uint16 else plain


def opened(data: bytes) -> NDArray[np.generic]:
    """Pixels as Pillow reads them."""
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)


def plain(sample: Sample) -> Pixels:
    """Pixels of a sample, (H, W) or (H, W, 3)."""
    return sample.image[..., 0] if sample.image.shape[2] == 1 else sample.image
