"""Downloads over a real connection to a server on this machine that fails in every way servers do."""

import contextlib
import gzip
import hashlib
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.networks import SMALL, small_model
from rlsp_tf.converters.download import FILES, RemoteFile, download, fetch
from rlsp_tf.converters.tf1 import read_shapes, read_tensors, save_tf1
from rlsp_tf.errors import RLSPError
from rlsp_tf.network.model import rlsp_layer
from rlsp_tf.network.weights import load_model

CONTENT = np.random.default_rng(0).bytes(300_000)  # several of the pieces that a download is written in
HALF = 170_000
WRONG = bytes(len(CONTENT))
FILE = RemoteFile("weights.bin", len(CONTENT), hashlib.sha256(CONTENT).hexdigest())


class Server:
    """Serves ``files`` on 127.0.0.1; answers the first requests as ``script`` says, the others well."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {FILE.name: CONTENT}
        self.script: list[str] = []
        self.requests: list[tuple[str, str | None]] = []
        self.closing = threading.Event()
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                owner.requests.append((self.path, self.headers["Range"]))
                with contextlib.suppress(ConnectionError):
                    owner.answer(self, owner.script.pop(0) if owner.script else "well")

            def log_message(self, *arguments: object) -> None:
                """Keeps standard error clean."""

        self.httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.httpd.server_port}"
        self.thread = threading.Thread(target=self.httpd.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def close(self) -> None:
        self.closing.set()
        self.httpd.shutdown()
        self.thread.join()
        self.httpd.server_close()

    def answer(self, handler: BaseHTTPRequestHandler, how: str) -> None:
        content = self.files.get(handler.path.lstrip("/"))
        if content is None:
            how = "404"
        if how.isdigit():
            handler.send_error(int(how))
            return
        assert content is not None
        if how == "is silent":
            self.closing.wait(5)
            return
        if how == "sends a web page":
            self.send(handler, 200, b"<html>Sign in</html>", {"Content-Type": "text/html"})
            return
        if how == "sends a short text":
            self.send(handler, 200, b"moved")
            return
        if how.startswith("redirects to "):
            self.send(handler, 302, b"", {"Location": how.removeprefix("redirects to ")})
            return
        if how == "sends a little that becomes a lot":
            self.send(handler, 200, gzip.compress(bytes(10**7), 1), {"Content-Encoding": "gzip"}, length=None)
            return
        match = re.fullmatch(r"bytes=(\d+)-", handler.headers["Range"] or "")
        if how == "refuses Range" and match:
            handler.send_error(416)
            return
        start = int(match[1]) if match and how != "ignores Range" else 0
        headers = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if start else {}
        body = (bytes(len(content)) if how == "lies" else content)[start:]
        if how == "resumes elsewhere" and start:
            headers["Content-Range"] = f"bytes 0-{len(content) - 1}/{len(content)}"
            body = content
        if how == "sends too much":
            self.send(handler, 200, content + b"more", length=None)
        elif how in ("breaks off", "stalls", "breaks off in silence"):
            length = None if how == "breaks off in silence" else len(body)
            self.send(handler, 206 if start else 200, body[: HALF - start], headers, length)
            if how == "stalls":
                self.closing.wait(5)
        else:
            self.send(handler, 206 if start else 200, body, headers)

    @staticmethod
    def send(handler, code: int, body: bytes, headers: dict | None = None, length: int | None = -1) -> None:
        handler.send_response(code)
        for name, value in (headers or {}).items():
            handler.send_header(name, value)
        if length is not None:
            handler.send_header("Content-Length", str(len(body) if length == -1 else length))
        handler.end_headers()
        handler.wfile.write(body)
        handler.wfile.flush()


@contextlib.contextmanager
def running_server() -> Iterator[Server]:
    running = Server()
    try:
        yield running
    finally:
        running.close()


@pytest.fixture
def server() -> Iterator[Server]:
    with running_server() as running:
        yield running


def get(server: Server, target: Path, **kwargs) -> None:
    fetch(f"{server.url}/{FILE.name}", target, FILE, **{"timeout": 0.3, "backoff": 0, **kwargs})


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "out" / "weights.bin"


@pytest.fixture(autouse=True)
def _folder(target: Path) -> None:
    target.parent.mkdir()


@pytest.fixture
def part(target: Path) -> Path:
    return target.with_name("weights.bin.part")


def test_a_file_arrives_whole_and_alone(server: Server, target: Path) -> None:
    get(server, target)
    assert target.read_bytes() == CONTENT
    assert list(target.parent.iterdir()) == [target]
    assert server.requests == [("/weights.bin", None)]


@pytest.mark.parametrize("trouble", ["breaks off", "breaks off in silence", "stalls"])
def test_a_lost_connection_is_taken_up_where_it_was_lost(trouble: str, server: Server, target: Path) -> None:
    server.script = [trouble]
    get(server, target)
    assert target.read_bytes() == CONTENT
    (_, first), (_, second) = server.requests
    assert first is None
    # What had arrived is not fetched again, but for the piece that was being received.
    assert HALF - (1 << 16) <= int(re.fullmatch(r"bytes=(\d+)-", second)[1]) <= HALF


def test_an_interrupted_download_is_resumed_by_the_next_command(
    server: Server, target: Path, part: Path
) -> None:
    part.write_bytes(CONTENT[:123_456])
    get(server, target)
    assert target.read_bytes() == CONTENT
    assert server.requests == [("/weights.bin", "bytes=123456-")]
    assert not part.exists()


@pytest.mark.parametrize(
    "answer", ["ignores Range", "resumes elsewhere", "refuses Range", "breaks off", "503"]
)
def test_resuming_works_with_servers_that_cannot(
    answer: str, server: Server, target: Path, part: Path
) -> None:
    part.write_bytes(CONTENT[:100_000])
    server.script = [answer] * (1 if answer in ("breaks off", "503") else 5)
    get(server, target)
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("left", [b"x" * 1000, b"x" * len(CONTENT), b"x" * (len(CONTENT) + 5)])
def test_a_partial_file_of_something_else_is_fetched_anew(
    left: bytes, server: Server, target: Path, part: Path
) -> None:
    part.write_bytes(left)
    get(server, target)
    assert target.read_bytes() == CONTENT
    assert server.requests[-1] == ("/weights.bin", None)


def test_a_complete_partial_file_needs_no_server(target: Path, part: Path) -> None:
    part.write_bytes(CONTENT)
    fetch("http://127.0.0.1:9/weights.bin", target, FILE)
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        ("404", r"not found \(HTTP 404\); look at https://github.com/dariofuoli/RLSP"),
        ("403", r"refuses it \(HTTP 403\)"),
        ("429", r"too many requests \(HTTP 429\); run the command again later"),
        ("sends a web page", "is a web page; sign in"),
        ("sends a short text", r"is another file \(5 bytes, not 300000\)"),
        ("sends too much", r"is another file \(over 300000 bytes\)"),
        ("lies", "is not the authors' file, only as long"),
        ("sends a little that becomes a lot", r"is another file \(over 300000 bytes\)"),
        ("redirects to file:///etc/passwd", "cannot be fetched"),
        ("redirects to ftp://127.0.0.1/weights.bin", "cannot be fetched"),
    ],
)
def test_what_will_not_get_better_fails_at_once(
    answer: str, sentence: str, server: Server, target: Path
) -> None:
    server.script = [answer] * 9
    with pytest.raises(RLSPError, match=sentence) as failure:
        get(server, target)
    assert str(failure.value).startswith(f"{server.url}/weights.bin: ")
    assert len(server.requests) == 1
    assert not target.exists()
    assert {file.name for file in target.parent.iterdir()} <= {"weights.bin.part"}


@pytest.mark.parametrize("where", ["../../../evil", "/..%2F..%2Fevil", "/other?x=/etc/evil"])
def test_wherever_a_server_redirects_the_file_gets_its_own_name(
    where: str, server: Server, target: Path
) -> None:
    for name in ("evil", "..%2F..%2Fevil", "other?x=/etc/evil"):
        server.files[name] = CONTENT
    server.script = [f"redirects to {where}"]
    get(server, target)
    assert [
        file.relative_to(target.parent.parent).as_posix() for file in target.parent.parent.rglob("*")
    ] == [
        "out",
        "out/weights.bin",
    ]


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ("503", r"the server has a problem \(HTTP 503\)"),
        ("breaks off", "the connection was lost or stalled"),
        ("breaks off in silence", "the connection ended early"),
        ("is silent", "the server cannot be reached or does not answer"),
    ],
)
def test_what_may_get_better_is_tried_again_but_not_for_ever(
    answer: str, problem: str, server: Server, target: Path
) -> None:
    server.script = [answer, answer]
    get(server, target, attempts=3)
    assert target.read_bytes() == CONTENT
    target.unlink()
    server.requests.clear()
    server.script = [answer] * 9
    with pytest.raises(RLSPError, match=f": {problem}, 3 times; run the command again"):
        get(server, target, attempts=3)
    assert len(server.requests) == 3
    assert not target.exists()


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9/x", "ftp://127.0.0.1/x", "weights", "http://", "http://[/"]
)
def test_an_address_where_no_server_is_makes_one_sentence(url: str, target: Path) -> None:
    with pytest.raises(
        RLSPError, match=r"^[^\n]*: (the server cannot|cannot be fetched)[^\n]*[.]$"
    ) as failure:
        fetch(url, target, FILE, timeout=0.3, backoff=0)
    assert str(failure.value).startswith(url)


ANSWERS = [
    *(
        "well",
        "breaks off",
        "breaks off in silence",
        "ignores Range",
        "resumes elsewhere",
        "refuses Range",
        "503",
        "404",
    ),
    *("lies", "sends a web page", "sends a short text", "sends too much"),
]


@settings(max_examples=60)
@given(
    st.lists(st.sampled_from(ANSWERS), max_size=7),
    st.one_of(st.none(), st.integers(0, len(CONTENT)).map(lambda n: CONTENT[:n]), st.just(WRONG[:99_999])),
)
def test_no_sequence_of_answers_puts_a_wrong_file_in_place(tmp_path_factory, script, left) -> None:
    target = tmp_path_factory.mktemp("fetch") / "weights.bin"
    if left is not None:
        target.with_name("weights.bin.part").write_bytes(left)
    with running_server() as server:
        server.script = script
        for _ in range(len(script) + 1):
            with contextlib.suppress(RLSPError):
                get(server, target)
            assert not target.exists() or target.read_bytes() == CONTENT
            if not server.script:
                break
        # Whatever was left behind, a good server mends it.
        get(server, target)
    assert target.read_bytes() == CONTENT


@pytest.fixture
def checkpoint(server: Server, tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch):
    """A small checkpoint on the server, among the known ones; its weights have no known SHA-256."""
    model = small_model(rng)
    save_tf1(model, tmp_path / "ckpt")
    files = {name: (tmp_path / name).read_bytes() for name in ("ckpt.index", "ckpt.data-00000-of-00001")}
    server.files.update(files)
    index, data = files.items()
    monkeypatch.setitem(
        FILES,
        "small",
        (
            RemoteFile(index[0], len(index[1]), hashlib.sha256(index[1]).hexdigest()),
            RemoteFile(data[0], len(data[1]), None),
        ),
    )
    return model


def download_small(server: Server, folder: Path, **kwargs) -> Path:
    return download("small", folder, base_url=server.url, timeout=0.3, backoff=0, **kwargs)


def test_a_checkpoint_is_downloaded_and_converted(checkpoint, server: Server, tmp_path: Path) -> None:
    path = download_small(server, tmp_path / "new/folder")
    assert path == tmp_path / "new/folder/authors-small.keras"
    converted = load_model(path)
    assert rlsp_layer(converted).config == SMALL
    for ours, theirs in zip(converted.get_weights(), checkpoint.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert sorted(file.name for file in path.parent.iterdir()) == [
        "authors-small.keras",
        "ckpt.data-00000-of-00001",
        "ckpt.index",
    ]


def test_files_that_are_there_are_not_fetched_again(checkpoint, server: Server, tmp_path: Path) -> None:
    path = download_small(server, tmp_path / "out")
    server.requests.clear()
    with pytest.raises(RLSPError, match=r"authors-small\.keras: exists already"):
        download_small(server, path.parent)
    path.unlink()
    assert download_small(server, path.parent) == path
    assert server.requests == []


def test_files_of_the_same_name_are_replaced_only_by_force(
    checkpoint, server: Server, tmp_path: Path
) -> None:
    (tmp_path / "out/ckpt.index").write_text("precious")
    with pytest.raises(RLSPError, match=r"ckpt\.index: exists already and is not the authors'"):
        download_small(server, tmp_path / "out")
    assert (tmp_path / "out/ckpt.index").read_text() == "precious"
    download_small(server, tmp_path / "out", force=True)
    assert len(read_tensors(tmp_path / "out/ckpt")) == 2 + 3 * 2 * (SMALL.layers + 1)


def test_without_a_known_sha256_the_index_vouches_for_every_tensor(
    checkpoint, server: Server, tmp_path: Path
) -> None:
    name = "ckpt.data-00000-of-00001"
    good = server.files[name]
    positions = np.cumsum(
        [0] + [tensor.nbytes for _, tensor in sorted(read_tensors(tmp_path / "ckpt").items())]
    )
    for position in positions[:-1]:
        server.files[name] = good[:position] + bytes([good[position] ^ 1]) + good[position + 1 :]
        with pytest.raises(RLSPError, match="is not the authors' file, only as long"):
            download_small(server, tmp_path / "out")
        assert [file.name for file in (tmp_path / "out").iterdir()] == ["ckpt.index"]


@pytest.mark.parametrize("name", ["7-48", "7-64"])
def test_the_authors_files_are_those_that_are_expected(
    name: str, data: Path, server: Server, tmp_path: Path
) -> None:
    checkpoints = data / "rlsp-original/checkpoints"
    server.files = {remote.name: (checkpoints / remote.name).read_bytes() for remote in FILES[name]}
    model = load_model(download(name, tmp_path / "out", base_url=f"{server.url}/"))
    assert rlsp_layer(model).config.name == name
    for remote in FILES[name]:
        assert (tmp_path / "out" / remote.name).read_bytes() == server.files[remote.name]


def test_what_is_known_of_7_128_agrees_with_its_index(data: Path) -> None:
    index, meta, weights = FILES["7-128"]
    checkpoints = data / "rlsp-original/checkpoints"
    for remote in (index, meta):
        content = (checkpoints / remote.name).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (remote.size, remote.sha256)
    shapes = read_shapes(checkpoints / index.name)
    assert weights.size == sum(4 * int(np.prod(shape)) for shape in shapes.values())
