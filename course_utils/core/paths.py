"""Where the files that ship with the course lie."""

from pathlib import Path


def data_path(*parts: str) -> Path:
    """The path of a shipped file: inside the installed package, or in the repository's `data/` folder.

    Args:
        parts: the path below `data/`, for example `"annotations", "coffee.json"`.

    Returns:
        An existing path.

    Raises:
        FileNotFoundError: there is no such file; the message names the folder that was searched.

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
