"""Settings as they are written: in YAML files, and as `a.b=c` on the command line."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from yaml import YAMLError

from benchmarks.errors import SettingsError
from benchmarks.settings.merging import Tree

COMMAND_LINE = "command line"


def read(path: Path) -> Tree:
    """Return the settings of a YAML file."""
    try:
        tree: Any = OmegaConf.to_container(OmegaConf.load(path))
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}.") from error
    except YAMLError as error:
        raise SettingsError(f"{path}: no valid YAML: {error}") from error
    if not isinstance(tree, dict):
        raise SettingsError(f"{path}: expected settings, `key: value`, but got {tree!r}.")
    return tree


def parse(overrides: Sequence[str]) -> Tree:
    """Return the settings of `a.b=c`."""
    for override in overrides:
        if "=" not in override:
            raise SettingsError(f"{COMMAND_LINE}: expected key=value but got {override!r}.")
    tree: Any = OmegaConf.to_container(OmegaConf.from_dotlist(list(overrides)))
    return tree
