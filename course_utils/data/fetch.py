"""The public data sets of the course: where to download them, their terms, and the function that reads them.

The authors of the data sets publish no sha256. Those in `SETS` were recorded by TensorFlow Datasets (its
`url_checksums`), together with the sizes.
"""

import argparse
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from course_utils.data.archives import extract
from course_utils.data.download import download, hold_lock

SetProgress = Callable[[str, int, int], None]


class Archive(NamedTuple):
    """One archive of a data set.

    Attributes:
        urls: the official URL, then mirrors.
        size: bytes.
        sha256: 64 hexadecimal digits; None if none is known.
        contains: a path that exists once the archive is extracted.
        inner: archives inside it, to be extracted next to themselves.
    """

    urls: tuple[str, ...]
    size: int
    sha256: str | None
    contains: str
    inner: tuple[str, ...] = ()


class DataSet(NamedTuple):
    """A public data set.

    Attributes:
        title: its name.
        terms: the terms under which it may be used.
        archives: what to download; none if a registration is needed.
        folder: the argument of `reader`, relative to the download folder.
        reader: the function of `course_utils.data` that reads it.
        registration: what to do if a registration is needed.
    """

    title: str
    terms: str
    archives: tuple[Archive, ...]
    folder: str
    reader: str
    registration: str = ""

    @property
    def size(self) -> int:
        """Bytes of all archives; 0 if a registration is needed."""
        return sum(archive.size for archive in self.archives)


_COCO = "http://images.cocodataset.org"
_COCO_TERMS = "annotations CC BY 4.0; the photos under the terms of Flickr and their makers"
_COCO_ANNOTATIONS = (
    Archive(
        (f"{_COCO}/annotations/annotations_trainval2017.zip",),
        252_907_541,
        "113a836d90195ee1f884e704da6304dfaaecff1f023f49b6ca93c4aaae470268",
        "annotations/person_keypoints_val2017.json",
    ),
    Archive(
        (f"{_COCO}/annotations/panoptic_annotations_trainval2017.zip",),
        860_725_834,
        "c05f76d2129b6b561eb70efe16e7006df62f73fb92889132d373b9d90e31a370",
        "annotations/panoptic_val2017",
        ("annotations/panoptic_train2017.zip", "annotations/panoptic_val2017.zip"),
    ),
)
_COCO_VAL = Archive(
    (f"{_COCO}/zips/val2017.zip",),
    815_585_330,
    "4f7e2ccb2866ec5041993c9cf2a952bbed69647b115d0f74da7ce8f4bef82f05",
    "val2017",
)
_COCO_TRAIN = Archive(
    (f"{_COCO}/zips/train2017.zip",),
    19_336_861_798,
    "69a8bb58ea5f8f99d24875f21416de2e9ded3178e903f1f7603e283b9e06d929",
    "train2017",
)

SETS = {
    "voc2012": DataSet(
        "PASCAL VOC 2012",
        "photos from Flickr, for research",
        (
            Archive(
                (
                    "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
                    "http://pjreddie.com/media/files/VOCtrainval_11-May-2012.tar",
                ),
                1_999_639_040,
                "e14f763270cf193d0b5f74b169f44157a4b0c6efa708f4dd0ff78ee691763bcb",
                "VOCdevkit/VOC2012",
            ),
        ),
        "VOCdevkit/VOC2012",
        "voc.read",
    ),
    "ade20k": DataSet(
        "ADE20K, scene parsing benchmark",
        "annotations BSD-3-Clause; photos for research and teaching",
        (
            Archive(
                ("http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip",),
                967_382_037,
                "7ff1be44964418441f542a7cc1e1a650e7dc0fc275f5d23252bc9bbdbc977b29",
                "ADEChallengeData2016",
            ),
        ),
        "ADEChallengeData2016",
        "ade20k.read",
    ),
    "coco2017_val": DataSet(
        "COCO 2017, the 5000 validation photos",
        _COCO_TERMS,
        (_COCO_VAL, *_COCO_ANNOTATIONS),
        ".",
        "coco.read, coco.read_panoptic",
    ),
    "coco2017": DataSet(
        "COCO 2017",
        _COCO_TERMS,
        (_COCO_TRAIN, _COCO_VAL, *_COCO_ANNOTATIONS),
        ".",
        "coco.read, coco.read_panoptic",
    ),
    "cityscapes": DataSet(
        "Cityscapes",
        "for research and teaching only, not to be redistributed",
        (),
        ".",
        "cityscapes.read",
        "Cityscapes needs a registration: create an account at https://www.cityscapes-dataset.com with your "
        "university's e-mail address, download leftImg8bit_trainvaltest.zip (11 GB) and "
        "gtFine_trainvaltest.zip (241 MB), and extract both into one folder.",
    ),
}


