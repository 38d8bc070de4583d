"""croissant.json: the publication for programs, in the Croissant format with its responsible-AI vocabulary.

Record sets: ``splits`` (inline), ``preview`` (thumbnails with their columns, over the Parquet preview) and ``manifest``
(every sample, over the corpus' own table). Croissant has no record sets over Zarr; archives of arrays are plain files.

References
----------
Croissant 1.1, http://mlcommons.org/croissant/1.1; Croissant RAI 1.0, http://mlcommons.org/croissant/RAI/1.0.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pyarrow as pa

from manifests import layout
from manifests.columns import columns
from manifests.records import SampleRecord
from manifests.splits import SPLITS
from pipeline.publishing.facts import Facts, bibtex
from pipeline.publishing.preview import PICTURES, PREVIEW, plain_columns

__all__ = ["croissant_json"]

_CONFORMS_TO = ["http://mlcommons.org/croissant/1.1", "http://mlcommons.org/croissant/RAI/1.0"]
_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "arrayShape": "cr:arrayShape",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "containedIn": "cr:containedIn",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isArray": "cr:isArray",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
_PARQUET = "application/x-parquet"
_KINDS = {"string": "sc:Text", "int64": "cr:Int64", "double": "cr:Float64", "bool": "sc:Boolean"}
_SPLIT_KINDS = {"train": "cr:TrainingSplit", "val": "cr:ValidationSplit", "test": "cr:TestSplit"}


def croissant_json(facts: Facts, sha256: Mapping[str, str], *, description: str) -> bytes:
    """The whole file.

    Parameters
    ----------
    facts : Facts
        What is published.
    sha256 : mapping of str to str
        Hash of each file of the publication that is named here, by its path.
    description : str
        The data set in one paragraph.
    """
    content: dict[str, Any] = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": _CONFORMS_TO,
        "name": facts.title,
        "description": description,
        "license": facts.licence_urls,
        "keywords": ["anomaly detection", "defect segmentation", "synthetic data", "visual inspection"],
        **_given(facts),
        **_responsible(facts),
        "distribution": list(_distribution(facts, sha256)),
        "recordSet": [_splits(), _preview(facts), _manifest()],
    }
    return (json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _given(facts: Facts) -> dict[str, Any]:
    """What the publisher gave."""
    about, found = facts.about, dict[str, Any]()
    if about.authors:
        found["creator"] = [
            {"@type": "sc:Organization", "name": person["name"]}
            if "name" in person
            else {"@type": "sc:Person", "name": f"{person['given-names']} {person['family-names']}"}
            for person in about.people()
        ]
    if about.homepage:
        found["url"] = about.homepage
    if about.released:
        found["datePublished"] = about.released
    if about.version:
        found["version"] = about.version
    if about.authors:
        found["citeAs"] = bibtex(facts)
    return found


def _responsible(facts: Facts) -> dict[str, Any]:
    """What the corpus itself can tell of how it came to be and what it is good for."""
    mechanisms = "; ".join(f"{name}: {m.summary}" for name, m in facts.info.mechanisms.items())
    label = facts.info.config["label"]
    found: dict[str, Any] = {
        "rai:dataCollection": f"{facts.photographs} photographs of normal parts, changed by a program. Each defect is "
        f"made and then drawn on one photograph. {mechanisms}",
        "rai:dataCollectionType": ["Software Collection"],
        "rai:dataPreprocessingProtocol": [
            f"Photographs were fitted ({facts.info.config['fit']}) to {facts.info.config['size']} pixels a side."
        ],
        "rai:dataAnnotationProtocol": [
            "No person annotated anything. The mask is where picture and photograph differ visibly, by at least "
            f"{label['visible_threshold']} grey levels of 255 as recipe key label sets out."
        ],
        "rai:annotationsPerItem": "1",
        "rai:machineAnnotationTools": [f"MaPhC2F {facts.info.code_version}"],
        "rai:dataUseCases": ["Training and ablating detectors of defects on surfaces and parts."],
        "rai:dataLimitations": [
            "All defects are synthetic: figures on the test part say nothing of real defects until measured on some.",
            "Sizes, severities and kinds follow the recipe, not their frequency in any production.",
        ],
        "rai:dataBiases": [
            "Only the categories, light and cameras of the source photographs occur: "
            + ", ".join(key for key, *_ in facts.categories)
            + "."
        ],
    }
    if facts.failed:
        counts = ", ".join(f"{name} {number}" for name, number in facts.failed.items())
        found["rai:dataCollectionMissingData"] = (
            f"Planned samples without a defect, kept in the manifest with a status: {counts}."
        )
    return found


def _distribution(facts: Facts, sha256: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    manifest = f"corpus/{layout.MANIFEST}"
    yield _file("manifest.parquet", manifest, _PARQUET, sha256[manifest], "every sample, one row each")
    summary = f"corpus/{layout.CORPUS}"
    yield _file("corpus.json", summary, "application/json", sha256[summary], "counts, statistics and all hashes")
    for name in (name for names in facts.preview.values() for name in names):
        yield _file(name, name, _PARQUET, sha256[name], "thumbnails of accepted samples")
    yield {
        "@type": "cr:FileSet",
        "@id": "preview-files",
        "name": "preview-files",
        "description": "Thumbnails of all accepted samples.",
        "encodingFormat": _PARQUET,
        "includes": f"{PREVIEW}/*.parquet",
    }
    for name in facts.archives:
        yield _file(name, name, "application/x-tar", sha256[name], "arrays of the corpus, packed")


def _file(identity: str, path: str, kind: str, sha256: str, description: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": identity,
        "name": identity,
        "description": description,
        "contentUrl": path,
        "encodingFormat": kind,
        "sha256": sha256,
    }


def _splits() -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": "splits",
        "name": "splits",
        "description": "Parts that share no photograph and no simulation.",
        "dataType": "cr:Split",
        "key": {"@id": "splits/name"},
        "field": [
            {"@type": "cr:Field", "@id": "splits/name", "name": "name", "dataType": "sc:Text"},
            {"@type": "cr:Field", "@id": "splits/url", "name": "url", "dataType": "sc:URL"},
        ],
        "data": [
            {"splits/name": name, "splits/url": _SPLIT_KINDS[name].replace("cr:", _CONTEXT["cr"])} for name in SPLITS
        ],
    }


def _preview(facts: Facts) -> dict[str, Any]:
    pictures = [
        _field(
            "preview",
            name,
            f"{text} (struct of bytes and a name)",
            "sc:ImageObject",
            {"fileSet": {"@id": "preview-files"}, "extract": {"column": name}, "transform": {"jsonPath": "bytes"}},
        )
        for name, text in PICTURES.items()
    ]
    split = _field("preview", "split", "train, val or test", "sc:Text", _column("fileSet", "preview-files", "split"))
    split["references"] = {"field": {"@id": "splits/name"}}
    return {
        "@type": "cr:RecordSet",
        "@id": "preview",
        "name": "preview",
        "description": f"{facts.accepted} accepted samples: thumbnails, and the manifest's plain columns.",
        "key": {"@id": "preview/id"},
        "field": [*pictures, split, *_plain("preview", "fileSet", "preview-files")],
    }


def _manifest() -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": "manifest",
        "name": "manifest",
        "description": "Every sample, also those without a defect; the list `defects` is described in the format.",
        "key": {"@id": "manifest/id"},
        "field": list(_plain("manifest", "fileObject", "manifest.parquet")),
    }


def _plain(record_set: str, kind: str, identity: str) -> Iterable[dict[str, Any]]:
    known = {column.name: column for column in columns(SampleRecord)}
    for field in plain_columns():
        column = known[field.name]
        text = f"{column.meaning} [{column.unit}]" if column.unit else column.meaning
        yield _field(record_set, field.name, text, _kind(field.type), _column(kind, identity, field.name))


def _kind(kind: pa.DataType) -> str:
    return _KINDS[str(kind)]


def _column(kind: str, identity: str, name: str) -> dict[str, Any]:
    return {kind: {"@id": identity}, "extract": {"column": name}}


def _field(record_set: str, name: str, text: str, kind: str, source: dict[str, Any]) -> dict[str, Any]:
    return {
        "@type": "cr:Field",
        "@id": f"{record_set}/{name}",
        "name": name,
        "description": text,
        "dataType": kind,
        "source": source,
    }
