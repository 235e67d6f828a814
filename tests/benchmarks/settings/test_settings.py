"""Settings files: what they describe, and what is said about wrong ones."""

import re
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
import yaml
from pytorch_metric_learning import distances, losses
from torch import nn

import benchmarks
from benchmarks.errors import SettingsError
from benchmarks.settings import files
from benchmarks.settings.merging import merge
from benchmarks.settings.objects import build, find, keywords
from benchmarks.settings.reading import Comparison, load
from benchmarks.settings.schema import dump
from pml_synthesis import (
    Compose,
    ProxySynthesis,
    SphericalEmbeddingExpansion,
    SynthesisLoss,
    SynthesisRegularizer,
)

CONFIGS = Path(benchmarks.__file__).parent / "configs"
SETTINGS = """
    data:
      train: {Glyphs: {split: trainval}}
      test: {Glyphs: {split: test}}
    model:
      trunk: {ConvTrunk: {}}
    sampler: {RandomSampler: {}}
    optimizers:
      trunk: {AdamW: {lr: 1e-3, weight_decay: 0.1}}
    seeds: [3, 5]
    variants:
      plain:
        loss: {ProxyNCALoss: {softmax_scale: 10}}
      ps:
        loss:
          SynthesisLoss:
            loss: {ProxyNCALoss: {softmax_scale: 10}}
            augmenter: {ProxySynthesis: {alpha: 0.4}}
"""


class Doubled(nn.Module):
    """A module of somebody else's, to be found by its dotted path."""

    def __init__(self, embedding_size: int, factor: float = 2.0) -> None:
        super().__init__()
        self.embedding_size = embedding_size
        self.factor = factor


@pytest.fixture
def written(tmp_path):
    """Write settings, with changes, to a file; return its path."""

    def write(changes: str = "{}") -> Path:
        path = tmp_path / "letters.yaml"
        path.write_text(yaml.safe_dump(merge(yaml.safe_load(SETTINGS), yaml.safe_load(changes))))
        return path

    return write


@cache
def shipped(path: Path) -> Comparison:
    return load(path, ["data.root=somewhere"])


def only(comparison: Comparison):
    (run,) = comparison.runs
    return run


# ------------------------------------------------------------------------- files


def test_a_file_is_a_run_for_each_variant_and_seed(written):
    comparison = load(written())
    assert [(run.variant, run.seed) for run in comparison.runs] == [
        *[("plain", 3), ("ps", 3)],
        *[("plain", 5), ("ps", 5)],
    ]
    plain, ps = comparison.runs[:2]
    assert plain.loss == {"ProxyNCALoss": {"softmax_scale": 10}}
    assert list(ps.loss) == ["SynthesisLoss"]
    assert plain.epochs == ps.epochs == 20
    assert plain.data == ps.data
    assert comparison.folder == Path("runs/letters")
    assert comparison.parallel_runs >= 1


def test_command_line_settings_reach_every_variant(written):
    overrides = ["epochs=2", "name=other", "optimizers.trunk.AdamW.lr=0.5", "seeds=[1]"]
    comparison = load(written(), overrides)
    assert comparison.folder == Path("runs/other")
    for run in comparison.runs:
        assert (run.epochs, run.seed) == (2, 1)
        assert run.optimizers.trunk == {"AdamW": {"lr": 0.5, "weight_decay": 0.1}}


def test_command_line_settings_of_one_variant(written):
    overrides = ["variants.ps.loss.SynthesisLoss.augmenter.ProxySynthesis.mu=0.5", "seeds=[1]"]
    plain, ps = load(written(), overrides).runs
    assert plain.loss == {"ProxyNCALoss": {"softmax_scale": 10}}
    assert ps.loss["SynthesisLoss"]["augmenter"] == {"ProxySynthesis": {"alpha": 0.4, "mu": 0.5}}


def test_variants_change_settings_and_replace_objects(written):
    changes = """
        variants:
          sgd: {loss: {ArcFaceLoss: {}}, optimizers: {trunk: {SGD: {lr: 2}}}}
          slow: {loss: {ArcFaceLoss: {}}, optimizers: {trunk: {AdamW: {lr: 1e-5}}}}
    """
    path = written(changes)
    assert only(load(path, ["seeds=[0]"], ["sgd"])).optimizers.trunk == {"SGD": {"lr": 2}}
    slow = only(load(path, ["seeds=[0]"], ["slow"])).optimizers.trunk
    assert slow == {"AdamW": {"lr": 1e-5, "weight_decay": 0.1}}


def test_equal_settings_are_equal_texts(written):
    run = only(load(written(), ["seeds=[0]"], ["ps"]))
    turned = dict(reversed(run.loss["SynthesisLoss"].items()))
    assert dump(replace(run, loss={"SynthesisLoss": turned})) == dump(run)
    assert dump(replace(run, seed=1)) != dump(run)


