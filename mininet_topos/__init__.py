"""Underlays for labs, as Mininet `Topo` classes. Each file stands alone: `vxtool lab up NAME` and `mn --custom FILE --topo NAME` both run it."""
