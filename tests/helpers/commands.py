"""The ``rlsp`` command in processes of its own that need not load TensorFlow first.

Loading it takes seconds. So a server loads it once and forks a process for every command. That process has
the arguments, the environment, the folder and the files of the command, and is a child of the process that
asked for it, which can send it signals and wait for it as for any other. The server itself never uses
TensorFlow, so a command decides about threads and devices by itself. What depends on how TensorFlow is
loaded, such as another backend of Keras, needs a process that is begun by ``sys.executable``.
"""

import atexit
import ctypes
import functools
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

_ADOPT = 36  # PR_SET_CHILD_SUBREAPER of prctl(2)


class Command(subprocess.Popen):
    """A command that runs.

    Args:
        arguments: those after ``rlsp``.
        options: as for :class:`subprocess.Popen`; of those that change the process, ``cwd``, ``env`` and
            ``start_new_session`` are there.
    """

    def __init__(self, arguments, **options):
        super().__init__(["rlsp", *map(str, arguments)], **options)

    # What subprocess calls to start a program, once it has made the pipes.
    def _execute_child(self, args, executable, preexec_fn, close_fds, pass_fds, cwd, env, startupinfo, *more):
        _, _, p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite, *rest = more
        assert executable is None
        assert preexec_fn is None
        assert not pass_fds
        files = [given if given >= 0 else own for own, given in enumerate((p2cread, c2pwrite, errwrite))]
        self.pid = _server().start(
            args[1:],
            cwd=str(cwd or Path.cwd()),
            env=dict(os.environ if env is None else env),
            # After restore_signals, gid, gids, uid and umask.
            session=rest[5],
            files=files,
        )
        self._child_created = True
        self._close_pipe_fds(p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite)


def run_command(arguments, *, input=None, timeout=120, check=False, **options):
    """Runs ``rlsp`` to its end.

    Args:
        arguments: those after ``rlsp``.
        input: what it reads.
        timeout: seconds after which it is killed.
        check: raise if its exit code is not 0.
        options: as for :class:`Command`. Its output is always captured.

    Returns:
        A :class:`subprocess.CompletedProcess`.
    """
    if input is not None:
        options["stdin"] = subprocess.PIPE
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    with Command(arguments, **options) as command:
        try:
            output, errors = command.communicate(input, timeout=timeout)
        except BaseException:
            command.kill()
            raise
    done = subprocess.CompletedProcess(command.args, command.returncode, output, errors)
    if check:
        assert done.returncode == 0, done.stderr
    return done


class _Server:
    """The process that has TensorFlow, from the side of those who ask it for commands."""

    def __init__(self):
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            # The only library that starts threads when it is loaded; they would be missing in a fork.
            "OPENBLAS_NUM_THREADS": "1",
        }
        with theirs:
            command = [sys.executable, "-m", __name__, str(theirs.fileno())]
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, env=environment, pass_fds=[theirs.fileno()]
            )
        atexit.register(self.close)

    def start(self, arguments, *, files, **settings):
        """Starts a command and gives the number of its process, which is a child of this one."""
        request = json.dumps({"arguments": arguments, **settings}).encode()
        # The command's parent is a process that has ended, so it falls to whoever adopts.
        _prctl(_ADOPT, 1)
        try:
            socket.send_fds(self._socket, [request], files)
            answer = self._socket.recv(100)
        finally:
            _prctl(_ADOPT, 0)
        assert answer, "the server of commands has ended"
        return int(answer)

    def close(self):
        self._socket.close()
        self._process.wait()


@functools.cache
def _server():
    return _Server()


def _prctl(option, value):
    result = ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _serve(connection):
    """Forks a process for every request until there are no more; returns the request in such a process."""
    # An interruption from the keyboard is for the tests and for commands.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        content, files, *_ = socket.recv_fds(connection, 2**20, 3)
        if not content:
            os._exit(0)
        read, write = os.pipe()
        if not (parent := os.fork()):
            if command := os.fork():
                os.write(write, str(command).encode())
                os._exit(0)
            os.close(read)
            os.close(write)
            return json.loads(content), files
        os.close(write)
        for file in files:
            os.close(file)
        os.waitpid(parent, 0)
        connection.send(os.read(read, 100))
        os.close(read)


def _become(request, files):
    """Makes this process one that was started for a command."""
    if request["session"]:
        os.setsid()
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    tempfile.tempdir = None  # as TMPDIR says
    for place, file in enumerate(files):
        os.dup2(file, place)
        os.close(file)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = ["rlsp", *request["arguments"]]


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as connection:
        from rlsp_tf.system.quiet import quiet_tensorflow

        with quiet_tensorflow():
            # What commands that run a network load.
            import rlsp_tf.training.train
            import rlsp_tf.upscaling.upscale  # noqa: F401

        # At its end a process looks for garbage in all that it has, which takes a second, but not in this.
        gc.freeze()
        request, files = _serve(connection)
    _become(request, files)
    from rlsp_tf.cli.main import main

    sys.exit(main())
