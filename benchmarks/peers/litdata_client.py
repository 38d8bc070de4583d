"""LitData's loader, in a process and an environment of its own; see `benchmarks.loading`.

    python benchmarks/peers/litdata_client.py FOLDER COUNT BATCH

FOLDER holds PNG files, an image and a mask a sample, which are first written as LitData writes a data set. Then every
line of standard input, ``{"shuffle": true, "workers": 2}``, is answered by the seconds that an epoch took; the first
epoch of each kind starts the workers, and is not the one that counts. It needs nothing of this project.
"""

from __future__ import annotations

import io
import json
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import litdata
import numpy as np
import torch
from PIL import Image


def stored(folder: str, number: int) -> dict[str, bytes]:
    """The files of a sample."""
    return {name: Path(folder, f"{number:06d}.{name}.png").read_bytes() for name in ("image", "mask")}


class Pictures(litdata.StreamingDataset):
    """Samples as tensors."""

    def __getitem__(self, index: Any) -> dict[str, torch.Tensor]:
        files = super().__getitem__(index)
        image, mask = (np.asarray(Image.open(io.BytesIO(files[name]))) for name in ("image", "mask"))
        planes = np.broadcast_to(image, (3, *image.shape)) if image.ndim == 2 else image.transpose(2, 0, 1)
        picture = torch.from_numpy(np.array(planes, order="C"))
        return {"image": picture, "mask": torch.from_numpy((mask > 0).astype(np.uint8))[None]}


def main(folder: str, count: str, batch: str) -> None:
    torch.set_num_threads(1)
    written = str(Path(folder).parent / "litdata")
    litdata.optimize(partial(stored, folder), list(range(int(count))), written, chunk_bytes="32MB", num_workers=1)
    loaders: dict[tuple[bool, int], Any] = {}
    print("ready", file=sys.stderr, flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        kind = asked["shuffle"], asked["workers"]
        if kind not in loaders:
            pictures = Pictures(written, shuffle=kind[0], seed=0)
            loaders[kind] = litdata.StreamingDataLoader(
                pictures, batch_size=int(batch), num_workers=kind[1], persistent_workers=kind[1] > 0
            )
        start = time.perf_counter()
        got = sum(len(images["image"]) for images in loaders[kind])
        seconds = time.perf_counter() - start
        print("seconds " + json.dumps({"seconds": seconds, "samples": got}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
