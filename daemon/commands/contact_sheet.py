"""Pictures of what the model sees: a PNG for each frame, and one sheet with a row for each window."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from daemon.windows import NS_PER_S, FrameSet

SHEET_NAME = "contact_sheet.png"
_THUMB_PX = 160  # the longer edge of a frame on the sheet
_GAP_PX, _LINE_PX, _CHARACTER_PX = 6, 16, 7
_MAX_SHEET_PX = 16_000  # lines of pixels; most viewers open larger pictures slowly or not at all
_BACKGROUND, _INK, _FAINT = (24, 26, 30), (236, 236, 236), (150, 156, 166)


Thumbs = list[tuple[str, Image.Image]]  # small pictures with what stands below them
Row = tuple[Sequence[str], Thumbs]  # the lines above a window's pictures, and the pictures


def _seconds(time_ns: int) -> str:
    """Return media time as ``1:02.345``, with hours where there are any."""
    minutes, ms = divmod(time_ns // (NS_PER_S // 1000), 60_000)
    hours, minutes = divmod(minutes, 60)
    clock = f"{minutes}:{ms // 1000:02d}.{ms % 1000:03d}"
    return f"{hours}:{clock.rjust(9, '0')}" if hours else clock


@dataclass(slots=True)
class PictureFolder:
    """Writes frame sets as they come and holds no more of them than thumbnails. :meth:`finish` draws the sheet."""

    folder: Path
    _rows: list[Row] = field(default_factory=list, repr=False)
    _left_out: int = 0

    def add(self, frame_set: FrameSet) -> list[Path]:
        """Write each frame as ``w0000_f00_<pts_ns>.png`` and return the paths, in the order shown."""
        self.folder.mkdir(parents=True, exist_ok=True)
        window, paths = frame_set.window, []
        for place, (pixels, pts_ns) in enumerate(zip(frame_set.frames, frame_set.pts_ns, strict=True)):
            paths.append(self.folder / f"w{window.index:04d}_f{place:02d}_{pts_ns}.png")
            Image.fromarray(pixels).save(paths[-1])
        title = f"window {window.index}   {span_of(frame_set)}"
        if frame_set.substituted:
            title += f"   {frame_set.substituted} substituted"
        row = (title,), thumbs_of(frame_set)
        if (len(self._rows) + 1) * _row_height(row) <= _MAX_SHEET_PX:
            self._rows.append(row)
        else:
            self._left_out += 1
        return paths

    def finish(self) -> Path | None:
        """Write the contact sheet and return its path; None when there was no window."""
        if not self._rows:
            return None
        return draw_sheet(self.folder / SHEET_NAME, self._rows, self._left_out)


def span_of(frame_set: FrameSet) -> str:
    """Return a window's span as a person reads it."""
    return f"{_seconds(frame_set.window.start_ns)} - {_seconds(frame_set.window.exclusive_end_ns)}"


def thumbs_of(frame_set: FrameSet) -> Thumbs:
    """Return a window's frames as small pictures, each with its time."""
    thumbs = []
    for pixels, pts_ns in zip(frame_set.frames, frame_set.pts_ns, strict=True):
        picture = Image.fromarray(pixels)
        picture.thumbnail((_THUMB_PX, _THUMB_PX), Image.Resampling.BICUBIC)
        thumbs.append((_seconds(pts_ns), picture))
    return thumbs


def draw_sheet(path: Path, rows: Sequence[Row], left_out: int = 0) -> Path:
    """Write a sheet with these rows, and a word about those that were left out; return its path."""
    height = sum(map(_row_height, rows)) + _GAP_PX + _LINE_PX * bool(left_out)
    sheet = Image.new("RGB", (max(*map(_row_width, rows), 360), height), _BACKGROUND)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default()
    top = _GAP_PX
    for lines, thumbs in rows:
        for number, line in enumerate(lines):
            draw.text((_GAP_PX, top + number * _LINE_PX), line, _INK, font)
        left, below = _GAP_PX, top + len(lines) * _LINE_PX
        for label, thumb in thumbs:
            sheet.paste(thumb, (left, below))
            draw.text((left, below + thumb.height + 2), label, _FAINT, font)
            left += thumb.width + _GAP_PX
        top += _row_height((lines, thumbs))
    if left_out:
        draw.text((_GAP_PX, top), f"and {left_out} more windows", _INK, font)
    sheet.save(path)
    return path


def _row_height(row: Row) -> int:
    lines, thumbs = row
    return max((thumb.height for _, thumb in thumbs), default=0) + (len(lines) + 1) * _LINE_PX + 2 * _GAP_PX


def _row_width(row: Row) -> int:
    lines, thumbs = row
    widest = max(_CHARACTER_PX * len(line) for line in lines) if len(lines) > 1 else 0
    return max(sum(thumb.width + _GAP_PX for _, thumb in thumbs), widest) + _GAP_PX
