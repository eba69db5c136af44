"""What a browser makes of segmentation: pictures, classes and the map of mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from switchnorm.report import write
from tests.report.conftest import Make
from tests.report.visits import Open, colours, contrast

SCHEMES = pytest.mark.parametrize("scheme", ["light", "dark"])


@pytest.fixture
def report(make_scenes: Make, tmp_path: Path) -> Path:
    return write([make_scenes("bn"), make_scenes("sn")], tmp_path / "report.html")


@SCHEMES
def test_pictures_show_without_a_complaint_or_a_request(visit: Open, report: Path, scheme: str) -> None:
    seen = visit(report, scheme)
    sizes = seen.page.locator(".scene img").evaluate_all(
        "all => all.map(each => [each.naturalWidth, each.naturalHeight, each.complete, each.alt !== ''])"
    )
    assert sizes == [[48, 30, True, True]] * 2 * 4
    assert seen.complaints == []
    assert [url for url in seen.requests if not url.startswith(("data:", "blob:"))] == [report.as_uri()]


def test_a_row_has_its_pictures_beside_each_other_and_two_by_two_on_a_phone(visit: Open, report: Path) -> None:
    for width, rows in ((1280, 1), (390, 2)):
        page = visit(report, width=width).page
        images = page.locator(".scene").first.locator("img")
        tops = images.evaluate_all("all => all.map(each => each.getBoundingClientRect().top)")
        assert len(set(tops)) == rows
        assert page.evaluate("document.documentElement.scrollWidth") == width


@SCHEMES
def test_the_map_of_mistakes_is_legible_and_says_what_it_colours(visit: Open, report: Path, scheme: str) -> None:
    page = visit(report, scheme).page
    page.locator("summary", has_text="run bn-0").click()
    cells = page.locator(".heat").first.locator("tbody td")
    assert cells.all_inner_texts() == ["94", "", "6", "", "12", "88", "", "", "", "13", "87", "", "", "", "", ""]
    assert page.locator(".heat").first.locator("td.found").all_inner_texts() == ["94", "88", "87"]
    # What the translucent colour of a cell comes to on the paper, as the screen mixes it.
    grounds = cells.evaluate_all("""cells => {
        const context = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
        return cells.map(cell => {
            for (const below of [document.body, cell]) {
                context.fillStyle = getComputedStyle(below).backgroundColor;
                context.fillRect(0, 0, 1, 1);
            }
            const [red, green, blue] = context.getImageData(0, 0, 1, 1).data;
            return `rgb(${red}, ${green}, ${blue})`;
        });
    }""")
    (ink,) = colours(page, ".heat tbody td", "color")
    assert min(contrast(ink, ground) for ground in grounds) >= 4.5
    paper = grounds[1]
    assert contrast(grounds[0], paper) > contrast(grounds[4], paper) > 1.1
    assert page.locator(".heat").first.locator("caption").inner_text() == "What each class is taken for in bn-0, %"


def test_the_bars_of_the_classes_are_their_iou(visit: Open, report: Path) -> None:
    page = visit(report).page
    table = page.locator("table", has_text="IoU of each class")
    assert table.locator("tbody tr").count() == 3
    bars = table.locator("td.share").evaluate_all("all => all.map(each => each.style.getPropertyValue('--share'))")
    texts = table.locator("td.share").all_inner_texts()
    assert [int(bar[:-1]) for bar in bars] == pytest.approx([float(text) for text in texts], abs=0.51)
    assert table.locator("tbody th svg rect").count() == 3


def test_encoder_and_decoder_each_have_their_bars(visit: Open, report: Path) -> None:
    seen = visit(report)
    for title, layers in (("Encoder", 3), ("Decoder", 2)):
        heading = seen.page.get_by_role("heading", name=title, exact=True)
        plot = heading.locator("xpath=following-sibling::div[contains(@class, 'grid')][1]").locator(".plot").first
        assert plot.evaluate("plot => plot.data[0].y.length") == layers
        assert plot.locator(".barlayer .point path").count() > 0
    assert seen.complaints == []
