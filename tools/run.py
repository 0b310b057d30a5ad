"""Run the course: execute every notebook in order and write the pages to build/site/index.html.

The notebooks themselves stay as they are. At the end comes a table of what each took against its
budget; the exit status is 1 if one failed.
"""

import base64
import html
import io
import re
import shutil
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import jinja2
from latex2mathml.converter import convert as latex_to_mathml
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell, new_notebook
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools.notebooks import (
    ROOT,
    Execution,
    code_cells,
    execute_with_progress,
    failure,
    find,
    picture,
    tidy,
)

TEMPLATES = Path(__file__).resolve().parent / "site"
SITE = ROOT / "build" / "site"
GLOSSARY = ROOT / "docs" / "glossary.md"
SECONDS, SECONDS_WITH_TRAINING, COURSE_SECONDS, MEGABYTES = 60, 90, 720, 2048


class Row(NamedTuple):
    """A notebook's line in the table and its card on the index page."""

    name: str
    seconds: float
    megabytes: float
    cells: int
    figures: int
    budget: int  # seconds
    verdict: str  # "ok", "over budget" or "failed"
    problem: str | None
    title: str
    sentence: str
    minutes: str | None
    thumbnail: str | None  # base64 PNG
    thumbnail_alt: str


class Section(NamedTuple):
    """A piece of a page that the search can find."""

    anchor: str
    heading: str
    text: str


def main() -> int:
    """Run everything; returns the exit status."""
    paths = find()
    if not paths:
        print("There is no notebook in notebooks/ yet.")
        return 1
    try:
        rows = write_site(SITE, [path.stem for path in paths], map(execute_with_progress, paths))
    except KeyboardInterrupt:
        print("\nInterrupted; the pages of the last whole run are still there.", file=sys.stderr)
        return 130
    except OSError as error:
        print(f"The pages could not be written: {error}", file=sys.stderr)
        return 1
    print("\n" + table(rows))
    print(f"\npages: {(SITE / 'index.html').relative_to(ROOT)}")
    return 1 if any(row.verdict == "failed" for row in rows) else 0


def write_site(folder: Path, names: list[str], executions: Iterable[Execution]) -> list[Row]:
    """Make `folder` anew, with the page of each notebook and the index.

    It is made beside the old one, which gives way at the end: a run that stops takes nothing away. What
    cannot be shown, such as a broken formula, is that notebook's problem and not the end of the run.

    Returns:
        The rows of the table.
    """
    new, old = folder.with_name(f"{folder.name}.new"), folder.with_name(f"{folder.name}.old")
    for left in (new, old):
        shutil.rmtree(left, ignore_errors=True)
    new.mkdir(parents=True)
    rows, contents = [], {}
    for number, (name, execution) in enumerate(zip(names, executions)):
        neighbours = names[number - 1] if number else None, next(iter(names[number + 1 :]), None)
        try:
            text = page(tidy(execution.notebook), name, *neighbours)
            entry = row(name, execution)
        except Exception as error:  # whatever the libraries for formulas and pictures raise
            execution = failure(name, f"cannot be shown: {type(error).__name__}: {error}")
            text = page(execution.notebook, name, *neighbours)
            entry = row(name, execution)
        (new / f"{name}.html").write_text(text, encoding="utf-8")
        rows.append(entry)
        contents[name] = sections(text)
    (new / "glossary.html").write_text(page(glossary(), "glossary"), encoding="utf-8")
    (new / "index.html").write_text(index(rows, contents), encoding="utf-8")
    if folder.exists():
        folder.rename(old)
    new.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
    return rows


def glossary() -> NotebookNode:
    """docs/glossary.md as a notebook without code, whose links lead to the other pages."""
    text = GLOSSARY.read_text(encoding="utf-8")
    text = re.sub(r"\.\./notebooks/(\w+)\.ipynb", r"\1.html", text)
    return new_notebook(cells=[new_markdown_cell(text)])


def row(name: str, execution: Execution) -> Row:
    """What the table and the index say about one notebook."""
    notebook, budget = execution.notebook, SECONDS
    if notebook.metadata.get("course", {}).get("trains"):
        budget = SECONDS_WITH_TRAINING
    megabytes = execution.peak_bytes / 2**20
    over = execution.seconds > budget or megabytes > MEGABYTES
    pictures = [out for c in code_cells(notebook) for out in c.outputs if picture(out)]
    first = pictures[0] if pictures else None
    kind = picture(first) if first else None
    return Row(
        name,
        execution.seconds,
        megabytes,
        len(code_cells(notebook)),
        len(pictures),
        budget,
        "failed" if execution.problem else "over budget" if over else "ok",
        execution.problem,
        *introduction(notebook, name),
        thumbnail(first.data[kind]) if first else None,
        first.get("metadata", {}).get(kind, {}).get("alt", "") if first else "",
    )


