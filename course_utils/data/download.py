"""Downloading a file of many gigabytes over an unreliable connection.

A download grows in a file that ends in `.part`, which gets its final name only after its size and sha256 have
been checked. An interrupted download is resumed where it stopped.
"""

import errno
import hashlib
import http.client
import os
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path

CHUNK_SIZE = 2**16  # bytes
MAX_ATTEMPTS = 4  # in a row, without receiving a new byte
RETRY_DELAY = 0.5  # seconds before the second attempt; doubled before each further one
TIMEOUT = 30  # seconds without receiving a byte

Progress = Callable[[int, int | None], None]


def download(
    url: str,
    path: Path | str,
    sha256: str | None,
    *,
    size: int | None = None,
    mirrors: Sequence[str] = (),
    progress: Progress | None = None,
) -> Path:
    """Download a file, and check it before it gets its name.

    An interrupted download is resumed, also by a later call or from a mirror: the bytes received so far are
    in `path` + ".part". The URLs are tried in turn. After a server error (5xx) or a closed connection the
    request is repeated with increasing delays, for as long as new bytes arrive.

    Without a sha256 only the size can be checked. The sha256 of the first download is then stored in
    `path` + ".sha256", and later calls compare the file with it.

    Args:
        url: an http or https URL.
        path: the target; an existing file with the right content is not downloaded again.
        sha256: 64 hexadecimal digits; None if none is published.
        size: bytes; None if unknown.
        mirrors: other URLs of the same file.
        progress: called with the number of bytes received and the number expected (None if unknown).

    Returns:
        `path`.

    Raises:
        ValueError: a URL or sha256 is malformed, or `path` exists with another content.
        OSError: the disk is too small (checked before the first byte), or no URL gave the right content; the
            message says what happened with each URL. Wrong content is deleted.
    """
    path, urls = Path(path), (url, *mirrors)
    for candidate in urls:
        if urllib.parse.urlsplit(candidate).scheme not in ("http", "https"):
            raise ValueError(f"url: expected an http or https URL, got {candidate!r}")
    note = path.with_name(path.name + ".sha256")
    if sha256 is not None and (len(sha256) != 64 or set(sha256.lower()) - set("0123456789abcdef")):
        raise ValueError(f"sha256: expected 64 hexadecimal digits or None, got {sha256!r}")
    expected = sha256.lower() if sha256 else note.read_text().strip() if note.is_file() else None
    if path.exists():
        if problem := _find_difference(path, expected, size):
            raise ValueError(f"path: {path} has {problem}; delete it to download it again")
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    failures = []
    for candidate in urls:
        for fresh in (not part.exists(), True):
            try:
                _complete_part(candidate, part, size, progress)
            except _ServerRefused as error:
                failures.append(f"{candidate} {error}")
                break
            problem = _find_difference(part, expected, size)
            if not problem:
                if sha256 is None:
                    note.write_text(_sha256_of(part) + "\n")
                os.replace(part, path)
                return path
            part.unlink()
            failures.append(f"{candidate} gave {problem}, deleted")
            if fresh:  # otherwise the bytes of an earlier call may have been wrong: try once more
                break
    raise OSError(f"url: {path.name} could not be downloaded: {'; '.join(failures)}")


class _ServerRefused(Exception):
    """What a server did instead of sending the file."""


def _sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _find_difference(path: Path, sha256: str | None, size: int | None) -> str:
    """How a file differs from the expected one; empty if it does not."""
    found = path.stat().st_size
    if size is not None and found != size:
        return f"{found} bytes instead of {size}"
    if sha256 is not None and (digest := _sha256_of(path)) != sha256:
        return f"sha256 {digest[:12]}... instead of {sha256[:12]}..."
    return ""


def check_disk_space(folder: Path, needed: int) -> None:
    """Raise unless this many bytes are free on the disk of a folder."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OSError(
            errno.ENOSPC,
            f"expected {needed} bytes free on the disk, got {free}; free some space",
            str(folder),
        )


def _complete_part(url: str, part: Path, size: int | None, progress: Progress | None) -> None:
    """Request the missing bytes from one URL until the file is complete."""
    furthest = part.stat().st_size if part.exists() else 0
    attempts = 0
    while True:
        try:
            if _request_rest(url, part, size, progress):
                return
            failure = "closed the connection"
        except urllib.error.HTTPError as error:
            error.close()
            failure = f"answered {error.code} {error.reason}"
            if error.code < 500 and error.code not in (408, 429):
                raise _ServerRefused(failure) from error
        except (
            urllib.error.URLError,
            http.client.HTTPException,
            ConnectionError,
            TimeoutError,
        ) as error:
            reason = getattr(error, "reason", None) or error or type(error).__name__
            failure = f"lost the connection ({reason})"
        received = part.stat().st_size if part.exists() else 0
        attempts = 0 if received > furthest else attempts + 1
        furthest = max(furthest, received)
        if attempts == MAX_ATTEMPTS:
            raise _ServerRefused(f"{failure}, {MAX_ATTEMPTS} times in a row")
        time.sleep(RETRY_DELAY * 2 ** max(attempts - 1, 0))


def _request_rest(url: str, part: Path, size: int | None, progress: Progress | None) -> bool:
    """Request the missing bytes once and append them; returns whether the file is complete now."""
    received = part.stat().st_size if part.exists() else 0
    if size is not None and received >= size:
        return True
    headers = {"User-Agent": "course_utils"}
    if received:
        headers["Range"] = f"bytes={received}-"
    try:
        request = urllib.request.Request(url, headers=headers)
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if (
            error.code != 416
        ):  # "range not satisfiable": the part is complete, or longer than the file
            raise
        error.close()
        if error.headers.get("Content-Range", "") == f"bytes */{received}":
            return True
        part.unlink(missing_ok=True)
        return False
    with response:
        content_range = response.headers.get("Content-Range", "")
        resumed = response.status == 206 and content_range.startswith(f"bytes {received}-")
        received = received if resumed else 0
        total = size
        if size is None and response.length is not None:  # the length that the server announces
            total = received + response.length
        check_disk_space(part.parent, (total or 0) - received)
        with part.open("ab" if resumed else "wb") as file:
            while chunk := _read_chunk(response):
                file.write(chunk)
                received += len(chunk)
                if progress is not None:
                    progress(received, total)
                if size is not None and received > size:
                    break
    return total is None or received >= total


def _read_chunk(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read(CHUNK_SIZE)
    except (OSError, http.client.HTTPException) as error:
        raise ConnectionError(str(error) or type(error).__name__) from error
