"""Every Python block of README and docs runs, and every docstring example gives what it says."""

import doctest
import importlib
import pkgutil
import re
import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml

import benchmarks
import pml_synthesis
from docs.extensions import losses_page, navigation, results, studies, tables
from pml_synthesis import functional, losses, visualize
from pml_synthesis.schedules import CosineSchedule

ROOT = Path(__file__).parents[1]
CONSTRAINTS = ROOT / "constraints.txt"
MAKE_LOSSES_PAGE = "make it again: python -m docs.extensions.losses_page"
MATPLOTLIB = re.compile(r"Matplotlib v[\d.]+")
PLACE = re.compile(r'(?:x|y)="(-?[\d.]+)"')
SITE = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
SITE_PAGES = sorted((ROOT / "docs").rglob("*.md"))
PAGES = [ROOT / "README.md", *SITE_PAGES]
MODULES = [
    module.name
    for package in (pml_synthesis, benchmarks)
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    if not module.name.endswith("__main__")
]
PUBLIC = {"CosineSchedule": CosineSchedule} | {
    name: getattr(module, name)
    for module in (pml_synthesis, functional, losses, visualize)
    for name in module.__all__
    if callable(getattr(module, name))
}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_code_blocks_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    exec("\n".join(blocks), {})


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name):
    module = importlib.import_module(name)
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize("public", PUBLIC.values(), ids=PUBLIC)
def test_public_docstrings_have_an_example(public):
    assert ">>>" in public.__doc__


def test_links_between_pages_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def pages_in(navigation):
    """The pages of a part of the navigation: `path`, `{title: path}` or `{title: [...]}`."""
    if isinstance(navigation, str):
        return {navigation}
    entries = navigation.values() if isinstance(navigation, dict) else navigation
    return set().union(*map(pages_in, entries))


def test_every_page_is_in_the_navigation():
    """But for the runner's own, which the page of results links."""
    pages = {str(page.relative_to(ROOT / "docs")) for page in SITE_PAGES}
    filled = navigation.filled(SITE["nav"], ROOT / "docs")
    assert pages_in(filled) == {page for page in pages if not page.startswith("results/")}


def test_a_new_page_is_found_and_a_page_that_is_named_keeps_its_place():
    filled = navigation.filled(["augmenters/*.md", "augmenters/index.md"], ROOT / "docs")
    assert filled[-1] == "augmenters/index.md" and len(set(filled)) == len(filled) > 2
    assert filled[:-1] == sorted(filled[:-1])


@pytest.mark.parametrize("word", ["TripletMarginLoss", "DDP", "AMP", "export", "model"])
def test_the_search_finds_what_users_type(word):
    """Words as the search of the site splits them; it leaves the pages of single studies out."""
    separator = SITE["plugins"][0]["search"]["separator"]
    pages = [page for page in SITE_PAGES if "results" not in page.parts]
    assert any(word in re.split(separator, page.read_text()) for page in pages)


def test_single_studies_are_left_out_of_the_search_and_lead_to_the_page_of_all():
    text = "# title\n\ntext"
    page = SimpleNamespace(file=SimpleNamespace(src_uri="results/one/summary.md"), meta={})
    assert results.on_page_markdown(text, page=page) == f"# title\n\n{results.WAY_BACK}\n\ntext"
    assert page.meta == {"search": {"exclude": True}}
    page = SimpleNamespace(file=SimpleNamespace(src_uri="index.md"), meta={})
    assert results.on_page_markdown(text, page=page) == text
    assert page.meta == {}


def test_the_site_works_without_a_network():
    assert "offline" in SITE["plugins"] and SITE["theme"]["font"] is False
    # A name with "iframe-worker" keeps the plugin from naming a script of the network.
    (script,) = SITE["extra"]["polyfills"]
    assert "iframe-worker" in script and (ROOT / "docs" / script).exists()


