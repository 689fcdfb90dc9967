"""Sessions, limits and videos of a server, without HTTP and without Ray."""

import asyncio
import pickle
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from helpers.media import png
from helpers.networks import Direct, echo, needs_bytes, small_model
from helpers.small_disk import small_disk
from helpers.streams import upscaled
from helpers.synthetic import make_clip
from helpers.videos import make_video, packets
from rlsp_tf.errors import Interrupted, RLSPError
from rlsp_tf.inference.divergence import DivergenceWarning
from rlsp_tf.inference.int8 import Int8Step
from rlsp_tf.inference.upscaler import StreamingUpscaler
from rlsp_tf.media.inputs import open_input
from rlsp_tf.media.open import VideoSource
from rlsp_tf.network.config import RLSPConfig
from rlsp_tf.pixels.color import ColorSpec
from rlsp_tf.serving.engine import Engine, Progress
from rlsp_tf.serving.limits import Capacity, Limits, Refused, ServerFault, SessionLost, TooLarge
from rlsp_tf.serving.sessions import Sessions
from rlsp_tf.serving.wire import PLANES, PNG, RAW, decode_frame, encode_frame, max_bytes

HEIGHT, WIDTH = 10, 14
SIZE = (WIDTH, HEIGHT)
NOISE = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH), np.uint8)


@pytest.fixture
def engine(file):
    engine = Engine({"small": str(file)}, precision="float32", sessions=3)
    yield engine
    engine.close()


class TestFrames:
    def test_raw_and_png_give_the_frame_back(self, rng):
        frame = rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        planes = frame[..., 0], frame[:5, :7, 1], frame[:5, :7, 2]
        for plane, own in zip(
            decode_frame(encode_frame(planes, PLANES), PLANES, WIDTH, HEIGHT), planes, strict=True
        ):
            np.testing.assert_array_equal(plane, own)
        for form in (RAW, PNG):
            data = encode_frame(frame, form)
            assert len(data) <= max_bytes(WIDTH, HEIGHT)
            np.testing.assert_array_equal(decode_frame(data, form, WIDTH, HEIGHT), frame)
        grey = frame[..., 0]
        np.testing.assert_array_equal(
            decode_frame(png(grey), PNG, WIDTH, HEIGHT), np.repeat(grey[..., None], 3, axis=-1)
        )

    @pytest.mark.parametrize(
        ("data", "form", "said"),
        [
            (b"x" * 419, RAW, "419 bytes, but 14x10 pixels of RGB have 420"),
            (b"x" * 209, PLANES, "209 bytes, but 14x10 pixels of 4:2:0 planes have 210"),
            (b"x" * 210, f"{PLANES}; matrix=rgb", "can be bt601, bt709, bt2020, not 'rgb'"),
            (b"GIF89a", PNG, "not a PNG that can be decoded"),
            (
                png(np.random.default_rng(0).integers(0, 256, (10, 14), np.uint8))[:100],
                PNG,
                "not a PNG that can",
            ),
            (png(np.zeros((14, 10), np.uint8)), PNG, "is 10x14, but the session is for 14x10"),
            (png(np.zeros((10, 14), np.uint16)), PNG, "16 bits per channel"),
        ],
        ids=["short", "short planes", "matrix", "no PNG", "truncated", "turned", "deep"],
    )
    def test_anything_else_is_told_in_a_sentence(self, data, form, said):
        with pytest.raises(RLSPError, match=said):
            decode_frame(data, form, WIDTH, HEIGHT)

    def test_a_small_file_of_a_huge_picture_is_not_unpacked(self):
        bomb = png(np.zeros((8000, 8000), np.uint8))
        began = time.perf_counter()
        with pytest.raises(RLSPError, match="is 8000x8000"):
            decode_frame(bomb, PNG, WIDTH, HEIGHT)
        assert time.perf_counter() - began < 0.1


