"""Takes the pictures of this folder anew: `make pictures`, with Debian's chromium. They show a demo that runs now."""

import asyncio
import html
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

from playwright.async_api import Browser, async_playwright

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CHROMIUM = next((path for path in ("/usr/bin/chromium", "/usr/bin/chromium-browser") if Path(path).exists()), None)
PATIENCE_S = 120
WIDTH = 110
PAGE, TERMINAL = HERE / "status-page.png", HERE / "demo.png"
LOOK = "margin:0;padding:16px;background:#16181d;color:#e6e6e6;font:13px/1.45 monospace"


async def main() -> None:
    """Both pictures, of one demo."""
    if CHROMIUM is None:
        sys.exit("no chromium is installed: apt-get install chromium")
    demo = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "sync", "demo", cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    assert demo.stdout is not None  # noqa: S101 - it is piped
    lines = list[str]()
    try:
        while not any("made in the API, usually" in line for line in lines):  # by then its page is there, too
            if not (line := await demo.stdout.readline()):
                sys.exit("the demo ended at once: `make demo` says why")
            lines.append(line.decode().rstrip())
        address = next(line.rpartition(" ")[2] for line in lines if line.startswith("See how it is doing"))
        reading = asyncio.create_task(demo.stdout.read())
        async with async_playwright() as playwright:
            # Root's has no sandbox, as in a container; elsewhere it keeps its own.
            arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
            browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
            await take_page(browser, address)
            demo.send_signal(signal.SIGINT)
            lines += (await reading).decode().splitlines()
            await take_terminal(browser, ["$ make demo", *lines])
            await browser.close()
    finally:
        with suppress(ProcessLookupError):
            demo.terminate()  # which takes its daemon and its database along
        await demo.wait()


async def take_page(browser: Browser, address: str) -> None:
    """The status page, once it says that all is well."""
    # Without its script the page is as the daemon made it, however busy the machine is.
    page = await browser.new_page(viewport={"width": 1280, "height": 760}, java_script_enabled=False)
    async with asyncio.timeout(PATIENCE_S):
        await page.goto(address)
        while await page.inner_text("#headline") != "The mirror is up to date":
            await page.goto(address)
    await page.screenshot(path=PAGE)


async def take_terminal(browser: Browser, lines: list[str]) -> None:
    """What the demo prints, without the folders of this machine."""
    told = [line.replace(str(ROOT), "~/voucher-sync") for line in lines]
    shown = [line if len(line) <= WIDTH else f"{line[: WIDTH - 3]}..." for line in [*told[:24], "  ...", *told[-9:]]]
    page = await browser.new_page(viewport={"width": 960, "height": 400})
    await page.set_content(f'<pre style="{LOOK}">{html.escape(chr(10).join(shown))}</pre>')
    await page.locator("pre").screenshot(path=TERMINAL)


asyncio.run(main())
