"""What each step of the synthesis is worth to a detector: one corpus that kept its stages, one detector, several seeds.

Steps are naive paste, render, + npcF, + npcF++ (all with equal weights) and + SQE weights (bi-level). Beside the last
one stands a control, the same learned weights dealt to other samples: it tells whether it matters who has them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from bisqad.config import TrainConfig
from bisqad.evaluation import evaluate
from bisqad.run import train
from bisqad.terminal import Progress
from manifests import Corpus
from manifests.durable import write_atomic
from manifests.errors import CorpusError, OutputError
from manifests.hashing import sha256_bytes

__all__ = ["MEASURES", "STEPS", "Step", "ablate", "plot", "summary"]

MEASURES = ("image_auroc", "pixel_auroc", "pixel_ap", "aupro")


@dataclass(frozen=True)
class Step:
    """A step of the ablation: its name, and what it changes in the settings."""

    name: str
    changes: Mapping[str, object]


STEPS = (
    Step("naive paste", {"stage": "paste", "method": "uniform"}),
    Step("render", {"stage": "render", "method": "uniform"}),
    Step("+ npcF", {"stage": "npcf", "method": "uniform"}),
    Step("+ npcF++", {"stage": "final", "method": "uniform"}),
    Step("+ shuffled weights", {"stage": "final", "method": "shuffled"}),
    Step("+ SQE weights", {"stage": "final", "method": "bilevel"}),
)


def ablate(
    corpora: Sequence[Path],
    data: Path,
    out: Path,
    config: TrainConfig,
    *,
    seeds: Sequence[int],
    normals: Path | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
    told: Callable[[str], None] | None = None,
) -> dict[str, dict[str, list[float]]]:
    """Train and judge every step with every seed; write ``ablation.json``, ``ablation.md`` and ``ablation.png``.

    Steps whose figures are there already are not trained again.

    Parameters
    ----------
    corpora : sequence of Path
        Corpora that keep their stages; of several, each is a block of its own.
    data : Path
        Data set with real defects.
    out : Path
        Folder of the results; features and runs lie below it.
    config : TrainConfig
        Settings common to all steps.
    seeds : sequence of int
        One run a seed.
    normals : Path, optional
        More photographs of normal parts.
    device : str
        Torch device of the backbone.
    progress : Progress, optional
        Told how far each run is.
    told : callable, optional
        Given a line after every run.

    Returns
    -------
    dict of str to dict of str to list of float
        Step (with the corpus's folder in front where there are several) -> measure -> a value a seed.

    Raises
    ------
    CorpusError, SourceError, OutputError
        A corpus keeps no stages, the data set cannot be read, or the folder cannot be written.
    """
    for path in corpora:
        _check_stages(path)
    found: dict[str, dict[str, list[float]]] = {}
    for path in corpora:
        for step in STEPS:
            name = step.name if len(corpora) == 1 else f"{path.name}: {step.name}"
            for seed in seeds:
                settings = TrainConfig.model_validate({**config.model_dump(), **step.changes, "seed": seed})
                folder = out / "runs" / f"{path.name}-{STEPS.index(step)}-{_slug(step.name)}-{seed}"
                figures = _figures(path, folder, settings, data, normals, out / "cache", device, progress)
                for measure in MEASURES:
                    found.setdefault(name, {}).setdefault(measure, []).append(figures[measure])
                if told is not None:
                    told(f"{name}, seed {seed}: image AUROC {figures['image_auroc']:.3f}")
    _write_results(out, found, seeds)
    return found


def _check_stages(path: Path) -> None:
    kept = Corpus(path).info.config["store"]["stages"]
    if missing := sorted({"paste", "render", "npcf"} - set(kept)):
        raise CorpusError(f"{path}: stage {missing[0]!r} is not kept; generate it with --keep-stages")


def _figures(
    corpus: Path,
    folder: Path,
    config: TrainConfig,
    data: Path,
    normals: Path | None,
    cache: Path,
    device: str,
    progress: Progress | None,
) -> dict[str, float]:
    stored, about = folder / "figures.json", _identity(corpus, config, [data, normals], cache.parent)
    if stored.is_file():
        found: dict[str, Any] = json.loads(stored.read_bytes())
        if found.get("about") == about:
            return {measure: float(found[measure]) for measure in MEASURES}
    detector = train(corpus, folder, config, normals=normals, cache=cache, device=device, progress=progress)
    judged = evaluate(detector, data)
    figures = {measure: getattr(judged, measure).value for measure in MEASURES}
    write_atomic(stored, json.dumps({**figures, "about": about}).encode())
    return figures


def _identity(corpus: Path, config: TrainConfig, folders: Sequence[Path | None], out: Path) -> str:
    """Changes with all that figures depend on; what lies below ``out`` is not part of it."""
    pictures = [path for folder in folders if folder is not None for path in sorted(folder.rglob("*"))]
    own = [path for path in pictures if path.is_file() and out.resolve() not in path.resolve().parents]
    files = [f"{path} {path.stat().st_size}" for path in own]
    known = [Corpus(corpus).info.config_sha256, config.model_dump_json(), *files]
    return sha256_bytes("\n".join(known).encode())


def summary(values: Sequence[float]) -> tuple[float, float]:
    """Mean, and half the width of its 95 % interval over seeds (normal approximation); 0 for one seed."""
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return float(np.mean(values)), 1.96 * spread / float(np.sqrt(len(values)))


def _write_results(out: Path, found: Mapping[str, Mapping[str, Sequence[float]]], seeds: Sequence[int]) -> None:
    try:
        write_atomic(out / "ablation.json", json.dumps({"seeds": list(seeds), "steps": found}, indent=1).encode())
        write_atomic(out / "ablation.md", _markdown(found).encode())
        picture = BytesIO()
        plot(found).save(picture, "PNG")
        write_atomic(out / "ablation.png", picture.getvalue())
    except OSError as error:
        raise OutputError(f"{out}: cannot be written ({error.strerror})") from None


def _markdown(found: Mapping[str, Mapping[str, Sequence[float]]]) -> str:
    lines = ["| step | " + " | ".join(m.replace("_", " ") for m in MEASURES) + " |", "|---" * 5 + "|"]
    for name, measures in found.items():
        cells = ["{:.3f} ± {:.3f}".format(*summary(measures[m])) for m in MEASURES]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


_ROW, _LEFT, _PANEL, _TOP = 28, 260, 300, 40
_INK, _MEAN, _SEED, _RULE = (30, 34, 42), (200, 60, 40), (120, 130, 150), (225, 228, 234)


def plot(found: Mapping[str, Mapping[str, Sequence[float]]]) -> Image.Image:
    """Dots of all seeds, and their mean with its interval, one row a step and one panel a measure."""
    font = ImageFont.load_default(14)
    sheet = Image.new("RGB", (_LEFT + _PANEL * len(MEASURES) + 20, _TOP + _ROW * len(found) + 40), "white")
    draw = ImageDraw.Draw(sheet)
    for number, name in enumerate(found):
        draw.text((12, _TOP + _ROW * number + 6), name, fill=_INK, font=font)
    for panel, measure in enumerate(MEASURES):
        values = [value for measures in found.values() for value in measures[measure]]
        low, high = min(values), max(values)
        margin = max(0.05 * (high - low), 0.005)
        low, high = low - margin, high + margin
        left = _LEFT + _PANEL * panel
        draw.text((left, 10), measure.replace("_", " "), fill=_INK, font=font)
        for tick in np.linspace(low, high, 4):
            x = _place(tick, low, high, left)
            draw.line([(x, _TOP), (x, _TOP + _ROW * len(found))], fill=_RULE)
            draw.text((x - 16, _TOP + _ROW * len(found) + 6), f"{tick:.3f}", fill=_SEED, font=font)
        for number, measures in enumerate(found.values()):
            y = _TOP + _ROW * number + _ROW // 2
            mean, half = summary(measures[measure])
            for value in measures[measure]:
                x = _place(value, low, high, left)
                draw.ellipse([x - 3, y - 3, x + 3, y + 3], outline=_SEED)
            ends = [(_place(v, low, high, left), y) for v in (mean - half, mean + half)]
            draw.line(ends, fill=_MEAN, width=2)
            x = _place(mean, low, high, left)
            draw.ellipse([x - 4, y - 4, x + 4, y + 4], fill=_MEAN)
    return sheet


def _place(value: float, low: float, high: float, left: int) -> float:
    return left + (_PANEL - 50) * (value - low) / (high - low)


def _slug(name: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in name).strip("-").replace("--", "-")
