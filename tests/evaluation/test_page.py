"""The page of an evaluation, as numbers in files and as a browser shows it."""

import gc
import io
import json
import re
import tracemalloc
from dataclasses import asdict
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
from PIL import Image
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

from helpers.chromium import running_chromium
from helpers.synthetic import make_clip
from rlsp_tf.errors import RLSPError
from rlsp_tf.evaluation.page import OURS, PictureRecorder, format_metric, write_page
from rlsp_tf.evaluation.side_by_side import find_regions
from rlsp_tf.media.degradations import PAPER
from rlsp_tf.pixels.metrics import METRICS, PROTOCOLS, Meter, luma
from rlsp_tf.system.files import others_in

MODELS = ("bicubic", "7-64 <b>", 'a "better" one')
SEQUENCES = {"calendar": (240, 480), "wide & <i>narrow</i>": (64, 96)}
FRAMES = 6
PERFECT = 4  # the last model makes no error in this frame
PROTOCOL = PROTOCOLS["full"]


def rough(frame):
    """What a poor method makes of a frame: 4x4 blocks."""
    blocks = frame[::4, ::4].repeat(4, axis=0).repeat(4, axis=1)
    return blocks[: frame.shape[0], : frame.shape[1]]


def between(rough, truth, share):
    return np.rint(rough + share * (truth.astype(float) - rough)).astype(np.uint8)


def outputs_of(hr, index):
    shares = (0.0, 0.3 + 0.05 * index, 1.0 if index == PERFECT else 0.5)
    return {name: between(rough(hr), hr, share) for name, share in zip(MODELS, shares, strict=True)}


@pytest.fixture(scope="module")
def clips():
    return {name: make_clip(FRAMES, *size, seed=3) for name, size in SEQUENCES.items()}


@pytest.fixture(scope="module")
def results(clips):
    models = [
        {"name": name, "config": None, "sha256": None, "precision": None, "sequences": []} for name in MODELS
    ]
    models[1] |= {"config": {"filters": 64, "layers": 7}, "sha256": "c0ffee" * 10, "precision": "float32"}
    for sequence, clip in clips.items():
        meters = [Meter(PROTOCOL.crop) for _ in MODELS]
        for index, hr in enumerate(clip):
            for meter, sr in zip(meters, outputs_of(hr, index).values(), strict=True):
                meter.add(luma(hr), luma(sr), hr, sr)
        for model, meter in zip(models, meters, strict=True):
            model["sequences"].append({"name": sequence, **PROTOCOL.summarize(meter.frames)})
    for model in models:
        model["mean"] = {
            metric: float(np.mean([row[metric] for row in model["sequences"]])) for metric in METRICS
        }
    return {
        "protocol": asdict(PROTOCOL),
        "degradation": {"description": str(PAPER), **PAPER.to_dict()},
        "models": models,
        "unfinished": ["foliage"],
        "versions": {"numpy": np.__version__},
        "command": "rlsp evaluate --hr 'a & b'",
    }


@pytest.fixture(scope="module")
def recorder(clips):
    recorder = PictureRecorder()
    for sequence, clip in clips.items():
        for index, hr in enumerate(clip):
            recorder.frame(sequence, index, hr, outputs_of(hr, index))
    return recorder


