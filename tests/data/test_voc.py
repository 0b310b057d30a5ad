"""VOC folders: read as the benchmark and D2L read them, and errors name the file."""

import d2l.torch as d2l
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from course_utils.core import VOID
from course_utils.data import voc
from course_utils.data.scenes import CLASS_NAMES as SCENE_CLASS_NAMES
from course_utils.data.scenes import make_scenes

SIZE = (48, 64)
SCENES = make_scenes(range(5), size=SIZE)
HELD_OUT = make_scenes(range(2), seed=1, size=SIZE)


@pytest.fixture
def folder(tmp_path):
    voc.write_voc(tmp_path / "VOC2012", SCENES)
    voc.write_voc(tmp_path / "VOC2012", HELD_OUT, "val")
    return tmp_path / "VOC2012"


@pytest.fixture
def label_map(folder):
    return folder / "SegmentationClass" / "train_000000.png"


def save(path, pixels, mode=None):
    picture = Image.fromarray(np.asarray(pixels, dtype=np.uint8))
    (picture.convert(mode) if mode else picture).save(path)


# ---- what is read ----


def test_pictures_come_as_images_with_label_maps(folder):
    pictures = voc.read(folder)
    assert len(pictures) == 5 and pictures.class_names == voc.CLASS_NAMES
    assert pictures.names[0] == "train_000000" and len(voc.read(folder, "val")) == 2
    for (image, labels), scene in zip(pictures, SCENES.images, strict=True):
        assert image.dtype == torch.float32 and image.shape == (3, *SIZE)
        assert labels.dtype == torch.int64 and labels.shape == SIZE
        assert (image - scene).abs().mean() < 0.02  # JPEG loses a little
    assert torch.equal(pictures[-1][1], pictures[4][1])
    with pytest.raises(IndexError):
        pictures[5]


def test_scenes_become_voc_classes(folder):
    numbers = {"cat": 8, "dog": 12, "car": 7, "person": 15}
    for number, (_, labels) in enumerate(voc.read(folder)):
        expected = torch.zeros(SIZE, dtype=torch.int64)
        for name, label in numbers.items():
            expected[SCENES.semantic[number] == SCENE_CLASS_NAMES.index(name)] = label
        assert torch.equal(labels, expected)


def test_own_classes_keep_every_pixel(tmp_path):
    voc.write_voc(tmp_path, SCENES, class_names=SCENE_CLASS_NAMES)
    pictures = voc.read(tmp_path, class_names=SCENE_CLASS_NAMES)
    assert pictures.class_names == SCENE_CLASS_NAMES
    for (_, labels), semantic in zip(pictures, SCENES.semantic, strict=True):
        assert torch.equal(labels, semantic)


