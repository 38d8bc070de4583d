"""What a hypergradient costs and gains: one step, implicit, and the convex last layer on one contaminated problem.

Run with::

    python -m benchmarks.hypergradients            # prints the tables, writes docs/hypergradients.md
    python -m benchmarks.hypergradients --quick    # small, writes nothing

Samples of 64 rows of 400 features; in 60 % of them 40 % of the labels are 1 whatever they were. A head of 400-64-1 is
trained on them with a weight for every sample, the logits of which are learned one by one from clean rows: nothing
generalises from sample to sample, so what is compared is the hypergradient. All methods start from the same head,
trained for a while with equal weights, see the same batches, and take one step of the logits for a few of the head.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional
from torchmetrics.functional.classification import binary_auroc

from bisqad.convex import logistic
from bisqad.hypergradient import HyperGradient, Params, backpropagate, implicit, largest_eigenvalue, one_step
from bisqad.weighting import budget_penalty, effective_sample_size, sample_weights

TARGET_AUROC = 0.95
LR, WEIGHTS_LR, DAMPING = 2e-3, 0.2, 1e-2
SPOILT, SPOILT_ROWS = 0.6, 0.4  # share of the samples, and of their rows


@dataclass(frozen=True)
class Size:
    """Of the problem; ``upper_steps`` at most, ``warm_up`` steps of the head with equal weights."""

    samples: int = 512
    rows: int = 64
    features: int = 400
    hidden: int = 64
    batch: int = 64
    upper_steps: int = 48
    warm_up: int = 30


QUICK = Size(samples=48, rows=8, features=20, hidden=8, batch=16, upper_steps=24, warm_up=10)


@dataclass(frozen=True)
class Problem:
    """``rows`` (N, R, F), ``labels`` (N, R), samples ``spoilt`` (N,); clean rows to steer by, others to judge by."""

    size: Size
    seed: int
    rows: Tensor
    labels: Tensor
    spoilt: Tensor
    steering: tuple[Tensor, Tensor]
    judging: tuple[Tensor, Tensor]

    @classmethod
    def drawn(cls, size: Size, seed: int) -> Problem:
        generator = torch.Generator().manual_seed(seed)
        mixing, inner = (torch.randn(16, n, generator=generator) / 4 for n in (size.features, 16))
        outer = torch.randn(16, generator=generator)

        def drawn(*shape: int) -> tuple[Tensor, Tensor]:
            latent = torch.randn(*shape, 16, generator=generator)
            rows = latent @ mixing + 0.5 * torch.randn(*shape, size.features, generator=generator)
            return rows, (torch.tanh(2 * latent @ inner) @ outer > 0).float()

        rows, labels = drawn(size.samples, size.rows)
        spoilt = torch.rand(size.samples, generator=generator) < SPOILT
        struck = spoilt[:, None] & (torch.rand(labels.shape, generator=generator) < SPOILT_ROWS)
        labels = torch.where(struck, torch.ones(()), labels)
        return cls(size, seed, rows, labels, spoilt, drawn(32 * size.rows), drawn(64 * size.rows))

    def batches(self) -> list[Tensor]:
        """The same for every method: sample numbers (batch,) of each upper step."""
        generator, found = torch.Generator().manual_seed(self.seed + 1), list[Tensor]()
        while len(found) < self.size.upper_steps:
            found += torch.randperm(self.size.samples, generator=generator).split(self.size.batch)[
                : self.size.samples // self.size.batch
            ]
        return found[: self.size.upper_steps]


class Head:
    """400-64-1 with Adam, as parameters in a dict; its step, its preconditioner, and the losses of a batch."""

    def __init__(self, problem: Problem) -> None:
        torch.manual_seed(problem.seed)
        size, self.problem = problem.size, problem
        self.network = torch.nn.Sequential(
            torch.nn.Linear(size.features, size.hidden), torch.nn.SiLU(), torch.nn.Linear(size.hidden, 1)
        )
        self.adam = torch.optim.Adam(self.network.parameters(), lr=LR)
        generator = torch.Generator().manual_seed(problem.seed + 2)
        for _ in range(size.warm_up):
            batch = torch.randperm(size.samples, generator=generator)[: size.batch]
            self.step(batch, torch.ones(len(batch)))

    @property
    def params(self) -> Params:
        return {name: value.detach().clone() for name, value in self.network.named_parameters()}

    @property
    def preconditioner(self) -> Params:
        """Diagonal of Adam's next step, times what the bias correction leaves of the step's own gradient."""
        found = {}
        for name, value in self.network.named_parameters():
            state = self.adam.state[value]
            spread = state["exp_avg_sq"] / (1 - 0.999 ** float(state["step"]))
            found[name] = 1 / (spread.sqrt() + 1e-8)
        return found

    def logits(self, params: Params, rows: Tensor) -> Tensor:
        return functional_call(self.network, params, (rows,))[..., 0]

    def sample_losses(self, batch: Tensor) -> Callable[[Params], Tensor]:
        rows, labels = self.problem.rows[batch], self.problem.labels[batch]

        def losses(params: Params) -> Tensor:
            logits = self.logits(params, rows)
            return functional.binary_cross_entropy_with_logits(logits, labels, reduction="none").mean(1)

        return losses

    def validation_loss(self, params: Params) -> Tensor:
        rows, labels = self.problem.steering
        return functional.binary_cross_entropy_with_logits(self.logits(params, rows), labels)

    def step(self, batch: Tensor, weights: Tensor) -> None:
        """One of Adam on the weighted loss with damping."""
        self.adam.zero_grad()
        params = dict(self.network.named_parameters())
        loss = weights @ self.sample_losses(batch)(params) / weights.sum()
        (loss + DAMPING / 2 * sum(value.square().sum() for value in params.values())).backward()
        self.adam.step()

    def hidden(self, rows: Tensor) -> Tensor:
        """Features (..., hidden + 1) of the last layer, the constant with them."""
        with torch.no_grad():
            inside = self.network[1](self.network[0](rows))
        return torch.cat([inside, torch.ones_like(inside[..., :1])], dim=-1)

    def test_loss(self) -> float:
        rows, labels = self.problem.judging
        with torch.no_grad():
            return float(functional.binary_cross_entropy_with_logits(self.network(rows)[..., 0], labels))


Upper = Callable[[Tensor, Tensor], HyperGradient]


@dataclass(frozen=True)
class Method:
    """``begin(head)`` gives what makes a hypergradient of a batch and weights; ``lower_steps`` of the head follow."""

    name: str
    begin: Callable[[Head], Upper]
    lower_steps: int


def _one_step(**options: object) -> Callable[[Head], Upper]:
    def begin(head: Head) -> Upper:
        def upper(batch: Tensor, weights: Tensor) -> HyperGradient:
            losses, diagonal = head.sample_losses(batch), head.preconditioner
            return one_step(
                losses, head.validation_loss, head.params, weights, lr=LR, preconditioner=diagonal, **options
            )

        return upper

    return begin


def _own_step(head: Head) -> Upper:
    """Through the step that Adam takes anyway, here: the head's parameters before and after it."""

    def upper(batch: Tensor, weights: Tensor) -> HyperGradient:
        before, diagonal = head.params, head.preconditioner
        head.step(batch, weights)
        return one_step(
            head.sample_losses(batch),
            head.validation_loss,
            before,
            weights,
            lr=LR,
            preconditioner=diagonal,
            stepped=head.params,
            products="difference",
        )

    return upper


