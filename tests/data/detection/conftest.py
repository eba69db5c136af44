import pytest

from tests.data.detection.painted import dataset


@pytest.fixture(scope="session", params=["boxes", "masks"])
def root(tmp_path_factory, request):
    """Painted pictures, with boxes alone and with masks; no test changes them."""
    return painted_root(tmp_path_factory, request.param)


@pytest.fixture(scope="session")
def boxed(tmp_path_factory):
    """With boxes alone."""
    return painted_root(tmp_path_factory, "boxes")


@pytest.fixture(scope="session")
def masked(tmp_path_factory):
    """With masks."""
    return painted_root(tmp_path_factory, "masks")


def painted_root(factory, name):
    root = factory.mktemp(name)
    data = dataset(root)
    assert (data.train_size, data.test_size) == (11, 5)
    return root
