"""A server as users start it, by its command, and clients that are in each other's way."""

import contextlib
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import av
import numpy as np
import psutil
import pytest
import requests
from PIL import Image

from helpers.media import png
from helpers.networks import small_model
from helpers.streams import upscaled
from helpers.synthetic import make_clip
from helpers.videos import make_video, packets
from rlsp_tf.benchmarks.serve_video import LIKE_SESSIONS, side_by_side
from rlsp_tf.cli.main import main
from rlsp_tf.inference.upscaler import StreamingUpscaler
from rlsp_tf.pixels.color import ColorSpec
from rlsp_tf.upscaling.upscale import upscale

pytest.importorskip("ray", reason="needs rlsp_tf[serve]")

pytestmark = pytest.mark.slow

RAW, PNG = {"Content-Type": "application/octet-stream"}, {"Content-Type": "image/png"}
HEIGHT, WIDTH = 10, 14


class Server:
    """A server of its own process, whose files lie below a folder of its own."""

    def __init__(self, *options):
        # Ray's sockets take a path of at most 107 characters, so it has to be short.
        self.folder = Path(tempfile.mkdtemp(prefix="t", dir="/tmp"))
        self.jobs = self.folder / "jobs"
        with (self.folder / "stderr").open("w") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "rlsp_tf", "serve", "--port", "0", "--jobs", self.jobs, *options],
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                env={**os.environ, "TMPDIR": str(self.folder)},
            )
        self.url = self.process.stdout.readline().strip().rpartition(" ")[2]
        assert self.url.startswith("http://127.0.0.1:"), self.said()
        self.children = psutil.Process(self.process.pid).children(recursive=True)

    def said(self):
        return (self.folder / "stderr").read_text()

    def close(self):
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(60)
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        shutil.rmtree(self.folder)

    def ask(self, method, path, **options):
        return requests.request(method, self.url + path, timeout=60, **options)

    def begin(self, width=WIDTH, height=HEIGHT, **more):
        answer = self.ask("POST", "/sessions", params={"width": width, "height": height, **more})
        assert answer.status_code == 201, answer.text
        return f"/sessions/{answer.json()['session']}"

    def metrics(self):
        text = self.ask("GET", "/metrics").text
        return {name: float(value) for name, value in re.findall(r"^([^#\s]\S*) (\S+)$", text, re.M)}


@pytest.fixture(scope="module")
def server(file):
    limits = (
        "--max-sessions",
        "8",
        "--max-queue",
        "4",
        "--max-pixels",
        "6200",
        "--max-upload",
        "0.5",
        "--max-seconds",
        "70",
        "--max-rate",
        "5000",
        # All requests of this module come from one client.
        "--client-share",
        "1",
    )
    options = ("--precision", "float32", "--replicas", "2", "--grace", "2")
    server = Server("--model", str(file), *options, *limits)
    yield server
    server.close()


def decoded(path):
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def test_clients_at_the_same_time_get_the_frames_of_the_streaming_upscaler(server, model):
    """On two replicas: a state that is not where its frames go would be lost.

    There are more clients than frames may wait, so that some are refused and come again.
    """
    clips = [make_clip(6, HEIGHT, WIDTH, seed) for seed in range(6)]

    def client(clip):
        session = server.begin()
        answers = []
        for t, frame in enumerate(clip):
            put = partial(server.ask, "PUT", f"{session}/frames/{t}", data=frame.tobytes(), headers=RAW)
            while (answer := put()).status_code == 503:
                assert answer.headers["Retry-After"] == "2"
                time.sleep(0.05)
            answers.append(answer)
        assert [answer.status_code for answer in answers] == [204] + [200] * 5, answers[-1].text
        last = server.ask("DELETE", session)
        frames = [np.frombuffer(answer.content, np.uint8) for answer in [*answers[1:], last]]
        return np.stack(frames).reshape(-1, 4 * HEIGHT, 4 * WIDTH, 3)

    before = server.metrics()
    with ThreadPoolExecutor(len(clips)) as pool:
        results = list(pool.map(client, clips))
    for clip, result in zip(clips, results, strict=True):
        # Batches sum in another order, which may be rounded the other way.
        assert np.abs(result.astype(int) - upscaled(model, clip)).max() <= 1
    after = server.metrics()
    counted = 'rlsp_frames_total{kind="session"}'
    assert after[counted] - before.get(counted, 0) == 36
    taken = 'rlsp_requests_total{route="frame",status="200"}'
    assert after[taken] - before.get(taken, 0) == 30
    assert after["rlsp_frame_seconds_count"] - before["rlsp_frame_seconds_count"] == 36
    assert after["rlsp_sessions"] == 0
    assert (
        after['rlsp_resident_bytes{process="replicas"}'] > after['rlsp_resident_bytes{process="front"}'] > 1e7
    )


