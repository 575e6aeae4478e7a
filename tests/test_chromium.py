"""Pages in a real browser: nothing complains, all is seen, nothing overflows, tables sort.

Chromium or Chrome must be installed; without one these tests are skipped, unless
THROUGHTIME_REQUIRE_ORACLES=1 demands it.
"""

from __future__ import annotations

import os
from importlib.util import find_spec

import pytest

import browser as installed
from screens import SCREENS, cells, compare, example_page, with_own_font

if find_spec("matplotlib") is None or find_spec("jinja2") is None:
    pytest.skip("needs matplotlib and Jinja2", allow_module_level=True)
if installed.executable() is None and os.environ.get("THROUGHTIME_REQUIRE_ORACLES") != "1":
    pytest.skip(f"needs one of {', '.join(installed.NAMES)}", allow_module_level=True)

WIDTHS = (360, 1200)
A4 = 718  # pixels between margins of a centimetre


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    assert installed.executable(), "Chromium is demanded, but not installed: apt install chromium"
    with installed.Browser(tmp_path_factory.mktemp("browser")) as running:
        yield running


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A flow with a check in which everything occurs: located entries, points, notes."""
    return example_page(tmp_path_factory.mktemp("page") / "flow.html")


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_it_opens_without_a_complaint_and_nothing_overflows(browser, page, width, dark):
    browser.open(page, width=width, dark=dark)
    assert browser.complaints == []
    wide, window = browser.run("[document.documentElement.scrollWidth, window.innerWidth]")
    assert wide <= window == width
    outside = browser.run(
        "[...document.querySelectorAll('main *')].filter(e => !e.closest('.scroll') &&"
        " !e.closest('svg') && e.getBoundingClientRect().right > window.innerWidth)"
        ".map(e => e.outerHTML.slice(0, 80))"
    )
    assert outside == []


def test_every_column_of_a_usual_page_is_seen(browser, page):
    """At 1280 pixels no table of a flow or a check has to be scrolled sideways."""
    browser.open(page, width=1280)
    tables = "[...document.querySelectorAll('.scroll')].map(e => e.scrollWidth - e.clientWidth)"
    beyond = browser.run(tables)
    assert len(beyond) > 3
    assert max(beyond) <= 1


def test_a_browser_that_finds_fault_is_heard(browser, page, tmp_path):
    broken = tmp_path / "broken.html"
    text = page.read_text(encoding="utf-8")
    more = "<img src='https://example.invalid/x.png'><div style='width: 500px'>wide</div>"
    broken.write_text(text.replace("</main>", f"{more}</main><script>gone()</script>"))
    browser.open(broken, width=360)
    assert any("gone is not defined" in words for words in browser.complaints)
    assert any("example.invalid" in words for words in browser.complaints)
    assert browser.run("document.documentElement.scrollWidth") > 360


@pytest.mark.parametrize("width", WIDTHS)
def test_all_figures_are_seen_and_said(browser, page, width):
    browser.open(page, width=width)
    figures = browser.run(
        """[...document.querySelectorAll("figure")].map((figure) => {
          const svg = figure.querySelector("svg"), box = svg.getBoundingClientRect();
          const images = [...svg.querySelectorAll("image")].map((image) => {
            const picture = new Image();
            picture.src = image.href.baseVal;
            return picture.decode().then(() => picture.naturalWidth);
          });
          const said = figure.querySelector("[role=img]").ariaLabel;
          return Promise.all(images).then((widths) =>
            [box.width, box.height, svg.checkVisibility(), widths, said]);
        }).reduce((all, one) => all.then((found) => one.then((it) => [...found, it])),
          Promise.resolve([]))"""
    )
    # two of the lags, eight of each layer, one of truncation, two of the check; the GRU three
    # gates, no c, but a heatmap and a profile of its own
    assert len(figures) == 2 + (4 + 4) + (2 + 4 + 3) + 1 + 2
    for box_width, box_height, visible, images, said in figures:
        assert visible
        assert 200 < box_width <= width
        assert 0.4 < box_height / box_width < 1.2
        assert all(pixels > 0 for pixels in images)
        assert any(character.isdigit() for character in said)
    with_images = [images for *_, images, _ in figures if images]
    assert len(with_images) == 2 + 7  # heatmaps and gates, colour bars beside each


def test_tables_sort_by_mouse_and_by_keyboard(browser, page):
    browser.open(page)
    table = "document.querySelector('table')"
    column = f"[...{table}.tBodies[0].rows].map(r => r.cells[{{}}].textContent)"
    sorting = f"[...{table}.tHead.rows[0].cells].map(c => c.ariaSort)"
    button = "document.querySelectorAll('table')[0].querySelectorAll('th button')[1]"

    def sizes():
        return [float(text.split()[0]) for text in browser.run(column.format(1))]

    before = sizes()
    browser.run(f"{button}.click()")
    assert sizes() == sorted(before)
    assert browser.run(sorting)[:3] == [None, "ascending", None]
    browser.run(f"{button}.focus()")
    browser.press("Enter", 13, "\r")
    assert sizes() == sorted(before, reverse=True)
    assert browser.run(sorting)[:3] == [None, "descending", None]
    first = "document.querySelectorAll('table')[0].querySelectorAll('th button')[0]"
    browser.run(f"{first}.click()")
    lags = [int(value) for value in browser.run(column.format(0))]
    assert lags == sorted(lags)
    assert browser.run(sorting)[:3] == ["ascending", None, None]


def test_words_sort_as_words_and_dashes_come_last(browser, tmp_path):
    from throughtime.report.pages import PageSection, Table, write_page

    rows = [("b 10", "–"), ("b 9", "1e-3"), ("a", "−2 %"), ("C", "1,000 ± 3")]
    write_page(
        tmp_path / "p.html", "t", [PageSection("s", tables=[Table(("name", "value"), rows)])]
    )
    browser.open(tmp_path / "p.html")
    names = "[...document.querySelectorAll('tbody tr')].map(r => r.cells[0].textContent)"
    found = []
    for place in (0, 0, 1, 1):
        browser.run(f"document.querySelectorAll('th button')[{place}].click()")
        found.append(browser.run(names))
    assert found == [
        ["a", "b 9", "b 10", "C"],
        ["C", "b 10", "b 9", "a"],
        ["a", "b 9", "C", "b 10"],
        ["C", "b 9", "a", "b 10"],
    ]


def test_all_that_can_be_done_is_reached_by_tab(browser, page):
    browser.open(page)
    wanted = browser.run("document.querySelectorAll('a, button, .scroll').length")
    reached = set()
    for _ in range(wanted):
        browser.press("Tab", 9)
        place = "[...document.querySelectorAll('*')].indexOf(document.activeElement)"
        assert browser.run("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        reached.add(browser.run(place))
    assert len(reached) == wanted


def test_ink_changes_with_the_light_and_data_do_not(browser, page):
    looks = {}
    for dark in (False, True):
        browser.open(page, dark=dark)
        looks[dark] = browser.run(
            """(() => {
              const ink = (e) => getComputedStyle(e);
              const svg = document.querySelectorAll("figure svg")[1];
              const line = [...svg.querySelectorAll("path")].find((p) =>
                p.getAttribute("style")?.includes("#0072b2"));
              return [ink(document.body).backgroundColor, ink(svg.querySelector("text")).fill,
                ink(svg.querySelector('[style*="stroke: #000000"]')).stroke, ink(line).stroke];
            })()"""
        )
    light, dark = looks[False], looks[True]
    assert light[:3] == ["rgb(255, 255, 255)", "rgb(29, 35, 41)", "rgb(29, 35, 41)"]
    assert dark[:3] == ["rgb(20, 24, 28)", "rgb(230, 234, 238)", "rgb(230, 234, 238)"]
    assert light[3] == dark[3] == "rgb(0, 114, 178)"


def test_what_is_printed_is_dark_on_light_and_whole(browser, page):
    browser.open(page, width=A4, dark=True, print_=True)
    ground, ink, nav = browser.run(
        "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color,"
        " getComputedStyle(document.querySelector('nav')).display]"
    )
    assert (ground, ink, nav) == ("rgb(255, 255, 255)", "rgb(0, 0, 0)", "none")
    cut = "[...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > innerWidth).length"
    assert browser.run(cut) == 0


def test_ids_are_used_once_and_links_lead_somewhere(browser, page):
    browser.open(page)
    assert browser.run(
        "(() => { const ids = [...document.querySelectorAll('[id]')].map(e => e.id);"
        " return ids.length === new Set(ids).size; })()"
    )
    lost = (
        "[...document.querySelectorAll('[href^=\"#\"]')].filter(e => !document.getElementById("
        "e.getAttribute('href').slice(1))).length"
    )
    assert browser.run(lost) == 0
    clips = (
        "[...document.querySelectorAll('[clip-path]')].filter(e => !document.getElementById("
        "e.getAttribute('clip-path').slice(5, -1))).length"
    )
    assert browser.run(clips) == 0


@pytest.mark.parametrize("name", SCREENS)
def test_it_looks_as_it_did(browser, page, tmp_path, name):
    """Compared with tests/screens; `python tests/screens.py` draws these anew."""
    width, dark = SCREENS[name]
    browser.open(with_own_font(page, tmp_path), width=width, dark=dark)
    compare(cells(browser.screenshot()), name)


@pytest.mark.parametrize(
    "harm",
    [
        "document.querySelectorAll('figure svg image')[0].remove()",
        "document.querySelectorAll('figure')[3].style.visibility = 'hidden'",
        "document.querySelectorAll('table')[1].style.visibility = 'hidden'",
        "document.body.style.color = 'white'",
        "document.querySelector('.figures').style.display = 'block'",
    ],
)
def test_what_looks_otherwise_is_noticed(browser, page, tmp_path, harm):
    browser.open(with_own_font(page, tmp_path), width=1200)
    browser.run(harm)
    with pytest.raises(AssertionError, match="looks"):
        compare(cells(browser.screenshot()), "wide-light")