def test_data_root_is_referred_to(written):
    changes = "data: {root: '???', train: {Omniglot: {root: '${data.root}'}}}"
    path = written(changes)
    run = only(load(path, ["data.root=a/b", "seeds=[0]"], ["plain"]))
    assert run.data.train == {"Omniglot": {"root": "a/b"}}
    message = r"letters\.yaml: data\.root is not given: set it in the file, or .*=VALUE"
    with pytest.raises(SettingsError, match=message):
        load(path)


def test_variants_with_names_like_classes_are_added(written, tmp_path):
    written("variants: {Plain: {epochs: 0}}")
    (tmp_path / "own.yaml").write_text("extends: letters.yaml\nvariants: {Anchor: {epochs: 0}}")
    base = {"variants": {"Nca": {"epochs": 1}}}
    assert merge(base, {"variants": {"Anchor": {}}})["variants"].keys() == {"Nca", "Anchor"}
    names = {run.variant for run in load(tmp_path / "own.yaml").runs}
    assert names == {"plain", "ps", "Plain", "Anchor"}


def test_seeds_that_tables_cannot_hold_are_refused(written):
    with pytest.raises(SettingsError, match=r"seeds: expected integers below 2\*\*53"):
        load(written(), ["seeds=[9007199254740993]"])


def test_a_file_changes_those_that_it_extends(written, tmp_path):
    base = written()
    (tmp_path / "below").mkdir()
    path = tmp_path / "below" / "more.yaml"
    path.write_text("extends: ../letters.yaml\nvariants: {plain: {epochs: 7}, other: {epochs: 0}}")
    names = [run.variant for run in load(base).variants]
    comparison = load(path)
    assert comparison.folder.name == "more"
    assert [run.variant for run in comparison.variants] == [*names, "other"]
    epochs = {run.variant: run.epochs for run in comparison.variants}
    assert (epochs["plain"], epochs["other"]) == (7, 0)
    unchanged = next(run for run in load(base).variants if run.variant == "plain")
    changed = next(run for run in comparison.variants if run.variant == "plain")
    assert dump(replace(changed, epochs=unchanged.epochs)) == dump(unchanged)


def test_later_files_and_the_file_itself_win_and_lists_are_replaced(written, tmp_path):
    written("{epochs: 3, batch_size: 4, recall_at: [1, 2, 4]}")
    (tmp_path / "a.yaml").write_text("extends: letters.yaml\nepochs: 4\nbatch_size: 8")
    (tmp_path / "b.yaml").write_text("epochs: 5\nrecall_at: [2]")
    (tmp_path / "c.yaml").write_text("extends: [a.yaml, b.yaml]\nembedding_size: 16")
    run = load(tmp_path / "c.yaml").variants[0]
    assert (run.epochs, run.batch_size, run.embedding_size) == (5, 8, 16)
    assert run.recall_at == [2]


def test_a_variant_that_becomes_null_is_left_out(written, tmp_path):
    path = written()
    names = [run.variant for run in load(path).variants]
    (tmp_path / "less.yaml").write_text("extends: letters.yaml\nvariants: {ps: null}")
    for comparison in (load(tmp_path / "less.yaml"), load(path, ["variants.ps=null"])):
        assert [run.variant for run in comparison.variants] == [n for n in names if n != "ps"]
        assert "ps" not in comparison.baselines
    with pytest.raises(
        SettingsError, match=r"command line: variants\.pss: no variant .* mean ps\?"
    ):
        load(path, ["variants.pss=null"])


@pytest.mark.parametrize(
    ("extends", "message"),
    [
        ("missing.yaml", r"own\.yaml: extends: there is no file .*missing\.yaml\. Give its path"),
        ("own.yaml", r"own\.yaml: extends: a file cannot .* own\.yaml extends own\.yaml\."),
        ("middle.yaml", r"middle\.yaml: extends: .* own\.yaml extends middle\.yaml extends own"),
        ("wrong.yaml", r"wrong\.yaml: epoch: unknown setting: did you mean epochs\?"),
        ("{a: b}", r"own\.yaml: extends: expected a settings file, or a list of them, but got"),
        ("[1]", r"own\.yaml: extends: expected a settings file, or a list of them, but got"),
    ],
)
def test_what_cannot_be_extended_is_refused(tmp_path, extends, message):
    (tmp_path / "own.yaml").write_text(f"extends: {extends}")
    (tmp_path / "middle.yaml").write_text("extends: own.yaml")
    (tmp_path / "wrong.yaml").write_text("epoch: 3")
    with pytest.raises(SettingsError, match=message):
        load(tmp_path / "own.yaml")


