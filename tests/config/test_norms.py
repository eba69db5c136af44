"""Names of normalizers that are known without torch."""

from __future__ import annotations

import sys

import pytest

from switchnorm.config.norms import BUILT_IN, check_norm, spelled
from switchnorm.errors import InputError
from switchnorm.layers import all_norms
from switchnorm.report.common.groups import display_norm
from switchnorm.runs.appearance import registered


def test_they_are_those_that_this_library_registers() -> None:
    makers = {norm.name: next(iter(norm.layers.values())) for norm in all_norms()}
    ours = [name for name, make in makers.items() if getattr(make, "func", make).__module__.startswith("switchnorm.")]
    assert tuple(ours) == BUILT_IN


@pytest.mark.parametrize("norm", [None, "bn", "gn:8", "sn+ws", "gn:4+ws"])
def test_names_that_are_known(monkeypatch: pytest.MonkeyPatch, norm: str | None) -> None:
    monkeypatch.delitem(sys.modules, "switchnorm.layers")
    check_norm(norm)


def test_names_that_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    check_norm("snn")  # layers are there, and a plugin may have registered it
    monkeypatch.delitem(sys.modules, "switchnorm.layers")
    with pytest.raises(InputError, match="norm 'snn' is unknown; did you mean 'sn'"):
        check_norm("snn")


def test_norms_of_parts_are_checked_and_spelled_in_one_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert spelled("sn", {}) == spelled("sn", {"body": "sn"}) == "sn"
    assert spelled("sn", {"body": "bn", "box": "gn:8+ws"}) == "sn (body bn, box gn:8+ws)"
    assert display_norm("sn (body bn, box gn:8+ws)") == "SN (body BN, box GN:8 + WS)"
    assert registered("sn (body bn)").color == registered("sn").color
    monkeypatch.delitem(sys.modules, "switchnorm.layers")
    check_norm("sn", {"body": "bn", "neck": "none"})
    with pytest.raises(InputError, match="norm 'sm' is unknown; did you mean 'sn'"):
        check_norm(None, {"body": "sm"})
