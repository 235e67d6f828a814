"""What is public, by the names in `__all__`, and that an augmenter has all that belongs to it."""

import importlib
import pkgutil
import re
from pathlib import Path

import pytest
import yaml

import pml_synthesis
from docs.extensions.augmenters import method_name, source_of
from pml_synthesis import BaseAugmenter, augmenters
from reference import PUBLIC_AUGMENTERS, module_name, reference_of

ROOT = Path(__file__).parents[1]
each_augmenter = pytest.mark.parametrize("augmenter", PUBLIC_AUGMENTERS)


def test_public_names_have_a_docstring():
    assert len(set(pml_synthesis.__all__)) == len(pml_synthesis.__all__)
    for name in pml_synthesis.__all__:
        assert getattr(pml_synthesis, name).__doc__
    assert pml_synthesis.schedules.CosineSchedule


def test_what_the_pages_describe_is_public_and_nothing_else():
    pages = "\n".join(page.read_text() for page in (ROOT / "docs").rglob("*.md"))
    described = re.findall(r"^::: pml_synthesis\.(\w+)$", pages, flags=re.MULTILINE)
    assert sorted(described) == sorted(pml_synthesis.__all__)


def test_every_augmenter_is_public():
    for module in pkgutil.iter_modules(augmenters.__path__, f"{augmenters.__name__}."):
        for name, value in vars(importlib.import_module(module.name)).items():
            if isinstance(value, type) and issubclass(value, BaseAugmenter):
                assert name in augmenters.__all__ and name in pml_synthesis.__all__


@each_augmenter
def test_a_module_is_named_after_its_augmenter(augmenter):
    words = re.findall(r"[A-Z][a-z]*", augmenter.__name__)
    assert module_name(augmenter).replace("_", "") == "".join(words).lower()


@each_augmenter
def test_an_augmenter_has_a_reference_with_examples_and_a_test(augmenter):
    reference = reference_of(augmenter)
    assert reference.EXAMPLES and callable(reference.synthesize)
    test = ROOT / "tests" / "augmenters" / f"test_{module_name(augmenter)}.py"
    assert augmenter.__name__ in test.read_text()


@each_augmenter
def test_an_augmenter_has_a_page(augmenter):
    name = augmenter.__name__
    page = (ROOT / "docs" / "augmenters" / f"{module_name(augmenter)}.md").read_text()
    assert page.startswith(f"# {method_name(augmenter)}\n\n<!-- table: {name} -->\n")
    assert f"::: pml_synthesis.{name}\n" in page


@each_augmenter
def test_the_paper_of_an_augmenter_can_be_cited_and_the_changelog_names_it(augmenter):
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())["references"]
    title = " ".join(source_of(augmenter)["title"].split())
    assert any(title in reference["title"] for reference in cited)
    assert f"`{augmenter.__name__}`" in (ROOT / "CHANGELOG.md").read_text()