def test_samples_have_the_objects(folder):
    pictures = voc.read(folder)
    for number in range(len(pictures)):
        sample, scene = pictures.sample(number), SCENES.sample(number)
        assert torch.equal(sample.masks, scene.masks)
        assert torch.equal(sample.boxes, scene.boxes)
        assert [sample.class_names[label] for label in sample.labels] == [
            scene.class_names[label] for label in scene.labels
        ]
        image, labels = pictures[number]
        assert torch.equal(sample.image, image) and torch.equal(sample.semantic, labels)
        assert torch.equal(sample.panoptic > 0, labels > 0)
        assert torch.equal(sample.panoptic // 1000, labels)


def test_d2l_reads_the_same_folder(folder):
    lookup = d2l.voc_colormap2label()
    for split, is_train in (("train", True), ("val", False)):
        photos, colours = d2l.read_voc_images(folder, is_train)
        ours = voc.read(folder, split)
        assert len(photos) == len(ours)
        for (image, labels), photo, colour in zip(ours, photos, colours, strict=True):
            # two JPEG decoders may differ by a step or two
            assert (image - photo / 255).abs().max() < 3 / 255
            assert torch.equal(labels, d2l.voc_label_indices(colour, lookup))


def test_d2l_trains_on_the_same_folder(folder):
    dataset = d2l.VOCSegDataset(True, SIZE, folder)
    for number, (_, labels) in enumerate(voc.read(folder)):
        assert torch.equal(dataset[number][1], labels)


def test_the_border_is_void_here_and_background_for_d2l(folder, label_map):
    numbers = np.array(Image.open(label_map))
    numbers[:5] = VOID
    picture = Image.fromarray(numbers)
    picture.putpalette(voc.colour_map().flatten().tolist())
    picture.save(label_map)
    ours = voc.read(folder)[0][1]
    theirs = d2l.voc_label_indices(d2l.read_voc_images(folder)[1][0], d2l.voc_colormap2label())
    assert (ours[:5] == VOID).all() and (ours[5:] != VOID).all()
    assert torch.equal(torch.where(ours == VOID, 0, ours), theirs)


def test_the_colours_are_d2ls_and_all_differ():
    assert voc.colour_map(21).tolist() == d2l.VOC_COLORMAP
    assert len(voc.colour_map().unique(dim=0)) == 256
    assert voc.colour_map()[VOID].tolist() == [224, 224, 192]
    assert len(voc.CLASS_NAMES) == len(d2l.VOC_CLASSES) == 21
    with pytest.raises(ValueError, match=r"^count: expected 0 to 256, got 257"):
        voc.colour_map(257)


def test_palette_colours_and_numbers_are_the_same_label_map(tmp_path):
    numbers = torch.arange(21).repeat(2, 1)
    numbers[1, 3] = VOID
    save(tmp_path / "grey.png", numbers)
    save(tmp_path / "rgb.png", voc.colour_map()[numbers])
    save(tmp_path / "rgba.png", voc.colour_map()[numbers], "RGBA")
    picture = Image.fromarray(numbers.byte().numpy())
    picture.putpalette(voc.colour_map().flatten().tolist())
    picture.save(tmp_path / "palette.png")
    save(tmp_path / "other.png", voc.colour_map()[numbers], "RGB")
    Image.open(tmp_path / "other.png").quantize(22).save(tmp_path / "other.png")  # other order
    for name in ("grey", "rgb", "rgba", "palette", "other"):
        assert torch.equal(voc.read_label_map(tmp_path / f"{name}.png"), numbers), name


def test_batches_for_training(folder):
    images, labels = next(iter(DataLoader(voc.read(folder), batch_size=3)))
    assert images.shape == (3, 3, *SIZE) and labels.shape == (3, *SIZE)
    logits = torch.nn.Conv2d(3, 21, 1)(images)
    torch.nn.functional.cross_entropy(logits, labels, ignore_index=VOID).backward()


def test_worker_processes_get_a_copy(folder):
    loader = DataLoader(voc.read(folder), batch_size=5, num_workers=1)
    assert torch.equal(
        next(iter(loader))[1], torch.stack([labels for _, labels in voc.read(folder)])
    )


def test_boxes_of_the_xml_files(tmp_path):
    (tmp_path / "a.xml").write_text("""<annotation><filename>a.jpg</filename>
        <object><name>cat</name><difficult>1</difficult>
          <bndbox><xmin>1</xmin><ymin>3</ymin><xmax>3</xmax><ymax>3.5</ymax></bndbox></object>
        <object><name> tvmonitor </name>
          <part><name>head</name><bndbox><xmin>9</xmin></bndbox></part>
          <bndbox><xmax>20</xmax><xmin>11</xmin><ymin>1</ymin><ymax>2</ymax></bndbox></object>
        </annotation>""")
    found = voc.read_boxes(tmp_path / "a.xml")
    assert found.boxes.tolist() == [[0, 2, 3, 3.5], [10, 0, 20, 2]]
    assert found.labels.tolist() == [8, 20] and found.difficult.tolist() == [True, False]
    (tmp_path / "b.xml").write_text("<annotation></annotation>")
    assert [len(field) for field in voc.read_boxes(tmp_path / "b.xml")] == [0, 0, 0]


# ---- what is wrong ----


def test_missing_files_are_found_at_once(folder, tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"^folder: 1 list of photos is missing, .*/train.txt"
    ):
        voc.read(tmp_path / "nowhere")
    (folder / "SegmentationClass" / "train_000001.png").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"^folder: 1 label map is missing, .*train_000001.png"
    ):
        voc.read(folder)
    for number in (2, 4):
        (folder / "JPEGImages" / f"train_00000{number}.jpg").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"^folder: 2 photos are missing, .*train_000002.jpg"
    ):
        voc.read(folder)
    assert len(voc.read(folder, "val")) == 2


def test_no_objects_without_their_folder(folder):
    (folder / "SegmentationObject" / "train_000000.png").unlink()
    pictures = voc.read(folder)
    assert pictures[0][1].shape == SIZE
    with pytest.raises(FileNotFoundError, match=r"SegmentationObject/train_000000.png"):
        pictures.sample(0)


def test_an_empty_list(folder):
    (folder / "ImageSets" / "Segmentation" / "train.txt").write_text("\n")
    with pytest.raises(ValueError, match=r"^split: expected the names of photos in .*train.txt"):
        voc.read(folder)