def _implicit(**options: object) -> Callable[[Head], Upper]:
    def begin(head: Head) -> Upper:
        def upper(batch: Tensor, weights: Tensor) -> HyperGradient:
            losses = head.sample_losses(batch)
            return implicit(losses, head.validation_loss, head.params, weights, damping=0.1, tolerance=1e-3, **options)

        return upper

    return begin


def _neumann(head: Head) -> Upper:
    """Its step from one estimate of the largest eigenvalue, before the first upper step, with a margin of 2."""
    batch = torch.arange(head.problem.size.batch)
    largest = largest_eigenvalue(head.sample_losses(batch), head.params, torch.ones(len(batch)), damping=0.1)
    return _implicit(solver="neumann", steps=10, step=0.5 / largest, hessian="retained")(head)


def _last_layer(head: Head) -> Upper:
    """Logistic regression on the hidden layer of the first head, which is not trained any more."""
    features = head.hidden(head.problem.rows)
    judged, labels = head.hidden(head.problem.steering[0]).double(), head.problem.steering[1].double()
    owner = torch.arange(head.problem.size.batch).repeat_interleave(head.problem.size.rows)

    def validation_loss(theta: Tensor) -> Tensor:
        return functional.binary_cross_entropy_with_logits(judged @ theta, labels)

    def upper(batch: Tensor, weights: Tensor) -> HyperGradient:
        rows, aims = features[batch].flatten(0, 1), head.problem.labels[batch].flatten()
        found = logistic(rows, aims, owner, weights, validation_loss, damping=DAMPING, tolerance=1e-6)
        return HyperGradient(found.weights_gradient.float(), found.validation_loss)

    return upper


