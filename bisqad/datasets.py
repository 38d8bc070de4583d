"""A corpus as PyTorch data sets: by position (`CorpusDataset`), or shard by shard as a stream (`CorpusStream`).

>>> from torch.utils.data import DataLoader                              # doctest: +SKIP
>>> parts = split_by_group("out", {"train": 0.8, "validation": 0.2})     # doctest: +SKIP
>>> loader = DataLoader(CorpusStream(parts["train"]), batch_size=32, num_workers=2)   # doctest: +SKIP
>>> batch = next(iter(loader))                                           # doctest: +SKIP
>>> batch["image"].shape, batch["mask"].shape                            # doctest: +SKIP
(torch.Size([32, 3, 256, 256]), torch.Size([32, 1, 256, 256]))

A sample is a dict of tensors (C, H, W), which PyTorch's own collation makes a batch of:

==============  =============  ===================================================================
key             channels       what it is
==============  =============  ===================================================================
``image``       3, or stored   the picture with its defects
``source``      3, or stored   the photograph that it was made from
``mask``        1              1 where it is visibly changed, else 0
``foreground``  1              1 where the part is, else 0
``instances``   1              uint8: k where it is visibly changed by the k-th defect
``fields``      1 each         float32 by name; 0 where no defect of the sample has that field
``weight``                     where weights were given
==============  =============  ===================================================================

and the columns of the manifest that were asked for, by their names. Both data sets can be pickled, and read alike in
the main process, in forked and in spawned workers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, WeightedRandomSampler, get_worker_info

from manifests.corpus import Corpus
from manifests.errors import ConfigError
from manifests.layout import INSTANCE
from manifests.pictures import eight_bits
from manifests.records import SampleRecord
from manifests.splits import part_of_group

__all__ = ["CorpusDataset", "CorpusStream", "split_by_group", "weighted_sampler"]

Sample = dict[str, Any]

_PICTURES: Final = ("image", "source")
_ARRAYS: Final = ("image", "mask", "source", "foreground", "instances")
_OF_PHOTOGRAPHS: Final = ("source", "foreground")
_BLOCK_ROWS: Final = 64  # rows of a shard that a stream decodes at a time


class _Reader:
    """Samples at positions of a corpus as dicts of tensors; parameters as of `CorpusDataset`."""

    def __init__(
        self,
        corpus: Corpus,
        arrays: Sequence[str],
        fields: Sequence[str],
        columns: Sequence[str],
        channels: int | None,
        dtype: torch.dtype,
        weights: ArrayLike | None,
    ) -> None:
        known_fields = sorted({field for about in corpus.info.mechanisms.values() for field in about.fields})
        plain = [
            name for name in corpus.table.column_names if not pa.types.is_list(corpus.table.schema.field(name).type)
        ]
        for option, given, known in (
            ("arrays", arrays, _ARRAYS), ("fields", fields, known_fields), ("columns", columns, plain)
        ):  # fmt: skip
            if unknown := [name for name in given if name not in known]:
                raise ConfigError(
                    f"{option}: there is no {unknown[0]!r} in {corpus.path}; there are {', '.join(known)}"
                )
        if channels not in {3, None}:
            raise ConfigError(f"channels: expected 3, or None for as many as are stored, got {channels!r}")
        if dtype not in {torch.uint8, torch.float32}:
            raise ConfigError(f"dtype: expected torch.uint8 or torch.float32, got {dtype}")
        self.corpus = corpus
        self.arrays, self.fields, self.channels, self.dtype = tuple(arrays), tuple(fields), channels, dtype
        self.weights = None if weights is None else _checked_weights(weights, len(corpus))
        self.columns = corpus.table.select(list(columns)).combine_chunks()
        self.keeps_instances = corpus.info.config["placement"]["defects"][1] > 1
        table = corpus.table
        names = [f"{d}/{c}" for d, c in zip(table["dataset"].to_pylist(), table["category"].to_pylist(), strict=True)]
        self.keys, self.key = np.unique(np.array(names, dtype=np.str_), return_inverse=True)
        self.shard, self.row, self.source = (
            np.asarray(table[name].to_numpy(), dtype=np.int64) for name in ("shard", "row", "source")
        )

    def samples(self, positions: NDArray[np.int64]) -> list[Sample]:
        """Samples in the order asked for; what lies in one category is read together."""
        found: list[Sample] = [dict(row) for row in self.columns.take(pa.array(positions)).to_pylist()]
        if not self.columns.num_columns:
            found = [{} for _ in positions]
        for key in np.unique(self.key[positions]):
            places = np.flatnonzero(self.key[positions] == key)
            self._fill([found[place] for place in places], str(self.keys[key]), positions[places])
        if self.weights is not None:
            for sample, position in zip(found, positions.tolist(), strict=True):
                sample["weight"] = torch.tensor(self.weights[position], dtype=torch.float32)
        return found

    def _fill(self, samples: Sequence[Sample], key: str, positions: NDArray[np.int64]) -> None:
        for name in self.arrays:
            for sample, values in zip(samples, self._read(name, key, positions), strict=True):
                sample[name] = self._picture(values) if name in _PICTURES else self._plane(name, values)
        for name in self.fields:
            for sample, values in zip(samples, self._read(name, key, positions), strict=True):
                sample.setdefault("fields", {})[name] = torch.from_numpy(values.astype(np.float32))[None]

    def _read(self, name: str, key: str, positions: NDArray[np.int64]) -> NDArray[Any]:
        rows = (self.source if name in _OF_PHOTOGRAPHS else self.row)[positions]
        if name == "instances":
            name = INSTANCE if self.keeps_instances else "mask"
        return self.corpus.read(name, key, _as_run(rows))

    def _picture(self, pixels: NDArray[Any]) -> Tensor:
        """(C, H, W) uint8, or float32 0..1, of (H, W, C); its memory is its own."""
        # in NumPy: for so little, torch's threads cost more than they spare, and very much more on a busy machine
        planes = (eight_bits(pixels) if self.dtype is torch.uint8 else pixels).transpose(2, 0, 1)
        if self.channels == 3:
            planes = np.broadcast_to(planes, (3, *planes.shape[1:]))
        if self.dtype is torch.uint8:
            return torch.from_numpy(np.array(planes, order="C"))
        return torch.from_numpy(np.divide(planes, np.iinfo(pixels.dtype).max, dtype=np.float32, order="C"))

    def _plane(self, name: str, values: NDArray[Any]) -> Tensor:
        """(1, H, W) of (H, W): 0 and 1, or numbers of instances."""
        if name == "instances" and self.keeps_instances:
            return torch.from_numpy(values.copy())[None]
        number = np.uint8 if name == "instances" or self.dtype is torch.uint8 else np.float32
        return torch.from_numpy((values > 0).astype(number))[None]


class CorpusDataset(Dataset[Any]):
    """A corpus by position, for any sampler; a batch is read in one go, each shard that it touches once.

    Parameters
    ----------
    corpus : Corpus, str or Path
        A corpus, a view of one such as ``corpus.where(category="coins")``, its folder, or ``s3://bucket/prefix``.
    arrays : sequence of str
        Of image, mask, source, foreground and instances, those to read.
    fields : sequence of str
        Physical fields to read, such as ``opening``.
    columns : sequence of str
        Columns of the manifest to give along, such as ``severity``.
    channels : 3 or None
        3 repeats grey, so that categories can be mixed in a batch; None leaves the channels as they are stored.
    dtype : torch.uint8 or torch.float32
        Of pictures and masks; float32 is 0..1, and keeps the depth of 16-bit pictures.
    weights : array of (N,), optional
        Given along as ``weight``; see `weights`.
    transform : callable, optional
        Called on every sample last; what it returns is the sample. Spawned workers need one that can be pickled.

    Raises
    ------
    ConfigError
        There is no such array, field or column, or an option has another value than these.
    CorpusError
        The folder is no finished corpus; on reading, a shard is missing or damaged.
    """

    def __init__(
        self,
        corpus: Corpus | str | Path,
        *,
        arrays: Sequence[str] = ("image", "mask"),
        fields: Sequence[str] = (),
        columns: Sequence[str] = (),
        channels: int | None = 3,
        dtype: torch.dtype = torch.uint8,
        weights: ArrayLike | None = None,
        transform: Callable[[Sample], Any] | None = None,
    ) -> None:
        self._reader = _Reader(_opened(corpus), arrays, fields, columns, channels, dtype, weights)
        self._transform = transform

    @property
    def corpus(self) -> Corpus:
        """What is read."""
        return self._reader.corpus

    def __len__(self) -> int:
        return len(self.corpus)

    def __getitem__(self, index: int) -> Any:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """Samples of a whole batch: what a `DataLoader` calls."""
        positions = np.asarray(indices, dtype=np.int64).reshape(-1)
        count = len(self)
        if positions.size and not (-count <= positions.min() and positions.max() < count):
            wrong = positions[(positions < -count) | (positions >= count)][0]
            raise IndexError(f"sample {wrong} of a corpus of {count}")
        samples = self._reader.samples(positions % max(count, 1))
        return samples if self._transform is None else [self._transform(sample) for sample in samples]

    def record(self, index: int) -> SampleRecord:
        """All that is known of a sample: its row of the manifest."""
        return self.corpus[index].record

    def weights(self, sqe_sha256: str | None = None) -> NDArray[np.float64]:
        """What the samples count for, (N,), 0..1: their quality, or the training weights of an estimator.

        Parameters
        ----------
        sqe_sha256 : str, optional
            Of an estimator that scored the corpus later, or its beginning: its training weights. By default the quality
            that every sample got when it was made, column ``sqe``.

        Raises
        ------
        CorpusError
            The samples were not scored, or not by that estimator.
        """
        return _weights_of(self.corpus, sqe_sha256)


class CorpusStream(IterableDataset[Any]):
    """A corpus shard by shard: shards in a random order, their rows decoded in sequence, then mixed in a buffer.

    In one epoch every sample comes exactly once, over all workers of a loader and all ranks: the epoch's sequence of
    shards is cut into as many even stretches, which differ by one sample at most. There is no length, as a loader would
    make another number of batches of it with each number of workers; `count` is the number of samples of this rank.

    Parameters
    ----------
    corpus, arrays, fields, columns, channels, dtype, weights, transform
        As of `CorpusDataset`.
    shuffle : bool
        False: in the order of the corpus.
    buffer : int
        Samples that are mixed at a time, in each worker; 1 leaves the rows of a shard in sequence.
    seed : int
        Of the order. The same seed, epoch, and number of workers and ranks give the same order.
    rank, world_size : int
        Which of how many processes that train together this is.
    equal : bool
        Leave out up to ``world_size - 1`` samples of the epoch's last, so that all ranks have as many.

    Raises
    ------
    ConfigError
        As of `CorpusDataset`; or the rank is not below the world's size, or the buffer is empty.
    """

    def __init__(
        self,
        corpus: Corpus | str | Path,
        *,
        arrays: Sequence[str] = ("image", "mask"),
        fields: Sequence[str] = (),
        columns: Sequence[str] = (),
        channels: int | None = 3,
        dtype: torch.dtype = torch.uint8,
        weights: ArrayLike | None = None,
        transform: Callable[[Sample], Any] | None = None,
        shuffle: bool = True,
        buffer: int = 256,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        equal: bool = False,
    ) -> None:
        if not 0 <= rank < world_size:
            raise ConfigError(f"rank: expected 0 to world_size - 1 = {world_size - 1}, got {rank}")
        if buffer < 1:
            raise ConfigError(f"buffer: expected at least 1 sample, got {buffer}")
        self._reader = _Reader(_opened(corpus), arrays, fields, columns, channels, dtype, weights)
        self._transform = transform
        self._shuffle, self._buffer, self._seed = shuffle, buffer, seed
        self._rank, self._world_size, self._equal = rank, world_size, equal
        self._epoch = torch.zeros((), dtype=torch.int64)
        self._epoch.share_memory_()  # type: ignore[no-untyped-call]  # so that workers that persist see it change

    @property
    def corpus(self) -> Corpus:
        """What is read."""
        return self._reader.corpus

    @property
    def count(self) -> int:
        """Samples that this rank gets in an epoch."""
        return len(self._stretch(np.arange(len(self.corpus)), self._rank, self._world_size))

    def set_epoch(self, epoch: int) -> None:
        """Take another order; to be called before each epoch, in the main process, as of `DistributedSampler`."""
        self._epoch.fill_(epoch)

    def weights(self, sqe_sha256: str | None = None) -> NDArray[np.float64]:
        """As `CorpusDataset.weights`."""
        return _weights_of(self.corpus, sqe_sha256)

    def __iter__(self) -> Iterator[Any]:
        worker = get_worker_info()
        number, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        epoch = int(self._epoch)
        mine = self._stretch(self._sequence(epoch), self._rank, self._world_size)
        part = mine[len(mine) * number // workers : len(mine) * (number + 1) // workers]
        samples = self._decoded(part)
        if self._shuffle:
            rng = np.random.default_rng([self._seed, epoch, self._rank * workers + number])
            samples = _mixed(samples, self._buffer, rng)
        for sample in samples:
            yield sample if self._transform is None else self._transform(sample)

    def _sequence(self, epoch: int) -> NDArray[np.int64]:
        """All positions, shard after shard, rows ascending in each."""
        reader = self._reader
        order = np.lexsort((reader.row, reader.shard, reader.key))
        cuts = np.flatnonzero(np.diff(reader.key[order]) | np.diff(reader.shard[order])) + 1
        shards = np.split(order, cuts)
        if not self._shuffle:
            shards.sort(key=lambda positions: int(positions.min(initial=0)))
            return np.concatenate(shards)
        turn = np.random.default_rng([self._seed, epoch]).permutation(len(shards))
        return np.concatenate([shards[k] for k in turn])

    def _stretch(self, sequence: NDArray[np.int64], rank: int, ranks: int) -> NDArray[np.int64]:
        count = len(sequence) - (len(sequence) % ranks if self._equal else 0)
        return sequence[count * rank // ranks : count * (rank + 1) // ranks]

    def _decoded(self, positions: NDArray[np.int64]) -> Iterator[Sample]:
        """Samples in this order, read a run of one shard at a time."""
        reader = self._reader
        changes = np.diff(reader.key[positions]) | np.diff(reader.shard[positions])
        for run in np.split(positions, np.flatnonzero(changes) + 1):
            block = _BLOCK_ROWS if isinstance(reader.corpus.path, Path) else len(run)  # a bucket gives whole shards
            for first in range(0, len(run), block):
                yield from reader.samples(run[first : first + block])


def _mixed(samples: Iterator[Sample], size: int, rng: np.random.Generator) -> Iterator[Sample]:
    """Samples in another order: each comes at a random moment after at most ``size`` are waiting."""
    waiting: list[Sample] = []
    for sample in samples:
        waiting.append(sample)
        if len(waiting) >= size:
            yield _drawn(waiting, rng)
    while waiting:
        yield _drawn(waiting, rng)


def _drawn(waiting: list[Sample], rng: np.random.Generator) -> Sample:
    k = int(rng.integers(len(waiting)))
    waiting[k], waiting[-1] = waiting[-1], waiting[k]
    return waiting.pop()


def weighted_sampler(weights: ArrayLike, *, count: int | None = None, seed: int = 0) -> WeightedRandomSampler:
    """A sampler that draws samples, with replacement, as often as their weights say.

    Parameters
    ----------
    weights : array of (N,)
        Such as of `CorpusDataset.weights`; 0 is never drawn.
    count : int, optional
        How many are drawn in an epoch; N by default.
    seed : int
        Of the draws. The sampler goes on with its stream: each epoch has other ones.

    Raises
    ------
    ConfigError
        A weight is negative or not finite, or all are 0.
    """
    checked = _checked_weights(weights, None)
    if not checked.any():
        raise ConfigError("weights: expected one above 0 at least, got only 0; was the corpus scored?")
    number = len(checked) if count is None else count
    return WeightedRandomSampler(checked.tolist(), number, generator=torch.Generator().manual_seed(seed))


def split_by_group(corpus: Corpus | str | Path, parts: Mapping[str, float], *, seed: int = 0) -> dict[str, Corpus]:
    """Views of a corpus that share no photograph and no simulation: whole groups go to one part or another.

    Parameters
    ----------
    corpus : Corpus, str or Path
        A corpus, a view of one, or its folder.
    parts : mapping of str to float
        Shares by name, such as ``{"train": 0.8, "validation": 0.2}``; only their ratio counts.
    seed : int
        Another seed gives another choice among groups of one size, as `manifests.splits` chooses for exports.

    Returns
    -------
    dict of str to Corpus
        None is empty; groups differ in size, so the shares are met as nearly as they allow.

    Raises
    ------
    ConfigError
        There are fewer groups than parts, or a share is not above 0.
    """
    whole = _opened(corpus)
    if not parts or any(not share > 0 or not np.isfinite(share) for share in parts.values()):
        raise ConfigError(f"parts: expected shares above 0, got {dict(parts)}")
    total = sum(parts.values())
    shares = {name: share / total for name, share in parts.items()}
    part_of = part_of_group(whole.table["group"].to_pylist(), shares, seed=seed)
    if len(part_of) < len(parts):
        raise ConfigError(
            f"{whole.path}: {len(part_of)} group(s) cannot be split into {len(parts)} parts; "
            "raise bank.groups in the recipe, or ask for fewer parts"
        )
    return {name: whole.where(group=[group for group, part in part_of.items() if part == name]) for name in parts}


def _opened(corpus: Corpus | str | Path) -> Corpus:
    return corpus if isinstance(corpus, Corpus) else Corpus(corpus)


def _weights_of(corpus: Corpus, sqe_sha256: str | None) -> NDArray[np.float64]:
    quality, weight = corpus.scores(sqe_sha256)
    return quality if sqe_sha256 is None else weight


def _checked_weights(weights: ArrayLike, count: int | None) -> NDArray[np.float64]:
    checked = np.asarray(weights, dtype=np.float64)
    if checked.ndim != 1 or (count is not None and len(checked) != count):
        raise ConfigError(f"weights: expected one for each of {count or 'the'} samples, got an array {checked.shape}")
    if not np.isfinite(checked).all() or (checked < 0).any():
        raise ConfigError("weights: expected finite numbers that are not negative")
    return checked


def _as_run(rows: NDArray[np.int64]) -> Sequence[int]:
    """The rows as a range where they follow each other."""
    if len(rows) and np.array_equal(rows, np.arange(rows[0], rows[0] + len(rows))):
        return range(int(rows[0]), int(rows[0]) + len(rows))
    return [int(row) for row in rows]
