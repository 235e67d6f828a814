"""The scripts of docs/examples run, and the page shows what is in them."""

import difflib
import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "examples"
PAGE = (ROOT / "docs" / "examples.md").read_text()
SCRIPTS = {path.name: path.read_text() for path in sorted(FOLDER.glob("*.py"))}
MAP_AT_R_OF_INPUTS = 0.093


def run(script, folder, *launcher):
    """Run a script in a folder; return the figures that it prints."""
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *launcher, str(FOLDER / script)]
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return [float(figure) for figure in re.findall(r"unseen classes: (\S+)", result.stdout)]


@pytest.mark.parametrize("script", ["before.py", "plain_loop.py"])
def test_plain_loops(script, tmp_path):
    (figure,) = run(script, tmp_path)
    assert figure > 3 * MAP_AT_R_OF_INPUTS
    assert not any(tmp_path.iterdir())


def test_pmls_trainer(tmp_path):
    (figure,) = run("pml_trainer.py", tmp_path)
    assert figure > 3 * MAP_AT_R_OF_INPUTS
    terms = pd.read_csv(tmp_path / "example_logs" / "loss_histories.csv")
    assert terms["total_loss"].iloc[-1] < terms["total_loss"].iloc[0]


def test_two_processes(tmp_path):
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    (figure,) = run("two_processes.py", tmp_path, *launcher)
    assert figure > 3 * MAP_AT_R_OF_INPUTS


def test_one_line_and_its_import_are_all_that_is_added():
    before, after = (SCRIPTS[name].splitlines() for name in ("before.py", "plain_loop.py"))
    changes = list(difflib.unified_diff(before, after, lineterm="", n=2))
    assert [line for line in changes[2:] if line[0] in "+-" and line != "+"] == [
        "+from pml_synthesis import ProxySynthesis, SynthesisLoss",
        "+loss_function = SynthesisLoss(loss_function, ProxySynthesis())",
    ]
    hunks = re.split(r"^@@.*@@\n", "\n".join(changes) + "\n", flags=re.MULTILINE)[1:]
    assert re.findall(r"^```diff\n(.*?)^```", PAGE, flags=re.DOTALL | re.MULTILINE) == hunks


def test_the_page_shows_all_scripts_and_nothing_else():
    for name in SCRIPTS:
        assert f"](examples/{name})" in PAGE
    blocks = re.findall(r"^```py\n(.*?)^```", PAGE, flags=re.DOTALL | re.MULTILINE)
    assert len(blocks) == PAGE.count("```py") > 0
    for block in blocks:
        assert any(block in text for text in SCRIPTS.values()), block
