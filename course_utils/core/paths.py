"""The paths of the files that are part of the course."""

from pathlib import Path


def data_path(*parts: str) -> Path:
    """The path of a file in the repository's folder `data/`, which is a part of the installed package.

    Args:
        parts: the path inside `data/`, for example `"annotations", "coffee.json"`.

    >>> data_path("annotations").name
    'annotations'
    """
    package = Path(__file__).resolve().parents[1]
    installed = package / "_data"
    root = installed if installed.is_dir() else package.parent / "data"
    path = root.joinpath(*parts)
    if not path.exists():
        raise FileNotFoundError(
            f"no shipped file {'/'.join(parts)} in {root}; reinstall the course"
        )
    return path
