"""The families of checks, in the order of the reports. Importing a family enters its checks into check.CHECKS."""

from __future__ import annotations

from importlib import import_module

__all__ = ["FAMILIES", "load_all"]

FAMILIES = ("encapsulation", "segments", "reach", "mesh", "names", "vantages")


def load_all() -> None:
    for family in FAMILIES:
        import_module(f"vxtool.verify.{family}")
