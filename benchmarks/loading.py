"""Images per second that a PyTorch training loop gets: from a corpus, WebDataset, LitData, and a folder of PNG files.

Run with::

    python -m benchmarks.loading                          # makes a corpus of embedded pictures, and docs/loading.md
    python -m benchmarks.loading --corpus out --rounds 9
    python -m benchmarks.loading --litdata build/litdata/bin/python     # of an environment that has litdata and pillow

The same pictures and masks lie in all of them, and every reader gives the same batches of (3, H, W) uint8 with their
masks through the same `DataLoader`. LitData does not install beside the releases that are pinned here: it works in a
process of its own, through the loader it comes with, and says how long each epoch took. Each round takes every
contender once, in turn; what is shown are
medians over the rounds of the time of an epoch, and how many times as fast as the PNG folder each was in its round.
Workers persist: their start is not counted. Before the first round all files have been read once, so it is decoding
and handing over that is measured, not the disk.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import webdataset
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from bisqad.datasets import CorpusDataset, CorpusStream
from manifests import Corpus
from manifests.config import parse_source
from manifests.durable import write_atomic
from pipeline.generate import generate
from pipeline.recipe import Recipe, only_mechanisms

BATCH = 32
PAGE = Path(__file__).resolve().parent.parent / "docs" / "loading.md"
PNG = "PNG folder"
_LITDATA = Path(__file__).resolve().parent / "peers" / "litdata_client.py"
_TOLD = "seconds "  # how the lines of its process begin that answer
_SHARD_SAMPLES = 256  # of the archive: as many as a shard of the corpus holds at 256 x 256
_BUFFER = 256  # samples that are mixed, of ours and of WebDataset


class PngFolder(Dataset[dict[str, Tensor]]):
    """Pictures and masks as PNG files (Pillow), one of each a sample."""

    def __init__(self, folder: Path, count: int) -> None:
        self.folder, self.count = folder, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        pixels = [np.asarray(Image.open(self.folder / f"{index:06d}.{name}.png")) for name in ("image", "mask")]
        return as_sample(*pixels)


def as_sample(image: NDArray[np.uint8], mask: NDArray[np.uint8]) -> dict[str, Tensor]:
    """The tensors that `bisqad.datasets` gives, of a decoded picture (H, W) or (H, W, 3) and its mask."""
    planes = np.broadcast_to(image, (3, *image.shape)) if image.ndim == 2 else image.transpose(2, 0, 1)
    picture = torch.from_numpy(np.array(planes, order="C"))
    return {"image": picture, "mask": torch.from_numpy((mask > 0).astype(np.uint8))[None]}


def _of_archive(sample: Mapping[str, Any]) -> dict[str, Tensor]:
    # its own decoder of pictures makes colour of grey ones, masks too
    return as_sample(*(np.asarray(Image.open(io.BytesIO(sample[f"{name}.png"]))) for name in ("image", "mask")))


@dataclass(frozen=True)
class Copies:
    """Where the same samples lie in the two other forms."""

    folder: Path
    archive: str
    count: int


def copied(corpus: Corpus, work: Path) -> Copies:
    """Write the corpus's pictures and masks as PNG files, and those files into the shards of an archive."""
    folder, archive = work / "png", work / "tar"
    folder.mkdir()
    archive.mkdir()
    with webdataset.ShardWriter(str(archive / "%05d.tar"), maxcount=_SHARD_SAMPLES, verbose=0) as sink:
        for number, sample in enumerate(corpus):
            parts = {"__key__": f"{number:06d}"}
            for name, pixels in (("image", sample.image.squeeze()), ("mask", sample.mask)):
                path = folder / f"{number:06d}.{name}.png"
                Image.fromarray(pixels).save(path)
                parts[f"{name}.png"] = path.read_bytes()
            sink.write(parts)
    last = len(list(archive.glob("*.tar"))) - 1
    return Copies(folder, f"{archive}/{{00000..{last:05d}}}.tar", len(corpus))


def contenders(corpus: Corpus, copies: Copies, *, shuffle: bool, workers: int) -> dict[str, Callable[[], Any]]:
    """Loaders by name, with so many workers. Random access and a shuffled stream are what each form offers for it."""

    def loader(dataset: Any, *, by_position: bool) -> DataLoader[Any]:
        order = {"shuffle": shuffle} if by_position else {}
        return DataLoader(
            dataset,
            batch_size=BATCH,
            num_workers=workers,
            persistent_workers=workers > 0,
            multiprocessing_context="fork" if workers else None,
            **order,
        )

    def archive() -> DataLoader[Any]:
        files = webdataset.WebDataset(
            copies.archive, shardshuffle=100 if shuffle else False, empty_check=False, seed=0 if shuffle else None
        )
        mixed = files.shuffle(_BUFFER) if shuffle else files
        return loader(mixed.map(_of_archive), by_position=False)

    return {
        "corpus, by position": lambda: loader(CorpusDataset(corpus), by_position=True),
        "corpus, stream": lambda: loader(CorpusStream(corpus, shuffle=shuffle, buffer=_BUFFER), by_position=False),
        PNG: lambda: loader(PngFolder(copies.folder, copies.count), by_position=True),
        "WebDataset": archive,
    }


