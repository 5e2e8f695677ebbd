"""A comparison with ffmpeg and ffprobe over every demuxer and decoder that is allowed, ten clips of each.

    python -m tests.field.against_ffprobe [--only TEXT]

Painted clips are made by ffmpeg and read by the real decoder in its cage. A frame is right when its number is the one
that ffmpeg decodes there and its time is ffprobe's ``best_effort_timestamp``, or the one at which it was painted, where
ffprobe itself differs from that (AVI's B-frames, joined files). The table counts clips: right, refused, wrong.
"""

import argparse
import asyncio
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from daemon.decoding.sampler import Sampler
from daemon.windows import NS_PER_S, WindowPolicy
from tests.corpus.painted import paint
from tests.corpus.sampling import running
from tests.field.painted import number_of
from tests.field.reading import Reading, read_all

FFMPEG, FFPROBE = shutil.which("ffmpeg") or "ffmpeg", shutil.which("ffprobe") or "ffprobe"
FRAMES, RATE, SIZE = 40, 25, (176, 144)
SECOND_PART = 500  # the numbers of a joined file's second part begin here
SHORT = WindowPolicy(NS_PER_S // 5, NS_PER_S // 5, 0)  # so that little of a truncated clip is left out
CLOSE_MS = 2.0  # a millisecond's clock rounds by as much


@dataclass(frozen=True)
class Kind:
    """A codec in a container. ``options`` are ffmpeg's for the encoder and the muxer."""

    suffix: str
    encoder: str
    options: tuple[str, ...] = ()
    b_frames: tuple[str, ...] = ("-bf", "2")
    size: tuple[int, int] = SIZE
    pixels: str = "yuv420p"

    @property
    def name(self) -> str:
        return f"{self.encoder}.{self.suffix}"


_X264 = ("-g", "10", "-preset", "veryfast")
_X265 = (*_X264, "-x265-params", "log-level=none")
_Q = ("-g", "10", "-qscale:v", "2")
_VP = ("-g", "10", "-b:v", "1M", "-deadline", "realtime", "-cpu-used", "8")
_LAG = ("-auto-alt-ref", "1", "-lag-in-frames", "10")
_PAL = (720, 576)
KINDS = (
    *(Kind(suffix, "libx264", _X264) for suffix in ("mp4", "mov", "3gp", "mkv", "avi", "ts", "m2ts", "mpg", "flv")),
    Kind("h264", "libx264", _X264),
    Kind("mp4", "libx264", (*_X264, "-movflags", "frag_keyframe+empty_moov")),
    Kind("ts", "libx264", ("-x264-params", "open-gop=1:keyint=12:bframes=3:scenecut=0")),
    *(Kind(suffix, "libx265", _X265) for suffix in ("mp4", "mkv", "ts", "hevc")),
    Kind("avi", "libx265", (*_X265, "-vtag", "HEVC")),
    *(Kind(suffix, "libvpx", _VP, _LAG) for suffix in ("webm", "ivf", "ogv", "avi")),
    *(Kind(suffix, "libvpx-vp9", _VP, _LAG) for suffix in ("webm", "mp4", "ivf")),
    *(Kind(suffix, "libsvtav1", ("-preset", "12", "-g", "10"), ()) for suffix in ("mp4", "webm", "ivf")),
    *(Kind(suffix, "mpeg4", _Q) for suffix in ("avi", "mp4", "mkv", "ts")),
    Kind("avi", "libxvid", _Q),
    Kind("mkv", "libxvid", _Q, ()),  # ffmpeg itself can't read the B-frames that it packs into Matroska here
    *(Kind(suffix, "mpeg2video", _Q) for suffix in ("ts", "mpg", "vob", "m2v", "mkv", "avi", "mp4")),
    Kind("mxf", "mpeg2video", (*_Q, "-ar", "48000"), size=_PAL),
    *(Kind(suffix, "mpeg1video", _Q) for suffix in ("mpg", "m1v", "ts")),
    *(Kind("avi", encoder, _Q, ()) for encoder in ("msmpeg4v2", "msmpeg4", "wmv1", "wmv2", "flv")),
    *(Kind("mkv", encoder, _Q, ()) for encoder in ("msmpeg4", "wmv1", "wmv2")),
    Kind("flv", "flv", _Q, ()),
    Kind("3gp", "h263", _Q, ()),
    *(Kind(suffix, "libtheora", ("-g", "10", "-qscale:v", "8"), ()) for suffix in ("ogv", "mkv")),
    *(Kind(suffix, "mjpeg", ("-qscale:v", "2"), (), pixels="yuvj420p") for suffix in ("avi", "mov", "mkv")),
    Kind("mov", "prores_ks", (), (), pixels="yuv422p10le"),
    *(Kind(s, "dnxhd", ("-profile:v", "dnxhr_sq"), (), (256, 144), "yuv422p") for s in ("mov", "mxf")),
    *(Kind(suffix, "dvvideo", (), (), _PAL) for suffix in ("avi", "mov", "mxf")),
    *(Kind(suffix, "ffv1", (), ()) for suffix in ("mkv", "avi")),
    *(Kind("avi", encoder, (), (), pixels="yuv422p") for encoder in ("huffyuv", "ffvhuff")),
    *(Kind(suffix, "rawvideo", (), ()) for suffix in ("avi", "mkv")),
    Kind("mov", "rawvideo", (), (), pixels="uyvy422"),
    *(Kind(suffix, "png", (), (), pixels="rgb24") for suffix in ("mov", "mkv", "avi")),
    Kind("gif", "gif", (), (), pixels="rgb8"),
    Kind("apng", "apng", ("-plays", "0"), (), pixels="rgb24"),
)

_PAUSE = "if(gte(N,20),1.2,0)/TB"
VARIANTS: dict[str, tuple[str, ...]] = {
    "plain": (),
    "ntsc": ("-r", "30000/1001"),
    "b_frames": ("{b}",),
    "uneven": ("-vf", "setpts=PTS+mod(N\\,3)*0.008/TB", "-fps_mode", "vfr", "-enc_time_base", "1/1000"),
    "pause": ("-vf", f"setpts=PTS+{_PAUSE.replace(',', chr(92) + ',')}", "-fps_mode", "vfr"),
    "late": ("{b}", "-output_ts_offset", "5"),
    "long": ("{b}", "-g", "250"),
    "cut": ("{b}",),  # from 0.5 s on, without encoding again: an edit list in MP4
    "half": ("{b}",),  # the first 60 % of the bytes
    "joined": ("{b}",),  # a second recording behind it
}
_WITHOUT_TIMES = ("h264", "hevc", "m1v", "m2v")
_CAN_BE_JOINED = ("ts", "m2ts", "mpg", "vob", "mkv", "webm", "h264", "hevc", "m1v", "m2v")


def ffmpeg(*arguments: str, given: bytes = b"") -> bool:
    """Run ffmpeg and say whether it did what was asked."""
    command = (FFMPEG, "-v", "error", "-y", *arguments)
    done = subprocess.run(command, input=given, capture_output=True)
    return done.returncode == 0


def make(folder: Path, kind: Kind, variant: str) -> Path | None:
    """Make a clip; None where ffmpeg can't put this into such a file."""
    path = folder / f"{KINDS.index(kind)}_{variant}.{kind.suffix}"
    more = [o for option in VARIANTS[variant] for o in (kind.b_frames if option == "{b}" else (option,))]
    if not _encode(path, kind, more, 0):
        return None
    if variant == "cut":
        whole = path.rename(path.with_stem(f"{path.stem}_whole"))
        done = ffmpeg("-ss", "0.5", "-i", str(whole), "-c", "copy", *_muxing(kind), str(path))
        whole.unlink()
        return path if done else None
    if variant == "half":
        path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    if variant == "joined":
        if kind.suffix not in _CAN_BE_JOINED:
            return None
        second = path.with_stem(f"{path.stem}_second")
        if not _encode(second, kind, more, SECOND_PART):
            return None
        path.write_bytes(path.read_bytes() + second.read_bytes())
        second.unlink()
    return path


def _encode(path: Path, kind: Kind, more: list[str], first: int) -> bool:
    width, height = kind.size
    frames = b"".join(paint(n, width, height).tobytes() for n in range(first, first + FRAMES))
    raw = ("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(RATE), "-i", "-")
    coding = ("-c:v", kind.encoder, "-pix_fmt", kind.pixels, *kind.options)
    return ffmpeg(*raw, *coding, *more, *_muxing(kind), str(path), given=frames)


def _muxing(kind: Kind) -> tuple[str, ...]:
    names = {"m2v": "mpeg2video", "m1v": "mpeg1video", "vob": "vob", "m2ts": "mpegts"}
    mode = ("-mpegts_m2ts_mode", "1") if kind.suffix == "m2ts" else ()
    return (*mode, *(("-f", names[kind.suffix]) if kind.suffix in names else ()))


def _probe(path: Path, entries: str) -> str:
    asked = ("-select_streams", "v:0", "-show_entries", entries, "-of", "csv=p=0")
    return subprocess.run((FFPROBE, "-v", "quiet", *asked, str(path)), capture_output=True, text=True).stdout


def oracle(path: Path, size: tuple[int, int]) -> tuple[list[int], list[float | None], list[float | None]]:
    """Return the numbers that ffmpeg decodes and ffprobe's times in milliseconds, both in order of presentation.

    The third list is for AVI alone, which holds a frame in each slot of its own and says nothing of reordering: there
    the slots that hold a frame, in order, are times as right as ffprobe's, which come late by the decoder's delay. And
    for streams without a container, whose frames follow each other at their rate.
    """
    raw = ("-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24", "-")
    command = (FFMPEG, "-v", "quiet", "-copyts", "-i", str(path), *raw)
    data = subprocess.run(command, capture_output=True).stdout
    width, height = size
    pictures = np.frombuffer(data, np.uint8)[: len(data) // (width * height * 3) * width * height * 3]
    shown = [number_of(frame) for frame in pictures.reshape(-1, height, width, 3)]
    lines = _probe(path, "frame=best_effort_timestamp_time")
    known = [slot for slot in _milliseconds(_probe(path, "packet=dts_time")) if slot is not None]
    slots: list[float | None] = [*sorted(known)] if path.suffix == ".avi" else []
    if path.suffix[1:] in _WITHOUT_TIMES:
        numerator, denominator = map(int, _probe(path, "stream=r_frame_rate").split()[0].strip(",").split("/"))
        slots = [1000 * denominator / numerator * at for at in range(len(shown))]
    return shown, _milliseconds(lines), slots


def _milliseconds(lines: str) -> list[float | None]:
    words = [line.split(",")[0] for line in lines.splitlines() if line.strip(" ,")]
    return [float(word) * 1000 if word != "N/A" else None for word in words]


def faults(
    found: Reading, numbers: list[int], times: list[float | None], slots: list[float | None], variant: str
) -> list[str]:
    """Return what is wrong with what was read, nothing where all is right.

    Frames of which ffprobe knows no time may have any; they still follow each other in order.
    """
    ends_early = found.reason is not None or variant == "half"
    ours = list(found.numbers)
    if variant == "cut" and any(time is not None and time < 0 for time in times):  # before the edit list's start
        kept = [at for at, time in enumerate(times) if time is not None and time >= 0]
        numbers, times = [numbers[at] for at in kept if at < len(numbers)], [times[at] for at in kept]
    whole = [n for n in numbers if n >= 0]
    if variant == "half" and whole in (ours, ours[:-1]):  # the last frame is half there: one FFmpeg shows it, one not
        return []
    if ours != numbers and not (ends_early and ours == numbers[: len(ours)]) and ours != _made(numbers):
        return [f"frames {_spans(ours)} instead of {_spans(numbers)}"]
    asked = list(found.times_ns)
    if any(_close(asked, right) for right in (times, slots, _painted_at(ours, variant))):
        return []
    return [f"times {[round(t / 1e6) for t in asked[:8]]} instead of {[t and round(t) for t in times[:8]]}"]


def _made(numbers: list[int]) -> list[int]:
    """Return the frames in the order in which they were painted, without those shown twice."""
    return sorted(set(numbers))


def _painted_at(numbers: list[int], variant: str) -> list[float]:
    first, step = numbers[0] if numbers else 0, 1000 / RATE
    places = [n if n < SECOND_PART else n - SECOND_PART + FRAMES for n in numbers]
    late = [1200 if variant == "pause" and place >= 20 else 0 for place in places]
    return [step * (place - first) + more for place, more in zip(places, late, strict=True)]


def _close(times_ns: list[int], right_ms: Sequence[float | None]) -> bool:
    if len(times_ns) > len(right_ms):
        return False
    pairs = [(a / 1e6, b) for a, b in zip(times_ns, right_ms, strict=False) if b is not None]
    return all(abs(a - pairs[0][0] - (b - pairs[0][1])) <= CLOSE_MS for a, b in pairs)


def _spans(numbers: list[int]) -> str:
    return " ".join(map(str, numbers)) if len(numbers) < 12 else f"{numbers[:8]} .. {numbers[-3:]} ({len(numbers)})"


async def compare(sampler: Sampler, folder: Path, kind: Kind, variant: str) -> tuple[str, str]:
    """Make a clip and read it: ``right``, ``refused``, ``wrong`` or ``not made``, with what there is to say."""
    path = make(folder, kind, variant)
    if path is None:
        return "not made", ""
    try:
        found = await read_all(sampler, path, windows=SHORT)
        if not found.numbers and found.reason is not None:
            return "refused", f"{found.reason}: {found.detail}"
        wrong = faults(found, *oracle(path, kind.size), variant)
        return ("wrong", wrong[0]) if wrong else ("right", "")
    finally:
        path.unlink(missing_ok=True)


async def run(only: str, folder: Path) -> int:
    """Compare all, print what differs and the table; 1 where something is wrong."""
    table: dict[str, Counter[str]] = {}
    async with running() as sampler:
        for kind in (kind for kind in KINDS if only in kind.name):
            row = table.setdefault(kind.name, Counter())
            for variant in VARIANTS:
                verdict, word = await compare(sampler, folder, kind, variant)
                row[verdict] += 1
                if word:
                    print(f"{kind.name} {variant}: {verdict}: {word}", flush=True)
    for line in _lines(table):
        print(line)
    return 1 if any(row["wrong"] for row in table.values()) else 0


def _lines(table: dict[str, Counter[str]]) -> Iterator[str]:
    columns = ("right", "refused", "wrong", "not made")
    yield f"{'':20}" + "".join(f"{name:>10}" for name in columns)
    for name, row in table.items():
        yield f"{name:20}" + "".join(f"{row[column]:10}" for column in columns)
    total = sum(table.values(), Counter[str]())
    yield f"{'together':20}" + "".join(f"{total[column]:10}" for column in columns)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", default="", help="kinds whose name contains this, such as libx264 or .ts")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(run(options.only, Path(folder)))


if __name__ == "__main__":
    sys.exit(main())
