"""Videos that are sent while they are made, by a server without Ray and without a network that computes."""

import asyncio
import contextlib
import http.client
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from rlsp_tf.errors import RLSPError

pytest.importorskip("limits", reason="needs rlsp_tf[serve]")
pytest.importorskip("uvicorn", reason="needs rlsp_tf[serve]")

from helpers.served import ANSWER, LIMITS, Client, wait_until
from rlsp_tf.serving.limits import TooLarge

FRAMES = b"the first frames"


@pytest.fixture
def server(serving):
    return serving(replace(LIMITS, stall_seconds=0.5, videos=1))


@pytest.fixture
def client(server):
    return Client(server.port)


def make(server, work):
    """Lets a function do the work of the server's videos, which gets the file to write into."""

    def write(target):
        with Path(target).open("wb", buffering=0) as file:
            work(file)
        return [], 7

    async def video(job, source, target, model):
        return await asyncio.to_thread(write, target)

    server.backend.video = video


@contextlib.contextmanager
def streamed(client):
    connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=60)
    with contextlib.closing(connection):
        connection.request("POST", "/videos/stream", b"video")
        yield connection.getresponse()


def test_the_first_frames_come_while_others_are_made(server, client):
    read = threading.Event()

    def work(file):
        file.write(FRAMES)
        assert read.wait(60)
        file.write(ANSWER)

    make(server, work)
    with streamed(client) as answer:
        assert (answer.status, answer.headers["Content-Type"]) == (200, "video/x-matroska")
        assert answer.read(len(FRAMES)) == FRAMES
        read.set()
        assert answer.read() == ANSWER
    wait_until(lambda: not server.app._videos.taken)
    assert 'rlsp_frames_total{kind="video"} 7.0' in client.ask("GET", "/metrics").content.decode()


@pytest.mark.parametrize(("error", "status"), [(TooLarge, 413), (RLSPError, 415)])
def test_what_fails_before_the_first_frame_has_a_status(server, client, error, status):
    async def video(job, source, target, model):
        raise error("the video: is none.")

    server.backend.video = video
    answer = client.ask("POST", "/videos/stream", b"video")
    assert (answer.status, answer.error) == (status, "the video: is none.")
    assert not server.app._videos.taken


def test_what_fails_later_is_not_taken_for_the_whole(server, client):
    read = threading.Event()

    def work(file):
        file.write(FRAMES)
        assert read.wait(60)
        raise RLSPError("the video: is damaged.")

    make(server, work)
    with streamed(client) as answer:
        assert answer.read(len(FRAMES)) == FRAMES
        read.set()
        with pytest.raises(http.client.IncompleteRead):
            answer.read()
    wait_until(lambda: not server.app._videos.taken)


def test_who_does_not_read_makes_room_for_others_and_stops_the_work(server, client):
    def work(file):
        while not server.backend.stopped.is_set():
            file.write(ANSWER)

    make(server, work)
    with client.send("POST", "/videos/stream", b"video"):
        wait_until(server.backend.stopped.is_set)
        wait_until(lambda: not server.app._videos.taken)


def test_who_goes_away_stops_the_work(server, client):
    def work(file):
        file.write(FRAMES)
        assert server.backend.stopped.wait(60)

    make(server, work)
    with streamed(client) as answer:
        assert answer.read(len(FRAMES)) == FRAMES
    wait_until(lambda: not server.app._videos.taken)
