"""The page and the plot of `benchmarks.detection`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any

from bisqad.ablation import MEASURES, plot, summary

__all__ = ["best_patchcore", "page", "picture"]

Found = Mapping[str, Sequence[Mapping[str, Any]]]

_ALONE = (", head alone", ", normality alone")
_PATCHCORE = "PatchCore"
_TITLES = {"image_auroc": "image AUROC", "pixel_auroc": "pixel AUROC", "pixel_ap": "pixel AP", "aupro": "AUPRO"}


def best_patchcore(found: Found) -> str:
    """The variant with the highest mean image AUROC; "" if none was tried."""
    names = [name for name in found if name.startswith(_PATCHCORE)]
    return max(names, key=lambda name: summary([f["image_auroc"] for f in found[name]])[0], default="")


def page(found: Found, data: str, count: int, left_out: int, *, foreground: str = "auto") -> str:
    """Markdown: all measures, by type of defect, and what the halves of each detector do alone."""
    best = best_patchcore(found)
    shown = [name for name in found if not name.endswith(_ALONE) and not name.startswith(_PATCHCORE)]
    shown += [best] if best else []
    lines = [
        f"# Detection of real defects: {data}",
        "",
        f"Made by `python -m benchmarks.detection --data <{data}> --count {count} --foreground {foreground}`;",
        "do not edit by hand.",
        "",
        f"One detector and one budget ({count} samples) for every corpus; mean over seeds, and 1.96 standard errors",
        "where there are several seeds: of two they tell little. The detector's design was looked at on",
        f"{left_out} real defects, which are left out. Of PatchCore the variant is shown that comes out best here.",
        "",
        *_table(found, shown, MEASURES),
        "",
        f"![All measures by seed](pictures/detection-{data}.png)",
        "",
        "## By type of defect, image AUROC",
        "",
        *_by_defect(found, shown, "image_auroc"),
        "",
        "## By type of defect, pixel AUROC",
        "",
        *_by_defect(found, shown, "pixel_auroc"),
        "",
        "## What each half of the detector does alone, image AUROC",
        "",
        *_by_defect(found, [name for name in found if name.endswith(_ALONE)], "image_auroc"),
        "",
        "## All variants of PatchCore",
        "",
        *_table(found, [name for name in found if name.startswith(_PATCHCORE)], MEASURES),
    ]
    return "\n".join(lines) + "\n"


def picture(found: Found) -> bytes:
    """PNG: a dot a seed, means and intervals."""
    best = best_patchcore(found)
    shown = [n for n in found if not n.endswith(_ALONE) and not n.startswith(_PATCHCORE)] + ([best] if best else [])
    names = {name: name.split(" (")[0] if name == best else name for name in shown}
    drawn = {names[n]: {m: [f[m] for f in found[n]] for m in MEASURES} for n in shown}
    out = BytesIO()
    plot(drawn).save(out, "PNG", optimize=True)
    return out.getvalue()


def _cell(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    mean, half = summary(known)
    return f"{mean:.3f} ± {half:.3f}" if len(known) > 1 else f"{mean:.3f}"


def _table(found: Found, names: Sequence[str], measures: Sequence[str]) -> list[str]:
    lines = ["| learned from | seeds | " + " | ".join(_TITLES[m] for m in measures) + " |"]
    lines.append("|---|" + "--:|" * (1 + len(measures)))
    for name in names:
        cells = [str(len(found[name])), *(_cell([figures[m] for figures in found[name]]) for m in measures)]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def _by_defect(found: Found, names: Sequence[str], measure: str) -> list[str]:
    kinds = sorted({kind for name in names for figures in found[name] for kind in figures["by_defect"]})
    lines = ["| learned from | all | " + " | ".join(kinds) + " |", "|---|--:|" + "--:|" * len(kinds)]
    for name in names:
        cells = [_cell([figures[measure] for figures in found[name]])]
        cells += [_cell([figures["by_defect"][kind][measure] for figures in found[name]]) for kind in kinds]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines
