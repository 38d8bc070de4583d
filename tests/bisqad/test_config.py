"""Settings of a training run."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from bisqad.config import TrainConfig, read_train_config
from manifests.errors import ConfigError


def test_no_file_gives_the_defaults() -> None:
    assert read_train_config(None) == TrainConfig()


def test_an_empty_file_gives_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    assert read_train_config(tmp_path / "empty.yaml") == TrainConfig()


def test_settings_come_back_from_json_and_yaml(tmp_path: Path) -> None:
    config = TrainConfig.model_validate({"seed": 4, "mechanisms": ["dent"], "detector": {"blocks": [0, 4]}})
    (tmp_path / "c.yaml").write_text(config.model_dump_json())  # JSON is YAML
    assert read_train_config(tmp_path / "c.yaml") == config


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        TrainConfig().detector.size = 512


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("epoch: 3", "unknown key 'epoch'"),
        ("optimiser: {epoch: 3}", "unknown key 'optimiser.epoch'; did you mean 'epochs'"),
        ("optimiser: {epochs: 0}", r"optimiser\.epochs: .*got 0"),
        ("stage: painted", "stage: .*got 'painted'"),
        ("method: random", "method"),
        ("detector: {size: 32}", r"detector\.size: .*got 32"),
        ("detector: {blocks: []}", r"detector\.blocks"),
        ("detector: {backbone: resnet}", r"detector\.backbone"),
        ("bilevel: {validation_share: 1}", r"bilevel\.validation_share"),
        ("bilevel: {learning_rate: .nan}", r"bilevel\.learning_rate"),
        ("- seed", "c.yaml"),
        ("seed: [", "cannot be read as YAML"),
        ("seed: \x00", "cannot be read as YAML"),
    ],
)
def test_a_bad_file_is_refused_in_one_line(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(ConfigError, match=told) as error:
        read_train_config(tmp_path / "c.yaml")
    assert "\n" not in str(error.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_train_config(tmp_path / "none.yaml")
