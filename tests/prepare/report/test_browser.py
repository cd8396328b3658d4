"""A page in headless Chromium, from disk and without a network: it draws, it plays, and nothing in it runs."""

import itertools
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from omni_ray import cli
from tests.prepare import inprocess
from tests.prepare.report import outputs

Scheme = Literal["light", "dark"]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="needs Chromium: apt-get install --no-install-recommends chromium"
)
# Resolves once the sound has come to its end by itself; gives its length and how far it came.
PLAY = """sound => new Promise((resolve, reject) => {
    sound.onended = () => resolve([sound.duration, sound.currentTime, sound.readyState]);
    sound.onerror = () => reject(new Error("not played: " + sound.error.message));
    sound.play().catch(reject);
})"""
# Resolves once the length of every sound is known.
LENGTHS = """() => Promise.all([...document.querySelectorAll("audio")].map(sound => new Promise((resolve, reject) => {
    const known = () => resolve([sound.duration, sound.getAttribute("aria-label")]);
    sound.onerror = () => reject(new Error(sound.getAttribute("aria-label") + ": " + sound.error.message));
    sound.onloadedmetadata = known;
    if (sound.error) sound.onerror(); else if (sound.readyState >= 1) known();
})))"""
OUTSIDE = """() => [...document.querySelectorAll("body *")].filter(
    element => element.getBoundingClientRect().right > innerWidth + 0.5 && !element.closest("thead")
).map(element => element.outerHTML.slice(0, 200))"""


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report on data every text of which would like to be more than a text."""
    folder = tmp_path_factory.mktemp("hostile")
    catalog = outputs.hostile(folder / "in")
    with pytest.MonkeyPatch.context() as patch:
        inprocess.without_ray(patch)
        assert cli.main(["prepare", "all", "--out", str(folder / "out"), "--catalog", str(catalog)]) == 0
    assert inprocess.omni("report", folder / "out") == 0
    return folder / "out/report.html"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        options = ["--autoplay-policy=no-user-gesture-required", "--mute-audio"]
        with playwright.chromium.launch(executable_path=CHROMIUM, args=options, chromium_sandbox=False) as browser:
            yield browser


@contextmanager
def opened(browser: Browser, file: Path, width: int, scheme: Scheme) -> Iterator[tuple[Page, list[str]]]:
    """A page, and all that it says on the console; a request for anything but the page itself is a failure."""
    with browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True) as context:
        page = context.new_page()
        said: list[str] = []
        asked: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: said.append(dialog.message))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(file.as_uri(), wait_until="load")
        yield page, said
        assert [url for url in asked if not url.startswith("data:")] == [file.as_uri()]


@pytest.fixture(params=[(360, "light"), (360, "dark"), (1600, "light"), (1600, "dark")], ids=lambda p: f"{p[0]}-{p[1]}")
def page(browser: Browser, page_file: Path, request: pytest.FixtureRequest) -> Iterator[Page]:
    """The page at one width and in one colour scheme; whatever it says on the console fails the test."""
    with opened(browser, page_file, *request.param) as (page, said):
        yield page
        assert said == []


def test_plots_are_there(page: Page) -> None:
    plots = page.locator(".plots svg:visible")
    assert plots.count() >= 5
    for number in range(plots.count()):
        box = plots.nth(number).bounding_box()
        assert box is not None
        assert box["width"] > 200
        assert box["height"] > 80
        bars = plots.nth(number).locator("rect:not(.band)")
        areas = [bars.nth(at).bounding_box() for at in range(bars.count())]
        assert areas
        assert all(area is not None and area["width"] > 0 and area["height"] > 0 for area in areas)
    assert page.locator(".mix rect").first.evaluate("bar => getComputedStyle(bar).fill") not in ("none", "rgb(0, 0, 0)")
    page.locator("summary").first.click()
    assert page.locator("details[open] .plots svg:visible").count()


def test_pictures_are_there(page: Page) -> None:
    pictures = page.locator("img")
    assert pictures.count() == len(outputs.HOSTILE)
    for number in range(pictures.count()):
        picture = pictures.nth(number)
        width, shown = picture.evaluate("async one => { await one.decode(); return [one.naturalWidth, one.width]; }")
        assert width in (192, 224)
        assert shown > 90
        assert picture.get_attribute("alt")


def test_sounds_play(page: Page) -> None:
    lengths = page.evaluate(LENGTHS)
    assert len(lengths) == len(outputs.HOSTILE) + 1
    for length, label in lengths:
        assert length == pytest.approx(float(label.split()[-2]), abs=0.15)
    assert lengths[0][0] == pytest.approx(8, abs=0.15)
    length, reached, ready = page.locator("audio").nth(1).evaluate(PLAY)
    assert 0.3 < length == reached
    assert ready >= 2


def test_nothing_reaches_over_the_edge(page: Page) -> None:
    wide, inner = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert wide <= inner
    assert page.evaluate(OUTSIDE) == []


def test_what_is_said_in_data_is_text(page: Page) -> None:
    assert page.evaluate("window.pwned") is None
    for kind in ("text", "audio", "image"):
        shown = page.locator(f"#{kind} blockquote").all_text_contents()
        for text in outputs.HOSTILE[:7]:
            assert text in shown
    assert page.locator("blockquote").first.is_visible()
    assert page.locator("#licences").get_by_text("javascript:window.pwned").count() == 3
    assert page.locator("#licences a").count() == 0
    assert page.locator("iframe, script, object, embed, form").count() == 0


def test_a_script_that_came_in_would_not_run(browser: Browser, page_file: Path) -> None:
    """The policy is the second wall: even an element that is put into the page by force does nothing."""
    with opened(browser, page_file, 360, "light") as (page, said):
        page.evaluate(
            """() => {
                document.body.insertAdjacentHTML("beforeend", "<button onclick='window.pwned = 1'>here</button>");
                const script = document.createElement("script");
                script.textContent = "window.pwned = 2";
                document.body.append(script);
            }"""
        )
        page.get_by_text("here", exact=True).click()
        assert page.evaluate("window.pwned") is None
        assert sum("Content Security Policy" in one for one in said) == 2


def test_headings_name_every_part(page: Page) -> None:
    assert page.title() == "out: training data"
    levels = page.locator("h1, h2, h3, h4").evaluate_all("all => all.map(one => Number(one.tagName[1]))")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    for target in page.locator('a[href^="#"]').evaluate_all("all => all.map(one => one.getAttribute('href'))"):
        assert page.locator(target).count() == 1


def test_text_stands_out_from_its_ground(page: Page) -> None:
    """Contrast of 4.5 to 1, as WCAG 2.2 asks of text (success criterion 1.4.3)."""
    ratios = page.evaluate(
        """() => [...document.querySelectorAll("p, td, th, dt, dd, a, blockquote, summary, h2, figcaption span, text")]
        .filter(one => one.textContent.trim() && one.getClientRects().length)
        .map(one => {
            const channels = text => text.match(/[\\d.]+/g).map(Number);
            const light = ([r, g, b]) => [r, g, b].map(c => c / 255)
                .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
                .reduce((sum, c, at) => sum + c * [0.2126, 0.7152, 0.0722][at], 0);
            const clear = element => (channels(getComputedStyle(element).backgroundColor)[3] ?? 1) === 0;
            let ground = one;
            while (clear(ground)) ground = ground.parentElement;
            const style = getComputedStyle(one);
            const ink = light(channels(one.tagName === "text" ? style.fill : style.color));
            const paper = light(channels(getComputedStyle(ground).backgroundColor));
            return [(Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05), one.outerHTML.slice(0, 80)];
        })"""
    )
    assert len(ratios) > 100
    assert [one for one in ratios if one[0] < 4.5] == []
