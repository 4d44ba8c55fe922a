"""A whole overlay on one Linux machine, made as Docker's overlay driver makes it.

The only folder that touches the kernel. Planners (topology, underlay, overlay, gateway, impair) are pure and make steps; kernel performs them;
leader and supervisor keep a lab alive in namespaces of its own; registry knows which labs there are.
"""