@pytest.fixture(scope="module")
def page(results, recorder, tmp_path_factory):
    return write_page(tmp_path_factory.mktemp("evaluation") / "report #1", results, recorder)


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    with running_chromium(tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


@pytest.fixture
def browser(chromium, page):
    """The page, freshly opened; what the console says while a test runs fails it."""
    chromium.get_log("browser")
    chromium.get(page.absolute().as_uri())
    yield chromium
    assert chromium.get_log("browser") == []


def load_pictures(browser):
    """Scrolls to every picture, as pictures are loaded when they come into view."""
    return browser.execute_async_script("""
        const done = arguments[0];
        (async () => {
            const pictures = [];
            for (const image of document.images) {
                image.scrollIntoView();
                image.loading = "eager";
                await image.decode().catch(() => {});
                pictures.push([image.currentSrc, image.naturalWidth, image.alt]);
            }
            done(pictures);
        })();""")


def stage_of(browser, number=0):
    stage = browser.find_elements(By.CSS_SELECTOR, ".stage")[number]
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", stage)
    return stage


def divide(browser, stage):
    """Where the divide is, in percent of the width, as the browser clips the left picture by it."""
    left = stage.find_element(By.CSS_SELECTOR, "img.left")
    clip = browser.execute_script("return getComputedStyle(arguments[0]).clipPath", left)
    hidden = re.fullmatch(
        r"inset\(0px calc\(100% - ([\d.]+)%\) 0px 0px\)|inset\(0px ([\d.]+)% 0px 0px\)", clip
    )
    assert hidden, clip
    return float(hidden[1]) if hidden[1] else 100 - float(hidden[2])


def test_every_picture_loads_from_the_folder_of_the_page(browser, page):
    pictures = load_pictures(browser)
    per_method = len(MODELS) + 1  # and the truth
    crops = browser.execute_script("return document.querySelectorAll('.row').length")
    assert 2 <= crops <= 6
    assert len(pictures) == 2 * (per_method + 1) + crops * per_method
    for source, width, text in pictures:
        assert width > 0, source
        assert source.startswith(page.parent.absolute().as_uri() + "/")
        assert text
    addresses = browser.execute_script("return performance.getEntriesByType('resource').map((r) => r.name)")
    assert all(address.startswith(("file:", "data:")) for address in addresses)


def test_dragging_the_slider_moves_the_divide_to_the_pointer(browser):
    stage = stage_of(browser)
    assert divide(browser, stage) == 50
    width = stage.rect["width"]
    ActionChains(browser).move_to_element(stage).click_and_hold().move_by_offset(
        width // 4, 0
    ).release().perform()
    assert divide(browser, stage) == pytest.approx(75, abs=100 / width)  # a pixel
    line = stage.find_element(By.CSS_SELECTOR, ".line").rect
    assert line["x"] + 1 == pytest.approx(stage.rect["x"] + 0.75 * width, abs=1.5)


def test_left_of_the_divide_is_one_picture_and_right_of_it_the_other(browser, page, recorder, tmp_path):
    load_pictures(browser)
    stage = stage_of(browser)
    ActionChains(browser).move_to_element(stage).move_by_offset(-100, 0).click().perform()
    browser.execute_script(
        "document.querySelectorAll('.box, .tag, .line').forEach((element) => element.remove())"
    )
    shown = np.asarray(Image.open(io.BytesIO(stage.screenshot_as_png)).convert("RGB"))
    pictures = recorder.scenes(tmp_path)["calendar"].pictures
    left, right = (iio.imread(tmp_path / picture.file) for picture in (pictures[0], pictures[2]))
    assert shown.shape == left.shape  # a pixel for a pixel
    inner = slice(8, -8)  # corners are round
    assert np.array_equal(shown[inner, 8:139], left[inner, 8:139])
    assert np.array_equal(shown[inner, 141:-8], right[inner, 141:-8])


def test_the_slider_obeys_the_keyboard_and_says_where_it_is(browser):
    stage = stage_of(browser)
    slider = stage.find_element(By.CSS_SELECTOR, "input")
    slider.send_keys(Keys.END)
    assert divide(browser, stage) == 100
    slider.send_keys(Keys.PAGE_DOWN)
    assert 80 <= divide(browser, stage) < 100
    slider.send_keys(Keys.HOME)
    assert divide(browser, stage) == 0
    assert slider.get_attribute("aria-valuetext") == f"0 % bicubic, the rest {MODELS[2]}"


def test_either_side_shows_any_method_or_the_truth(browser):
    stage = stage_of(browser, 1)
    sides = [Select(element) for element in browser.find_elements(By.CSS_SELECTOR, "select")[2:]]
    expected = [*MODELS, "ground truth"]
    for side, name in zip(sides, ("left", "right"), strict=True):
        assert [option.text for option in side.options] == expected
        for label in expected:
            side.select_by_visible_text(label)
            picture = stage.find_element(By.CSS_SELECTOR, f"img.{name}")
            assert picture.get_attribute("alt").endswith(f", {label}")
            assert stage.find_element(By.CSS_SELECTOR, f".tag.{name}").text == label


def test_tables_hold_the_results(browser, results):
    tables = browser.execute_script("""
        const texts = (row) => [...row.cells].map((cell) => cell.textContent.trim());
        const rows = (table) => [...table.tBodies[0].rows].map(texts);
        return [...document.querySelectorAll("table")].map(rows);""")
    models = results["models"]
    means = [
        [
            model["name"],
            *(f"{model['mean'][metric]:.{4 if metric == 'ssim_y' else 3}f}" for metric in METRICS[:2]),
        ]
        for model in models[:2]
    ]
    assert [row[:3] for row in tables[0][:2]] == means
    assert tables[0][2][:2] == [MODELS[2], "∞"]
    assert tables[1] == [
        [name, *(f"{row['psnr_y']:.3f} / {row['ssim_y']:.4f}".replace("inf", "∞") for row in rows)]
        for name, rows in (
            *((name, [model["sequences"][i] for model in models]) for i, name in enumerate(SEQUENCES)),
            ("mean", [model["mean"] for model in models]),
        )
    ]


def test_names_are_text_and_never_markup(browser):
    assert browser.find_elements(By.CSS_SELECTOR, "main b, main i") == []
    headings = [element.text for element in browser.find_elements(By.CSS_SELECTOR, "section h2")]
    assert headings[2:4] == list(SEQUENCES)


def test_the_page_tells_how_its_numbers_came_about(browser, results):
    terms = browser.find_elements(By.CSS_SELECTOR, "dt")
    details = browser.find_elements(By.CSS_SELECTOR, "dd")
    told = dict(zip((term.text for term in terms), (detail.text for detail in details), strict=True))
    assert told["bicubic"] == ""
    assert told[MODELS[1]] == f"filters 64, layers 7; float32; SHA-256 {'c0ffee' * 10}"
    assert told["Protocol full"] == PROTOCOL.source
    assert told["Command"] == results["command"]
    assert told["Versions"] == f"numpy {np.__version__}"


def test_what_is_missing_is_said(browser):
    assert "Not measured: foliage." in browser.find_element(By.CSS_SELECTOR, "header").text


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_page_and_its_plots_follow_the_theme(browser, theme):
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": theme}]}
    )
    background = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    brightness = np.mean([int(part) for part in re.findall(r"\d+", background)])
    assert brightness > 200 if theme == "light" else brightness < 50

    def plots_of_theme(browser):
        plots = [source for source, _, text in load_pictures(browser) if text.startswith("Luma PSNR")]
        return len(plots) == 2 and all(source.endswith(f"-{theme}.svg") for source in plots)

    # A picture chooses its source some time after the theme has changed.
    assert WebDriverWait(browser, 10).until(plots_of_theme)


