"""Downloading a file of many gigabytes over an unreliable connection.

A download grows in a file that ends in `.part`, which gets its final name only after its size and sha256 have
been checked. An interrupted download is resumed where it stopped.
"""

import errno
import hashlib
import http.client
import json
import logging
import os
import re
import shutil
import time
import urllib.error
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import filelock

from course_utils.data.connection import (
    ConnectionLost,
    Refused,
    check_url,
    one_line,
    read_chunk,
    request,
)

MAX_ATTEMPTS = 4  # in a row, without receiving a new byte
RETRY_DELAY = 0.5  # seconds before the second attempt; doubled before each further one

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
    request is repeated with increasing delays, for as long as new bytes arrive. Of two calls with the same
    `path`, in threads or processes, the second waits for the first.

    Without a sha256 only the size can be checked, and a download is resumed only if the server can tell
    that its file has not changed (ETag, Last-Modified). The sha256 of the first download is then stored in
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
        OSError: the disk is too small (checked before the first byte) or fills up, or no URL gave the right
            content; the message says what happened with each URL. Wrong content is deleted.
    """
    path = Path(path)
    for candidate in (url, *mirrors):
        check_url(candidate)
    if sha256 is not None and not re.fullmatch("[0-9a-fA-F]{64}", sha256):
        raise ValueError(f"sha256: expected 64 hexadecimal digits or None, got {sha256!r}")
    if path.is_dir():
        raise IsADirectoryError(f"path: expected the name of a file, got the folder {path}")
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with hold_lock(path.with_name(path.name + ".lock")):
            if not path.exists():
                content = _Content(_find_sha256(path, sha256), size, progress)
                _download((url, *mirrors), path, content, keep_sha256=sha256 is None)
                return path
    if problem := _find_difference(path, _find_sha256(path, sha256), size):
        raise ValueError(f"path: {path} has {problem}; delete it to download it again")
    return path


@contextmanager
def hold_lock(path: Path) -> Iterator[None]:
    """Hold the lock of this name; a second thread or process waits until it is released.

    The operating system releases the lock of a process that is killed, even though its empty file remains.
    """
    lock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        logging.getLogger(__name__).warning("waiting for another process, which holds %s", path)
        lock.acquire()
    try:
        yield
    finally:
        with suppress(OSError):  # Windows cannot delete an open file; filelock deletes it there
            path.unlink()
        lock.release()


def check_disk_space(folder: Path, needed: int) -> None:
    """Raise unless this many bytes are free on the disk of a folder."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OSError(
            errno.ENOSPC,
            f"expected {needed} bytes free on the disk, got {free}; free some space",
            str(folder),
        )


class _Content(NamedTuple):
    """What is known of a file before it is downloaded, and where to report progress."""

    sha256: str | None
    size: int | None
    progress: Progress | None


def _find_sha256(path: Path, sha256: str | None) -> str | None:
    """The expected sha256: the published one, else that of the first download, else None."""
    note = path.with_name(path.name + ".sha256")
    if sha256 is not None or not note.is_file():
        return sha256 and sha256.lower()
    text = note.read_text(errors="replace").strip()
    if not re.fullmatch("[0-9a-f]{64}", text):
        raise ValueError(f"path: {note} holds no sha256; delete it")
    return text


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


def _download(urls: Sequence[str], path: Path, content: _Content, keep_sha256: bool) -> None:
    """Download a file from the first URL that gives the right content."""
    part = path.with_name(path.name + ".part")
    failures = []
    for url in urls:
        for fresh in (not part.exists(), True):
            try:
                _complete_part(url, part, content)
            except Refused as error:
                failures.append(f"{url} {error}")
                break
            problem = _find_difference(part, content.sha256, content.size)
            if not problem:
                if keep_sha256:
                    note = path.with_name(path.name + ".sha256")
                    _write_note(note, _sha256_of(part) + "\n")
                os.replace(part, path)
                _note_of(part).unlink(missing_ok=True)
                return
            _delete_part(part)
            failures.append(f"{url} gave {problem}, deleted")
            if fresh:  # otherwise the bytes of an earlier call may have been wrong: try once more
                break
    if content.sha256 is None and not any(_recall_validator(part, url) for url in urls):
        _delete_part(part)
    received = _size_of(part)
    kept = f"; {received} bytes are kept in {part}, and the next call continues" if received else ""
    raise OSError(f"url: {path.name} could not be downloaded: {'; '.join(failures)}{kept}")


