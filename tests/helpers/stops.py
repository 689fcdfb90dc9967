"""Signals that come when a run has been asked for them a number of times."""

from rlsp_tf.system.signals import Stop


class StopSoon(Stop):
    """As if a signal came when it has been asked so many times; it is asked before every step."""

    def __init__(self, asked):
        super().__init__()
        self._left = asked

    def __bool__(self):
        self._left -= 1
        if self._left < 0:
            self.signal = "SIGTERM"
        return super().__bool__()
