"""What a video codec leaves of frames: they are encoded and decoded again, in memory."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

CodecName = Literal["x264", "x265", "vp9", "mpeg4"]
WORST_CRF = 51
"""The largest CRF of x264."""
_PADDING = {"x264": (2, 128), "x265": (128, 128)}
"""Height and width, to multiples of which frames are padded for a codec; (2, 2) for others. Otherwise, what
x264 makes with its macroblock tree is not the same every time, and x265 writes beyond its memory where frames
are small. Neither spends anything on padding, or encodes the frame otherwise for it."""
_EXACT = (
    Interpolation.BICUBIC
    | Interpolation.ACCURATE_RND
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.FULL_CHR_H_INP
)
"""How swscale converts colours. Without these flags it makes frames darker by half a grey level or more."""
_CODECS: dict[str, tuple[Any, Any]] = {
    "x264": ("libx264", "h264"),
    "x265": ("libx265", "hevc"),
    "vp9": ("libvpx-vp9", "vp9"),
    "mpeg4": ("mpeg4", "mpeg4"),
}
"""FFmpeg's encoder and decoder."""


@dataclass(frozen=True)
class Codec:
    """A codec and its settings.

    Attributes:
        name: ``"x264"`` (H.264), ``"x265"`` (H.265), ``"vp9"`` or ``"mpeg4"`` (MPEG-4 part 2).
        crf: constant rate factor on the scale of x264, 0 (clean) to 51. Other codecs get the setting
            that comes close to it.
        preset: of x264 and x265: how much they search.
        gop: frames from one key frame to the next at most.
    """

    name: CodecName = "x264"
    crf: int = 23
    preset: str = "medium"
    gop: int = 250

    def __str__(self) -> str:
        preset = f", preset {self.preset}" if self.name in ("x264", "x265") else ""
        return f"{self.name} at CRF {self.crf}{preset}, a key frame every {self.gop} frames"

    @property
    def options(self) -> dict[str, str]:
        """What FFmpeg's encoder is told."""
        general = {"g": str(self.gop)}
        if self.name == "x264":
            return {**general, "crf": str(self.crf), "preset": self.preset}
        if self.name == "x265":
            silent = "log-level=none:pools=none:frame-threads=1"
            return {**general, "crf": str(self.crf), "preset": self.preset, "x265-params": silent}
        if self.name == "vp9":
            # Its scale ends at 63; "good" at speed 5 is what sites use for films.
            crf = min(63, round(1.4 * self.crf))
            fast = {"deadline": "good", "cpu-used": "5", "lag-in-frames": "0"}
            return {**general, "crf": str(crf), "b": "0", **fast}
        # The quantizer doubles with every 6 steps of CRF; 3 looks like CRF 18.
        quantizer = str(min(31, max(1, round(3 * 2 ** ((self.crf - 18) / 6)))))
        return {**general, "qmin": quantizer, "qmax": quantizer}


class Recompressor:
    """Encodes frames one after the other and gives those that could be decoded since, in order.

    Colour goes through YCbCr of BT.601 with chroma at half resolution, as in most videos.

    Args:
        codec: what to encode with.
    """

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._encoder: av.VideoCodecContext | None = None
        self._to_yuv, self._to_rgb = VideoReformatter(), VideoReformatter()
        self._count = 0

    def push(self, frame: np.ndarray) -> list[np.ndarray]:
        """Takes uint8 RGB ``(H, W, 3)``, always of one size; gives frames that are ready, often none."""
        if self._encoder is None:
            self._open(*frame.shape[:2])
        assert self._encoder is not None
        height, width = self._size
        below, right = self._encoder.height - height, self._encoder.width - width
        padded = np.pad(frame, ((0, below), (0, right), (0, 0)), mode="edge")
        picture = av.VideoFrame.from_ndarray(padded, format="rgb24")
        picture = self._to_yuv.reformat(picture, format="yuv420p", interpolation=_EXACT, threads=1)
        picture.pts, picture.time_base = self._count, Fraction(1, 25)
        self._count += 1
        return self._decode(self._encoder.encode(picture))

    def flush(self) -> list[np.ndarray]:
        """Ends the video; gives the frames that are left."""
        if self._encoder is None:
            return []
        last = self._decode(self._encoder.encode(None))
        last += [self._pixels(picture) for picture in self._decoder.decode(None)]
        self._encoder = None
        return last

    def _open(self, height: int, width: int) -> None:
        names = _CODECS[self._codec.name]
        encoder, decoder = av.CodecContext.create(names[0], "w"), av.CodecContext.create(names[1], "r")
        assert isinstance(encoder, av.VideoCodecContext)
        assert isinstance(decoder, av.VideoCodecContext)
        self._size = height, width
        multiples = _PADDING.get(self._codec.name, (2, 2))
        encoder.height, encoder.width = (
            -(-side // multiple) * multiple for side, multiple in zip(self._size, multiples, strict=True)
        )
        encoder.pix_fmt, encoder.framerate, encoder.time_base = "yuv420p", Fraction(25), Fraction(1, 25)
        # With one thread, the same frames give the same bits wherever they are encoded.
        encoder.thread_count = decoder.thread_count = 1
        encoder.options = self._codec.options
        encoder.open()
        decoder.extradata = encoder.extradata
        self._encoder, self._decoder = encoder, decoder

    def _decode(self, packets: list[av.Packet]) -> list[np.ndarray]:
        return [self._pixels(picture) for packet in packets for picture in self._decoder.decode(packet)]

    def _pixels(self, picture: av.VideoFrame) -> np.ndarray:
        rgb = self._to_rgb.reformat(picture, format="rgb24", interpolation=_EXACT, threads=1)
        return rgb.to_ndarray()[: self._size[0], : self._size[1]]
