"""A section of the user's own on the page."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

import pytest
from plotly import graph_objects

from switchnorm.cli import main
from switchnorm.errors import InputError
from switchnorm.report import (
    Cell,
    Group,
    Table,
    figure,
    note,
    plain_figure,
    register_section,
    section,
    table,
    user_sections,
)
from tests.report.conftest import EPOCHS, LAYERS, Make
from tests.report.visits import Open, markup

EVIL = "<img src=x onerror=alert(1)>"


@pytest.fixture(autouse=True)
def _no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(user_sections, "_SECTIONS", [])


def speed(groups: Sequence[Group]) -> str:
    """What a user might add: a table of all seeds, and a figure."""
    rows = [
        (Cell(f"{group.label}, seed {run.seed}"), Cell(f"{run.measured('images_per_second')[EPOCHS]:.0f}"))
        for group in groups
        for run in group.runs
    ]
    drawing = plain_figure(graph_objects.Figure(graph_objects.Bar(y=[len(group.runs) for group in groups])), 200)
    return section(
        f"Speed {EVIL}",
        note(f"So fast {EVIL}"),
        table(Table("Pictures a second", ("Run", EVIL), tuple(rows))),
        figure(drawing, f"Seeds {EVIL}", "seeds of each group"),
    )


def test_it_stands_between_the_librarys_own_and_provenance(runs: list[Path], tmp_path: Path) -> None:
    register_section(speed)
    text = markup(tmp_path, *runs)
    titles = [part.partition("</h2>")[0] for part in text.split("<h2>")[1:]]
    assert [title.partition(" ")[0] for title in titles] == ["Results", "Training", "What", "Speed", "Provenance"]
    assert text.count('<th scope="row">GN + WS, seed 2</th><td>900</td>') == 1
    assert "<img" not in text


def test_its_figure_draws_without_a_complaint(visit: Open, runs: list[Path], tmp_path: Path) -> None:
    register_section(speed)
    markup(tmp_path, *runs)
    seen = visit(tmp_path / "report.html")
    plot = seen.page.locator("section", has_text="Speed").locator(".plot")
    assert plot.evaluate("plot => plot.data[0].y") == [3, 3, 3, 3]
    assert plot.locator(".barlayer .point path").count() == 4
    assert seen.complaints == []


def test_it_sees_all_of_a_run(make_run: Make, tmp_path: Path) -> None:
    seen: list[Group] = []

    @register_section
    def nothing(groups: Sequence[Group]) -> str:
        seen.extend(groups)
        return ""

    markup(tmp_path, make_run("bn"), make_run("sn", 0), make_run("sn", 1))
    assert [(group.label, group.norm, len(group.runs)) for group in seen] == [("BN", "bn", 1), ("SN", "sn", 2)]
    run = seen[1].runs[1]
    assert (run.name, run.seed, run.settings["optimizer.lr"]) == ("sn-1", 1, 0.1)
    assert [layer.layer for layer in run.importance[EPOCHS]] == LAYERS
    assert run.provenance["versions"]["torch"] == "2.9.0"
    assert seen[0].runs[0].importance == {}


def test_sections_come_in_the_order_of_their_registration_and_once(make_run: Make, tmp_path: Path) -> None:
    for title in ("second", "first"):
        make = functools.partial(lambda groups, title: section(title, note("said")), title=title)
        assert register_section(make) is register_section(make) is make
    text = markup(tmp_path, make_run("bn"))
    assert text.count("<h2>first</h2>") == text.count("<h2>second</h2>") == 1
    assert text.index("<h2>second</h2>") < text.index("<h2>first</h2>")


@pytest.mark.parametrize("given", ["<p>", None, ["a"]])
def test_what_cannot_be_called_is_refused_in_one_line(given: object) -> None:
    with pytest.raises(InputError, match=r"a section of the report is a function .*; got .+") as error:
        register_section(given)
    assert "\n" not in str(error.value)
    assert user_sections.user_sections([]) == []


def test_what_is_no_text_is_named_and_leaves_no_page(make_run: Make, tmp_path: Path) -> None:
    def broken(groups: Sequence[Group]) -> list[str]:
        return [note("a")]

    register_section(broken)
    with pytest.raises(InputError, match=r"^section 'broken' returned list; expected HTML as str$"):
        markup(tmp_path, make_run("bn"))
    assert not (tmp_path / "report.html").exists()


def test_what_fails_is_named_in_one_line_and_leaves_no_page(make_run: Make, tmp_path: Path) -> None:
    def broken(groups: Sequence[Group]) -> str:
        raise KeyError("val_los")

    register_section(broken)
    with pytest.raises(InputError, match=r"^section 'broken' failed: KeyError: 'val_los'$"):
        markup(tmp_path, make_run("bn"))
    assert not (tmp_path / "report.html").exists()


def test_a_module_that_registers_one_is_named_on_the_command_line(
    make_run: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_report_sections.py").write_text(
        "from switchnorm.report import note, register_section, section\n\n"
        "@register_section\ndef mine(groups):\n    return section('Mine', note(groups[0].label))\n"
    )
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.syspath_prepend(str(tmp_path))
    main(["report", str(make_run("bn")), "--out", str(tmp_path / "page.html"), "--plugins", "my_report_sections"])
    assert '<h2>Mine</h2>\n<p class="note">BN</p>' in (tmp_path / "page.html").read_text()