def test_a_formula_of_its_own_scrolls_where_the_page_is_narrow():
    markdown = pytest.importorskip("markdown")
    mathml = pytest.importorskip("docs.extensions.mathml", exc_type=ImportError)
    html = markdown.markdown("$$x$$ and $y$", extensions=[mathml.Formulas()])
    assert html.count('<span class="formula"><math') == 1 and html.count("<math") == 2


def test_references_in_docstrings_are_links():
    docstrings = pytest.importorskip("docs.extensions.docstrings", exc_type=ImportError)
    for role in ("attr", "class", "func", "meth"):
        assert docstrings.in_markdown(f"see :{role}:`~a.b`") == "see [`b`][a.b]"


@pytest.mark.filterwarnings("ignore")
def test_the_page_of_losses_has_each_reason_once_for_all_losses():
    reasons = re.findall(r"^\d+\. (.*)$", losses_page.PATH.read_text(), re.MULTILINE)
    names = "|".join(map(re.escape, losses_page.LOSSES))
    general = {re.sub(rf"^(.*?)\b({names})\b", r"\1the loss", reason) for reason in reasons}
    assert len(general) == len(reasons)


def test_every_public_name_has_its_place():
    text = "\n".join(page.read_text() for page in SITE_PAGES)
    documented = set(re.findall(r"^::: pml_synthesis\S*\.(\w+)$", text, flags=re.MULTILINE))
    assert PUBLIC.keys() <= documented


@pytest.mark.parametrize("seed", [0, 1])
def test_pictures_are_drawn_by_their_script(tmp_path, seed):
    script = ROOT / "docs" / "pictures" / "methods.py"
    torch.manual_seed(seed)
    runpy.run_path(str(script))["main"](tmp_path)
    committed = {path.name: path.read_text() for path in script.parent.glob("*.svg")}
    drawn = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert drawn.keys() == committed.keys()
    for name, text in drawn.items():
        # Other versions of matplotlib place things otherwise.
        if MATPLOTLIB.search(text)[0] in committed[name]:
            places = [sorted(map(float, PLACE.findall(one))) for one in (text, committed[name])]
            assert places[0] == pytest.approx(places[1], abs=0.01), name


@pytest.mark.parametrize("page", tables.PAGES, ids=lambda page: page.name)
def test_tables_of_figures_are_those_of_the_results(page):
    text = page.read_text()
    assert text.count("<!-- table: ") == len(tables.TABLE.findall(text))
    assert tables.fill(text) == text, "make them again: python -m docs.extensions.tables"


@pytest.mark.parametrize("page", studies.PAGES, ids=lambda page: page.parent.name)
def test_tables_of_studies_are_those_of_their_figures(page):
    text = page.read_text()
    assert len(studies.TABLE.findall(text)) == 1
    assert studies.fill(page) == text, "make them again: python -m docs.extensions.studies"


@pytest.mark.parametrize(
    "name",
    ["README.md", "docs/gains.md", "docs/earlier_studies.md", "docs/choosing.md", "docs/index.md"],
)
def test_figures_in_the_text_are_those_of_the_results(name):
    text = tables.TABLE.sub("", (ROOT / name).read_text())
    differences = re.findall(r"-?\d+\.\d ± \d+\.\d", text)
    means = re.findall(r"(?<!\d)[2-9]\d\.\d(?! ±)", text)
    assert {*differences, *means} <= tables.figures()


@pytest.mark.filterwarnings("ignore")
def test_the_page_of_losses_says_which_are_supported_and_what_goes_wrong():
    """What goes wrong depends on torch, and the page says it of that of the project."""
    text = losses_page.PATH.read_text()
    (developed_with,) = re.findall(r"^torch==(\d+\.\d+\.)", CONSTRAINTS.read_text(), re.MULTILINE)
    if torch.__version__.startswith(developed_with):
        assert losses_page.page() == text, MAKE_LOSSES_PAGE
    else:
        assert losses_page.supported() in text, MAKE_LOSSES_PAGE
