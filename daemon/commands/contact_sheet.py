"""Pictures of what the model sees: a PNG for each frame, and one sheet with a row for each window."""

from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from daemon.windows import NS_PER_S, FrameSet

SHEET_NAME = "contact_sheet.png"
_THUMB_PX = 160  # the longer edge of a frame on the sheet
_GAP_PX, _LINE_PX = 6, 16
_MAX_SHEET_PX = 16_000  # lines of pixels; most viewers open larger pictures slowly or not at all
_BACKGROUND, _INK, _FAINT = (24, 26, 30), (236, 236, 236), (150, 156, 166)


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
    _rows: list[tuple[str, list[tuple[str, Image.Image]]]] = field(default_factory=list, repr=False)
    _left_out: int = 0

    def add(self, frame_set: FrameSet) -> list[Path]:
        """Write each frame as ``w0000_f00_<pts_ns>.png`` and return the paths, in the order shown."""
        self.folder.mkdir(parents=True, exist_ok=True)
        window, paths, thumbs = frame_set.window, [], []
        for place, (pixels, pts_ns) in enumerate(zip(frame_set.frames, frame_set.pts_ns, strict=True)):
            picture = Image.fromarray(pixels)
            paths.append(self.folder / f"w{window.index:04d}_f{place:02d}_{pts_ns}.png")
            picture.save(paths[-1])
            picture.thumbnail((_THUMB_PX, _THUMB_PX), Image.Resampling.BICUBIC)
            thumbs.append((_seconds(pts_ns), picture))
        title = f"window {window.index}   {_seconds(window.start_ns)} - {_seconds(window.exclusive_end_ns)}"
        if frame_set.substituted:
            title += f"   {frame_set.substituted} substituted"
        if (len(self._rows) + 1) * _row_height(thumbs) <= _MAX_SHEET_PX:
            self._rows.append((title, thumbs))
        else:
            self._left_out += 1
        return paths

    def finish(self) -> Path | None:
        """Write the contact sheet and return its path; None when there was no window."""
        if not self._rows:
            return None
        height = sum(_row_height(thumbs) for _, thumbs in self._rows) + _GAP_PX + _LINE_PX * bool(self._left_out)
        width = max(_row_width(thumbs) for _, thumbs in self._rows)
        sheet = Image.new("RGB", (max(width, 360), height), _BACKGROUND)
        draw, font = ImageDraw.Draw(sheet), ImageFont.load_default()
        top = _GAP_PX
        for title, thumbs in self._rows:
            draw.text((_GAP_PX, top), title, _INK, font)
            left = _GAP_PX
            for label, thumb in thumbs:
                sheet.paste(thumb, (left, top + _LINE_PX))
                draw.text((left, top + _LINE_PX + thumb.height + 2), label, _FAINT, font)
                left += thumb.width + _GAP_PX
            top += _row_height(thumbs)
        if self._left_out:
            draw.text((_GAP_PX, top), f"and {self._left_out} more windows", _INK, font)
        path = self.folder / SHEET_NAME
        sheet.save(path)
        return path


def _row_height(thumbs: list[tuple[str, Image.Image]]) -> int:
    return max(thumb.height for _, thumb in thumbs) + 2 * _LINE_PX + 2 * _GAP_PX


def _row_width(thumbs: list[tuple[str, Image.Image]]) -> int:
    return sum(thumb.width + _GAP_PX for _, thumb in thumbs) + _GAP_PX
