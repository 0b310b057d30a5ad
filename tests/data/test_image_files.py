"""Image files: every mode keeps its range, label maps keep their numbers, and bad files are named."""

import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import EpsImagePlugin, Image

from course_utils.data import voc
from course_utils.data.image_files import load_image, read_image, read_pixels

GREY = np.array([[0, 51, 102], [153, 204, 255]], np.uint8)
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n%%EndComments\nshowpage\n%%EOF\n"


def save(path, pixels, mode=None, **options):
    picture = Image.fromarray(np.asarray(pixels))
    (picture.convert(mode) if mode else picture).save(path, **options)
    return path


def expected(grey):
    return torch.from_numpy(grey / np.float32(255)).expand(3, 2, 3)


# ---- photos ----


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P", "CMYK"])
def test_every_mode_becomes_rgb_between_0_and_1(tmp_path, mode):
    path = save(tmp_path / ("a.tif" if mode == "CMYK" else "a.png"), GREY, mode)
    assert torch.equal(read_image(path), expected(GREY))


def test_one_bit_is_black_and_white(tmp_path):
    path = save(tmp_path / "a.png", GREY > 100)
    assert torch.equal(read_image(path), expected((GREY > 100) * np.float32(255)))


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.pgm"])
def test_16_bits_keep_their_range(tmp_path, name):
    path = save(tmp_path / name, GREY.astype(np.uint16) * 257)
    assert torch.allclose(read_image(path), expected(GREY), atol=1e-7)
    assert read_image(path).dtype == torch.float32


def test_floating_point_between_0_and_1_is_read_and_anything_else_refused(tmp_path):
    path = save(tmp_path / "a.tif", GREY / np.float32(255))
    assert torch.equal(read_image(path), expected(GREY))
    for wrong in (GREY.astype(np.float32), np.full((2, 3), np.nan, np.float32)):
        save(path, wrong)
        with pytest.raises(
            ValueError, match=r"^folder: expected grey values from 0 to 1 in .*a.tif"
        ):
            read_image(path)
    save(path, GREY.astype(np.int32) - 9)
    with pytest.raises(ValueError, match=r"from 0 to 65535 in .*a.tif, got -9 to 246"):
        read_image(path)


def test_transparent_pixels_keep_their_colour(tmp_path):
    picture = Image.fromarray(GREY).convert("P")
    picture.save(tmp_path / "a.png", transparency=bytes(range(256)))
    assert torch.equal(read_image(tmp_path / "a.png"), expected(GREY))


