"""A browser for tests of pages."""

import contextlib
import shutil

import pytest
from selenium import webdriver


@contextlib.contextmanager
def running_chromium(folder, *, width=1280, height=1000):
    """A browser of its own, without a network and with its console at hand.

    Args:
        folder: an empty folder for its files.
        width, height: of its window.
    """
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (browser and driver):
        pytest.skip("needs Chromium and its driver; on Debian: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in (
        "headless=new",
        "no-sandbox",
        "disable-gpu",
        "disable-quic",
        "no-first-run",
        "disable-background-networking",
        "disable-component-update",
        "disable-sync",
        f"window-size={width},{height}",
        "hide-scrollbars",
        "force-color-profile=srgb",
        f"user-data-dir={folder / 'profile'}",
    ):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    options.add_experimental_option("prefs", {"download.default_directory": str(folder / "downloads")})
    chromium = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        yield chromium
    finally:
        chromium.quit()
