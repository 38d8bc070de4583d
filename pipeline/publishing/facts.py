"""What a publication says: facts of the corpus, and what its publisher gave. Nothing else is ever said."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from manifests.console import bytes_text
from manifests.corpus import CorpusInfo, LicenceInfo
from manifests.errors import ConfigError
from manifests.fields import FIELDS, FieldSpec
from manifests.records import SampleStatus
from pipeline.publishing.terms import Bond, Terms, card_licence, terms_of

__all__ = ["About", "Facts", "SourceTerms", "bibtex", "local_paths"]

_DATE = re.compile(r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])")
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_STRICTNESS = {bond: rank for rank, bond in enumerate(Bond)}


@dataclass(frozen=True)
class About:
    """What the publisher gave; what was not given is empty, and left out of every document.

    Attributes
    ----------
    title : str
        Of the data set; the corpus' name where there is none.
    authors : tuple of str
        ``"Family, Given"`` for a person, anything else is the name of an organisation.
    homepage : str
        URL of the data set's own page.
    released : str
        Day of publication, YYYY-MM-DD.
    version : str
        Of the data set.

    Raises
    ------
    ConfigError
        The homepage is no URL, or the day no date.
    """

    title: str = ""
    authors: tuple[str, ...] = ()
    homepage: str = ""
    released: str = ""
    version: str = ""

    def __post_init__(self) -> None:
        if self.homepage and not re.fullmatch(r"https?://[^\s<>\"]+", self.homepage):
            raise ConfigError(f"--homepage {self.homepage!r}: expected a URL that begins with https:// or http://")
        if self.released and not _DATE.fullmatch(self.released):
            raise ConfigError(f"--released {self.released!r}: expected a day as YYYY-MM-DD")
        for option, texts in (
            ("--title", (self.title,)),
            ("--author", self.authors),
            ("--data-version", (self.version,)),
        ):
            for text in texts:
                if not text.isprintable() or (option == "--author" and not text.strip(" ,")):
                    raise ConfigError(f"{option} {text!r}: expected a line of plain text")

    def people(self) -> list[dict[str, str]]:
        """Authors as the keys of CITATION.cff: family and given names of persons, names of organisations."""
        found = []
        for author in self.authors:
            family, comma, given = (part.strip() for part in author.partition(","))
            person = {"family-names": family, "given-names": given}
            found.append(person if comma and family and given else {"name": author.strip(" ,")})
        return found


@dataclass(frozen=True)
class SourceTerms:
    """A licence text, its terms, and what comes under it."""

    licence: str
    terms: Terms
    entries: tuple[LicenceInfo, ...]

    @property
    def photographs(self) -> int:
        """How many come under it."""
        return sum(entry.sources for entry in self.entries)


@dataclass(frozen=True)
class Facts:
    """All that the documents are written from.

    Attributes
    ----------
    info : CorpusInfo
        corpus.json.
    about : About
        What the publisher gave.
    corpus_sha256 : str
        Of corpus.json, on which all other hashes hang.
    groups, samples : mapping of str
        Groups, and accepted samples, of each split.
    preview : mapping of str to sequence of str
        Preview files of each split that has samples.
    archives : sequence of str
        Archives that hold the corpus' arrays; none where its files lie open.
    bytes, files : int
        Of the corpus as published.
    verified : bool
        The corpus was verified before it was published.
    """

    info: CorpusInfo
    about: About
    corpus_sha256: str
    groups: Mapping[str, Sequence[int]]
    samples: Mapping[str, int]
    preview: Mapping[str, Sequence[str]]
    archives: Sequence[str]
    bytes: int
    files: int
    verified: bool

    @property
    def title(self) -> str:
        """Given, or the corpus' own name."""
        return self.about.title or self.info.name

    @property
    def accepted(self) -> int:
        """Samples with a defect."""
        return self.info.counts.by_status.get(SampleStatus.OK.value, 0)

    @property
    def failed(self) -> dict[str, int]:
        """Samples without one, by status."""
        return {name: n for name, n in self.info.counts.by_status.items() if name != SampleStatus.OK}

    @property
    def photographs(self) -> int:
        """Usable ones."""
        return sum(entry.sources for entry in self.info.licences)

    @property
    def size_category(self) -> str:
        """How many samples, as dataset cards say it."""
        return next((name for most, name in _SIZES if self.accepted < most), "1M<n<10M")

    @property
    def size_text(self) -> str:
        """Bytes for people."""
        return bytes_text(self.bytes)

    @cached_property
    def terms(self) -> tuple[SourceTerms, ...]:
        """Licences of the photographs: the one that binds most first, and of equals that of most photographs."""
        entries: dict[str, list[LicenceInfo]] = {}
        for entry in self.info.licences:
            entries.setdefault(entry.licence, []).append(entry)
        found = [SourceTerms(text, terms_of(text), tuple(under)) for text, under in entries.items()]
        return tuple(
            sorted(found, key=lambda source: (-_STRICTNESS[source.terms.bond], -source.photographs, source.licence))
        )

    def bound(self, bond: str) -> tuple[SourceTerms, ...]:
        """Licences that bind in that way: ``non-commercial``, ``no derivatives``, ``unknown`` or ``open``."""
        return tuple(source for source in self.terms if source.terms.bond is Bond(bond))

    @property
    def share_alike(self) -> tuple[SourceTerms, ...]:
        """Licences that ask for the same licence on what is made."""
        return tuple(source for source in self.terms if source.terms.share_alike)

    @property
    def card_licence(self) -> str:
        """Identifier for the header of a dataset card."""
        return card_licence(source.terms for source in self.terms)

    @property
    def licence_urls(self) -> list[str]:
        """What structured data name as licences: a URL where there is one, else the text."""
        found = [source.terms.url or source.licence for source in self.terms]
        if self.bound("unknown"):
            found.append("unknown in part: see LICENCES.md")
        return list(dict.fromkeys(found))

    @property
    def spdx(self) -> list[str]:
        """SPDX identifiers, if all sources have one."""
        found = [source.terms.spdx for source in self.terms]
        return sorted(set(found)) if all(found) else []

    @property
    def fields(self) -> tuple[FieldSpec, ...]:
        """Physical fields of the mechanisms that take part."""
        named = {name for mechanism in self.info.mechanisms.values() for name in mechanism.fields}
        return tuple(spec for name, spec in FIELDS.items() if name in named)

    @property
    def references(self) -> tuple[str, ...]:
        """Mechanisms that are no simulations."""
        return tuple(name for name, mechanism in self.info.mechanisms.items() if not mechanism.physical)

    @property
    def categories(self) -> tuple[tuple[str, int, int, str], ...]:
        """Each category with its photographs, accepted samples and licence text."""
        counts = self.info.counts.by_category
        merged: dict[str, tuple[int, str]] = {}
        for entry in self.info.licences:
            key = f"{entry.dataset}/{entry.category}"
            number, text = merged.get(key, (0, ""))
            merged[key] = (number + entry.sources, f"{text}; {entry.licence}" if text else entry.licence)
        return tuple(
            (key, number, counts.get(key, {}).get(SampleStatus.OK.value, 0), text)
            for key, (number, text) in merged.items()
        )


def local_paths(info: CorpusInfo) -> list[str]:
    """Paths of the publisher's machine that the recipe names, which is published with the corpus."""
    named = [str(source[key]) for source in info.config["sources"] for key in ("path", "masks") if source.get(key)]
    return sorted({path for path in named if not path.startswith("${")})


def bibtex(facts: Facts) -> str:
    """The data set as a BibTeX entry, of what its publisher gave."""
    people = (
        f"{person['family-names']}, {person['given-names']}" if "family-names" in person else f"{{{person['name']}}}"
        for person in facts.about.people()
    )
    given = {
        "title": f"{{{facts.title}}}",
        "author": " and ".join(people),
        "year": facts.about.released[:4],
        "version": facts.about.version,
        "url": facts.about.homepage,
    }
    lines = [f"  {key} = {{{value}}}" for key, value in given.items() if value]
    return "\n".join([f"@misc{{{facts.info.name},", ",\n".join(lines), "}"])
