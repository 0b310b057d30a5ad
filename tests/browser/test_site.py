"""The pages of `make run` as readers open them: in a browser, from the disk and behind a path prefix."""

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import nbformat
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from tests.browser.lab import contrast
from tools import run
from tools.notebooks import FOLDER, Execution
from tools.slides import chromium

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

pytestmark = pytest.mark.long

STORED = ["04_semantic_segmentation", "05_upsampling", "06_transposed_convolution"]
NAMES = [*STORED, "99_made_up"]
PAGES = ["index", *NAMES]
TEXTS = """() => {
    const found = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    for (const details of document.querySelectorAll("details")) details.open = true;
    while (walker.nextNode()) {
        const text = walker.currentNode.data.trim(), element = walker.currentNode.parentElement;
        if (!text || !element.checkVisibility({opacityProperty: true, visibilityProperty: true})) continue;
        if (element.closest("[aria-hidden=true]")) continue;
        const layers = [], color = getComputedStyle(element).color.match(/[\\d.]+/g).map(Number);
        let alpha = color[3] ?? 1;
        for (let e = element; e; e = e.parentElement) {
            layers.push(getComputedStyle(e).backgroundColor);
            alpha *= getComputedStyle(e).opacity;
        }
        found.push([text.slice(0, 40), `rgba(${color.slice(0, 3)}, ${alpha})`, layers]);
    }
    return found;
}"""
TOO_WIDE = """() => {
    const root = document.documentElement, found = [];
    for (const one of [root, document.body])
        if (one.scrollWidth > root.clientWidth) found.push(`${one.tagName} is ${one.scrollWidth} wide`);
    for (const part of document.body.querySelectorAll("*")) {
        const style = getComputedStyle(part), cut = part.scrollWidth > part.clientWidth + 1;
        if (cut && ["hidden", "clip"].includes(style.overflowX)) found.push(`cut off: ${part.className}`);
    }
    for (const part of document.querySelectorAll("p, h1, h2, h3")) {
        const room = part.closest(".jp-InputArea, main").getBoundingClientRect().right;
        if (part.getBoundingClientRect().right > room + 1) found.push(`too wide: ${part.textContent}`);
    }
    return found;
}"""


class Opened(NamedTuple):
    """Pages of the site, and what went wrong on them, as it grows."""

    context: "BrowserContext"
    base: str  # the address of the site's folder, ends with a slash
    complaints: list[str]

    def page(self, name: str) -> "Page":
        """One of the pages."""
        page = self.context.new_page()
        page.on("console", lambda said: self.complaints.append(f"{name} says {said.text}"))
        page.on("pageerror", lambda error: self.complaints.append(f"{name}: {error}"))
        page.goto(f"{self.base}{name}.html")
        return page

    def close(self) -> None:
        """Close the pages; none of them may have complained."""
        self.context.close()
        assert self.complaints == []


def made_up() -> NotebookNode:
    """A notebook of what is hard to lay out, and of what the other notebooks must not contain: an error."""
    columns = "|".join(f" column_{number} " for number in range(20))
    rule = "|".join(["-"] * 20)
    error = "\x1b[0;31mValueError\x1b[0m: \x1b[1;32mboxes\x1b[0m"
    cells = [
        new_markdown_cell("# 99 · Made up\n\nA word of its own: zebrafinch. In 1 min."),
        new_markdown_cell("## Twice\n\nOne."),
        new_markdown_cell(f"## Twice\n\n| {columns} |\n|{rule}|\n| {columns} |"),
        new_markdown_cell(f"## A < B & `C`\n\n$${'a + ' * 60}b$$ okapi"),
        new_code_cell("x = 1  # a comment\n" + "long_line + " * 40, execution_count=1),
        new_code_cell(
            "print('</script>')",
            execution_count=2,
            outputs=[new_output("stream", text="wide " * 100)],
        ),
        new_code_cell(
            "fail()",
            execution_count=3,
            outputs=[new_output("error", ename="E", evalue="e", traceback=[error])],
        ),
        new_code_cell("hidden = 1", metadata={"tags": ["solution"]}),
    ]
    return new_notebook(cells=cells)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site of stored outputs: nothing is executed."""
    folder = tmp_path_factory.mktemp("pages") / "course"
    notebooks = [nbformat.read(FOLDER / f"{name}.ipynb", as_version=4) for name in STORED]
    executions = [Execution(notebook, 1, 1.0, 1, None) for notebook in [*notebooks, made_up()]]
    run.write_site(folder, NAMES, executions)
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    with chromium() as browser:
        yield browser


class Quiet(SimpleHTTPRequestHandler):
    """A server that does not write its requests into the report."""

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module", params=["from the disk", "behind a path prefix"])
def base(request: pytest.FixtureRequest, folder: Path) -> Iterator[str]:
    """The address of the site's folder."""
    if request.param == "from the disk":
        yield f"{folder.as_uri()}/"
        return
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder.parent))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/{folder.name}/"
    server.shutdown()
    thread.join()
    server.server_close()


