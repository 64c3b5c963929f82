"""Views of a graph: text, drawings, formats of graph programs, plain records, networkx."""
