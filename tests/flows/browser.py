"""A headless Chromium that an operator's hand moves through the Prefect UI; waits on what is seen, never on time."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException, TimeoutException, WebDriverException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

PATIENCE_SECONDS = 120
CHROMIUM, CHROMEDRIVER = shutil.which("chromium"), shutil.which("chromedriver")
_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=1400,1100",
)  # fmt: skip

_BELOW_LABEL = "//label[normalize-space(.)='{0}']/ancestor::*[.//{1}][1]//{1}"
"""What stands with a label of a form: the innermost box around both."""
_LAST_SHOWN = """
const [within, label] = arguments;
const wanted = ["button", "a", "[role=tab]", ".p-tab"].map(kind => `${within} ${kind}`).join();
const shown = [...document.querySelectorAll(wanted)].filter(
    e => e.innerText.trim() === label && !e.disabled && e.getClientRects().length);
return shown.at(-1) ?? null;
"""
"""The last element of a kind that is clicked; one question to a page that draws itself anew all the time."""


class Browser:
    """What an operator does: look, click, fill in."""

    def __init__(self, driver: webdriver.Chrome, ui_url: str, pictures: Path) -> None:
        self.driver, self._ui_url, self._pictures = driver, ui_url, pictures

    def open(self, path: str) -> None:
        self.driver.get(self._ui_url + path)

    def open_artifact(self, key: str) -> None:
        """The newest artifact of a key, by way of the list of the key's artifacts."""
        self.open(f"/artifacts/key/{key}")

        def opened() -> bool:
            links = self.driver.find_elements(By.CSS_SELECTOR, "a[href*='/artifacts/artifact/']")
            if links:
                links[0].click()
            return bool(links)

        self._until(opened, f"an artifact of {key}")

    def text(self) -> str:
        return self.driver.find_element(By.TAG_NAME, "body").text

    def sees(self, *words: str) -> None:
        """Wait until all of the words are on the page."""
        self._until(lambda: all(word in self.text() for word in words), f"{words} on the page")

    def click(self, label: str, within: str = "") -> float:
        """Click the last button or link with this label; returns when, on the clock of `time.monotonic`."""

        def found() -> float | None:
            shown = self.driver.execute_script(_LAST_SHOWN, within, label)
            clicked_at = time.monotonic()
            if shown:
                shown.click()
            return clicked_at if shown else None

        return float(self._until(found, f"{label!r} to click"))

    def confirm_and_leave(self) -> float:
        """Submit a dialogue, once more where the page was drawn anew under the click, and leave the page when it has
        closed: without a GPU, drawing a running flow run takes a core. Returns as `click` does."""

        def is_closed(_: webdriver.Chrome | None = None) -> bool:
            return not self.driver.find_elements(By.CSS_SELECTOR, ".p-modal")

        clicks: list[float] = []

        def submitted() -> bool:
            if not clicks or not is_closed():
                clicks.append(self.click("Submit", within=".p-modal"))
                with suppress(TimeoutException):
                    WebDriverWait(self.driver, 10, 0.2).until(is_closed)
            return is_closed()

        self._until(submitted, "the dialogue to close")
        self.driver.get("about:blank")
        return clicks[-1]

    def fill(self, label: str, value: str) -> None:
        """Type into the field under a label of a form."""
        field = self._until(lambda: self._field(label), f"a field {label!r}")
        field.clear()
        field.send_keys(value, Keys.TAB)

    def submit(self) -> None:
        """Submit the form of a deployment; its page is left when the run is made."""
        form = self.driver.current_url

        def left() -> bool:
            if self.driver.current_url == form:
                self.click("Submit")
                with suppress(TimeoutException):
                    WebDriverWait(self.driver, 10, 0.2).until(lambda _: self.driver.current_url != form)
            return self.driver.current_url != form

        self._until(left, "the form to be accepted")

    def switch_on(self, label: str) -> None:
        """Flip the switch under a label of a form."""

        def flipped() -> bool:
            switches = self.driver.find_elements(By.XPATH, _BELOW_LABEL.format(label, "input[@type='checkbox']"))
            if switches and not switches[0].is_selected():
                self.driver.execute_script("arguments[0].click()", switches[0])
            return bool(switches) and switches[0].is_selected()

        self._until(flipped, f"a switch {label!r}")

    def _field(self, label: str) -> WebElement | None:
        path = _BELOW_LABEL.format(label, "*[self::textarea or self::input][not(@type='hidden')]")
        found = [e for e in self.driver.find_elements(By.XPATH, path) if e.is_displayed()]
        return found[0] if found else None

    def picture(self, name: str, height: int | None = None) -> None:
        """Keep what is seen, or its upper ``height`` px, as a small PNG, to be looked at."""
        seen = Image.open(BytesIO(self.driver.get_screenshot_as_png())).convert("RGB")
        shown = seen.crop((0, 0, seen.width, min(height or seen.height, seen.height)))
        shown.quantize(128).save(self._pictures / f"{name}.png", optimize=True)

    def _until(self, condition: Callable[[], Any], what: str) -> Any:
        def holds(_: webdriver.Chrome) -> Any:
            try:
                return condition()
            except StaleElementReferenceException:  # the page was drawn anew in the meantime
                return None

        try:
            return WebDriverWait(self.driver, PATIENCE_SECONDS, 0.2).until(holds)
        except WebDriverException as error:
            self.picture("failed")
            raise AssertionError(
                f"waited {PATIENCE_SECONDS} s for {what} at {self.driver.current_url}; the page says:\n{self.text()}"
            ) from error


@contextmanager
def browser(
    ui_url: str, folder: Path, pictures: Path, flags: Sequence[str] = (), logs: Sequence[str] = ()
) -> Iterator[Browser]:
    """A browser with a profile of its own in ``folder``; ``logs`` are those that it keeps, browser or performance."""
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in (*_FLAGS, f"--user-data-dir={folder / 'profile'}", *flags):
        options.add_argument(flag)
    if logs:
        options.set_capability("goog:loggingPrefs", dict.fromkeys(logs, "ALL"))
    driver = webdriver.Chrome(options=options, service=Service(CHROMEDRIVER))
    try:
        yield Browser(driver, ui_url, pictures)
    finally:
        driver.quit()
