"""Readers of expectations: what Docker, kubectl or a person says a cluster should be, as a model.Cluster.

load(["steady@1795310940", "scaled@1795311031"])    -> Timeline, for `--expect` arguments
load_cluster("steady/")                             -> Cluster, of files, folders and "-" together
parse_text(text)                                    -> Cluster, of a text in memory
to_yaml(cluster)                                    -> vxtool-expect@1, which the above read back
draft(batches)                                      -> Cluster, guessed from a capture, for a person to correct

Reading needs no NumPy; `draft` does, and loads it when it is first asked for.
"""

from typing import TYPE_CHECKING, Any

from .handwritten import SCHEMA, to_tree, to_yaml
from .load import Spec, load, load_cluster, parse_spec, parse_text

if TYPE_CHECKING:
    from .drafting import draft as draft

__all__ = ["SCHEMA", "Spec", "draft", "load", "load_cluster", "parse_spec", "parse_text", "to_tree", "to_yaml"]


def __getattr__(name: str) -> Any:
    if name == "draft":
        from .drafting import draft

        return draft
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
