"""Units of channels, and how to get from one to another of the same quantity."""

from __future__ import annotations

import math

from edgegraft_edge.errors import DataError, OptionError, nearest
from edgegraft_edge.signal import Array

# Quantity: unit -> (factor, offset) to its first unit.
QUANTITIES: dict[str, dict[str, tuple[float, float]]] = {
    "acceleration": {
        "m/s2": (1.0, 0.0),
        "g": (9.80665, 0.0),
        "mg": (9.80665e-3, 0.0),
        "cm/s2": (0.01, 0.0),
    },
    "angular rate": {
        "rad/s": (1.0, 0.0),
        "deg/s": (math.pi / 180, 0.0),
        "mdeg/s": (math.pi / 180e3, 0.0),
        "rpm": (math.pi / 30, 0.0),
    },
    "temperature": {
        "degC": (1.0, 0.0),
        "K": (1.0, -273.15),
        "degF": (5 / 9, -160 / 9),
    },
    "voltage": {"V": (1.0, 0.0), "mV": (1e-3, 0.0), "uV": (1e-6, 0.0)},
    "current": {"A": (1.0, 0.0), "mA": (1e-3, 0.0), "uA": (1e-6, 0.0)},
    "power": {"W": (1.0, 0.0), "mW": (1e-3, 0.0), "kW": (1e3, 0.0)},
    "pressure": {
        "Pa": (1.0, 0.0),
        "hPa": (100.0, 0.0),
        "mbar": (100.0, 0.0),
        "kPa": (1e3, 0.0),
        "bar": (1e5, 0.0),
        "psi": (6894.757293168, 0.0),
    },
    "magnetic field": {"uT": (1.0, 0.0), "mT": (1e3, 0.0), "T": (1e6, 0.0), "gauss": (100.0, 0.0)},
    "length": {"m": (1.0, 0.0), "cm": (0.01, 0.0), "mm": (1e-3, 0.0), "um": (1e-6, 0.0)},
    "share": {"1": (1.0, 0.0), "%": (0.01, 0.0)},
}
_SPELLINGS = {
    "m/s^2": "m/s2", "m/s²": "m/s2", "ms-2": "m/s2", "m/s/s": "m/s2", "m/sec2": "m/s2",
    "G": "g", "gn": "g", "dps": "deg/s", "°/s": "deg/s", "degrees/s": "deg/s", "mdps": "mdeg/s",
    "rads": "rad/s", "C": "degC", "°C": "degC", "celsius": "degC", "Celsius": "degC",
    "F": "degF", "°F": "degF", "fahrenheit": "degF", "kelvin": "K", "µT": "uT", "μT": "uT",
    "µV": "uV", "μV": "uV", "µA": "uA", "μA": "uA", "volt": "V", "volts": "V", "percent": "%",
    "Gauss": "gauss",
}  # fmt: skip
_OF = {unit: quantity for quantity, units in QUANTITIES.items() for unit in units}


def usual(unit: str) -> str:
    """The spelling used here.

    >>> usual("m/s^2"), usual("dps"), usual("furlong")
    ('m/s2', 'deg/s', 'furlong')
    """
    unit = unit.strip()
    return _SPELLINGS.get(unit, unit)


def convertible(unit: str, to: str) -> bool:
    """Whether both measure one quantity."""
    unit, to = usual(unit), usual(to)
    return unit == to or (unit in _OF and _OF[unit] == _OF.get(to))


def convert(values: Array, unit: str, to: str) -> Array:
    """Values in another unit.

    Errors: `DataError` "unit-mismatch" when the two do not measure one quantity.

    >>> import numpy as np
    >>> convert(np.array([32.0, 212.0]), "degF", "degC").round(6).tolist()
    [0.0, 100.0]
    """
    unit, to = usual(unit), usual(to)
    if unit == to:
        return values
    if not convertible(unit, to):
        raise DataError.of(
            "unit-mismatch",
            f"values in {unit or 'no unit'!r}",
            f"they cannot be turned to {to!r}",
            nearest(to, [item for item in QUANTITIES[_OF[unit]] if item != unit])
            if unit in _OF
            else "name the unit in the head of the column: acc_x [g]",
        )
    factor, offset = QUANTITIES[_OF[unit]][unit]
    to_factor, to_offset = QUANTITIES[_OF[to]][to]
    return (values * factor + (offset - to_offset)) / to_factor


def parse_units(text: str | None) -> dict[str, str]:
    """Units by channel from an option.

    >>> parse_units("acc_x=m/s2, temp=degC")
    {'acc_x': 'm/s2', 'temp': 'degC'}
    """
    units = {}
    for part in filter(None, (item.strip() for item in (text or "").split(","))):
        name, equals, unit = part.partition("=")
        if not equals or usual(unit) not in _OF:
            raise OptionError.of(
                "option-value",
                f"units {part!r}",
                "channel=unit is needed",
                f"{name or 'channel'}={nearest(usual(unit), sorted(_OF))}",
            )
        units[name.strip()] = usual(unit)
    return units
