"""`python -m course_utils.predict`: pictures of all kinds, the drawing, and results for COCO's tool."""

import json
import re
from contextlib import redirect_stdout
from io import StringIO

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO

from course_utils import predict
from course_utils.data.photos import photo
from course_utils.data.scenes import make_scene
from course_utils.ops.boxes import box_iou


def save(path, image, **options):
    pixels = (image * 255).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(path, **options)
    return path


# pycocotools, when it decodes a mask under numpy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture(scope="module")
def camera(tmp_path_factory):
    """The cameraman, cut so that height and width differ."""
    image = photo("camera").sample.image[:, 40:, :400]
    return save(tmp_path_factory.mktemp("photos") / "000000000139.png", image)


@pytest.fixture(scope="module")
def full_size(camera):
    """The results for the cameraman."""
    return run(camera)[0]


def run(picture, *options):
    """The command, which draws beside the picture: COCO's results, and the lines printed before."""
    arguments = [picture, "--out", picture.parent / "drawn.png", "--json", *options]
    with redirect_stdout(StringIO()) as printed:
        predict.main([str(argument) for argument in arguments])
    *lines, last = printed.getvalue().splitlines()
    return json.loads(last), lines


def refused(capsys, *arguments):
    """What the command says when it refuses, in one sentence after its name and with exit status 2."""
    with pytest.raises(SystemExit) as stopped:
        predict.main([str(argument) for argument in arguments])
    assert stopped.value.code == 2
    return capsys.readouterr().err.split("error: ")[1].strip()


def loaded(tmp_path, results, size, category):
    """The results in COCO's own tool."""
    height, width = size
    truth = {
        "images": [{"id": results[0]["image_id"], "height": height, "width": width}],
        "annotations": [],
        "categories": [{"id": category, "name": results[0]["category_name"]}],
    }
    file = tmp_path / "truth.json"
    file.write_text(json.dumps(truth))
    return COCO(str(file)).loadRes(results)


def test_the_person_has_a_box_a_mask_and_a_pose(camera, tmp_path):
    results, lines = run(camera)
    assert lines[0].startswith("person 0.") and lines[0].endswith(" of 17 joints")
    person = results[0]
    assert (person["image_id"], person["category_id"]) == (139, 1)
    coco = loaded(tmp_path, results[:1], (472, 400), category=1)
    (annotation,) = coco.loadAnns(coco.getAnnIds(139, catIds=1))
    truth = photo("camera").sample.masks[0, 40:, :400].numpy()
    mask = coco.annToMask(annotation).astype(bool)
    assert (mask & truth).sum() / (mask | truth).sum() > 0.85
    joints = np.array(person["keypoints"]).reshape(17, 3)
    assert set(joints[:, 2]) <= {1, 2} and (joints[:, 2] == 2).sum() >= 10
    inside = [
        truth[int(y), int(x)] for x, y, v in joints if v == 2 and 0 <= y < 472 and 0 <= x < 400
    ]
    assert np.mean(inside) > 0.8
    with Image.open(camera.parent / "drawn.png") as drawn:
        assert drawn.size == (800, 944)  # twice as large, for the labels
        assert np.array(drawn.convert("RGB")).std(axis=2).max() > 50  # colours on a grey photo


def test_nanodet_gives_boxes_only_with_cocos_own_ids(tmp_path):
    sample = photo("chelsea").sample
    results, lines = run(save(tmp_path / "chelsea.png", sample.image), "--network", "nanodet")
    cat = next(found for found in results if found["category_name"] == "cat")
    assert (
        cat["category_id"] == 17 and cat["image_id"] == 1
    )  # the class has number 16 in the network
    assert not {"segmentation", "keypoints"} & cat.keys()
    x, y, width, height = cat["bbox"]
    box = torch.tensor([[x, y, x + width, y + height]])
    assert box_iou(box, sample.boxes[:1]) > 0.8
    assert f"cat {cat['score']:.2f}: x " in "\n".join(lines)