def test_a_file_that_many_extend_is_read_once(tmp_path, monkeypatch):
    (tmp_path / "0.yaml").write_text("epochs: 3")
    for number in range(1, 30):
        base = f"{number - 1}.yaml"
        (tmp_path / f"{number}.yaml").write_text(f"extends: [{base}, {base}]\nbatch_size: {number}")
    read_files = []
    read = files._read
    monkeypatch.setattr(files, "_read", lambda path: read_files.append(path) or read(path))
    assert files.read(tmp_path / "29.yaml") == {"epochs": 3, "batch_size": 29, "variants": {}}
    assert len(read_files) == 30


def test_links_in_circles_and_paths_that_are_none_are_told(tmp_path):
    (tmp_path / "circle.yaml").symlink_to("circle.yaml")
    with pytest.raises(SettingsError, match=r"circle\.yaml: cannot be read"):
        load(tmp_path / "circle.yaml")
    with pytest.raises(SettingsError, match=r"no path of a file has a NUL character"):
        load("a\0b.yaml")
    for extended in ("circle.yaml", '"a\\0b"', "a" * 5000, "."):
        (tmp_path / "own.yaml").write_text(f"extends: {extended}")
        with pytest.raises(SettingsError, match=r"own\.yaml: extends: there is no file"):
            load(tmp_path / "own.yaml")


def test_the_command_line_extends_nothing(written):
    with pytest.raises(SettingsError, match="command line: extends: only a file can extend others"):
        load(written(), ["extends=other.yaml"])


@pytest.mark.parametrize(
    "path",
    sorted({*CONFIGS.glob("*.yaml"), *CONFIGS.glob("studies/*.yaml")}),
    ids=lambda path: path.stem,
)
def test_the_shipped_files_describe_what_can_be_built(path):
    for run in shipped(path).variants:
        if run.epochs:
            known = {"num_classes": 7, "embedding_size": 64, "num_steps": 3}
            loss = build(run.loss, **known)
            # Pair losses have none.
            for proxies in loss.parameters():
                class_dim = 1 - proxies.shape.index(64)
                assert proxies.shape[class_dim] == 7
                torch.testing.assert_close(proxies.norm(dim=1 - class_dim), torch.ones(7))
            loss(torch.randn(6, 64), torch.arange(6))


@pytest.mark.parametrize("name", ["glyphs", "omniglot"])
def test_the_first_rows_are_raw_pixels_and_the_untrained_trunk(name):
    comparison = shipped(CONFIGS / f"{name}.yaml")
    assert [run.variant for run in comparison.runs[:2]] == ["raw_pixels", "untrained_trunk"]
    assert {run.seed for run in comparison.runs} == {0, 1, 2}
    assert {(run.epochs, run.iterations_per_epoch) for run in comparison.runs} == {
        (0, 42),
        (20, 42),
    }


def test_the_studies_are_what_they_say():
    for name in ("omniglot_paper", "omniglot_augmented_paper", "glyphs_paper"):
        comparison = shipped(CONFIGS / "studies" / f"{name}.yaml")
        losses = ("norm_softmax", "proxy_nca", "proxy_anchor")
        pairs = {(f"{loss}+{m}", loss) for loss in losses for m in ("ps", "see", "see_grad")}
        assert pairs == {(v, b) for v, b in comparison.baselines.items() if b is not None}
        assert {run.seed for run in comparison.runs} == set(range(10))
        assert bool(comparison.runs[0].transforms.train) == (name != "omniglot_paper")
        see = build(
            next(run.loss for run in comparison.variants if run.variant == "proxy_nca+see_grad"),
            **{"num_classes": 7, "embedding_size": 64, "num_steps": 3},
        )
        assert see.embedding_regularizer.augmenter.detach is False


@pytest.mark.parametrize("data", ["omniglot", "glyphs"])
def test_seen_and_unseen_classes_are_tested_with_the_same_networks(data):
    seen, unseen = (
        shipped(CONFIGS / "studies" / f"{name}_classes_{data}.yaml") for name in ("seen", "unseen")
    )
    losses = ("arc_face", "cos_face", "norm_softmax")
    assert seen.baselines == unseen.baselines
    assert {(v, b) for v, b in seen.baselines.items() if b} == {(f"{n}+ps", n) for n in losses}
    assert {run.seed for run in seen.runs} == {0, 1, 2}
    for one, other in zip(seen.runs, unseen.runs, strict=True):
        assert one.data.allow_overlap and not other.data.allow_overlap
        same = replace(other.data, test=one.data.test, allow_overlap=True)
        assert replace(other, data=same) == one
        train, test = (part["PartOfEachClass"] for part in (one.data.train, one.data.test))
        assert train["whole"] == test["whole"] and train["stop"] == test["start"]
        assert other.data.test["PartOfEachClass"]["start"] == test["start"]


