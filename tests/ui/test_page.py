"""The page as a browser shows it, from the drop to the download."""

import asyncio
import contextlib
import json
import re
import runpy
import signal
import subprocess
from fractions import Fraction
from pathlib import Path
from urllib.parse import urlsplit

import av
import numpy as np
import pytest
import requests
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

pytest.importorskip("gradio", reason="needs rlsp_tf[ui]")

import gradio

from helpers.chromium import running_chromium
from helpers.commands import Command
from helpers.networks import SMALL, small_model
from helpers.videos import make_video
from rlsp_tf.network.weights import load_model
from rlsp_tf.ui import launch as launching
from rlsp_tf.upscaling.upscale import upscale

ROOT = Path(__file__).parents[2]
FILE = "#drop input[type=file]"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "small.keras"
    small_model(np.random.default_rng(0), SMALL).save(path)
    return path


@pytest.fixture
def film(tmp_path):
    return make_video(tmp_path / "my film.mp4", range(50), time_base=Fraction(1, 25), audio=["aac"])


@contextlib.contextmanager
def showing(folder, model, *options):
    """``rlsp ui``: its process and its address."""
    arguments = ["ui", "--folder", folder, "--model", model, "--port", "0", *options]
    with Command(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as command:
        try:
            said = command.stdout.readline()
            found = re.fullmatch(r"rlsp: open (http://127\.0\.0\.1:\d+/) in a browser; .*\n", said)
            assert found, said + command.stdout.read()
            yield command, found[1]
        finally:
            command.kill()


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    with running_chromium(tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


def wait(browser, true, seconds=120):
    return WebDriverWait(browser, seconds, poll_frequency=0.1).until(true)


def one(browser, selector):
    return wait(browser, lambda browser: browser.find_elements(By.CSS_SELECTOR, selector))[0]


def visit(browser, address):
    browser.get(address)
    return one(browser, FILE)


def sizes(browser, selector, *properties):
    """Width and height of all pictures or players, once they are loaded."""

    def read(browser):
        found = browser.execute_script(
            "return [...document.querySelectorAll(arguments[0])].map(e => arguments[1].map(p => e[p]))",
            selector,
            properties,
        )
        return found if len(found) == 2 and all(map(all, found)) else None

    return wait(browser, read)


def requested(browser):
    """The hosts that the browser has asked for anything since it was last looked at."""
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    addresses = [
        message["params"]["request"]["url"]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
    ]
    return {urlsplit(address).netloc for address in addresses if address.startswith(("http", "ws"))}


def frames_of(path):
    with av.open(path) as container:
        return np.stack([frame.to_ndarray() for frame in container.decode(video=0)])


@pytest.mark.slow
def test_from_the_drop_to_the_download(chromium, tmp_path, film, model):
    with showing(tmp_path / "kept", model) as (_, address):
        requested(chromium)
        chromium.get_log("browser")
        visit(chromium, address).send_keys(str(film))
        # A moment before and after, both of the size of the result.
        assert sizes(chromium, "#look img", "naturalWidth", "naturalHeight") == [[256, 192]] * 2
        assert "64x48, 2 s, 25 frames a second" in one(chromium, "#about").text
        assert one(chromium, "#size").text == "Size\n4 times larger (256x192)\n2 times larger (128x96)"
        seen = one(chromium, "#look img").get_attribute("src")
        one(chromium, "#close-up input").click()
        wait(chromium, lambda browser: one(browser, "#look img").get_attribute("src") != seen)
        assert sizes(chromium, "#look img", "naturalWidth", "naturalHeight") == [[77, 58]] * 2
        one(chromium, "#start").click()
        link = one(chromium, ".rlsp-job a.download")
        assert [size[0] for size in sizes(chromium, ".rlsp-pair video", "videoWidth", "duration")] == [
            64,
            256,
        ]
        # Both play when one is told to.
        chromium.execute_script("document.querySelector('.after video').play()")
        wait(
            chromium,
            lambda browser: browser.execute_script(
                "return [...document.querySelectorAll('video')].every(video => video.currentTime > 0.1)"
            ),
        )
        link.click()
        downloads = Path(chromium.capabilities["chrome"]["userDataDir"]).parent / "downloads"
        got = downloads / "my film-4x.mp4"
        wait(chromium, lambda browser: got.is_file())
        assert [entry for entry in chromium.get_log("browser") if entry["level"] == "SEVERE"] == []
        # Nothing comes from elsewhere, not even letters.
        assert requested(chromium) == {urlsplit(address).netloc}
        one(chromium, ".rlsp-job .remove").click()
        wait(chromium, lambda browser: not browser.find_elements(By.CSS_SELECTOR, ".rlsp-job"))
        assert not [*(tmp_path / "kept" / "jobs").iterdir()]
    expected = tmp_path / "expected.mp4"
    upscale(film, expected, load_model(model, precision="float32"), crf=18)
    assert frames_of(got).shape == frames_of(expected).shape
    with av.open(got) as container:
        assert [stream.type for stream in container.streams] == ["video", "audio"]


@pytest.mark.slow
def test_a_part_begins_with_the_frame_that_is_shown(chromium, tmp_path, film, model):
    with showing(tmp_path / "kept", model) as (_, address):
        visit(chromium, address).send_keys(str(film))
        one(chromium, "#look img")
        one(chromium, "#part input").click()
        begin = one(chromium, "#begin input")
        # The frame that is shown at a third of the 2 s, from its own time on.
        wait(chromium, lambda browser: begin.get_attribute("value") == "0.64")
        length = one(chromium, "#length input")
        length.send_keys("-1")
        assert "must be longer than 0 s" in one(chromium, "#estimate .rlsp-error").text
        length.send_keys(Keys.BACKSPACE, Keys.BACKSPACE, "0.2")
        wait(chromium, lambda browser: not browser.find_elements(By.CSS_SELECTOR, "#estimate .rlsp-error"))
        one(chromium, "#start").click()
        one(chromium, ".rlsp-job .remove")
        assert "From 0.64 s on, 0.2 s long" in one(chromium, ".rlsp-job").text
        (job,) = (tmp_path / "kept" / "jobs").iterdir()
        assert [len(frames_of(job / name)) for name in ("before.mp4", "result.mp4")] == [5, 5]


@pytest.mark.slow
def test_work_goes_on_after_a_reload_and_a_restart(chromium, tmp_path, model):
    film = make_video(tmp_path / "long.mp4", range(1500), time_base=Fraction(1, 25), size=(128, 96))
    with showing(tmp_path / "kept", model) as (command, address):
        visit(chromium, address).send_keys(str(film))
        one(chromium, "#look img")
        # What was dropped is still there.
        chromium.refresh()
        assert sizes(chromium, "#look img", "naturalWidth", "naturalHeight") == [[512, 384]] * 2
        one(chromium, "#start").click()
        far = r"(\d+)%, frame \d+ of 1500, [\d.]+ frames a second, about .* left"
        wait(chromium, lambda browser: re.search(far, one(browser, ".rlsp-job").text))
        chromium.refresh()
        wait(chromium, lambda browser: re.search(far, one(browser, ".rlsp-job").text))
        (job,) = (tmp_path / "kept" / "jobs").iterdir()
        command.send_signal(signal.SIGKILL)
        command.wait()
        assert not (job / "result.mp4").exists()
    with showing(tmp_path / "kept", model) as (command, address):
        visit(chromium, address)
        one(chromium, ".rlsp-job .download")
        assert len(frames_of(job / "result.mp4")) == 1500
        command.send_signal(signal.SIGINT)
        assert command.wait(60) == 0
        assert "goes on when rlsp ui is started again" in command.stdout.read()


@pytest.mark.slow
def test_what_is_wrong_is_said_on_the_page_at_any_width(tmp_path, film, model):
    # Browsers do not send empty files.
    (tmp_path / "text.mp4").write_text("It was a dark and stormy night.")
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(film.read_bytes()[:-500])
    single = make_video(tmp_path / "single.mkv", [0])
    with (
        showing(tmp_path / "kept", model) as (_, address),
        running_chromium(tmp_path / "chromium", width=500) as browser,
    ):
        # A window cannot be as narrow as a phone.
        browser.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": 400, "height": 800, "deviceScaleFactor": 1, "mobile": True},
        )
        for file in (tmp_path / "text.mp4", cut):
            visit(browser, address).send_keys(str(file))
            sentence = wait(browser, lambda browser: one(browser, "#refused").text)
            assert sentence.startswith(f"{file.name}: ")
            assert str(tmp_path) not in sentence
            one(browser, "#drop [aria-label='Clear']").click()
            wait(browser, lambda browser: not browser.find_elements(By.CSS_SELECTOR, "#refused .rlsp-error"))
        # One that cannot be read does not keep the others from going on.
        visit(browser, address).send_keys(f"{cut}\n{single}")
        assert one(browser, "#refused").text.startswith("cut.mp4: ")
        assert sizes(browser, "#look img", "naturalWidth", "naturalHeight") == [[256, 192]] * 2
        one(browser, "#start").click()
        one(browser, ".rlsp-job .download")
        assert browser.execute_script("return document.documentElement.scrollWidth") == 400


@pytest.mark.slow
def test_only_those_with_an_account_see_anything_and_other_sites_nothing(tmp_path, model):
    (tmp_path / "accounts").write_text("anna:long enough\n", "utf-8")
    with showing(tmp_path / "kept", model) as (_, address):
        assert requests.get(address, timeout=60).ok
        for headers in ({"Host": "rebound.example"}, {"Origin": "https://other.example"}):
            assert requests.get(address, headers=headers, timeout=60).status_code == 403
    with (
        showing(tmp_path / "kept", model, "--auth-file", tmp_path / "accounts") as (_, address),
        requests.Session() as session,
    ):
        assert session.get(f"{address}config", timeout=60).status_code == 401
        lock = f"{address}gradio_api/file={tmp_path}/kept/server.lock"
        assert session.get(lock, timeout=60).status_code == 401
        wrong = session.post(f"{address}login", {"username": "anna", "password": "wrong"}, timeout=60)
        assert wrong.status_code == 400
        right = {"username": "anna", "password": "long enough"}
        assert session.post(f"{address}login", right, timeout=60).ok
        assert session.get(f"{address}config", timeout=60).ok


def test_the_example_of_hosting_builds_the_page(tmp_path, monkeypatch):
    """It runs as it stands, up to the moment at which it would be shown."""
    shown = {}

    def show(page, **options):
        shown.update(options, title=page.title)
        raise KeyboardInterrupt

    monkeypatch.setattr(gradio.Blocks, "launch", show)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("RLSP_USER", "anna")
    monkeypatch.setenv("RLSP_PASSWORD", "long enough")
    listen = launching.listen
    monkeypatch.setattr(launching, "listen", lambda host, port, command: listen(host, 0, command))

    async def host():
        runpy.run_path(str(ROOT / "docs" / "app.py"))

    # Gradio makes an event loop for each of its locks, and never closes it, unless one is running.
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(host())
    assert (shown["title"], shown["server_name"]) == ("rlsp", "0.0.0.0")
    assert shown["auth"] == [("anna", "long enough")]
    assert shown["share"] is False
