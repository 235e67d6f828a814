"""A settings file runs no code of its own, however it names it."""

import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.datasets import ImageClasses
from benchmarks.errors import SettingsError
from benchmarks.settings.objects import check
from benchmarks.settings.reading import load

SETTINGS = """
data:
  train: {Glyphs: {split: train}}
  test: {Glyphs: {split: test}}
model:
  trunk: {ConvTrunk: {}}
sampler: {RandomSampler: {}}
loss: {ProxyNCALoss: {}}
optimizers: {trunk: &sgd {SGD: {lr: 0.1}}, metric_loss: *sgd}
variants: {plain: {}}
"""
STRANGER = """
from pathlib import Path
from subprocess import Popen

from benchmarks.datasets import Glyphs, ImageClasses

Path(__file__).with_name("imported").touch()


class Letters(Glyphs):
    pass


class Plain:
    pass


def letters(split: str) -> ImageClasses:
    return Glyphs(split)


def unsaid(split):
    Path(__file__).with_name("called").touch()
"""


@pytest.fixture
def written(tmp_path) -> Path:
    path = tmp_path / "letters.yaml"
    path.write_text(SETTINGS)
    return path


@pytest.fixture
def stranger(tmp_path, monkeypatch) -> Path:
    """The folder of a module `stranger`, which leaves a mark when it is imported."""
    (tmp_path / "stranger.py").write_text(STRANGER)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "stranger", raising=False)
    yield tmp_path
    sys.modules.pop("stranger", None)


PLACES = ["data.train=OBJECT", "loss={ProxyNCALoss: {reducer: OBJECT}}"]
HIDDEN = "data.train={Glyphs: {transform: '${oc.decode:\"OBJECT\"}'}}"


@pytest.mark.parametrize("override", [*PLACES, HIDDEN])
def test_a_function_in_the_settings_is_not_called_in_a_dry_run(override, written, tmp_path):
    mark = tmp_path / "mark"
    made = override.replace("OBJECT", f"{{os.mkdir: {{path: {mark}}}}}")
    with pytest.raises(SystemExit, match=r"'os\.mkdir' is code of 'os', .*add --import os"):
        main(["compare", str(written), "--dry-run", made])
    assert not mark.exists()


def test_a_package_that_the_command_line_does_not_name_is_not_imported(written, stranger):
    override = "data.train={stranger.Letters: {split: train}}"
    with pytest.raises(SettingsError, match=r"^command line: data.train: .* add --import stranger"):
        load(written, [override], imports=["strange", "stranger.Letter"])
    assert not (stranger / "imported").exists()
    (run,) = load(written, [override, "seeds=[0]"], imports=["stranger"]).runs
    assert run.data.train == {"stranger.Letters": {"split": "train"}}
    assert (stranger / "imported").exists()


def test_a_file_that_is_extended_needs_the_permission_too(written, stranger):
    written.write_text(SETTINGS.replace("{ProxyNCALoss: {}}", "{stranger.Plain: {}}"))
    upper = written.with_name("upper.yaml")
    upper.write_text("extends: letters.yaml\nloss: {ArcFaceLoss: {}}\n")
    with pytest.raises(SettingsError, match=r"letters\.yaml: loss: .* add --import stranger"):
        load(upper)
    assert not (stranger / "imported").exists()


@pytest.mark.parametrize("name", ["torch.jit:_script.ScriptModule", "torch.nn:Linear", "a..b"])
def test_a_dotted_path_has_nothing_but_names_and_dots(name):
    with pytest.raises(SettingsError, match="expected names with dots between them but got"):
        check({name: {}}, "loss", imports=["torch", "a"])


def test_saved_settings_do_not_hold_the_permission(written, stranger, capsys):
    override = "data.train={stranger.letters: {split: train}}"
    main(["compare", str(written), "--dry-run", override, "epochs=0", "--import", "stranger"])
    shown = capsys.readouterr().out
    assert "stranger.letters" in shown and "import" not in shown


@pytest.mark.parametrize("name", ["Plain", "unsaid", "Popen", "Path.home", "Path"])
def test_a_place_takes_what_it_can_use(name, stranger):
    with pytest.raises(SettingsError, match="^data.train: "):
        check({f"stranger.{name}": {"split": "train"}}, "data.train", ImageClasses, ["stranger"])
    assert not (stranger / "called").exists()


def test_what_a_package_imports_from_elsewhere_needs_its_own_permission(stranger):
    with pytest.raises(SettingsError, match="defined in 'subprocess', .*--import subprocess"):
        check({"stranger.Popen": {"args": ["true"]}}, "loss.reducer", imports=["stranger"])


@pytest.mark.parametrize(
    "name",
    [
        *("torch.os.system", "torch.hub.load", "torch.load", "torch.package.PackageImporter"),
        *("torch._C._jit_init", "benchmarks.__main__.main", "benchmarks.settings.reading.Path"),
        "torch.distributed.elastic.multiprocessing.subprocess_handler.SubprocessHandler",
        *("torch.nn.Linear.__init__", "torch.utils.data.datapipes.iter.FileOpener"),
        *("pytorch_metric_learning.losses.ProxyNCALoss.forward", "torch.compile"),
        "pml_synthesis.losses.proxies_of",
    ],
)
@pytest.mark.parametrize("imports", [(), ("torch", "benchmarks")])
def test_libraries_lead_to_nothing_but_their_classes_for_settings(name, imports):
    for kind in (object, ImageClasses):
        with pytest.raises(SettingsError, match="^loss: "):
            check({name: {}}, "loss", kind, imports)


@pytest.mark.parametrize(
    "name", ["torch._dynamo.eval_frame.OptimizedModule", "benchmarks.speed.__main__.main"]
)
def test_what_is_private_to_a_library_is_not_imported(name, monkeypatch):
    module = name.rpartition(".")[0]
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, module)
    with pytest.raises(SettingsError, match="is private to"):
        check({name: {}}, "loss")
    assert module not in sys.modules


@pytest.mark.parametrize(
    "name",
    [
        *("torch.nn.Linear", "torch.nn.modules.linear.Linear", "torch.optim.adamw.AdamW"),
        *("pml_synthesis.schedules.CosineSchedule", "benchmarks.proxies.UnitProxies"),
        *("pytorch_metric_learning.losses.ProxyNCALoss", "torch.utils.data.RandomSampler"),
    ],
)
def test_classes_of_the_libraries_need_no_permission(name):
    check({name: {}}, "somewhere")


@pytest.mark.parametrize(
    ("setting", "kind"),
    [
        ("data.train={ConvTrunk: {}}", "ImageClasses"),
        ("transforms.train=[{ImageFiles: {}}]", "that can be called"),
        ("model.trunk={Glyphs: {}}", "Module"),
        ("loss={AdamW: {}}", "Module"),
        ("miner={RandomSampler: {}}", "Module"),
        ("sampler={ConvTrunk: {}}", "Sampler"),
        ("optimizers.trunk={ConvTrunk: {}}", "Optimizer"),
        ("schedulers.trunk={AdamW: {}}", "LRScheduler"),
    ],
)
def test_each_place_has_a_kind_of_objects(setting, kind, written):
    place = setting.split("=")[0]
    with pytest.raises(SettingsError, match=rf"^command line: {place}.*: expected .*{kind}"):
        load(written, [setting])
