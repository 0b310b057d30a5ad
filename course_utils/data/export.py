"""`python -m course_utils.data.export photos --to FOLDER`: our photos as a COCO folder, to train on.

images/chelsea.png                     the photos, without loss
annotations.json                       their objects, as run lengths: `coco.read(FOLDER, None)`
panoptic.json, panoptic/chelsea.png    their segments: `coco.read_panoptic(FOLDER, None)`
labelme/chelsea.json                   the polygons, to be opened and changed in LabelMe
CREDITS.txt                            who made the photos, and their licences
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from course_utils.core import data_path
from course_utils.data import photos
from course_utils.data._coco_writing import replacing, write_samples

_CREDITS = "CREDITS.txt"
_TITLE = "Photographs, exported by course_utils.data.export"


def export_photos(folder: Path | str) -> tuple[str, ...]:
    """Write the course's photos with their annotations as a COCO folder, and as LabelMe files.

    Everything is written to a temporary folder first and then moved. An earlier export is replaced; any
    other folder with something in it is refused.

    Args:
        folder: where to write; it is created if it does not exist.

    Returns:
        The names of the photos.
    """
    folder = Path(folder)
    _check_target(folder)
    pictures = photos.read()
    with replacing(folder) as temporary:
        write_samples(temporary, pictures, pictures.names)
        (temporary / "labelme").mkdir()
        for annotation in sorted(data_path("annotations").glob("*.json")):
            content = json.loads(annotation.read_text(encoding="utf-8"))
            content["imagePath"] = f"../images/{annotation.stem}.png"
            text = json.dumps(content, indent=2, ensure_ascii=False)
            (temporary / "labelme" / annotation.name).write_text(text + "\n", encoding="utf-8")
        credits = [f"{name}: {photos.credit(name)}" for name in pictures.names]
        text = "\n".join((_TITLE, "", *credits, ""))
        (temporary / _CREDITS).write_text(text, encoding="utf-8")
    return pictures.names


def _check_target(folder: Path) -> None:
    """Raise unless this is a new or empty folder, or an earlier export."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"folder: expected a folder, but {folder} is a file")
    names = [path.name for path in folder.iterdir()] if folder.exists() else []
    if all(name.startswith(".") for name in names):  # what an interrupted export leaves is hidden
        return
    credits_file = folder / _CREDITS
    if not credits_file.is_file() or not credits_file.read_bytes().startswith(_TITLE.encode()):
        raise ValueError(
            f"folder: expected a new or empty folder, or an earlier export, but {folder} holds other files"
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m course_utils.data.export",
        description="Write the course's photos as a COCO folder with LabelMe files.",
    )
    parser.add_argument("what", choices=["photos"], help="what to write")
    parser.add_argument("--to", type=Path, required=True, metavar="FOLDER", help="where to write")
    options = parser.parse_args(arguments)
    try:
        names = export_photos(options.to)
    except (OSError, ValueError, ModuleNotFoundError) as error:
        parser.error(str(error))
    print(f"{len(names)} photos in {options.to}: {', '.join(names)}")


if __name__ == "__main__":
    main()
