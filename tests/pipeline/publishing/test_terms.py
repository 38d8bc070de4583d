from __future__ import annotations

import pytest

from pipeline.publishing.terms import Bond, card_licence, terms_of
from pipeline.sources.builtin import BUILTIN_CATEGORIES, builtin_licence


@pytest.mark.parametrize(
    ("licence", "bond", "spdx"),
    [
        ("CC BY-NC-SA 4.0 (MVTec Software GmbH, MVTec AD)", Bond.NON_COMMERCIAL, "CC-BY-NC-SA-4.0"),
        ("CC BY-NC-SA 4.0 (non-commercial), MVTec Software GmbH", Bond.NON_COMMERCIAL, "CC-BY-NC-SA-4.0"),
        ("CC BY 4.0 (Amazon.com, VisA)", Bond.OPEN, "CC-BY-4.0"),
        ("CC-BY-SA-3.0", Bond.OPEN, "CC-BY-SA-3.0"),
        ("CC BY-ND 4.0", Bond.NO_DERIVATIVES, "CC-BY-ND-4.0"),
        ("CC BY-NC-ND 4.0", Bond.NO_DERIVATIVES, "CC-BY-NC-ND-4.0"),
        ("CC BY", Bond.OPEN, ""),
        ("CC0-1.0 (linolafett, Grass 01, bundled with scikit-image)", Bond.OPEN, "CC0-1.0"),
        ("MIT", Bond.OPEN, "MIT"),
        ("not stated", Bond.UNKNOWN, ""),
        ("", Bond.UNKNOWN, ""),
        ("BTAD (Mishra et al. 2021): see its authors' terms", Bond.UNKNOWN, ""),
        ("CC BYTES", Bond.UNKNOWN, ""),
        ("MITSUBISHI, all rights reserved", Bond.UNKNOWN, ""),
        ("our own terms: for research use only", Bond.NON_COMMERCIAL, ""),
        ("CC BY 4.0 for non-commercial use", Bond.NON_COMMERCIAL, ""),
    ],
)
def test_a_licence_binds_as_its_words_say(licence: str, bond: Bond, spdx: str) -> None:
    found = terms_of(licence)
    assert (found.bond, found.spdx) == (bond, spdx)


def test_share_alike_and_attribution_are_told() -> None:
    assert terms_of("CC BY-NC-SA 4.0").share_alike
    assert terms_of("CC BY 4.0").attribution
    assert not terms_of("CC0 1.0").attribution
    assert not terms_of("not stated").stated


def test_embedded_pictures_are_open() -> None:
    assert {terms_of(builtin_licence(name)).bond for name in BUILTIN_CATEGORIES} == {Bond.OPEN}


@pytest.mark.parametrize(
    ("licences", "identifier"),
    [
        (["CC0-1.0 (a)", "CC0 1.0 (b)"], "cc0-1.0"),
        (["CC BY-NC-SA 4.0"], "cc-by-nc-sa-4.0"),
        (["CC0-1.0", "CC BY 4.0"], "other"),
        (["not stated", "see its owner"], "unknown"),
        (["not stated", "CC0-1.0"], "other"),
        (["CC BY 1.0"], "other"),
    ],
)
def test_a_card_names_one_licence_only_where_all_agree(licences: list[str], identifier: str) -> None:
    assert card_licence(map(terms_of, licences)) == identifier
