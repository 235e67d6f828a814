import pml_synthesis


def test_public_names():
    assert sorted(pml_synthesis.__all__) == [
        "BaseAugmenter",
        "Compose",
        "ProxySynthesis",
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
