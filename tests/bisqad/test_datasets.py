"""A corpus as PyTorch data sets: real loaders, forked and spawned; every sample once, the store's own pixels."""

from __future__ import annotations

import pickle
import shutil
from collections import Counter
from collections.abc import Iterator
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from torch.utils.data import DataLoader

from bisqad.datasets import CorpusDataset, CorpusStream, split_by_group, weighted_sampler
from manifests import Corpus
from manifests.errors import ConfigError, CorpusError
from pipeline.generate import generate
from pipeline.recipe import Recipe
from pipeline.scoring import score_corpus

COUNT = 34
RECIPE = {
    "count": COUNT,
    "size": 64,
    "sources": [{"kind": "builtin", "categories": ["brick", "wood_grain"]}],  # grey and colour
    "mechanisms": {"pitting": {"grid": 32, "snapshots": 4, "area": {"kind": "loguniform", "low": 0.01, "high": 0.06}}},
    "placement": {"defects": [1, 2]},
    "bank": {"trajectories": 12},
    "label": {"least_visibility": 0.0},
    "store": {"shard_images": 5},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """34 samples of two categories in 8 shards; not to be changed."""
    out = tmp_path_factory.mktemp("loaded") / "corpus"
    generate(out, Recipe.model_validate(RECIPE), workers=1)
    return out


@pytest.fixture(scope="module")
def corpus(folder: Path) -> Corpus:
    return Corpus(folder)


def ids(batches: Any) -> list[str]:
    return [name for batch in batches for name in batch["id"]]


def test_a_sample_holds_the_pixels_of_the_store(corpus: Corpus) -> None:
    arrays = ("image", "mask", "source", "foreground", "instances")
    dataset = CorpusDataset(corpus, arrays=arrays, fields=["depth"], columns=["id", "severity"], channels=None)
    for index in range(len(corpus)):
        ours, theirs = dataset[index], corpus[index]
        assert (ours["id"], ours["severity"]) == (theirs.record.id, theirs.record.severity)
        assert_array_equal(ours["image"], theirs.image.transpose(2, 0, 1))
        assert_array_equal(ours["source"], theirs.source.transpose(2, 0, 1))
        assert_array_equal(ours["mask"][0] * 255, theirs.mask)
        assert_array_equal(ours["foreground"][0], theirs.foreground)
        assert_array_equal(ours["instances"][0], theirs.instances)
        assert_array_equal(ours["fields"]["depth"][0], theirs.fields["depth"].values)
        assert dataset.record(index) == theirs.record


def test_a_batch_is_what_its_samples_are_one_by_one(corpus: Corpus) -> None:
    dataset = CorpusDataset(corpus, fields=["depth"], columns=["id"])
    chosen = [7, 31, 0, 7, 12, -1]
    for one, index in zip(dataset.__getitems__(chosen), chosen, strict=True):
        alone = dataset[index]
        assert one["id"] == alone["id"] == corpus[index].record.id
        assert torch.equal(one["image"], alone["image"])
        assert torch.equal(one["fields"]["depth"], alone["fields"]["depth"])
    with pytest.raises(IndexError, match=f"sample {len(corpus)} of a corpus of {len(corpus)}"):
        dataset.__getitems__([0, len(corpus)])


def test_grey_and_colour_make_one_batch_of_floats(corpus: Corpus) -> None:
    batch = next(iter(DataLoader(CorpusDataset(corpus, dtype=torch.float32), batch_size=len(corpus))))
    assert batch["image"].shape == (len(corpus), 3, 64, 64)
    assert batch["image"].dtype == batch["mask"].dtype == torch.float32
    assert set(batch["mask"].unique().tolist()) == {0.0, 1.0}
    assert_allclose(batch["image"][0, 0].numpy(), corpus[0].image[..., 0] / np.float32(255), rtol=1e-7)


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # of a fork beside threads, from Python 3.12 on
@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")  # more workers than the machine has cores
@pytest.mark.parametrize(
    ("kind", "workers", "start"),
    [
        (CorpusDataset, 0, None),
        (CorpusDataset, 3, "fork"),
        (CorpusStream, 0, None),
        (CorpusStream, 3, "fork"),
        (CorpusStream, 2, "spawn"),
    ],
)
def test_every_sample_comes_once_an_epoch_from_any_loader(
    corpus: Corpus, kind: type, workers: int, start: str | None
) -> None:
    corpus[0].image  # noqa: B018 - so that a forked worker inherits what the reader has opened
    dataset = kind(corpus, columns=["id"])
    loader = DataLoader(dataset, batch_size=4, num_workers=workers, multiprocessing_context=start)
    assert sorted(ids(loader)) == sorted(corpus.table["id"].to_pylist())


@pytest.mark.parametrize("ranks", [1, 2, 5])
def test_ranks_and_workers_share_an_epoch_without_overlap(corpus: Corpus, ranks: int) -> None:
    streams = [CorpusStream(corpus, columns=["id"], rank=rank, world_size=ranks) for rank in range(ranks)]
    found = [[sample["id"] for sample in stream] for stream in streams]
    assert sorted(name for part in found for name in part) == sorted(corpus.table["id"].to_pylist())
    assert [len(part) for part in found] == [stream.count for stream in streams]
    assert max(map(len, found)) - min(map(len, found)) <= 1


def test_equal_ranks_leave_out_the_remainder(corpus: Corpus) -> None:
    streams = [CorpusStream(corpus, columns=["id"], rank=rank, world_size=4, equal=True) for rank in range(4)]
    found = [[sample["id"] for sample in stream] for stream in streams]
    assert {len(part) for part in found} == {len(corpus) // 4}
    assert max(Counter(name for part in found for name in part).values()) == 1


def test_an_epoch_has_its_own_order_and_has_it_again(corpus: Corpus) -> None:
    stream = CorpusStream(corpus, columns=["id"], buffer=6, seed=3)
    orders = []
    for epoch in (0, 1, 0):
        stream.set_epoch(epoch)
        orders.append([sample["id"] for sample in stream])
    assert orders[0] == orders[2] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1])
    assert [sample["id"] for sample in CorpusStream(corpus, columns=["id"], buffer=6, seed=4)] != orders[0]


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_persistent_workers_hear_of_the_epoch(corpus: Corpus) -> None:
    stream = CorpusStream(corpus, columns=["id"], buffer=6)
    loader = DataLoader(stream, batch_size=4, num_workers=1, persistent_workers=True, multiprocessing_context="fork")
    found = []
    for epoch in (0, 1):
        stream.set_epoch(epoch)
        found.append(ids(loader))
        assert found[-1] == ids(DataLoader(stream, batch_size=4))
    assert found[0] != found[1]


