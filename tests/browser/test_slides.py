"""Every slide of every talk, as a projector and a large screen show it: nothing cut off, empty or missing."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.notebooks import find
from tools.slides import HEIGHT, WIDTH, build, chromium, print_handouts, write_list

pytestmark = pytest.mark.long

SMALLEST = 0.75  # a figure drawn at less than this of its own size cannot be read
NO_ALT = "No description has been provided for this image"  # nbconvert writes it into the gap
SETTLED = "Reveal.isReady() && [...document.images].every(image => image.complete)"

# Goes through all slides with all fragments shown; returns their number and what is wrong, each with
# the slide, its first cell and lengths in the slide's own pixels.
WALK = """async ([smallest, noAlt]) => {
  await document.fonts.ready
  Reveal.configure({transition: 'none'})
  const problems = [], slides = Reveal.getSlides()
  for (const slide of slides) {
    const {h, v} = Reveal.getIndices(slide)
    Reveal.slide(h, v, slide.querySelectorAll('.fragment').length)
    const cells = [...slide.querySelectorAll('.jp-Cell')].filter(cell => !cell.closest('.notes'))
    const where = `${h + 1}.${v + 1} (${cells[0]?.id.replace('cell-id=', '')})`
    const report = text => problems.push(`${where}: ${text}`)
    const box = slide.getBoundingClientRect(), scale = Reveal.getScale(), shown = []
    if (slide !== Reveal.getCurrentSlide()) report('not reached')
    if (slide.querySelector('.fragment:not(.visible)')) report('not all of it appears')
    const texts = document.createTreeWalker(slide, NodeFilter.SHOW_TEXT), range = document.createRange()
    while (texts.nextNode()) {
      if (!texts.currentNode.data.trim() || texts.currentNode.parentElement.closest('.notes')) continue
      range.selectNodeContents(texts.currentNode)
      shown.push(...range.getClientRects())
    }
    for (const image of slide.querySelectorAll('img')) {
      const place = image.getBoundingClientRect()
      const drawn = Math.min(place.width / image.naturalWidth, place.height / image.naturalHeight) / scale
      shown.push(place)
      if (!image.naturalWidth) report('a figure did not load')
      else if (drawn < smallest) report(`a figure shrinks to ${Math.round(100 * drawn)} %`)
      if (!image.alt.trim() || image.alt === noAlt) report('a figure has no alt text')
    }
    if (!shown.length) { report('empty'); continue }
    const beyond = (side, by) => by / scale > 1 && report(`${Math.ceil(by / scale)} px beyond the ${side}`)
    beyond('top', box.top - Math.min(...shown.map(place => place.top)))
    beyond('left', box.left - Math.min(...shown.map(place => place.left)))
    beyond('bottom', Math.max(...shown.map(place => place.bottom)) - box.bottom)
    beyond('right', Math.max(...shown.map(place => place.right)) - box.right)
  }
  return {slides: slides.length, problems}
}"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The talks of the whole course."""
    folder = tmp_path_factory.mktemp("slides")
    build(find(), folder)
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator:
    """A browser for all tests."""
    with chromium() as browser:
        yield browser


def opened(browser, file: Path, size: tuple[int, int]) -> tuple:
    """A page in the browser, and what it complains about or asks the network for, as it grows."""
    complaints: list[str] = []
    page = browser.new_page(viewport={"width": size[0], "height": size[1]})
    page.on("console", lambda m: m.type in ("error", "warning") and complaints.append(m.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("requestfailed", lambda request: complaints.append(f"not loaded: {request.url}"))
    page.on("request", lambda r: r.url.startswith("http") and complaints.append(f"asks {r.url}"))
    page.goto(file.as_uri())
    return page, complaints


@pytest.mark.parametrize(
    "size", [(1280, 720), (1920, 1080)], ids=lambda size: "x".join(map(str, size))
)
@pytest.mark.parametrize("path", find(), ids=lambda path: path.stem)
def test_every_slide(browser, folder: Path, path: Path, size: tuple[int, int]) -> None:
    page, complaints = opened(browser, folder / f"{path.stem}.html", size)
    page.wait_for_function(SETTLED)
    walked = page.evaluate(WALK, [SMALLEST, NO_ALT])
    page.close()
    problems = walked["problems"] + complaints
    assert not problems, "\n".join([f"{path.stem}, of {walked['slides']} slides:", *problems])
    assert walked["slides"] > 10


def test_the_list(browser, folder: Path) -> None:
    write_list(folder)
    page, complaints = opened(browser, folder / "index.html", (1024, 768))
    links = page.eval_on_selector_all(
        "li a", "links => links.map(link => link.getAttribute('href'))"
    )
    page.close()
    assert links == [f"{path.stem}.html" for path in find()] and not complaints


def test_the_notes_of_the_teacher(browser, folder: Path) -> None:
    page, complaints = opened(browser, folder / "00_overview.html", (WIDTH, HEIGHT))
    page.wait_for_function(SETTLED)
    noted = page.evaluate("Reveal.getIndices(document.querySelector('.notes').closest('section'))")
    page.evaluate("place => Reveal.slide(place.h, place.v)", noted)
    with page.context.expect_page() as popup:
        page.keyboard.press("s")
    notes = popup.value.wait_for_selector(".speaker-controls-notes .value:not(:empty)")
    assert "Ask:" in notes.inner_text() and not complaints
    assert not page.locator(".slides .notes").first.is_visible()
    popup.value.close()
    page.close()


def test_a_handout(browser, folder: Path) -> None:
    file = folder / "00_overview.html"
    page, _ = opened(browser, file, (WIDTH, HEIGHT))
    page.wait_for_function(SETTLED)
    slides = page.evaluate("Reveal.getTotalSlides()")
    page.close()
    print_handouts([file], browser)
    printed = file.with_suffix(".pdf").read_bytes()
    assert len(re.findall(rb"/Type\s*/Page\b", printed)) == slides
    boxes = set(re.findall(rb"/MediaBox\s*\[([^]]*)\]", printed))
    assert boxes == {b"0 0 %d %d" % (WIDTH * 3 // 4, HEIGHT * 3 // 4)}  # in points
