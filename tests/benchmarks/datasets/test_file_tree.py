"""Files in folders and archives, and images kept on disk."""

import io
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.datasets import cache, file_tree
from benchmarks.datasets.cache import cached
from benchmarks.datasets.file_tree import FileTree, find_tree

SOURCE = "https://example.org/set"


def write_files(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    return root


def pack(folder: Path, archive: Path, below: str = "") -> Path:
    with ZipFile(archive, "w", ZIP_DEFLATED) as file:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                file.write(path, below + path.relative_to(folder).as_posix())
    return archive


@pytest.fixture
def folder(tmp_path) -> Path:
    return write_files(tmp_path / "set", "a/list.txt", "a/b/1.png", "a/2.png", ".git/3.png")


def test_folders_and_archives_have_the_same_files(folder, tmp_path):
    (folder / ".git" / "3.png").unlink()
    trees = (
        find_tree(folder, "a/list.txt", SOURCE),
        find_tree(pack(folder, tmp_path / "set.zip"), "a/list.txt", SOURCE),
        find_tree(tmp_path, "a/list.txt", SOURCE),
        find_tree(pack(folder, tmp_path / "github.zip", "set-main/"), "a/list.txt", SOURCE),
    )
    for tree in trees:
        assert tree.names == ["a/2.png", "a/b/1.png", "a/list.txt"]
        assert tree.read("a/b/1.png") == b"a/b/1.png"


def test_hidden_folders_are_no_part_of_a_set(folder):
    assert "3.png" not in "".join(FileTree(folder, SOURCE).names)
    assert FileTree(folder, SOURCE, "a/").names == ["2.png", "b/1.png", "list.txt"]


def test_a_set_that_is_not_there_is_told_with_its_source(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=f"no b.txt in .*get it from {SOURCE}"):
        find_tree(folder, "b.txt", SOURCE)
    archive = pack(folder, tmp_path / "set.zip")
    with pytest.raises(FileNotFoundError, match="no b.txt in .*, nor in .*set.zip"):
        find_tree(tmp_path, "b.txt", SOURCE)
    archive.write_bytes(archive.read_bytes()[:100])
    with pytest.raises(FileNotFoundError, match=f"set.zip but it is damaged.*from {SOURCE}"):
        find_tree(archive, "a/list.txt", SOURCE)


def test_other_archives_beside_a_set_do_not_hide_it(folder, tmp_path):
    (tmp_path / "a damaged one.zip").write_bytes(b"PK")
    (tmp_path / "._set.zip").write_bytes(b"left by a system")
    pack(folder, tmp_path / "set.ZIP")
    assert find_tree(tmp_path, "a/list.txt", SOURCE).path == tmp_path / "set.ZIP"
    (tmp_path / "set.ZIP").unlink()
    with pytest.raises(FileNotFoundError, match="a damaged one.zip but it is damaged"):
        find_tree(tmp_path, "a/list.txt", SOURCE)


def test_what_systems_leave_is_no_part_of_a_set(folder, tmp_path):
    (folder / ".git" / "3.png").unlink()
    write_files(folder, "a/._2.png", "a/Thumbs.db", "__MACOSX/a/list.txt")
    for place in (folder, pack(folder, tmp_path / "set.zip", "set-main/")):
        tree = find_tree(place, "a/list.txt", SOURCE)
        assert tree.names == ["a/2.png", "a/b/1.png", "a/list.txt"]
    (folder / "a" / "list.txt").unlink()
    with pytest.raises(FileNotFoundError, match="no a/list.txt in"):
        find_tree(pack(folder, tmp_path / "set.zip"), "a/list.txt", SOURCE)


def test_damaged_files_in_an_archive_are_named(folder, tmp_path):
    (folder / "a" / "2.png").write_bytes(np.random.default_rng(0).bytes(5000))
    archive = pack(folder, tmp_path / "set.zip")
    content = bytearray(archive.read_bytes())
    content[1000] ^= 255
    archive.write_bytes(bytes(content))
    with pytest.raises(OSError, match=f"set.zip/a/2.png cannot be read: .*from {SOURCE}"):
        FileTree(archive, SOURCE).read("a/2.png")


def test_a_file_that_would_fill_the_memory_is_refused(folder, tmp_path, monkeypatch):
    (folder / "a" / "2.png").write_bytes(bytes(5000))
    archive = pack(folder, tmp_path / "set.zip")
    monkeypatch.setattr(file_tree, "LARGEST", 4999)
    with pytest.raises(OSError, match="a/2.png cannot be read: it would unpack to 5000 bytes"):
        FileTree(archive, SOURCE).read("a/2.png")


def test_pictures_that_cannot_be_read_are_named_with_the_source(folder, tmp_path):
    for path in (folder, pack(folder, tmp_path / "set.zip")):
        message = f"{path}/a/2.png cannot be read as an image: Pillow .* Get it again from {SOURCE}"
        with pytest.raises(OSError, match=message):
            FileTree(path, SOURCE).picture("a/2.png")
    encoded = io.BytesIO()
    Image.new("L", (3, 2), 7).save(encoded, "PNG")
    (folder / "a" / "2.png").write_bytes(encoded.getvalue())
    assert FileTree(folder, SOURCE).picture("a/2.png", "L").size == (3, 2)


def test_stamps_tell_changes_of_files(folder, tmp_path):
    tree = FileTree(folder, SOURCE)
    before = tree.stamp(["a/2.png"])
    write_files(folder, "a/4.png")
    assert tree.stamp(["a/2.png"]) == before
    (folder / "a" / "2.png").write_bytes(b"changed")
    assert tree.stamp(["a/2.png"]) != before
    archive = pack(folder, tmp_path / "set.zip")
    before = FileTree(archive, SOURCE).stamp([])
    write_files(folder, "a/5.png")
    pack(folder, archive)
    assert FileTree(archive, SOURCE).stamp([]) != before


# ---------------------------------------------------------------- cache


@pytest.fixture
def kept(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "pml_synthesis"


def count_calls(kept_value: torch.Tensor):
    calls = []

    def make() -> torch.Tensor:
        calls.append(None)
        return kept_value

    return make, calls


def test_what_is_cached_is_made_once_for_a_key(kept):
    make, calls = count_calls(torch.rand(3, 4))
    first = cached("images", ("a", 1), make)
    assert torch.equal(cached("images", ("a", 1), make), first) and len(calls) == 1
    cached("images", ("a", 2), make)
    cached("others", ("a", 1), make)
    assert len(calls) == 3
    assert sorted(path.suffix for path in kept.iterdir()) == [".npz"] * 3


def test_other_versions_of_the_libraries_make_their_own(kept, monkeypatch):
    make, calls = count_calls(torch.zeros(1))
    cached("images", 1, make)
    monkeypatch.setattr(cache.PIL, "__version__", "0")
    cached("images", 1, make)
    assert len(calls) == 2


def test_a_damaged_cache_is_made_anew(kept):
    make, calls = count_calls(torch.rand(5))
    first = cached("images", 1, make)
    (path,) = kept.iterdir()
    for content in (b"", b"no archive", path.read_bytes()[:-30]):
        path.write_bytes(content)
        assert torch.equal(cached("images", 1, make), first)
    assert len(calls) == 4


def test_nothing_in_a_cache_is_executed(kept):
    make, calls = count_calls(torch.rand(5))
    cached("images", 1, make)
    (path,) = kept.iterdir()
    np.savez(path, tensor=np.array([{"an": "object"}], dtype=object))
    cached("images", 1, make)
    assert len(calls) == 2


def test_where_nothing_can_be_written_nothing_is_kept(kept):
    kept.parent.mkdir()
    kept.write_text("a file in the place of the folder")
    make, calls = count_calls(torch.rand(5))
    assert torch.equal(cached("images", 1, make), cached("images", 1, make))
    assert len(calls) == 2


def test_without_a_home_nothing_is_kept(monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME")

    def expanduser(path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", expanduser)
    make, calls = count_calls(torch.rand(5))
    assert torch.equal(cached("images", 1, make), cached("images", 1, make))
    assert len(calls) == 2


def test_other_code_makes_its_own(kept, tmp_path, monkeypatch):
    (tmp_path / "code").mkdir()
    monkeypatch.setattr(cache, "__file__", str(tmp_path / "code" / "cache.py"))
    make, calls = count_calls(torch.zeros(1))
    for text in ("how images are read", "how images are read", "otherwise"):
        (tmp_path / "code" / "reading.py").write_text(text)
        cached("images", 1, make)
    assert len(calls) == 2
