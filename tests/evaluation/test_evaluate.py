"""Evaluation against whole clips computed in NumPy, against the authors' frames, and on damaged data."""

import tracemalloc
from dataclasses import replace
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest

from helpers import reference_numpy
from helpers.networks import SMALL, small_model
from helpers.synthetic import make_clip
from rlsp_tf.converters.tf1 import load_tf1
from rlsp_tf.errors import RLSPError
from rlsp_tf.evaluation.evaluate import evaluate
from rlsp_tf.inference.upscaler import StreamingUpscaler
from rlsp_tf.media.degradations import degradation_named
from rlsp_tf.media.encoders import EncoderOptions
from rlsp_tf.media.open import open_sink, open_source
from rlsp_tf.network.config import RLSPConfig
from rlsp_tf.network.model import RLSP, rlsp_layer
from rlsp_tf.network.weights import load_model
from rlsp_tf.pixels.degradation import degrade
from rlsp_tf.pixels.metrics import METRICS, PROTOCOLS, EvaluationProtocol, Meter, luma
from rlsp_tf.system.files import sha256_of

SIZES = {"long": (9, 44, 52), "odd": (6, 47, 41)}
EXACT = EvaluationProtocol("exact", crop=2, drop=1, rounding=False, mean="sequence MSE")


def write_frames(folder: Path, clip: np.ndarray) -> Path:
    folder.mkdir(parents=True)
    for index, frame in enumerate(clip):
        iio.imwrite(folder / f"{index:04d}.png", frame)
    return folder


@pytest.fixture
def clips() -> dict[str, np.ndarray]:
    return {name: make_clip(*size, seed=len(name)) for name, size in SIZES.items()}


@pytest.fixture
def hr(tmp_path, clips) -> Path:
    for name, clip in clips.items():
        write_frames(tmp_path / "hr" / name, clip)
    return tmp_path / "hr"


@pytest.fixture
def model(tmp_path, rng) -> Path:
    small_model(rng).save(tmp_path / "small.keras")
    return tmp_path / "small.keras"


class Frames:
    """Records all frames."""

    def __init__(self):
        self.seen = []

    def frame(self, sequence, index, hr, outputs):
        self.seen.append((sequence, index, hr, outputs))

    def clip(self, sequence, name):
        return np.stack([outputs[name] for seen, _, _, outputs in self.seen if seen == sequence])


def keys_bicubic(lr):
    """Keys' kernel (a = -0.5) at positions 0, 1/4, 1/2, 3/4 after each sample; edges repeated."""
    kernel = [[0, 1, 0, 0]]
    for t in (0.25, 0.5, 0.75):
        kernel.append([-0.5 * t + t**2 - 0.5 * t**3, 1 - 2.5 * t**2 + 1.5 * t**3])
        kernel[-1] += [0.5 * t + 2 * t**2 - 1.5 * t**3, -0.5 * t**2 + 0.5 * t**3]

    def enlarge(image):
        padded = np.pad(image, ((1, 2), (0, 0)), mode="edge")
        phases = [sum(w * padded[k : k + len(image)] for k, w in enumerate(taps)) for taps in kernel]
        return np.stack(phases, axis=1).reshape(4 * len(image), -1)

    return enlarge(enlarge(lr).T).T


def summary(protocol, hr_y, sr_y, hr_rgb, sr_rgb):
    meter = Meter(protocol.crop)
    for frame in zip(hr_y, sr_y, hr_rgb, sr_rgb, strict=True):
        meter.add(*frame)
    return protocol.summarize(meter.frames)


def flat(sequence):
    """The numbers of a sequence or a mean, of its frames too, as one list."""
    rows = [sequence, *sequence.get("frames", [])]
    return [np.nan if row[metric] is None else row[metric] for row in rows for metric in METRICS]