@pytest.mark.parametrize("data", ["omniglot", "omniglot_augmented", "glyphs"])
def test_plain_losses_and_methods_are_tuned_alike(data):
    trials = {}
    for name in ("plain", "ps", "see"):
        comparison = shipped(CONFIGS / "studies" / f"{data}_tune_{name}.yaml")
        assert all(run.data.test is None and run.data.val for run in comparison.runs)
        assert bool(comparison.runs[0].transforms.train) == (data != "omniglot")
        described = [str((run.loss, run.optimizers)) for run in comparison.variants]
        assert len(set(described)) == len(described), "no trial twice"
        trials[name] = len(described), {run.seed for run in comparison.runs}
    assert trials["plain"][0] == 24
    assert trials["plain"] == trials["ps"] == trials["see"]


@pytest.mark.parametrize("ending", ["", "_tuned"])
def test_see_is_compared_at_three_dimensions_with_few_and_with_many_classes(ending):
    ways = set()
    for classes in (50, 200, 233):
        comparison = shipped(CONFIGS / "studies" / f"glyphs_see_{classes}_classes{ending}.yaml")
        assert comparison.baselines == {
            name: name.removesuffix("+see") if name.endswith("+see") else None
            for size in (16, 64, 256)
            for name in (f"proxy_anchor_{size}d", f"proxy_anchor_{size}d+see")
        }
        assert {run.seed for run in comparison.runs} == set(range(10))
        data = comparison.runs[0].data
        counts = [len(build(split).class_names) for split in (data.train, data.val, data.test)]
        assert counts == [classes, 58, 36]
        for run in comparison.variants:
            size = run.variant.removeprefix("proxy_anchor_").removesuffix("+see")
            assert f"{run.embedding_size}d" == size
        ways.add(
            str([(run.loss, run.optimizers, run.embedding_size) for run in comparison.variants])
        )
    assert len(ways) == 1, "the same but for the classes"


# ---------------------------------------------------------------------- baselines


def test_a_baseline_is_what_comes_before_the_plus_or_what_is_said(written):
    changes = """
        variants:
          plain+ps: {loss: {ArcFaceLoss: {}}}
          lonely+ps: {loss: {ArcFaceLoss: {}}}
          other: {loss: {ArcFaceLoss: {}}, baseline: ps}
          plain+none: {loss: {ArcFaceLoss: {}}, baseline: null}
    """
    comparison = load(written(changes))
    assert comparison.baselines == {
        **{"plain": None, "ps": None, "plain+ps": "plain", "lonely+ps": None},
        **{"other": "ps", "plain+none": None},
    }


@pytest.mark.parametrize("baseline", ["plan", "ps", 3])
def test_a_baseline_is_another_variant(baseline, written):
    path = written(f"variants: {{ps: {{baseline: {baseline}}}}}")
    with pytest.raises(SettingsError, match=r"yaml: variants.ps.baseline: no other .*plain"):
        load(path)


# ------------------------------------------------------------------ wrong settings