def table(rows: list[Row]) -> str:
    """The rows as text in columns, the sum below, and the failures with their cells at the foot."""
    lines = [("notebook", "seconds", "peak MB", "cells", "figures", "budget", "verdict")]
    for r in rows:
        budget = f"{r.budget} s, {MEGABYTES} MB"
        counts = str(r.cells), str(r.figures)
        lines.append((r.name, f"{r.seconds:.1f}", f"{r.megabytes:.0f}", *counts, budget, r.verdict))
    seconds = sum(r.seconds for r in rows)
    lines.append(
        (
            "all",
            f"{seconds:.1f}",
            f"{max(r.megabytes for r in rows):.0f}",
            str(sum(r.cells for r in rows)),
            str(sum(r.figures for r in rows)),
            f"{COURSE_SECONDS} s",
            "over budget" if seconds > COURSE_SECONDS else "",
        )
    )
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    aligned = [
        "  ".join(
            cell.ljust(width) if place in (0, 6) else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    rule = "-" * max(map(len, aligned))
    foot = [f"{r.name}, {r.problem}" for r in rows if r.problem]
    return "\n".join([aligned[0], rule, *aligned[1:-1], rule, aligned[-1], *foot])


def introduction(notebook: NotebookNode, name: str) -> tuple[str, str, str | None]:
    """Title, first sentence and minutes, as the first Markdown cells tell them."""
    text = "\n\n".join(cell.source for cell in notebook.cells[:3] if cell.cell_type == "markdown")
    title = re.search(r"^# (.+)$", text, re.MULTILINE)
    minutes = re.search(r"(\d+) min", text)
    paragraphs = (p.strip() for p in text.split("\n\n"))
    prose = next((p for p in paragraphs if p and p[0] not in "#<[!|-*$>`"), "")
    sentence = re.split(r"(?<=[.?!])\s", " ".join(prose.split()))[0]
    return plain(title[1] if title else name), plain(sentence), minutes and minutes[1]


def plain(markdown: str) -> str:
    """A line of Markdown as the words a reader sees."""
    rendered = MarkdownWithMath(renderer=Renderer(escape=False)).render(markdown)
    return words(rendered)


def words(markup: str) -> str:
    """A piece of HTML without its tags, on one line."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", "", markup)).split())


def thumbnail(png: str) -> str:
    """A figure (base64) small enough for a card."""
    image = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGBA")
    image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    image.thumbnail((640, 360), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


def index(rows: list[Row], contents: dict[str, list[Section]]) -> str:
    """The page that lists the notebooks and searches in what each contains."""
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True)
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "separators": (",", ":")}
    return environment.get_template("index.html.j2").render(rows=rows, contents=contents)


def page(
    notebook: NotebookNode, name: str, previous: str | None = None, following: str | None = None
) -> str:
    """An executed notebook as one HTML file that needs neither scripts nor a network."""
    exporter = Exporter(
        template_name="page", extra_template_basedirs=[str(TEMPLATES)], theme="light"
    )
    resources = {
        "metadata": {"name": introduction(notebook, name)[0]},
        "previous": previous,
        "next": following,
    }
    return with_anchors(exporter.from_notebook_node(notebook, resources)[0])


def with_anchors(text: str) -> str:
    """The page with an id on each heading, made of its words, and a link to it at its end."""
    taken = Counter()

    def anchored(heading: re.Match[str]) -> str:
        level, inside = heading.groups()
        anchor = re.sub(r"\W+", "-", words(inside).lower()).strip("-")
        taken[anchor] += 1
        if taken[anchor] > 1:
            anchor += f"-{taken[anchor]}"
        link = f'<a class="anchor" href="#{anchor}" aria-label="Link to this section">#</a>'
        return f'<h{level} id="{anchor}">{inside} {link}</h{level}>'

    return re.sub(r"<h([1-6])>(.*?)</h\1>", anchored, text, flags=re.DOTALL)


def sections(text: str) -> list[Section]:
    """What a page of `page` says below each of its headings: prose first, then code and outputs."""
    body = text[text.index("<main>") : text.index("</main>")]
    aside = r'<a class="anchor".*?</a>|<nav.*?</nav>|<div class="jp-\w+Prompt.*?</div>'
    body = re.sub(aside, "", body, flags=re.DOTALL)
    headings = re.split(r'<h[1-6] id="([^"]*)">(.*?)</h[1-6]>', body, flags=re.DOTALL)[1:]
    code = re.compile(r"<pre.*?</pre>", re.DOTALL)
    return [
        Section(
            anchor, words(heading), words("\n".join([code.sub("", below), *code.findall(below)]))
        )
        for anchor, heading, below in zip(headings[::3], headings[1::3], headings[2::3])
    ]


class Renderer(IPythonRenderer):
    """Markdown to HTML with formulas as MathML, which browsers draw by themselves."""

    def inline_math(self, body: str) -> str:
        """A formula between `$` and `$`."""
        return latex_to_mathml(body)

    def block_math(self, body: str) -> str:
        """A formula between `$$` and `$$`."""
        return latex_to_mathml(body, display="block")

    def latex_environment(self, name: str, body: str) -> str:
        r"""A formula between `\begin` and `\end`."""
        return self.block_math(f"\\begin{{{name}}}{body}\\end{{{name}}}")


class Exporter(HTMLExporter):
    """nbconvert's exporter with our renderer."""

    @jinja2.pass_context
    def markdown2html(self, context: jinja2.runtime.Context, source: str) -> str:
        """The HTML of a Markdown cell or of an output in Markdown or LaTeX."""
        attachments = context.get("cell", {}).get("attachments", {})
        renderer = Renderer(escape=False, attachments=attachments, exclude_anchor_links=True)
        return MarkdownWithMath(renderer=renderer).render(source)


if __name__ == "__main__":
    sys.exit(main())
