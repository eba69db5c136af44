"""Every model of other libraries under every normalizer, and the page that says so."""

from __future__ import annotations

import pytest

from switchnorm.errors import InputError
from tests.hosts import contract, libraries, normalizers, table
from tests.hosts.host import Host

pytestmark = pytest.mark.hosts

#: Only where `make test-hosts` installed them: everything else collects this file without importing a library.
HOSTS = list(libraries.hosts()) if libraries.installed() else []
CASES = [
    pytest.param(title, host, normalizer, id=f"{title}-{host.name}-{normalizer}")
    for title, host in HOSTS
    for normalizer in normalizers.NAMES
]


@pytest.mark.parametrize(("title", "host", "normalizer"), CASES)
def test_contract(title: str, host: Host, normalizer: str) -> None:
    if normalizer in host.why:
        with pytest.raises(InputError, match=host.why[normalizer]):
            contract.check(host, normalizer)
        plan = None
    else:
        plan = contract.check(host, normalizer).plan
    assert table.shown()[title, host.name, normalizer] == table.cell(plan)


def test_the_environment_has_every_library() -> None:
    assert libraries.installed()


def test_the_page_has_every_combination_and_no_other() -> None:
    ours = {(title, host.name, normalizer) for title, host in HOSTS for normalizer in normalizers.NAMES}
    assert set(table.shown()) == ours
