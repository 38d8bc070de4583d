"""The documents for people: README.md (a dataset card), datasheet.md, LICENCES.md and CITATION.cff.

References
----------
Gebru et al., "Datasheets for Datasets", Communications of the ACM 64(12), 2021; Hugging Face dataset cards,
https://huggingface.co/docs/hub/datasets-cards; Citation File Format 1.2.0, https://doi.org/10.5281/zenodo.5171937.
"""

from __future__ import annotations

from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from pipeline.publishing.facts import Facts, bibtex
from pipeline.publishing.terms import Bond

__all__ = ["citation_file", "datasheet", "describe", "licences", "readme"]

_TAGS = ["anomaly-detection", "defect-detection", "industrial-inspection", "synthetic", "zarr"]


def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("pipeline.publishing"),
        autoescape=False,  # noqa: S701 - Markdown, not HTML; `line` and `cell` make text harmless there
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters |= {"line": _line, "cell": _cell}
    return made


def _line(text: str) -> str:
    """Text as one line of Markdown: no markup, no HTML."""
    plain = " ".join(text.split())
    for sign in "\\`*_[]<>#":
        plain = plain.replace(sign, f"\\{sign}")
    return plain


def _cell(text: str) -> str:
    return _line(text).replace("|", "\\|")


def _rendered(template: str, facts: Facts, **more: object) -> bytes:
    text = _environment().get_template(template).render(facts=facts, **more)
    lines = (line.rstrip() for line in text.strip().splitlines())
    tidy: list[str] = []
    for line in lines:  # conditions leave empty lines behind
        if line or (tidy and tidy[-1]):
            tidy.append(line)
    return ("\n".join(tidy) + "\n").encode()


def describe(facts: Facts) -> str:
    """The data set in one paragraph."""
    config, info = facts.info.config, facts.info
    made = "made by simulation" if not facts.references else "made by simulation or by reference generators"
    return (
        f"{facts.accepted:,} pictures of {config['size']} x {config['size']} pixels with defects {made} "
        f"({', '.join(info.mechanisms)}) on {facts.photographs:,} photographs of normal parts in "
        f"{len(facts.categories)} {'category' if len(facts.categories) == 1 else 'categories'}. Each has an exact "
        "mask, the physical fields behind it, the photograph that it was made from, and its full provenance."
    )


def readme(facts: Facts, *, shown: int) -> bytes:
    """The dataset card; ``shown`` samples are in its picture."""
    header = yaml.safe_dump(_header(facts), sort_keys=False, allow_unicode=True, width=100)
    more = {"header": f"---\n{header}---\n", "description": describe(facts), "shown": shown, "citation": bibtex(facts)}
    return _rendered("README.md.j2", facts, **more)


def _header(facts: Facts) -> dict[str, Any]:
    """What a hub reads of a card."""
    licence: dict[str, Any] = {"license": facts.card_licence}
    if facts.card_licence == "other":
        bonds = [bond for bond in Bond if bond is not Bond.OPEN and facts.bound(bond)]
        name = "-".join(["mixed" if len(facts.terms) > 1 else "other", *(bond.replace(" ", "-") for bond in bonds)])
        licence |= {"license_name": name, "license_link": "LICENCES.md"}
    return {
        "pretty_name": facts.title,
        **licence,
        "task_categories": ["image-segmentation", "image-classification"],
        "tags": _TAGS,
        "size_categories": [facts.size_category],
        "configs": [
            {
                "config_name": "preview",
                "default": True,
                "data_files": [{"split": split, "path": f"preview/{split}-*.parquet"} for split in facts.preview],
            },
            {"config_name": "manifest", "data_files": [{"split": "manifest", "path": "corpus/manifest.parquet"}]},
        ],
    }


def licences(facts: Facts) -> bytes:
    """LICENCES.md: every source, with its licence in its own words."""
    return _rendered("LICENCES.md.j2", facts)


def datasheet(facts: Facts) -> bytes:
    """The questions of Datasheets for Datasets, answered from the corpus' own facts."""
    return _rendered("datasheet.md.j2", facts)


def citation_file(facts: Facts) -> bytes | None:
    """CITATION.cff; None without an author, since a citation needs one."""
    if not facts.about.authors:
        return None
    content: dict[str, Any] = {
        "cff-version": "1.2.0",
        "message": "If you use this data set, please cite it as below.",
        "type": "dataset",
        "title": facts.title,
        "abstract": describe(facts),
        "authors": facts.about.people(),
        "keywords": ["anomaly detection", "defect segmentation", "synthetic data"],
    }
    if len(facts.spdx) == 1:  # several would be read as a choice between them
        content["license"] = facts.spdx[0]
    given = {"url": facts.about.homepage, "version": facts.about.version, "date-released": facts.about.released}
    content |= {key: value for key, value in given.items() if value}
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100).encode()
