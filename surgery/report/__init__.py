"""Figures of results: `surgery.report.figures`. Only this package imports matplotlib."""

from surgery import namespace

__dir__ = namespace.public_names(__name__)
