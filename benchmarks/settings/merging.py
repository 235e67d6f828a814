"""How settings change others, and what is an object among them."""

from typing import Any

Tree = dict[str, Any]
# What holds settings under names that users choose, or under settings with dots.
NAMED = {"variants", "ranges"}


def is_object(value: Any) -> bool:
    """Tell `ClassName: {...}` from a plain mapping: one key, capitalised or a dotted path."""
    if not isinstance(value, dict) or len(value) != 1:
        return False
    (name,) = value
    return isinstance(name, str) and (name[:1].isupper() or "." in name)


def merge(base: Any, changes: Any) -> Any:
    """Change a tree of settings: mappings key by key, but an object of another class as a whole.

    Example:
        >>> base = {"seed": 1, "loss": {"ArcFaceLoss": {"margin": 20}}}
        >>> merge(base, {"loss": {"ArcFaceLoss": {"scale": 9}}})
        {'seed': 1, 'loss': {'ArcFaceLoss': {'margin': 20, 'scale': 9}}}
        >>> merge(base, {"loss": {"CosFaceLoss": {}}})
        {'seed': 1, 'loss': {'CosFaceLoss': {}}}
    """
    if not (isinstance(base, dict) and isinstance(changes, dict)):
        return changes
    if is_object(base) and is_object(changes):
        if base.keys() != changes.keys():
            return changes
        # A keyword may be capitalised, such as T_0, and is no class.
        return {name: _merge_named(base[name], changes[name]) for name in base}
    merged = {key: merge(base.get(key), value) for key, value in changes.items()}
    for key in NAMED & changes.keys():
        merged[key] = _merge_named(base.get(key), changes[key])
    return base | merged


def _merge_named(base: Any, changes: Any) -> Any:
    """Change what stands under names that users choose, which may look like those of classes."""
    if not (isinstance(base, dict) and isinstance(changes, dict)):
        return changes
    return base | {name: merge(base.get(name), value) for name, value in changes.items()}