def _complete_part(url: str, part: Path, content: _Content) -> None:
    """Request the missing bytes from one URL until the file is complete."""
    furthest = _size_of(part)
    attempts = 0
    while True:
        try:
            failure = _request_rest(url, part, content)
            if not failure:
                return
        except urllib.error.HTTPError as error:
            error.close()
            failure = f"answered {error.code} {one_line(error.reason)}"
            if error.code < 500 and error.code not in (408, 429):
                raise Refused(failure) from error
        except ConnectionLost as error:
            failure = f"lost the connection ({error})"
        received = _size_of(part)
        attempts = 0 if received > furthest else attempts + 1
        furthest = max(furthest, received)
        if attempts == MAX_ATTEMPTS:
            raise Refused(f"{failure}, {MAX_ATTEMPTS} times in a row")
        time.sleep(RETRY_DELAY * 2 ** max(attempts - 1, 0))


def _request_rest(url: str, part: Path, content: _Content) -> str:
    """Request the missing bytes once and append them; returns what went wrong, empty if complete."""
    size = content.size
    validator = _recall_validator(part, url)
    if content.sha256 is None and not validator:  # a mixture of two files would not be noticed
        _delete_part(part)
    received = _size_of(part)
    if received and size is not None and received >= size:
        return ""
    headers = {"Range": f"bytes={received}-"} if received else {}
    if received and validator:
        headers["If-Range"] = validator  # the whole file, please, if it is another one by now
    with request(url, headers) as response:
        found = _validator_in(response.headers)
        changed = bool(found and validator and found != validator)
        content_range = response.headers.get("Content-Range", "")
        if response.status == 416:  # "range not satisfiable": complete, or longer than the file
            if received and content_range == f"bytes */{received}" and not changed:
                return ""
            _delete_part(part)
            return "answered 416 (no such range)"
        total = response.length
        if response.status == 206:
            bounds = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", content_range, re.ASCII)
            first, last, total = map(int, bounds.groups()) if bounds else (-1, -1, 0)
            if changed or not received == first <= last < total:
                _delete_part(part)
                return "sent another range than it was asked for"
        else:
            if {total, size, content.sha256} == {None} and not response.chunked:
                raise Refused("announced no length, so that a lost connection would not be noticed")
            received = 0
        total = total if size is None else size
        check_disk_space(part.parent, (total or 0) - received)
        note = json.dumps({"url": url, "validator": found}) if received == 0 else ""
        try:
            received = _append(response, part, note, total, content.progress)
        except OSError as error:
            raise _explain_disk_error(
                error, part, bool(content.sha256 or validator or found)
            ) from error
    if size is None and total is not None and received > total:
        _delete_part(part)
        return f"sent more than the {total} bytes that it announced"
    return "" if total is None or received >= total else "closed the connection"


def _append(
    response: http.client.HTTPResponse,
    part: Path,
    note: str,
    total: int | None,
    progress: Progress | None,
) -> int:
    """Write the bytes that arrive to the end of a `.part`; a new one gets a note of where they come from."""
    with part.open("wb" if note else "ab") as file:
        if note:  # after the old bytes are gone, before the first new one comes
            _write_note(_note_of(part), note)
        while (total is None or file.tell() <= total) and (chunk := read_chunk(response)):
            file.write(chunk)
            if progress is not None:
                progress(file.tell(), total)
        return file.tell()


def _explain_disk_error(error: OSError, part: Path, resumable: bool) -> OSError:
    """The same error with the name of the file, which is deleted unless a later call can continue it."""
    received = _size_of(part)
    if received and resumable:
        kept = f"{received} bytes are kept, and the next call continues"
    else:
        kept = "nothing is kept"
        _delete_part(part)
    return OSError(error.errno, f"{error.strerror or error}; {kept}", str(part))


def _validator_in(headers: http.client.HTTPMessage) -> str:
    """What tells one version of the remote file from another; empty if the server gives nothing."""
    etag = headers.get("ETag", "")
    found = (
        etag if etag.startswith('"') else headers.get("Last-Modified", "")
    )  # W/"..." is too weak
    return found if found.isprintable() else ""


def _note_of(part: Path) -> Path:
    """The file beside a `.part` that says where its bytes come from."""
    return part.with_name(part.name + ".json")


def _recall_validator(part: Path, url: str) -> str:
    """The validator of the bytes in a `.part`; empty if they come from another URL or it is unknown."""
    try:
        note = json.loads(_note_of(part).read_bytes())
        return str(note["validator"]) if note["url"] == url else ""
    except (OSError, ValueError, TypeError, KeyError):
        return ""


def _write_note(path: Path, text: str) -> None:
    """Write a small file that is never seen half written."""
    new = path.with_name(path.name + ".new")
    try:
        new.write_text(text)
        os.replace(new, path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        new.unlink(missing_ok=True)


def _delete_part(part: Path) -> None:
    part.unlink(missing_ok=True)
    _note_of(part).unlink(missing_ok=True)


def _size_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