@pytest.mark.parametrize("name", ["../../secret", "/etc/passwd", "a/../../b", "..\\b", "C:x"])
def test_names_do_not_lead_out_of_the_folder(folder, name):
    (folder / "ImageSets" / "Segmentation" / "train.txt").write_text(f"{name}\n")
    with pytest.raises(
        ValueError, match=r"^folder: expected the name of a file inside .*VOC2012, got"
    ):
        voc.read(folder)
    with pytest.raises(ValueError, match=r"^folder: expected the name of a file inside"):
        voc.read(folder, split=name)
    with pytest.raises(ValueError, match=r"^folder: expected the name of a file inside"):
        voc.write_voc(folder, SCENES, split=name)


@pytest.mark.parametrize(
    "part", ["JPEGImages/train_000000.jpg", "SegmentationClass/train_000000.png"]
)
@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.95])
def test_truncated_pictures(folder, part, share):
    path = folder / part
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(
        ValueError,
        match=rf"^folder: .*{part} is not a complete image file \(.*\); download it again",
    ):
        voc.read(folder)[0]


def test_another_size_than_the_image(folder, label_map):
    save(label_map, np.zeros((SIZE[0], SIZE[1] - 1)))
    message = r"^folder: expected 48 x 64 pixels \(height x width\) in .*000000.png, .* got 48 x 63"
    with pytest.raises(ValueError, match=message):
        voc.read(folder)[0]
    voc.write_voc(folder, SCENES)
    save(folder / "SegmentationObject" / "train_000000.png", np.zeros((SIZE[0] - 1, SIZE[1])))
    with pytest.raises(
        ValueError, match=r"in .*SegmentationObject/train_000000.png, .* got 47 x 64"
    ):
        voc.read(folder).sample(0)


def test_an_unknown_colour(folder, label_map):
    colours = voc.colour_map()[voc.read(folder)[0][1]]
    colours[0, :7] = torch.tensor([1, 2, 3])
    save(label_map, colours)
    with pytest.raises(ValueError, match=r"of VOC's map in .*.png, got \(1, 2, 3\) in 7 pixels"):
        voc.read(folder)[0]


def test_an_unknown_class(folder, label_map):
    numbers = np.zeros(SIZE)
    numbers[0, 0] = 21
    save(label_map, numbers)
    with pytest.raises(
        ValueError, match=r"expected classes 0 to 20 or 255 in .*.png, got 21 in 1 pixels"
    ):
        voc.read(folder)[0]


def test_an_object_of_two_classes(folder, label_map):
    numbers = np.array(Image.open(label_map))
    rows, columns = np.nonzero(numbers)
    numbers[rows[0], columns[0]] = 1
    save(label_map, numbers)
    with pytest.raises(
        ValueError, match=r"expected one class for object \d in .*Object/.*Class/.* has 1, "
    ):
        voc.read(folder).sample(0)
    numbers[numbers > 0] = VOID
    save(label_map, numbers)
    with pytest.raises(ValueError, match=r"expected one class for object .* has 255 there"):
        voc.read(folder).sample(0)


BOX = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>3</xmax><ymax>3</ymax></bndbox>"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "does not hold VOC's objects"),
        ("<annotation><object>", "does not hold VOC's objects"),
        (
            f"<a><object><name>cow</name>{BOX.replace('<xmin>1', '<xmin>')}</object></a>",
            "VOC's objects",
        ),
        (f"<a><object><name>cow</name>{BOX.replace('xmin', 'x')}</object></a>", "VOC's objects"),
        (
            f"<a><object><name>cow</name>{BOX.replace('>1<', '>9<')}</object></a>",
            "expected x1 <= x2",
        ),
        (f"<a><object><name>cow</name>{BOX.replace('>1<', '>nan<')}</object></a>", "finite"),
        (
            f"<a><object><name>unicorn</name>{BOX}</object></a>",
            "expected one of class_names .* got 'unicorn'",
        ),
        (f"<a><object>{BOX}</object></a>", "expected one of class_names .* got ''"),
        ('<!DOCTYPE a [<!ENTITY b "b">]><a>&b;</a>', "it declares a document type"),
    ],
)
def test_broken_xml(tmp_path, text, message):
    (tmp_path / "a.xml").write_text(text)
    with pytest.raises(ValueError, match=rf"^folder: .*a.xml.*{message}|^folder: {message}"):
        voc.read_boxes(tmp_path / "a.xml")


def test_too_many_classes(folder):
    with pytest.raises(ValueError, match=r"^class_names: expected 255 or fewer, got 300"):
        voc.read(folder, class_names=tuple(map(str, range(300))))
