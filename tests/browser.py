"""Chromium without a window, for tests of pages. `conftest.py` offers the fixtures `browser` and `chromium`.

Tests that use it are marked with `needs_chromium`: they are skipped without selenium, Chromium or its driver.
"""

import importlib.util
import io
import shutil

import numpy as np
import pytest
from PIL import Image

CHROMIUM, DRIVER = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
SWITCHES = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            "--disable-dev-shm-usage", "--window-size=1280,1000")

needs_chromium = pytest.mark.skipif(not (CHROMIUM and DRIVER and importlib.util.find_spec("selenium")),
                                    reason="needs selenium, chromium and chromedriver")


@pytest.fixture(scope="module")
def chromium():
    """The browser, started once for all tests of a file."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for switch in SWITCHES:
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def browser(chromium):
    """The browser in light mode on a large screen. Afterwards no page may have logged anything."""
    chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    chromium.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    chromium.get_log("browser")
    yield chromium
    assert chromium.get_log("browser") == []


def use_dark_mode(browser):
    """Pretend that the system prefers dark pages."""
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia",
                            {"features": [{"name": "prefers-color-scheme", "value": "dark"}]})


def use_phone(browser, width=390):
    """Pretend to be a phone."""
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride",
                            {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": True})


def screenshot(browser):
    """What the browser shows, as an array (height, width, 3) of bytes."""
    return np.asarray(Image.open(io.BytesIO(browser.get_screenshot_as_png())).convert("RGB"))


def is_blank(picture):
    """Whether a screenshot has few colours, or nearly all its pixels have the same."""
    colours, counts = np.unique(picture.reshape(-1, 3), axis=0, return_counts=True)
    return len(colours) < 20 or counts.max() > 0.99 * counts.sum()


def overflow(browser):
    """By how many pixels the page is wider than the window."""
    return browser.execute_script("return document.documentElement.scrollWidth - window.innerWidth")