def test_numbers_are_those_of_whole_clips(hr, model, clips):
    recorder = Frames()
    (result,) = evaluate(hr, models=[model], protocols=[EXACT], recorder=recorder, command="rlsp test")

    weights = load_model(model).get_weights()
    assert [entry["name"] for entry in result["models"]] == ["bicubic", "small"]
    for index, (name, clip) in enumerate(clips.items()):
        cut = clip[:, : clip.shape[1] // 4 * 4, : clip.shape[2] // 4 * 4]
        lr = degrade(cut)
        network = reference_numpy.rlsp(lr[None], weights)[0][0, ..., 0]
        bicubic = np.stack([keys_bicubic(luma(frame)) for frame in lr])
        for entry, sr_y, tolerance in zip(result["models"], (bicubic, network), (1e-9, 1e-4), strict=True):
            sequence = entry["sequences"][index]
            expected = summary(EXACT, luma(cut), sr_y, cut, recorder.clip(name, entry["name"]))
            assert sequence["name"] == name
            assert [frame["index"] for frame in sequence["frames"]] == list(range(1, len(clip) - 1))
            # The network runs in float32.
            np.testing.assert_allclose(flat(sequence), flat(expected), rtol=tolerance)
    for entry in result["models"]:
        means = [np.mean([sequence[metric] for sequence in entry["sequences"]]) for metric in METRICS]
        np.testing.assert_allclose(flat(entry["mean"]), means)


def test_results_say_what_was_measured_and_how(hr, model):
    (result,) = evaluate(hr, models=[model], precisions=["bfloat16"], command="rlsp test")
    assert result["protocol"]["name"] == "rlsp"
    assert result["command"] == "rlsp test"
    assert result["unfinished"] == result["notes"] == []
    assert {"python", "rlsp_tf", "tensorflow", "keras", "numpy"} <= result["versions"].keys()
    bicubic, small = result["models"]
    assert (bicubic["config"], bicubic["sha256"], bicubic["precision"]) == (None, None, "float64")
    assert RLSPConfig.from_dict(small["config"]) == SMALL
    assert (small["sha256"], small["precision"]) == (sha256_of(model), "bfloat16")


def test_pictures_are_what_upscaling_gives(hr, model, clips):
    recorder = Frames()
    evaluate(hr / "long", models=[model], recorder=recorder)
    upscaler = StreamingUpscaler(load_model(model))
    lr = degrade(clips["long"])
    expected = [frame for low in lr for frame in upscaler.push(low)] + upscaler.flush()

    assert [(sequence, index) for sequence, index, _, _ in recorder.seen] == [("long", t) for t in range(9)]
    assert all(list(outputs) == ["bicubic", "small"] for *_, outputs in recorder.seen)
    np.testing.assert_array_equal(np.stack([frame for _, _, frame, _ in recorder.seen]), clips["long"])
    difference = np.abs(recorder.clip("long", "small").astype(int) - np.stack(expected))
    # float64 here, float32 there: a number close to half rounds the other way.
    assert difference.max() <= 1
    assert (difference == 0).mean() > 0.999


def test_one_pass_serves_many_protocols_and_precisions(hr, model):
    protocols = [PROTOCOLS["duf"], PROTOCOLS["full"], replace(PROTOCOLS["duf"], name="raw", rounding=False)]
    together = evaluate(hr / "odd", models=[model], precisions=["float32", "bfloat16"], protocols=protocols)
    assert [result["protocol"]["name"] for result in together] == ["duf", "full", "raw"]
    assert together[0]["models"] != together[2]["models"]
    for protocol, result in zip(protocols, together, strict=True):
        names = [entry["name"] for entry in result["models"]]
        assert names == ["bicubic", "small float32", "small bfloat16"]
        for precision, column in (("float32", 1), ("bfloat16", 2)):
            (alone,) = evaluate(hr / "odd", models=[model], precisions=[precision], protocols=[protocol])
            assert alone["models"][0] == result["models"][0]
            assert alone["models"][1] == {**result["models"][column], "name": "small"}


def test_a_warm_start_is_a_column_of_its_own(hr, model, clips):
    recorder = Frames()
    (result,) = evaluate(hr, models=[model], protocols=[EXACT], warm_start=3, recorder=recorder)
    (without,) = evaluate(hr, models=[model], protocols=[EXACT])
    assert [entry["name"] for entry in result["models"]] == ["bicubic", "small", "small warm start 3"]
    assert result["models"][:2] == without["models"]
    layer = rlsp_layer(load_model(model))
    warm = RLSP.from_config({**layer.get_config(), "warm_start": 3, "dtype": "float32"})
    warm.build((None, None, None, None, 3))
    warm.set_weights(layer.get_weights())
    for index, clip in enumerate(clips.values()):
        cut = clip[:, : clip.shape[1] // 4 * 4, : clip.shape[2] // 4 * 4]
        outputs = warm(degrade(cut)[None].astype(np.float32))[0, ..., 0].numpy()
        drop = slice(EXACT.drop, len(cut) - EXACT.drop)
        crop = slice(EXACT.crop, -EXACT.crop or None)
        error = np.square(outputs - luma(cut))[drop, crop, crop].mean()
        found = result["models"][2]["sequences"][index]["psnr_y"]
        assert found == pytest.approx(10 * np.log10(255**2 / error), abs=1e-4)


def test_models_of_any_window_and_output_stand_side_by_side(hr, tmp_path, rng):
    configs = {
        "past": replace(SMALL, frames_before=2, frames_after=0),
        "future": replace(SMALL, frames_before=0, frames_after=3),
        "rgb": replace(SMALL, output="rgb"),
    }
    for name, config in configs.items():
        small_model(rng, config).save(tmp_path / f"{name}.keras")
    paths = [tmp_path / f"{name}.keras" for name in configs]
    (together,) = evaluate(hr, models=paths)
    for column, path in enumerate(paths, start=1):
        (alone,) = evaluate(hr, models=[path])
        assert together["models"][column] == alone["models"][1]
        assert all(
            len(sequence["frames"]) == SIZES[sequence["name"]][0] - 4
            for sequence in alone["models"][1]["sequences"]
        )


def test_frames_that_exist_are_measured_like_the_model_that_made_them(hr, tmp_path, rng):
    path = tmp_path / "rgb.keras"
    small_model(rng, replace(SMALL, output="rgb")).save(path)
    recorder = Frames()
    (by_model,) = evaluate(hr, models=[path], recorder=recorder)
    for name in SIZES:
        write_frames(tmp_path / "sr" / name, recorder.clip(name, "rgb"))
    (by_frames,) = evaluate(hr, sr=[tmp_path / "sr"])
    expected, measured = by_model["models"][1], by_frames["models"][1]
    assert (measured["name"], measured["config"], measured["precision"]) == ("sr", None, None)
    assert (measured["mean"], measured["sequences"]) == (expected["mean"], expected["sequences"])


def test_frames_of_the_uncut_size_are_cut_like_the_truth(hr, clips, tmp_path):
    write_frames(tmp_path / "sr", clips["odd"][:, ::-1])
    write_frames(tmp_path / "cut", clips["odd"][:, ::-1][:, :44, :40])
    (result,) = evaluate(hr / "odd", sr=[tmp_path / "sr", tmp_path / "cut"], protocols=[PROTOCOLS["full"]])
    _, whole, cut = result["models"]
    assert whole["sequences"] == cut["sequences"]


def test_perfect_frames_are_infinitely_good(hr):
    (result,) = evaluate(hr, sr=[hr])
    perfect = result["models"][1]
    infinity = float("inf")
    assert perfect["mean"] == {
        "psnr_y": infinity,
        "ssim_y": 1.0,
        "psnr_rgb": infinity,
        "temporal_psnr_y": infinity,
    }


def test_grey_images_are_luma_with_bicubic_chroma(hr, clips, tmp_path):
    write_frames(tmp_path / "sr", np.rint(luma(clips["long"])).astype(np.uint8))
    (result,) = evaluate(hr / "long", sr=[tmp_path / "sr"])
    bicubic, grey = (entry["mean"] for entry in result["models"])
    assert grey["psnr_y"] == pytest.approx(20 * np.log10(255 * np.sqrt(12)), abs=0.1)  # rounding alone
    assert bicubic["psnr_rgb"] < grey["psnr_rgb"] < grey["psnr_y"]


def write_video(path, folder, **encoder):
    with open_source(folder) as source:
        size = {"width": source.width, "height": source.height}
        sink = open_sink(path, source, **size, encoder=EncoderOptions(**encoder))
        with sink:
            for frame in source:
                sink.write(frame)
    return path


def test_videos_are_truth_and_result_too(hr, tmp_path, model):
    videos = tmp_path / "videos"
    videos.mkdir()
    for name in SIZES:
        write_video(videos / f"{name}.mkv", hr / name, codec="libx264rgb", crf=0)
    (expected,) = evaluate(hr, models=[model], sr=[hr])
    (result,) = evaluate(videos, models=[model], sr=[hr])
    assert result["models"] == expected["models"]


def test_a_video_with_losses_is_measured_in_its_own_colours(hr, tmp_path):
    (result,) = evaluate(hr / "long", sr=[write_video(tmp_path / "long.mp4", hr / "long", crf=10)])
    bicubic, video = (entry["mean"] for entry in result["models"])
    assert result["notes"] == []
    # Chroma at half the resolution costs most, luma is all there.
    assert bicubic["psnr_y"] + 10 < video["psnr_y"] < float("inf")
    assert bicubic["psnr_rgb"] < video["psnr_rgb"] < video["psnr_y"]


def peak_memory(*arguments, **options):
    tracemalloc.start()
    try:
        evaluate(*arguments, **options)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_clip(tmp_path, model):
    frame = make_clip(1, 96, 96)[0]
    short = write_frames(tmp_path / "short", [np.roll(frame, t, axis=1) for t in range(6)])
    long = write_frames(tmp_path / "long", [np.roll(frame, t, axis=1) for t in range(40)])
    evaluate(short, models=[model])  # whatever is set up once
    growth = peak_memory(long, models=[model], sr=[long]) - peak_memory(short, models=[model], sr=[short])
    # Of 34 more frames the numbers are kept, about 3 kB each; even as bytes the frames would be 27 kB each.
    assert growth < 34 * frame.nbytes / 4


def remove(folder, index):
    (folder / f"{index:04d}.png").unlink()


def truncate(folder):
    path = folder / "0003.png"
    path.write_bytes(path.read_bytes()[:-100])


def shrink(folder):
    for path in folder.iterdir():
        iio.imwrite(path, iio.imread(path)[:-4])


def add(folder):
    iio.imwrite(folder / f"{len(list(folder.iterdir())):04d}.png", iio.imread(folder / "0000.png"))


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda folder: remove(folder, 3), "sr/odd: the frames go 0001, 0002, 0004, so one is missing"),
        (lambda folder: remove(folder, 5), "sr/odd: ends after 5 frames, but .*hr/odd goes on"),
        (add, "sr/odd: goes on after 6 frames, where .*hr/odd ends"),
        (truncate, r"sr/odd/0003\.png: not an image that can be read"),
        (shrink, "sr/odd: frames are 41x43, those of .*hr/odd 41x47"),
    ],
    ids=["frame missing", "last frame missing", "frame too many", "truncated", "other size"],
)
def test_damage_is_named_and_finished_sequences_are_kept(hr, clips, tmp_path, damage, sentence):
    for name, clip in clips.items():
        write_frames(tmp_path / "sr" / name, clip)
    damage(tmp_path / "sr" / "odd")
    kept = []
    with pytest.raises(RLSPError, match=sentence):
        evaluate(hr, sr=[tmp_path / "sr"], finished=kept.append)
    ((result,),) = kept
    assert result["unfinished"] == ["odd"]
    assert [sequence["name"] for sequence in result["models"][1]["sequences"]] == ["long"]
    assert result["models"][1]["mean"]["ssim_y"] == 1.0


