"""One page of everything."""

from studies.report.write import FORMATS, report

__all__ = ["FORMATS", "report"]
