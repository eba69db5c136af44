"""The run folders that the report's tests make."""

from tests.report.conftest import make_run

__all__ = ["make_run"]