def opened(browser: "Browser", base: str, **options: object) -> Opened:
    """A fresh window, in which a request to anywhere but the site is stopped and becomes a complaint."""
    context, complaints = browser.new_context(**options), []

    def stop(route) -> None:
        complaints.append(f"asks for {route.request.url}")
        route.abort()

    context.route(lambda url: not url.startswith((base, "data:")), stop)
    return Opened(context, base, complaints)


def faint(page: "Page") -> set[tuple]:
    """The texts that stand out too little, with their colour and their contrast."""
    measured = [
        (text, color, contrast(color, layers)) for text, color, layers in page.evaluate(TEXTS)
    ]
    assert measured
    return {(text, color, round(value, 2)) for text, color, value in measured if value < 4.5}


def test_pages_open_without_a_complaint(browser: "Browser", base: str) -> None:
    window = opened(browser, base)
    for name in PAGES:
        page = window.page(name)
        page.mouse.wheel(0, 10_000)
        page.wait_for_load_state("networkidle")
        assert page.title()
        alts = page.eval_on_selector_all("img", "all => all.map(image => image.alt.trim())")
        assert all(alts) and (alts or name == "99_made_up")
        assert not any("No description" in alt for alt in alts)  # nbconvert's, where there is none
        assert page.evaluate("[...document.images].every(image => image.naturalWidth)")
    window.close()


def test_a_request_elsewhere_is_a_complaint(browser: "Browser", base: str) -> None:
    window = opened(browser, base)
    page = window.page("index")
    with page.expect_event("requestfailed"):
        page.evaluate("document.body.append(Object.assign(new Image(), {src: '../elsewhere.png'}))")
    with pytest.raises(AssertionError, match="elsewhere"):
        window.close()


def test_next_and_previous(browser: "Browser", base: str) -> None:
    window = opened(browser, base)
    page = window.page("index")
    page.locator("#cards a").first.click()
    for direction, names in (("next", NAMES), ("prev", NAMES[::-1])):
        for name, following in zip(names, [*names[1:], None]):
            page.wait_for_url(f"{base}{name}.html")
            links = page.locator(f"nav a[rel={direction}]")
            assert links.count() == (2 if following else 0)  # above and below the notebook
            if following:
                links.last.click()
    page.get_by_role("link", name="all notebooks").last.click()
    assert page.url == f"{base}index.html"
    window.close()


def test_each_page_leads_to_colab(browser: "Browser", base: str) -> None:
    window = opened(browser, base)
    for name in STORED:
        link = window.page(name).get_by_role("link", name="Open in Colab")
        assert link.is_visible() and link.get_attribute("href").endswith(f"{name}.ipynb")
    window.close()


