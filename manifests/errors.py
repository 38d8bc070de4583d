"""Every error that MaPhC2F raises on purpose, and the exit code that goes with it.

::

    MaphError
    ├── InputError (ValueError)      exit 2: what the user gave cannot be used
    │   ├── ConfigError                 a recipe or an option
    │   ├── SourceError                 photographs, data set folders, split files
    │   ├── OutputError                 the folder to write to: foreign, read-only, full
    │   └── StorageError                an object store: out of reach, without the bucket, access denied
    └── CorpusError (RuntimeError)   exit 1: a stored corpus is not what it says it is

A message is one line: what is wrong, where, what was expected, what was found, and what to do.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = ["ConfigError", "CorpusError", "InputError", "MaphError", "OutputError", "SourceError", "StorageError"]


class MaphError(Exception):
    """Root of the tree; carries the exit code of the command line."""

    exit_code: ClassVar[int] = 2


class InputError(MaphError, ValueError):
    """The user gave something that cannot be used."""


class ConfigError(InputError):
    """A recipe, a command-line option or a combination of them is not valid."""


class SourceError(InputError):
    """The photographs to start from are missing, unusable or laid out differently than declared."""


class OutputError(InputError):
    """The output folder cannot be used: it holds something else, is read-only, or its disk is full."""


class StorageError(InputError):
    """An object store cannot be reached, has no such bucket, or refuses."""


class CorpusError(MaphError, RuntimeError):
    """A stored corpus contradicts its own records."""

    exit_code: ClassVar[int] = 1
