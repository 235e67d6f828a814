import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    # A copy with neighbours that must not slip in.
    for name in ("pml_synthesis", "tests", "benchmarks"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, source / name, ignore=ignored)
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    options = ["--no-build-isolation", "--wheel-dir", str(folder), str(source)]
    subprocess.run(command + options, check=True)
    (path,) = folder.glob("*.whl")
    return zipfile.ZipFile(path)


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
