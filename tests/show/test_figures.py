"""From axes to a stored image: displayed once, described, and reproducible."""

import base64
import io

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from nbclient import NotebookClient
from nbformat import v4
from PIL import Image, JpegImagePlugin

from course_utils import show
from course_utils.data.photos import photo
from course_utils.show import figures


def opened(content):
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


@pytest.fixture
def portrait():
    """The axes of a figure with a photograph."""
    ax = show.plot_image(photo("astronaut").sample.image)
    yield ax
    plt.close(ax.figure)


def example():
    """A figure with a picture and two boxes whose tags start on each other."""
    image = torch.linspace(0, 1, 3 * 40 * 60).reshape(3, 40, 60)
    boxes = torch.tensor([[5.0, 8.0, 40.0, 35.0], [6.0, 9.0, 30.0, 30.0]])
    return show.plot_boxes(boxes, ax=show.plot_image(image), labels=["a cat", "a dog"])


def test_figure_is_displayed_once_with_its_description(published):
    show.figure(example(), "A cat and a dog.")
    [(data, metadata)] = published
    assert metadata == {"image/png": {"alt": "A cat and a dog."}}
    assert data["text/plain"] == "A cat and a dog."
    pixels = opened(base64.b64decode(data["image/png"]))
    assert pixels.shape[1] <= 720 and (pixels[0] == 255).all()


@pytest.mark.parametrize("alt", ["", "  ", None])
@pytest.mark.usefixtures("as_student")
def test_figure_without_description_is_refused(ax, alt):
    with pytest.raises(ValueError, match="alt: "):
        show.figure(ax, alt)


def test_same_figure_same_bytes(published):
    for _ in range(2):
        show.figure(example().figure, "A cat and a dog.")
    assert published[0] == published[1]
    png = base64.b64decode(published[0][0]["image/png"])
    assert b"Software" not in png and b"matplotlib" not in png and b"tIME" not in png


def test_the_colours_of_a_grid_are_kept_exactly(ax):
    show.plot_image(torch.tensor([[[0.2, 0.4]]] * 3).float(), ax=ax)
    kind, content = figures.encode(figures.draw(ax.figure))
    assert kind == "image/png"
    assert {51, 102, 255} <= set(opened(content).reshape(-1, 3)[:, 0].tolist())


def test_a_plot_with_many_lines_is_a_png_with_the_pixels_that_were_drawn(ax):
    for number in range(40):
        ax.plot(np.sin(np.linspace(0, 6, 200) + number / 7))
    kind, content = figures.encode(figures.draw(ax.figure))
    drawn = io.BytesIO()
    ax.figure.savefig(drawn, format="png", bbox_inches="tight", pad_inches=0.08)
    assert kind == "image/png" and Image.open(drawn).convert("RGB").getcolors(256) is None
    assert (opened(content) == opened(drawn.getvalue())).all()


def test_a_photo_is_a_jpeg_with_its_tones_and_without_chroma_subsampling(portrait):
    fig = portrait.figure
    kind, content = figures.encode(figures.draw(fig))
    drawn = io.BytesIO()
    fig.savefig(drawn, format="png", bbox_inches="tight", pad_inches=0.08)
    assert kind == "image/jpeg" and len(content) < len(drawn.getvalue()) / 1.5
    assert JpegImagePlugin.get_sampling(Image.open(io.BytesIO(content))) == 0  # 4:4:4
    error = np.abs(opened(content).astype(int) - opened(drawn.getvalue()))
    assert (
        error.mean() < 2.5 and abs(opened(content).mean() - opened(drawn.getvalue()).mean()) < 0.3
    )


def test_in_a_photo_one_pixel_changes_only_its_neighbourhood(portrait):
    before = opened(figures.encode(figures.draw(portrait.figure))[1])
    portrait.images[0].get_array()[30, 30] = 0.0
    changed = (opened(figures.encode(figures.draw(portrait.figure))[1]) != before).any(axis=-1)
    assert 0 < changed.mean() < 0.002


def test_a_published_photo_has_its_description(published, portrait):
    assert figures.html_image(portrait.figure, "A portrait.").startswith(
        '<img alt="A portrait." src="data:image/jpeg;base64,'
    )
    show.figure(portrait, "A portrait.")
    [(data, metadata)] = published
    assert metadata == {"image/jpeg": {"alt": "A portrait."}} and "image/png" not in data


def test_in_a_notebook_each_cell_has_one_output():
    cells = [
        "import torch\nfrom course_utils import show",
        "show.figure(show.plot_grid(torch.eye(2)), 'The identity.')",
        "show.show_source(show.class_color)",
        "show.explore(lambda n: show.plot_grid(torch.eye(n)), 'The identity.', n=(1, 4, 1, 2))",
    ]
    notebook = v4.new_notebook(cells=[v4.new_code_cell(cell) for cell in cells])
    NotebookClient(notebook, timeout=120, kernel_name="python3", store_widget_state=False).execute()
    first, drawn, shown, moved = (cell.outputs for cell in notebook.cells)
    assert first == [] and len(drawn) == len(shown) == len(moved) == 1
    assert drawn[0].metadata == {"image/png": {"alt": "The identity."}}
    assert "def class_color(number: int" in shown[0].data["text/markdown"]
    assert moved[0].data["text/plain"] == "A widget to move: n"
