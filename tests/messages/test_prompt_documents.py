"""PDF documents as text."""

from __future__ import annotations

import base64

import pytest

from llmhost.messages.documents import KEPT_DOCUMENTS, PdfShelf, pdf_text
from tests.support.pdf import pdf, pdf_base64


def test_every_page_has_its_number() -> None:
    assert pdf_text(pdf_base64("one", "two")) == "[page 1]\none\n\n[page 2]\ntwo"


@pytest.mark.parametrize("kept", [0, 9, 60, 300])
def test_a_file_cut_short_is_no_error(kept: int) -> None:
    assert isinstance(pdf_text(base64.b64encode(pdf("one")[:kept]).decode()), str)


def test_a_file_without_text_gives_none() -> None:
    assert pdf_text(pdf_base64("")) == ""


def test_the_shelf_knows_what_it_has_read() -> None:
    shelf, document = PdfShelf(), pdf_base64("one")
    assert shelf.get(document) is None
    assert shelf.read(document) == "[page 1]\none"
    assert shelf.get(document) == "[page 1]\none"


def test_the_shelf_keeps_the_documents_used_last() -> None:
    shelf = PdfShelf()
    documents = [pdf_base64(f"number {number}") for number in range(KEPT_DOCUMENTS + 1)]
    for document in documents[:-1]:
        shelf.read(document)
    shelf.get(documents[0])
    shelf.read(documents[-1])
    assert shelf.get(documents[0]) is not None
    assert shelf.get(documents[1]) is None
