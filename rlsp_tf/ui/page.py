"""The page, made of Gradio's components."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from rlsp_tf.errors import RLSPError, sentence_of
from rlsp_tf.media.frames import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from rlsp_tf.system.quantities import megabytes, spoken
from rlsp_tf.ui import cards
from rlsp_tf.ui.choices import PICTURE, SIZES, Order, kinds, qualities, weights
from rlsp_tf.ui.looks import Looks
from rlsp_tf.ui.orders import Orders, Placed
from rlsp_tf.ui.uploads import Upload, is_picture, uploads_of

SECONDS = 1
"""Seconds between two updates of progress."""
RATE = 25
"""Frames per second of a video made from pictures, unless another number is given."""
_PICTURES_APART, _PICTURES_TOGETHER = "Separate pictures", "Frames of one video"


def theme() -> gr.Theme:
    """Returns the theme of the page. It uses fonts of the system, so that none has to be downloaded."""
    return gr.themes.Default(
        primary_hue="indigo",
        neutral_hue="slate",
        font=["ui-sans-serif", "system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    )


def build(orders: Orders, models: Sequence[str]) -> gr.Blocks:
    """Builds the page.

    Args:
        orders: receives what is ordered on the page.
        models: names of weights or ``.keras`` files, the recommended one first.

    Raises:
        RLSPError: if one of them cannot be loaded.
    """
    networks, kept = weights(models), duration_of_keeping(orders.limits.keep)
    with gr.Blocks(title="rlsp", analytics_enabled=False) as page:
        gr.Markdown(
            "# Make video larger and sharper\n"
            "Drop a video or pictures, look at a moment before and after, and start. Everything stays on the "
            f"computer that runs this page, where results are kept for {kept}."
        )
        form = _Form(networks)
        _connect(page, form, orders, Looks(orders.uploads))
        _show_jobs(orders, form)
    return page


def duration_of_keeping(seconds: float) -> str:
    """Formats the time for which results are kept."""
    days = round(seconds / 86400)
    return f"{days} days" if days > 1 else "a day" if seconds > 43200 else spoken(seconds)


class _Form:
    """The components by which a clip is dropped, previewed and ordered.

    Args:
        networks: labels and names of weights.
    """

    def __init__(self, networks: Sequence[tuple[str, str]]) -> None:
        self.files = gr.File(
            label="Video or pictures",
            file_count="multiple",
            file_types=[*VIDEO_SUFFIXES, *IMAGE_SUFFIXES],
            elem_id="drop",
            height=160,
        )
        # What was dropped and not yet started is there again when the page is loaded anew.
        self.remembered = gr.BrowserState([])
        self.uploads = gr.State([])
        self.together = gr.Radio(
            [_PICTURES_APART, _PICTURES_TOGETHER],
            value=_PICTURES_APART,
            label="These pictures are",
            visible=False,
            elem_id="together",
        )
        self.refused = gr.HTML(visible=False, elem_id="refused")
        self.error = gr.HTML(visible=False, elem_id="error")
        with gr.Row(visible=False, elem_id="form") as self.row:
            with gr.Column(scale=5, min_width=320):
                self.slider = gr.ImageSlider(
                    label="Before | After", elem_id="look", interactive=False, max_height=420
                )
                self.at = gr.Slider(0, 1, label="Moment, in seconds", elem_id="moment")
                self.close_up = gr.Checkbox(
                    label="Close-up of the part that changes most", elem_id="close-up"
                )
                # The time of the frame that is shown.
                self.shown = gr.State(0.0)
                self.part = gr.Checkbox(label="Only a part, from this moment on", elem_id="part")
                with gr.Row(visible=False) as self.part_row:
                    self.begin = gr.Number(0, label="Begin, in seconds", min_width=120, elem_id="begin")
                    self.length = gr.Number(
                        None,
                        label="Length, in seconds",
                        placeholder="to the end",
                        min_width=120,
                        elem_id="length",
                    )
            with gr.Column(scale=4, min_width=320):
                self.about = gr.Markdown(elem_id="about")
                self.network = gr.Radio(
                    networks, value=networks[0][1], label="Network", visible=len(networks) > 1
                )
                self.size = gr.Radio([], label="Size", elem_id="size")
                choices = qualities()
                recommended = next(value for label, value in choices if "recommended" in label)
                self.quality = gr.Radio(choices, value=recommended, label="Quality", elem_id="quality")
                files = [kind.label for kind in kinds()]
                self.kind = gr.Radio(files, value=files[0], label="File", elem_id="kind")
                self.rate = gr.Number(
                    RATE, label="Pictures per second", minimum=1, maximum=120, visible=False, elem_id="rate"
                )
                self.estimate = gr.HTML(elem_id="estimate")
                self.start = gr.Button("Start", variant="primary", elem_id="start")

    @property
    def look(self) -> list[Any]:
        """The inputs of a preview."""
        return [self.uploads, self.network, self.quality, self.size, self.at, self.close_up]

    @property
    def order(self) -> list[Any]:
        """The inputs of an order."""
        return [
            self.uploads,
            self.network,
            self.quality,
            self.size,
            self.kind,
            self.rate,
            self.part,
            self.begin,
            self.length,
        ]


def _connect(page: gr.Blocks, form: _Form, orders: Orders, looks: Looks) -> None:
    """Connects the events of the form to functions."""

    def drop(files: list[str] | None, together: str) -> dict[Any, Any]:
        paths = [Path(file) for file in files or []]
        pictures = len(paths) > 1 and all(map(is_picture, paths))
        shown: dict[Any, Any] = {
            form.together: gr.update(visible=pictures),
            form.refused: gr.update(visible=False, value=""),
            form.error: gr.update(visible=False, value=""),
            form.row: gr.update(visible=False),
            form.uploads: [],
            form.slider: None,
        }
        if not paths:
            return shown
        try:
            if (size := sum(path.stat().st_size for path in paths)) > orders.limits.upload:
                raise RLSPError(
                    f"{paths[0].name}: is too large ({megabytes(size)}; "
                    f"{megabytes(orders.limits.upload)} are allowed here)."
                )
            frames = pictures and together == _PICTURES_TOGETHER
            uploads, refused = uploads_of(paths, orders.uploads, together=frames)
        except (RLSPError, OSError) as error:
            uploads, refused = [], [sentence_of(error)]
        if refused:
            shown[form.refused] = gr.update(visible=True, value="".join(map(cards.error, refused)))
        if not uploads:
            return shown
        first = uploads[0]
        names = (
            first.title if len(uploads) == 1 else f"{len(uploads)} files, the first of which is {first.title}"
        )
        last = max(0.0, first.seconds - 1 / (first.rate or RATE))
        return shown | {
            form.uploads: uploads,
            form.row: gr.update(visible=True),
            form.about: f"**{_plain(names)}**: {first.describe()}",
            form.size: gr.update(choices=_sizes(uploads), value=_sizes(uploads)[0][1]),
            form.at: gr.update(
                # Gradio takes no slider of zero length, even for a single frame, where it is not shown.
                maximum=round(last, 2) or 1,
                value=round(last / 3, 2),
                step=round(max(0.01, last / 500), 2),
                visible=last > 0 and not first.is_picture,
            ),
            form.part: gr.update(value=False, visible=len(uploads) == 1 and first.rate is not None),
            form.part_row: gr.update(visible=False),
            form.length: None,
            form.kind: gr.update(visible=not all(upload.is_picture for upload in uploads)),
            form.rate: gr.update(visible=first.rate is None and not first.is_picture),
        }

    def look(
        uploads: list[Upload], network: str, quality: str, size: str, at: float, close_up: bool
    ) -> dict[Any, Any]:
        if not uploads:
            return {form.slider: None}
        first = uploads[0]
        moment = 0 if first.is_picture else at
        try:
            paths, seconds = looks.pictures(
                first, network, quality, moment, first.sizes[size], close_up=close_up
            )
        except (RLSPError, OSError) as error:
            return {
                form.slider: None,
                form.error: gr.update(visible=True, value=cards.error(sentence_of(error))),
            }
        return {
            form.slider: tuple(map(str, paths)),
            form.error: gr.update(visible=False),
            form.shown: seconds,
        }

    def choose_part(part: bool, shown: float) -> dict[Any, Any]:
        # Rounded down, so that the frame that is shown is the first.
        return {form.part_row: gr.update(visible=part), form.begin: math.floor(shown * 1000) / 1000}

    def measure(uploads: list[Upload], *choices: Any) -> dict[Any, Any]:
        if not uploads:
            return {form.estimate: ""}
        try:
            found = [looks.estimate(upload, _order(upload, *choices)) for upload in uploads]
        except (RLSPError, OSError) as error:
            return {form.estimate: cards.error(sentence_of(error))}
        return {form.estimate: cards.estimate(found, orders.room())}

    def start(request: gr.Request, uploads: list[Upload], *choices: Any) -> dict[Any, Any]:
        try:
            ordered = [(upload, _order(upload, *choices)) for upload in uploads]
            orders.place(_client(request), *ordered)
        except (RLSPError, OSError) as error:
            return {form.error: gr.update(visible=True, value=cards.error(sentence_of(error)))}
        return {form.files: None, form.uploads: [], form.row: gr.update(visible=False), form.slider: None}

    def restore(remembered: list[str]) -> Any:
        files = [Path(file).resolve() for file in remembered]
        known = all(file.is_file() and orders.uploads.resolve() in file.parents for file in files)
        # Otherwise nothing changes: something may have been dropped while the page was loading.
        return [*map(str, files)] if files and known else gr.skip()

    private: dict[str, Any] = {"api_visibility": "private"}
    quiet = {"show_progress": "hidden", **private}
    # One at a time, and of several that wait only the last one.
    computed = {"concurrency_limit": 1, "concurrency_id": "looks", "trigger_mode": "always_last", **private}
    page.load(restore, form.remembered, form.files, **quiet)
    form.files.change(lambda files: files or [], form.files, form.remembered, **quiet)
    shown = [form.error, form.slider]
    described = [
        *(form.refused, form.together, form.row, form.uploads, form.about, form.size, form.at),
        *(form.part, form.part_row, form.length, form.kind, form.rate),
    ]
    gr.on(
        [form.files.change, form.together.input],
        drop,
        [form.files, form.together],
        [*shown, *described],
        **quiet,
    )
    gr.on(
        [
            form.uploads.change,
            form.at.release,
            *(each.input for each in (form.network, form.quality, form.size, form.close_up)),
        ],
        look,
        form.look,
        [*shown, form.shown],
        show_progress_on=form.slider,
        **computed,
    )
    form.part.input(choose_part, [form.part, form.shown], [form.part_row, form.begin], **quiet)
    gr.on(
        # The beginning also changes when a part is chosen.
        [form.uploads.change, form.begin.change, *(each.input for each in form.order[1:])],
        measure,
        form.order,
        [form.estimate],
        show_progress="minimal",
        show_progress_on=form.estimate,
        **computed,
    )
    form.start.click(
        start, form.order, [form.error, form.files, form.uploads, form.row, form.slider], **quiet
    )


def _sizes(uploads: Sequence[Upload]) -> list[tuple[str, str]]:
    """Returns labels and names of the sizes that all uploads can have."""
    common = [name for name in SIZES if all(name in upload.sizes for upload in uploads)]
    words = {name: SIZES[name][0] for name in common}
    if len(uploads) == 1:
        words = {name: "{} ({}x{})".format(words[name], *uploads[0].sizes[name]) for name in common}
    return [(words[name], name) for name in common]


def _order(
    upload: Upload,
    network: str,
    quality: str,
    size: str,
    label: str,
    rate: float,
    part: bool,
    begin: float | None,
    length: float | None,
) -> Order:
    begin, length = (begin or 0, length) if part else (0, None)
    if begin < 0 or (upload.seconds and begin >= upload.seconds):
        lasts = f"; it lasts {spoken(upload.seconds)}" if upload.seconds else ""
        raise RLSPError(f"{upload.title}: has no frame at {begin} s{lasts}.")
    if length is not None and length <= 0:
        raise RLSPError(f"{upload.title}: a part of it must be longer than 0 s.")
    (kind,) = [PICTURE] if upload.is_picture else [kind for kind in kinds() if kind.label == label]
    encoder = kind.encoder
    return Order(
        title=upload.title,
        files=(),
        model=network,
        precision=quality,
        suffix=kind.suffix,
        size=size,
        upright=upload.height > upload.width,
        codec=encoder.codec,
        crf=encoder.crf,
        preset=encoder.preset,
        rate=None if upload.rate or upload.is_picture else rate,
        start=begin,
        duration=length,
    )


def _show_jobs(orders: Orders, form: _Form) -> None:
    """Shows the jobs of the user. They are rendered again only when one starts, ends or is removed."""
    states = gr.State([])

    def ask(request: gr.Request) -> list[tuple[str, str]]:
        return [(placed.job.name, placed.job.state) for placed in orders.of(_client(request))]

    gr.on(
        [gr.Timer(SECONDS).tick, form.start.click],
        ask,
        None,
        states,
        show_progress="hidden",
        api_visibility="private",
    )

    @gr.render(inputs=states, triggers=[states.change], show_progress="hidden")
    def show(states: list[tuple[str, str]], request: gr.Request) -> None:
        mine = orders.of(_client(request))
        if mine:
            gr.Markdown("## Your videos and pictures")
        shown = {}
        for placed in mine:
            with gr.Column(elem_classes="rlsp-job", key=placed.job.name):
                shown[_show_job(orders, placed)] = placed
        moving = {card: placed for card, placed in shown.items() if not placed.job.is_over}

        def tell() -> Any:
            # A result comes with its buttons, when all is rendered again; else its player would begin twice.
            at_work = {card: placed for card, placed in moving.items() if not placed.job.is_over}
            return {card: cards.card(placed) for card, placed in at_work.items()} or gr.skip()

        # A timer of its own: what is connected here to a component from outside takes the place of all that
        # was connected to the same event of it before, as of Gradio 6. Its function stays, by its key, when
        # nothing moves any more, since a browser may call it once again before it knows.
        gr.Timer(SECONDS, active=bool(moving)).tick(
            tell,
            None,
            [*shown],
            key="tick",
            show_progress="hidden",
            api_visibility="private",
        )


def _show_job(orders: Orders, placed: Placed) -> gr.HTML:
    """Shows a job with its buttons, and returns the component that holds its card."""
    job, name = placed.job, placed.job.name
    card = gr.HTML(cards.card(placed))
    hidden: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}

    def remove(request: gr.Request) -> None:
        orders.remove(_client(request), name)

    def again(request: gr.Request) -> None:
        orders.again(_client(request), name)

    small: dict[str, Any] = {"size": "sm", "scale": 0, "min_width": 120}
    with gr.Row():
        if job.state == "failed":
            gr.Button("Try again", elem_classes="again", **small).click(again, **hidden)
        label = "Remove" if job.is_over else "Cancel"
        gr.Button(label, elem_classes=label.lower(), **small).click(remove, key=f"remove {name}", **hidden)
    return card


def _client(request: gr.Request) -> str:
    """Returns the name of the user; an empty string if there are no accounts."""
    return request.username or ""


def _plain(text: str) -> str:
    """Escapes text for Markdown."""
    return "".join(f"\\{letter}" if letter in r"\`*_{}[]<>()#+-.!|~" else letter for letter in text)
