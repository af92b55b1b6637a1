"""The page in a browser: live, with a keyboard, for a screen reader, on a phone, and without its script."""

import os
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Page, async_playwright, expect

from tests.support.mirror import Mirror
from tests.support.proxy import Proxy

from .helpers import serving
from .page_states import STATES, token_taken_back

CHROMIUM = next((path for path in ("/usr/bin/chromium", "/usr/bin/chromium-browser") if Path(path).exists()), None)
COLORS = """() => Object.fromEntries(Object.entries({value: ".tile .value", label: ".tile dt", headline: "h1"})
    .map(([name, where]) => [name, getComputedStyle(document.querySelector(where)).color]))"""
PATIENCE_MS = 60_000
KEEP_WHAT_IS_SAID = """() => {
  window.said = [];
  const updated = document.getElementById("updated");
  new MutationObserver(() => window.said.push(updated.textContent)).observe(updated, { childList: true });
}"""
FAILS = (
    "UPDATE sync.connections SET state = 'failing', error = 'x', error_kind = 'Unauthorized', state_since = now() "
    "WHERE name = '{}'"
)
LONGEST_AGO = (
    "UPDATE sync.connections SET caught_up_as_of = now() - interval '9 days'",
    "UPDATE sync.caught_up SET as_of[1] = now() - interval '9 days'",
)
PHONE, DESKTOP = (390, 844), (1280, 900)
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed: `apt-get install chromium`"),
]


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    """A headless browser of its own."""
    # Root's has no sandbox, as in a container; elsewhere it keeps its own.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        await browser.close()


async def opened(browser: Browser, url: str, size: tuple[int, int], scheme: str, *, script: bool = True) -> Page:
    """A page whose errors, and requests to other hosts, are noted on it as `troubles`."""
    context = await browser.new_context(
        viewport={"width": size[0], "height": size[1]},
        color_scheme="dark" if scheme == "dark" else "light",
        java_script_enabled=script,
    )
    page = await context.new_page()
    troubles: list[str] = []
    page.on("console", lambda message: troubles.append(message.text) if message.type in {"error", "warning"} else None)
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("request", lambda request: None if request.url.startswith(url) else troubles.append(request.url))
    await page.goto(url)
    await page.wait_for_load_state("load")
    assert troubles == []
    return page


@pytest.mark.parametrize("state", STATES)
async def test_each_state_is_accessible_and_fits_phone_and_desktop(
    mirror: Mirror, browser: Browser, state: str
) -> None:
    async with serving(mirror) as site:
        await STATES[state](mirror, site)
        for size, scheme in ((PHONE, "dark"), (DESKTOP, "light"), (PHONE, "light"), (DESKTOP, "dark")):
            page = await opened(browser, f"http://127.0.0.1:{site.port}/", size, scheme)
            wide = await page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
            assert wide <= 0
            found = await Axe().run(page)
            assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in found.response["violations"]] == []
            await page.context.close()


async def test_it_follows_what_happens_and_keeps_what_is_unfolded(mirror: Mirror, browser: Browser) -> None:
    async with serving(mirror) as site:
        await STATES["working"](mirror, site)
        page = await opened(browser, f"http://127.0.0.1:{site.port}/", DESKTOP, "light")
        await page.click("#settings summary")
        await page.evaluate("document.activeElement.blur()")
        await page.evaluate(KEEP_WHAT_IS_SAID)
        await token_taken_back(mirror, site)
        await expect(page.locator("#headline")).to_have_text("The API refuses the token", timeout=PATIENCE_MS)
        assert await page.inner_text("#announce") == "failing: The API refuses the token"
        assert (await page.title()).startswith("failing ·")
        await page.wait_for_function("window.said.length > 0")
        said = await page.evaluate("window.said")
        assert [one for one in said if not one.startswith("as of")] == [], said
        assert await page.evaluate("document.getElementById('settings').open")


async def test_where_the_keyboard_stands_all_is_fresh_too(mirror: Mirror, browser: Browser) -> None:
    async with serving(mirror) as site:
        await STATES["fleet"](mirror, site)
        page = await opened(browser, f"http://127.0.0.1:{site.port}/", DESKTOP, "light")
        link = page.locator("#connections a", has_text="hotel-0005")
        await link.focus()
        await page.evaluate("window.stays = document.querySelector('#connections .scroll')")
        before = await link.evaluate("one => one.closest('tr').rowIndex")
        for statement in (FAILS.format("hotel-0005"), *LONGEST_AGO):
            await mirror.execute(statement)
        row = page.locator("#connections tr", has=page.locator("a", has_text="hotel-0005"))
        await expect(row.locator(".badge")).to_have_text("failing", timeout=PATIENCE_MS)
        assert await link.evaluate("one => one.closest('tr').rowIndex") < before, "it is no more urgent than others"
        assert await page.evaluate("document.activeElement.textContent") == "hotel-0005"
        assert await page.evaluate("window.stays.isConnected"), "what is selected or scrolled there is lost"