def test_frames_as_png_come_back_as_png(server, model):
    clip = make_clip(2, HEIGHT, WIDTH)
    session = server.begin(model="small")
    for t, frame in enumerate(clip):
        answer = server.ask("PUT", f"{session}/frames/{t}", data=png(frame), headers=PNG)
    frames = [answer, server.ask("DELETE", session)]
    assert {answer.headers["content-type"] for answer in frames} == {"image/png"}
    got = np.stack([np.asarray(Image.open(io.BytesIO(answer.content))) for answer in frames])
    np.testing.assert_array_equal(got, upscaled(model, clip))


def test_the_client_of_the_page_gets_a_clip_upscaled(server, model, tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "scale.md").read_text("utf-8")
    (code,) = re.findall(r"```python\n(# serve_client\.py.*?)```", page, re.DOTALL)
    (tmp_path / "serve_client.py").write_text(code.replace("http://127.0.0.1:8000", server.url))
    clip = make_clip(3, HEIGHT, WIDTH)
    (tmp_path / "lr").mkdir()
    for t, frame in enumerate(clip):
        (tmp_path / "lr" / f"{t}.png").write_bytes(png(frame))
    subprocess.run([sys.executable, "serve_client.py", "lr/*.png", "out"], cwd=tmp_path, check=True)
    got = [np.asarray(Image.open(path)) for path in sorted((tmp_path / "out").iterdir())]
    np.testing.assert_array_equal(np.stack(got), upscaled(model, clip))


def test_the_client_of_planes_gets_a_clip_upscaled(server, model, tmp_path, rng):
    page = (Path(__file__).parents[2] / "docs" / "scale.md").read_text("utf-8")
    (code,) = re.findall(r"```python\n(# serve_video\.py.*?)```", page, re.DOTALL)
    (tmp_path / "serve_video.py").write_text(code.replace("http://127.0.0.1:8000", server.url))
    color, shapes = ColorSpec("bt601", full_range=False), [(9, 13), (5, 7), (5, 7)]
    clip = [tuple(rng.integers(16, 236, shape, dtype=np.uint8) for shape in shapes) for _ in range(5)]
    sent = b"".join(plane.tobytes() for planes in clip for plane in planes)
    command = [sys.executable, "serve_video.py", "13", "9"]
    got = subprocess.run(command, cwd=tmp_path, check=True, input=sent, capture_output=True).stdout
    upscaler = StreamingUpscaler(model, source=color, target=color)
    frames = [frame for each in clip for frame in upscaler.push(each)] + upscaler.flush()
    assert got == b"".join(plane.tobytes() for planes in frames for plane in planes)


def test_a_video_comes_back_as_rlsp_upscale_makes_it(server, model, tmp_path):
    make_video(tmp_path / "in.mp4", audio=("aac",))
    upscale(tmp_path / "in.mp4", tmp_path / "own.mkv", model)
    before = server.metrics()
    with (tmp_path / "in.mp4").open("rb") as file:
        answer = server.ask("POST", "/videos", params={"container": "mkv"}, data=file)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "video/x-matroska"), answer.text
    assert "the video: does not say which colour matrix" in answer.headers["X-Notes"]
    (tmp_path / "served.mkv").write_bytes(answer.content)
    # The encoder may turn a rounding the other way into more than that.
    difference = np.abs(decoded(tmp_path / "served.mkv").astype(int) - decoded(tmp_path / "own.mkv"))
    assert difference.mean() < 0.01
    assert packets(tmp_path / "served.mkv", "audio") == packets(tmp_path / "own.mkv", "audio")
    after = server.metrics()
    video = 'rlsp_frames_total{kind="video"}'
    assert after[video] - before.get(video, 0) == 25
    sent = 'rlsp_bytes_total{direction="in"}'
    assert after[sent] - before.get(sent, 0) == (tmp_path / "in.mp4").stat().st_size
    wait_until(lambda: not list(server.folder.glob("rlsp-*/videos/*")))