METHODS = (
    Method("one step, jvp", _one_step(), 1),
    Method("one step, difference", _one_step(products="difference"), 1),
    Method("one step, Adam's own, difference", _own_step, 0),
    Method("implicit, CG-5", _implicit(steps=5), 3),
    Method("implicit, CG-5, retained graph", _implicit(steps=5, hessian="retained"), 3),
    Method("implicit, CG-10, retained graph", _implicit(steps=10, hessian="retained"), 3),
    Method("implicit, Neumann-10, retained graph", _neumann, 3),
    Method("convex last layer", _last_layer, 0),
)


@dataclass
class Run:
    """One method on one problem: seconds of each upper step, of its hypergradient alone, and AUROC after each."""

    name: str
    step_s: list[float] = field(default_factory=list)
    hypergradient_s: list[float] = field(default_factory=list)
    auroc: list[float] = field(default_factory=list)
    effective_share: float = 0.0
    test_loss: float = 0.0

    @property
    def steps_to_target(self) -> int | None:
        return next((k + 1 for k, value in enumerate(self.auroc) if value >= TARGET_AUROC), None)

    @property
    def seconds_to_target(self) -> float | None:
        return None if self.steps_to_target is None else sum(self.step_s[: self.steps_to_target])


class _Learner:
    """One method at work: head, logits of all samples, and its record."""

    def __init__(self, method: Method, problem: Problem) -> None:
        self.method, self.problem, self.run = method, problem, Run(method.name)
        self.head = Head(problem)
        self.logits = torch.zeros(problem.size.samples, requires_grad=True)
        self.adam = torch.optim.Adam([self.logits], lr=WEIGHTS_LR)
        self.upper = method.begin(self.head)

    def step(self, batch: Tensor) -> None:
        start = time.perf_counter()
        weights = sample_weights(self.logits[batch])
        found = self.upper(batch, weights.detach())
        self.run.hypergradient_s.append(time.perf_counter() - start)
        self.adam.zero_grad()
        # the hypergradient is brought to length 1: methods differ in its scale by orders, and the guard must not
        gradient = found.weights_gradient / found.weights_gradient.norm().clamp(min=1e-12)
        guard = budget_penalty(torch.sigmoid(self.logits[batch]), strength=0.2)
        backpropagate(weights, gradient, guard=guard)
        self.adam.step()
        for _ in range(self.method.lower_steps):
            self.head.step(batch, sample_weights(self.logits[batch]).detach())
        self.run.step_s.append(time.perf_counter() - start)
        self.run.auroc.append(float(binary_auroc(self.logits.detach(), (~self.problem.spoilt).long())))


def compare(size: Size, *, seed: int, methods: tuple[Method, ...] = METHODS) -> list[Run]:
    """All methods on one problem, an upper step of each in turn, so that a busy machine slows all alike."""
    problem = Problem.drawn(size, seed)
    learners = [_Learner(method, problem) for method in methods]
    for batch in problem.batches():
        for learner in learners:
            learner.step(batch)
    for learner in learners:
        weights = sample_weights(learner.logits.detach())
        learner.run.effective_share = float(effective_sample_size(weights)) / size.samples
        learner.run.test_loss = final_loss(problem, weights)
    return [learner.run for learner in learners]