def test_a_sequence_that_cannot_be_measured_does_not_stop_those_after_it(hr, clips, tmp_path):
    for name, clip in clips.items():
        write_frames(tmp_path / "sr" / name, clip)
    truncate(tmp_path / "sr" / "long")
    kept = []
    with pytest.raises(RLSPError, match=r"^[^ ]*sr/long/0003\.png: not an image that can be read"):
        evaluate(hr, sr=[tmp_path / "sr"], finished=kept.append)
    ((result,),) = kept
    assert result["unfinished"] == ["long"]
    assert [sequence["name"] for sequence in result["models"][1]["sequences"]] == ["odd"]


def test_a_missing_frame_of_the_truth_is_found(hr, model):
    remove(hr / "long", 4)
    with pytest.raises(RLSPError, match="hr/long: the frames go 0002, 0003, 0005, so one is missing"):
        evaluate(hr, models=[model])


def test_a_sequence_too_short_or_too_small_is_named(tmp_path, model):
    short = write_frames(tmp_path / "short", make_clip(4, 48, 48))
    with pytest.raises(RLSPError, match="short: protocol rlsp drops 2 frames at each end"):
        evaluate(short, models=[model])
    small = write_frames(tmp_path / "small", make_clip(5, 26, 48))
    with pytest.raises(RLSPError, match="small: frames of 48x24 are too small for a crop border of 8"):
        evaluate(small, models=[model])
    assert evaluate(small, models=[model], protocols=[PROTOCOLS["full"]])
    tiny = write_frames(tmp_path / "tiny", make_clip(5, 3, 48))
    with pytest.raises(RLSPError, match="tiny: frames of 48x3 are smaller than the scale of 4"):
        evaluate(tiny, models=[model])


