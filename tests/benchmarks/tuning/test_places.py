"""Which settings names mean."""

from benchmarks.settings.merging import merge
from benchmarks.tuning.places import change_at, places

SETTINGS = {
    "variant": "plain+ps",
    "data": {"root": "here"},
    "epochs": 3,
    "optimizers": {"trunk": {"AdamW": {"lr": 0.1}}, "metric_loss": {"AdamW": {"lr": 0.2}}},
    "transforms": {"train": [{"RandomAffine": {"degrees": 10}}]},
    "loss": {
        "SynthesisLoss": {
            "loss": {"ProxyAnchorLoss": {"alpha": 8}},
            "augmenter": {"ProxySynthesis": {"alpha": 0.4}},
        }
    },
}


def found(name):
    return {place.name: place.value for place in places(SETTINGS) if place.is_called(name)}


def test_a_name_is_the_end_of_a_path_with_or_without_classes():
    assert found("optimizers.metric_loss.lr") == {"optimizers.metric_loss.AdamW.lr": 0.2}
    of_loss = {"loss.SynthesisLoss.loss.ProxyAnchorLoss.alpha": 8}
    for name in ("loss.alpha", "loss.loss.alpha", "ProxyAnchorLoss.alpha", *of_loss):
        assert found(name) == of_loss
    assert found("augmenter.alpha") == {"loss.SynthesisLoss.augmenter.ProxySynthesis.alpha": 0.4}
    assert len(found("alpha")) == 2 and len(found("lr")) == 2
    assert not found("pha") and not found("s.lr")


def test_what_settings_leave_out_has_the_default_of_its_class():
    assert found("loss.margin") == {"loss.SynthesisLoss.loss.ProxyAnchorLoss.margin": 0.1}
    assert found("augmenter.mu") == {"loss.SynthesisLoss.augmenter.ProxySynthesis.mu": 1.0}
    # PML hands it on to a base class.
    assert len(found("loss.embedding_reg_weight")) == 1


def test_what_variants_share_is_no_place():
    assert not found("data.root") and not found("variant") and not found("epochs")


def test_changes_set_one_setting_of_an_object_or_a_list():
    for path in (
        ("optimizers", "trunk", "AdamW", "lr"),
        ("optimizers", "trunk", "AdamW", "weight_decay"),
        ("transforms", "train", 0, "RandomAffine", "degrees"),
    ):
        name = ".".join(map(str, path))
        changed = merge(SETTINGS, change_at(SETTINGS, path, "new"))
        (place,) = (place for place in places(changed) if place.name == name)
        assert place.value == "new"
        others = {p.name: p.value for p in places(changed) if not p.name.startswith(name)}
        before = {p.name: p.value for p in places(SETTINGS) if not p.name.startswith(name)}
        lists = {"transforms.train"} if name.startswith("transforms.train.") else set()
        assert {k: v for k, v in others.items() if k not in lists} == {
            k: v for k, v in before.items() if k not in lists
        }


def test_a_file_that_extends_another_adds_to_its_ranges():
    # One name with a dot looks like a class in a mapping.
    one, other = ({"tune": {"ranges": {name: {"Float": {"low": 1}}}}} for name in ("a.b", "a.c"))
    assert merge(one, other)["tune"]["ranges"].keys() == {"a.b", "a.c"}
