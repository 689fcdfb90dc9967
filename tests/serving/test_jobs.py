"""Videos that are upscaled while nobody waits, over HTTP, without Ray and without a network that computes."""

import json
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlencode

import pytest

from rlsp_tf.errors import RLSPError

pytest.importorskip("limits", reason="needs rlsp_tf[serve]")
pytest.importorskip("uvicorn", reason="needs rlsp_tf[serve]")

from helpers import served
from helpers.served import ANSWER, LIMITS, Client, wait_until
from rlsp_tf.serving.folder import jobs_folder
from rlsp_tf.serving.limits import Refused, ServerFault, TooLarge


def begin(client, **query):
    answer = client.ask("POST", f"/jobs?{urlencode(query)}", b"video")
    assert answer.status == 202, answer.error
    job = json.loads(answer.content)
    assert answer.headers["Location"] == f"/jobs/{job['job']}"
    return answer.headers["Location"]


def state_of(client, path):
    return json.loads(client.ask("GET", path).content)


def wait_for(client, path, state):
    wait_until(lambda: state_of(client, path)["state"] == state)


def test_a_job_tells_how_far_it_is_and_gives_its_result(serving):
    server = serving()
    server.backend.results = False
    client = Client(server.port)
    path = begin(client, container="mkv")
    wait_until(lambda: state_of(client, path)["frames"] == 3)
    job = state_of(client, path)
    assert (job["state"], job["total"], job["model"], job["container"]) == ("running", 12, "small", "mkv")
    assert job["rate"] > 0
    assert job["left"] > 0
    answer = client.ask("GET", f"{path}/result")
    assert (answer.status, "the job is running" in answer.error) == (409, True)
    server.backend.results = True
    wait_for(client, path, "done")
    answer = client.ask("GET", f"{path}/result")
    assert (answer.content, answer.headers["Content-Type"]) == (ANSWER, "video/x-matroska")
    part = client.ask("GET", f"{path}/result", headers={"Range": "bytes=5-9"})
    assert (part.status, part.content) == (206, ANSWER[5:10])


def test_events_tell_of_a_job_until_it_is_over(serving):
    server = serving()
    server.backend.results = False
    client = Client(server.port)
    path = begin(client)
    with client.send("GET", f"{path}/events", Connection="close") as connection:
        received = connection.recv(2**16)
        wait_for(client, path, "running")
        server.backend.results = True
        while block := connection.recv(2**16):
            received += block
    assert b"text/event-stream" in received
    events = [json.loads(line[6:]) for line in received.splitlines() if line.startswith(b"data: ")]
    assert len(events) > 1
    assert events[-1]["state"] == "done"
    assert {event["job"] for event in events} == {path.rpartition("/")[2]}


def test_a_job_that_is_deleted_ends_and_leaves_nothing(serving, tmp_path):
    server = serving()
    server.backend.results = False
    client = Client(server.port)
    path = begin(client)
    wait_for(client, path, "running")
    assert client.ask("DELETE", path).status == 204
    assert server.backend.stopped.is_set()
    assert client.ask("GET", path).status == 404
    assert not list((tmp_path / "jobs").iterdir())
    assert not server.app.jobs._kept.taken


def test_jobs_go_on_after_a_restart(tmp_path):
    """One is finished, one is at work, and one waits for a place."""
    limits, kept = replace(LIMITS, videos=1), tmp_path / "kept"
    with served.serving(tmp_path, limits, grace=3600, jobs_folder=kept) as server:
        client = Client(server.port)
        done = begin(client)
        wait_for(client, done, "done")
        server.backend.results = False
        running, waiting = begin(client), begin(client)
        wait_for(client, running, "running")
        assert state_of(client, waiting)["state"] == "waiting"
        # Although there is an hour to finish.
        server.handle_exit(signal.SIGTERM, None)
        server.thread.join()
    with served.serving(tmp_path, limits, jobs_folder=kept) as server:
        client = Client(server.port)
        assert client.ask("GET", f"{done}/result").content == ANSWER
        for path in (running, waiting):
            wait_for(client, path, "done")
            assert client.ask("GET", f"{path}/result").content == ANSWER


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (TooLarge("the video: is too large."), 413),
        (RLSPError("the video: not a video."), 415),
        (ServerFault("the server failed."), 500),
        (Refused("the server has no space left.", 503), 503),
    ],
)
def test_a_job_that_fails_says_why(serving, error, status):
    server = serving()

    async def fail(*arguments):
        raise error

    server.backend.video = fail
    client = Client(server.port)
    path = begin(client)
    wait_for(client, path, "failed")
    assert state_of(client, path)["error"] == str(error)
    answer = client.ask("GET", f"{path}/result")
    assert (answer.status, answer.error) == (status, str(error))


