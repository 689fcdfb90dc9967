"""Hides the messages that TensorFlow's C++ code prints on the terminal."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator

from rlsp_tf.errors import RLSPError


@contextlib.contextmanager
def quiet_tensorflow() -> Iterator[None]:
    """Holds back everything printed on standard error, and prints it only if an unexpected error occurs.

    TensorFlow's log level cannot do this: some messages are written to the file descriptor before it takes
    effect.
    """
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except RLSPError:
            raise  # its message is enough
        except BaseException:
            held.seek(0)
            os.write(saved, held.read())
            raise
        finally:
            os.dup2(saved, 2)
            os.close(saved)
