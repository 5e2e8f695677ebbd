"""What is right for the inputs from the field whose trouble is time, container or truncation, and who says so.

The numbers are those painted into the pictures, the times are in milliseconds from the first frame. Oracles: ``made``
is the way the input was made, which the numbers themselves tell (frame n was shown at n / 25 s); ``ffprobe`` its
``best_effort_timestamp``; ``ffmpeg`` what ``ffmpeg -i INPUT -fps_mode passthrough -f framecrc -`` gives; ``table`` the
container's own table of samples; ``spec`` the format's specification.
"""

from dataclasses import dataclass, field

MS = 40  # every input was painted at 25 frames a second


def evenly(count: int, step_ms: int = MS) -> tuple[int, ...]:
    """Return ``count`` times with one distance between them."""
    return tuple(range(0, count * step_ms, step_ms))


def numbers(*spans: tuple[int, int]) -> tuple[int, ...]:
    """Return the numbers from the first to the last of each span."""
    return tuple(n for first, last in spans for n in range(first, last + 1))


@dataclass(frozen=True)
class Right:
    """The frames of an input, their times, its length, and how it ends."""

    oracle: str
    numbers: tuple[int, ...] = ()
    times_ms: tuple[int, ...] = ()
    duration_ms: int = 0
    reason: str | None = None
    mended: tuple[str, ...] = ()
    media_start_ms: int = 0
    detail: str = field(default="", repr=False)


def _even(oracle: str, *spans: tuple[int, int], duration_ms: int = 0, **more: object) -> Right:
    shown = numbers(*spans)
    return Right(oracle, shown, evenly(len(shown)), duration_ms or MS * len(shown), **more)  # type: ignore[arg-type]


def _by_number(oracle: str, *spans: tuple[int, int], duration_ms: int, **more: object) -> Right:
    """Frame n is shown at n / 25 s."""
    shown = numbers(*spans)
    return Right(oracle, shown, tuple(MS * (n - shown[0]) for n in shown), duration_ms, **more)  # type: ignore[arg-type]


_TWO_JOINED = ((0, 99), (1000, 1099))
_XVID = (0, 2, 3, *range(5, 100))  # the slots of the file that hold a frame: Xvid left two empty
_ZERO_CHUNKS = tuple(n for n in range(50) if n % 5 != 3)

TIME = {
    "a01_ts_restart_overlap.ts": _even("ffmpeg: 0..199", *_TWO_JOINED, mended=("jumps_back",)),
    "a03_ts_jump_2h.ts": _even("ffmpeg: 0..199", *_TWO_JOINED, mended=("jumps_ahead",)),
    "a04_ts_restart_same.ts": _even("ffmpeg: 0..199", *_TWO_JOINED, mended=("jumps_back",)),
    "a06_ts_one_pts_missing.ts": _by_number("ffprobe, made", (0, 39), (65, 99), duration_ms=4000, mended=("filled",)),
    "a07_webm_joined.webm": _even("made", (0, 74), (1000, 1074), mended=("jumps_back",)),
    "a08_mp4_video_starts_late.mp4": _even("ffprobe: start_time 5, the format's 0", (0, 74), media_start_ms=5000),
    "a10_avi_h264_b_late.avi": _even("made", (0, 149), mended=("reordered",)),
    "a11_avi_xvid_packed.avi": Right(
        "ffprobe: 98 frames, 4.000000",
        numbers((0, 96), (98, 98)),
        tuple(MS * n for n in _XVID),
        4000,
        None,
        ("reordered",),
    ),
    "a12_avi_mpeg4_b_late.avi": _even("made", (0, 119), mended=("reordered",)),
    "a14_mkv_slideshow_minute.mkv": Right("ffprobe", numbers((0, 4)), evenly(5, 60_000), 300_000),
    "a15_mkv_still_and_sound.mkv": Right(
        "ffprobe: the sound ends at 12.16 s, the picture is shown from 0.128 s",
        (5,),
        (0,),
        12_032,
        None,
        ("held",),
        128,
    ),
    "a16_mp4_one_frame_a_minute.mp4": Right("table", (9,), (0,), 60_000),
    "a17_mp4_trimmed.mp4": _even("ffprobe, the edit list", (33, 149)),
    "a18_mp4_edits_out_of_order.mp4": _even("ffprobe, the edit list", (50, 74), (0, 24)),
    "a19_mkv_starts_late.mkv": _even("ffprobe", (0, 74)),
    "a20_ts_wrap.ts": _even("ffprobe", (0, 99)),
    "a21_mkv_joined_sizes.webm": _even("ffprobe", (0, 99)),
    "a23_ps_restart.vob": _even("ffmpeg: 0..149", (0, 74), (1000, 1074), mended=("jumps_back",)),
    "a24_mp4_long_gop.mp4": _even("ffprobe", (0, 1499)),
    "a25_m2ts.m2ts": _even("ffprobe", (0, 74)),
    "a26_intra_refresh_ts.ts": _even("ffmpeg: the first frame out is 56", (56, 149), media_start_ms=280),
    "a27_ts_jump_20s.ts": _even("ffmpeg: 0..199", *_TWO_JOINED, mended=("jumps_ahead",)),
    "a28_mp4_timecode_data.mov": _even("ffprobe", (0, 74)),
    "a29_mp4_cover_first.mp4": _even("ffprobe, stream 0", (0, 74)),
    "a30b_small_thumb_first.mkv": _even("ffprobe, stream 1", (0, 74)),
    "a30c_small_thumb_default.mkv": _even("ffprobe, stream 1, which has 75 frames", (0, 74)),
    "a31_mjpeg_avi_zero_chunks.avi": Right("made", _ZERO_CHUNKS, tuple(MS * n for n in _ZERO_CHUNKS), 2000),
    "a32_mp4_negative_cts.mp4": _even("ffprobe", (0, 74)),
    "a33_fmp4_starts_late.mp4": _even("ffprobe", (0, 74)),
    "a34_ts_joined_gap_small.ts": Right(
        "ffmpeg: 0..63, 65, 98, 100..199",
        (*numbers((0, 63)), 65, 63, *numbers((100, 199))),
        (*evenly(64), 65 * MS, 98 * MS, *(MS * n for n in range(100, 200))),
        8000,
    ),
    "a35_paff_first_time.ts": _even("ffprobe", (0, 49), duration_ms=1980),
    "a35_paff_nonref.ts": _even("ffprobe", (0, 49)),
    "a35_paff_times.ts": _even("ffprobe", (0, 49)),
    "d01_vp8_altref.webm": _even("ffprobe", (0, 99)),
}