@pytest.mark.usefixtures("never_kept")
async def test_its_title_says_how_it_is_also_behind_other_tabs(mirror: Mirror, browser: Browser) -> None:
    async with serving(mirror) as site:
        await STATES["working"](mirror, site)
        await mirror.execute(FAILS.format("default"))
        page = await browser.new_page()
        await page.add_init_script("Object.defineProperty(document, 'hidden', { get: () => true })")
        await page.clock.install()
        await page.goto(f"http://127.0.0.1:{site.port}/")
        assert (await page.title()).startswith("degraded ·")
        headline = await page.inner_text("#headline")
        for statement in LONGEST_AGO:
            await mirror.execute(statement)
        for _ in range(2):  # the first is told what was known
            async with page.expect_response("**/fragment"):
                await page.clock.run_for(60_000)
        await expect(page).to_have_title(re.compile("^failing ·"), timeout=PATIENCE_MS)
        assert await page.inner_text("#headline") == headline, "it is no case of the same headline"
        assert await page.inner_text("#announce") == f"failing: {headline}"


async def test_its_charts_are_drawn_and_change_their_span(mirror: Mirror, browser: Browser) -> None:
    async with serving(mirror) as site:
        await STATES["working"](mirror, site)
        page = await opened(browser, f"http://127.0.0.1:{site.port}/", DESKTOP, "light")
        await expect(page.locator("#plots canvas")).to_have_count(5, timeout=PATIENCE_MS)
        await expect(page.locator("#plots figcaption").first).to_contain_text("at most 60 min")
        await page.click("text=Month")
        await expect(page.locator('[data-span="month"]')).to_have_attribute("aria-pressed", "true")
        await expect(page.locator("#plots canvas")).to_have_count(5, timeout=PATIENCE_MS)


async def test_before_there_is_anything_to_draw_it_says_when_charts_begin(mirror: Mirror, browser: Browser) -> None:
    async with serving(mirror) as site:
        await STATES["first-backfill"](mirror, site)
        page = await opened(browser, f"http://127.0.0.1:{site.port}/", DESKTOP, "light")
        await expect(page.locator("#charts")).to_contain_text("once a daemon has run for five minutes")
        assert [await page.is_visible("#spans"), await page.locator("#plots canvas").count()] == [False, 0]
        assert (await Axe().run(page)).response["violations"] == []


@pytest.mark.usefixtures("never_kept")
async def test_without_its_database_it_is_accessible_too(database_url: str, browser: Browser) -> None:
    async with Proxy(database_url).served() as proxy:
        mirror = Mirror(proxy.url)
        async with mirror.opened(), serving(mirror) as site:
            await STATES["working"](mirror, site)
            assert (await site.get("/")).status == 200
            proxy.is_down = True
            proxy.cut()
            for size, scheme in ((PHONE, "dark"), (DESKTOP, "light")):
                page = await opened(browser, f"http://127.0.0.1:{site.port}/", size, scheme)
                assert await page.inner_text("#headline") == "The database does not answer"
                assert await page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
                values = await page.evaluate(COLORS)
                assert values["value"] == values["label"] != values["headline"], (
                    "what is old stands out as if it were now"
                )
                assert (await Axe().run(page)).response["violations"] == []
                await page.context.close()


async def test_one_of_many_is_found_by_typing(mirror: Mirror, browser: Browser) -> None:
    async with serving(mirror) as site:
        await STATES["many"](mirror, site)
        page = await opened(browser, f"http://127.0.0.1:{site.port}/", PHONE, "light")
        await page.fill("#find", "0999")
        await page.press("#find", "Enter")
        await expect(page.locator("#connections tbody tr")).to_have_count(1, timeout=PATIENCE_MS)
        assert await page.input_value("#find") == "0999"
        await page.click("#connections .counts >> text=paused")
        await expect(page.locator("#connections tbody tr")).to_have_count(12, timeout=PATIENCE_MS)
        assert (await Axe().run(page)).response["violations"] == []


async def test_it_says_when_the_daemon_has_gone(mirror: Mirror, browser: Browser) -> None:
    async with serving(mirror) as site:
        page = await opened(browser, f"http://127.0.0.1:{site.port}/", DESKTOP, "light")
    await expect(page.locator("#updated")).to_contain_text("does not answer", timeout=PATIENCE_MS)
    await expect(page.locator("main")).to_have_class("gone")
    assert await page.inner_text("#announce") == "the daemon does not answer"
    assert (await page.title()).startswith("no answer ·")
    assert (await Axe().run(page)).response["violations"] == []


async def test_it_says_the_same_without_a_script(mirror: Mirror, browser: Browser) -> None:
    async with serving(mirror) as site:
        await STATES["held"](mirror, site)
        page = await opened(browser, f"http://127.0.0.1:{site.port}/", DESKTOP, "light", script=False)
        assert await page.inner_text("#headline") == "Working, and changes are held"
        assert await page.is_hidden("#pause")
        assert await page.locator('noscript meta[http-equiv="refresh"], meta[http-equiv="refresh"]').count() == 1


async def test_a_keyboard_reaches_everything(mirror: Mirror, browser: Browser) -> None:
    async with serving(mirror) as site:
        await STATES["working"](mirror, site)
        page = await opened(browser, f"http://127.0.0.1:{site.port}/", DESKTOP, "light")
        reached = []
        for _ in range(12):
            await page.keyboard.press("Tab")
            reached.append(
                await page.evaluate("(document.activeElement.id || document.activeElement.textContent).trim()")
            )
        assert [reached[0], "pause" in reached] == ["To the status", True]
        assert any(one.startswith("Settings of the daemon") for one in reached)