def epoch_s(loader: Any, count: int) -> float:
    """Seconds of one epoch; every sample must come."""
    start = time.perf_counter()
    got = sum(len(batch["image"]) for batch in loader)
    seconds = time.perf_counter() - start
    if got != count:
        raise RuntimeError(f"an epoch gave {got} samples, expected {count}")
    return seconds


class LitData:
    """LitData's loader in a process of its own, `benchmarks.peers.litdata_client`, by the interpreter ``python``."""

    def __init__(self, python: str, copies: Copies) -> None:
        command = [python, str(_LITDATA), str(copies.folder), str(copies.count), str(BATCH)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self._count = copies.count

    def epoch_s(self, *, shuffle: bool, workers: int) -> float:
        """As `epoch_s`."""
        asked, answers = self._process.stdin, self._process.stdout
        if asked is None or answers is None:
            raise RuntimeError("the process of LitData has no pipes")
        asked.write(json.dumps({"shuffle": shuffle, "workers": workers}) + "\n")
        asked.flush()
        found = next((json.loads(line[len(_TOLD) :]) for line in answers if line.startswith(_TOLD)), None)
        if found is None or found["samples"] != self._count:
            raise RuntimeError(f"LitData gave {found}, expected {self._count} samples")
        return float(found["seconds"])

    def close(self) -> None:
        """End it."""
        self._process.communicate(timeout=60)


@dataclass(frozen=True)
class Row:
    """One way of loading: images per second (median of the rounds), and speed / the PNG folder's (median of ratios)."""

    order: str
    workers: int
    name: str
    images_s: float
    ratio: float


def measure(
    corpus: Corpus, copies: Copies, *, rounds: int, workers: Sequence[int], litdata: LitData | None = None
) -> Iterator[Row]:
    """Measure every contender in turn, round after round, for both orders and each number of workers."""
    for order in ("random", "sequential"):
        for number in workers:
            made = contenders(corpus, copies, shuffle=order == "random", workers=number)
            epochs = {name: partial(epoch_s, make(), copies.count) for name, make in made.items()}
            if litdata is not None:
                epochs["LitData"] = partial(litdata.epoch_s, shuffle=order == "random", workers=number)
            for epoch in epochs.values():  # starts the workers, fills caches; not counted
                epoch()
            seconds: dict[str, list[float]] = {name: [] for name in epochs}
            for _ in range(rounds):
                for name, epoch in epochs.items():
                    seconds[name].append(epoch())
            del epochs
            for name, spent in seconds.items():
                ratio = statistics.median(png / own for png, own in zip(seconds[PNG], spent, strict=True))
                yield Row(order, number, name, copies.count / statistics.median(spent), ratio)


def table(rows: Sequence[Row]) -> str:
    """The figures as a Markdown table: a line a contender, a column an order and number of workers."""
    columns = list(dict.fromkeys((row.order, row.workers) for row in rows))
    found = {(row.order, row.workers, row.name): row for row in rows}
    lines = [
        "| images/s, and x the PNG folder | " + " | ".join(f"{order}, {n} workers" for order, n in columns) + " |",
        "|---|" + "--:|" * len(columns),
    ]
    for name in dict.fromkeys(row.name for row in rows):
        cells = [found[(*column, name)] for column in columns]
        lines.append(f"| {name} | " + " | ".join(f"{c.images_s:,.0f} ({c.ratio:.1f} x)" for c in cells) + " |")
    return "\n".join(lines)


def page(corpus: Corpus, rows: Sequence[Row], *, rounds: int, command: str) -> str:
    """docs/loading.md."""
    shapes = {sample.image.shape for sample in corpus[:: max(1, len(corpus) // 24)]}
    size, channels = next(iter(shapes))[0], sorted({shape[2] for shape in shapes})
    kinds = " and ".join({1: "grey", 3: "colour"}[number] for number in channels)
    return f"""{_HEAD}
## How fast

{len(corpus):,} samples of {size} x {size} px, {kinds}, {rounds} rounds in turn, {os.cpu_count()} cores,
torch {torch.__version__} on one thread, WebDataset {webdataset.__version__}. Images per second are medians over the
rounds; behind them stands how many times as fast as the PNG folder in the same round, median of the ratios, which other
work on the machine moves less. All give the same batches of {BATCH}, (3, {size}, {size}) uint8 with masks.
"Sequential" is in the order of the corpus. WebDataset has no access by position: its random order, as that of our
stream, is of shuffled shards and a buffer of {_BUFFER} samples. LitData, where it is shown, holds the same PNG files,
and works in an environment and a process of its own, through its own loader: it does not install beside the releases
that are pinned here.

{table(rows)}

This section was written by `{command}`, and the page around it with it.
"""


_HEAD = """# Load a corpus for training

Any PyTorch program reads a corpus through two data sets in `bisqad.datasets`.

```python
import torch
from torch.utils.data import DataLoader

from bisqad.datasets import CorpusDataset, CorpusStream, split_by_group, weighted_sampler

parts = split_by_group("out", {"train": 0.8, "validation": 0.2})  # no photograph or simulation is in two

stream = CorpusStream(parts["train"], fields=["depth"], columns=["severity"], dtype=torch.float32)
loader = DataLoader(stream, batch_size=32, num_workers=2)
for epoch in range(3):
    stream.set_epoch(epoch)
    for batch in loader:
        batch["image"]  # (32, 3, H, W) float32, 0..1
        batch["mask"]  # (32, 1, H, W), 0 normal, 1 visibly changed
        batch["fields"]["depth"]  # (32, 1, H, W) float32, in the unit that the corpus gives
        batch["severity"]  # (32,)

dataset = CorpusDataset(parts["train"])
loader = DataLoader(dataset, batch_size=32, sampler=weighted_sampler(dataset.weights()))
```

**Which one?** `CorpusDataset` takes any sampler, and reads a batch at once. `CorpusStream` shuffles shards, decodes
each in sequence, and mixes samples in a buffer: choose it for slow disks. In an epoch it gives every sample exactly
once over all workers of the loader, and over all processes that train together where it is told `rank` and
`world_size` (`equal=True` leaves out the few samples that would give some of them one more). Its order follows from
`seed`, the epoch of `set_epoch`, which workers that persist hear of too, and the number of workers and ranks.

**What comes.** `arrays` takes any of `image`, `mask`, `source`, `foreground` and `instances`; `fields` the physical
fields; `columns` those of the manifest, and `dataset.record(k)` the whole record. Grey is repeated to 3 channels
unless `channels=None`; uint8 or, 0 to 1, float32, which keeps the depth of 16-bit pictures. `transform` is called on
each sample last.

**Weights.** `weights()` is the quality of each sample (`sqe`); with the hash of an estimator that scored the corpus
later (`maphc2f score`), its training weights. Give them to `weighted_sampler`, or to the data set as `weights=` to
find them in each batch as `weight`.

**Workers** may be forked or spawned. Rows are read straight from their shard: no thread and no open file crosses a
fork. Where the library `zarrs` is installed, the main process reads long runs of rows through it, on several cores;
child processes do not, because a forked one would wait for ever for threads that it does not have. The pixels are the
same either way, and a damaged shard is an error that names the file.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, help="a finished corpus; by default one is made of embedded pictures")
    parser.add_argument("--count", type=int, default=512, help="samples: made, or taken evenly of CORPUS")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--litdata", metavar="PYTHON", help="interpreter of an environment that has litdata and pillow")
    parser.add_argument("--page", type=Path, default=PAGE)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        if options.corpus is None:
            recipe = only_mechanisms(Recipe(count=options.count, sources=(parse_source("builtin"),)), ["pitting"])
            generate(work / "corpus", recipe, workers=1)
        whole = Corpus(options.corpus or work / "corpus")
        corpus = whole[:: max(1, len(whole) // options.count)]
        copies = copied(corpus, work)
        litdata = LitData(options.litdata, copies) if options.litdata else None
        rows = list(measure(corpus, copies, rounds=options.rounds, workers=(0, 1, 2), litdata=litdata))
        if litdata is not None:
            litdata.close()
        given = " --corpus CORPUS" * bool(options.corpus) + " --litdata PYTHON" * bool(options.litdata)
        given += f" --count {options.count} --rounds {options.rounds}"
        text = page(corpus, rows, rounds=options.rounds, command=f"python -m benchmarks.loading{given}")
    Console(width=200).print(table(rows), markup=False)
    write_atomic(options.page, text.encode())


if __name__ == "__main__":
    main()
