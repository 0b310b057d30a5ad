"""VOC folders: read as the benchmark and D2L read them, and errors name the file."""

import d2l.torch as d2l
import numpy as np
import pytest
import supervision
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
    for (image, _, _, _, labels, *_), scene in zip(pictures, SCENES.images, strict=True):
        assert image.dtype == torch.float32 and image.shape == (3, *SIZE)
        assert labels.dtype == torch.int64 and labels.shape == SIZE
        assert (image - scene).abs().mean() < 0.02  # JPEG loses a little
    assert torch.equal(pictures[-1].semantic, pictures[4].semantic)
    with pytest.raises(IndexError):
        pictures[5]


def test_scenes_become_voc_classes(folder):
    numbers = {"cat": 8, "dog": 12, "car": 7, "person": 15}
    for number, sample in enumerate(voc.read(folder)):
        expected = torch.zeros(SIZE, dtype=torch.int64)
        for name, label in numbers.items():
            expected[SCENES.semantic[number] == SCENE_CLASS_NAMES.index(name)] = label
        assert torch.equal(sample.semantic, expected)


def test_own_classes_keep_every_pixel(tmp_path):
    voc.write_voc(tmp_path, SCENES, class_names=SCENE_CLASS_NAMES)
    pictures = voc.read(tmp_path, class_names=SCENE_CLASS_NAMES)
    assert pictures.class_names == SCENE_CLASS_NAMES
    for sample, semantic in zip(pictures, SCENES.semantic, strict=True):
        assert torch.equal(sample.semantic, semantic)


def test_samples_have_the_objects(folder):
    pictures = voc.read(folder)
    for number in range(len(pictures)):
        sample, scene = pictures[number], SCENES.sample(number)
        assert torch.equal(sample.masks, scene.masks)
        assert torch.equal(sample.boxes, scene.boxes)
        assert [sample.class_names[label] for label in sample.labels] == [
            scene.class_names[label] for label in scene.labels
        ]
        assert torch.equal(sample.panoptic > 0, sample.semantic > 0)
        assert torch.equal(sample.panoptic // 1000, sample.semantic)


def test_d2l_reads_the_same_folder(folder):
    lookup = d2l.voc_colormap2label()
    for split, is_train in (("train", True), ("val", False)):
        photos, colours = d2l.read_voc_images(folder, is_train)
        ours = voc.read(folder, split)
        assert len(photos) == len(ours)
        for sample, photo, colour in zip(ours, photos, colours, strict=True):
            # two JPEG decoders may differ by a step or two
            assert (sample.image - photo / 255).abs().max() < 3 / 255
            assert torch.equal(sample.semantic, d2l.voc_label_indices(colour, lookup))


def test_d2l_trains_on_the_same_folder(folder):
    dataset = d2l.VOCSegDataset(True, SIZE, folder)
    for number, sample in enumerate(voc.read(folder)):
        assert torch.equal(dataset[number][1], sample.semantic)


def test_the_border_is_void_here_and_background_for_d2l(folder, label_map):
    numbers = np.array(Image.open(label_map))
    numbers[:5] = VOID
    picture = Image.fromarray(numbers)
    picture.putpalette(voc.colour_map().flatten().tolist())
    picture.save(label_map)
    ours = voc.read(folder)[0].semantic
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
    save(tmp_path / "grey_alpha.png", numbers, "LA")
    Image.fromarray(numbers.numpy().astype(np.uint16)).save(tmp_path / "16_bits.png")
    for name in ("grey", "rgb", "rgba", "palette", "other", "grey_alpha", "16_bits"):
        assert torch.equal(voc.read_label_map(tmp_path / f"{name}.png"), numbers), name


def test_worker_processes_get_a_copy(folder):
    loader = DataLoader(voc.read(folder), batch_size=None, num_workers=1)
    for sample, expected in zip(loader, voc.read(folder), strict=True):
        assert torch.equal(sample.semantic, expected.semantic)
        assert torch.equal(sample.masks, expected.masks)


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


def xml(objects, size=""):
    return f"<annotation>{size}{objects}</annotation>"


BOX = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>3</xmax><ymax>3</ymax></bndbox>"
COW = f"<object><name>cow</name>{BOX}</object>"
STATED = "<size><width>64</width><height>48</height></size>"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_xml_with_comments_and_cdata(tmp_path, encoding):
    text = xml(COW.replace("cow", "<!-- a -->c<![CDATA[o]]>w<!-- b -->"), "<!-- by a tool -->")
    (tmp_path / "a.xml").write_text(text, encoding=encoding)
    assert voc.read_boxes(tmp_path / "a.xml").labels.tolist() == [10]


def test_boxes_of_tools_that_count_from_zero_begin_at_the_edge(tmp_path):
    (tmp_path / "a.xml").write_text(xml(COW.replace("<xmin>1", "<xmin>0")))
    assert voc.read_boxes(tmp_path / "a.xml").boxes.tolist() == [[0, 0, 3, 3]]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_lists_as_windows_writes_them(folder, encoding):
    listed = folder / "ImageSets" / "Segmentation" / "train.txt"
    listed.write_bytes("train_000001\r\ntrain_000000\r\n".encode(encoding))
    assert voc.read(folder).names == ("train_000001", "train_000000")


@pytest.fixture
def detection(folder):
    """The folder with a list in `Main` and a box for each of two photos."""
    for part in ("Annotations", "ImageSets/Main"):
        (folder / part).mkdir(parents=True)
    (folder / "ImageSets" / "Main" / "val.txt").write_text("val_000001\nval_000000\n")
    for name in ("val_000000", "val_000001"):
        (folder / "Annotations" / f"{name}.xml").write_text(xml(COW, STATED))
    return folder


def test_folders_with_boxes(detection):
    (detection / "Annotations" / "val_000001.xml").write_text(xml(""))
    pictures = voc.read_detection(detection, "val")
    assert pictures.names == ("val_000001", "val_000000")
    empty, sample = pictures[0], pictures[1]
    assert sample.image.shape == (3, *SIZE)
    assert sample.boxes.tolist() == [[0, 0, 3, 3]] and sample.labels.tolist() == [10]
    assert sample.masks is sample.semantic is sample.panoptic is sample.iscrowd is None
    assert empty.boxes.shape == (0, 4) and empty.labels.shape == (0,)


def test_supervision_reads_the_same_boxes(detection):
    theirs = supervision.DetectionDataset.from_pascal_voc(
        str(detection / "JPEGImages"), str(detection / "Annotations")
    )
    found = {path: (detected, theirs.classes) for path, _, detected in theirs}
    for name, sample in zip(("val_000001", "val_000000"), voc.read_detection(detection, "val")):
        detected, classes = found[str(detection / "JPEGImages" / f"{name}.jpg")]
        assert sample.boxes.tolist() == detected.xyxy.tolist()
        assert [voc.CLASS_NAMES[label] for label in sample.labels] == [
            classes[label] for label in detected.class_id
        ]


def test_boxes_that_do_not_fit_their_photo(detection):
    path = detection / "Annotations" / "val_000001.xml"
    path.write_text(xml(COW.replace("<xmax>3", "<xmax>65")))
    with pytest.raises(
        ValueError, match=r"^folder: .*xml does not fit its photo .* 48 x 64 pixels"
    ):
        voc.read_detection(detection, "val")[0]
    path.write_text(xml(COW, STATED.replace("64", "48")))
    with pytest.raises(ValueError, match=r"^folder: expected 48 x 64 .*xml, .* got 48 x 48"):
        voc.read_detection(detection, "val")[0]
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"^folder: 1 annotation is missing, .*1.xml"):
        voc.read_detection(detection, "val")


