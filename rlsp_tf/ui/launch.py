"""Runs the page, and stops it so that unfinished work is resumed the next time."""

import importlib.util
import ipaddress
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from rlsp_tf.errors import RLSPError, UsageError, describe_os_error
from rlsp_tf.serving.folder import jobs_folder
from rlsp_tf.system.files import read_entries
from rlsp_tf.system.listener import listen
from rlsp_tf.ui.limits import DEFAULT_LIMITS, Limits

SHORTEST_PASSWORD = 8
"""Smallest length of a password in characters; shorter ones could be guessed."""


def launch(
    *,
    host: str = "127.0.0.1",
    port: int = 7860,
    folder: str | os.PathLike[str] | None = None,
    models: Sequence[str] = ("7-48",),
    accounts: Mapping[str, str] | None = None,
    share: bool = False,
    limits: Limits = DEFAULT_LIMITS,
) -> None:
    """Shows the page until the program is interrupted.

    Args:
        host: the address to listen on.
        port: the port to listen on; 0 for any free one.
        folder: the folder for uploads and results; by default one in the user's folder for data of programs.
        models: names of weights or ``.keras`` files, the recommended one first.
        accounts: passwords by user name. Without accounts, the page must only be reachable from this machine.
        share: whether a server of Gradio's makers forwards requests from a public address to this page.
        limits: how much is accepted and kept.

    Raises:
        RLSPError: if the port, the folder or the weights cannot be used, or others could reach the page
            without an account.
    """
    _check_installed()
    accounts = dict(accounts or {})
    for user, password in accounts.items():
        _check_account(user, password)
    with listen(host, port, "rlsp ui") as free:
        address, port = free.getsockname()[:2]
    if not accounts and (share or not ipaddress.ip_address(address).is_loopback):
        raise UsageError(
            f"rlsp ui: others can reach {'a shared page' if share else host}; give --auth-file with a user "
            "and a password for them."
        )
    from starlette.middleware import Middleware

    from rlsp_tf.ui.orders import Orders
    from rlsp_tf.ui.own_pages import OwnPages

    with jobs_folder(_folder(folder), "--folder") as kept, Orders(kept, limits) as orders:
        # Errors only.
        os.environ.setdefault("SVT_LOG", "1")
        # Nothing is sent to Gradio's makers.
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
        # Gradio puts uploads there.
        os.environ["GRADIO_TEMP_DIR"] = os.fspath(orders.uploads)
        # The page asks itself whether it is there, which is nothing for a proxy.
        for name in ("no_proxy", "NO_PROXY"):
            os.environ[name] = ",".join(filter(None, [os.environ.get(name), "localhost", host]))
        from rlsp_tf.ui.page import build, theme

        page = build(orders, models)
        page.queue(default_concurrency_limit=8)
        page.launch(
            server_name=f"[{host}]" if ":" in host else host,
            server_port=port,
            auth=[*accounts.items()] or None,
            share=share,
            theme=theme(),
            css_paths=[Path(__file__).with_name("page.css")],
            allowed_paths=[os.fspath(kept)],
            max_file_size=limits.upload,
            # What comes through Gradio's server does not say by which name the page was called.
            app_kwargs={"middleware": [] if share else [Middleware(OwnPages, anywhere=bool(accounts))]},
            prevent_thread_lock=True,
            quiet=True,
            ssr_mode=False,
            enable_monitoring=False,
            run_history=False,
            pwa=False,
            mcp_server=False,
            footer_links=[],
        )
        try:
            print(
                f"rlsp: open {page.share_url or page.local_url} in a browser; Ctrl-C ends the page",
                flush=True,
            )
            threading.Event().wait()
        except KeyboardInterrupt:
            print("rlsp: what is unfinished goes on when rlsp ui is started again", flush=True)
        finally:
            page.close(verbose=False)


def read_accounts(path: str | os.PathLike[str]) -> dict[str, str]:
    """Reads a file with a line ``USER:PASSWORD`` for each user. Empty lines and those with ``#`` are skipped.

    Args:
        path: the file.

    Raises:
        RLSPError: if it cannot be read, or a line is not of this form.
    """
    path, accounts = Path(path), {}
    for number, line in read_entries(path, "USER:PASSWORD"):
        user, _, password = line.partition(":")
        try:
            _check_account(user, password)
        except UsageError as error:
            raise RLSPError(f"{path}: line {number}: {error}") from error
        accounts[user] = password
    if not accounts:
        raise RLSPError(f"{path}: has no account in it; write one USER:PASSWORD per line.")
    return accounts


def _check_account(user: str, password: str) -> None:
    if not user or len(password) < SHORTEST_PASSWORD:
        raise UsageError(
            f"an account is USER:PASSWORD, with a password of at least {SHORTEST_PASSWORD} characters."
        )


def _folder(given: str | os.PathLike[str] | None) -> Path:
    """Returns the folder for uploads and results; the parent of the default one is created."""
    if given is not None:
        return Path(given).absolute()
    import platformdirs

    try:
        return platformdirs.user_data_path("rlsp", appauthor=False, ensure_exists=True) / "ui"
    except OSError as error:
        raise RLSPError(
            f"{describe_os_error(error).rstrip('.')}, or give another folder by --folder."
        ) from error


def _check_installed() -> None:
    for package in ("gradio", "platformdirs"):
        if importlib.util.find_spec(package) is None:
            raise RLSPError(f"rlsp ui: needs {package} to run; install it by: pip install 'rlsp_tf[ui]'.")
