"""What is searched in each variant."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from typing import Any

from omegaconf import OmegaConf

from benchmarks.errors import SettingsError, expect, nearest
from benchmarks.settings.merging import Tree, merge
from benchmarks.settings.reading import Comparison
from benchmarks.settings.schema import Run, Tune, TunedVariant
from benchmarks.tuning.places import Place, change_at, places
from benchmarks.tuning.ranges import Range, Scalar, parse

Values = Mapping[str, Scalar]


@dataclass(frozen=True)
class Dimension:
    """A setting that is searched, under its name in the settings file."""

    name: str
    range: Range
    place: Place


@dataclass(frozen=True)
class Space:
    """What is searched in a variant.

    Arguments:
        run: the variant as it is given, without test classes.
        dimensions: what is searched; nothing of a variant that none of the ranges is about.
    """

    run: Run
    dimensions: tuple[Dimension, ...]

    @property
    def given(self) -> dict[str, Scalar]:
        """The values of the variant as it is given."""
        return {dimension.name: dimension.place.value for dimension in self.dimensions}

    @cached_property
    def settings(self) -> Tree:
        """The settings of the variant as it is given."""
        return _tree(self.run)

    def change(self, values: Values) -> Tree:
        """Return how a run with other values differs from the variant as it is given."""
        settings, changes = self.settings, {}
        for dimension in self.dimensions:
            if values[dimension.name] != dimension.place.value:
                change = change_at(settings, dimension.place.path, values[dimension.name])
                # A change of a list holds all of it, so each is made on top of those before.
                settings, changes = merge(settings, change), merge(changes, change)
        return changes

    def run_with(self, values: Values, seed: int) -> Run:
        """Return the run of these values."""
        tree = merge(self.settings, self.change(values))
        run: Any = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Run), tree))
        return replace(run, seed=seed)


def spaces_of(comparison: Comparison) -> dict[str, Space]:
    """Return what is searched in each variant of a settings file.

    Raises:
        SettingsError: if there is nothing to search, a range is wrong or does not hold what the
            variant has, or a name means no setting of any variant or several of one.
    """
    tune, source = _checked(comparison), comparison.source
    path = f"{source}: tune.ranges"
    shared = _parsed(tune.ranges, path)
    known = {run.variant: _known(run) for run in comparison.variants}
    _check_known(shared, chain.from_iterable(known.values()), path)
    spaces = {}
    for run in comparison.variants:
        own = (tune.variants.get(run.variant) or TunedVariant()).ranges
        path = f"{source}: tune.variants.{run.variant}.ranges"
        ranges = _parsed(own, path)
        _check_known(ranges, known[run.variant], path)
        where = f"{source}: tune: variant {run.variant}"
        dimensions = _dimensions(shared | ranges, known[run.variant], where)
        spaces[run.variant] = Space(_without_test(run), dimensions)
    if not any(space.dimensions for space in spaces.values()):
        raise SettingsError(f"{source}: tune.ranges: at least one is needed.")
    return spaces


def _checked(comparison: Comparison) -> Tune:
    source, tune = comparison.source, comparison.tune
    if tune is None:
        raise SettingsError(
            f"{source}: tune: the file does not say what to search. Add ranges, such as `tune: "
            "{ranges: {loss.temperature: {Float: {low: 0.02, high: 0.5, log: true}}}}`."
        )
    for key, low in (("trials", 1), ("repeats", 0), ("search_seed", 0)):
        got = getattr(tune, key)
        expect(got >= low, f"{source}: tune.{key}", f"at least {low}", got)
    seeds = tune.seeds
    counted = [seed for seed in seeds if isinstance(seed, int) and seed >= 0]
    valid = seeds and len(set(counted)) == len(seeds)
    expect(valid, f"{source}: tune.seeds", "different non-negative integers", seeds)
    if comparison.variants[0].data.val is None:
        raise SettingsError(f"{source}: data.val: tuning chooses on validation classes: give some.")
    known = [run.variant for run in comparison.variants]
    for name in {name for name, own in tune.variants.items() if own} - set(known):
        raise SettingsError(
            f"{source}: tune.variants.{name}: no variant of this name: {nearest(name, known)}"
        )
    return tune


def _parsed(ranges: Tree, path: str) -> dict[str, Range | None]:
    return {
        name: None if described is None else parse(described, f"{path}.{name}")
        for name, described in ranges.items()
    }


def _without_test(run: Run) -> Run:
    return replace(run, data=replace(run.data, test=None, gallery=None))


def _known(run: Run) -> list[Place]:
    """What a variant has to search: nothing where it is not trained."""
    return places(_tree(run)) if run.epochs else []


def _tree(run: Run) -> Tree:
    tree: Any = OmegaConf.to_container(OmegaConf.structured(run), enum_to_str=True)
    return tree


def _dimensions(
    ranges: Mapping[str, Range | None], known: list[Place], where: str
) -> tuple[Dimension, ...]:
    dimensions: dict[str, Dimension] = {}
    for name, searched in ranges.items():
        found = [place for place in known if place.is_called(name)]
        if searched is None or not found:
            continue
        (place, *more) = found
        if more:
            several = ", ".join(place.name for place in found)
            raise SettingsError(f"{where}: {name} may be {several}: write more of its path.")
        _check_given(place, searched, f"{where}: {name}")
        if place.name in dimensions:
            both = f"{dimensions[place.name].name} and {name}"
            raise SettingsError(f"{where}: {both} mean one setting, {place.name}: keep one.")
        dimensions[place.name] = Dimension(name, searched, place)
    return tuple(dimensions.values())


def _check_given(place: Place, searched: Range, where: str) -> None:
    """Raise a SettingsError unless what is given is in the range: it is the first trial."""
    if place.value not in searched:
        got = repr(place.value) if isinstance(place.value, Scalar) else "nothing of that kind"
        raise SettingsError(
            f"{where} is {got}, which is not in {searched}. The first trial is the variant as it "
            f"is given: widen the range, or set {place.name} to a value in it."
        )


def _check_known(ranges: Iterable[str], known: Iterable[Place], path: str) -> None:
    """Raise a SettingsError for a name that means no setting."""
    known = list(known)
    for name in ranges:
        if not any(place.is_called(name) for place in known):
            meant = nearest(name, {place.short_name for place in known})
            raise SettingsError(f"{path}.{name}: no variant has such a setting: {meant}")
