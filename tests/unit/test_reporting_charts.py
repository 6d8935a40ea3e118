"""Charts: every value is drawn, inside of the frame, on axes with few and round ticks."""

import re

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from volumen.reporting.charts import (
    NAMES,
    Bar,
    Curves,
    Mark,
    Series,
    bars_chart,
    histogram_chart,
    line_chart,
    scatter_chart,
    thin,
)
from volumen.reporting.drawing import WIDTH, Plot, drawable, nice_ticks, pixel

NUMBERS = st.floats(allow_nan=True, allow_infinity=True) | st.none()


def coordinates(chart: str) -> list[float]:
    """Every number that places something."""
    found = re.findall(r'\b(?:[xy][12]?|c[xy]|width|height|points)="([^"]*)"', chart)
    return [float(number) for text in found for number in re.split(r"[ ,]", text) if number]


@given(st.lists(NUMBERS, min_size=1, max_size=8), st.booleans())
@example([1e300, -1e300, 5e-324, None], False)
@example([5e-324, 1e-320, 1e-100], True)
@example([1e16, 1e16 + 2], False)
def test_any_numbers_are_drawn_inside_of_the_chart(values, logarithmic):
    points = tuple((float(place), value) for place, value in enumerate(values))
    chart = line_chart(Curves("t", [Series("s", points, 1)], logarithmic=logarithmic))
    assert chart is not None
    assert all(-10 <= number <= WIDTH for number in coordinates(chart.drawing))


@given(st.floats(allow_nan=True), st.floats(allow_nan=False, allow_infinity=False))
def test_a_pixel_is_always_a_number_inside_of_the_frame(value, other):
    assert 52 <= pixel(value, (0.0, other), (52, WIDTH)) <= WIDTH
    assert 10 <= pixel(value, (other, 1.0), (200, 10)) <= 200


@given(st.lists(st.floats(0, 100), min_size=1, max_size=5))
@example([5e-324])
def test_histograms_of_shares_stay_inside(values):
    assert all(
        0 <= number <= WIDTH for number in coordinates(histogram_chart("t", [("a", values, 1)], unit="%").drawing)
    )


@given(st.floats(-1e100, 1e100).map(drawable), st.floats(-1e100, 1e100).map(drawable))
@example(0.0, 1e-100)
def test_ticks_of_any_range_are_few(low, high):
    assert 1 <= len(nice_ticks(low, high)) <= 25


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 7), (-3, 12), (1e-9, 2e-9), (0.5, 0.50001), (1e5, 3e8)])
def test_ticks_are_round_few_and_inside(low, high):
    ticks = nice_ticks(low, high)
    assert 2 <= len(ticks) <= 12
    assert all(low - 1e-9 * abs(low) <= tick <= high + 1e-9 * abs(high) for tick in ticks)
    steps = np.diff(ticks)
    assert np.allclose(steps, steps[0])


def test_axes_map_the_range_onto_the_frame_and_powers_of_ten_evenly():
    plot = Plot("t", (0, 10), (0.01, 100), "x", logarithmic=True)
    ys = [plot.y(value) for value in (0.01, 0.1, 1, 10, 100)]
    assert np.allclose(np.diff(ys), np.diff(ys)[0])
    assert plot.x(0) < plot.x(10)


def test_long_curves_are_thinned_and_lost_points_survive():
    points = tuple((float(x), None if x == 777 else float(x)) for x in range(5000))
    short = thin(points, 400)
    assert len(short) <= 402
    assert (777.0, None) in short
    finite = [y for _, y in short if y is not None]
    assert finite == sorted(finite)
    assert abs(np.mean(finite) - 2499.5) < 15


def test_marks_outside_of_the_curve_are_left_out_and_labels_are_short():
    curves = Curves("m", [Series("a", ((1.0, 0.29), (4.0, 0.44)), 1)], logarithmic=True)
    marked = line_chart(curves, marks=[Mark(2.0, "inside"), Mark(99.0, "outside")])
    assert "inside" in marked.drawing
    assert "outside" not in marked.drawing
    assert all(len(text) <= 5 for text in re.findall(r">([\d.e-]+)</text>", marked.drawing))


def test_charts_of_one_point_equal_values_and_nothing():
    assert line_chart(Curves("none", [Series("a", (), 1)])) is None
    assert line_chart(Curves("lost", [Series("a", ((1.0, None), (2.0, None)), 1)])).fault
    assert histogram_chart("none", [("a", [], 1)], unit="%") is None
    assert scatter_chart("none", [], x_name="x", y_name="y", bands=()) is None
    assert bars_chart("none", [], unit="pp", least=2.0, note="") is None
    one = line_chart(Curves("one", [Series("a", ((7.0, 3.25),), 1)]))
    assert one.keys[0].value == "3.25"
    flat = line_chart(Curves("flat", [Series("a", ((1.0, 0.0), (2.0, 0.0)), 1)], logarithmic=True))
    assert "nan" not in flat.drawing + one.drawing


def test_a_histogram_counts_every_value_once():
    bars = histogram_chart("h", [("a", [0.0, 5.0, 10.0], 1), ("b", [10.0, 10.0], 2)], unit="%")
    counts = re.findall(r"<title>(\w): (\d+) between", bars.drawing)
    assert counts == [("a", "1"), ("a", "1"), ("a", "1"), ("b", "2")]


def test_bars_have_their_value_their_whole_name_on_hovering_and_stay_inside():
    names = ("a" * 40, "<b>", "c")
    bars = [Bar(name, value) for name, value in zip(names, (-40.0, 0.0, 3.0), strict=True)]
    drawn = bars_chart("bars", bars, unit="pp", least=2.0, note="").drawing
    assert f"<title>{'a' * 40}: -40.00</title>" in drawn
    assert "&lt;b&gt;" in drawn
    assert "a" * 16 not in drawn.replace("a" * 40, "")
    for x, width in re.findall(r'<rect x="([\d.]+)" [^>]*width="([\d.]+)"', drawn):
        assert float(x) >= NAMES
        assert float(x) + float(width) <= WIDTH


def test_points_are_drawn_inside_of_their_chart_whatever_the_bands():
    dots = scatter_chart("s", [("a", 5.0, 99.0)], x_name="x", y_name="y", bands=[(10.0, 20.0)]).drawing
    assert "a: y 99.00, x 5.00" in dots
    assert all(0 <= number <= WIDTH for number in coordinates(dots))


def test_a_small_difference_does_not_fill_the_chart_and_many_cases_are_cut_to_the_extremes():
    one = bars_chart("b", [Bar("a", -0.2)], unit="pp", least=2.0, note="").drawing
    (width,) = re.findall(r'<rect [^>]*width="([\d.]+)"', one)
    assert float(width) < 0.1 * WIDTH
    many = bars_chart("b", [Bar(str(n), n - 50.0) for n in range(100)], unit="pp", least=2.0, note="over")
    assert "the 24 extremes of 100 cases" in many.note
    shown = {float(value) for value in re.findall(r">([+-]\d+\.\d\d)</text>", many.drawing)}
    assert shown == {*(49.0 - n for n in range(12)), *(-50.0 + n for n in range(12))}
