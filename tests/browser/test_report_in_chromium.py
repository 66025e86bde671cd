"""The report in a real browser, headless: it renders, sorts, filters, asks the network for nothing, fits a phone.

Needs Chromium with its driver, and the extra `browser`.
"""

from __future__ import annotations

import json
import shutil

import pytest

from studies.document import html
from studies.document.blocks import (
    Cell,
    Counts,
    Document,
    Fold,
    Grid,
    Notice,
    Part,
    Picture,
    Section,
    Text,
    headings,
    numbers,
)
from studies.document.blocks import wide as sentences

webdriver = pytest.importorskip("selenium.webdriver", reason="the extra `browser` is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="Chromium or its driver is not installed")

FLAGS = (
    *("headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking"),
    *("disable-component-update", "disable-sync", "disable-dev-shm-usage"),
)
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="1200" height="40"><rect width="1200" height="40"/></svg>'
VALUES = ("–", "10.5 ± 0.1 (5)", "9.0 (1)", "1,200", "-3", *(str(i) for i in range(20, 28)))


class Drawn:
    caption, alt, content = "A figure.", "A bar.", SVG


def page() -> str:
    names = [f"Row-{i} <b>bold</b>" for i in range(len(VALUES))]
    heads = (*headings("Row"), *numbers("Value"), *headings("Verdict"), *sentences("Why"))
    verdicts = ("supported", "contradicted", "undecided")
    words = "many words that say why " * 6
    rows = tuple(
        (Cell(name, link="" if i else "detail"), value, Cell("", verdict=verdicts[i % 3]), words)
        for i, (name, value) in enumerate(zip(names, VALUES, strict=True))
    )
    wide = headings(*(f"Column {i}" for i in range(30)))
    blocks = (
        Counts("Of these", (("supported", 3), ("contradicted", 0))),
        Grid("values", "Values.", heads, rows),
        Grid("wide", "A wide table. " * 12, wide, (tuple("x" * 12 for _ in wide),)),
        Part("part", "Part", (Text("z" * 400), Picture(Drawn()))),
        Part("closed", "Closed", (Fold("detail", "Detail", (Text("The detail."),), "supported"),), closed=True),
    )
    return html.write(Document("Report", "Lead.", (Notice("SYNTHETIC DATA"),), (Section("s", "Section", blocks),)))


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    (folder / "report.html").write_text(page())
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in FLAGS:
        options.add_argument(f"--{flag}")
    options.add_argument(f"--user-data-dir={folder / 'profile'}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.address = (folder / "report.html").as_uri()
    yield driver
    driver.quit()


@pytest.fixture
def opened(browser):
    """The page, freshly loaded on a desktop's screen with light colours."""
    screen(browser, 1280)
    colours(browser, "light")
    browser.get_log("performance")  # what went before, such as the browser's own first page
    browser.get(browser.address)
    return browser


def screen(browser, width: int) -> None:
    metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def colours(browser, scheme: str) -> None:
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )


def column(browser, index: int) -> list[str]:
    """Of the rows that are shown."""
    shown = "[...document.querySelectorAll('#values tbody tr:not([hidden])')]"
    script = f"return {shown}.map(row => row.cells[arguments[0]].innerText)"
    return [text.strip() for text in browser.execute_script(script, index)]


def head(browser, index: int):
    return browser.find_elements("css selector", "#values thead th")[index]


def test_it_renders_without_a_word_on_the_console_and_asks_the_network_for_nothing(opened):
    assert opened.title == "Report"
    assert opened.find_element("css selector", ".banner").text == "SYNTHETIC DATA"
    assert column(opened, 0)[0] == "Row-0 <b>bold</b>"
    assert opened.execute_script("return document.images[0].complete && document.images[0].naturalWidth") == 1200
    assert opened.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in opened.get_log("performance")]
    asked = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    assert asked
    assert {url.partition(":")[0] for url in asked} <= {"file", "data"}


def test_a_click_sorts_and_another_turns_it_around(opened):
    button = head(opened, 1).find_element("tag name", "button")
    button.click()
    numbers = ["-3", "9.0 (1)", "10.5 ± 0.1 (5)", *map(str, range(20, 28)), "1,200"]
    assert column(opened, 1) == [*numbers, "–"]
    assert head(opened, 1).get_attribute("aria-sort") == "ascending"
    button.click()
    assert column(opened, 1) == [*numbers[::-1], "–"]
    assert head(opened, 1).get_attribute("aria-sort") == "descending"


