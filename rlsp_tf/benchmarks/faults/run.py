"""Checks that nothing is lost by damaged files, kills, signals, full disks and in a long film."""

import os
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rlsp_tf.benchmarks.excerpts import reduce
from rlsp_tf.benchmarks.faults.damaged_files import OUTCOMES, benchmark_damage
from rlsp_tf.benchmarks.faults.kills import FRAMES as FEW
from rlsp_tf.benchmarks.faults.kills import benchmark_kills, benchmark_points
from rlsp_tf.benchmarks.faults.long_film import benchmark_long_film
from rlsp_tf.benchmarks.faults.situations import benchmark_situations
from rlsp_tf.benchmarks.harness import heading
from rlsp_tf.errors import RLSPError, last_line
from rlsp_tf.media.excerpts import cut

WIDTH = 96
"""Width of frames in pixels in all parts that need many frames."""
FRAMES = 900
"""Frames of the first video that these parts use: several segments."""

Result = Mapping[str, Any]


def benchmark_faults(
    videos: Sequence[str | os.PathLike[str]],
    *,
    model: str,
    damages: int,
    kills: int,
    minutes: float,
    progress: bool = False,
    command: str = "",
) -> dict[str, Any]:
    """Tries in a temporary folder what can go wrong in a long run.

    Damage is done to the beginnings of all videos. Kills, situations and the long film use the first video
    in a small size; the long film has half its frame rate.

    Args:
        videos: real video files.
        model: as for :func:`rlsp_tf.inference.load.load_step`.
        damages: number of files to damage.
        kills: number of runs to kill at random moments.
        minutes: length of the long film.
        progress: show on standard error how far it is.
        command: the command line to record in the result.

    Returns:
        :func:`rlsp_tf.benchmarks.harness.heading` and ``{"videos", "model", "damage", "points", "kills",
        "situations", "soak"}``; the last five are the results of :func:`benchmark_damage`,
        :func:`benchmark_points`, :func:`benchmark_kills`, :func:`benchmark_situations` and
        :func:`benchmark_long_film`.

    Raises:
        RLSPError: if a video does not exist, or cannot be upscaled when nothing goes wrong.
    """
    paths = [Path(video) for video in videos]
    for path in paths:
        if not path.is_file():
            raise RLSPError(f"{path}: no such file; check the path.")
    result = heading("faults", command, ("av", "psutil"))
    with tempfile.TemporaryDirectory() as name:
        root = Path(name).resolve()

        def folder(part: str) -> Path:
            (root / part).mkdir()
            return root / part

        film, slow, short = root / "film.mp4", root / "slow.mp4", root / "short.mp4"
        reduce(paths[0], film, width=WIDTH, frames=FRAMES)
        reduce(paths[0], slow, width=WIDTH, frames=FRAMES, every=2)
        cut(film, short, FEW, sound=True)
        given: dict[str, Any] = {"model": model, "progress": progress}
        return result | {
            "videos": [path.name for path in paths],
            "model": Path(model).stem,
            "damage": benchmark_damage(paths, folder("damage"), runs=damages, **given),
            "points": benchmark_points(short, folder("points"), **given),
            "kills": benchmark_kills(film, folder("kills"), kills=kills, **given),
            "situations": benchmark_situations(film, folder("situations"), **given),
            "soak": benchmark_long_film(slow, folder("soak"), minutes=minutes, **given),
        }


def survived_damage(run: Result) -> bool:
    """Whether a damaged file was upscaled as far as it decodes, or refused with a sentence."""
    return run["outcome"] in ("written", "refused") and not run["lost"]


def survived_kill(kill: Result) -> bool:
    """Whether a killed run was continued without any difference, and left no other files."""
    return kill["code"] == 0 and not (kill["lost"] or kill["different"] or kill["left"])


def survived_long_film(soak: Result) -> bool:
    """Whether the result of the long film has all frames, at their times, and all sound."""
    given, got = soak["sound"]
    return soak["code"] == 0 and not soak["lost"] and not soak["moved"] and given == got


def counts(result: Result) -> dict[str, dict[str, int]]:
    """Counts the faults of each part that were tried and survived, and the frames that were lost.

    Args:
        result: result of :func:`benchmark_faults`.

    Returns:
        For each part ``{"tried", "survived", "lost"}``. Situations do not count frames: if a film is not
        complete, the situation was not survived.
    """
    damage, kills, soak = result["damage"]["runs"], result["kills"]["kills"], result["soak"]
    situations = [each for each in result["situations"] if "missing" not in each]

    def part(those: Iterable[Any], survived: Callable[[Any], bool]) -> dict[str, int]:
        those = list(those)
        return {
            "tried": len(those),
            "survived": sum(map(survived, those)),
            "lost": sum(each.get("lost", 0) for each in those),
        }

    return {
        "damaged files": part(damage, survived_damage),
        "kills at changes": part(result["points"], survived_kill),
        "kills": part(kills, survived_kill),
        "situations": part(situations, lambda each: each["right"]),
        "long film": part([soak], survived_long_film),
    }


def failures(result: Result) -> list[str]:
    """Lines that describe each fault that was not survived."""
    lines = [
        f"{run['file']}, {run['kind']} (seed {run['seed']}): {run['outcome']}, {run['written']} of "
        f"{run['decodable']} frames written. {last_line(run['said'])}".rstrip()
        for run in result["damage"]["runs"]
        if not survived_damage(run)
    ]
    lines += [
        f"killed before: {point['name']}: ended with {point['code']}, {point['lost']} frames lost, "
        f"{point['different']} packets different, left {', '.join(point['left']) or 'nothing'}. "
        f"{point['said']}".rstrip()
        for point in result["points"]
        if not survived_kill(point)
    ]
    lines += [
        f"kill {number} after {kill['after']:.1f} s: ended with {kill['code']}, {kill['lost']} frames lost, "
        f"{kill['different']} packets different, left {', '.join(kill['left']) or 'nothing'}. "
        f"{kill['said']}".rstrip()
        for number, kill in enumerate(result["kills"]["kills"])
        if not survived_kill(kill)
    ]
    lines += [
        f"{each['name']}: exit code {each['code']}, left {', '.join(each['left']) or 'nothing'}. "
        f"{last_line(each['said'])} {each['then']}".rstrip()
        for each in result["situations"]
        if not each.get("right", True)
    ]
    soak = result["soak"]
    if not survived_long_film(soak):
        lines.append(
            f"long film: ended with {soak['code']}, {soak['lost']} of {soak['frames']} frames lost, "
            f"{soak['moved']} moved, {soak['sound'][1]} of {soak['sound'][0]} packets of sound. "
            f"{last_line(soak['said'])}".rstrip()
        )
    return lines


def outcomes(runs: Iterable[Result]) -> dict[str, int]:
    """Counts the runs of :func:`benchmark_damage` by OUTCOMES."""
    found = [run["outcome"] for run in runs]
    return {outcome: found.count(outcome) for outcome in OUTCOMES}
