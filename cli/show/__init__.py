"""Graphs, plans, certificates and comparisons as tables and trees for a terminal, and as plain values for JSON."""
