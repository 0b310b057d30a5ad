"""The public data sets: downloaded and extracted once, and a sound table of URLs."""

import hashlib
import subprocess
import sys
import threading

import pytest

from course_utils.data import ade20k, archives, cityscapes, coco, voc
from course_utils.data import fetch as module
from course_utils.data.fetch import SETS, Archive, DataSet, fetch_set, main
from tests.data.file_server import answer, contents, fail, make_tar, make_zip

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


def test_progress_counts_the_bytes_of_all_archives(server, monkeypatch, tmp_path):
    serve(server, monkeypatch, tmp_path)
    seen = []
    fetch_set("small", tmp_path / "set", lambda *told: seen.append(told))
    total = SETS["small"].size
    assert all(told[2] == total for told in seen) and seen[-1] == ("done", total, total)
    assert [told[1] for told in seen] == sorted(told[1] for told in seen)
    tasks = list(dict.fromkeys(told[0] for told in seen))
    assert tasks[:3] == ["downloading val.zip", "extracting val.zip", "done"]


def test_several_calls_for_one_folder_download_once(server, monkeypatch, tmp_path):
    serve(server, monkeypatch, tmp_path)
    ended = []
    threads = [
        threading.Thread(target=lambda: ended.append(fetch_set("small", tmp_path / "set")))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ended) == 4 and len(server.paths) == 2
    assert set(contents(tmp_path / "set")) == {"val/1.jpg", "annotations/maps/1.png"}


# The command.


def test_the_command_fetches_and_names_the_folder(server, monkeypatch, tmp_path, capsys):
    serve(server, monkeypatch, tmp_path)
    main(["small", "--to", str(tmp_path / "set")])
    assert capsys.readouterr().out == (
        f"A small set is in {tmp_path / 'set' / 'annotations'}; read it with x.read (course_utils.data)\n"
    )


def test_the_command_lists_the_sets_in_its_help_and_for_an_unknown_name(tmp_path, capsys):
    for arguments, code in ((["--help"], 0), (["mnist", "--to", str(tmp_path)], 2)):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        text = "".join(capsys.readouterr())
        assert ended.value.code == code
        for name, data_set in SETS.items():
            assert name in text and data_set.title in text and data_set.terms in text
        assert "21.3 GB" in text


def test_the_command_ends_with_one_sentence(server, monkeypatch, tmp_path, capsys):
    serve(server, monkeypatch, tmp_path)
    server.acts = [fail(404)]
    (tmp_path / "file").write_text("mine")
    cases = {
        ("cityscapes", "set"): "name: Cityscapes needs a registration",
        ("small", "file"): "folder: expected a folder, got the file",
        ("small", "set"): "url: val.zip could not be downloaded",
    }
    for (name, folder), sentence in cases.items():
        with pytest.raises(SystemExit) as ended:
            main([name, "--to", str(tmp_path / folder)])
        error = capsys.readouterr().err.strip()
        assert ended.value.code == 2 and error.startswith(sentence) and "\n" not in error


def test_the_command_says_how_to_continue(monkeypatch, tmp_path, capsys):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "fetch_set", interrupt)
    with pytest.raises(SystemExit) as ended:
        main(["voc2012", "--to", str(tmp_path)])
    assert ended.value.code == 130
    assert "interrupted; the same command continues where it stopped" in capsys.readouterr().err


def test_the_command_runs_as_a_module_without_a_warning():
    command = [sys.executable, "-W", "error", "-m", "course_utils.data.fetch", "--help"]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "voc2012" in ended.stdout and not ended.stderr