def test_the_courses_own_detector_finds_the_objects_of_a_scene(tmp_path):
    scene = make_scene(3, size=(96, 96))
    results, _ = run(save(tmp_path / "scene.png", scene.image), "--network", "mask_rcnn")
    names = [scene.class_names[label] for label in scene.labels.tolist()]
    assert results[0]["category_name"] in names and results[0]["score"] > 0.5
    assert results[0]["category_id"] == scene.class_names.index(results[0]["category_name"])
    assert results[0]["segmentation"]["size"] == [96, 96]


def test_a_grey_picture_is_turned_as_its_exif_data_say(camera, full_size, tmp_path):
    with Image.open(camera) as image:
        exif = Image.Exif()
        exif[0x0112] = 6  # to be turned clockwise by 90 degrees
        turned = image.convert("L").transpose(Image.Transpose.ROTATE_90)
        turned.save(tmp_path / "139.png", exif=exif)
    assert run(tmp_path / "139.png")[0] == full_size


def test_of_a_large_picture_the_results_are_in_its_own_pixels(camera, full_size, monkeypatch):
    monkeypatch.setattr(predict, "LARGEST", 236)
    (half, *_), _ = run(camera)
    assert half["segmentation"]["size"] == [472, 400]
    np.testing.assert_allclose(half["bbox"], full_size[0]["bbox"], atol=12)
    joints, expected = (
        np.array(found["keypoints"]).reshape(17, 3) for found in (half, full_size[0])
    )
    sure = (joints[:, 2] == 2) & (expected[:, 2] == 2)
    assert np.median(np.abs(joints - expected)[sure]) < 5
    with Image.open(camera.parent / "drawn.png") as drawn:
        assert drawn.size == (600, 708)


def test_where_nothing_is_found_it_says_so(tmp_path):
    grey = save(tmp_path / "tiny.png", torch.full((3, 16, 16), 0.5))
    assert run(grey) == ([], ["nothing found"])
    with Image.open(tmp_path / "drawn.png") as drawn:
        assert drawn.size == (640, 640)


@pytest.mark.parametrize("network", ["persons", "nanodet"])
def test_one_pixel_is_a_picture(tmp_path, network):
    run(save(tmp_path / "pixel.png", torch.zeros(3, 1, 1)), "--network", network)


def test_files_that_are_no_pictures(tmp_path, capsys, camera):
    broken, out = tmp_path / "broken.jpg", tmp_path / "drawn.png"
    broken.write_bytes(camera.read_bytes()[:2000])
    assert "broken.jpg is not a complete image file" in refused(capsys, broken, "--out", out)
    message = refused(capsys, tmp_path / "none.jpg", "--out", out)
    assert message.startswith("1 image file is missing")
    assert "is missing" in refused(capsys, tmp_path, "--out", out)
    assert list(tmp_path.iterdir()) == [broken]


def test_files_that_are_not_written(tmp_path, capsys, camera):
    content, folder = camera.read_bytes(), tmp_path / "folder.png"
    folder.mkdir()
    link = tmp_path / "link.png"
    link.symlink_to(camera)
    out = tmp_path / "drawn.png"
    for arguments, sentence in (
        (["--out", camera], "--out: .* is the picture itself"),
        (["--out", link], "--out: .* is the picture itself"),
        (
            ["--out", tmp_path / "drawn.gif"],
            r"--out: expected a name that ends in .png, .jpg, .jpeg",
        ),
        (["--out", folder], "--out: .* is a folder"),
        (
            ["--out", out, "--network", "yolo"],
            "--network: expected persons, nanodet, mask_rcnn or a file",
        ),
        (["--out", out, "--network", "fcn"], "--network: expected a detector, got a fcn"),
        (["--out", out, "--network", tmp_path / "my.safetensors"], "there is no file"),
    ):
        message = refused(capsys, camera, *arguments)
        assert re.search(sentence, message), message
    assert camera.read_bytes() == content
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder.png", "link.png"]


def test_a_drawing_as_jpeg(camera, tmp_path):
    predict.main(
        [str(camera), "--out", str(tmp_path / "new" / "drawn.JPG"), "--network", "nanodet"]
    )
    with Image.open(tmp_path / "new" / "drawn.JPG") as drawn:
        assert drawn.format == "JPEG" and drawn.size == (800, 944)
