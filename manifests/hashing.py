"""Content hashes: canonical JSON and sha256, the identity of configs, plans, files and code.

References
----------
RFC 8785 (JSON Canonicalization Scheme) for the idea; keys here are plain ASCII, so sorting by code point
agrees with it.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path

__all__ = ["canonical_json", "code_version", "package_digest", "sha256_bytes", "sha256_file"]

_CODE_PACKAGES = ("manifests", "physics", "refine", "pipeline")


def canonical_json(value: object) -> bytes:
    """UTF-8 JSON with sorted keys and no spaces; NaN and infinities are refused with ValueError."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def sha256_bytes(data: bytes | memoryview) -> str:
    """Hexadecimal sha256 of a buffer."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Hexadecimal sha256 of a file, read in blocks."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@cache
def code_version() -> str:
    """Release and digest of the installed source, for example ``"0.1.0+3f2a90c1d4e5"``.

    The digest covers every module that can change a byte of a corpus, so two checkouts with one release
    number but different code are told apart.
    """
    from manifests import __version__

    return f"{__version__}+{package_digest(*_CODE_PACKAGES)[:12]}"


@cache
def package_digest(*packages: str) -> str:
    """Hexadecimal sha256 of the source of these packages, names of the modules included."""
    root = Path(__file__).resolve().parent.parent
    digest = hashlib.sha256()
    for package in packages:
        for path in sorted((root / package).rglob("*.py")):
            digest.update(path.relative_to(root).as_posix().encode() + b"\0")
            digest.update(path.read_bytes() + b"\0")
    return digest.hexdigest()