@pytest.mark.parametrize("width", [360, 768, 1920])
def test_the_page_is_never_wider_than_the_screen(browser, width):
    screen = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    assert browser.execute_script("return document.documentElement.scrollWidth") == width
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_the_page_names_no_place_on_the_network_and_none_on_this_machine(page):
    html = page.read_text("utf-8")
    assert not re.search(r"https?:|//\w", html)
    assert str(Path.cwd()) not in html


def test_plots_say_the_same_every_time(page, results, recorder, tmp_path):
    again = write_page(tmp_path / "report", results, recorder)
    first, second = (
        {file.name: file.read_bytes() for file in folder.glob("*") if file.is_file()}
        for folder in (page.parent, again.parent)
    )
    assert first == second
    assert sum(name.endswith(".svg") for name in first) == 4


def test_the_recorder_keeps_the_frame_of_the_largest_gain(clips, recorder, tmp_path):
    for sequence, scene in recorder.scenes(tmp_path).items():
        assert scene.index == PERFECT
        hr = clips[sequence][PERFECT]
        expected = {**outputs_of(hr, PERFECT), "ground truth": hr}
        assert [picture.label for picture in scene.pictures] == list(expected)
        for picture, image in zip(scene.pictures, expected.values(), strict=True):
            assert np.array_equal(iio.imread(tmp_path / picture.file), image)


