"""A picture of the bank: a few trajectories of every mechanism, each at growing severity, without any photograph.

Cracks are drawn as they open; changed surfaces as a matt grey body lit from the upper left, corrosion product in brown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from physics.placement import Placement, Window, place_crack, place_fields, roughness_tile
from physics.registry import MECHANISMS
from pipeline.bank import StoredTrajectory, load_trajectory
from pipeline.recipe import Recipe

__all__ = ["draw_bank", "draw_snapshot"]

_THUMB = 128
_GAP = 4
_LABEL = 22
_MARGIN = 20
_STATES = 3  # of each trajectory
_COLUMNS = 4  # trajectories beside one another
_PAPER, _INK = (250, 250, 248), (32, 33, 36)
_LIGHT = np.array([-0.5, -0.5, 0.70710678])  # towards the light: up, left, out of the page
_CRACK_WIDTH = 0.02  # widest opening / side of the square


def draw_bank(out: Path, recipe: Recipe, sizes: Mapping[str, int], *, each: int = 16) -> Image.Image:
    """Draw ``each`` trajectories of every mechanism, evenly chosen, at a few states.

    Parameters
    ----------
    out : Path
        The corpus folder, its bank filled.
    recipe : Recipe
        Of that corpus.
    sizes : mapping
        Trajectories by mechanism.
    each : int
        How many of each mechanism, at most.
    """
    chosen = {name: np.unique(np.linspace(0, total - 1, min(each, total)).astype(int)) for name, total in sizes.items()}
    rows = {name: -(-len(numbers) // _COLUMNS) for name, numbers in chosen.items()}
    block = _STATES * (_THUMB + _GAP) + 3 * _GAP
    height = 2 * _MARGIN + sum(_LABEL + n * (_THUMB + _GAP) + 2 * _GAP for n in rows.values())
    sheet = Image.new("RGB", (2 * _MARGIN + _COLUMNS * block, height), _PAPER)
    draw, y = ImageDraw.Draw(sheet), _MARGIN
    for name, numbers in chosen.items():
        text = f"{MECHANISMS[name].title}: {len(numbers)} of {sizes[name]:,} trajectories, each at {_STATES} states"
        draw.text((_MARGIN, y), text, fill=_INK, font=ImageFont.load_default(size=14))
        for k, number in enumerate(numbers):
            trajectory = load_trajectory(out, recipe, name, int(number))
            corner = (_MARGIN + (k % _COLUMNS) * block, y + _LABEL + (k // _COLUMNS) * (_THUMB + _GAP))
            for s, snapshot in enumerate(_spread(len(trajectory.severity))):
                thumb = Image.fromarray(draw_snapshot(trajectory, int(snapshot), side=_THUMB))
                sheet.paste(thumb, (corner[0] + s * (_THUMB + _GAP), corner[1]))
        y += _LABEL + rows[name] * (_THUMB + _GAP) + 2 * _GAP
    return sheet


def _spread(snapshots: int) -> Sequence[int]:
    """First third, two thirds, end."""
    return [max(0, round(snapshots * (k + 1) / _STATES) - 1) for k in range(_STATES)]


def draw_snapshot(trajectory: StoredTrajectory, snapshot: int, *, side: int) -> NDArray[np.uint8]:
    """One state as a picture (side, side, 3): the body alone, under a light from the upper left."""
    window, placement = Window(0, 0, side), Placement((side / 2, side / 2), float(side), 0, 0.0)
    crack = trajectory.crack_at(snapshot)
    if crack is None:
        return _shaded(place_fields(trajectory.fields_at(snapshot), placement, window), side)
    found = place_crack(
        crack.segments,
        crack.opening[0],
        placement,
        window,
        cell_px=1.0,
        width_px=max(1.5, _CRACK_WIDTH * side),
        roughness=0.05,
        reach_px=4.0,
        tile=roughness_tile(0),
        tile_offset=(0, 0),
    )
    sound = np.clip(found.distance + 0.5, 0, 1)
    return np.repeat((40 + 190 * sound).astype(np.uint8)[:, :, None], 3, axis=2)


def _shaded(fields: Mapping[str, NDArray[np.float32]], side: int) -> NDArray[np.uint8]:
    nothing = np.zeros((side, side), dtype=np.float32)
    surface = fields.get("height", nothing) - fields.get("depth", nothing)
    down, right = np.gradient(surface.astype(np.float64))
    normal = np.stack([-down, -right, np.ones_like(down)], axis=-1)
    light = (normal @ _LIGHT) / np.linalg.norm(normal, axis=-1) / _LIGHT[2]
    grey = 165.0 * np.clip(light, 0.05, 1.5)
    product = fields.get("product", nothing)
    peak = float(product.max())
    share = np.clip(product / peak, 0, 1)[:, :, None] if peak > 0 else np.zeros((side, side, 1))
    tint = 1 + share * (np.array([0.75, 0.5, 0.32]) - 1)
    return np.asarray(np.clip(grey[:, :, None] * tint, 0, 255), dtype=np.uint8)
