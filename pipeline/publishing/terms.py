"""What a licence text allows, as far as a program can tell: the Creative Commons family and a few others.

A text that is not recognised is never guessed at: it is called unknown. The text itself always travels along.

References
----------
SPDX licence list, https://spdx.org/licenses/; the identifiers that Hugging Face dataset cards know,
https://huggingface.co/docs/hub/repositories-licenses.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Bond", "Terms", "card_licence", "terms_of"]


class Bond(StrEnum):
    """How far a licence binds who uses what was made from a photograph; the strictest last."""

    OPEN = "open"
    UNKNOWN = "unknown"  # nothing is stated, or nothing that is recognised: ask the owner
    NON_COMMERCIAL = "non-commercial"
    NO_DERIVATIVES = "no derivatives"  # altered pictures may not be shared at all


@dataclass(frozen=True)
class Terms:
    """A licence as recognised: ``name``, ``spdx`` and ``url`` are empty where there is none."""

    bond: Bond
    name: str = ""
    spdx: str = ""
    url: str = ""
    attribution: bool = False
    share_alike: bool = False
    stated: bool = True  # false where the source says nothing at all


_CREATIVE_COMMONS = re.compile(
    r"CC[ -]BY(?P<parts>(?:[ -](?:NC|SA|ND))*)(?:[ -](?P<version>[1-4]\.\d))?(?![\w-])", re.I
)
_CC0 = re.compile(r"CC0(?:[ -]1\.0)?(?![\w-])", re.I)
_OTHERS = {
    "MIT": re.compile(r"MIT(?: licen[cs]e)?(?!\w)", re.I),
    "Apache-2.0": re.compile(r"Apache(?: licen[cs]e)?,?[ -](?:version )?2\.0(?!\w)", re.I),
    "BSD-3-Clause": re.compile(r"BSD[ -]3-Clause(?!\w)", re.I),
    "ODC-By-1.0": re.compile(r"ODC[ -]By(?:[ -]1\.0)?(?!\w)", re.I),
    "ODbL-1.0": re.compile(r"ODbL(?:[ -]1\.0)?(?!\w)", re.I),
    "PDDL-1.0": re.compile(r"PDDL(?:[ -]1\.0)?(?!\w)", re.I),
}
_NOT_COMMERCIAL = re.compile(r"\bnon-?\s?commercial|\bresearch (?:use |purposes )?only|\bacademic use", re.I)
_NO_KNOWN_RESTRICTIONS = re.compile(r"no known copyright restrictions?", re.I)
_NOT_STATED = {"", "not stated", "unknown", "none"}
# the Creative Commons, and others, that a card may name; all else is "other" there
_ON_CARDS = {
    **{f"CC-BY-{v}": f"cc-by-{v}" for v in ("2.0", "2.5", "3.0", "4.0")},
    **{f"CC-BY-SA-{v}": f"cc-by-sa-{v}" for v in ("3.0", "4.0")},
    **{f"CC-BY-NC-{v}": f"cc-by-nc-{v}" for v in ("2.0", "3.0", "4.0")},
    **{f"CC-BY-NC-SA-{v}": f"cc-by-nc-sa-{v}" for v in ("2.0", "3.0", "4.0")},
    **{f"CC-BY-NC-ND-{v}": f"cc-by-nc-nd-{v}" for v in ("3.0", "4.0")},
    "CC-BY-ND-4.0": "cc-by-nd-4.0",
    "CC0-1.0": "cc0-1.0",
    "MIT": "mit",
    "Apache-2.0": "apache-2.0",
    "BSD-3-Clause": "bsd-3-clause",
    "ODC-By-1.0": "odc-by",
    "ODbL-1.0": "odbl",
    "PDDL-1.0": "pddl",
}


def terms_of(licence: str) -> Terms:
    """Terms that a licence text begins with; unknown where it begins with none that is recognised.

    A text that forbids commercial use in words does so whatever it begins with.

    >>> terms_of("CC BY-NC-SA 4.0 (MVTec Software GmbH, MVTec AD)").bond.value
    'non-commercial'
    >>> terms_of("see its authors' terms").bond.value
    'unknown'
    """
    text = " ".join(licence.split())
    found = _recognised(text)
    if _NOT_COMMERCIAL.search(text) and found.bond in {Bond.OPEN, Bond.UNKNOWN}:
        return Terms(Bond.NON_COMMERCIAL, attribution=True)
    return found


def _recognised(text: str) -> Terms:
    if text.lower() in _NOT_STATED:
        return Terms(Bond.UNKNOWN, stated=False)
    if match := _CREATIVE_COMMONS.match(text):
        return _creative_commons(match)
    if _CC0.match(text):
        url = "https://creativecommons.org/publicdomain/zero/1.0/"
        return Terms(Bond.OPEN, "CC0 1.0", "CC0-1.0", url)
    if _NO_KNOWN_RESTRICTIONS.match(text):
        return Terms(Bond.OPEN, "no known copyright restrictions")
    for spdx, pattern in _OTHERS.items():
        if pattern.match(text):
            return Terms(
                Bond.OPEN,
                spdx,
                spdx,
                f"https://spdx.org/licenses/{spdx}",
                attribution=spdx != "PDDL-1.0",
                share_alike=spdx == "ODbL-1.0",
            )
    return Terms(Bond.UNKNOWN)


def _creative_commons(match: re.Match[str]) -> Terms:
    parts = set(match["parts"].upper().replace("-", " ").split())
    kind = "-".join(["BY", *(part for part in ("NC", "ND", "SA") if part in parts)])
    version = match["version"] or ""
    bond = Bond.NO_DERIVATIVES if "ND" in parts else Bond.NON_COMMERCIAL if "NC" in parts else Bond.OPEN
    return Terms(
        bond,
        f"CC {kind} {version}".strip(),
        f"CC-{kind}-{version}" if version else "",
        f"https://creativecommons.org/licenses/{kind.lower()}/{version}/" if version else "",
        attribution=True,
        share_alike="SA" in parts,
    )


def card_licence(terms: Iterable[Terms]) -> str:
    """Identifier for a dataset card: of the one licence that all sources share, else ``unknown`` or ``other``."""
    found = set(terms)
    if len(found) == 1:
        only = next(iter(found))
        if only.bond is Bond.UNKNOWN:
            return "unknown"
        return _ON_CARDS.get(only.spdx, "other")
    return "unknown" if all(t.bond is Bond.UNKNOWN for t in found) else "other"