def test_the_client_of_streams_gets_the_same(server, model, tmp_path):
    make_video(tmp_path / "in.mp4", audio=("aac",))
    upscale(tmp_path / "in.mp4", tmp_path / "own.mkv", model)
    page = (Path(__file__).parents[2] / "docs" / "scale.md").read_text("utf-8")
    (code,) = re.findall(r"```python\n(# stream_client\.py.*?)```", page, re.DOTALL)
    (tmp_path / "client.py").write_text(code.replace("http://127.0.0.1:8000", server.url))
    subprocess.run([sys.executable, "client.py", "in.mp4", "served.mkv"], cwd=tmp_path, check=True)
    difference = np.abs(decoded(tmp_path / "served.mkv").astype(int) - decoded(tmp_path / "own.mkv"))
    assert difference.mean() < 0.01
    assert packets(tmp_path / "served.mkv", "audio") == packets(tmp_path / "own.mkv", "audio")
    wait_until(lambda: not list(server.folder.glob("rlsp-*/videos/*")))


def wait_until(true):
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_what_cannot_be_held_is_refused_with_its_code_and_a_sentence(server, tmp_path):
    session = server.begin()
    long, large = tmp_path / "long.mp4", tmp_path / "large.mp4"
    make_video(long, pts=range(0, 80 * 90000, 90000), size=(32, 32))
    make_video(large, pts=[0], size=(80, 80))
    frame = bytes(3 * WIDTH * HEIGHT)
    refused = [
        ("POST", "/sessions?width=14", b"", {}, 400, "give height in pixels"),
        ("POST", "/sessions?width=14&height=1e3", b"", {}, 400, "give height in pixels"),
        ("POST", "/sessions?width=14&height=10&model=/etc/passwd", b"", {}, 400, "there is no model"),
        ("POST", "/sessions?width=140&height=100", b"", {}, 413, "at most 6200 pixels"),
        ("PUT", f"{session}/frames/0", frame[1:], RAW, 400, "have 420"),
        ("PUT", f"{session}/frames/0", b"GIF89a", PNG, 400, "not a PNG"),
        ("PUT", f"{session}/frames/0", frame, {"Content-Type": "image/gif"}, 415, "frames must be"),
        ("PUT", f"{session}/frames/0", frame, {}, 415, "set Content-Type"),
        ("PUT", f"{session}/frames/0", bytes(2**21), RAW, 413, "more than 1048996 bytes"),
        ("PUT", f"{session}/frames/3", frame, RAW, 409, "expects frame 0"),
        ("PUT", f"{session}/frames/-1", frame, RAW, 404, "not found"),
        ("PUT", "/sessions/..%2F..%2Fx/frames/0", frame, RAW, 404, "not found"),
        ("POST", session, b"", {}, 405, "method not allowed"),
        ("PUT", "/sessions/nobody/frames/0", frame, RAW, 410, "no such session"),
        ("DELETE", "/sessions/nobody", b"", {}, 410, "no such session"),
        ("POST", "/videos", b"", {}, 400, "no video in the request"),
        ("POST", "/videos", b"#EXTM3U\n/etc/passwd", {}, 415, "the video: not a video that can be read"),
        ("POST", "/videos", bytes(2**20), {}, 413, "more than 524288 bytes"),
        ("POST", "/videos", iter([bytes(2**19), b"x"]), {}, 413, "more than 524288 bytes"),
        ("POST", "/videos", long.read_bytes(), {}, 413, "lasts 79 s, but at most 70 s"),
        ("POST", "/videos", large.read_bytes(), {}, 413, "has frames of 80x80, but at most 6200"),
        ("POST", "/videos?container=../x", b"x", {}, 400, "can be mp4 or mkv"),
        ("GET", "/nothing", b"", {}, 404, "not found"),
    ]
    before = server.metrics()
    for method, path, data, headers, status, said in refused:
        answer = server.ask(method, path, data=data, headers=headers)
        assert (answer.status_code, said in answer.json()["error"]) == (status, True), answer.text
        assert "/tmp" not in answer.text
    after = server.metrics()
    for status in {status for *_, status, _ in refused}:
        name = f'rlsp_refused_total{{status="{status}"}}'
        assert after[name] - before.get(name, 0) == sum(each[4] == status for each in refused)
    # And the session is as it was.
    assert server.ask("PUT", f"{session}/frames/0", data=frame, headers=RAW).status_code == 204
    assert server.ask("DELETE", session).status_code == 200
    assert not list(server.folder.glob("rlsp-*/videos/*"))