CONTAINERS = {
    "b01_mp4_trailer_junk.mp4": _even("table: 60 samples, all of them in the file", (0, 59)),
    "b03_mp4_uuid_first_cut.mp4": _even(
        "table: sample 161 of 300 ends behind the file", (0, 149), duration_ms=6440, reason="truncated"
    ),
    "b04_mp4_second_half_zeros.mp4": _even("ffmpeg: frames to 144", (0, 144), duration_ms=12_000, reason="corrupt"),
    "b05_mp4_being_copied.mp4": Right("spec: no movie box", reason="truncated"),
    "b06_mp4_mdat_to_the_end.mp4": _even("table, made", (0, 74)),
    "b07_avi_never_closed.avi": _even("made", (0, 74)),
    "b08_mkv_killed_recorder.mkv": _by_number("ffprobe: 73 was lost with the end", (0, 72), (74, 74), duration_ms=3000),
    "b09_ts_junk_first.ts": _even("ffprobe", (0, 74)),
    "b10_fmp4_cut_between.mp4": _even("ffprobe", (0, 74)),
    "b12_other.flv": _even("ffprobe", (0, 49)),
    "b12_other.h264": _even("ffmpeg", (0, 49), mended=("by_rate",)),
    "b12_other.hevc": _even("ffmpeg", (0, 49), mended=("by_rate",)),
    "b12_other.ivf": _even("ffprobe", (0, 49)),
    "b12_other.m2v": _even("ffmpeg", (0, 49), mended=("by_rate",)),
    "b12_other.nut": Right("the list of what is allowed", reason="unsupported_container", detail="NUT"),
    "b12_other.ogv": _even("ffprobe", (0, 49)),
    "b12_other.y4m": Right("the list of what is allowed", reason="unsupported_container", detail="YUV4MPEG"),
    "b13_3gp.3gp": _even("ffprobe", (0, 49)),
    "b14_cover.m4a": Right("ffprobe: attached_pic alone", reason="no_video_stream"),
    "b14_cover.mp3": Right("ffprobe: sound", reason="not_a_video"),
    "b14_subtitles.mp4": Right("ffprobe: subtitles", reason="no_video_stream"),
    "b15_m4s_alone.m4s": Right("spec: a segment without its movie box", reason="not_a_video"),
    "b16_encrypted.mp4": Right("spec: a sample entry of type encv", reason="encrypted"),
    "b17_mdat_to_the_end_cut.mp4": _even(
        "table: sample 161 of 300 ends behind the file", (0, 149), duration_ms=6440, reason="truncated"
    ),
}
