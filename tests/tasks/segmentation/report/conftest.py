"""Reports are looked at in a browser."""

from tests.report.visits import visit

__all__ = ["visit"]