def test_both_sides_must_hold_the_same_sequences(hr, clips, tmp_path):
    write_frames(tmp_path / "sr" / "long", clips["long"])
    write_frames(tmp_path / "sr" / "strange", clips["odd"])
    with pytest.raises(RLSPError, match=r"sr: holds long, strange, but .*hr holds long, odd"):
        evaluate(hr, sr=[tmp_path / "sr"])


def test_models_of_one_name_are_told_apart(hr, tmp_path, rng):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        small_model(rng).save(tmp_path / folder / "best.keras")
    paths = [tmp_path / folder / "best.keras" for folder in ("a", "b")]
    (result,) = evaluate(hr, models=paths)
    assert [entry["name"] for entry in result["models"]] == ["bicubic", *map(str, paths)]
    with pytest.raises(RLSPError, match="same name"):
        evaluate(hr, models=[paths[0], paths[0]])


def test_models_of_different_scales_are_refused(hr, model, tmp_path, rng):
    small_model(rng, replace(SMALL, scale=2)).save(tmp_path / "twice.keras")
    with pytest.raises(RLSPError, match="different scales \\(2, 4\\)"):
        evaluate(hr, models=[model, tmp_path / "twice.keras"])
    (result,) = evaluate(hr, models=[tmp_path / "twice.keras"])
    assert result["models"][1]["mean"]["psnr_y"] > 0


