"""Text of numbers: digits that are meaningful, units, and a dash where there is no value."""

from math import nan

import pytest

from evaluation import number_text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (number_text.score(0.81249), "0.812"),
        (number_text.score(nan), "\N{EN DASH}"),
        (number_text.signed(-0.0671), "\N{MINUS SIGN}0.067"),
        (number_text.signed(0.0671), "+0.067"),
        (number_text.measure(0.81249), "0.812"),
        (number_text.measure(-0.0001), "0.000"),
        (number_text.measure(-12.345, "%"), "\N{MINUS SIGN}12.3"),
        (number_text.measure(1234.5, "um"), "1,230"),
        (number_text.measure(nan, "um"), "\N{EN DASH}"),
        (number_text.difference(0.0671), "+0.067"),
        (number_text.difference(-3.14159, "um"), "\N{MINUS SIGN}3.14"),
        (number_text.difference(nan), "\N{EN DASH}"),
        (number_text.interval((0.78, 0.84)), "0.780 to 0.840"),
        (number_text.interval(None), "\N{EN DASH}"),
        (number_text.difference_interval((-0.01, 0.02)), "\N{MINUS SIGN}0.010 to +0.020"),
        (number_text.p_value(0.04239), "0.042"),
        (number_text.p_value(0.0003), "< 0.001"),
        (number_text.p_value(None), "\N{EN DASH}"),
        (number_text.unit_text("um"), "\N{MICRO SIGN}m"),
        (number_text.letter(0), "A"),
        (number_text.letter(25), "Z"),
        (number_text.letter(26), "27"),
        (number_text.short_number(0.3), "0.3"),
        (number_text.short_number(30_000), "30k"),
        (number_text.short_number(1e6), "1M"),
        (number_text.percent(0.98765), "98.8%"),
        (number_text.significant(0), "0"),
        (number_text.significant(1234.5), "1,230"),
        (number_text.significant(45.67), "45.7"),
        (number_text.significant(0.012345), "0.0123"),
        (number_text.significant(nan), "\N{EN DASH}"),
        (number_text.seconds(0.25), "0.250 s"),
        (number_text.seconds(754), "12.6 min"),
        (number_text.seconds(9000), "2.5 h"),
        (number_text.spread([0.5, 0.25, 1.0]), "0.500 s (0.250 to 1.00)"),
        (number_text.spread([]), "\N{EN DASH}"),
        (number_text.memory(None), "\N{EN DASH}"),
        (number_text.memory(3 * 2**29), "1.50 GiB"),
        (number_text.operations(121_464_592), "121 million"),
        (number_text.operations(2.5e9), "2.50 billion"),
        (number_text.operations(12), "12.0"),
        (number_text.operations(None), "\N{EN DASH}"),
        (number_text.size((3, 4)), "3 \N{MULTIPLICATION SIGN} 4"),
        (number_text.spacing((0.5, 0.25)), "0.5 \N{MULTIPLICATION SIGN} 0.25 µm"),
        (
            number_text.spacing((3000, 937.5, 937.5)),
            "3 \N{MULTIPLICATION SIGN} 0.9375 \N{MULTIPLICATION SIGN} 0.9375 mm",
        ),
        (number_text.spacing(None), "not given"),
    ],
)
def test_numbers_in_words(text: str, expected: str) -> None:
    assert text == expected