@pytest.mark.parametrize(
    ("changes", "place", "meant"),
    [
        ("epoch: 3", "epoch", "epochs"),
        ("data: {trian: {Glyphs: {}}}", "data.trian", "train"),
        ("optimizers: {trunks: {SGD: {}}}", "optimizers.trunks", "trunk"),
        ("variants: {ps: {epoch: 3}}", "variants.ps.epoch", "epochs"),
        ("loss: {ProxyNcaLos: {}}", "loss", "ProxyNCALoss"),
        ("loss: {ProxyNCALoss: {softmax_scal: 3}}", "loss.ProxyNCALoss", "softmax_scale"),
        ("loss: {ProxyNCALoss: {reducers: null}}", "loss.ProxyNCALoss", "reducer"),
        ("miner: {MultiSimilarityMinr: {}}", "miner", "MultiSimilarityMiner"),
        (
            "variants: {ps: {loss: {SynthesisLoss: {augmenter: {ProxySynthesis: {alfa: 1}}}}}}",
            "variants.ps.loss.SynthesisLoss.augmenter.ProxySynthesis",
            "alpha",
        ),
        (
            "loss: {SynthesisLoss: {augmenter: {Compose: {augmenters: [{ProxySynthesi: {}}]}}}}",
            "loss.SynthesisLoss.augmenter.Compose.augmenters[0]",
            "ProxySynthesis",
        ),
    ],
)
def test_a_wrong_name_is_told_with_file_place_and_the_right_one(written, changes, place, meant):
    with pytest.raises(SettingsError) as caught:
        load(written(changes))
    message = str(caught.value)
    assert message.startswith(f"{written(changes)}: {place}: unknown ")
    assert re.search(rf"did you mean (\w+ or )*{meant}\b", message), message


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("epoch=3", "command line: epoch: unknown setting: did you mean epochs?"),
        ("epochs", "command line: expected key=value but got 'epochs'."),
        ("epochs=many", "command line: epochs: .*'many'.*Integer"),
        ("model.trunk=ConvTrunk", "command line: model.trunk: .*"),
        ("loss.A={}", "command line: loss: unknown class 'A': known are .*ArcFaceLoss, .*"),
        ("loss.no.where.Loss.a=1", "command line: loss: expected one `ClassName: .* but got no"),
    ],
)
def test_what_is_wrong_on_the_command_line_is_told_as_such(written, override, message):
    with pytest.raises(SettingsError, match=message.replace("?", r"\?")):
        load(written(), [override])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ("loss: {ArcFaceLoss: {}, CosFaceLoss: {}}", "loss: expected one .*ArcFaceLoss, CosFace"),
        ("loss: {ArcFaceLoss: 3}", "loss.ArcFaceLoss: expected {keyword: value} but got 3"),
        ("loss: {no.where.Loss: {}}", "loss: 'no.where.Loss' is code of 'no'"),
        ("variants: {ps: {data: {root: x}}}", "variants.ps.data: variants differ in anything but"),
        ("variants: {a/b: {epochs: 3}}", "variants.a/b: expected a name of letters"),
        ("seeds: []", "seeds: at least one is needed"),
        ("seeds: [0, 3, 0]", "seeds: expected each seed once but got 0 more than once"),
        ("seeds: [-1]", r"seeds: expected non-negative integers but got \[-1\]"),
        ("parallel_runs: -1", "parallel_runs: expected at least 1 but got -1"),
        ("parallel_runs: 0", "parallel_runs: expected at least 1 but got 0"),
        ("embedding_size: 0", "embedding_size: expected at least 1 but got 0"),
        ("variants: [1]", r"variants: expected `name: value` but got \[1\]"),
        ("data: [1]", r"data: expected `name: value` but got \[1\]"),
        ("data: 3", "data: expected `name: value` but got 3"),
        ("model: {trunk: [1]}", r"model.trunk: expected `name: value` but got \[1\]"),
        ("optimizers: {trunk: [1]}", r"optimizers.trunk: expected `name: value` but got \[1\]"),
        ("transforms: {train: {a: 1}}", "transforms.train: expected a list but got {'a': 1}"),
        ("seeds: 2", "seeds: expected a list but got 2"),
        ("recall_at: 4", "recall_at: expected a list but got 4"),
        ("variants: {ps: {model: [1]}}", r"variants.ps.model: expected `name: value` but got \[1"),
        ("variants: {summary.md: {}}", "variants.summary.md: expected another name"),
        ("variants: {Curves.PNG: {}}", "variants.Curves.PNG: expected another name"),
        (f"variants: {{{300 * 'a'}: {{}}}}", "variants.a{20}...: expected a name of at most 200 b"),
        ("variants: {" + 101 * "\u00e9" + ": {}}", ".* at most 200 bytes, .* but got 202"),
        ('results: "a\\0b"', r"results: expected no NUL character in a path but got 'a\\x00b'"),
        ('name: "a\\0b"', "name: expected no NUL character in a path"),
        (f"name: {300 * 'a'}", "name: expected names of at most 255 bytes in a path"),
        (f"results: a/{300 * 'a'}/b", "results: expected names of at most 255 bytes in a path"),
        ("device: nonsense", "device: expected a device of torch, .* but got 'nonsense'"),
        ("device: ''", "device: expected a device of torch, .* but got ''"),
        ("seed: 3", "seed: give the list of seeds instead"),
        ("variants: {bare: {}}", "variants.bare.loss is needed"),
        ("data: {test: null}", "data: one of val and test is needed"),
        ("epochs: -1", "epochs: expected at least 0 but got -1"),
        ("evaluate_every: 0", "evaluate_every: expected at least 1 but got 0"),
        ("recall_at: [2, 0]", "recall_at: expected positive integers"),
        ("data: {gallery: {Glyphs: {}}, val: {Glyphs: {}}, test: null}", "data.gallery: test is"),
        ("data: {gallery: {Glyfs: {}}}", "data.gallery: .*did you mean Glyphs"),
        ("autocast_dtype: half", "autocast_dtype: .*half.*bfloat16, float16"),
        ("clip_gradient_value: 0", "clip_gradient_value: expected more than 0 but got 0"),
        ("schedulers: {by: step}", "schedulers.by: .*step.*iteration, epoch, plateau"),
        ("transforms: {train: [{RandomAfine: {}}]}", r"transforms.train\[0\]: .*RandomAffine"),
        ("variants: {ps: 3}", "variants"),
        ("variants: [1]", r"variants: expected `name: value` but got \[1\]"),
        ("variants: x", "variants: "),
        ("variants: '${loss}'", "variants: expected `name: {...}` but got"),
        ("variants: {summary.md: {}}", "variants.summary.md: expected another name"),
        ("loss: [1]", r"loss: expected `name: value` but got \[1\]"),
        ("loss: {ProxyNCALoss: {1: 2}}", "loss.ProxyNCALoss: unknown keyword 1"),
        ("embedding_size: 0", "embedding_size: expected at least 1 but got 0"),
        ("recall_at: [[1]]", "recall_at: expected positive integers"),
        ("seeds: '${epochs}'", "Invalid value"),
        ("results: '${nowhere}'", "results: Interpolation key 'nowhere' not found"),
        ("name: '${oc.env:NOBODY_SET_THIS}'", "name: .*NOBODY_SET_THIS"),
    ],
)
def test_other_errors_name_the_file_and_the_place(written, changes, message):
    with pytest.raises(SettingsError, match=r"letters\.yaml: " + message):
        load(written(changes))