def final_loss(problem: Problem, weights: Tensor) -> float:
    """Cross-entropy on rows to judge by, of a head trained anew with these weights: what the weights are worth."""
    head = Head(problem)
    for batch in problem.batches():
        if float(weights[batch].sum()) > 0:
            head.step(batch, weights[batch])
    return head.test_loss()


def references(size: Size, *, seed: int) -> tuple[float, float]:
    """Test losses with equal weights, and with the spoilt samples left out."""
    problem = Problem.drawn(size, seed)
    return final_loss(problem, torch.ones(size.samples)), final_loss(problem, (~problem.spoilt).float())


def table(runs: list[list[Run]], bounds: list[tuple[float, float]]) -> Table:
    """Medians over the problems."""
    equal, oracle = (statistics.median(pair[k] for pair in bounds) for k in (0, 1))
    made = Table(title=f"test loss with equal weights {equal:.3f}, with the spoilt samples left out {oracle:.3f}")
    headings = ("hypergradient, ms", "upper step, ms", f"steps to AUROC {TARGET_AUROC}", "seconds to it")
    for heading in ("method", *headings, "AUROC at the end", "effective share of samples", "test loss"):
        made.add_column(heading, justify="left" if heading == "method" else "right")
    for same in zip(*runs, strict=True):
        reached = [run for run in same if run.steps_to_target is not None]
        arrived = len(reached) == len(same)
        made.add_row(
            same[0].name,
            f"{1e3 * statistics.median(s for run in same for s in run.hypergradient_s):.1f}",
            f"{1e3 * statistics.median(s for run in same for s in run.step_s):.1f}",
            f"{statistics.median(run.steps_to_target or 0 for run in same):.0f}" if arrived else "not reached",
            f"{statistics.median(run.seconds_to_target or 0 for run in same):.2f}" if arrived else "-",
            f"{statistics.median(run.auroc[-1] for run in same):.3f}",
            f"{statistics.median(run.effective_share for run in same):.2f}",
            f"{statistics.median(run.test_loss for run in same):.3f}",
        )
    return made


def markdown(made: Table, size: Size, problems: int) -> str:
    """The table as a page."""
    lines = [
        "# Hypergradients: cost and gain",
        "",
        "Made by `python -m benchmarks.hypergradients`; do not edit by hand.",
        "",
        f"{size.samples} samples of {size.rows} rows of {size.features} features, batches of {size.batch}; in "
        f"{100 * SPOILT:.0f} % of the samples {100 * SPOILT_ROWS:.0f} % of the labels are set to 1. A head of "
        f"{size.features}-{size.hidden}-1 after {size.warm_up} steps with equal weights, then {size.upper_steps} upper "
        "steps; a logit for every sample. Steps of the methods interleaved on one CPU thread, float32 (last layer: "
        f"float64); medians over {problems} problems. AUROC parts right from spoilt samples by weight. An upper step "
        "holds the head's own steps too: one with a one-step hypergradient, three after an implicit one, none with the "
        "last layer, whose optimum is solved. Every hypergradient is brought to length 1 before Adam. The test loss is "
        "the cross-entropy, on other clean rows, of a head trained anew with the learned weights.",
        "",
        f"**{made.title}**",
        "",
        f"| {' | '.join(str(column.header) for column in made.columns)} |",
        f"|{'|'.join('---' if column.justify == 'left' else '--:' for column in made.columns)}|",
    ]
    rows = zip(*(list(column.cells) for column in made.columns), strict=True)
    lines += [f"| {' | '.join(str(cell) for cell in cells)} |" for cells in rows]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small problem, to see that it runs; writes nothing")
    parser.add_argument("--problems", type=int, default=3)
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    options = parser.parse_args()
    torch.set_num_threads(1)  # a second one, where others work, costs more than it brings
    size, problems = (QUICK, 1) if options.quick else (Size(), options.problems)
    runs = [compare(size, seed=seed) for seed in range(problems)]
    made = table(runs, [references(size, seed=seed) for seed in range(problems)])
    Console(width=150).print(made)
    if not options.quick:
        (options.docs / "hypergradients.md").write_text(markdown(made, size, problems), encoding="utf-8")


if __name__ == "__main__":
    main()
