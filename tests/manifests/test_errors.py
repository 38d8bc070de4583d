"""The tree of errors: exit codes, builtin bases, and the way back from a worker process."""

from __future__ import annotations

import pickle

import pytest

from manifests import errors
from manifests.errors import ConfigError, CorpusError, InputError, MaphError, OutputError, SourceError, StorageError

ALL = [MaphError, InputError, ConfigError, SourceError, OutputError, StorageError, CorpusError]


def test_every_public_error_is_tested_here() -> None:
    assert {kind.__name__ for kind in ALL} == set(errors.__all__)


@pytest.mark.parametrize("kind", ALL)
def test_error_survives_pickling(kind: type[MaphError]) -> None:
    again = pickle.loads(pickle.dumps(kind("out: the disk is full")))  # noqa: S301
    assert type(again) is kind
    assert str(again) == "out: the disk is full"
    assert again.exit_code == kind.exit_code


@pytest.mark.parametrize(("kind", "code"), [(InputError, 2), (OutputError, 2), (StorageError, 2), (CorpusError, 1)])
def test_exit_codes(kind: type[MaphError], code: int) -> None:
    assert kind.exit_code == code


def test_builtin_bases() -> None:
    assert issubclass(InputError, ValueError)
    assert issubclass(CorpusError, RuntimeError)
