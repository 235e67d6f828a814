"""The scripts of docs/examples run, and the page shows what is in them."""

import difflib
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import forked_processes

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "examples"
PAGE = (ROOT / "docs" / "examples.md").read_text()
SCRIPTS = {path.name: path.read_text() for path in sorted(FOLDER.glob("*.py"))}
MAP_AT_R_OF_INPUTS = 0.093


def figure_in(text):
    (figure,) = re.findall(r"unseen classes: (\S+)", text)
    return float(figure)


def run(script, folder):
    """Run a script in a folder; return the figure that it prints."""
    process = forked_processes.started(folder, forked_processes.script, str(FOLDER / script))
    code = forked_processes.ended(process)
    printed = (folder / forked_processes.OUTPUT).read_text()
    assert code == 0, printed
    return figure_in(printed)


@pytest.mark.parametrize("script", ["before.py", "plain_loop.py"])
def test_the_plain_loop_with_and_without_synthesis(script, tmp_path):
    assert run(script, tmp_path) > 3 * MAP_AT_R_OF_INPUTS
    assert [path.name for path in tmp_path.iterdir()] == [forked_processes.OUTPUT]


def test_pmls_trainer(tmp_path):
    assert run("pml_trainer.py", tmp_path) > 3 * MAP_AT_R_OF_INPUTS
    terms = pd.read_csv(tmp_path / "example_logs" / "loss_histories.csv")
    assert terms["total_loss"].iloc[-1] < terms["total_loss"].iloc[0]


def test_two_processes_as_users_run_them(tmp_path):
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command = [sys.executable, *launcher, str(FOLDER / "two_processes.py")]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert figure_in(result.stdout) > 3 * MAP_AT_R_OF_INPUTS


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
