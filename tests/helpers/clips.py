"""Folders of clips and their index."""

import imageio.v3 as iio

from rlsp_tf.training.clips.index import index_clips


def write_folder(folder, frames, suffix=".png"):
    folder.mkdir(parents=True)
    for index, frame in enumerate(frames):
        iio.imwrite(folder / f"frame_{index:03d}{suffix}", frame)
    return folder


def index(*roots, cache, **options):
    clips, notes = index_clips(roots, cache=cache, **options)
    return clips, "\n".join(notes)
