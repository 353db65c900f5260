"""Every target by name; a module is imported when one of its targets is asked for."""

from __future__ import annotations

from importlib import import_module

from tests.fuzz.harness import Target

MODULES: dict[str, tuple[str, ...]] = {
    "documents": ("messages", "terms", "manifest", "audit", "published", "provable", "receipts"),
    "arrays": ("arrays", "proposal", "basis", "opening", "sealed-opening"),
    "circuits": ("claim", "snark", "circuit", "srs"),
    "chain": ("returns", "reverts", "logs", "chain-audit", "transactions"),
    "network": ("manifest-address", "requests", "replies"),
    "storage": ("saved-records", "saved-arrays", "settings", "keystore", "recording-info"),
}
NAMES = tuple(name for names in MODULES.values() for name in names)
BROKEN = "broken"


def load(name: str) -> Target:
    """Return the target `name`.

    Raises:
        KeyError: there is none.
    """
    homes = {target: module for module, targets in MODULES.items() for target in targets}
    module = (homes | {BROKEN: "broken"})[name]
    targets: list[Target] = import_module(f"{__name__}.{module}").TARGETS
    return next(target for target in targets if target.name == name)