def test_exif_is_followed_on_request(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 3
    path = save(tmp_path / "a.png", GREY, exif=exif)
    assert torch.equal(read_image(path), expected(GREY))
    assert torch.equal(read_image(path, upright=True), expected(GREY[::-1, ::-1].copy()))


# ---- label maps ----


@pytest.mark.parametrize(
    ("dtype", "options", "message"),
    [
        (bool, {}, "expected 8 or 16 bits per pixel in .*a.png, got grey values of fewer bits"),
        (np.uint8, {"bits": 4}, "expected 8 or 16 bits per pixel in .*a.png, got grey values"),
        (np.uint8, {"bits": 2}, "expected 8 or 16 bits per pixel in .*a.png, got grey values"),
        (np.float32, {"format": "TIFF"}, ".* in .*a.png, got floating-point numbers"),
        (np.uint8, {"format": "JPEG"}, "expected a label map as PNG in .*a.png, got JPEG"),
        (np.uint8, {"format": "WEBP"}, "expected a label map as PNG in .*a.png, got WEBP"),
    ],
)
def test_label_maps_whose_numbers_would_change_are_refused(tmp_path, dtype, options, message):
    path = tmp_path / "a.png"
    if "bits" in options:
        write_few_bits(path, **options)
    else:
        save(path, (GREY // 51).astype(dtype), **options)
    for read in (read_pixels, voc.read_label_map):
        with pytest.raises(ValueError, match=f"^folder: {message}"):
            read(path)


def write_few_bits(path, bits):
    """A grey PNG file of 2 or 4 bits, which Pillow reads and does not write."""
    rows = b"".join(b"\0" + bytes([0b00011011]) for _ in range(2))
    header = struct.pack(">IIBBBBB", 8 // bits, 2, bits, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
            for kind, data in chunks
        )
    )


def test_16_bit_and_32_bit_numbers_are_kept(tmp_path):
    numbers = np.array([[0, 26_001, 65_535]])
    save(tmp_path / "a.png", numbers.astype(np.uint16))
    save(tmp_path / "b.tif", numbers.astype(np.int32))
    for name in ("a.png", "b.tif"):
        assert read_pixels(tmp_path / name).tolist() == numbers.tolist()
        with pytest.raises(ValueError, match=rf"0 to 20 or 255 in .*{name}, got 26001 in 2 pixels"):
            voc.read_label_map(tmp_path / name)
        with pytest.raises(ValueError, match=rf"^folder: expected colours in .*{name}, got one"):
            read_pixels(tmp_path / name, "RGB")


def test_one_number_per_pixel(tmp_path):
    path = save(tmp_path / "a.png", GREY, "LA")
    with pytest.raises(ValueError, match=r"one number per pixel in .*a.png, got 2 channels"):
        read_pixels(path)


def test_a_palette_with_too_few_colours(tmp_path):
    picture = Image.fromarray(GREY)
    picture.putpalette(voc.colour_map(200).flatten().tolist())
    picture.save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"a palette of 256 colours or more in .*a.png, got 200"):
        voc.read_label_map(tmp_path / "a.png")


# ---- files that would harm ----


@pytest.fixture
def bomb(tmp_path):
    """A PNG file of a few kB with two million pixels."""
    picture = Image.new("P", (1000, 2000))
    picture.putpalette(voc.colour_map().flatten().tolist())
    picture.save(tmp_path / "bomb.png", compress_level=9)
    return tmp_path / "bomb.png"


def test_the_size_is_compared_before_the_pixels_are_decoded(bomb, monkeypatch):
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    for read in (
        lambda: voc.read_label_map(bomb, size=(4, 4)),
        lambda: read_pixels(bomb, size=(4, 4)),
        lambda: load_image(bomb, (4, 4)),
    ):
        with pytest.raises(ValueError, match=r"4 x 4 pixels .*bomb.png, .* got 2000 x 1000"):
            read()


@pytest.mark.parametrize("limit", [1_500_000, 900_000])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_more_pixels_than_pillow_allows(bomb, monkeypatch, limit):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(ValueError, match=r"^folder: .*bomb.png"):
        read_image(bomb)


def test_an_eps_file_named_as_a_photo_is_not_run(tmp_path, monkeypatch):
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_, **__: pytest.fail("run"))
    for name in ("photo.jpg", "photo.png"):
        (tmp_path / name).write_bytes(EPS)
        with pytest.raises(ValueError, match=rf"^folder: .*{name} is not .* \(it is not JPEG, PNG"):
            read_image(tmp_path / name)


def test_a_truncated_header(tmp_path):
    path = save(tmp_path / "a.png", GREY)
    content = bytearray(path.read_bytes())
    content[11] = 5  # the length of IHDR
    path.write_bytes(content)
    for read in (read_image, read_pixels, voc.read_label_map):
        with pytest.raises(ValueError, match=r"^folder: .*a.png is not a complete image file \("):
            read(path)


def test_a_tiff_file_with_a_tag_of_another_type(tmp_path):
    path = save(tmp_path / "a.tif", GREY)
    content = bytearray(path.read_bytes())
    for tag in (273, 278):  # where the pixels are, rows in a strip: floating-point numbers
        at = content.index(tag.to_bytes(2, "little"))
        content[at + 2] = 11
    path.write_bytes(content)
    with pytest.raises(
        ValueError, match=r"^folder: .*a.tif is not a complete image file \(.*float"
    ):
        read_image(path)


def test_files_that_the_system_does_not_open_keep_its_message(tmp_path, monkeypatch):
    path = save(tmp_path / "a.png", GREY)

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Image, "open", refuse)
    with pytest.raises(PermissionError, match=r"Permission denied: .*a.png"):
        read_image(path)
