"""docs/glossary.md: one sentence for each term, the notebook that teaches it, and names that exist."""

import importlib
import re

import nbformat
import pytest

from tools.notebooks import ROOT

TEXT = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in TEXT.splitlines()
    if line.startswith("| ")
][1:]
TERMS = [row[0] for row in ROWS]


def test_eighty_terms_in_alphabetical_order():
    assert len(TERMS) >= 80 and len({term.lower() for term in TERMS}) == len(TERMS)
    assert sorted(TERMS, key=str.lower) == TERMS
    assert all(len(row) == 4 for row in ROWS)


@pytest.mark.parametrize("row", ROWS, ids=TERMS)
def test_a_term_has_one_sentence_and_its_notebook_uses_it(row):
    term, sentence, link, _ = row
    assert re.fullmatch(r"[A-Z][^.]*(\d\.\d[^.]*)*\.", sentence), "one sentence"
    number, path = re.fullmatch(r"\[(\d\d)\]\(\.\./(notebooks/\1_\w+\.ipynb)\)", link).groups()
    notebook = nbformat.read(ROOT / path, as_version=4)
    text = " ".join(cell.source for cell in notebook.cells).lower()
    stem = re.sub(r"(ing|e|s)$", "", term.lower())
    pattern = re.sub(r"\\?[ -]", r"[\\s_-]+", re.escape(stem))
    assert re.search(rf"(?<![a-z]){pattern}", text), f"{number} does not say {term}"


def names() -> list[str]:
    return sorted(set(re.findall(r"`((?:torch|torchvision|pycocotools|sklearn)\.[\w.]+)`", TEXT)))


@pytest.mark.parametrize("name", names())
def test_the_names_exist(name):
    module, _, attribute = name.rpartition(".")
    assert hasattr(importlib.import_module(module), attribute)