def test_an_unknown_variant_is_told(written):
    with pytest.raises(SettingsError, match="unknown variant 'plane': did you mean plain?"):
        load(written(), variants=["ps", "plane"])


def test_some_variants_of_a_file_are_run_in_its_order(written, tmp_path):
    more = tmp_path / "more.yaml"
    more.write_text(f"extends: {written()}\nvariants: {{third: {{epochs: 0}}}}")
    runs = load(more, ["seeds=[1, 2]"], ["third", "plain"]).runs
    assert [(run.variant, run.seed) for run in runs] == [
        *[("plain", 1), ("third", 1)],
        *[("plain", 2), ("third", 2)],
    ]


def test_files_that_are_none(tmp_path):
    with pytest.raises(SettingsError, match=r"none\.yaml: cannot be read"):
        load(tmp_path / "none.yaml")
    for text, message in [
        ("a: [", "no valid YAML"),
        ("- a", "expected settings"),
        ("", "variants"),
    ]:
        path = tmp_path / "some.yaml"
        path.write_text(text)
        with pytest.raises(SettingsError, match=rf"some\.yaml: {message}"):
            load(path)


@pytest.mark.parametrize(
    "content",
    [
        "name: caf\u00e9".encode("latin-1"),
        "epochs: 3".encode("utf-16"),
        bytes(range(256)),
        b"\x89PNG\r\n\x1a\n\0\0",
        b"\0\0",
        b"name: ${",
        b"a: !!python/object/apply:os.system [ls]",
        b"a: " + 400 * b"{b: " + b"1" + 400 * b"}",
        b"null: 3",
        b"epochs: " + 5000 * b"9",
    ],
)
def test_files_that_hold_no_settings_are_named(content, tmp_path):
    path = tmp_path / "some.yaml"
    path.write_bytes(content)
    with pytest.raises(SettingsError, match=r"some\.yaml: no (text in UTF-8|valid)"):
        load(path)


@pytest.mark.parametrize(
    "override",
    [
        "seeds=[0,",
        "seeds=[0",
        "seeds={",
        "loss={ProxyNCALoss:",
        "name='",
        "seeds=[0]]",
        "name=${a",
        "epochs=" + 5000 * "9",
    ],
)
def test_what_is_not_closed_on_the_command_line_is_told(override, written):
    with pytest.raises(SettingsError) as caught:
        load(written(), ["epochs=2", override])
    message = f"command line: no valid YAML after the '=' of {override!r}: "
    assert str(caught.value).startswith(message)
    assert "Close brackets and quotes" in str(caught.value)


# ----------------------------------------------------------------------- objects


def test_optional_packages_are_imported_for_names_that_nothing_else_has(tmp_path, monkeypatch):
    package = tmp_path / "timm" / "models"
    package.mkdir(parents=True)
    (tmp_path / "timm" / "__init__.py").write_text("")
    (package / "__init__.py").write_text("class TinyNet:\n    pass\n")
    vision = tmp_path / "torchvision"
    vision.mkdir()
    (vision / "__init__.py").write_text("raise RuntimeError('not built for this torch')")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("timm", "timm.models", "torchvision"):
        # Set before it is deleted, so that it is undone where there was none, too.
        monkeypatch.setitem(sys.modules, name, None)
        monkeypatch.delitem(sys.modules, name)
    assert find("ProxyNCALoss") is losses.ProxyNCALoss
    assert "timm" not in sys.modules
    assert type(build({"TinyNet": {}})).__name__ == "TinyNet"
    with pytest.raises(SettingsError, match="unknown class 'HugeNet'"):
        find("HugeNet")


