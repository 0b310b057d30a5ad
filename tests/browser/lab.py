"""JupyterLab in a headless Chromium, driven as a student drives it: open, run all, move what moves."""

import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

SETTINGS = {
    # Only the test saves, so that no two saves overlap.
    "@jupyterlab/docmanager-extension:plugin": {"autosave": False},
    "@jupyterlab/apputils-extension:notification": {
        "checkForUpdates": False,
        "fetchNews": "false",
    },
    # All cells are in the page at once, so that the n-th cell there is the n-th of the file.
    "@jupyterlab/notebook-extension:tracker": {"windowingMode": "none"},
}
SLIDER, DROPDOWN, PLAY = ".widget-hslider", ".widget-dropdown", ".widget-play"
REDRAWN = 60  # seconds, on a computer that is busy with other things too

CAN_RUN = "window.jupyterapp?.commands.isEnabled('notebook:run-all-cells')"
KERNEL = "jupyterapp.shell.currentWidget.sessionContext.session?.kernel"
VISIBLE_TEXTS = """root => {
    const found = [], walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const text = walker.currentNode.data.trim(), element = walker.currentNode.parentElement;
        if (!text || !element.checkVisibility({visibilityProperty: true})) continue;
        if (element.closest("code, .jp-mod-hidden")) continue;
        const layers = [];
        for (let e = element; e; e = e.parentElement) layers.push(getComputedStyle(e).backgroundColor);
        found.push([text.slice(0, 60), getComputedStyle(element).color, layers]);
    }
    return found;
}"""
WIDER_THAN_THE_PANEL = """scroller => {
    const right = scroller.getBoundingClientRect().left + scroller.clientWidth;
    const parts = scroller.querySelectorAll(".jp-OutputArea-output img, .jp-OutputArea .jupyter-widgets");
    return [...parts].filter(part => part.getBoundingClientRect().right > right + 1).map(
        part => `${part.alt || part.className} ends ${part.getBoundingClientRect().right - right} px too far`
    );
}"""
AT_REST = "document.getAnimations().every(animation => animation.playState !== 'running')"
RIGHT_END = "element => element.getBoundingClientRect().right"
BROKEN = "images => images.filter(image => !image.complete || !image.naturalWidth).length"
SCALES = (
    "images => images.map(image => [image.clientWidth / image.naturalWidth, image.naturalWidth])"
)


class Lab(NamedTuple):
    """A JupyterLab server."""

    url: str  # ends with a slash
    token: str

    def ask(self, path: str, method: str = "GET") -> Any:
        """What its REST interface answers."""
        headers = {"Authorization": f"token {self.token}"}
        request = urllib.request.Request(self.url + path, headers=headers, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read() or "null")


