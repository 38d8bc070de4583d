"""Number formats: what single precision costs the whole chain of passes, and why half of it is not offered.

A crack and a pit are drawn into a grained photograph by render, npcF and npcF++, once in float64, once in float32, with
the same fields, light and noise. bfloat16 has 8 significant bits, one grey level in 256 at white: npcF++, whose
transform is linear, is run in it alone.
"""

from __future__ import annotations

import numpy as np
import torch
from matplotlib.axes import Axes
from scipy import ndimage
from torch import Tensor

from benchmarks.verification.case import Case
from manifests.config import NpcfConfig, NpcfppConfig
from refine.npcf import harmonise
from refine.npcfpp import BoundarySynergy
from refine.photograph import Optics
from refine.render import render
from refine.scene import CrackBatch, CrackLook, Look, ReliefBatch, ReliefLook, Scene

SIDE = 128
_NPCF, _NPCFPP = NpcfConfig(), NpcfppConfig()


def cases() -> list[Case]:
    """All cases; a second."""
    exact, coarse = _chain(torch.float64)
    single, _ = _chain(torch.float32)
    apart = {stage: 255 * (single[stage].double() - exact[stage]).abs() for stage in exact}
    halved = 255 * (_fine(coarse, torch.bfloat16).double() - exact["npcF++"]).abs()

    def plot(axes: Axes) -> None:
        for name, errors in (*apart.items(), ("npcF++ alone in bfloat16", halved)):
            ordered = np.sort(errors.numpy().ravel())
            axes.plot(np.maximum(ordered, 1e-9), np.linspace(0, 1, len(ordered)), label=name)
        axes.axvline(0.5, color="0.7", linewidth=1)
        axes.set(xscale="log", xlabel="difference from float64, grey levels", ylabel="share of pixels", xlim=(1e-7, 10))
        axes.legend(frameon=False, loc="upper left")

    statement = (
        "Render, npcF at its default tolerance and npcF++ of a crack and of a pit in a grained photograph, against the "
        "same chain in float64."
    )
    within = [
        Case(
            f"single precision, up to {stage}",
            statement,
            "largest difference, grey levels of 255",
            0.0,
            float(errors.max()),
            0.01,
            absolute=True,
            plot=plot if stage == "npcF++" else None,
        )
        for stage, errors in apart.items()
    ]
    levels = {
        name: (255 * picture.double()).round() for name, picture in (("64", exact["npcF++"]), ("32", single["npcF++"]))
    }
    other = float((levels["64"] != levels["32"]).double().mean())
    rough = (_fine(coarse, torch.bfloat16).double() * 255).round()
    moved = 100 * float((rough != levels["64"]).double().mean())
    return [
        *within,
        Case(
            "single precision, stored pictures",
            statement,
            "share of pixels of another grey level",
            0.0,
            other,
            1e-3,
            absolute=True,
        ),
        Case(
            "bfloat16 is as coarse as its picture values",
            "npcF++ alone in bfloat16, on the same coarse result. Known: the rounding of values about 1/2, 2^-9. "
            f"In {moved:.0f} % of pixels the stored grey level is another one: not harmless, and the passes are not "
            "offered in it.",
            "rms grey levels",
            255 * 2**-9 / 3**0.5,
            float(halved.square().mean().sqrt()),
            0.5,
        ),
    ]


class _Inputs:
    """A crack (sample 0) and a pit (sample 1) in one photograph, in a number format."""

    def __init__(self, dtype: torch.dtype) -> None:
        rng = np.random.default_rng(11)
        y, x = np.mgrid[:SIDE, :SIDE] + 0.5
        path = SIDE / 2 + 8 * np.sin(x / 17)
        opening = 2.5 * np.clip(1 - x / (0.9 * SIDE), 0, 1)
        distance = np.minimum(np.abs(y - path) - opening / 2, 10.0)
        depth = 6 * np.exp(-(((y - 60) / 14) ** 2) - ((x - 70) / 20) ** 2)
        grain = ndimage.gaussian_filter(rng.standard_normal((SIDE, SIDE)), 1.0)

        def one(values: np.ndarray) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(values)).to(dtype)

        self.source = one(np.clip(0.5 + 0.06 * grain / grain.std(), 0, 1)).expand(1, 1, SIDE, SIDE)
        self.part = torch.ones((1, SIDE, SIDE), dtype=torch.bool)
        self.grain = one(rng.standard_normal((1, SIDE, SIDE)))
        self.noise = one(rng.standard_normal((1, 3, SIDE, SIDE)))
        self.distance, self.opening, self.depth = (one(f[None]) for f in (distance, opening, depth))
        self.one = torch.ones(1, dtype=dtype)
        self.optics = Optics(
            light=one(np.array([[-0.6, 0.8]])),
            directional=0.7 * self.one,
            gloss=0.3 * self.one,
            blur_px=0.7 * self.one,
            noise=0.004 * self.one,
            brightest=0.8 * self.one[:, None],
        )

    def scenes(self) -> list[tuple[Scene, Look]]:
        """Fields and appearance of both."""
        nothing = torch.zeros_like(self.depth)
        crack = Scene(self.part, self.grain, self.noise, crack=CrackBatch(self.distance, self.opening))
        pit = Scene(self.part, self.grain, self.noise, relief=ReliefBatch(self.depth, nothing, nothing, None, None))
        slot = CrackLook(4 * self.one, 0.2 * self.one, 0.1 * self.one, 0.2 * self.one)
        surface = ReliefLook(self.one, 20 * self.one, 0.5 * self.one, 0.3 * self.one[:, None])
        return [(crack, Look(crack=slot)), (pit, Look(relief=surface))]


@torch.no_grad()
def _chain(dtype: torch.dtype) -> tuple[dict[str, Tensor], list[tuple[Tensor, Tensor]]]:
    """Pictures (2, 1, H, W) after each pass, and what npcF++ gets: coarse results and distances."""
    given = _Inputs(dtype)
    rendered, coarse = [], []
    for scene, look in given.scenes():
        drawn = render(given.source, scene, look, given.optics)
        solved = harmonise(
            given.source,
            drawn.image,
            drawn.coverage,
            given.part,
            kept=drawn.kept,
            screening_px=_NPCF.screening_px,
            crack_conductivity=_NPCF.crack_conductivity,
            tolerance=_NPCF.tolerance,
            max_cycles=_NPCF.max_cycles,
        )
        rendered.append(drawn.image)
        coarse.append((solved.image, drawn.distance))
    stages = {"render": torch.cat(rendered), "npcF": torch.cat([image for image, _ in coarse])}
    return {**stages, "npcF++": _fine(coarse, dtype)}, coarse


@torch.no_grad()
def _fine(coarse: list[tuple[Tensor, Tensor]], dtype: torch.dtype) -> Tensor:
    """npcF++ of coarse results in a number format."""
    given, synergy = _Inputs(dtype), BoundarySynergy(_NPCFPP)
    done = [
        synergy(given.source, image.to(dtype), distance.to(dtype), given.part, given.optics.blur_px, given.noise)
        for image, distance in coarse
    ]
    return torch.cat(done)
