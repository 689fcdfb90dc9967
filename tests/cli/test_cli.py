"""rlsp as a user meets it: commands on files, sentences on standard error, exit codes."""

import itertools
import re
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import av
import imageio.v3 as iio
import numpy as np
import pytest

import rlsp_tf
from helpers.cli import fails
from helpers.commands import Command
from helpers.networks import small_model
from helpers.synthetic import make_clip
from helpers.videos import frame_times, make_video
from rlsp_tf.cli.main import main


@pytest.fixture
def model(tmp_path: Path, rng: np.random.Generator) -> str:
    path = tmp_path / "small.keras"
    small_model(rng).save(path)
    return str(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "frames"
    folder.mkdir()
    for index, frame in enumerate(make_clip(3, 9, 14, seed=1)):
        iio.imwrite(folder / f"image{index}.png", frame)
    return folder


def packets(path: Path, kind: str) -> list[tuple[bytes, float]]:
    with av.open(str(path)) as container:
        return [
            (bytes(packet), packet.pts * packet.time_base)
            for packet in container.demux()
            if packet.stream.type == kind and packet.size
        ]


def times(path: Path) -> list[float]:
    with av.open(str(path)) as container:
        return [frame.pts * frame.time_base for frame in container.decode(video=0)]


def test_help_needs_no_tensorflow() -> None:
    script = (
        "import sys\n"
        "from rlsp_tf.cli.main import main\n"
        "try:\n    main(['upscale', '--help'])\n"
        "except SystemExit as exit:\n    assert exit.code == 0\n"
        "assert not {'tensorflow', 'keras'} & set(sys.modules)\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "--chroma" in result.stdout


def test_python_m_is_the_command_and_says_its_version() -> None:
    command = [sys.executable, "-m", "rlsp_tf", "--version"]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert run.stdout == f"rlsp {rlsp_tf.__version__}\n"


def test_wrong_usage_exits_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["upscale"])
    assert "INPUT" in capsys.readouterr().err


def test_a_folder_becomes_a_folder(folder: Path, model: str, tmp_path: Path) -> None:
    assert main(["upscale", str(folder), str(tmp_path / "large"), "--model", model]) == 0
    names = sorted(path.name for path in (tmp_path / "large").iterdir())
    assert names == ["image0.png", "image1.png", "image2.png"]
    assert iio.imread(tmp_path / "large" / "image1.png").shape == (36, 56, 3)


def test_a_folder_becomes_a_video(folder: Path, model: str, tmp_path: Path) -> None:
    film = tmp_path / "film.mp4"
    assert main(["upscale", str(folder), str(film), "--model", model, "--rate", "24"]) == 0
    assert times(film) == [pytest.approx(index / 24) for index in range(3)]


def test_a_video_keeps_frames_times_and_sound(data: Path, model: str, tmp_path: Path) -> None:
    source, target = data / "video" / "realshort_320x240.mp4", tmp_path / "large.mp4"
    assert main(["upscale", str(source), str(target), "--model", model, "--preset", "ultrafast"]) == 0
    assert times(target) == times(source)
    assert packets(target, "audio") == packets(source, "audio")
    with av.open(str(target)) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height) == (1280, 960)
        assert stream.average_rate == pytest.approx(45000 / 1499)


@pytest.mark.parametrize(
    ("pixels", "dtype"),
    [
        (np.full((1, 1, 3), 90, np.uint8), np.uint8),
        (np.full((3, 5, 3), 90, np.uint8), np.uint8),
        (np.full((3, 5), 90, np.uint8), np.uint8),
        (np.full((3, 5, 4), 90, np.uint8), np.uint8),
        (np.full((3, 5, 3), 90 * 257, np.uint16), np.uint16),
        (np.full((3, 5), 90 * 257, np.uint16), np.uint16),
    ],
    ids=["1x1", "rgb", "grey", "rgba", "rgb16", "grey16"],
)
def test_every_kind_of_image(pixels: np.ndarray, dtype: type, model: str, tmp_path: Path) -> None:
    from rlsp_tf.media.images import write_png

    source = tmp_path / "in"
    source.mkdir()
    if pixels.dtype == np.uint16 and pixels.ndim == 3:
        write_png(source / "x.png", pixels)
    else:
        iio.imwrite(source / "x.png", pixels)
    assert main(["upscale", str(source), str(tmp_path / "out"), "--model", model]) == 0
    (output,) = (tmp_path / "out").iterdir()
    with av.open(str(output)) as container:  # FFmpeg reads 48-bit PNG
        (frame,) = container.decode(video=0)
    assert (frame.height, frame.width) == (4 * pixels.shape[0], 4 * pixels.shape[1])
    assert frame.format.components[0].bits == 8 * np.dtype(dtype).itemsize