@pytest.mark.parametrize(
    ("query", "heading", "address"),
    [
        ("ZebraFinch", "99 · Made up", "99_made_up.html#99-made-up"),
        ("column_7", "Twice", "99_made_up.html#twice-2"),
        ("</script> okapi", "A < B & C", "99_made_up.html#a-b-c"),
        ("antialias", "8 · Shrinking is another matter: antialias", "05_upsampling.html#8-"),
    ],
)
def test_search(browser: "Browser", base: str, query: str, heading: str, address: str) -> None:
    window = opened(browser, base)
    page = window.page("index")
    assert page.locator("#cards").is_visible()
    page.get_by_role("searchbox", name="Search all pages").fill(query)
    assert not page.locator("#cards").is_visible()
    first = page.locator("#results li").first
    assert first.get_by_role("link").inner_text() == heading
    marked = {word.lower() for word in first.locator("mark").all_inner_texts()}
    assert marked and marked <= set(query.lower().split())
    first.get_by_role("link").click()
    page.wait_for_url(f"{base}{address}*")
    at = page.evaluate("document.querySelector(':target').getBoundingClientRect().top")
    assert -1 < at < page.viewport_size["height"]
    assert page.locator(":target").inner_text().startswith(heading)
    page.go_back()
    assert page.locator("#results li").first.get_by_role("link").inner_text() == heading
    window.close()


def test_search_by_keyboard(browser: "Browser", base: str) -> None:
    window = opened(browser, base)
    page = window.page("index")
    focused = "document.activeElement.href || document.activeElement.id"
    page.keyboard.press("/")
    page.keyboard.type("the")
    links = page.eval_on_selector_all("#results a", "all => all.map(link => link.href)")
    assert len(links) == 20
    assert page.get_by_role("status").inner_text().endswith("sections; the first 20")
    path = ["search"]
    for key in ("ArrowDown", "ArrowDown", "ArrowUp", "ArrowUp", "ArrowUp"):
        page.keyboard.press(key)
        path.append(page.evaluate(focused))
    assert path == ["search", links[0], links[1], links[0], "search", "search"]
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Escape")
    assert page.evaluate(focused) == "search"
    assert page.locator("#cards").is_visible() and page.locator("#results li").count() == 0
    page.keyboard.type("nosuchword")
    assert page.get_by_role("status").inner_text() == "No sections"
    page.keyboard.press("Enter")
    page.keyboard.press("Escape")
    page.keyboard.type("zebrafinch")
    assert page.get_by_role("status").inner_text() == "1 section"
    page.keyboard.press("Enter")
    page.wait_for_url(f"{base}99_made_up.html#99-made-up")
    window.close()


def test_without_scripts_the_search_is_not_there_and_all_else_is(
    browser: "Browser", base: str
) -> None:
    window = opened(browser, base, java_script_enabled=False)
    page = window.page("index")
    assert not page.locator("#search").is_visible()
    assert page.locator("#cards li").count() == len(NAMES)
    page.locator("#cards a").first.click()
    assert page.url == f"{base}{NAMES[0]}.html"
    window.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out(browser: "Browser", folder: Path, scheme: str) -> None:
    window = opened(browser, f"{folder.as_uri()}/", color_scheme=scheme)
    for name in PAGES:
        page = window.page(name)
        if name == "index":
            assert not faint(page)
            page.get_by_role("searchbox").fill("mask")
        assert not faint(page), name
        dark = contrast(
            "rgb(0, 0, 0)", page.evaluate("[getComputedStyle(document.body).backgroundColor]")
        )
        assert (dark < 3) == (scheme == "dark")  # black would not be read on a dark page
    window.close()


def test_a_faint_text_is_seen(browser: "Browser") -> None:
    page = browser.new_page()
    pale = "<p style='color: #777'>grey</p><p style='opacity: .5'>through</p>"
    page.set_content(f"<p style='color: #767676'>fine</p>{pale}")
    assert {text for text, *_ in faint(page)} == {"grey", "through"}
    page.close()


@pytest.mark.parametrize("width", [1024, 390])
def test_nothing_is_too_wide(browser: "Browser", folder: Path, width: int) -> None:
    size = {"width": width, "height": 768}
    window = opened(browser, f"{folder.as_uri()}/", viewport=size)
    for name in PAGES:
        page = window.page(name)
        if name == "index":
            page.get_by_role("searchbox").fill("mask")
        assert page.evaluate(TOO_WIDE) == [], name
    window.close()
