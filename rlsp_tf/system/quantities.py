"""Durations and sizes in the words of people."""


def spoken(seconds: float) -> str:
    """Returns a duration as people say it: ``"0.4 s"``, ``"46 s"``, ``"1 min 5 s"``, ``"1 h 20 min"``."""
    if seconds < 0.95:
        return f"{round(seconds, 1):g} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    # Where there are many of the larger unit, the smaller one says nothing more.
    if whole < 600:
        return _of_two(whole, "min", "s")
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    return _of_two(minutes, "h", "min") if minutes < 600 else f"{round(minutes / 60)} h"


def megabytes(size: float) -> str:
    """Returns a number of bytes as people say it: ``"98.3 kB"``, ``"12.3 MB"``, ``"3.0 GB"``."""
    for unit, length in (("kB", 1e3), ("MB", 1e6)):
        if size < 999.5 * length:
            return f"{size / length:.3g} {unit}"
    return f"{size / 1e9:.1f} GB"


def _of_two(count: int, larger: str, smaller: str) -> str:
    whole, rest = divmod(count, 60)
    return f"{whole} {larger} {rest} {smaller}" if rest else f"{whole} {larger}"
