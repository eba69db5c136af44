"""The page: one file, safe and whole, and what a browser makes of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

from switchnorm.errors import InputError
from switchnorm.report import write
from tests.browser import chromium
from tests.report.conftest import EPOCHS, LAYERS, Make
from tests.report.visits import Open, colours, contrast, luminance

# Validation accuracy, loss, learning rate and radius; bars and averages for SN and SSN.
FIGURES = 4 + 2 * 2
EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"


@pytest.fixture
def report(runs: list[Path], tmp_path: Path) -> Path:
    return write(runs, tmp_path / "report.html")


class TestFile:
    def test_it_is_one_file_that_fetches_nothing(self, report: Path) -> None:
        text = report.read_text(encoding="utf-8")
        own = re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)
        assert text.count("plotly.js v") == 1
        assert not re.search(r"""(src|href|url)\s*[=(]""", own)
        assert "default-src 'none'" in own
        assert len(text) < 6e6

    def test_its_folder_is_made(self, make_run: Make, tmp_path: Path) -> None:
        out = tmp_path / "some" / "where" / "report.html"
        assert write([make_run("bn")], out) == out
        assert [path.name for path in out.parent.iterdir()] == ["report.html"]

    def test_no_other_file_is_lost(self, make_run: Make) -> None:
        run = make_run("bn")
        with pytest.raises(InputError, match=r"run\.json is no name of a page; the nearest is .*/run\.html"):
            write([run], run / "run.json")

    def test_the_same_run_twice_counts_once(self, make_run: Make, tmp_path: Path) -> None:
        path = make_run("sn")
        assert "1 normalizer with 1 seed:" in write([path, path], tmp_path / "report.html").read_text()

    def test_an_interrupted_write_leaves_the_old_page(
        self, make_run: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        out = tmp_path / "pages" / "report.html"
        out.parent.mkdir()
        out.write_text("old")
        run = make_run("bn")

        def interrupt(*_: Path) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("os.replace", interrupt)
        with pytest.raises(KeyboardInterrupt):
            write([run], out)
        assert [path.read_text() for path in out.parent.iterdir()] == ["old"]

    def test_a_report_on_nothing_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="at least one run folder"):
            write([], tmp_path / "report.html")

    def test_a_folder_as_output_is_refused(self, make_run: Make, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"the page is one file: give .*report\.html"):
            write([make_run("bn")], tmp_path)

    def test_without_a_mixing_layer_there_is_no_section_for_it(self, make_run: Make, tmp_path: Path) -> None:
        text = write([make_run("bn")], tmp_path / "report.html").read_text()
        assert "What each layer chose" not in text

    def test_every_word_of_a_run_is_escaped(self, make_run: Make, tmp_path: Path) -> None:
        evil = {"model.name": EVIL, "data.name": EVIL, "extra": {EVIL: EVIL}}
        run = make_run(f"sn+{EVIL}", final=0.5, settings=evil, layers=[EVIL], folder="evil")
        (run / "run.json").write_text((run / "run.json").read_text().replace("21584d7", EVIL))
        text = write([run], tmp_path / "report.html").read_text()
        assert "<img" not in text
        assert not re.search(r"<script>\s*alert", text, re.IGNORECASE)
        assert "&lt;img src=x onerror=alert(2)&gt;" in text


@pytest.mark.parametrize("scheme", ["light", "dark"])
class TestInTheBrowser:
    def test_every_figure_draws_without_a_complaint_or_a_request(self, visit: Open, report: Path, scheme: str) -> None:
        seen = visit(report, scheme)
        marks = seen.page.locator(".plot").evaluate_all(
            """plots => plots.map(plot => [...plot.querySelectorAll(
                ".barlayer .point path, .scatterlayer .js-line, .scatterlayer .js-fill")]
                .map(mark => mark.getBoundingClientRect()).filter(box => box.width > 0 && box.height > 0).length)"""
        )
        assert len(marks) == FIGURES
        assert all(marks)
        assert marks[4] >= 2 * len(LAYERS)
        assert seen.complaints == []
        assert [url for url in seen.requests if not url.startswith(("data:", "blob:"))] == [report.as_uri()]

    def test_text_is_legible(self, visit: Open, report: Path, scheme: str) -> None:
        page = visit(report, scheme).page
        (paper,) = colours(page, "body", "backgroundColor")
        assert (luminance(paper) > 0.5) == (scheme == "light")
        words = colours(
            page, "h1, h2, h3, p, th, td, caption, figcaption, summary, summary span, dt, dd, button", "color"
        )
        ticks = colours(page, ".xtick text, .ytick text, .annotation-text, .g-xtitle text", "fill")
        assert min(contrast(colour, paper) for colour in words | ticks) >= 4.5

    def test_marks_stand_out(self, visit: Open, report: Path, scheme: str) -> None:
        page = visit(report, scheme).page
        (paper,) = colours(page, "body", "backgroundColor")
        marks = colours(page, ".js-line:not([style*='stroke-width: 0px'])", "stroke") | colours(
            page, ".barlayer .point path", "fill"
        )
        assert min(contrast(colour, paper) for colour in marks if colour != "none") >= 3

    def test_a_phone_needs_no_sideways_scrolling(self, visit: Open, report: Path, scheme: str) -> None:
        page = visit(report, scheme, width=390).page
        assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_the_figures_follow_when_the_scheme_changes(visit: Open, report: Path) -> None:
    page = visit(report, "light").page
    last_drawn = page.locator(".xtick text").last
    (before,) = colours(page, ".xtick text", "fill")
    page.emulate_media(color_scheme="dark")
    expect(last_drawn).not_to_have_css("fill", before)
    (paper,) = colours(page, "body", "backgroundColor")
    assert min(contrast(colour, paper) for colour in colours(page, ".xtick text, .ytick text", "fill")) >= 4.5


def test_the_stacked_bars_sum_to_one_at_every_epoch(visit: Open, report: Path) -> None:
    seen = visit(report)
    figure = seen.page.locator("figure:has(input[type=range])").first
    sums = """figure => {
        const data = figure.querySelector(".plot").data;
        return [data.slice(0, 3), data.slice(3)].flatMap(
            panel => panel[0].x.map((_, layer) => panel.reduce((sum, trace) => sum + trace.x[layer], 0)));
    }"""
    bars = "figure => figure.querySelector('.plot').data[0].x[0]"
    last = figure.evaluate(bars)
    for epoch in range(EPOCHS):
        figure.locator("input").fill(str(epoch))
        assert figure.locator("output").inner_text() == str(epoch + 1)
        assert figure.evaluate(sums) == pytest.approx([1] * 2 * len(LAYERS), abs=1e-3)
        assert (figure.evaluate(bars) == last) == (epoch == EPOCHS - 1)
    assert seen.complaints == []


def test_the_legend_hides_a_normalizer_in_every_curve(visit: Open, report: Path) -> None:
    page = visit(report).page
    shown = (
        "document.querySelector('.plot').data.filter(trace => trace.visible !== false).map(trace => trace.legendgroup)"
    )
    button = page.get_by_role("button", name="GN + WS")
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    assert page.evaluate(shown) == ["0", "0", "2", "2", "3", "3"]
    button.click()
    assert len(page.evaluate(shown)) == 8


def test_it_can_be_read_without_seeing_it(visit: Open, report: Path) -> None:
    page = visit(report).page
    assert page.locator("h1").inner_text() == "SSN reaches 81.0\u00a0%, 11.0 points above BN, at 2 samples per GPU."
    assert page.locator("table").count() == page.locator("table caption").count() == 3
    labels = page.locator(".plot").evaluate_all("all => all.map(each => each.getAttribute('aria-label'))")
    assert all(label and page.get_by_role("img", name=label).count() for label in labels)


def test_provenance_tells_where_a_run_came_from(visit: Open, report: Path) -> None:
    page = visit(report).page
    run = page.locator("section", has_text="Provenance").locator("> details").first
    run.locator("summary").first.click()
    text = run.inner_text()
    assert all(
        word in text for word in ("switchnorm train --recipe digits", "21584d7", "torch 2.9.0", "a small machine")
    )
    run.get_by_text("Configuration").click()
    assert "norm: bn" in run.locator("pre").inner_text()


def test_without_a_browser_the_tests_say_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHROMIUM", "/nowhere/chrome")
    with pytest.raises(pytest.fail.Exception, match="playwright install chromium"), chromium():
        pass


def test_hostile_words_are_only_words(visit: Open, make_run: Make, tmp_path: Path) -> None:
    run = make_run(f"sn+{EVIL}", final=0.5, settings={"model.name": EVIL}, layers=[EVIL], folder="evil")
    seen = visit(write([run], tmp_path / "report.html"))
    assert seen.complaints == []
    assert seen.page.locator(".barlayer .point path").count() > 0
    assert seen.page.locator("img").count() == 0
    assert EVIL.upper() in seen.page.locator("h1").inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_study_of_geometries_draws_what_is_open(visit: Open, make_run: Make, tmp_path: Path, scheme: str) -> None:
    runs = [
        make_run(norm, seed, folder=f"{norm}{samples}{seed}", epochs=2, layers=LAYERS[:3],
                 settings={"train.samples_per_gpu": samples, "train.batch_size": 8 * samples})
        for norm in ("bn", "gn+ws", "sn", "ssn") for samples in (32, 2) for seed in (0, 1)
    ]  # fmt: skip
    seen = visit(write(runs, tmp_path / "report.html"), scheme, width=390)
    section = seen.page.locator("section", has_text="Accuracy by geometry").first
    assert section.locator(".scatterlayer .js-line").count() >= 4
    (paper,) = colours(seen.page, "body", "backgroundColor")
    assert min(contrast(colour, paper) for colour in colours(seen.page, "td, caption, .note", "color")) >= 4.5
    folded = seen.page.locator("section", has=seen.page.get_by_role("heading", name="Training")).locator("details")
    assert folded.count() == 2
    assert folded.first.locator("svg.main-svg").count() == 0
    folded.first.locator("summary").click()
    plot = folded.first.locator(".plot").first
    expect(plot.locator(".js-line").first).to_be_visible()
    folded.first.get_by_role("button", name="GN + WS").click()
    shown = "plot => plot.data.filter(trace => trace.visible !== false && trace.name).length"
    assert plot.evaluate(shown) == 3
    assert section.locator(".plot").evaluate(shown) == 4, "another legend's figure"
    assert seen.page.evaluate("document.documentElement.scrollWidth") == 390
    assert seen.complaints == []