def test_what_a_constructor_says_is_told_with_the_place():
    wrong = {"SynthesisLoss": {"augmenter": {"ProxySynthesis": {"alpha": -1}}, "loss": None}}
    place = "loss.SynthesisLoss.augmenter.ProxySynthesis: Expected argument `alpha` .* -1"
    with pytest.raises(SettingsError, match=place):
        build(wrong, "loss")


def test_a_part_of_another_embedding_size_than_the_run_is_refused():
    model = {"LinearEmbedder": {"in_features": 8, "embedding_size": 16}}
    with pytest.raises(SettingsError, match=r"^model.embedder.*embedding_size: .* 64, .* got 16"):
        build(model, "model.embedder", embedding_size=64)
    assert build(model, "model.embedder", embedding_size=16).out_features == 16
    assert build(model).out_features == 16


def test_objects_hold_objects():
    loss = build(
        {
            "SynthesisLoss": {
                "loss": {
                    "ProxyAnchorLoss": {"margin": 0.2, "distance": {"CosineSimilarity": None}},
                },
                "augmenter": {
                    "Compose": {
                        "augmenters": [
                            {"ProxySynthesis": {"mu": 0.5}},
                            {"SphericalEmbeddingExpansion": {}},
                        ]
                    }
                },
            }
        },
        num_classes=5,
        embedding_size=8,
    )
    assert isinstance(loss, SynthesisLoss)
    assert isinstance(loss.loss, losses.ProxyAnchorLoss)
    assert loss.loss.proxies.shape == (5, 8)
    assert loss.loss.margin == 0.2
    assert isinstance(loss.loss.distance, distances.CosineSimilarity)
    assert isinstance(loss.augmenter, Compose)
    ps, see = loss.augmenter.augmenters
    assert isinstance(ps, ProxySynthesis) and ps.mu == 0.5
    assert isinstance(see, SphericalEmbeddingExpansion)


def test_a_regularizer_inside_a_loss_gets_what_the_runner_knows():
    schedule = {"CosineSchedule": {"start": 0.0, "end": 0.4}}
    see = {"SphericalEmbeddingExpansion": {"fraction": schedule}}
    loss = build(
        {
            "ProxyNCALoss": {
                "collect_stats": False,
                "embedding_regularizer": {"SynthesisRegularizer": {"augmenter": see}},
            }
        },
        num_classes=5,
        embedding_size=8,
        num_steps=30,
        collect_stats=True,
    )
    assert loss.proxies.shape == (5, 8)
    assert not loss.collect_stats, "what the settings say goes first"
    assert isinstance(loss.embedding_regularizer, SynthesisRegularizer)
    augmenter = loss.embedding_regularizer.augmenter
    assert augmenter.fraction.num_steps == 30
    assert augmenter.collect_stats


def test_anything_is_found_by_its_dotted_path():
    made = build({f"{__name__}.Doubled": {"factor": 3.0}}, embedding_size=8, num_classes=5)
    assert type(made).__name__ == "Doubled"
    assert (made.embedding_size, made.factor) == (8, 3.0)
    assert build({"fractions.Fraction": {"numerator": 1, "denominator": 2}}) == 0.5


@pytest.mark.parametrize(
    "name",
    [
        "benchmarks.models.ConvTrunk",
        "benchmarks.pretrained.TimmTrunk",
        "benchmarks.proxies.UnitProxies",
    ],
)
def test_dotted_paths_of_older_settings_files_are_found(name):
    assert find(name) is find(name.split(".")[-1])


def test_plain_values_stay():
    for value in (None, 3, "text", [1, 2], {"a": 1, "b": 2}, {"lower": 1}):
        assert build(value) == value


@pytest.mark.parametrize(
    "name",
    [
        *("ProxySynthesis", "CosineSchedule", "Glyphs", "ConvTrunk", "RandomAffine", "UnitProxies"),
        *("ArcFaceLoss", "TripletMarginMiner", "MPerClassSampler", "MeanReducer", "LpDistance"),
        *("LpRegularizer", "AdamW", "CosineAnnealingLR", "RandomSampler"),
    ],
)
def test_classes_are_found_by_name(name):
    assert find(name).__name__ == name


def test_keywords_are_those_of_the_base_classes_too():
    known, takes_any = keywords(losses.ProxyNCALoss)
    assert {"num_classes", "softmax_scale", "weight_init_func", "reducer", "distance"} <= known
    assert {"embedding_reg_weight", "collect_stats"} <= known
    assert not known & {"self", "kwargs"}
    assert not takes_any
    assert keywords(dict)[1]


@pytest.mark.parametrize("dim", [-1, 2, None])
def test_unit_proxies_lie_along_a_dimension_of_a_matrix(dim):
    with pytest.raises(ValueError, match=f"`dim` to be 0 or 1, but got {dim}"):
        build({"UnitProxies": {"dim": dim}})


