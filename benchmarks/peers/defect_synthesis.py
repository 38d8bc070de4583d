"""The package ``defect-synthesis`` from PyPI, in a virtual environment of its own.

The environment is made once under a cache folder; the generators run there in a subprocess and hand their masks over as
an ``.npz`` file. What cannot be installed is reported in words.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.peers.painter import Painted, Painter, Picture
from benchmarks.peers.target import Masks, Peer, Target

__all__ = [
    "CRACKS",
    "CRACKS_AS_SHIPPED",
    "PAINTED",
    "PITS",
    "PITS_AS_SHIPPED",
    "PeerUnavailableError",
    "python_of_peer",
]

VERSION = "0.1.0"


class PeerUnavailableError(RuntimeError):
    """The package could not be installed or run."""


_SCRIPT = """
import json, random, sys
import numpy as np
import defect_synthesis as peer
order = json.loads(sys.argv[1])
random.seed(order["seed"]); np.random.seed(order["seed"])
make = {"crack": peer.CrackGenerator, "pit": peer.PittingGenerator}[order["kind"]]
blank = np.full((order["side"], order["side"], 3), 128, np.uint8)
masks = []
while len(masks) < order["count"]:
    settings = {k: tuple(v) if isinstance(v, list) else v for k, v in order["settings"].items()}
    result = make(**settings).apply(blank)
    if result.has_defect:
        masks.append(result.anomaly_mask > 0)
np.savez_compressed(sys.argv[2], masks=np.array(masks))
"""

_PAINT_SCRIPT = """
import json, random, sys
import numpy as np
import defect_synthesis as peer
order = json.loads(sys.argv[1])
random.seed(order["seed"]); np.random.seed(order["seed"])
kinds = {"crack": peer.CrackGenerator, "pit": peer.PittingGenerator}
with np.load(sys.argv[2]) as given:
    pictures = given["pictures"]
images, masks = [], []
for picture, (kind, settings) in zip(pictures, order["each"]):
    settings = {k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()}
    make = kinds[kind](**settings)
    while True:
        result = make.apply(picture)
        if result.has_defect:
            break
    images.append(result.image); masks.append(result.anomaly_mask > 0)
np.savez_compressed(sys.argv[3], images=np.array(images), masks=np.array(masks))
"""


def python_of_peer() -> Path:
    """Interpreter of the environment that holds the package; made where it is missing.

    Raises
    ------
    PeerUnavailableError
        It cannot be made, or the package cannot be installed.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    home = cache / "maphc2f-benchmarks" / f"defect-synthesis-{VERSION}"
    python = home / "bin" / "python"
    marker = home / "installed"
    if not marker.exists():
        for command in (
            [sys.executable, "-m", "venv", "--clear", str(home)],
            [str(python), "-m", "pip", "install", "--quiet", f"defect-synthesis=={VERSION}"],
        ):
            _checked(command)
        marker.touch()
    return python


def _checked(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no message"]
        raise PeerUnavailableError(f"{' '.join(command[1:4])}: {last[0]}")


def _run(kind: str, rng: np.random.Generator, count: int, side: int, settings: dict[str, object]) -> Masks:
    order = {"kind": kind, "seed": int(rng.integers(2**31)), "count": count, "side": side, "settings": settings}
    python = python_of_peer()
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "masks.npz"
        _checked([str(python), "-c", _SCRIPT, json.dumps(order), str(out)])
        with np.load(out) as found:
            return list(found["masks"])


def _crack_settings(target: Target, side: int, roughness: float, branch_probability: float) -> dict[str, object]:
    return {
        "base_length_range": [max(8, round(x * side)) for x in target.length],
        "base_width_range": [max(1, round(x * side)) for x in target.width],
        "roughness": roughness,
        "branch_probability": branch_probability,
    }


def _pit_settings(target: Target, side: int, most: int, spread: float) -> dict[str, object]:
    middle = (1 + most) / 2
    radius = [max(1, round(float(np.sqrt(x / np.pi / middle)) * side)) for x in target.area]
    return {
        "cluster_size_range": [1, most],
        "pit_radius_range": radius,
        "spread_radius": max(1, round(spread * sum(radius) / 2)),
    }


def draw_cracks(
    target: Target, rng: np.random.Generator, count: int, side: int, *, roughness: float, branch_probability: float
) -> Masks:
    """`CrackGenerator` with the real lengths and widths, and the given raggedness and branching."""
    return _run("crack", rng, count, side, _crack_settings(target, side, roughness, branch_probability))


def draw_pits(target: Target, rng: np.random.Generator, count: int, side: int, *, most: int, spread: float) -> Masks:
    """`PittingGenerator` with the real areas: up to ``most`` discs, ``spread`` mean radii apart."""
    return _run("pit", rng, count, side, _pit_settings(target, side, most, spread))


# as `benchmarks.realism` tuned them on the training half; mechanisms of ours by the generator that is meant for them
_CRACK_TUNED = (1.0, 0.0)
_PIT_TUNED = (4, 1.0)
_CRACK_KINDS = ("crack", "fracture", "craze")


def paint(
    pictures: Sequence[Picture], kinds: Sequence[str], targets: dict[str, Target], rng: np.random.Generator
) -> list[Painted]:
    """One crack or cluster of pits on each picture, by the generators of the package, with the real sizes.

    Raises
    ------
    PeerUnavailableError
        The package could not be installed or run.
    """
    side, channels = pictures[0].shape[0], pictures[0].shape[2]
    each = [
        ("crack", _crack_settings(targets[kind], side, *_CRACK_TUNED))
        if kind in _CRACK_KINDS
        else ("pit", _pit_settings(targets[kind], side, *_PIT_TUNED))
        for kind in kinds
    ]
    order = json.dumps({"seed": int(rng.integers(2**31)), "each": each})
    colour = np.stack([np.broadcast_to(picture, (*picture.shape[:2], 3)) for picture in pictures])
    with tempfile.TemporaryDirectory() as scratch:
        given, out = Path(scratch) / "pictures.npz", Path(scratch) / "painted.npz"
        np.savez(given, pictures=colour)
        _checked([str(python_of_peer()), "-c", _PAINT_SCRIPT, order, str(given), str(out)])
        with np.load(out) as found:
            images, masks = found["images"], found["masks"]
    # a grey picture is given in three equal channels and taken back as their mean
    plain = images if channels == 3 else np.round(images.mean(axis=-1, keepdims=True)).astype(np.uint8)
    return [Painted(image, mask) for image, mask in zip(plain, masks, strict=True)]


def _crack_as_shipped(target: Target, rng: np.random.Generator, count: int, side: int) -> Masks:
    return _run("crack", rng, count, side, {})


def _pits_as_shipped(target: Target, rng: np.random.Generator, count: int, side: int) -> Masks:
    return _run("pit", rng, count, side, {})


CRACKS = Peer(
    "defect-synthesis, tuned",
    draw_cracks,
    [{"roughness": r, "branch_probability": b} for r in (0.0, 0.5, 1.0, 2.0) for b in (0.0, 0.02, 0.1)],
)
CRACKS_AS_SHIPPED = Peer("defect-synthesis, as shipped", _crack_as_shipped)
PITS = Peer(
    "defect-synthesis, tuned", draw_pits, [{"most": m, "spread": s} for m in (1, 2, 4) for s in (1.0, 2.0, 5.0)]
)
PITS_AS_SHIPPED = Peer("defect-synthesis, as shipped", _pits_as_shipped)
PAINTED = Painter("defect-synthesis", paint)
