from dataclasses import replace

import numpy as np
import pytest

from helpers.clips import index, write_folder
from helpers.synthetic import make_clip
from rlsp_tf.errors import RLSPError
from rlsp_tf.media.degradations import VIDEO, degradation_named
from rlsp_tf.pixels.degradation import degrade
from rlsp_tf.training.clips.contact_sheet import write_contact_sheet
from rlsp_tf.training.clips.mixture import CLIPS_ONLY, MixedSampler, Mixture
from rlsp_tf.training.clips.photographs import index_photographs
from rlsp_tf.training.clips.sampler import ClipSampler
from rlsp_tf.training.clips.tf_feed import clip_dataset
from rlsp_tf.training.feed import ClipSequence

ALL = Mixture(photo_share=0.5, flat_share=0.1, degradation=VIDEO, paper_share=0.4)


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    """Clips, and photographs of two sizes."""
    folder = tmp_path_factory.mktemp("mixture")
    write_folder(folder / "data" / "one", make_clip(9, 120, 140))
    write_folder(folder / "data" / "two", make_clip(8, 110, 100, seed=1))
    write_folder(folder / "photos" / "large", make_clip(2, 300, 260, seed=2))
    write_folder(folder / "photos" / "small", make_clip(1, 100, 130, seed=3))
    clips, _ = index(folder / "data", cache=folder / "cache")
    return clips, index_photographs([folder / "photos"], cache=folder / "cache")[0]


def sampler(material, mixture, **options):
    clips, photographs = material
    clips = ClipSampler(clips, **{"batch": 4, "frames": 4, "crop": 16, "seed": 7, **options})
    return MixedSampler(clips, photographs, mixture)


def test_batches_are_a_function_of_seed_and_step(material):
    first, again = sampler(material, ALL), sampler(material, ALL)
    captions = []
    for step in (11, 2, 5, 7, 3):
        for ours, theirs in zip(first.samples(step), again.samples(step), strict=True):
            np.testing.assert_array_equal(ours, theirs)
        captions += first.captions(step)
    assert {caption.split(":")[0] for caption in captions} >= {"photograph", "clip one", "clip two"}
    other = sampler(material, ALL, seed=8)
    assert not np.array_equal(first.samples(2)[1], other.samples(2)[1])


def test_both_backends_are_fed_the_same_batches_from_any_step_on(material):
    mixed = sampler(material, ALL)
    sequence = ClipSequence(mixed.samples, 3, 7, workers=1)
    batches = list(clip_dataset(mixed, 3, 7).as_numpy_iterator())
    assert len(sequence) == len(batches) == 4
    for position, batch in enumerate(batches):
        for part, other, expected in zip(batch, sequence[position], mixed.samples(3 + position), strict=True):
            np.testing.assert_array_equal(part, expected)
            np.testing.assert_array_equal(other, expected)


def test_the_shares_of_workers_join_to_the_batch(material):
    whole = sampler(material, ALL)
    shares = [whole.share(worker, 2) for worker in range(2)]
    for part, *parts in zip(whole.samples(4), *(share.samples(4) for share in shares), strict=True):
        np.testing.assert_array_equal(np.concatenate(parts), part)
    assert [caption for share in shares for caption in share.captions(4)] == whole.captions(4)


@pytest.mark.parametrize("source", ["photograph", "flat", "clip"])
def test_low_resolution_is_the_degradation_of_high_resolution(material, source):
    """Clips are cut with what is around them as well, flipped and transposed: crf0 takes that path."""
    mixture = {
        "photograph": Mixture(photo_share=1.0),
        "flat": Mixture(flat_share=1.0),
        # Nearly lossless, apart from colour at half resolution.
        "clip": Mixture(degradation=degradation_named("crf0")),
    }[source]
    mixed = sampler(material, mixture)
    for step in range(12):
        lr, hr = mixed.samples(step)
        low = np.stack([degrade(clip) for clip in hr])[:, :, 2:-2, 2:-2].astype(float)
        inner = lr[:, 1:-1, 2:-2, 2:-2].astype(float)
        if source == "clip":
            weights = np.array([65.738, 129.057, 25.064]) / 256
            assert np.abs((inner - low) @ weights).mean() < 1.5
        else:
            np.testing.assert_array_equal(inner, low)
            # Beyond the ends, the edge frames again.
            np.testing.assert_array_equal(lr[:, [0, -1]], lr[:, [1, -2]])


def test_clips_are_the_same_in_a_mixture_as_alone(material):
    alone = ClipSampler(material[0], batch=4, frames=4, crop=16, seed=7)
    for mine, theirs in zip(sampler(material, CLIPS_ONLY).samples(3), alone.samples(3), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    coded = sampler(material, Mixture(degradation=degradation_named("crf40"))).samples(3)
    np.testing.assert_array_equal(coded[1], alone.samples(3)[1])
    assert not np.array_equal(coded[0], alone.samples(3)[0])


def test_pieces_of_a_sequence_follow_each_other(material):
    mixture = replace(ALL, photo_share=0.8, paper_share=0.2)
    whole, pieces = sampler(material, mixture, frames=6), sampler(material, mixture, frames=2, pieces=3)
    for sequence in range(3):
        lr, hr = whole.samples(sequence)
        parts = [pieces.samples(3 * sequence + piece) for piece in range(3)]
        np.testing.assert_array_equal(np.concatenate([part[1] for part in parts], axis=1), hr)
        for piece, (part, _) in enumerate(parts):
            np.testing.assert_array_equal(part, lr[:, 2 * piece : 2 * piece + 4])


def test_shares_are_those_asked_for(material):
    mixed = sampler(material, ALL, batch=8)
    captions = [caption for step in range(60) for caption in mixed.captions(step)]
    shares = [
        np.mean([caption.startswith("photograph") for caption in captions]),
        np.mean([caption.startswith("flat") for caption in captions]),
        np.mean([caption.endswith(": Gaussian 0.375") for caption in captions]),
    ]
    np.testing.assert_allclose(shares, [0.5, 0.1, 0.4], atol=0.07)  # three deviations of 480


def test_shares_that_cannot_be_are_refused():
    with pytest.raises(RLSPError, match=r"--photo-share must be between 0 and 1, not 1\.5"):
        Mixture(photo_share=1.5)
    with pytest.raises(RLSPError, match=r"--photo-share 0\.7 and --flat-share 0\.4 add up to more than 1"):
        Mixture(photo_share=0.7, flat_share=0.4)


def test_the_contact_sheet_shows_the_first_samples(material, tmp_path):
    from PIL import Image

    mixed = sampler(material, ALL)
    write_contact_sheet(tmp_path / "samples.png", mixed)
    sheet = np.asarray(Image.open(tmp_path / "samples.png"))
    # Two columns of four pictures of 64 pixels, twelve rows, with a line of text above each.
    assert sheet.shape == (12 * (64 + 16), 2 * 4 * 64 + 16, 3)
    lr, hr = mixed.samples(0)
    np.testing.assert_array_equal(sheet[16:80, 64:128], hr[0, 0])
    np.testing.assert_array_equal(sheet[16:80, :64], lr[0, 3].repeat(4, 0).repeat(4, 1))
    assert (sheet[:16, :256] < 128).any()
