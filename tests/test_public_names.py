import pml_synthesis
from cases import AUGMENTERS, PUBLIC_AUGMENTERS


def test_public_names():
    assert sorted(pml_synthesis.__all__) == [
        "BaseAugmenter",
        "Compose",
        "ProxySynthesis",
        "RealBatch",
        "SphericalEmbeddingExpansion",
        "SymmetricalSynthesis",
        "SynthesisLoss",
        "SynthesisRegularizer",
        "SyntheticBatch",
        "register_proxies",
    ]
    for name in pml_synthesis.__all__:
        assert getattr(pml_synthesis, name).__doc__
    assert pml_synthesis.schedules.CosineSchedule


def test_the_hooks_are_tested_with_every_augmenter():
    assert {type(make()) for make in AUGMENTERS.values()} == set(PUBLIC_AUGMENTERS)
