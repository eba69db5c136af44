import pytest

from tests.data.segmentation.mapped import write_root


@pytest.fixture(scope="session")
def root(tmp_path_factory):
    """Pictures with masks; no test changes them."""
    return write_root(tmp_path_factory.mktemp("mapped"))
