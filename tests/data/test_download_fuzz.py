"""A hundred servers that misbehave at random: a download ends with the right bytes, or with a sentence."""

import hashlib
import random
import time

import pytest

from course_utils.data import connection
from course_utils.data import download as module
from course_utils.data.download import download
from tests.data.file_server import answer, drip, fail, hang_up, redirect

CHANCE = random.Random(0)
OLD, NEW = (CHANCE.randbytes(200_000) for _ in range(2))
NAME = "photos.zip"


def misbehave(chance, body, etag, *, lies):
    """One answer. With `lies`, also those that only a sha256 can see through."""
    place = chance.randrange(1, len(body))
    common = {"body": body, "etag": etag}
    kinds = [
        lambda: answer(cut=place, **common),
        lambda: answer(cut=place, if_range=False, **common),
        lambda: answer(cut=place, ranges=False, **common),
        lambda: answer(cut=place, stall=0.2, **common),
        lambda: answer(claim=len(body) + place, **common),
        lambda: answer(span=f"bytes {place}-{len(body) - 1}/{len(body)}", **common),
        lambda: answer(span=f"bytes 0-{place}/*", **common),
        lambda: answer(204, body=b""),
        lambda: fail(chance.choice([500, 502, 503, 429, 408, 404, 403])),
        lambda: answer(416, body=b"", headers=[("Content-Range", f"bytes */{place}")]),
        lambda: answer(416, body=b""),
        lambda: hang_up,
        lambda: drip(chance.choice([b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nX: "]), b"x"),
        lambda: drip(b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"),
        lambda: drip(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 200),
        lambda: drip(b"", chance.randbytes(1000)),
        lambda: drip(b"HTTP/1.1 302 Found\r\nLocation: /there\r\n\r\n", b"bye"),
        lambda: drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b"?"),
        lambda: redirect(
            chance.choice(["/there", "ftp://a/b", "file:///etc", "http://[", "http://a:b"])
        ),
        lambda: redirect(f"/{NAME}"),
    ]
    if lies:
        kinds += [
            lambda: answer(claim=place, **common),
            lambda: answer(body=chance.randbytes(chance.choice([0, 20, len(body)])), etag=etag),
            lambda: answer(body=body + b"more", etag=etag),
            lambda: answer(length=False, cut=place, **common),
            lambda: answer(body=OLD, etag=etag),
        ]
    return chance.choice(kinds)()


def run(server, path, seed):
    """One server with up to eight bad answers, then (mostly) good ones; whether the file came."""
    chance = random.Random(seed)
    published = chance.random() < 0.5  # a sha256 to compare with
    bodies = [(OLD, '"old"')] * chance.choice([0, 2]) + [(NEW, '"new"')] * 6
    server.acts = [misbehave(chance, *body, lies=published) for body in bodies]
    server.acts.append(answer(body=NEW, etag='"new"') if chance.random() < 0.8 else fail(500))
    sha256 = hashlib.sha256(NEW).hexdigest() if published else None
    size = chance.choice([None, len(NEW)])
    for _ in range(4):  # the student tries again
        try:
            download(f"{server.url}/{NAME}", path, sha256, size=size, mirrors=[f"{server.url}/b"])
        except (ValueError, OSError) as error:
            assert NAME in str(error) and "\n" not in str(error) and len(str(error)) < 2000
            left = {entry.name for entry in path.parent.iterdir()}
            assert left <= {f"{NAME}.part", f"{NAME}.part.json"}, (seed, left)
        else:
            assert path.read_bytes() == NEW or (not published and path.read_bytes() == OLD), seed
            left = {entry.name for entry in path.parent.iterdir()} - {NAME}
            assert left == (set() if published else {f"{NAME}.sha256"}), (seed, left)
            return True
    return False


@pytest.fixture
def run_many(server, tmp_path, monkeypatch):
    monkeypatch.setattr(connection, "TIMEOUT", 0.1)
    monkeypatch.setattr(module, "RETRY_DELAY", 0)

    def run_seeds(seeds):
        begun = time.monotonic()
        came = [run(server, tmp_path / str(seed) / NAME, seed) for seed in seeds]
        assert time.monotonic() - begun < 5 * len(came)
        return sum(came)

    return run_seeds


def test_hostile_downloads_end_right_or_with_a_sentence(run_many):
    assert run_many(range(8)) >= 4


@pytest.mark.long
def test_a_hundred_hostile_downloads(run_many):
    assert 60 <= run_many(range(100, 200)) < 100