class TestEngine:
    def test_frames_one_by_one_are_the_clip(self, engine, model):
        clip = make_clip(5, HEIGHT, WIDTH)
        answers = [engine.push("a", t, "small", SIZE, RAW, clip[t].tobytes()) for t in range(5)]
        assert answers[0].data is None
        frames = [answer.data for answer in [*answers[1:], engine.flush("a", 5, RAW)]]
        got = np.stack([decode_frame(data, RAW, 4 * WIDTH, 4 * HEIGHT) for data in frames])
        np.testing.assert_array_equal(got, upscaled(model, clip))
        with pytest.raises(SessionLost):
            engine.flush("a", 5, RAW)

    @pytest.mark.parametrize("matrix", ["bt601", "bt709"])
    @pytest.mark.parametrize("size", [(HEIGHT, WIDTH), (9, 13)])
    def test_planes_come_back_as_planes(self, engine, model, rng, matrix, size):
        color, (height, width) = ColorSpec(matrix, full_range=False), size
        shapes = [size, *[(-(-height // 2), -(-width // 2))] * 2]
        clip = [tuple(rng.integers(16, 236, shape, dtype=np.uint8) for shape in shapes) for _ in range(3)]
        media_type = f"{PLANES}; matrix={matrix}"
        upscaler = StreamingUpscaler(model, source=color, target=color)
        wanted = [frame for each in clip for frame in upscaler.push(each)] + upscaler.flush()
        answers = [
            engine.push("a", t, "small", (width, height), media_type, encode_frame(frame, media_type))
            for t, frame in enumerate(clip)
        ]
        with pytest.raises(RLSPError, match="another colour format than the frames before"):
            engine.push("a", 3, "small", (width, height), RAW, bytes(3 * height * width))
        answers.append(engine.flush("a", 3, media_type))
        for answer, frame in zip(answers[1:], wanted, strict=True):
            got = decode_frame(answer.data, media_type, 4 * width, 4 * height)
            for plane, own in zip(got, frame, strict=True):
                np.testing.assert_array_equal(plane, own)

    def test_weights_that_diverge_are_told_of(self, tmp_path):
        echo(1.5).save(tmp_path / "echo.keras")
        engine = Engine({"echo": str(tmp_path / "echo.keras")}, precision="float32", sessions=1)
        frame = np.full((HEIGHT, WIDTH, 3), 20, np.uint8).tobytes()
        try:
            with pytest.warns(DivergenceWarning, match="the clip: from frame 1 on") as warned:
                answers = [engine.push("a", t, "echo", SIZE, RAW, frame) for t in range(9)]
            last = engine.flush("a", 9, RAW)
        finally:
            engine.close()
        assert len(warned) == 1
        assert answers[4].notes == []
        (note,) = last.notes
        assert note.startswith(
            "the session: from frame 1 on (counted from 0) the result is far from the input"
        )

    def test_weights_are_loaded_anew_for_what_begins_then(self, engine, file, model):
        clip, old = make_clip(3, HEIGHT, WIDTH), file.read_bytes()
        other = small_model(np.random.default_rng(1), precision="float32")

        def push(session, t):
            return engine.push(session, t, "small", SIZE, RAW, clip[t].tobytes())

        def frames(answers):
            return np.stack([decode_frame(each.data, RAW, 4 * WIDTH, 4 * HEIGHT) for each in answers])

        first = [push("old", 0), push("old", 1)]
        before = engine._networks._networks["small"].step
        try:
            other.save(file)
            assert engine.reload() == {"small": None}
            new = [push("new", t) for t in range(3)]
            first += [push("old", 2), engine.flush("old", 3, RAW)]
            # Nobody needs it any more.
            assert not before._thread.is_alive()
            file.write_bytes(b"nothing")
            (failure,) = engine.reload().values()
            assert str(file) in failure
            new.append(engine.flush("new", 3, RAW))
            newer = [push("newer", t) for t in range(3)] + [engine.flush("newer", 3, RAW)]
        finally:
            file.write_bytes(old)
        np.testing.assert_array_equal(frames(first[1:]), upscaled(model, clip))
        np.testing.assert_array_equal(frames(new[1:]), upscaled(other, clip))
        np.testing.assert_array_equal(frames(newer[1:]), upscaled(other, clip))

    def test_a_video_that_was_stopped_begins_again_with_other_weights(self, engine, file, tmp_path):
        class StopAtTheFifth(Progress):
            def tick(self):
                super().tick()
                if self.frames == 5:
                    limits["stop"].set()

        limits, old = {"pixels": 4000, "seconds": 9.0, "stop": threading.Event()}, file.read_bytes()
        make_video(tmp_path / "in.mp4", pts=range(0, 20 * 3600, 3600))
        with pytest.raises(Interrupted):
            engine.video(
                tmp_path / "in.mp4", tmp_path / "out.mp4", "small", **limits, progress=StopAtTheFifth()
            )
        limits["stop"].clear()
        try:
            small_model(np.random.default_rng(1), precision="float32").save(file)
            engine.reload()
        finally:
            file.write_bytes(old)
        engine.video(tmp_path / "in.mp4", tmp_path / "out.mp4", "small", **limits)
        engine.video(tmp_path / "in.mp4", tmp_path / "once.mp4", "small", **limits)
        assert packets(tmp_path / "out.mp4", "video") == packets(tmp_path / "once.mp4", "video")

    @needs_bytes
    def test_in_8_bits_too(self, file, model):
        clip = make_clip(3, HEIGHT, WIDTH)
        engine = Engine({"small": str(file)}, precision="int8", sessions=1)
        try:
            assert engine.about()["small"]["bits"] == 8
            answers = [engine.push("a", t, "small", SIZE, RAW, clip[t].tobytes()) for t in range(3)]
            frames = [answer.data for answer in [*answers[1:], engine.flush("a", 3, RAW)]]
        finally:
            engine.close()
        got = np.stack([decode_frame(data, RAW, 4 * WIDTH, 4 * HEIGHT) for data in frames])
        np.testing.assert_array_equal(got, upscaled(Int8Step(model), clip))

    def test_a_bad_frame_leaves_the_session_as_it_was(self, engine, model):
        clip = make_clip(2, HEIGHT, WIDTH)
        engine.push("a", 0, "small", SIZE, PNG, png(clip[0]))
        with pytest.raises(RLSPError, match="not a PNG"):
            engine.push("a", 1, "small", SIZE, PNG, b"")
        first = engine.push("a", 1, "small", SIZE, PNG, png(clip[1]))
        frames = [
            decode_frame(answer.data, PNG, 4 * WIDTH, 4 * HEIGHT)
            for answer in (first, engine.flush("a", 2, PNG))
        ]
        np.testing.assert_array_equal(np.stack(frames), upscaled(model, clip))

    def test_a_state_that_is_not_there_is_never_made_up(self, engine):
        frame = bytes(3 * WIDTH * HEIGHT)
        with pytest.raises(SessionLost):
            engine.push("a", 1, "small", SIZE, RAW, frame)
        engine.push("a", 0, "small", SIZE, RAW, frame)
        with pytest.raises(SessionLost):
            engine.push("a", 2, "small", SIZE, RAW, frame)
        engine.drop("a")
        with pytest.raises(SessionLost):
            engine.push("a", 1, "small", SIZE, RAW, frame)

    def test_no_more_states_are_kept_than_sessions_may_be(self, engine):
        frame = bytes(3 * WIDTH * HEIGHT)
        for name in "abcd":
            engine.push(name, 0, "small", SIZE, RAW, frame)
        engine.push("b", 1, "small", SIZE, RAW, frame)
        with pytest.raises(SessionLost):
            engine.push("a", 1, "small", SIZE, RAW, frame)

    def test_a_network_that_looks_far_ahead_is_not_served(self, rng, tmp_path):
        far = small_model(rng, RLSPConfig(filters=4, layers=2, frames_after=2))
        far.save(tmp_path / "far.keras")
        with pytest.raises(RLSPError, match=r"far\.keras: looks 2 frames ahead"):
            Engine({"far": str(tmp_path / "far.keras")}, sessions=1)

    def test_videos_that_are_too_large_or_too_long_are_refused_whatever_they_say(self, engine, tmp_path):
        limits = {"pixels": 64 * 48, "seconds": 1.0, "stop": threading.Event()}
        video, target = tmp_path / "in.mp4", tmp_path / "out.mp4"
        make_video(video, pts=range(0, 20 * 3600, 3600))
        with pytest.raises(TooLarge, match=r"^the video: has frames of 64x48, but at most 3000 pixels"):
            engine.video(video, target, "small", **limits | {"pixels": 3000})
        with pytest.raises(TooLarge, match=r"lasts 1 s, but at most 0\.5 s"):
            engine.video(video, target, "small", **limits | {"seconds": 0.5})
        # 300 frames a second: a second of it is five.
        make_video(video, pts=range(0, 100 * 300, 300))
        with pytest.raises(TooLarge, match="lasts 2 s, but at most 1 s"):
            engine.video(video, target, "small", **limits)
        assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]

    def test_the_header_of_a_small_file_of_huge_pictures_decides(self, engine, tmp_path, monkeypatch):
        bomb, limits = tmp_path / "bomb", {"pixels": 960 * 540, "seconds": 9.0, "stop": threading.Event()}
        black, white = (Image.new("RGB", (2048, 2048), color) for color in ("black", "white"))
        black.save(bomb, "PNG", save_all=True, append_images=[white], duration=100)
        # To find out the format of its pixels, FFmpeg has to decode one of them.
        with open_input(bomb) as container:
            assert container.streams.video[0].pix_fmt == "rgb24"
        with open_input(bomb, limits["pixels"]) as container:
            assert container.streams.video[0].pix_fmt is None
        monkeypatch.setattr("rlsp_tf.serving.engine.VideoSource", None)
        with pytest.raises(TooLarge, match="has frames of an unknown size, but at most 518400 pixels"):
            engine.video(bomb, tmp_path / "out.mp4", "small", **limits)

    def test_a_full_disk_is_not_the_fault_of_the_video(self, engine, tmp_path):
        limits = {"pixels": 64 * 48, "seconds": 60.0, "stop": threading.Event()}
        make_video(tmp_path / "in.mp4", pts=range(0, 200 * 3600, 3600))
        with small_disk(tmp_path / "disk", 256) as disk, pytest.raises(Refused) as error:
            engine.video(tmp_path / "in.mp4", disk / "out.mp4", "small", **limits)
        assert (error.value.status, error.value.retry_after) == (503, 30)
        assert str(error.value) == "the server has no space left for the work; try again later."

    def test_what_goes_wrong_in_the_middle_is_told_without_advice_for_the_command_line(
        self, engine, tmp_path, monkeypatch
    ):
        def fail(*arguments, **options):
            rest = "7 frames are finished, and the same command goes on from there"
            raise RLSPError(f"{arguments[0]}: the title \udce4 is broken; {rest}.")

        monkeypatch.setattr("rlsp_tf.serving.engine.upscale", fail)
        make_video(tmp_path / "in.mp4", pts=range(0, 3 * 3600, 3600))
        limits = {"pixels": 4000, "seconds": 9.0, "stop": threading.Event()}
        with pytest.raises(RLSPError) as error:
            engine.video(tmp_path / "in.mp4", tmp_path / "out.mp4", "small", **limits)
        assert str(error.value) == "the video: the title ? is broken."

    def test_a_video_that_is_stopped_leaves_no_result(self, engine, tmp_path):
        make_video(tmp_path / "in.mp4")
        stop = threading.Event()
        stop.set()
        with pytest.raises(Interrupted, match=r"^the video: was stopped"):
            engine.video(
                tmp_path / "in.mp4", tmp_path / "out.mp4", "small", pixels=4000, seconds=9, stop=stop
            )
        assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]

    def test_a_video_that_was_stopped_goes_on_where_it_was(self, engine, tmp_path):
        class StopAtTheFifth(Progress):
            def tick(self):
                super().tick()
                if self.frames == 5:
                    limits["stop"].set()

        limits = {"pixels": 4000, "seconds": 9.0, "stop": threading.Event()}
        make_video(tmp_path / "in.mp4", pts=range(0, 60 * 3600, 3600))
        with pytest.raises(Interrupted):
            engine.video(
                tmp_path / "in.mp4", tmp_path / "out.mp4", "small", **limits, progress=StopAtTheFifth()
            )
        assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mp4", "out.mp4.rlsp"]
        assert list((tmp_path / "out.mp4.rlsp").glob("00000*.mp4"))
        limits["stop"].clear()
        progress = Progress()
        engine.video(tmp_path / "in.mp4", tmp_path / "out.mp4", "small", **limits, progress=progress)
        assert (progress.frames, progress.total) == (60, 60)
        engine.video(tmp_path / "in.mp4", tmp_path / "once.mp4", "small", **limits)
        # Where it was stopped another group of pictures begins, so only the times are the same.
        (out,), (once,) = (packets(tmp_path / name, "video") for name in ("out.mp4", "once.mp4"))
        assert sorted(time for time, _ in out) == sorted(time for time, _ in once)

    def test_sentences_about_a_video_tell_nothing_of_the_servers_folders(self, engine, tmp_path):
        (tmp_path / "in").write_bytes(b"nothing")
        limits = {"pixels": 4000, "seconds": 9.0, "stop": threading.Event()}
        with pytest.raises(RLSPError, match=r"^the video: not a video that can be read"):
            engine.video(tmp_path / "in", tmp_path / "out.mp4", "small", **limits)
        make_video(tmp_path / "in.mp4", pts=range(0, 3 * 3600, 3600))
        notes, frames = engine.video(tmp_path / "in.mp4", tmp_path / "out.mp4", "small", **limits)
        assert frames == 3
        assert notes
        assert not [note for note in notes if str(tmp_path) in note]
        with VideoSource(tmp_path / "out.mp4") as source:
            assert (source.width, source.height) == (256, 192)


class TestSessions:
    LIMITS = Limits(sessions=2, idle=0.2, queue=1, pixels=200, client_share=1, stall_seconds=0.1)

    def run(self, engine, work, limits=LIMITS):
        """Runs a coroutine function of the sessions."""
        sessions = Sessions(Direct(engine), engine.about(), limits)
        asyncio.run(work(sessions))

    def test_a_frame_that_is_sent_twice_is_taken_once(self, engine, model):
        clip = make_clip(3, HEIGHT, WIDTH)

        async def work(sessions):
            session = sessions.begin("me", "small", *SIZE)
            answers = []
            for t, frame in enumerate(clip):
                twice = [await sessions.push(session, t, RAW, frame.tobytes()) for _ in range(2)]
                assert twice[0] == twice[1]
                answers.append(twice[0])
            last = [await sessions.flush(session) for _ in range(2)]
            assert last[0] == last[1]
            frames = [answer.data for answer in [*answers[1:], last[0]]]
            got = np.stack([decode_frame(data, RAW, 4 * WIDTH, 4 * HEIGHT) for data in frames])
            np.testing.assert_array_equal(got, upscaled(model, clip))
            with pytest.raises(Refused, match=r"frame 2 cannot be accepted, .* was flushed") as error:
                await sessions.push(session, 2, RAW, clip[2].tobytes())
            assert error.value.status == 409

        self.run(engine, work)

    def test_two_frames_may_be_on_their_way_in_any_order(self, engine, model):
        """And the answers of both are kept."""
        clip = make_clip(6, HEIGHT, WIDTH)

        async def work(sessions):
            session = sessions.begin("me", "small", *SIZE)
            answers = []
            for t in range(0, 6, 2):
                later, sooner = (
                    asyncio.create_task(sessions.push(session, n, RAW, clip[n].tobytes())) for n in (t + 1, t)
                )
                answers += [await sooner, await later]
                again = [await sessions.push(session, n, RAW, clip[n].tobytes()) for n in (t, t + 1)]
                assert again == answers[-2:]
            with pytest.raises(Refused, match="expects frame 6"):
                await sessions.push(session, 3, RAW, clip[3].tobytes())
            frames = [answer.data for answer in [*answers[1:], await sessions.flush(session)]]
            got = np.stack([decode_frame(data, RAW, 4 * WIDTH, 4 * HEIGHT) for data in frames])
            np.testing.assert_array_equal(got, upscaled(model, clip))

        self.run(engine, work, replace(self.LIMITS, stall_seconds=60))

    def test_a_frame_out_of_turn_is_refused(self, engine):
        async def work(sessions):
            session = sessions.begin("me", "small", *SIZE)
            with pytest.raises(Refused, match=r"frame 2 cannot be accepted, .* expects frame 0"):
                await sessions.push(session, 2, RAW, bytes(420))
            # It waits for the one before, but not for ever.
            with pytest.raises(Refused, match=r"frame 1 cannot be accepted, .* expects frame 0"):
                await sessions.push(session, 1, RAW, bytes(420))
            assert (await sessions.flush(session)).data is None

        self.run(engine, work)

    @pytest.mark.parametrize(
        ("arguments", "status", "said"),
        [
            (("other", 14, 10), 400, "no model 'other' here; there is small"),
            (("../small", 14, 10), 400, "no model"),
            (("small", 0, 10), 400, "cannot be 0x10"),
            (("small", 21, 10), 413, "at most 200 pixels"),
        ],
    )
    def test_what_cannot_be_held_is_refused(self, engine, arguments, status, said):
        async def work(sessions):
            with pytest.raises(Refused, match=said) as error:
                sessions.begin("me", *arguments)
            assert error.value.status == status

        self.run(engine, work)

    def test_there_are_no_more_sessions_and_frames_than_there_is_room_for(self, engine):
        async def work(sessions):
            first, second = (sessions.begin("me", "small", *SIZE) for _ in range(2))
            with pytest.raises(Refused, match="2 sessions already") as error:
                sessions.begin("me", "small", *SIZE)
            assert (error.value.status, error.value.retry_after) == (503, 2)
            at_work = asyncio.create_task(sessions.push(first, 0, RAW, bytes(420)))
            await asyncio.sleep(0)
            with pytest.raises(Refused, match="1 frames at work already") as error:
                await sessions.push(second, 0, RAW, bytes(420))
            assert error.value.status == 503
            await at_work
            assert (await sessions.push(second, 0, RAW, bytes(420))).data is None
            await sessions.flush(first)
            assert sessions.open == 1
            sessions.begin("me", "small", *SIZE)

        self.run(engine, work)

    def test_idle_sessions_are_forgotten_and_their_state_with_them(self, engine):
        async def work(sessions):
            session = sessions.begin("me", "small", *SIZE)
            await sessions.push(session, 0, RAW, bytes(420))
            assert await sessions.expire() == 0
            await asyncio.sleep(0.25)
            assert await sessions.expire() == 1
            with pytest.raises(SessionLost, match=r"0\.2 s after its last frame"):
                sessions.get("me", session.name)
            assert not engine._streams

        self.run(engine, work)

    def test_before_the_end_nothing_new_is_taken_on_but_all_is_given_back(self, engine, model):
        clip = make_clip(1, HEIGHT, WIDTH)

        async def work(sessions):
            session = sessions.begin("me", "small", *SIZE)
            await sessions.push(session, 0, RAW, clip[0].tobytes())
            sessions.draining = True
            assert sessions.unflushed == 1
            with pytest.raises(Refused, match="shutting down"):
                sessions.begin("me", "small", *SIZE)
            with pytest.raises(Refused, match="shutting down"):
                await sessions.push(session, 1, RAW, clip[0].tobytes())
            answer = await sessions.flush(session)
            got = decode_frame(answer.data, RAW, 4 * WIDTH, 4 * HEIGHT)
            np.testing.assert_array_equal(got, upscaled(model, clip)[0])
            assert sessions.unflushed == 0

        self.run(engine, work)

    def test_a_session_whose_state_is_lost_says_so_and_is_gone(self, engine):
        async def work(sessions):
            session = sessions.begin("me", "small", *SIZE)
            await sessions.push(session, 0, RAW, bytes(420))
            engine.drop(session.name)
            with pytest.raises(SessionLost):
                await sessions.push(session, 1, RAW, bytes(420))
            assert sessions.open == 0

        self.run(engine, work)

    def test_answers_of_ended_sessions_do_not_pile_up(self, engine):
        async def work(sessions):
            for _ in range(5):
                await sessions.flush(sessions.begin("me", "small", *SIZE))
            assert len(sessions._sessions) == 2

        self.run(engine, work)


def test_a_place_is_free_again_after_a_failure():
    room = Capacity(1, "videos")
    with room.one(), pytest.raises(Refused, match="1 videos already"):
        room.check()
    with pytest.raises(KeyError), room.one():
        {}["broken"]
    room.check()


def test_a_client_has_no_more_than_its_share_and_is_then_forgotten():
    capacity = Capacity(3, "videos", 2)
    with capacity.one("a"), capacity.one("a"):
        with pytest.raises(Refused, match="2 videos of this client already") as error:
            capacity.check("a")
        assert error.value.status == 429
        with capacity.one("b"), pytest.raises(Refused, match="3 videos already") as error:
            capacity.check("c")
        assert error.value.status == 503
    assert not capacity._clients


@pytest.mark.parametrize(
    "error",
    [Refused("no.", 415, retry_after=2), ServerFault("no.", "details"), SessionLost(), TooLarge("no.")],
)
def test_refusals_come_through_a_pipe_as_they_are(error):
    """Replicas return them to the front."""
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), vars(copy)) == (type(error), str(error), vars(error))
