"""The files of a data set, opened with checks.

Files of a data set may be missing, truncated, or refer to each other wrongly. The functions here raise
errors that name the file and say what was expected.
"""

import codecs
import json
from collections.abc import Iterable
from pathlib import Path


def path_inside(folder: Path, name: str) -> Path:
    """The path of a file in a folder, for a relative name with slashes that comes from the data set.

    Raises:
        ValueError: the name is absolute or leads out of the folder.

    >>> path_inside(Path("voc"), "../secret.txt")
    Traceback (most recent call last):
    ...
    ValueError: folder: expected the name of a file inside voc, got '../secret.txt'
    """
    parts = str(name).replace("\\", "/").split("/")
    if any(part in ("", ".", "..") or ":" in part or "\0" in part for part in parts):
        raise ValueError(f"folder: expected the name of a file inside {folder}, got {name!r}")
    return folder.joinpath(*parts)


def check_files(kind: str, paths: Iterable[Path]) -> None:
    """Raise unless all these files exist, before training starts rather than in the middle of it.

    Args:
        kind: what the files are, for the message.
        paths: the files.

    >>> check_files("label map", [Path("voc/SegmentationClass/2007_000032.png")])
    Traceback (most recent call last):
    ...
    FileNotFoundError: folder: 1 label map is missing, the first is voc/SegmentationClass/2007_000032.png
    """
    missing = [path for path in paths if not path.is_file()]
    if missing:
        count = f"1 {kind} is" if len(missing) == 1 else f"{len(missing)} {kind}s are"
        raise FileNotFoundError(f"folder: {count} missing, the first is {missing[0].as_posix()}")


def read_lines(path: Path) -> list[str]:
    """The lines of a text file that are not empty, without the spaces around them.

    The file may be in UTF-8 or, with a byte-order mark, in UTF-16, as PowerShell writes it.
    """
    content = path.read_bytes()
    utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = content.decode("utf-16" if utf16 else "utf-8-sig")
        if "\0" in text:
            raise ValueError("it has zero bytes, as UTF-16 and UTF-32 have")
    except ValueError as error:
        raise ValueError(f"folder: expected text in UTF-8 in {path}, but {error}") from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def read_json(path: Path) -> dict:
    """The content of a JSON file that holds an object."""
    check_files("annotation file", [path])
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"folder: {path} is not a complete JSON file ({error}); download it again"
        ) from error
    if not isinstance(content, dict):
        raise ValueError(
            f"folder: expected a JSON object in {path}, got a {type(content).__name__}"
        )
    return content