def test_7_64_is_as_good_as_the_authors_frames(data, tmp_path):
    """The first eight frames of walk; what comes later does not change them but for the last."""
    for index in range(9):
        for name, source in (
            ("hr", "vid4/walk/{:04d}.png"),
            ("sr", "rlsp-original/frames/7-64/walk_y/frame_{:04d}.png"),
        ):
            (tmp_path / name).mkdir(exist_ok=True)
            (tmp_path / name / f"{index:04d}.png").write_bytes((data / source.format(index)).read_bytes())
    load_tf1(data / "rlsp-original" / "checkpoints" / "ckpt_rlsp_64").save(tmp_path / "7-64.keras")
    (result,) = evaluate(tmp_path / "hr", models=[tmp_path / "7-64.keras"], sr=[tmp_path / "sr"])
    _, model, frames = (entry["sequences"][0]["frames"] for entry in result["models"])
    assert [frame["index"] for frame in frames] == [2, 3, 4, 5, 6]
    for ours, theirs in zip(model, frames, strict=True):
        # One pixel in ten thousand rounds the other way; which, depends on who computes convolutions. SSIM
        # differs by up to 2e-6 with Eigen and oneDNN's kernels for AVX-512, by 2.3e-6 with those for AVX2.
        assert ours["psnr_y"] == pytest.approx(theirs["psnr_y"], abs=2e-4)
        assert ours["ssim_y"] == pytest.approx(theirs["ssim_y"], abs=3e-6)


@pytest.mark.slow
def test_7_48_on_vid4_is_what_the_paper_measures(data, tmp_path):
    load_tf1(data / "rlsp-original" / "checkpoints" / "ckpt_rslp_48").save(tmp_path / "7-48.keras")
    (result,) = evaluate(data / "vid4", models=[tmp_path / "7-48.keras"])
    bicubic, network = (entry["mean"]["psnr_y"] for entry in result["models"])
    assert bicubic == pytest.approx(23.529, abs=0.0005)
    assert network == pytest.approx(26.645, abs=0.002)


