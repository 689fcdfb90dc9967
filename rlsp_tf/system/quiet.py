"""TensorFlow without what its C++ says on the terminal."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator

from rlsp_tf.errors import RLSPError


@contextlib.contextmanager
def quiet_tensorflow() -> Iterator[None]:
    """Keeps what TensorFlow's C++ prints off the terminal, unless something unexpected happens.

    It writes to the file descriptor before any of its log levels is in force.
    """
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except RLSPError:
            raise  # says itself what the matter is
        except BaseException:
            held.seek(0)
            os.write(saved, held.read())
            raise
        finally:
            os.dup2(saved, 2)
            os.close(saved)