def test_jobs_are_their_clients_own(serving):
    server = serving()
    path = begin(Client(server.port))
    stranger = Client(server.port, "127.0.0.3")
    for method, rest in (("GET", ""), ("GET", "/result"), ("GET", "/events"), ("DELETE", "")):
        answer = stranger.ask(method, path + rest)
        assert (answer.status, "no such job" in answer.error) == (404, True)


def test_a_client_has_a_share_of_the_jobs_and_of_the_work(serving):
    server = serving(replace(LIMITS, jobs=8, videos=4))
    server.backend.results = False
    client, other = Client(server.port), Client(server.port, "127.0.0.3")
    first, second = begin(client), begin(client)
    answer = client.ask("POST", "/jobs", b"video")
    assert (answer.status, "2 jobs of this client already" in answer.error) == (429, True)
    third = begin(other)
    for path, whose in ((first, client), (third, other)):
        wait_for(whose, path, "running")
    assert state_of(client, second)["state"] == "waiting"


def test_old_jobs_are_removed(serving, tmp_path):
    client = Client(serving(replace(LIMITS, job_age=0.1)).port)
    path = begin(client)
    wait_until(lambda: client.ask("GET", path).status == 404)
    wait_until(lambda: not list((tmp_path / "jobs").iterdir()))


def test_what_is_no_video_for_a_job_is_refused_and_leaves_nothing(serving, tmp_path):
    client = Client(serving().port)
    for path, body, status in (
        ("/jobs", b"", 400),
        ("/jobs?model=/etc/passwd", b"x", 400),
        ("/jobs?container=../x", b"x", 400),
    ):
        assert client.ask("POST", path, body).status == status
    for path in ("/jobs/..%2F..%2Fetc", "/jobs/x", "/jobs/x/result"):
        assert client.ask("GET", path).status == 404
    assert not list((tmp_path / "jobs").iterdir())


def test_a_folder_of_jobs_belongs_to_one_server(tmp_path):
    taken = pytest.raises(RLSPError, match="is used by another server")
    with jobs_folder(tmp_path / "jobs"), taken, jobs_folder(tmp_path / "jobs"):
        pass
    with jobs_folder(tmp_path / "jobs"):
        pass
    with pytest.raises(RLSPError, match="check the path"), jobs_folder(tmp_path / "none" / "jobs"):
        pass


def test_a_damaged_note_of_a_job_harms_no_other(tmp_path):
    with served.serving(tmp_path) as server:
        path = begin(client := Client(server.port))
        wait_for(client, path, "done")
    for name, text in (("a", "{"), ("b", '{"state": 1}'), ("c", "[]")):
        (tmp_path / "jobs" / name).mkdir()
        (tmp_path / "jobs" / name / "job.json").write_text(text)
    with served.serving(tmp_path) as server:
        assert state_of(Client(server.port), path)["state"] == "done"


def test_the_client_of_the_page_gets_its_video(serving, tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "scale.md").read_text("utf-8")
    (code,) = re.findall(r"```python\n(# job_client\.py.*?)```", page, re.DOTALL)
    url = f"http://127.0.0.1:{serving().port}"
    (tmp_path / "job_client.py").write_text(code.replace("http://127.0.0.1:8000", url))
    (tmp_path / "film.mp4").write_bytes(b"video")
    subprocess.run([sys.executable, "job_client.py", "film.mp4", "large.mp4"], cwd=tmp_path, check=True)
    assert (tmp_path / "large.mp4").read_bytes() == ANSWER