def test_low_resolution_through_a_codec_is_that_of_the_whole_clip(hr, model, clips):
    """Frames come out of the codec later than they go in; each meets its own truth."""
    recorder = Frames()
    degradation = degradation_named("crf25")
    (result,) = evaluate(hr, models=[model], protocols=[EXACT], degradation=degradation, recorder=recorder)
    assert (
        result["degradation"]["description"]
        == "crf25: as in the paper, then x264 at CRF 25, preset medium, a key frame every 250 frames"
    )
    recipe = degradation.draw(np.random.default_rng(0))
    for name, clip in clips.items():
        cut = clip[:, : clip.shape[1] // 4 * 4, : clip.shape[2] // 4 * 4]
        np.testing.assert_array_equal([frame[2] for frame in recorder.seen if frame[0] == name], cut)
        lr = recipe.apply(cut, 4)
        network = reference_numpy.rlsp(lr[None], load_model(model).get_weights())[0][0, ..., 0]
        bicubic = np.stack([keys_bicubic(luma(frame)) for frame in lr])
        for entry, sr_y, tolerance in zip(result["models"], (bicubic, network), (1e-9, 1e-4), strict=True):
            (sequence,) = [each for each in entry["sequences"] if each["name"] == name]
            expected = summary(EXACT, luma(cut), sr_y, cut, recorder.clip(name, entry["name"]))
            # The network runs in float32.
            np.testing.assert_allclose(flat(sequence), flat(expected), rtol=tolerance)


def test_grey_frames_against_themselves_are_perfect(tmp_path):
    grey = make_clip(6, 44, 52)[..., 0]
    hr = write_frames(tmp_path / "grey", grey)
    (result,) = evaluate(hr, sr=[hr], protocols=[PROTOCOLS["full"]])
    for metric in METRICS:
        assert result["models"][1]["mean"][metric] == (1 if metric == "ssim_y" else np.inf)
    # A grey picture is measured as the same picture saved in colour.
    dark = (grey * 0.9).astype(np.uint8)
    colours = write_frames(tmp_path / "colours", np.stack([grey] * 3, axis=-1))
    dark_colours = write_frames(tmp_path / "dark_colours", np.stack([dark] * 3, axis=-1))
    (one,) = evaluate(hr, sr=[write_frames(tmp_path / "dark", dark)])
    (other,) = evaluate(colours, sr=[dark_colours])
    assert flat(one["models"][1]["mean"]) == flat(other["models"][1]["mean"])


def test_low_resolution_can_be_given(hr, model, clips, tmp_path):
    made = {}
    for name, clip in clips.items():
        height, width = (side // 4 * 4 for side in clip.shape[1:3])
        made[name] = degrade(clip[:, :height, :width])
        write_frames(tmp_path / "lr" / name, made[name])
    (expected,) = evaluate(hr, models=[model])
    (result,) = evaluate(hr, models=[model], lr=tmp_path / "lr")
    path = str(tmp_path / "lr")
    assert result["degradation"] == {"description": "given: lr", "name": "given", "path": path}
    for ours, theirs in zip(result["models"], expected["models"], strict=True):
        assert [flat(each) for each in ours["sequences"]] == [flat(each) for each in theirs["sequences"]]
    # Other low resolution, other numbers; a single sequence may have another name.
    write_frames(tmp_path / "other", 255 - made["odd"])
    (result,) = evaluate(hr / "odd", models=[model], lr=tmp_path / "other")
    assert result["models"][1]["mean"]["psnr_y"] < expected["models"][1]["mean"]["psnr_y"] - 3


@pytest.mark.parametrize(
    ("frames", "complaint"),
    [
        (make_clip(9, 44, 52), r"frames are 52x44; those of .*long need low resolution of 13x11"),
        (make_clip(8, 11, 13), r"lr: ends before .*long; give as many frames"),
        (make_clip(10, 11, 13), r"lr: goes on after .*long; give as many frames"),
    ],
)
def test_low_resolution_that_does_not_fit_is_refused(hr, frames, complaint, tmp_path, model):
    with pytest.raises(RLSPError, match=complaint):
        evaluate(hr / "long", models=[model], lr=write_frames(tmp_path / "lr", frames))


def test_low_resolution_of_other_sequences_is_refused(hr, tmp_path, model):
    for name in ("long", "another"):
        write_frames(tmp_path / "lr" / name, make_clip(2, 11, 13))
    with pytest.raises(RLSPError, match=r"holds another, long, but .* holds long, odd"):
        evaluate(hr, models=[model], lr=tmp_path / "lr")