def fetch_set(name: str, folder: Path | str, progress: SetProgress | None = None) -> Path:
    """Download and extract a public data set; what is already there is skipped.

    Archives are deleted once they are extracted. Of two calls with the same folder the second waits.

    Args:
        name: a key of `SETS`.
        folder: the download folder.
        progress: called with what is being done, the bytes received so far, and those of all archives.

    Returns:
        The folder to pass to the reader of the data set.

    >>> fetch_set("mnist", "data")
    Traceback (most recent call last):
    ...
    ValueError: name: expected one of voc2012, ade20k, coco2017_val, coco2017, cityscapes, got 'mnist'
    """
    if name not in SETS:
        raise ValueError(f"name: expected one of {', '.join(SETS)}, got {name!r}")
    data_set, folder = SETS[name], Path(folder)
    if data_set.registration:
        raise ValueError(f"name: {data_set.registration}")
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"folder: expected a folder, got the file {folder}")
    folder.mkdir(parents=True, exist_ok=True)
    done = 0

    def report(task: str, received: int) -> None:
        if progress is not None:
            progress(task, done + received, data_set.size)

    with hold_lock(folder / ".fetch.lock"):
        for archive in data_set.archives:
            _fetch_archive(archive, folder, report)
            done += archive.size
            report("done", 0)
    return folder / data_set.folder


def _fetch_archive(archive: Archive, folder: Path, report: Callable[[str, int], None]) -> None:
    """Download and extract one archive, and those inside it."""
    path = folder / Path(urllib.parse.urlsplit(archive.urls[0]).path).name
    if (folder / archive.contains).exists() and not path.exists():
        return
    url, *mirrors = archive.urls
    download(
        url,
        path,
        archive.sha256,
        size=archive.size,
        mirrors=mirrors,
        progress=lambda received, _: report(f"downloading {path.name}", received),
    )
    report(f"extracting {path.name}", archive.size)
    extract(path, folder)
    for inner in archive.inner:
        extract(folder / inner, (folder / inner).parent)
    for extracted in (*(folder / inner for inner in archive.inner), path):
        extracted.unlink()


def describe_sets() -> str:
    """The name, title, size and terms of every data set, in two lines each."""
    lines = []
    for name, data_set in SETS.items():
        size = f"{data_set.size / 1e9:.1f} GB" if data_set.size else "registration needed"
        lines.append(f"  {name:<13} {data_set.title}; {size}\n{'':<16}{data_set.terms}")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line, and download a data set with a progress bar."""
    parser = argparse.ArgumentParser(
        prog="python -m course_utils.data.fetch",
        description="Download and extract a public data set. An interrupted download is continued by the "
        "same command.",
        epilog=f"data sets:\n{describe_sets()}\n\nThe archives need as much room again while they are "
        "extracted, and are deleted then.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", metavar="NAME", help="a data set, see below")
    parser.add_argument("--to", metavar="FOLDER", type=Path, required=True, help="download folder")
    options = parser.parse_args(arguments)
    if options.name not in SETS:
        sets = f"expected one of these data sets:\n{describe_sets()}"
        parser.exit(2, f"NAME: got {options.name!r}, {sets}\n")
    data_set = SETS[options.name]
    try:
        with tqdm(total=data_set.size, unit="B", unit_scale=True, delay=0.5) as bar:

            def show(task: str, received: int, total: int) -> None:
                bar.set_description(task, refresh=False)
                bar.update(received - bar.n)

            folder = fetch_set(options.name, options.to, show)
    except (ValueError, OSError) as error:
        parser.exit(2, f"{error}\n")
    except KeyboardInterrupt:
        parser.exit(130, "interrupted; the same command continues where it stopped\n")
    print(f"{data_set.title} is in {folder}; read it with {data_set.reader} (course_utils.data)")


if __name__ == "__main__":
    main()
