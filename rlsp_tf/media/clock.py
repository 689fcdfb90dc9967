"""Time stamps that start again, as in files that were joined from several, made continuous."""


class Clock:
    """Corrects time stamps that start again, as in files that were joined from several.

    Attributes:
        restarts: how often the clock has started again.
    """

    def __init__(self) -> None:
        self.restarts = 0
        self._shift = self._before = 0

    def read(self, stamp: int, last: int, step: int) -> int:
        """Returns a time stamp on a clock that never starts again.

        Args:
            stamp: the time stamp in the file.
            last: the corrected time stamp before it.
            step: the duration that belongs to ``last``.

        Returns:
            The corrected time stamp. It may still be at or before ``last``, by less than ``step``; that is
            taken for an error of one time stamp, not for a restart.
        """
        if self._shift != self._before and stamp + self._before > last:
            # Only a few time stamps were wrong; the clock had not started again.
            self._shift = self._before
            self.restarts -= 1
        elif stamp + self._shift <= last - step:
            self._before, self._shift = self._shift, last + step - stamp
            self.restarts += 1
        return stamp + self._shift
