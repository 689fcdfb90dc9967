"""A page that is killed while it works, for tests that look at what it leaves."""

import os
import signal
import time

from rlsp_tf.ui.limits import Limits
from rlsp_tf.ui.orders import Orders
from rlsp_tf.ui.uploads import uploads_of


def place_and_die(folder, film, order):
    """Places an order for a film, and kills its own process once frames are finished."""
    with Orders(folder, Limits()) as orders:
        (upload,), _ = uploads_of([film], orders.uploads, together=False)
        orders.place("", (upload, order))
        while not orders.of("")[0].job.frames:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGKILL)
