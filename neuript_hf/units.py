"""Units of voltage, in every spelling that files use."""

import re
import unicodedata


# The units that a user may name, in microvolts.
MICROVOLTS = {"uV": 1.0, "mV": 1e3, "V": 1e6}
# The name of each unit by its size in microvolts.
UNIT_NAMES = {1e-3: "nV"} | {size: name for name, size in MICROVOLTS.items()}
# What files write where they do not say the unit.
NO_UNIT = ("", "-", "n/a", "na", "none", "unknown", "?")

_PREFIXES = {"": 1e6, "m": 1e3, "milli": 1e3, "μ": 1.0, "u": 1.0, "mu": 1.0, "micro": 1.0, "n": 1e-3, "nano": 1e-3}
_VOLTAGE = re.compile(r"(n|nano|μ|u|mu|micro|m|milli|)[ -]?(?:v|volts?)")
# Bytes meant as a micro sign: in Shift-JIS, and both Unicode signs in UTF-8 read as Latin-1.
_MANGLED_MICRO = ("\x83\xca", "Âµ", "Î¼")


def microvolts_of(unit: str) -> float | None:
    """Size of a unit in microvolts, in any spelling (`"uV"`, `"µV"`, `"microV"`, ...); `None` if it is not voltage."""
    for mangled in _MANGLED_MICRO:
        unit = unit.replace(mangled, "μ")
    match = _VOLTAGE.fullmatch(unicodedata.normalize("NFKC", unit).strip().lower())
    return _PREFIXES[match[1]] if match else None


def check_unit(unit: str | None) -> None:
    """Raises a ValueError for a user's unit that is not a voltage."""
    if unit is not None and microvolts_of(unit) is None:
        raise ValueError(f"unit must be 'uV', 'mV' or 'V', but is {unit!r}.")


__all__ = ["MICROVOLTS", "NO_UNIT", "UNIT_NAMES", "check_unit", "microvolts_of"]
