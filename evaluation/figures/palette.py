"""Colours of the methods on light and dark pages, distinct with any colour vision."""

from dataclasses import dataclass


@dataclass(frozen=True)
class MethodColour:
    """Colour of a method, and of the letter on it."""

    fill: str
    ink: str


# The smallest difference of two colours (CIE 1976) is as large as possible over normal vision, protanopia, deuteranopia and
# tritanopia (Machado et al. 2009). Each has a contrast of at least 3 to the page. The first two are from Okabe and Ito (2008).
LIGHT_METHODS = (
    MethodColour("#0072b2", "#ffffff"),
    MethodColour("#c77700", "#000000"),
    MethodColour("#452b00", "#ffffff"),
    MethodColour("#f1446a", "#000000"),
    MethodColour("#7d013f", "#ffffff"),
    MethodColour("#00228c", "#ffffff"),
)
DARK_METHODS = (
    MethodColour("#56b4e9", "#000000"),
    MethodColour("#e69f00", "#000000"),
    MethodColour("#786735", "#ffffff"),
    MethodColour("#dddaa0", "#000000"),
    MethodColour("#4c53ec", "#ffffff"),
    MethodColour("#bf1f88", "#ffffff"),
)
