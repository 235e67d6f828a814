"""Settings as they are written: in YAML files, and as `a.b=c` on the command line."""

import json
import os
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import is_dataclass
from io import StringIO
from pathlib import Path
from typing import Any, get_type_hints

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from benchmarks.errors import SettingsError, expect, nearest
from benchmarks.settings.checking import check_file
from benchmarks.settings.merging import Tree, merge
from benchmarks.settings.schema import File

COMMAND_LINE = "command line"
DEEPEST = 40  # Deeper nesting ends in a RecursionError, or kills the process.
# What reading YAML raises: a number of thousands of digits, a date that is none and bytes that are
# no text end in a ValueError, values that are not of their tag in others.
UNREADABLE = (
    *(YAMLError, OmegaConfBaseException, RecursionError),
    *(ValueError, KeyError, AttributeError, TypeError),
)


def read(path: Path, imports: Collection[str] = ()) -> Tree:
    """Return the settings of a YAML file, on top of those of the files that it extends.

    Arguments:
        path: of the file.
        imports: packages that the files may name, beside the libraries.

    Raises:
        SettingsError: if a file cannot be read, extends itself, or holds a wrong name or value,
            or one that is not permitted.
    """
    if "\0" in str(path):
        raise SettingsError(f"{str(path)!r}: no path of a file has a NUL character in it.")
    return _with_bases(path, imports, (), {})


def _with_bases(
    path: Path, imports: Collection[str], extending: tuple[str, ...], known: dict[str, Tree]
) -> Tree:
    """Return the settings of a file that others extend, in turn, with what is known of files."""
    place = os.path.realpath(path)
    if place in known:
        return known[place]
    own = _read(path)
    bases = _bases(own, path)
    check_file(own, str(path), imports)
    chain = (*extending, place)
    settings: Tree = {}
    for base in bases:
        if not os.path.isfile(base):
            raise SettingsError(
                f"{path}: extends: there is no file {base}. Give its path relative to the folder "
                f"of {path.name}."
            )
        if os.path.realpath(base) in chain:
            names = " extends ".join(os.path.basename(file) for file in (*chain, base))
            raise SettingsError(f"{path}: extends: a file cannot extend itself, but {names}.")
        settings = merge(settings, _with_bases(base, imports, chain, known))
    known[place] = changed(settings, own, str(path))
    return known[place]


def changed(settings: Tree, changes: Tree, source: str) -> Tree:
    """Return settings with changes on top of them; a variant that becomes null is left out.

    Raises:
        SettingsError: if there is no variant of that name.
    """
    merged = merge(settings, changes)
    known = settings.get("variants", {})
    variants = merged.get("variants", {})
    left_out = {name for name, variant in variants.items() if variant is None}
    for name in sorted(left_out - known.keys()):
        raise SettingsError(
            f"{source}: variants.{name}: no variant of this name to leave out: "
            f"{nearest(name, known)}"
        )
    kept = {name: variant for name, variant in variants.items() if name not in left_out}
    return merged | {"variants": kept}


def parse(overrides: Sequence[str], imports: Collection[str] = ()) -> Tree:
    """Return the settings of `a.b=c`."""
    overrides = [_as_text(override) for override in overrides]
    for override in overrides:
        expect("=" in override, COMMAND_LINE, "key=value", override)
        key, _, value = override.partition("=")
        try:
            _check_depth(value, above=key.count(".") + key.count("["))
            OmegaConf.to_container(OmegaConf.from_dotlist([override]))
        except UNREADABLE as error:
            raise SettingsError(
                f"{COMMAND_LINE}: no valid YAML after the '=' of {override!r}: {_brief(error)}. "
                "Close brackets and quotes, and quote what the shell would split: 'seeds=[0, 1]'."
            ) from error
    tree: Any = OmegaConf.to_container(OmegaConf.from_dotlist(list(overrides)))
    if "extends" in tree:
        raise SettingsError(f"{COMMAND_LINE}: extends: only a file can extend others.")
    check_file(tree, COMMAND_LINE, imports)
    return tree


def _as_text(override: str) -> str:
    """Keep what would become a number, a date or a truth value where a text is expected."""
    key, _, value = override.partition("=")
    with suppress(*UNREADABLE):
        parsed = OmegaConf.to_container(OmegaConf.from_dotlist([f"value={value}"]))["value"]
        if _takes_text(key) and not isinstance(parsed, str | list | dict | None):
            return f"{key}={json.dumps(value.strip())}"
    return override


def _takes_text(key: str) -> bool:
    hint: Any = File
    for part in key.split("."):
        hint = get_type_hints(hint).get(part) if is_dataclass(hint) else None
    return hint in (str, str | None)


def _read(path: Path) -> Tree:
    try:
        text = path.read_text(encoding="utf-8-sig")
        _check_depth(text)
        tree: Any = OmegaConf.to_container(OmegaConf.load(StringIO(text)))
    except OSError as error:
        # OmegaConf raises one without a number for a file that holds nothing but a value.
        reason = error.strerror and f"cannot be read: {error.strerror}"
        raise SettingsError(f"{path}: {reason or 'expected settings, `key: value`'}.") from error
    except UnicodeError as error:
        raise SettingsError(
            f"{path}: no text in UTF-8, but settings are: {error}. Save it as UTF-8, or give "
            "another file."
        ) from error
    except YAMLError as error:
        raise SettingsError(f"{path}: no valid YAML: {error}") from error
    except UNREADABLE as error:
        raise SettingsError(f"{path}: no valid settings: {_brief(error)}.") from error
    expect(isinstance(tree, dict), str(path), "settings, `key: value`,", tree)
    return tree


def _check_depth(text: str, above: int = 0) -> None:
    """Raise a ValueError for YAML whose nesting is too deep to be read."""
    depth = above
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise ValueError(f"it is nested more than {DEEPEST} levels deep")


def _brief(error: Exception) -> str:
    return str(error).splitlines()[0].rstrip(".")


def _bases(settings: Tree, path: Path) -> list[Path]:
    """The files that a file extends, which its own settings do not name any more."""
    given = settings.pop("extends", [])
    names = given if isinstance(given, list) else [given]
    are_paths = all(isinstance(name, str) for name in names)
    expect(are_paths, f"{path}: extends", "a settings file, or a list of them,", given)
    return [path.parent / name for name in names]
