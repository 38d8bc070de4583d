"""The ablation of npcF++ as a quick test: each block improves what it is there for."""

from __future__ import annotations

from benchmarks.synergy import ABLATION, finish, measure, trials


def test_each_block_improves_its_own_measure() -> None:
    found = {
        blocks: [measure(trial, finish(trial, strengths)) for trial in trials()[:2]]
        for blocks, strengths in ABLATION.items()
    }
    for k in range(2):
        before, edge, energy, grain, every = (found[n][k] for n in ABLATION)
        assert edge["edge width, px"] < before["edge width, px"] - 0.03
        assert grain["energy of the grain"] > 1.3 * before["energy of the grain"]
        assert grain["correlation with the grain"] > energy["correlation with the grain"] + 0.2
        assert every["energy of the grain"] > 1.3 * before["energy of the grain"]
