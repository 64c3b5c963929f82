"""Declarative model surgery: trace a network, rewrite it by rules, certify the result, and measure it.

Names and subpackages are imported when they are first used, so that `import surgery` needs neither torch nor time.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from surgery import attack as attack
    from surgery import data as data
    from surgery import graph as graph
    from surgery import hierarchy as hierarchy
    from surgery import linear as linear
    from surgery import models as models
    from surgery import plot as plot
    from surgery import recipe as recipe
    from surgery import report as report
    from surgery import rewrite as rewrite
    from surgery import run as run
    from surgery import stages as stages
    from surgery import store as store
    from surgery import train as train
    from surgery.graph import Graph as Graph
    from surgery.graph import load_graph as load_graph
    from surgery.graph import save_graph as save_graph
    from surgery.graph import to_networkx as to_networkx
    from surgery.graph import trace as trace
    from surgery.hierarchy import Hierarchy as Hierarchy
    from surgery.hierarchy import cluster as cluster
    from surgery.linear import AffineCertificate as AffineCertificate
    from surgery.linear import Linearized as Linearized
    from surgery.linear import LinearMap as LinearMap
    from surgery.linear import certify as certify
    from surgery.linear import correlate as correlate
    from surgery.linear import extract as extract
    from surgery.linear import feature_distance as feature_distance
    from surgery.linear import linearize as linearize
    from surgery.models import load_model as load_model
    from surgery.rewrite import Plan as Plan
    from surgery.rewrite import Rewrite as Rewrite
    from surgery.rewrite import RuleSet as RuleSet
    from surgery.rewrite import apply as apply
    from surgery.rewrite import load_plan as load_plan
    from surgery.rewrite import load_rules as load_rules
    from surgery.rewrite import plan as plan
    from surgery.rewrite import save_plan as save_plan
    from surgery.store import load as load

__version__ = "0.1.0"

_SUBPACKAGES = (
    *("attack", "data", "graph", "hierarchy", "linear", "models", "plot", "recipe", "report", "rewrite", "run"),
    *("stages", "store", "train"),
)
_HOMES = {
    "surgery.graph": ("Graph", "load_graph", "save_graph", "to_networkx", "trace"),
    "surgery.hierarchy": ("Hierarchy", "cluster"),
    "surgery.linear": (
        *("AffineCertificate", "LinearMap", "Linearized"),
        *("certify", "correlate", "extract", "feature_distance", "linearize"),
    ),
    "surgery.models": ("load_model",),
    "surgery.rewrite": ("Plan", "Rewrite", "RuleSet", "apply", "load_plan", "load_rules", "plan", "save_plan"),
    "surgery.store": ("load",),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    if name in _SUBPACKAGES:
        return import_module(f"surgery.{name}")
    raise AttributeError(f"module 'surgery' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*sorted(_HOME), *_SUBPACKAGES, "__version__"]
