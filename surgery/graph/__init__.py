"""Trace a model; view, compare and save its graph."""

from surgery import namespace
from surgery.graph.builder import Builder as Builder
from surgery.graph.builder import Place as Place
from surgery.graph.builder import UnsupportedError as UnsupportedError
from surgery.graph.builder import refresh as refresh
from surgery.graph.digests import weight_digest as weight_digest
from surgery.graph.exporting import check_export as check_export
from surgery.graph.exporting import export_graph as export_graph
from surgery.graph.graph import Edit as Edit
from surgery.graph.graph import Graph as Graph
from surgery.graph.nodes import attribute as attribute
from surgery.graph.nodes import computing as computing
from surgery.graph.nodes import copy_nodes as copy_nodes
from surgery.graph.nodes import depends_on_input as depends_on_input
from surgery.graph.nodes import nodes_in as nodes_in
from surgery.graph.nodes import operation_name as operation_name
from surgery.graph.nodes import operation_of as operation_of
from surgery.graph.nodes import values_read as values_read
from surgery.graph.saving import load_graph as load_graph
from surgery.graph.saving import save_graph as save_graph
from surgery.graph.tracing import from_exported as from_exported
from surgery.graph.tracing import trace as trace
from surgery.graph.views.networkx import to_networkx as to_networkx
from surgery.graph.vocabulary import KINDS as KINDS
from surgery.graph.vocabulary import OPERATIONS as OPERATIONS
from surgery.graph.vocabulary import Operation as Operation

__dir__ = namespace.public_names(__name__)
