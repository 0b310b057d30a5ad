"""Thousands of damaged archives: each is refused by name, or gives exactly the right files."""

import random
import shutil
import tarfile

import pytest

from course_utils.data.archives import extract
from tests.data.file_server import MAKERS, contents, make_tar

NOISE = random.Random(0).randbytes(3000)
FILES = {"set/a.txt": b"one" * 400, "set/deep/noise.bin": NOISE, "empty": b"", "last.txt": b"end"}


def cut(whole, chance):
    return whole[: chance.randrange(len(whole))]


def flip(whole, chance, places=None, most=1):
    """Flip bits; two flips in one tar header could cancel in its checksum, which is a plain sum."""
    broken = bytearray(whole)
    for _ in range(chance.randint(1, most)):
        place = chance.choice(places) if places else chance.randrange(len(whole))
        broken[place] ^= 1 << chance.randrange(8)
    return bytes(broken)


def drop(whole, chance):
    """Lose some bytes inside, as when a transfer skips a block."""
    start = chance.randrange(len(whole))
    return whole[:start] + whole[start + chance.choice([1, 7, 512, 1024]) :]


def blank(whole, chance):
    """Zeros in place of a block, as a disk leaves them after a power cut."""
    start = chance.randrange(len(whole)) // 512 * 512
    return whole[:start] + bytes(len(whole[start : start + 512])) + whole[start + 512 :]


def headers_of(whole):
    """The places of a plain tar that a checksum covers: its headers and its end."""
    places, start = [], 0
    while whole[start : start + 512].strip(b"\0"):
        places += range(start, start + 512)
        size = int(whole[start + 124 : start + 135], 8)
        start += 512 + -(-size // 512) * 512
    return places + list(range(start, start + 1024))


def damage(name, whole, chance):
    """A damaged copy, of which an exact checksum or the end tells that it is damaged."""
    if name == "a.tar":  # no checksum covers the files' contents
        places = headers_of(whole)
        return chance.choice([cut(whole, chance), flip(whole, chance, places)])
    ways = [cut, flip, drop, blank, lambda *given: flip(*given, most=5)]
    return chance.choice(ways)(whole, chance)


def edit(name, whole, chance):
    """Forge one header: any bytes in a field, and the right checksum. What results is another archive."""
    broken = bytearray(whole)
    if name == "a.zip":
        start = whole.index(b"PK\1\2") + chance.randrange(len(whole) - whole.index(b"PK\1\2") - 8)
        length = chance.choice([1, 2, 4, 8])
        broken[start : start + length] = chance.choice([b"\xff", b"\0", b"/", b"."]) * length
        return bytes(broken)
    start = chance.choice(headers_of(whole)[::512][:-2])
    place, length = chance.choice(
        [(0, 100), (124, 12), (136, 12), (156, 1), (157, 100), (345, 155)]
    )
    values = [
        b"../x",
        b"/x",
        b"a\0",
        b"\x80" + b"\xff" * 11,
        b"\xff" * 12,
        b"77777777777",
        b"-1",
        b"",
    ]
    values += [b"S", b"x", b"g", b"L", b"K", b"2", b"5", b"7", b"D", b"\xff"]
    value = chance.choice(values)[:length]
    broken[start + place : start + place + length] = value.ljust(length, b"\0")
    broken[start + 148 : start + 156] = b" " * 8
    checksum = sum(broken[start : start + 512])
    broken[start + 148 : start + 156] = b"%06o\0 " % checksum
    return bytes(broken)


def try_to_extract(archive, folder):
    """Whether it was extracted; if not, the folder is as it was, and the error names the archive."""
    (folder / "mine.txt").write_bytes(b"mine")
    try:
        extract(archive, folder)
    except (ValueError, OSError) as error:
        assert archive.name in str(error) and "\n" not in str(error) and len(str(error)) < 1000
        assert list(folder.iterdir()) == [folder / "mine.txt"], error
        return False
    assert not list(folder.glob(".unpacking*"))
    return True


@pytest.fixture
def playground(tmp_path):
    """A place with a file beside the target, to see that nothing leaves the target."""
    (tmp_path / "outer" / "folder").mkdir(parents=True)
    yield tmp_path
    assert [entry.name for entry in (tmp_path / "outer").iterdir()] == ["folder"]


def run(name, playground, count, seed=0):
    whole = MAKERS[name](playground / name, FILES).read_bytes()
    chance = random.Random(f"{name} {seed}")
    folder, extracted = playground / "outer" / "folder", 0
    for number in range(count):
        forged = name in ("a.zip", "a.tar") and number % 4 == 3
        (playground / name).write_bytes((edit if forged else damage)(name, whole, chance))
        if try_to_extract(playground / name, folder):
            extracted += 1
            if not forged:
                assert contents(folder) == FILES | {"mine.txt": b"mine"}, number
            for entry in folder.iterdir():
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    return extracted


@pytest.mark.parametrize("name", MAKERS)
def test_damaged_archives_are_refused_or_right(playground, name):
    assert run(name, playground, 30) < 25


@pytest.mark.long
@pytest.mark.parametrize("name", MAKERS)
def test_eight_hundred_damaged_archives_of_a_kind(playground, name):
    assert run(name, playground, 800, seed=1) < 400


def test_a_tar_cut_at_any_block_is_refused(playground):
    archive, folder = make_tar(playground / "a.tar", FILES), playground / "outer" / "folder"
    whole = archive.read_bytes()
    end = headers_of(whole)[-1] + 1
    for length in range(0, end, tarfile.BLOCKSIZE):
        archive.write_bytes(whole[:length])
        assert not try_to_extract(archive, folder)
    archive.write_bytes(whole[:end])
    assert try_to_extract(archive, folder)
