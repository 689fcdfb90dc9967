"""The choices that the page offers, with plain labels and what they mean to ``rlsp upscale``."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path

import av

from rlsp_tf.errors import RLSPError
from rlsp_tf.inference.hardware import fastest_precision, int8_is_fastest
from rlsp_tf.media.encoders import EncoderOptions
from rlsp_tf.media.interval import Interval
from rlsp_tf.network.keras_file import read_network
from rlsp_tf.network.weights import find_weights
from rlsp_tf.serving.limits import for_clients
from rlsp_tf.system.files import read_json, write_json
from rlsp_tf.upscaling.size import Size
from rlsp_tf.upscaling.upscale import Recipe

ORDER = "order.json"
"""Name of the file in a job's folder that holds its :class:`Order`."""


@dataclass(frozen=True)
class Kind:
    """A kind of video file.

    Attributes:
        label: text that says what it is good for.
        suffix: suffix of the file, without a dot.
        encoder: settings of the encoder.
    """

    label: str
    suffix: str
    encoder: EncoderOptions


_KINDS = (
    Kind("Plays everywhere (H.264)", "mp4", EncoderOptions("libx264", 18)),
    Kind("Smaller, for newer devices (H.265)", "mp4", EncoderOptions("libx265", 21)),
    Kind("Smallest, for browsers and newer devices (AV1)", "mp4", EncoderOptions("libsvtav1", 28, "8")),
    Kind("For editing programs, very large (ProRes)", "mov", EncoderOptions("prores_ks")),
)
SIZES = {
    "4x": ("4 times larger", Size(scale=Fraction(4))),
    "2x": ("2 times larger", Size(scale=Fraction(2))),
    "1080p": ("Full HD", Size(box=(1920, 1080))),
    "1440p": ("WQHD", Size(box=(2560, 1440))),
    "2160p": ("4K", Size(box=(3840, 2160))),
}
"""Label and size of results by name. Boxes are turned for clips that are higher than wide."""
_OPTIONS = {
    "the end of --duration": "its end",
    "--duration": "length",
    "--start": "the beginning of the part",
}
PICTURE = Kind("Picture (PNG)", "png", EncoderOptions())


@dataclass(frozen=True)
class Order:
    """What is made of an upload, stored in the folder of its job.

    Attributes:
        title: the name that the file has for its owner.
        files: names of the files in the job's folder; several are the frames of one video.
        model, precision: the network, see :func:`rlsp_tf.inference.load.load_step`.
        suffix: suffix of the result, without a dot.
        size: one of ``SIZES``.
        upright: whether the clip is higher than wide.
        codec, crf, preset: settings of the encoder, see :class:`rlsp_tf.media.encoders.EncoderOptions`.
        rate: frames per second, if the upload has none.
        start, duration: seconds of the part that is upscaled, see :class:`rlsp_tf.media.interval.Interval`.
    """

    title: str
    files: tuple[str, ...]
    model: str
    precision: str
    suffix: str
    size: str = "4x"
    upright: bool = False
    codec: str | None = None
    crf: int = 18
    preset: str | None = None
    rate: float | None = None
    start: float = 0
    duration: float | None = None

    @property
    def interval(self) -> Interval:
        """The part that is upscaled. Its times are the decimal numbers that were typed."""
        return Interval(
            Fraction(str(self.start)), None if self.duration is None else Fraction(str(self.duration))
        )

    @property
    def recipe(self) -> Recipe:
        """The recipe for :func:`rlsp_tf.upscaling.upscale.upscale_clip`."""
        encoder = EncoderOptions(self.codec, self.crf, self.preset, self.rate)
        size = size_of(self.size, upright=self.upright)
        return Recipe(encoder=encoder, size=size, interval=self.interval)

    @property
    def result_name(self) -> str:
        """The name under which the result is downloaded."""
        return f"{Path(self.title).stem}-{self.size}.{self.suffix}"

    def source(self, folder: Path) -> Path:
        """Returns the path of the clip in a job's folder: a file, or a folder of images."""
        return folder / self.files[0] if len(self.files) == 1 else (folder / self.files[0]).parent

    def write(self, folder: Path) -> None:
        """Writes the order into a job's folder."""
        write_json(folder / ORDER, asdict(self))

    @classmethod
    def read(cls, folder: Path) -> "Order":
        """Reads the order in a job's folder.

        Raises:
            RLSPError: if there is none, or it is damaged.
        """
        value = read_json(folder / ORDER, "remove the job")
        try:
            order = cls(**{**value, "files": tuple(value["files"])})
            SIZES[order.size]
            return order
        except (KeyError, TypeError) as error:
            raise RLSPError(f"{folder / ORDER}: is not an order; remove the job.") from error


def size_of(name: str, *, upright: bool) -> Size:
    """Returns one of ``SIZES``.

    Args:
        name: its name.
        upright: whether the clip is higher than wide.
    """
    size = SIZES[name][1]
    return replace(size, box=size.box[::-1]) if size.box and upright else size


def plain(sentence: str, names: Mapping[Path, str]) -> str:
    """Returns a sentence of the library in the words of the page.

    Args:
        sentence: what was assumed, left out, or went wrong.
        names: what the page calls the files.
    """
    sentence = for_clients(sentence, names)
    for option, words in _OPTIONS.items():
        sentence = sentence.replace(option, words)
    return sentence


def kinds() -> list[Kind]:
    """Returns the kinds of video that can be written on this machine, the recommended one first."""
    return [kind for kind in _KINDS if kind.encoder.codec in av.codecs_available]


def qualities() -> list[tuple[str, str]]:
    """Returns label and precision of the qualities that differ on this machine, the best first."""
    auto, fast = ("Balanced (recommended)", "auto"), ("Fast", "int8")
    exact = fastest_precision() == "float32"
    rows = [("Best (recommended)", "auto")] if exact else [("Best", "float32"), auto]
    return [*rows, fast] if int8_is_fastest() else rows


def weights(models: Sequence[str]) -> list[tuple[str, str]]:
    """Returns label and name of weights. Labels compare their size with that of the first.

    Args:
        models: names of weights, or ``.keras`` files.

    Raises:
        RLSPError: if one is missing or damaged.
    """
    sizes = [sum(each.size for each in read_network(find_weights(model)).weights) for model in models]
    rows = []
    for model, size in zip(models, sizes, strict=True):
        name, times = Path(model).name.removesuffix(".keras"), size / sizes[0]
        if times > 1.1:
            name += f" (sharper, takes {times:.1f} times as long)"
        elif times < 0.9:
            name += f" (less sharp, takes {times:.0%} of the time)"
        rows.append((name, model))
    return rows
