"""Training of head and weights, on a problem made by hand whose bad samples are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from bisqad.cells import NormalCells, SampleCells
from bisqad.config import Method, TrainConfig
from bisqad.head import head_for
from bisqad.metrics import image_auroc
from bisqad.training import EpochFigures, Material, Trainer, train_head
from manifests.records import SampleRecord
from refine.sqe import DESCRIPTION_SIZE, SQE

CHANNELS, CELLS = 8, 24


def _samples(count: int, bad: NDArray[np.bool_], rng: np.random.Generator) -> SampleCells:
    """Defects stand out in two features, another pair for each mechanism; of bad samples the labels are shuffled."""
    kinds = np.where(np.arange(count) % 2 == 0, "fracture", "pitting")
    labels = np.tile(np.arange(CELLS) < CELLS // 2, (count, 1)).astype(np.float32)
    features = rng.normal(size=(count, CELLS, CHANNELS))
    features[:, : CELLS // 2, 0] += 2.0
    for k in range(count):
        features[k, : CELLS // 2, 1 if kinds[k] == "fracture" else 2] += 1.5
        if bad[k]:
            labels[k] = 1 - labels[k] if rng.random() < 0.5 else rng.permutation(labels[k])
    description = rng.normal(size=(count, DESCRIPTION_SIZE)).astype(np.float32)
    description[:, 0] = np.where(bad, -1.5, 1.5) + 0.5 * rng.normal(size=count)
    records = tuple(SampleRecord.model_construct(id=f"{k:016x}", mechanism=str(kinds[k])) for k in range(count))
    return SampleCells(
        torch.from_numpy(features).half(), torch.from_numpy(labels), torch.from_numpy(description), records
    )


def _normals(count: int, rng: np.random.Generator) -> NormalCells:
    features = torch.from_numpy(rng.normal(size=(count, 32, CHANNELS))).half()
    return NormalCells(features, np.array(["a/b"] * count), tuple(map(str, range(count))))


BAD = np.arange(128) % 5 < 2


@pytest.fixture(scope="module")
def material() -> Material:
    """128 samples, two of five bad, and a sound upper level."""
    rng = np.random.default_rng(8)
    sound = np.zeros(64, np.bool_)
    return Material(_samples(128, BAD, rng), _normals(24, rng), _samples(64, sound, rng), _normals(16, rng))


def settings(method: Method = "uniform", *, epochs: int = 6, seed: int = 0, **changes: object) -> TrainConfig:
    return TrainConfig.model_validate(
        {
            "seed": seed,
            "method": method,
            "detector": {"hidden": 16},
            "optimiser": {"epochs": epochs, "batch_samples": 32, "batch_normals": 8, "learning_rate": 5e-3},
            **changes,
        }
    )


def estimator() -> SQE:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return SQE().eval()  # as `load_sqe` gives it


def trainer(material: Material, config: TrainConfig) -> Trainer:
    return Trainer(material, config, estimator() if config.method == "bilevel" else None)


def trained(made: Trainer, epochs: int) -> list[EpochFigures]:
    return [made.epoch() for _ in range(epochs)]


def same_state(first: Trainer, second: Trainer) -> None:
    one, other = first.state(), second.state()
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert_array_equal(value.numpy(), other[name].numpy(), err_msg=name)


@pytest.mark.parametrize("method", ["uniform", "bilevel"])
def test_losses_fall(material: Material, method: Method) -> None:
    sound = replace(material, samples=material.samples.take(np.flatnonzero(~BAD)))
    figures = trained(trainer(sound, settings(method, epochs=16)), 16)
    assert figures[-1].lower_loss < 0.9 * figures[0].lower_loss
    assert figures[-1].normal_loss < 0.9 * figures[0].normal_loss
    if method == "bilevel":
        assert figures[-1].upper_loss < 0.9 * figures[0].upper_loss
    assert [f.epoch for f in figures] == list(range(16))


def test_the_learning_rate_falls_along_a_cosine(material: Material) -> None:
    rates = [f.learning_rate for f in trained(trainer(material, settings()), 6)]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] > 0.9 * 5e-3
    assert rates[-1] < 0.1 * 5e-3


def test_without_an_upper_level_its_figures_are_missing_and_all_weights_equal(material: Material) -> None:
    made = trainer(material, settings())
    figures = made.epoch()
    assert np.isnan([figures.upper_loss, figures.mean_score, figures.weight_spread, figures.effective_share]).all()
    assert_array_equal(made.weights(material.samples.description).numpy(), np.ones(128))
    assert_array_equal(made.influence.numpy(), np.zeros(128))


def test_a_batch_whose_samples_all_weigh_nothing_is_a_step_on_normals_alone(material: Material) -> None:
    made = Trainer(material, settings(), fixed_weights=torch.zeros(len(material.samples)))
    figures = trained(made, 2)
    assert [f.lower_loss for f in figures] == [0.0, 0.0]
    assert figures[1].normal_loss < figures[0].normal_loss
    assert all(bool(torch.isfinite(value).all()) for value in made.head.parameters())


@pytest.fixture(scope="module")
def learned(material: Material) -> tuple[Trainer, list[EpochFigures]]:
    made = trainer(material, settings("bilevel", epochs=12))
    return made, trained(made, 12)


def test_the_upper_level_changes_weights_and_keeps_their_mean_at_1(
    material: Material, learned: tuple[Trainer, list[EpochFigures]]
) -> None:
    weights = learned[0].weights(material.samples.description).numpy()
    assert_allclose(weights.mean(), 1, rtol=1e-5)
    assert weights.std() > 0.05
    assert weights.min() > 0


def test_the_guards_keep_scores_from_collapse(learned: tuple[Trainer, list[EpochFigures]]) -> None:
    for figures in learned[1]:
        assert 0.3 < figures.mean_score < 0.7
        assert figures.effective_share > 0.4


def is_fresh(made: Trainer) -> bool:
    fresh = head_for(made.material.normals, 16, seed=made.config.seed).state_dict()
    return all(torch.equal(value, fresh[name]) for name, value in made.head.state_dict().items())


def test_a_head_that_overfits_begins_anew(material: Material) -> None:
    few = replace(material, samples=material.samples.take(np.arange(32)))  # soon known by heart
    made = trainer(few, settings("bilevel", epochs=24))
    overfitted: list[int] = []
    resumed: Trainer | None = None
    lowest, since = np.inf, 0
    for epoch in range(24):
        loss = made.epoch().upper_loss
        since = 0 if loss < lowest else since + 1
        lowest = min(lowest, loss)
        if since == 2 and epoch < 23:
            overfitted.append(epoch)
            lowest, since = np.inf, 0
        assert (since == 0 and not np.isfinite(lowest)) == is_fresh(made)
        if len(overfitted) == 1 and resumed is None:
            resumed = trainer(few, settings("bilevel", epochs=24))
            resumed.load_state(made.state())
    assert overfitted
    assert resumed is not None
    trained(resumed, 23 - overfitted[0])
    same_state(made, resumed)


def test_samples_of_shuffled_masks_weigh_less_than_sound_ones(
    material: Material, learned: tuple[Trainer, list[EpochFigures]]
) -> None:
    weights = learned[0].weights(material.samples.description).numpy()
    assert weights[BAD].mean() < 0.8 * weights[~BAD].mean()
    assert image_auroc(weights, ~BAD) > 0.8


def test_influence_tells_sound_samples_from_those_of_shuffled_masks(
    learned: tuple[Trainer, list[EpochFigures]],
) -> None:
    made = learned[0]
    helped = (made.influence / made.seen.clamp(min=1)).numpy()
    assert image_auroc(helped, ~BAD) > 0.8


def test_each_sample_is_seen_in_the_steps_that_left_its_mechanism_in(
    learned: tuple[Trainer, list[EpochFigures]],
) -> None:
    seen = learned[0].seen.numpy()
    assert seen.min() > 0
    assert seen.max() <= 12
    assert seen.mean() == pytest.approx(6, abs=2.5)  # one of two mechanisms is left out of every step


def test_what_is_shared_with_the_quality_is_not_changed(learned: tuple[Trainer, list[EpochFigures]]) -> None:
    found, before = learned[0].estimator, estimator()
    assert found is not None
    for part in ("trunk", "quality_head"):
        for name, value in getattr(before, part).state_dict().items():
            assert_array_equal(getattr(found, part).state_dict()[name].numpy(), value.numpy())


@pytest.mark.parametrize("method", ["uniform", "bilevel"])
@pytest.mark.parametrize("stopped_after", [1, 3])
def test_a_stopped_trainer_goes_on_bitwise_as_one_that_never_stopped(
    material: Material, method: Method, stopped_after: int
) -> None:
    config = settings(method, epochs=4)
    whole, first, second = (trainer(material, config) for _ in range(3))
    wanted = trained(whole, 4)
    before = trained(first, stopped_after)
    second.load_state(first.state())
    found = before + trained(second, 4 - stopped_after)
    same_state(second, whole)
    assert [str(f) for f in found] == [str(f) for f in wanted]


def test_a_state_does_not_change_with_the_trainer_that_gave_it(material: Material) -> None:
    made = trainer(material, settings("bilevel"))
    made.epoch()
    state = made.state()
    kept = {name: value.clone() for name, value in state.items()}
    made.epoch()
    for name, value in kept.items():
        assert_array_equal(state[name].numpy(), value.numpy(), err_msg=name)


def test_a_state_of_another_network_is_refused(material: Material) -> None:
    made = trainer(material, settings())
    made.epoch()
    other = trainer(material, settings(detector={"hidden": 7}))
    with pytest.raises(RuntimeError, match="size mismatch"):
        other.load_state(made.state())


@pytest.mark.parametrize("method", ["uniform", "bilevel"])
def test_training_follows_from_the_seed(material: Material, method: Method) -> None:
    first, second, other = (trainer(material, settings(method, seed=seed)) for seed in (3, 3, 4))
    for made in (first, second, other):
        trained(made, 2)
    same_state(first, second)
    assert not torch.equal(first.head.output.weight, other.head.output.weight)


def test_samples_of_weight_0_teach_nothing(material: Material) -> None:
    """Bad samples of weight 0 leave the same head as bad samples of any other content."""
    spoilt = material.samples.features.clone()
    spoilt[torch.from_numpy(BAD)] = 3.0
    weights = torch.from_numpy(np.where(BAD, 0.0, 1.0).astype(np.float32))
    other = replace(material, samples=replace(material.samples, features=spoilt))
    first, second = (train_head(m, settings(epochs=2), weights=weights) for m in (material, other))
    assert_allclose(first.output.weight.detach().numpy(), second.output.weight.detach().numpy(), atol=1e-6)


def test_forward_mode_and_differences_give_nearly_the_same_weights(material: Material) -> None:
    found = []
    for products in ("jvp", "difference"):
        made = trainer(material, settings("bilevel", bilevel={"products": products}))
        trained(made, 2)
        found.append(made.weights(material.samples.description).numpy())
    assert np.corrcoef(found[0], found[1])[0, 1] > 0.98


def test_real_defects_turn_weights_towards_the_mechanism_that_is_like_them(material: Material) -> None:
    pits = [k for k in range(64) if k % 2]
    upper = material.upper_samples.take(pits)
    made = Trainer(replace(material, real=(upper.features, upper.labels)), settings("bilevel"), estimator())
    assert np.isfinite(trained(made, 2)[-1].upper_loss)


def test_a_batch_of_one_sample_has_finite_figures(material: Material) -> None:
    few = replace(material, samples=material.samples.take([0, 1, 2]))
    config = settings("bilevel", optimiser={"epochs": 1, "batch_samples": 1, "batch_normals": 4})
    figures = trainer(few, config).epoch()
    assert np.isfinite([figures.upper_loss, figures.weight_spread, figures.effective_share]).all()


def test_one_mechanism_alone_can_be_learned(material: Material) -> None:
    cracks = [k for k in range(64) if k % 2 == 0]
    alone = replace(material, samples=material.samples.take(cracks), upper_samples=material.upper_samples.take(cracks))
    assert np.isfinite(trained(trainer(alone, settings("bilevel")), 1)[0].upper_loss)