# ------------------------------------------------------- settings that mean something else


def test_capitalised_keywords_are_changed_one_by_one():
    base = {"CosineAnnealingWarmRestarts": {"T_0": 5}}
    changed = merge(base, {"CosineAnnealingWarmRestarts": {"T_mult": 2}})
    assert changed == {"CosineAnnealingWarmRestarts": {"T_0": 5, "T_mult": 2}}
    tree = {"loss": {"SynthesisLoss": {"loss": {"ArcFaceLoss": {}}}}}
    changed = merge(tree, {"loss": {"SynthesisLoss": {"loss": {"CosFaceLoss": {}}}}})
    assert changed == {"loss": {"SynthesisLoss": {"loss": {"CosFaceLoss": {}}}}}


@pytest.mark.parametrize("text", ["2026_11_21", "010", "yes", "1e3", "2020-01-01", "1:30"])
def test_texts_of_the_command_line_stay_as_they_are_written(text, written):
    comparison = load(written(), [f"name={text}", f"data.root={text}", f"results={text}"])
    assert comparison.folder == Path(text, text)
    assert comparison.runs[0].data.root == text
    assert load(written(), ["data.root=null", 'name="a b"']).folder.name == "a b"


@pytest.mark.parametrize("reference", ["${seed}", "${...seed}", "${oc.decode:${seed}}"])
def test_no_setting_depends_on_the_seed(reference, written):
    path = written(f"loss: {{ProxyNCALoss: {{softmax_scale: '{reference}'}}}}")
    with pytest.raises(SettingsError, match=r"letters\.yaml: .*: refers to the seed, which no"):
        load(path, ["variants.own={}"])


def test_what_the_runner_knows_is_not_contradicted():
    for key, known in (("num_classes", 5), ("batch_size", 32)):
        described = {"MemVir": {key: known + 1, "num_steps": 2, "step_gap": 2}}
        if key == "num_classes":
            described = {"ProxyNCALoss": {key: known + 1, "embedding_size": 2}}
        with pytest.raises(
            SettingsError, match=rf"{key}: expected {known}, .* but got {known + 1}"
        ):
            build(described, "loss", **{key: known})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ("seeds: [[1]]", r"seeds: expected a list of integers but got \[\[1\]\]"),
        ("transforms: ${data}", "Data is not a subclass of Transforms"),
        ("model: '${oc.create:[1]}'", "list is not a subclass of Model"),
        (r"model: {trunk: {ConvTrunk: {in_channels: '\${a}'}}}", "ConvTrunk.in_channels: .*'[$]{'"),
        (r"model: {trunk: {ConvTrunk: {in_channels: '\${'}}}", "ConvTrunk.in_channels: .*'[$]{'"),
        (f"model: {{trunk: {{ConvTrunk: {{in_channels: 0x{'f' * 5000}}}}}}}", r"below 2\*\*64"),
    ],
)
def test_values_that_nobody_can_use_are_told_with_their_place(changes, message, tmp_path):
    path = tmp_path / "letters.yaml"
    key = changes.split(":")[0]
    kept = {k: v for k, v in yaml.safe_load(SETTINGS).items() if k != key}
    path.write_text(f"{yaml.safe_dump(kept)}\n{changes}\n")
    with pytest.raises(SettingsError, match=rf"letters\.yaml: .*{message}"):
        load(path)


@pytest.mark.parametrize(
    "content", ["epochs: !!bool maybe", "name: !!timestamp x", "5", f"name: {'[' * 100_000}"]
)
def test_yaml_that_nobody_can_read_is_told_with_the_file(content, tmp_path):
    path = tmp_path / "letters.yaml"
    path.write_text(content)
    with pytest.raises(SettingsError, match=rf"^{path}: (no valid|expected) settings"):
        load(path)


def test_settings_of_the_command_line_are_not_nested_without_end(written):
    for override in (f"loss.{'a.' * 80}b=1", f"loss={{ProxyNCALoss: {{a: {'[' * 80}{']' * 80}}}}}"):
        with pytest.raises(SettingsError, match="command line: .* more than 40 levels deep"):
            load(written(), [override])


def test_a_message_does_not_list_hundreds_of_names():
    with pytest.raises(SettingsError, match=r"unknown class 'Zqzqzq': known are .* and \d+ more\."):
        find("Zqzqzq")


@pytest.mark.parametrize("place", ["autocast", "data.allow_overlap", "variants.ps.autocast"])
def test_numbers_are_no_truth_values(place, written):
    with pytest.raises(SettingsError, match=rf"line: {place}: expected true or false but got 2"):
        load(written(), [f"{place}=2"])