class TestSentences:
    """What goes wrong ends in one sentence that names the file, and leaves nothing behind."""

    def test_missing_input(self, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        line = fails(capsys, "upscale", tmp_path / "no.mp4", tmp_path / "x.mp4", "--model", model)
        assert "no.mp4" in line

    def test_missing_model(self, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        line = fails(capsys, "upscale", folder, tmp_path / "x.mp4", "--model", "none.keras")
        assert "none.keras" in line

    @pytest.mark.parametrize("content", [b"", b"no video at all"])
    def test_no_video(
        self, content: bytes, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "x.mp4").write_bytes(content)
        line = fails(capsys, "upscale", tmp_path / "x.mp4", tmp_path / "y.mp4", "--model", model)
        assert "x.mp4" in line
        assert not (tmp_path / "y.mp4").exists()

    def test_existing_target(
        self, folder: Path, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "x.mp4").write_bytes(b"precious")
        line = fails(capsys, "upscale", folder, tmp_path / "x.mp4", "--model", model)
        assert "x.mp4" in line
        assert "--force" in line
        assert (tmp_path / "x.mp4").read_bytes() == b"precious"

    def test_frames_of_different_sizes(
        self, folder: Path, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        iio.imwrite(folder / "image9.png", np.zeros((5, 5, 3), np.uint8))
        line = fails(capsys, "upscale", folder, tmp_path / "out", "--model", model)
        assert "image9.png" in line
        assert not (tmp_path / "out").exists()
        assert [path for path in tmp_path.iterdir() if "part" in path.name] == []

    def test_unknown_codec(
        self, folder: Path, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        line = fails(capsys, "upscale", folder, tmp_path / "x.mp4", "--model", model, "--codec", "h999")
        assert "h999" in line

    def test_debug_shows_the_traceback(self, model: str, tmp_path: Path) -> None:
        from rlsp_tf.errors import RLSPError

        with pytest.raises(RLSPError):
            main(["upscale", str(tmp_path / "no.mp4"), str(tmp_path / "x.mp4"), "--model", model, "--debug"])


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_killed_run_leaves_no_file_under_the_final_name(
    number: signal.Signals, data: Path, model: str, tmp_path: Path
) -> None:
    source, target = data / "video" / "tears_of_steel_800x332.webm", tmp_path / "x.mkv"
    process = Command(["upscale", source, target, "--model", model], stderr=subprocess.PIPE, text=True)
    while not list(tmp_path.glob("x.mkv.rlsp/.000000.*")):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(number)
    if number != signal.SIGKILL:
        # The first alone lets the frame at hand be finished. Two of one number may arrive as one.
        process.send_signal(signal.SIGINT if number == signal.SIGTERM else signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert not target.exists()
    if number == signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL
    else:
        assert process.returncode == 130
        assert said.splitlines()[-1] == f"rlsp: error: {target}: interrupted."
        assert not list(tmp_path.glob("x.mkv*"))


def test_inputs_that_cannot_be_read_do_not_stop_the_others(
    folder: Path, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "empty").mkdir()
    (tmp_path / "script").mkdir()
    (tmp_path / "script" / "a.png").write_bytes(b"%!PS-Adobe-3.0\n{} loop\n")
    inputs = [tmp_path / name for name in ("gone.mp4", "gone", "empty", "text.mp4", "script")]
    arguments = [*inputs, folder, "--out", tmp_path / "large", "--model", model]
    assert main(["upscale", *map(str, arguments)]) == 1
    said = [line for line in capsys.readouterr().err.splitlines() if "error:" in line]
    expected = [
        "gone.mp4: no such file",
        "gone: no such file",
        "empty: has no images in it",
        "text.mp4: not a video that can be read",
        "script/a.png: not an image that can be read",
    ]
    assert len(said) == len(expected)
    for line, sentence in zip(said, expected, strict=True):
        assert line.startswith(f"rlsp: error: {tmp_path}/{sentence}")
    assert [path.name for path in (tmp_path / "large").iterdir()] == [folder.name]


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("24000/1001", Fraction(24000, 1001)),
        ("30000:1001", Fraction(30000, 1001)),
        ("ntsc", Fraction(30000, 1001)),
        ("NTSC-film", Fraction(24000, 1001)),
        ("pal", Fraction(25)),
        ("12.5", Fraction(25, 2)),
        ("0.1", Fraction(1, 10)),
    ],
)
def test_a_rate_is_what_ffmpeg_takes_for_one(text, rate, folder: Path, model: str, tmp_path: Path) -> None:
    film = tmp_path / "film.mp4"
    assert main(["upscale", str(folder), str(film), "--model", model, "--rate", text]) == 0
    times = frame_times(film)
    assert [after - before for before, after in itertools.pairwise(times)] == [1 / rate] * (len(times) - 1)


@pytest.mark.parametrize("text", ["0", "-1", "1/0", "nan", "inf", "1e999999999", "fast", "1001", "24/1001/1"])
def test_what_is_no_rate_is_wrong_usage(text, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit:
        main(["upscale", "frames", "film.mp4", f"--rate={text}"])
    assert exit.value.code == 2
    assert "expected frames per second from 0.001 to 1000, such as 24, 24000/1001" in capsys.readouterr().err


def test_a_rate_that_does_not_count_is_said_to_be_ignored(
    folder: Path, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    film = make_video(tmp_path / "film.mkv", [0, 3600, 7200], size=(32, 24))
    for source, target, note in (
        (film, "large.mkv", f"{film}: has a frame rate of its own (25), so --rate was ignored."),
        (folder, "large", f"{tmp_path / 'large'}: images have no frame rate, so --rate was ignored."),
    ):
        words = [source, tmp_path / target, "--model", model, "--rate", "24"]
        assert main(["upscale", *map(str, words)]) == 0
        assert f"rlsp: note: {note}" in capsys.readouterr().err.splitlines()
    assert frame_times(tmp_path / "large.mkv") == frame_times(film)


def test_quality_out_of_range_is_wrong_usage(folder: Path, model: str, tmp_path: Path, capsys) -> None:
    words = (folder, tmp_path / "film.mp4", "--model", model, "--crf", "52")
    assert "--crf for libx264 must be from 0 to 51, not 52." in fails(capsys, "upscale", *words, code=2)


COUNTS = ["--port", "--max-connections", "--max-rate", "--max-sessions", "--max-queue", "--max-pixels"]
COUNTS += ["--max-videos", "--max-jobs", "--replicas"]
AMOUNTS = ["--grace", "--client-share", "--max-idle", "--max-upload", "--max-seconds", "--max-job-age"]
SERVE = [*COUNTS, *AMOUNTS]


def test_these_are_all_numbers_of_serve(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["serve", "--help"])
    numbers = r"^  (--[\w-]+) (?:N|SECONDS|MB|PART|PORT)$|^  (--[\w-]+) (?:N|SECONDS|MB|PART|PORT) "
    found = {first or second for first, second in re.findall(numbers, capsys.readouterr().out, re.M)}
    assert found == set(SERVE)


@pytest.mark.parametrize(
    ("command", "option", "values"),
    [
        *(("serve", option, ("-1", "nan", "inf", "many", "")) for option in SERVE),
        *(("serve", option, ("1.5", "9" * 30)) for option in COUNTS),
        *(
            ("serve", option, ("0",))
            for option in SERVE
            if option not in ("--grace", "--port", "--max-job-age")
        ),
        ("serve", "--port", ("65536", "80.5")),
        ("serve", "--client-share", ("1.5",)),
        ("upscale a b", "--memory", ("0", "-1", "nan")),
        ("upscale a b", "--warm-start", ("-1", "101", "1.5")),
        ("upscale a b", "--workers", ("0", "-2")),
        ("clean .", "--older-than", ("-1", "nan")),
        ("evaluate --hr x", "--warm-start", ("-1", "101")),
        ("train --data x --out y", "--minutes", ("-1", "nan")),
    ],
)
def test_numbers_out_of_range_are_wrong_usage(
    command: str, option: str, values: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    for value in values:
        with pytest.raises(SystemExit) as ended:
            main([*command.split(), f"{option}={value}"])
        assert ended.value.code == 2
        assert f"argument {option}: expected a" in capsys.readouterr().err.splitlines()[-1]
