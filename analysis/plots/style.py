"""What all pictures share: colours, hatches, axes, words, files.

The colours are Okabe and Ito's, which colour-blind people can distinguish
(https://jfly.uni-koeln.de/color/). Hatches, line styles and labels repeat the same information for
prints without colour.
"""

import io
import warnings
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colorbar import Colorbar
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from PIL import Image

from analysis.plots.subject import Subject
from tracer import files, text
from tracer.errors import UsageError
from tracer.op import SECTOR, Kind

DPI = 150
"""Pixels per inch of a PNG: a picture is then 1,800 pixels wide."""

DPIS = range(30, 601)
"""The pixels per inch that a PNG may have: below, labels are blots; above, the pixels of a tall
picture do not fit into 300 MiB."""

BLUE, ORANGE, PURPLE, GREEN = "#0072B2", "#E69F00", "#CC79A7", "#009E73"
YELLOW, VERMILLION = "#F0E442", "#D55E00"
UNWRITTEN, WRITTEN, BAND, FAINT = "#F2F2F2", "#BBBBBB", "#FFF6C8", "#D8D8D8"

CLEAR: dict[str, Any] = {"facecolor": "white", "edgecolor": "none", "alpha": 0.9, "pad": 1}
"""The background of words that lines pass behind."""

LOOKS = {
    "write": (BLUE, ""),
    "zero": (ORANGE, "////"),
    "trim": (PURPLE, "xxxx"),
    "start": (GREEN, "...."),
    "read": ("white", ""),
    "cache": (YELLOW, "----"),
    "block_status": ("#DDDDDD", "||||"),
    "flush": (VERMILLION, "\\\\\\\\"),
}
"""The fill and hatch of each kind."""

LINES: dict[str, tuple[str, Any]] = {
    "read": ("black", (0, (5, 1.5))),
    "write": (BLUE, "-"),
    "zero": (ORANGE, (0, (1, 1))),
    "trim": (PURPLE, (0, (5, 1, 1, 1))),
    "flush": (VERMILLION, (0, (3, 1, 1, 1, 1, 1))),
    "cache": ("#9A9000", (0, (8, 3))),
    "block_status": ("#777777", (0, (1, 3))),
}
"""The line of each kind: colour and dashes. Reads are white bars, so they are black lines."""

ORDER = [kind.label for kind in (Kind.READ, Kind.WRITE, Kind.ZERO, Kind.TRIM, Kind.CACHE,
                                 Kind.BLOCK_STATUS, Kind.FLUSH)]  # fmt: skip
"""The guest's kinds, as pictures list them. Pieces of the start image are not the guest's."""

