import pytest

from tests.data.segmentation.mapped import write_root


@pytest.fixture(scope="session")
def root(tmp_path_factory):
    """Pictures with masks; no test changes them."""
    return write_root(tmp_path_factory.mktemp("mapped"))


@pytest.fixture
def own(tmp_path):
    """As `root`, for tests that change it."""
    return write_root(tmp_path / "own")