@contextlib.contextmanager
def jupyter_lab(folder: Path, home: Path) -> Iterator[Lab]:
    """A server that shows `folder` and keeps its settings in `home`, knowing nothing of the user's."""
    home.mkdir()
    (home / "overrides.json").write_text(json.dumps(SETTINGS))
    places = ("CONFIG", "DATA", "RUNTIME")
    own = {f"JUPYTER_{place}_DIR": str(home / place.lower()) for place in places}
    own |= {f"JUPYTERLAB_{place}_DIR": str(home / place) for place in ("SETTINGS", "WORKSPACES")}
    own["IPYTHONDIR"] = str(home / "ipython")
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--port=0"]
    command += ["--ip=127.0.0.1", f"--ServerApp.root_dir={folder}"]
    command += [f"--LabApp.app_settings_dir={home}", "--LabApp.expose_app_in_browser=True"]
    with (home / "log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | own)
        try:
            yield _address(home, server)
        finally:
            server.terminate()
            server.wait(30)


def _address(home: Path, server: subprocess.Popen) -> Lab:
    """Where the server says that it listens."""
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and server.poll() is None:
        for file in (home / "runtime").glob(f"jpserver-{server.pid}.json"):
            with contextlib.suppress(OSError, ValueError):  # half written, or not listening yet
                facts = json.loads(file.read_text())
                lab = Lab(facts["url"], facts["token"])
                lab.ask("api/status")
                return lab
        time.sleep(0.2)
    raise RuntimeError(f"JupyterLab did not start: {(home / 'log').read_text()[-2000:]}")


def until(page: "Page", ready: Callable[[], bool], seconds: float) -> bool:
    """Wait until `ready()`; whether it came true in time."""
    deadline = time.monotonic() + seconds
    while not (done := ready()) and time.monotonic() < deadline:
        page.wait_for_timeout(150)
    return done


def wait_for(page: "Page", promise: str, seconds: float) -> None:
    """Wait until JupyterLab keeps a promise: it knows when it is done, and the page only hints at it.

    Raises:
        TimeoutError: it was not kept in time.
    """
    late = f"new Promise(resolve => setTimeout(resolve, {1000 * seconds}, 'late'))"
    if page.evaluate(f"Promise.race([{promise}.then(() => null), {late}])") == "late":
        raise TimeoutError(f"after {seconds} s JupyterLab has not kept {promise}")


def run_command(page: "Page", name: str, seconds: float, **arguments: Any) -> None:
    """Do what stands in a menu of JupyterLab, and wait until it is done."""
    call = f"{json.dumps(name)}, {json.dumps(arguments)}"
    wait_for(page, f"jupyterapp.commands.execute({call})", seconds)


def open_notebook(page: "Page", lab: Lab, name: str) -> None:
    """Open a notebook in JupyterLab, and wait until Run All Cells can be chosen and its kernel answers."""
    page.goto(f"{lab.url}lab/tree/{name}?token={lab.token}&reset", wait_until="domcontentloaded")
    page.wait_for_function(CAN_RUN, timeout=90_000)
    page.wait_for_function(f"{KERNEL}?.connectionStatus == 'connected'", timeout=90_000)
    wait_for(page, f"{KERNEL}.info", 90)


def is_idle(page: "Page") -> bool:
    """Whether the kernel has nothing to do."""
    return page.evaluate(f"{KERNEL}.status == 'idle'")


def controls(cell: "Locator") -> list["Locator"]:
    """The sliders, dropdowns and Play buttons below a cell, from top to bottom."""
    return cell.locator(f".jp-OutputArea :is({SLIDER}, {DROPDOWN}, {PLAY})").all()


def describe(control: "Locator") -> str:
    """The words before a control; a Play button has none."""
    label = control.locator(".widget-label")
    return label.first.inner_text() if label.count() else "Play"


def move_by_mouse(control: "Locator") -> None:
    """Drag a slider to its other side, choose another line of a dropdown, or play.

    The list that a dropdown opens belongs to the system and not to the page: playwright chooses there in
    the mouse's place.
    """
    page = control.page
    control.scroll_into_view_if_needed()
    if control.locator("select").count():
        select = control.locator("select")
        index, options = select.evaluate("s => [s.selectedIndex, s.options.length]")
        select.select_option(index=(index + 1) % options)
    elif control.locator(".noUi-handle").count():
        handle = control.locator(".noUi-handle").bounding_box()
        track = control.locator(".noUi-base").bounding_box()
        x, y = handle["x"] + handle["width"] / 2, handle["y"] + handle["height"] / 2
        left = (x - track["x"]) / track["width"] < 0.5
        page.mouse.move(x, y)
        page.mouse.down()
        page.mouse.move(track["x"] + track["width"] * (0.8 if left else 0.2), y, steps=4)
        page.mouse.up()
    else:
        control.locator("button").first.click()


def press(control: "Locator") -> None:
    """Put the focus on a control and use its keys: an arrow, towards the middle, or Space to play.

    A dropdown is opened with Space first: JupyterLab takes bare arrows for its own, to go to another cell.
    """
    if control.locator("select").count():
        select = control.locator("select")
        first = select.evaluate("s => s.selectedIndex == 0")
        for key in ("Space", "ArrowDown" if first else "ArrowUp", "Enter"):
            select.press(key)
    elif control.locator(".noUi-handle").count():
        handle = control.locator(".noUi-handle")
        low, high, now = (
            float(handle.get_attribute(f"aria-value{end}")) for end in ("min", "max", "now")
        )
        handle.press("ArrowRight" if now < (low + high) / 2 else "ArrowLeft")
    else:
        control.locator("button").first.press("Space")


def picture(cell: "Locator") -> tuple[str, str]:
    """The description and the bytes of the picture that a cell's controls move; empty where there is none."""
    first = "([image]) => image ? [image.alt, image.src] : ['', '']"
    return tuple(cell.locator(".widget-html img").evaluate_all(first))


def is_whole(part: "Locator") -> bool:
    """Whether all pictures in a part of the page are loaded."""
    return part.locator(".jp-OutputArea-output img").evaluate_all(BROKEN) == 0


def follows(cell: "Locator", control: "Locator", move: Callable[["Locator"], None]) -> str | None:
    """Move a control, and wait until the picture is drawn again: its description has the new value.

    Returns:
        None, or what is wrong.
    """
    page, (description, _) = cell.page, picture(cell)
    move(control)
    if not until(page, lambda: picture(cell)[0] != description, REDRAWN):
        return "nothing was drawn again"
    if PLAY.removeprefix(".") in control.get_attribute("class").split():
        control.locator("button").first.click()  # pause
    until(page, lambda: is_idle(page) and is_whole(cell), REDRAWN)
    if not picture(cell)[0]:
        said = cell.locator(".widget-html [role=alert]").all_inner_texts()
        return " ".join(said) or "the picture has lost its description"
    return None


def contrast(color: str, layers: list[str]) -> float:
    """WCAG's contrast of a text with what lies below it, from 1 to 21.

    Args:
        color: of the text, as a browser computes it: "rgb(0, 0, 0)" or "rgba(0, 0, 0, 0.87)".
        layers: the backgrounds below it, from the nearest to the page's.
    """
    below = (255.0, 255.0, 255.0)
    for layer in reversed(layers):
        below = _blend(layer, below)
    bright, dark = sorted((_luminance(_blend(color, below)), _luminance(below)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def _blend(color: str, below: tuple[float, ...]) -> tuple[float, ...]:
    """The colour over another."""
    *channels, alpha = [float(n) for n in color.partition("(")[2].rstrip(")").split(",")] + (
        [] if color.startswith("rgba") else [1.0]
    )
    return tuple(alpha * c + (1 - alpha) * b for c, b in zip(channels, below, strict=True))


def _luminance(color: tuple[float, ...]) -> float:
    shares = [c / 255 for c in color]
    linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