def test_without_shuffling_the_order_is_the_corpus_s(corpus: Corpus) -> None:
    assert [s["id"] for s in CorpusStream(corpus, columns=["id"], shuffle=False)] == corpus.table["id"].to_pylist()


def test_a_stream_reads_a_shard_once_and_in_sequence(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[tuple[str, str, list[int]]] = []
    original = Corpus.read

    def watched(self: Corpus, name: str, key: str, rows: Any) -> Any:
        read.append((name, key, list(rows)))
        return original(self, name, key, rows)

    monkeypatch.setattr(Corpus, "read", watched)
    assert len(list(CorpusStream(corpus, arrays=["image"]))) == len(corpus)
    shards = {(record.category, record.shard) for record in (sample.record for sample in corpus)}
    assert len(read) == len(shards)
    assert all(rows == sorted(rows) for _, _, rows in read)


@pytest.mark.parametrize("kind", [CorpusDataset, CorpusStream])
def test_a_pickled_data_set_gives_the_same_samples(corpus: Corpus, kind: type) -> None:
    before = kind(corpus.where(category="brick"), columns=["id"], transform=itemgetter("mask"))
    again = pickle.loads(pickle.dumps(before))  # noqa: S301 - our own
    masks = [list(d) if kind is CorpusStream else [d[k] for k in range(len(d))] for d in (before, again)]
    assert len(masks[0]) == len(corpus.where(category="brick"))
    assert all(torch.equal(a, b) for a, b in zip(*masks, strict=True))


def test_weights_are_the_quality_or_those_of_an_estimator(folder: Path, corpus: Corpus, tmp_path: Path) -> None:
    assert_array_equal(CorpusDataset(corpus).weights(), corpus.table["sqe"].to_numpy())
    with pytest.raises(CorpusError, match="not one that scored it"):
        CorpusDataset(corpus).weights("123456")
    out = Path(shutil.copytree(folder, tmp_path / "scored"))
    made = score_corpus(out, None)
    dataset = CorpusDataset(out)
    assert_array_equal(dataset.weights(made.sqe_sha256[:10]), Corpus(out).scores(made.sqe_sha256)[1])
    given = CorpusDataset(out, weights=dataset.weights(), columns=["sqe"])
    assert all(float(given[k]["weight"]) == pytest.approx(given[k]["sqe"]) for k in range(5))


def test_a_weighted_sampler_draws_by_weight_and_by_seed(corpus: Corpus) -> None:
    weights = np.zeros(len(corpus))
    weights[[3, 8]] = (1.0, 3.0)
    drawn = Counter(weighted_sampler(weights, count=2000, seed=5))
    assert set(drawn) == {3, 8}
    assert drawn[8] / 2000 == pytest.approx(0.75, abs=0.05)
    assert list(weighted_sampler(weights, seed=5)) == list(weighted_sampler(weights, seed=5))
    loader = DataLoader(CorpusDataset(corpus, columns=["id"]), sampler=weighted_sampler(weights), batch_size=8)
    assert set(ids(loader)) <= {corpus[3].record.id, corpus[8].record.id}


@pytest.mark.parametrize("weights", [np.zeros(3), [1.0, -1.0], [np.nan], np.ones((2, 2))], ids=str)
def test_weights_that_cannot_be_drawn_by_are_refused(weights: Any) -> None:
    with pytest.raises(ConfigError, match="weights: expected"):
        weighted_sampler(weights)


@pytest.mark.parametrize("seed", range(4))
def test_parts_share_no_group_no_photograph_and_no_simulation(corpus: Corpus, seed: int) -> None:
    parts = split_by_group(corpus, {"train": 0.6, "validation": 0.2, "test": 0.2}, seed=seed)
    assert list(parts) == ["train", "validation", "test"]
    assert sum(map(len, parts.values())) == len(corpus)
    seen: Iterator[set[tuple[str, int]]] = (
        {(s.record.category, s.record.source) for s in part}
        | {("simulation", d.trajectory) for s in part for d in s.record.defects}
        for part in parts.values()
    )
    train, validation, test = seen
    assert not train & validation
    assert not (train | validation) & test
    assert len(parts["train"]) == pytest.approx(0.6 * len(corpus), abs=6)


def test_more_parts_than_groups_are_refused(corpus: Corpus) -> None:
    one = corpus.where(group=corpus[0].record.group)
    with pytest.raises(ConfigError, match=r"1 group\(s\) cannot be split into 2 parts"):
        split_by_group(one, {"a": 1, "b": 1})
    with pytest.raises(ConfigError, match="expected shares above 0"):
        split_by_group(corpus, {"a": 1, "b": 0})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fields": ["opening"]}, "there is no 'opening'.*depth"),
        ({"arrays": ["picture"]}, "there is no 'picture'.*image, mask"),
        ({"columns": ["defects"]}, "there is no 'defects'.*severity"),
        ({"channels": 4}, "expected 3, or None"),
        ({"dtype": torch.int32}, "expected torch.uint8 or torch.float32"),
        ({"weights": [1.0]}, f"expected one for each of {COUNT} samples"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_wrong_option_is_one_clear_line(folder: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        CorpusDataset(Corpus(folder, statuses=None), **options)


@pytest.mark.parametrize("options", [{"rank": 2, "world_size": 2}, {"buffer": 0}], ids=str)
def test_a_wrong_share_of_a_stream_is_refused(corpus: Corpus, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="expected"):
        CorpusStream(corpus, **options)


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_damaged_shard_stops_the_loader_with_the_line_that_names_it(folder: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(folder, tmp_path / "damaged"))
    shard = next((out / "data").glob("*/*/image/c/1/0/0/0"))
    shard.write_bytes(shard.read_bytes()[:-9])
    loader = DataLoader(CorpusStream(out), batch_size=4, num_workers=1, multiprocessing_context="fork")
    with pytest.raises(CorpusError, match="cannot be decoded"):
        list(loader)