# ---- what is wrong ----


def test_missing_files_are_found_at_once(folder, tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"^folder: 1 list of photos is missing, .*/train.txt"
    ):
        voc.read(tmp_path / "nowhere")
    (folder / "SegmentationClass" / "train_000001.png").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"^folder: 1 annotation is missing, .*train_000001.png"
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
    sample = voc.read(folder)[0]
    assert sample.semantic.shape == SIZE
    assert sample.boxes is sample.labels is sample.masks is sample.panoptic is None


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
        voc.read(folder)[0]


def test_an_unknown_colour(folder, label_map):
    colours = voc.colour_map()[voc.read(folder)[0].semantic]
    colours[0, :7] = torch.tensor([1, 2, 3])
    save(label_map, colours)
    with pytest.raises(ValueError, match=r"of VOC's map in .*.png, got \(1, 2, 3\)"):
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
        voc.read(folder)[0]
    numbers[numbers > 0] = VOID
    save(label_map, numbers)
    with pytest.raises(ValueError, match=r"expected one class for object .* has 255 there"):
        voc.read(folder)[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "does not hold VOC's objects"),
        ("<annotation><object>", "does not hold VOC's objects"),
        (xml(COW.replace("<xmin>1", "<xmin>")), "does not hold VOC's objects"),
        (xml(COW.replace("xmin", "x")), "does not hold VOC's objects"),
        (xml(COW.replace(">1<", ">9<")), "expected x1 <= x2"),
        (xml(COW.replace(">1<", ">nan<")), "finite"),
        (xml(COW.replace(">3<", ">1e39<")), "finite"),
        (xml(COW.replace(">1<", ">-5<")), "expected boxes inside an image"),
        (xml(COW.replace("<ymax>3", "<ymax>49"), STATED), "inside an image of 48 x 64 pixels"),
        (xml(COW, STATED.replace("64", "nan")), "inside an image of 48 x nan pixels"),
        (xml(COW.replace("cow", "unicorn")), "expected one of class_names .* got 'unicorn'"),
        (xml(COW.replace("<name>cow</name>", "")), "expected one of class_names .* got ''"),
        ("<html><body>Please log in</body></html>", "root element 'annotation', got 'html'"),
        ("<!DOCTYPE html><html></html>", "it declares a document type"),
        ('<!DOCTYPE a [<!ENTITY b "b">]><a>&b;</a>', "it declares a document type"),
        ('<?xml version="1.0" encoding="none"?><annotation/>', "does not hold VOC's objects"),
    ],
)
def test_broken_xml(tmp_path, text, message):
    (tmp_path / "a.xml").write_text(text)
    with pytest.raises(ValueError, match=rf"^folder: .*a.xml.*{message}|^folder: {message}"):
        voc.read_boxes(tmp_path / "a.xml")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_entities_do_not_slip_through_in_other_encodings(tmp_path, encoding):
    text = '<!DOCTYPE a [<!ENTITY b "cow">]>' + xml(COW.replace("cow", "&b;"))
    (tmp_path / "a.xml").write_bytes(text.encode(encoding))
    with pytest.raises(ValueError, match=r"^folder: .*a.xml does not hold VOC's objects"):
        voc.read_boxes(tmp_path / "a.xml")


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-32", "latin-1"])
def test_lists_that_are_no_text(folder, encoding):
    (folder / "ImageSets" / "Segmentation" / "train.txt").write_bytes("é\n".encode(encoding))
    with pytest.raises(ValueError, match=r"^folder: expected text in UTF-8 in .*train.txt, but"):
        voc.read(folder)


def test_too_many_classes(folder):
    with pytest.raises(ValueError, match=r"^class_names: expected 255 or fewer, got 300"):
        voc.read(folder, class_names=tuple(map(str, range(300))))