def test_more_sessions_than_there_is_room_for_are_told_when_to_come_again(server):
    sessions = [server.begin() for _ in range(8)]
    answer = server.ask("POST", "/sessions?width=14&height=10")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "2")
    for session in sessions:
        assert server.ask("DELETE", session).status_code == 204
    assert server.ask("DELETE", server.begin()).status_code == 204


def test_a_client_that_goes_away_leaves_nothing(server, tmp_path):
    """Once in the middle of its upload, and once while its video is at work."""
    make_video(tmp_path / "in.mp4", pts=range(0, 70 * 3600, 3600), size=(80, 48))
    video = (tmp_path / "in.mp4").read_bytes()
    host, port = server.url.removeprefix("http://").split(":")
    for part in (len(video) // 2, len(video)):
        with socket.create_connection((host, int(port))) as client:
            head = f"POST /videos HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(video)}\r\n\r\n"
            client.sendall(head.encode() + video[:part])
            wait_until(lambda: list(server.folder.glob("rlsp-*/videos/*/source")))
        wait_until(lambda: not list(server.folder.glob("rlsp-*/videos/*")))


def test_it_tells_what_it_is_and_how_it_is(server):
    about = server.ask("GET", "/").json()
    assert about["models"] == {"small": {"scale": 4, "latency": 1, "bits": 32}}
    assert (about["limits"]["pixels"], about["limits"]["rate"]) == (6200, 5000)
    assert server.ask("GET", "/healthz").json() == {"status": "ok"}


def test_a_load_test_counts_what_the_server_counts(server, tmp_path, capsys):
    before = server.metrics()
    options = ["--clients", "1", "3", "--seconds", "1", "--size", "14x10"]
    json_file = tmp_path / "serve.json"
    assert main(["benchmark", "serve", "--url", server.url, *options, "--json", str(json_file)]) == 0
    said = capsys.readouterr().out
    after = server.metrics()
    result = json.loads(json_file.read_text())
    assert [each["clients"] for each in result["rounds"]] == [1, 3]
    assert [(each["lost"], each["wrong"], each["refused"]) for each in result["rounds"]] == [(0, 0, 0)] * 2
    counted = 'rlsp_frames_total{kind="session"}'
    assert after[counted] - before[counted] > sum(each["frames"] for each in result["rounds"]) > 10
    for each in result["rounds"]:
        assert each["latency"]["p99"] >= each["latency"]["p50"] > 0
        assert f"{each['rate']:.2f}" in said
    assert main(["benchmark", "report", str(tmp_path / "page.md"), str(json_file)]) == 0
    page = (tmp_path / "page.md").read_text()
    for each in result["rounds"]:
        assert f"| {each['clients']} | {each['rate']:.2f} | {each['latency']['p50']:.2f} |" in page


def test_sighup_loads_the_weights_anew(server, model, file):
    """In both replicas. A session that has begun keeps the old ones, and a bad file changes nothing."""
    clip, old = make_clip(2, HEIGHT, WIDTH), file.read_bytes()
    other = small_model(np.random.default_rng(1), precision="float32")

    def push(session, t):
        return server.ask("PUT", f"{session}/frames/{t}", data=clip[t].tobytes(), headers=RAW)

    def finish(session, t):
        answers = [push(session, t) for t in range(t, 2)] + [server.ask("DELETE", session)]
        data = b"".join(answer.content for answer in answers)
        return np.frombuffer(data, np.uint8).reshape(-1, 4 * HEIGHT, 4 * WIDTH, 3)

    def reload(said):
        count = server.said().count(said)
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: server.said().count(said) > count)

    loaded = "rlsp: the weights of small were loaded anew."
    sessions = [server.begin() for _ in range(4)]
    for session in sessions:
        push(session, 0)
    try:
        other.save(file)
        reload(loaded)
        for session in sessions:
            np.testing.assert_array_equal(finish(session, 1), upscaled(model, clip))
        file.write_bytes(b"nothing")
        reload("the weights of small were not loaded anew, the old ones stay: ")
        for _ in range(4):
            np.testing.assert_array_equal(finish(server.begin(), 0), upscaled(other, clip))
    finally:
        file.write_bytes(old)
        reload(loaded)
    np.testing.assert_array_equal(finish(server.begin(), 0), upscaled(model, clip))


