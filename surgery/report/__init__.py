"""What is made of results to be looked at: `surgery.report.figures`, the only place that imports matplotlib."""
