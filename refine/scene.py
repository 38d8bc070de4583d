"""What is drawn: the fields of a defect on its window of a picture, and how its material looks.

Fields come from `physics` through the pipeline; here they are tensors (B, H, W), lengths in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

__all__ = ["PRODUCT_REFLECTANCE", "CrackBatch", "CrackLook", "Look", "ReliefBatch", "ReliefLook", "Scene"]

# share of red, green and blue light thrown back; for grey pictures the mean
PRODUCT_REFLECTANCE = {"rust": (0.30, 0.13, 0.06), "black": (0.05, 0.045, 0.04), "white": (0.62, 0.62, 0.58)}


@dataclass(frozen=True)
class CrackBatch:
    """Openings; see `physics.placement.CrackFields`.

    ``distance`` to the nearest lip, negative inside, and ``opening``, local width, (B, H, W), pixels.
    """

    distance: Tensor
    opening: Tensor


@dataclass(frozen=True)
class ReliefBatch:
    """Changed surfaces, (B, H, W) each, pixels; see `manifests.fields`; zeros where absent.

    ``depth`` of lost material, ``height`` above the sound surface, thickness of corrosion ``product``, and in-plane
    ``displacement_y``, ``displacement_x``, all 0 or None where the mechanism moves nothing.
    """

    depth: Tensor
    height: Tensor
    product: Tensor
    displacement_y: Tensor | None
    displacement_x: Tensor | None


@dataclass(frozen=True)
class CrackLook:
    """Appearance of each opening, (B,): depth / width, slope of the lips, optical density of debris, and the glint of
    the lips as a share of the brightest light on the part.
    """

    depth_to_width: Tensor
    lip_slope: Tensor
    debris: Tensor
    glint: Tensor


@dataclass(frozen=True)
class ReliefLook:
    """Appearance of each surface.

    ``gloss`` (B,), as a factor of the photograph's own; ``exponent`` (B,), its sharpness; ``floor`` (B,), reflectance
    of a pit's floor / that of the surface; ``product`` (B, C), reflectance of the corrosion product.
    """

    gloss: Tensor
    exponent: Tensor
    floor: Tensor
    product: Tensor


@dataclass(frozen=True)
class Scene:
    """B defects on H x W pixels.

    Attributes
    ----------
    foreground : (B, H, W) bool tensor
        Where the part is: elsewhere nothing is drawn.
    grain : (B, H, W) tensor
        Roughness: correlated noise of variance 1.
    noise : (B, 3, H, W) tensor
        The camera's: white noise of variance 1.
    crack, relief : CrackBatch, ReliefBatch, optional
        Where material parts, and where its surface changes.
    """

    foreground: Tensor
    grain: Tensor
    noise: Tensor
    crack: CrackBatch | None = None
    relief: ReliefBatch | None = None


@dataclass(frozen=True)
class Look:
    """How the openings and the surfaces of a scene look."""

    crack: CrackLook | None = None
    relief: ReliefLook | None = None
