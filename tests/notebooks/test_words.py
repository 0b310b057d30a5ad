"""The words of the course: phrases that readers stumbled over stay away, in notebooks, documents and code."""

import re

import nbformat
import pytest

from tools.notebooks import ROOT, find

INSTEAD = {  # a pattern of what must not come back, and what to write
    r"dear(er|est)?": "expensive",
    r"mend(s|ed|ing)?": "fix, correct",
    r"(images|scenes|pictures|steps) an? (second|minute)": "per second",
    r"(score|box|mask) an? (class|pixel|region|image)": "per class, for each region",
    r"an? class and pixel": "per class and pixel",
    r"by the way of": "by",
    r"hands? out (its|their) notes": "returns the indices",
    r"blends?": "interpolation weights",
    r"finders?": "detector",
    r"for good": "cannot be recovered (with the experiment that shows it)",
    r"as low as one half": "at 0.5",
    r"rights are": "correct pixels are",
    r"stand in line": "wait",
    r"read at its": "sampled at its",
    r"is asked of": "what the loss rewards",
}


def texts():
    """Every text with its name: cells, documents, and the package's files."""
    for path in find():
        for cell in nbformat.read(path, as_version=4).cells:
            yield f"{path.name} {cell.id}", cell.source
    documents = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "data" / "README.md"]
    for path in sorted({*documents, *ROOT.glob("course_utils/**/*.py")} - {ROOT / "CHANGELOG.md"}):
        yield str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")


TEXTS = dict(texts())


@pytest.mark.parametrize(("pattern", "better"), INSTEAD.items(), ids=INSTEAD)
def test_a_phrase_that_must_not_come_back(pattern, better):
    found = [
        f"{name}: ...{text[max(0, match.start() - 30) : match.end() + 20]}..."
        for name, text in TEXTS.items()
        for match in re.finditer(rf"\b{pattern}\b", text, re.IGNORECASE)
    ]
    assert not found, f"write {better!r} instead: {found[:5]}"


def test_the_patterns_find_what_they_are_for():
    sentence = "The dearest step is mended: one score a class and pixel, 40 images a second."
    hits = [pattern for pattern in INSTEAD if re.search(rf"\b{pattern}\b", sentence)]
    assert len(hits) == 5
