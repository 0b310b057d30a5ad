"""The public data sets: downloaded and extracted once, and a sound table of URLs."""

import hashlib

import pytest

from course_utils.data import ade20k, archives, cityscapes, coco, voc
from course_utils.data.fetch import SETS, Archive, DataSet, fetch_set
from tests.data.file_server import answer, contents, make_tar, make_zip

READERS = {"ade20k": ade20k, "cityscapes": cityscapes, "coco": coco, "voc": voc}


def serve(server, monkeypatch, tmp_path):
    """A small data set of two archives, the second with another inside."""
    first = make_zip(tmp_path / "1.zip", {"val/1.jpg": b"photo"}).read_bytes()
    inner = make_zip(tmp_path / "2.zip", {"maps/1.png": b"map"}).read_bytes()
    second = make_tar(tmp_path / "3.tar", {"annotations/maps.zip": inner}).read_bytes()
    server.acts = [{"/val.zip": answer(body=first), "/notes.tar?x=1": answer(body=second)}]

    def archive(name, body, gives, *inner):
        digest = hashlib.sha256(body).hexdigest()
        return Archive((f"{server.url}/{name}",), len(body), digest, gives, inner)

    listed = (
        archive("val.zip", first, "val"),
        archive("notes.tar?x=1", second, "annotations/maps", "annotations/maps.zip"),
    )
    monkeypatch.setitem(
        SETS, "small", DataSet("A small set", "free", listed, "annotations", "x.read")
    )


def test_a_set_is_fetched_extracted_and_not_fetched_again(server, monkeypatch, tmp_path):
    serve(server, monkeypatch, tmp_path)
    folder = tmp_path / "set"
    assert fetch_set("small", folder) == folder / "annotations"
    assert contents(folder) == {"val/1.jpg": b"photo", "annotations/maps/1.png": b"map"}
    fetch_set("small", folder)
    assert len(server.paths) == 2


def test_a_set_that_was_interrupted_is_completed(server, monkeypatch, tmp_path):
    serve(server, monkeypatch, tmp_path)
    folder = tmp_path / "set"
    with monkeypatch.context() as patch:
        patch.setattr(archives, "_move_into", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            fetch_set("small", folder)
    assert set(contents(folder)) == {"val.zip"}
    fetch_set("small", folder)
    assert set(contents(folder)) == {"val/1.jpg", "annotations/maps/1.png"}
    assert server.paths == ["/val.zip", "/notes.tar?x=1"]


def test_sets_that_need_a_registration_say_what_to_do(tmp_path):
    with pytest.raises(
        ValueError, match=r"^name: Cityscapes .*registration.*cityscapes-dataset.com.*gtFine"
    ):
        fetch_set("cityscapes", tmp_path)
    with pytest.raises(
        ValueError, match=r"^name: expected one of voc2012, .*cityscapes, got 'imagenet'"
    ):
        fetch_set("imagenet", tmp_path)


@pytest.mark.parametrize("name", SETS)
def test_the_table_is_sound(name):
    chosen = SETS[name]
    assert chosen.title and chosen.terms and bool(chosen.archives) != bool(chosen.registration)
    for archive in chosen.archives:
        assert archive.size > 10**8 and all(url.startswith("http") for url in archive.urls)
        assert archive.sha256 is None or len(bytes.fromhex(archive.sha256)) == 32
    for reader in chosen.reader.split(", "):
        owner, function = reader.split(".")
        assert callable(getattr(READERS[owner], function))