def test_the_keyboard_sorts_too(opened):
    head(opened, 1).find_element("tag name", "button").click()
    head(opened, 0).find_element("tag name", "button").send_keys("\ue007")  # Enter
    assert column(opened, 0)[:3] == [f"Row-{i} <b>bold</b>" for i in range(3)]
    assert [head(opened, i).get_attribute("aria-sort") for i in (0, 1)] == ["ascending", None]
    head(opened, 0).find_element("tag name", "button").send_keys(" ")
    assert column(opened, 0)[0] == "Row-12 <b>bold</b>"


def test_words_filter_rows(opened):
    (field,) = opened.find_elements("css selector", "input[type=search]")  # the short table has none
    field.send_keys("SUPPORTED row-1")  # every word, in any case: rows 0, 3, 6, 9, 12 are supported
    assert column(opened, 0) == ["Row-12 <b>bold</b>"]
    assert opened.find_element("tag name", "output").text == "1 of 13 rows"
    field.clear()
    field.send_keys("no such row")
    assert column(opened, 0) == []


def test_a_link_opens_the_detail(opened):
    detail = opened.find_element("id", "detail")
    outer = opened.find_element("id", "closed")
    assert detail.get_attribute("open") is None
    assert outer.get_attribute("open") is None
    opened.find_element("css selector", "#values tbody a").click()
    assert detail.get_attribute("open") is not None
    assert outer.get_attribute("open") is not None


def test_a_phone_scrolls_tables_not_the_page(opened):
    screen(opened, 360)
    opened.get(opened.address)
    page_width, view, box, table = opened.execute_script(
        "const t = document.getElementById('wide'); return [document.documentElement.scrollWidth, innerWidth,"
        " t.parentElement.clientWidth, t.parentElement.scrollWidth]"
    )
    assert page_width <= view == 360
    assert box < 360 < table


def faded(browser, id: str) -> bool:
    script = "return getComputedStyle(document.getElementById(arguments[0]).closest('.scroll')).maskImage !== 'none'"
    return browser.execute_script(script, id)


def test_a_table_that_goes_on_fades_out_until_its_end_is_reached(opened):
    assert faded(opened, "wide")
    assert not faded(opened, "values")
    opened.execute_script("document.getElementById('wide').parentElement.scrollLeft = 1e6")
    opened.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")
    assert not faded(opened, "wide")
    box, first = opened.execute_script(
        "const t = document.getElementById('wide'); return [t.parentElement, t.tBodies[0].rows[0].cells[0]]"
        ".map(e => e.getBoundingClientRect().left)"
    )
    assert first == pytest.approx(box, abs=2)  # the first column stays


def test_a_figure_keeps_its_size_on_a_phone_and_scrolls(opened):
    screen(opened, 390)
    opened.get(opened.address)
    page_width, image, box = opened.execute_script(
        "const i = document.images[0]; return [document.documentElement.scrollWidth, i.clientWidth,"
        " i.parentElement.clientWidth]"
    )
    assert page_width <= 390
    assert box < 390 < 700 <= image


def test_a_figure_is_dark_in_the_dark(opened):
    script = "return getComputedStyle(document.images[0]).filter"
    assert opened.execute_script(script) == "none"
    colours(opened, "dark")
    assert opened.execute_script(script).startswith("invert(")


def test_dark_mode_is_dark(opened):
    script = "return getComputedStyle(document.body).backgroundColor"
    assert opened.execute_script(script) == "rgb(255, 255, 255)"
    colours(opened, "dark")
    assert opened.execute_script(script) == "rgb(20, 23, 27)"


def test_the_first_stop_of_the_keyboard_leads_past_the_contents(opened):
    opened.find_element("tag name", "body").send_keys("\ue004")  # Tab
    assert opened.switch_to.active_element.text == "Skip to the report"
    opened.switch_to.active_element.send_keys("\ue007")
    assert opened.switch_to.active_element.get_attribute("id") == "main"