def test_a_client_is_compared_with_rlsp_upscale(server, file, tmp_path, capsys, monkeypatch):
    for name, value in (("FRAMES", 12), ("FEW", 4)):
        monkeypatch.setattr(f"rlsp_tf.benchmarks.serve_video.{name}", value)
    monkeypatch.setitem(side_by_side.__kwdefaults__, "rounds", 1)
    make_video(tmp_path / "in.mkv", pts=range(0, 20 * 3600, 3600), size=(64, 48))
    options = ["--clients", "1", "--seconds", "1", "--size", "14x10", "--video", str(tmp_path / "in.mkv")]
    json_file = tmp_path / "serve.json"
    words = ["benchmark", "serve", "--url", server.url, *options, "--model", str(file)]
    assert main([*words, "--json", str(json_file)]) == 0
    contenders = json.loads(json_file.read_text())["compared"]["contenders"]
    assert [each["to"] for each in contenders.values()] == [
        *(None, LIKE_SESSIONS, LIKE_SESSIONS),
        *(None, "rlsp upscale", "rlsp upscale"),
    ]
    said = capsys.readouterr().out
    for name, each in contenders.items():
        assert f"| {name} | {each['rate']:.2f} |" in said
        # A difference of two short runs, which noise may turn around.
        assert np.isfinite(each["cpu"])


def test_no_port_can_be_reached_from_other_machines(server):
    """Ray opens some for each of its processes, and those of its metrics ask for no token."""
    listening = [
        connection.laddr.ip
        for process in (psutil.Process(server.process.pid), *server.children)
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert len(listening) > 5
    assert {address.removeprefix("::ffff:") for address in listening} == {"127.0.0.1"}


def test_a_port_that_is_taken_ends_in_a_sentence(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main(["serve", "--port", str(taken.getsockname()[1])]) == 1
    assert "cannot listen on 127.0.0.1:" in capsys.readouterr().err


def test_what_is_missing_is_named(monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["serve", "--port", "0"]) == 1
    assert "needs ray to run; install it by: pip install 'rlsp_tf[serve]'" in capsys.readouterr().err


def test_sigterm_gives_back_what_was_accepted_and_leaves_neither_process_nor_file(server, model, tmp_path):
    """The last test of the server, since it ends it. A job is at work, too, and is kept for the next one."""
    said = server.said()
    clip = make_clip(1, HEIGHT, WIDTH)
    make_video(tmp_path / "in.mp4", pts=range(0, 4000 * 1500, 1500), size=(96, 64))
    # The other session is not flushed, so that there is something to wait for.
    session, other = server.begin(), server.begin()
    with (tmp_path / "in.mp4").open("rb") as file:
        job = server.ask("POST", "/jobs", data=file).json()["job"]
    wait_until(lambda: server.ask("GET", f"/jobs/{job}").json()["frames"])
    for each in (session, other):
        server.ask("PUT", f"{each}/frames/0", data=clip[0].tobytes(), headers=RAW)
    with ThreadPoolExecutor(1) as pool:
        video = pool.submit(server.ask, "POST", "/videos", data=(tmp_path / "in.mp4").read_bytes())
        wait_until(lambda: list(server.folder.glob("rlsp-*/videos/*/*.rlsp")))
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: server.ask("GET", "/healthz").status_code == 503)
        for path in ("/sessions?width=14&height=10", "/videos"):
            answer = server.ask("POST", path, data=b"x")
            assert (answer.status_code, "Retry-After" in answer.headers) == (503, True)
        assert server.ask("DELETE", session).content == upscaled(model, clip)[0].tobytes()
        answer = video.result()
    assert (answer.status_code, "shutting down" in answer.json()["error"]) == (503, True)
    assert server.process.wait(30) == 0
    assert server.said() == said
    kept = server.jobs / job
    assert {path.name for path in kept.iterdir()} == {"job.json", "source", "result.mp4.rlsp"}
    assert list((kept / "result.mp4.rlsp").glob("00000*.mp4"))
    # Those that nobody has waited for are no longer there either.
    ended = (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    assert not [each for each in server.children if each.is_running() and each.status() not in ended]
    assert {path.name for path in server.folder.iterdir()} == {"stderr", "jobs"}
