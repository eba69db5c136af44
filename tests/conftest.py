"""What all tests share: golden records, fixed randomness, poisoned memory."""

from __future__ import annotations

import gc
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings
from torch import Tensor

from switchnorm.ops.kernels.native.library import load

if TYPE_CHECKING:
    from playwright.sync_api import Browser

Golden = Callable[[str], dict[str, Tensor]]

# The same examples on every machine; a shared machine has no deadlines. Fixtures used with @given hold no state.
settings.register_profile(
    "switchnorm",
    deadline=None,
    derandomize=True,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("switchnorm")

# A shell has what it starts in the background ignore Ctrl-C, and so would every process that a test starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

#: The longest test. It begins, for at the end it would leave the other core idle.
_FIRST = "tests/ops/triton/test_interpreter.py"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest test first."""
    items.sort(key=lambda item: not item.nodeid.startswith(_FIRST))


def pytest_collection_finish() -> None:
    """Leave what was imported and collected out of garbage collections, of which each training ends with one."""
    gc.freeze()


def pytest_sessionfinish() -> None:
    """Let it go in order: libraries count what is left at the end."""
    gc.unfreeze()


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Tests run in parallel as processes; threads on top of these only wait for each other."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def library() -> None:
    """What a test of the compiled library needs; others pass without."""
    found = load()
    load.cache_clear()  # for tests of how it is loaded
    if isinstance(found, str):
        pytest.fail(found, pytrace=False)


@pytest.fixture
def poisoned() -> Iterator[None]:
    """Memory from torch.empty holds NaN, so that whoever reads before writing is found out."""
    # The fill is part of determinism; "warn" since some operations of torch have no deterministic algorithm.
    before = torch.get_deterministic_debug_mode()
    torch.set_deterministic_debug_mode("warn")
    assert torch.empty(3).isnan().all()
    yield
    torch.set_deterministic_debug_mode(before)


@pytest.fixture(scope="session")
def inductor() -> str:
    """The backend of torch.compile that writes machine code; skips where there is no compiler for what it writes."""
    from switchnorm.errors import InputError
    from switchnorm.training.failures import compiling

    try:
        with compiling("go without the tests of generated code"):
            torch.compile(torch.sin, backend="inductor")(torch.zeros(2))
    except InputError as error:
        pytest.skip(str(error))
    return "inductor"


@pytest.fixture
def golden() -> Golden:
    """A function that reads one golden record by name."""

    def read(name: str) -> dict[str, Tensor]:
        with np.load(Path(__file__).parent / "golden" / f"{name}.npz") as record:
            return {key: torch.as_tensor(record[key]) for key in record.files}

    return read


@pytest.fixture
def own_registry() -> Iterator[None]:
    """Normalizers, networks, datasets and tasks that a test registers are gone after it."""
    from switchnorm.config import task_spec
    from switchnorm.data import registry as datasets
    from switchnorm.layers import registry as norms
    from switchnorm.models import registry as models

    task_spec.tasks()  # which registers those of the library
    lists = (
        (norms, "_norms"),
        (norms, "_by_class"),
        (models, "FAMILIES"),
        (datasets, "_CLASSES"),
        (task_spec, "_TASKS"),
    )
    with pytest.MonkeyPatch.context() as patch:
        for module, name in lists:
            patch.setattr(module, name, getattr(module, name).copy())
        norms._changed()
        yield
    norms._changed()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A Chromium; one for all, as playwright starts only once in a process."""
    from tests.browser import chromium

    with chromium() as running:
        yield running