def test_crops_lie_where_the_models_differ_most_from_bicubic(clips, recorder, tmp_path):
    scene = recorder.scenes(tmp_path)["calendar"]
    bicubic, *models = (
        image.astype(float) for image in outputs_of(clips["calendar"][PERFECT], PERFECT).values()
    )
    difference = sum(np.sum((model - bicubic) ** 2, axis=-1) for model in models)
    assert list(scene.regions) == find_regions(difference, 32, 32, 3)
    for picture in scene.pictures:
        whole = iio.imread(tmp_path / picture.file)
        for region, file in zip(scene.regions, picture.crops, strict=True):
            x, y = region.x, region.y
            assert np.array_equal(iio.imread(tmp_path / file), whole[y : y + 32, x : x + 32])


def test_without_a_model_crops_lie_where_bicubic_misses_the_truth(clips, tmp_path):
    hr = clips["calendar"][0]
    recorder = PictureRecorder()
    recorder.frame("calendar", 0, hr, {"bicubic": rough(hr)})
    difference = np.sum((hr.astype(float) - rough(hr)) ** 2, axis=-1)
    (scene,) = recorder.scenes(tmp_path).values()
    assert list(scene.regions) == find_regions(difference, 32, 32, 3)


def test_identical_frames_have_one_crop(clips, tmp_path):
    hr = clips["calendar"][0]
    recorder = PictureRecorder()
    recorder.frame("calendar", 0, hr, {"bicubic": hr, "copy": hr})
    (scene,) = recorder.scenes(tmp_path).values()
    assert len(scene.regions) == 1


def test_recording_takes_the_memory_of_one_frame(clips):
    hr = clips["calendar"][0]
    recorder = PictureRecorder()
    held = []
    tracemalloc.start()
    for sequence in range(3):
        for index in range(4):
            # Every frame gains more than the one before, so each of them is taken.
            recorder.frame(str(sequence), index, hr, outputs_of(hr, index))
            held.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    pictures = (len(MODELS) + 1) * hr.nbytes
    assert pictures <= held[0]
    assert max(held) - held[0] < hr.nbytes / 10


def test_the_recorders_files_go_with_it(clips):
    recorder = PictureRecorder()
    for sequence, clip in clips.items():
        recorder.frame(sequence, 0, clip[0], outputs_of(clip[0], 0))
    folder = recorder._folder
    assert len(list(folder.glob("*/*.png"))) > 0
    del recorder
    gc.collect()
    assert not folder.exists()


def test_a_sequence_without_pictures_is_told_in_numbers(results, tmp_path):
    html = write_page(tmp_path / "report", results, PictureRecorder()).read_text("utf-8")
    assert "<figure" not in html
    assert f"{results['models'][0]['sequences'][1]['psnr_y']:.3f}" in html


def test_results_read_back_from_json_make_the_same_page(page, results, recorder, tmp_path):
    text = re.sub(r"\bInfinity\b", '"inf"', json.dumps(results))
    again = write_page(tmp_path / "report", json.loads(text), recorder)
    assert again.read_text("utf-8") == page.read_text("utf-8")


def test_a_folder_that_is_there_is_replaced_with_force_only(results, recorder, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RLSPError, match="is not empty"):
        write_page(tmp_path, results, recorder)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    with pytest.raises(RLSPError, match=r"holds notes\.txt, which this command does not write"):
        write_page(tmp_path, results, recorder, force=True)
    assert [*tmp_path.iterdir()] == [tmp_path / "notes.txt"]
    for _ in range(2):
        write_page(tmp_path / "report", results, recorder, force=True)
    assert [*others_in(tmp_path / "report", OURS)] == []


def test_a_page_that_fails_leaves_nothing(results, recorder, tmp_path):
    with pytest.raises(KeyError):
        write_page(tmp_path / "report", {**results, "models": [{"sequences": [{"name": "x"}]}]}, recorder)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("value", "metric", "text"),
    [
        (26.8904, "psnr_y", "26.890"),
        (0.81036, "ssim_y", "0.8104"),
        (float("inf"), "psnr_y", "∞"),
        ("inf", "psnr_rgb", "∞"),
        (None, "temporal_psnr_y", "-"),
    ],
)
def test_numbers_as_text(value, metric, text):
    assert format_metric(value, metric) == text
