import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml

import pml_synthesis

ROOT = Path(__file__).parents[1]
FOLDERS = [".ci", "benchmarks", "docs", "pml_synthesis", "tests"]
FILES = [
    *("CHANGELOG.md", "CITATION.cff", "LICENSE", "MANIFEST.in", "Makefile", "README.md"),
    *("constraints.txt", "mkdocs.yml", "pyproject.toml", "setup.cfg"),
]


def speed_results(folder, names):
    """What `make speed` leaves in the folder, which the archive leaves out."""
    return ["results"] if Path(folder).name == "speed" else []


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder with the source archive of a copy of the tree, and the wheel made from it."""
    source = tmp_path_factory.mktemp("source")
    for name in FOLDERS:
        shutil.copytree(ROOT / name, source / name, ignore=speed_results)
    for name in FILES:
        shutil.copy(ROOT / name, source)
    subprocess.run([sys.executable, "-m", "build", "--no-isolation", source], check=True)
    return source / "dist"


@pytest.fixture(scope="module")
def wheel(built):
    (path,) = built.glob("*.whl")
    return zipfile.ZipFile(path)


def test_the_archive_contains_the_whole_tree(built):
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        files = {name.partition("/")[2] for name in archive.getnames()}
    expected = {
        str(path.relative_to(ROOT))
        for name in FOLDERS
        for path in (ROOT / name).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {name for name in expected if not name.startswith("benchmarks/speed/results")} <= files
    assert set(FILES) <= files
    assert not any("__pycache__" in name for name in files)


def test_the_wheel_contains_the_library_alone(wheel):
    files = wheel.namelist()
    assert {Path(name).parts[0] for name in files} == {
        "pml_synthesis",
        next(name for name in files if name.endswith("METADATA")).split("/")[0],
    }
    assert "pml_synthesis/py.typed" in files
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "pml_synthesis").rglob("*.py")}
    assert modules <= set(files)


def test_the_core_needs_torch_and_pml_alone(wheel):
    metadata = wheel.read(next(name for name in wheel.namelist() if name.endswith("METADATA")))
    required = [
        line.removeprefix("Requires-Dist: ")
        for line in metadata.decode().splitlines()
        if line.startswith("Requires-Dist: ") and "extra ==" not in line
    ]
    assert sorted(required) == ["pytorch-metric-learning<3,>=2.9", "torch>=2.2"]


def test_version_and_date_are_the_same_everywhere():
    heading = r"^## (?P<version>\S+) - (?P<date>unreleased|\d{4}-\d\d-\d\d)$"
    newest = re.search(heading, (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert newest["version"] == citation["version"] == pml_synthesis.__version__
    assert newest["date"] == str(citation.get("date-released", "unreleased"))
