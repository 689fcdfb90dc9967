"""HTML of jobs: progress, errors, and the result beside the original; and HTML of estimates and errors."""

import html
import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from rlsp_tf.system.quantities import megabytes, spoken
from rlsp_tf.ui.orders import Placed
from rlsp_tf.ui.playable import AFTER_PICTURE, BEFORE, BEFORE_PICTURE
from rlsp_tf.upscaling.estimate import Estimate

MOST_SHOWN = 50_000_000
"""Largest size in bytes of a picture that is shown. Browsers take long for larger ones."""

_OTHER = "const b = this.closest('.rlsp-pair').querySelector('.before video')"
# The player with the controls moves the other one along.
_TOGETHER = "".join(
    f' on{event}="{_OTHER}; if (b) {{ {action} }}"'
    for event, action in (
        ("play", "b.currentTime = this.currentTime; b.play().catch(() => {})"),
        ("pause", "b.pause(); b.currentTime = this.currentTime"),
        ("seeked", "b.currentTime = this.currentTime"),
        ("ratechange", "b.playbackRate = this.playbackRate"),
    )
)
_UNPLAYABLE = "onerror=\"this.closest('figure').classList.add('unplayable')\""


def card(placed: Placed) -> str:
    """Returns the title of a job with its progress, its result or its error."""
    state = {"done": result, "failed": lambda placed: error(placed.job.error or "")}.get(
        placed.job.state, progress
    )
    order = placed.order
    lasts = "" if order.duration is None else f", {order.duration} s long"
    part = f'<div class="rlsp-note">From {order.start} s on{lasts}</div>' if order.interval else ""
    return f"<h3>{html.escape(order.title)}</h3>{part}{state(placed)}"


def error(sentence: str) -> str:
    """Returns the HTML of an error."""
    return f'<div class="rlsp-error" role="alert">{html.escape(_capital(sentence))}</div>'


def estimate(found: Sequence[Estimate], room: int) -> str:
    """Returns the time and disk space of orders; an empty string if they are too short to be measured.

    Args:
        found: the estimate of each order.
        room: free bytes.
    """
    size = sum(each.size or 0 for each in found)
    # While it is put together, its parts are there as well.
    if 2 * size > room:
        needed, free = megabytes(2 * size), megabytes(room)
        return error(f"The result takes about {needed} while it is made, but there is room for {free}.")
    if not size:
        return ""
    time = spoken(sum(each.seconds or 0 for each in found))
    return (
        f'<div class="rlsp-estimate">About {time} on this computer, and {megabytes(size)} on its disk</div>'
    )


def progress(placed: Placed) -> str:
    """Returns the progress of a job that has not ended."""
    told = placed.job.describe()
    if told["state"] == "waiting":
        return '<progress></progress><div class="rlsp-note">Waiting for its turn</div>'
    if not told["frames"]:
        return '<progress></progress><div class="rlsp-note">Getting ready</div>'
    if not told["total"]:
        return f'<progress></progress><div class="rlsp-note">{told["frames"]} frames are done</div>'
    share = min(1.0, told["frames"] / told["total"])
    words = [f"{share:.0%}", f"frame {told['frames']} of {told['total']}"]
    if told["frames"] >= told["total"]:
        words = ["Putting the file together"]
    elif told["rate"]:
        words += [f"{told['rate']:.2g} frames a second", f"about {spoken(told['left'])} left"]
    return f'<progress value="{share:.4f}"></progress><div class="rlsp-note">{", ".join(words)}</div>'


def result(placed: Placed) -> str:
    """Returns the result of a job beside the original, with a link to download it."""
    order, path = placed.order, placed.result
    size = path.stat().st_size
    parts = []
    if order.suffix == "png":
        shown = _copy_of(path, placed.folder / AFTER_PICTURE)
        if shown.stat().st_size <= MOST_SHOWN:
            before = _copy_of(placed.source, placed.folder / BEFORE_PICTURE)
            parts = [_picture("before", "Before", before), _picture("after", "After", shown)]
    else:
        original = _copy_of(placed.source, placed.folder / BEFORE)
        if original.is_file():
            parts.append(_video("before", "Before", original, "muted"))
        parts.append(_video("after", "After", path, f"controls{_TOGETHER}"))
    pair = f'<div class="rlsp-pair">{"".join(parts)}</div>' if parts else ""
    name = html.escape(order.result_name)
    address = _address(_named(path, order.result_name))
    link = f'<a class="download" href="{address}" download="{name}">Download {name}</a>'
    notes = "".join(
        f'<div class="rlsp-note">{html.escape(_capital(note))}</div>' for note in placed.job.notes
    )
    return f'{pair}<p>{link} <span class="rlsp-note">{megabytes(size)}</span></p>{notes}'


def _copy_of(path: Path, copy: Path) -> Path:
    """Returns the copy of a file that is made for browsers, or the file itself if none was needed."""
    return copy if copy.is_file() else path


def _named(path: Path, name: str) -> Path:
    """Returns a second path of a file that ends in a name, by which browsers store it; a hard link.

    Gradio tells browsers the last part of the path, and they prefer that to the name in a link.
    """
    named = path.with_name(name)
    try:
        if not named.exists():
            os.link(path, named)
    except OSError:
        return path  # a file system without links, or a name that is too long for it
    return named


def _video(name: str, label: str, path: Path, options: str) -> str:
    player = f'<video src="{_address(path)}" preload="auto" playsinline {options} {_UNPLAYABLE}></video>'
    return _figure(name, label, player)


def _picture(name: str, label: str, path: Path) -> str:
    return _figure(name, label, f'<img src="{_address(path)}" alt="{label}" {_UNPLAYABLE}>')


def _figure(name: str, label: str, content: str) -> str:
    cannot = '<div class="cannot">Your browser cannot show this kind of file. The download is complete.</div>'
    return f'<figure class="{name}">{content}{cannot}<figcaption>{label}</figcaption></figure>'


def _address(path: Path) -> str:
    """Returns the URL of a file, relative to the page, whose own URL a proxy may have changed."""
    return html.escape(f"gradio_api/file={quote(str(path))}")


def _capital(sentence: str) -> str:
    # Most sentences begin with the name of a file, which stays as it is.
    return sentence[:1].upper() + sentence[1:] if sentence.startswith(("the ", "there ")) else sentence
