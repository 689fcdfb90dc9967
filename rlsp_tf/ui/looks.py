"""Pictures of a moment before and after, computed within the page's process while the network stays loaded."""

import functools
import os
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from rlsp_tf.inference.load import load_step
from rlsp_tf.inference.step import Step
from rlsp_tf.upscaling.preview import preview_frame

CLOSE_UP = 0.3
"""Part of the width and height that a close-up shows."""


@functools.lru_cache(maxsize=2)
def _step(model: str, precision: str) -> Step:
    return load_step(model, precision=precision)
