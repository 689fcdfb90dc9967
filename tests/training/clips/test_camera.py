import numpy as np
import pytest

from helpers.synthetic import make_clip
from rlsp_tf.training.clips.camera import Scene, View, draw_clip, draw_view


@pytest.fixture(scope="module")
def photo():
    return make_clip(1, 300, 320, seed=4)[0]


def straight(x, y, *, scale=1.0, frames=1):
    """A view whose middle is at a pixel of the photograph, in all frames."""
    return np.tile([[scale, 0, x], [0, scale, y], [0, 0, 1.0]], (frames, 1, 1))


def test_a_camera_at_a_whole_pixel_sees_the_photograph_nearly_as_it_is(photo):
    """A frame of even size has its middle between pixels."""
    (frame,) = View(photo, straight(100.5, 120.5)).render(40, 60)
    expected = photo[101:141, 71:131].astype(float)
    difference = frame - expected
    assert abs(difference.mean()) < 0.2  # means of four are rounded half up, which is an eighth
    # The mean over four positions within a pixel softens a little.
    assert np.sqrt(np.mean(difference**2)) < 0.05 * expected.std()
    for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0)):
        moved = photo[101 + dy : 141 + dy, 71 + dx : 131 + dx].astype(float)
        assert np.mean(difference**2) < 0.1 * np.mean((frame - moved) ** 2)


def test_motion_by_a_fraction_of_a_pixel_is_exact():
    """A wave that is longer than a few pixels is known at every real position."""

    def wave(x):
        return 128 + 90 * np.sin(2 * np.pi * x / 9)

    photo = np.rint(np.broadcast_to(wave(np.arange(200.0))[None, :, None], (80, 200, 3))).astype(np.uint8)
    path = straight(100.0, 40.0, frames=4)
    path[:, 0, 2] += [0, 0.25, 0.5, 1.3]
    frames = View(photo, path).render(16, 32)
    for frame, middle in zip(frames, path[:, 0, 2], strict=True):
        row = wave(middle + np.arange(32) - 15.5)
        gain = np.dot(frame[8, :, 0] - 128.0, row - 128) / np.dot(row - 128, row - 128)
        # The mean over a pixel takes 2 % of a wave of nine, which OpenCV's cubic (a = -0.75) gives back.
        assert 0.98 < gain < 1.02
        np.testing.assert_allclose(frame[8, :, 0] - 128.0, gain * (row - 128), atol=2)


def test_frames_are_rendered_from_more_pixels_than_they_have():
    """A board of one-pixel squares is grey where two pixels of it fall into one, and never aliased."""
    board = (np.indices((200, 200)).sum(0) % 2 * 255).astype(np.uint8)[..., None].repeat(3, -1)
    (frame,) = View(board, straight(100.0, 100.0, scale=2.0)).render(32, 32)
    np.testing.assert_allclose(frame, 127.5, atol=8)


def test_beyond_the_photograph_is_its_mirror_image(photo):
    (frame,) = View(photo, straight(-0.5, 100.0)).render(20, 40)
    # Positions are counted in 32nds of a pixel.
    np.testing.assert_allclose(frame[:, 20:].astype(float), frame[:, 19::-1].astype(float), atol=2)


def test_what_is_cut_out_in_front_moves_with_its_photograph():
    black, white = np.zeros((200, 200, 3), np.uint8), np.full((200, 200, 3), 255, np.uint8)
    path = straight(100.0, 100.0, frames=3)
    path[:, 0, 2] -= [0, 4, 8]  # the camera goes left, so what it sees goes right
    square = np.array([[90.0, 90], [110, 90], [110, 110], [90, 110]])
    frames = Scene(View(black, straight(50, 50, frames=3)), View(white, path), square).render(64, 64)
    columns = np.arange(64)
    for frame, moved in zip(frames, (0, 4, 8), strict=True):
        light = frame[..., 0].astype(float)
        assert light.sum() / 255 == pytest.approx(400, rel=0.06)
        assert (light.sum(0) @ columns) / light.sum() == pytest.approx(31.5 + moved, abs=0.3)


def test_a_view_stays_within_a_photograph_that_is_large_enough():
    photo = make_clip(1, 400, 420)[0]
    for seed in range(40):
        view = draw_view(np.random.default_rng(seed), photo, 9, 96, 96)
        corners = np.array([[x, y, 1] for x in (-47.5, 47.5) for y in (-47.5, 47.5)])
        seen = np.einsum("tij,cj->tci", view.path, corners)
        seen = seen[..., :2] / seen[..., 2:]
        # Fast ones leave it now and then.
        if np.ptp(seen.reshape(-1, 2), axis=0).max() < 390:
            assert seen.min() > -1
            assert (seen < (420, 400)).all()


def test_velocities_are_smooth_of_all_sizes_and_rarely_whole_numbers():
    photo = np.zeros((2000, 2000, 3), np.uint8)
    speeds = []
    for seed in range(200):
        view = draw_view(np.random.default_rng(seed), photo, 9, 64, 64)
        middles = view.path[:, :2, 2]
        speeds.append(np.abs(np.diff(middles, axis=0)))
    assert np.mean([speed.max() == 0 for speed in speeds]) == pytest.approx(0.05, abs=0.05)
    mean = [np.hypot(*speed.mean(0)) for speed in speeds]
    assert np.percentile(mean, 90) > 4
    assert np.percentile(mean, 25) < 1.5
    moving = np.concatenate([speed.ravel() for speed in speeds if speed.max() > 0])
    assert np.mean(np.abs(moving - np.rint(moving)) < 0.01) < 0.05


def test_clips_are_a_function_of_their_generator(photo):
    photos = [photo, make_clip(1, 128, 128, seed=1)[0]]
    for seed in range(5):
        first, second = (draw_clip(np.random.default_rng(seed), photos, 5, 64, 48) for _ in range(2))
        assert first.shape == (5, 64, 48, 3)
        np.testing.assert_array_equal(first, second)


def test_cuts_fades_and_flashes_happen(monkeypatch, photo):
    photos = [photo, 255 - photo]
    for name in ("CUTS", "DISSOLVES", "FADES", "FLASHES"):
        for other in ("CUTS", "DISSOLVES", "FADES", "FLASHES"):
            monkeypatch.setattr(f"rlsp_tf.training.clips.camera.{other}", float(other == name))
        calm = dict.fromkeys(("CUTS", "DISSOLVES", "FADES", "FLASHES"), 0.0)
        differences = 0
        for seed in range(8):
            clip = draw_clip(np.random.default_rng(seed), photos, 6, 32, 32)
            with monkeypatch.context() as patch:
                for other, share in calm.items():
                    patch.setattr(f"rlsp_tf.training.clips.camera.{other}", share)
                without = draw_clip(np.random.default_rng(seed), photos, 6, 32, 32)
            differences += bool((clip != without).any())
        assert differences >= 6, name
