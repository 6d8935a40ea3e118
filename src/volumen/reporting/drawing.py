"""Drawings as inline SVG, and plots with axes: no script, no network, sharp at any size, in the page's own colours.

Colours are the style sheet's variables `--series-1` and so on, so a drawing follows the reader's light or dark setting.
Every pixel comes from `pixel`, which stays inside of the drawing whatever the value is. Texts are escaped by the XML
serialiser.
"""

import math
from collections.abc import Iterable, Sequence
from xml.etree.ElementTree import Element, SubElement, tostring

from markupsafe import Markup

from volumen.system.names import printable

WIDTH, HEIGHT, SQUARE_HEIGHT = 440, 230, 340
LEFT, RIGHT, TOP = 52, 10, 10
BOTTOM, SQUARE_BOTTOM = 30, 46  # pixels below the horizontal axis; with the latter its name has a row of its own
MOST_DRAWN = 1e100  # a larger number stands as one that was not finite: no axis reaches so far

Span = tuple[float, float]


class Drawing:
    """An SVG element of `width` by `height` pixels, with `label` for those who do not see it."""

    def __init__(self, label: str, width: int, height: int, kind: str = "drawing") -> None:
        self._root = Element("svg")
        self._set(self._root, {"class": kind, "viewBox": f"0 0 {width} {height}", "role": "img", "aria-label": label})

    def add(
        self, tag: str, *, text: str = "", title: str = "", inside: Element | None = None, **attributes: str | float
    ) -> Element:
        """A shape; `title` is shown on hovering, `class_` and `text_anchor` are spelled `class` and `text-anchor`."""
        shape = SubElement(self._root if inside is None else inside, tag)
        self._set(shape, {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items()})
        shape.text = printable(text)
        if title:
            SubElement(shape, "title").text = printable(title)
        return shape

    def dot(self, x: float, y: float, colour: int, radius: float, title: str = "") -> None:
        """A filled circle in a series' colour."""
        self.add("circle", cx=x, cy=y, r=radius, fill=f"var(--series-{colour})", title=title)

    def markup(self) -> Markup:
        """What a page holds of it."""
        return Markup(tostring(self._root, encoding="unicode"))

    @staticmethod
    def _set(element: Element, attributes: dict[str, str | float]) -> None:
        for name, value in attributes.items():
            element.set(name, printable(value) if isinstance(value, str) else f"{value:.1f}".removesuffix(".0"))


class Plot(Drawing):
    """A drawing with axes; with a name of the vertical one it is as good as square.

    Ticks of an axis of epochs stand at whole ones only, and `whole` leaves out fractions on the vertical axis.
    """

    def __init__(
        self,
        label: str,
        x_range: Span,
        y_range: Span,
        x_name: str,
        y_name: str = "",
        *,
        logarithmic: bool = False,
        whole: bool = False,
    ) -> None:
        height, bottom = (SQUARE_HEIGHT, SQUARE_BOTTOM) if y_name else (HEIGHT, BOTTOM)
        super().__init__(label, WIDTH, height)
        self.x_range, self.y_range, self.logarithmic, self.floor = x_range, y_range, logarithmic, height - bottom
        right, floor = WIDTH - RIGHT, self.floor
        for tick in log_ticks(*y_range) if logarithmic else nice_ticks(*y_range):
            if not whole or tick == int(tick):
                y = self.y(tick)
                self.add("line", class_="grid", x1=LEFT, x2=right, y1=y, y2=y)
                self.add("text", x=LEFT - 6, y=y + 4, text_anchor="end", text=short(tick))
        for tick in nice_ticks(*x_range):
            if x_name != "epoch" or tick == round(tick):
                x = self.x(tick)
                self.add("line", class_="tick", x1=x, x2=x, y1=floor, y2=floor + 4)
                if y_name or x < right - 7 * len(x_name) - 16:  # room for the axis's name
                    self.add("text", x=x, y=floor + 17, text_anchor="middle", text=short(tick))
        self.add("line", class_="tick", x1=LEFT, x2=right, y1=floor, y2=floor)
        below = floor + (34 if y_name else 17)
        self.add("text", class_="axis", x=right, y=below, text_anchor="end", text=x_name)
        if y_name:
            middle = (TOP + floor) / 2
            turn = f"rotate(-90 12 {middle:.1f})"
            self.add("text", class_="axis", x=12, y=middle, text_anchor="middle", transform=turn, text=y_name)

    def x(self, value: float) -> float:
        """Pixels from the left."""
        return pixel(value, self.x_range, (LEFT, WIDTH - RIGHT))

    def y(self, value: float) -> float:
        """Pixels from the top."""
        low, high, at = (math.log10(v) if self.logarithmic else v for v in (*self.y_range, value))
        return pixel(at, (low, high), (self.floor, TOP))

    def line(self, points: Iterable[tuple[float, float]], colour: int, *, dashed: bool = False) -> None:
        """Connected points in a series' colour."""
        path = " ".join(f"{self.x(x):.1f},{self.y(y):.1f}" for x, y in points)
        stroke = f"var(--series-{colour})"
        self.add("polyline", class_="line", points=path, stroke=stroke, stroke_dasharray="5 4" if dashed else "none")

    def diagonal(self) -> None:
        """From the lower left to the upper right."""
        (left, right), (bottom, top) = self.x_range, self.y_range
        self.add("line", class_="diagonal", x1=self.x(left), y1=self.y(bottom), x2=self.x(right), y2=self.y(top))


def pixel(value: float, span: Span, pixels: Span) -> float:
    """Where a value stands between two pixels: never outside of them, and always a number."""
    low, high = span
    share = (value - low) / (high - low) if high > low else 0.0
    return pixels[0] + (min(max(share, 0.0), 1.0) if math.isfinite(share) else 0.0) * (pixels[1] - pixels[0])


def drawable(value: float | None) -> float | None:
    """A value that an axis can hold, the least of them as 0; None for one that is not finite, or as good as that."""
    if value is None or not abs(value) <= MOST_DRAWN:
        return None
    return value if abs(value) >= 1 / MOST_DRAWN else 0.0


def value_range(values: Sequence[float], logarithmic: bool) -> Span:
    """What an axis of these values spans: a little more than they do, and 0 where that is near."""
    low, high = min(values), max(values)
    if logarithmic:
        factor = max((high / low) ** 0.06, 1.15)
        return low / factor, high * factor
    margin = 0.06 * (high - low) or 0.1 * abs(high) or 0.5
    return 0.0 if 0 <= low < margin * 4 else low - margin, high + margin


def nice_ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers from within [low, high], 1, 2 or 5 times a power of ten apart; at least two where low < high."""
    if not high > low:
        return [low]
    for count in (about, 2 * about, 4 * about):
        rough = (high - low) / count
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
        ticks = [number * step for number in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]
        if len(ticks) >= 2:
            return ticks
    return [low, high]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten from within [low, high], or 1, 2 and 5 times them where there are few."""
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    decades = [10.0**exponent for exponent in exponents if low <= 10.0**exponent <= high]
    if len(decades) >= 3:
        return decades[:: -(-len(decades) // 6)]
    fine = [m * 10.0**exponent for exponent in exponents for m in (1, 2, 5) if low <= m * 10.0**exponent <= high]
    return fine if len(fine) >= 2 else nice_ticks(low, high, 3)


def short(value: float) -> str:
    """A tick's number, as short as it can be said."""
    if value == 0:
        return "0"
    return f"{value:.0e}".replace("e-0", "e-") if abs(value) < 1e-3 else f"{value:.6g}"