BYTES = (("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1))
TIMES = (
    ("d", 86_400 * 10**9), ("h", 3600 * 10**9), ("min", 60 * 10**9), ("s", 10**9), ("ms", 10**6),
    ("µs", 10**3), ("ns", 1),
)  # fmt: skip
"""Units, the largest first, with the bytes or ns of each."""

MAX_MARKS = 12
"""The most marks in a picture: the names of more would overlap."""

MAX_MARK_NAME = 24
"""The most characters of a mark's name that fit into a panel."""

_LIGHT, _DARK = 0.62, 0.05
"""Lightness of the lightest and the darkest shade, from 0 (black) to 1. The lightest stands out on
white."""


def check_dpi(dpi: int | None) -> None:
    """Raise UsageError unless a PNG may have that many pixels per inch."""
    if dpi is not None and dpi not in DPIS:
        raise UsageError(f"{dpi} dpi: a picture has from {DPIS.start} to {DPIS.stop - 1}")


def save(figure: Figure, path: str | PathLike[str], dpi: int | None = None) -> None:
    """Write a figure in the format that the path's suffix names, whole or not at all.

    The same figure gives the same bytes. ``dpi``: the pixels per inch of a PNG, which is 12
    inches wide; None: DPI. Raises UsageError if the suffix is not in ``tracer.files.PICTURES`` or
    ``dpi`` is not in DPIS, and StorageError.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in files.PICTURES:
        raise UsageError(f"cannot draw {path}: the name must end in {', '.join(files.PICTURES)}")
    check_dpi(dpi)
    files.write_whole(path, _rendered(figure, suffix, dpi or DPI))


def small_png(figure: Figure) -> bytes:
    """Return a figure as a PNG with 256 colours, for a page: half the size of all colours, and the
    eye sees no difference."""
    with Image.open(io.BytesIO(_rendered(figure, ".png", DPI))) as picture:
        # the default method gives rare colours away: a thin line would get another kind's colour
        method = Image.Quantize.MAXCOVERAGE
        few = picture.convert("RGB").quantize(256, method, dither=Image.Dither.NONE)
    small = io.BytesIO()
    few.save(small, "PNG", optimize=True)
    return small.getvalue()


def _rendered(figure: Figure, suffix: str, dpi: int) -> bytes:
    """Return a figure in the format of a suffix."""
    facts = {
        ".png": {"Software": files.MAKER},
        ".svg": {"Date": None},
        ".pdf": {"CreationDate": None},
    }[suffix]
    drawn = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "blkbox"}), warnings.catch_warnings():
        # if the font lacks a name's script, boxes are drawn: a warning on stderr would not help
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.savefig(drawn, format=suffix[1:], dpi=dpi, metadata=facts)
    return drawn.getvalue()


def new_figure(subject: Subject, title: str, height: float, drawn: int, *notes: str) -> Figure:
    """Return a figure of full width, ``height`` inches high, with a headline and a caption.
    ``drawn`` is the number of ops in it."""
    figure = Figure(figsize=(12, height), layout="constrained")
    words = f"{one_line(subject.trace.path.name)}: {title}"
    figure.suptitle(words, x=0.01, ha="left", size=15, weight="bold", parse_math=False)
    words = caption(subject, drawn, *notes)
    figure.supxlabel(words, x=0.01, ha="left", size=10, parse_math=False)
    return figure


def nothing(subject: Subject, title: str, why: str, ax: Axes | None) -> Figure:
    """Draw, in a figure of its own or in ``ax``, why a picture is empty."""
    axes = ax
    if axes is None:
        axes = new_figure(subject, title, 2.4, 0).add_subplot()
        axes.set_axis_off()
    axes.text(0.5, 0.5, why, ha="center", va="center", size=12, transform=axes.transAxes)
    return figure_of(axes)


def figure_of(ax: Axes) -> Figure:
    """Return the figure that axes belong to."""
    found = ax.get_figure(root=True)
    assert found is not None
    return found


def check_axes(ax: object) -> None:
    """Raise UsageError unless ``ax`` is None or matplotlib's Axes."""
    if ax is not None and not isinstance(ax, Axes):
        raise UsageError(f"ax= wants one matplotlib Axes, not a {type(ax).__name__}")


def caption(subject: Subject, drawn: int, *notes: str) -> str:
    """Return the caption: the trace, its size and ops, what is shown of them, and notes."""
    trace = subject.trace
    ops = text.ops(trace.count)
    if subject.some:
        ops = f"{drawn:,} of {ops}"
    words = [f"{one_line(trace.path.name)}: {text.size(trace.header.size)}, {ops}"]
    if not trace.closed:
        words[0] += " (not closed)"
    if subject.size < trace.header.size:
        first, last = subject.start // SECTOR, (subject.end - 1) // SECTOR
        words.append(f"sector {first:,}" if first == last else f"sectors {first:,} to {last:,}")
    return "; ".join([*words, *notes])


def one_line(words: object) -> str:
    """Return words from a trace as one line, without characters that cannot be drawn."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(words)).split())


def unit_of(value: float, units: tuple[tuple[str, int], ...], least: int) -> tuple[str, int]:
    """Return the largest unit of which ``value`` has at least ``least``, else the smallest unit."""
    return next((unit for unit in units if value >= least * unit[1]), units[-1])


def short(value: float, units: tuple[tuple[str, int], ...]) -> str:
    """Return a value with its unit: two digits, or all digits of a whole number (``1.3 ms``)."""
    name, unit = unit_of(value, units, 1)
    number = value / unit
    return f"{number:,.0f} {name}" if number >= 10 or unit == 1 else f"{number:.2g} {name}"


def time_axis(axis: Axis, ns: int) -> None:
    """Label an axis that shows about ``ns`` nanoseconds."""
    name, unit = unit_of(ns, TIMES, 2)
    axis.set_major_locator(_Multiples(unit))
    axis.set_major_formatter(FuncFormatter(lambda x, _: f"{x / unit:,.10g}"))
    axis.set_label_text(f"time ({name})")


class _Multiples(MaxNLocator):
    """Places ticks at round numbers of a unit."""

    def __init__(self, unit: int) -> None:
        super().__init__(nbins=9, steps=[1, 2, 2.5, 5, 10])
        self._unit = unit

    def tick_values(self, vmin: float, vmax: float) -> Any:
        return np.asarray(super().tick_values(vmin / self._unit, vmax / self._unit)) * self._unit


def offset_axis(axis: Axis, size: int, most: int, scale: int = 1) -> None:
    """Put ticks on an axis over a disk of ``size`` bytes, at multiples of a power of two.

    The axis counts in units of ``scale`` bytes. About ``most`` ticks have room.
    """
    name, unit = unit_of(size, BYTES, 8)
    axis.set_ticks(power_of_two_ticks(0, size // scale, most))
    axis.set_major_formatter(FuncFormatter(lambda x, _: f"{x * scale / unit:,g} {name}"))


def disk_axis(axis: Axis, subject: Subject, most: int) -> None:
    """Label an axis that counts bytes of the disk: with offsets, or if only a part of the disk is
    shown, with the numbers of sectors. About ``most`` ticks have room."""
    if subject.size == subject.trace.header.size:
        offset_axis(axis, subject.size, most)
        axis.set_label_text("offset")
        return
    ends = subject.start // SECTOR, -(-subject.end // SECTOR)
    axis.set_ticks([sector * SECTOR for sector in power_of_two_ticks(*ends, most)])
    axis.set_major_formatter(FuncFormatter(lambda x, _: f"{x / SECTOR:,.0f}"))
    axis.set_label_text("sector")


def set_limits(
    set_limit: Callable[..., object], start: float, end: float, room: float = 0.01
) -> None:
    """Set the limits of an axis with some room, so that the frame hides nothing at the ends."""
    margin = (end - start) * room
    set_limit(start - margin, end + margin)


def power_of_two_ticks(start: int, end: int, most: int) -> range:
    """Return multiples of a power of two from ``start`` to ``end``, about ``most`` of them."""
    step = 1
    while (end - start) // step > most:
        step *= 2
    return range(-(-start // step) * step, end + 1, step)


def ramp(colour: str) -> LinearSegmentedColormap:
    """Return the shades of a colour, from few to many.

    The lightness is the same for all colours, so one grey scale fits all.
    """
    shades = [_lit(colour, light) for light in np.linspace(_LIGHT, _DARK, 16)]
    return LinearSegmentedColormap.from_list("", shades)


def _lit(colour: str, light: float) -> tuple[float, ...]:
    """Return a colour mixed with white or black so that its lightness is ``light``.

    Lightness is Rec. 601 luma, which prints in grey keep.
    """
    rgb = np.array(to_rgb(colour))
    luma = float(rgb @ (0.299, 0.587, 0.114))
    if light > luma:
        return tuple(1 - (1 - rgb) * (1 - light) / (1 - luma))
    return tuple(rgb * light / luma if luma else rgb + light)


def label_scale(bar: Colorbar, words: str) -> None:
    """Put a label and numbers beside a logarithmic scale of shades."""
    bar.set_label(words)
    decades = np.log10(float(bar.norm.vmax or 1) / float(bar.norm.vmin or 1))
    # at 1 and 3 of each power of ten there is room for about eight numbers
    bar.ax.yaxis.set_major_locator(LogLocator(subs=(1, 3) if decades <= 4 else (1,), numticks=9))
    bar.ax.yaxis.set_minor_formatter(NullFormatter())
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda x, _: count(x)))


COUNTS = (("G", 10**9), ("M", 10**6), ("k", 10**3), ("", 1))


def count(value: float) -> str:
    """Return a number that is short enough for a tick: ``30``, ``2.5k``, ``10M``, ``0.003``."""
    name, unit = unit_of(value, COUNTS, 1)
    return f"{value / unit:.3g}{name}"


def draw_marks(panels: list[Axes], marks: pl.DataFrame) -> None:
    """Draw a line at each of the first MAX_MARKS marks, with its name in the first panel."""
    for time, name in marks.head(MAX_MARKS).select("time", "name").rows():
        words = one_line(name)
        for panel in panels:
            panel.axvline(time, color="black", lw=0.9, ls=":", zorder=5)
        label = panels[0].annotate(
            words if len(words) <= MAX_MARK_NAME else words[:MAX_MARK_NAME] + "...",
            (time, 1), (3, -3), xycoords=("data", "axes fraction"), textcoords="offset points",
            rotation=90, va="top", size=8, parse_math=False, bbox=CLEAR, annotation_clip=True,
            zorder=6,
        )  # fmt: skip
        label.set_in_layout(False)
