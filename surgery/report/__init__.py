"""Figures of results: `surgery.report.figures`. Only this package imports matplotlib."""
