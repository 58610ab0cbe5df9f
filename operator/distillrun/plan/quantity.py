"""Kubernetes quantities as numbers, and bytes as words."""

from __future__ import annotations

from decimal import Decimal

_FACTORS: dict[str, int | Decimal] = {
    "": 1,
    "m": Decimal("0.001"),
    "k": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "P": 10**15,
    "Ki": 1 << 10,
    "Mi": 1 << 20,
    "Gi": 1 << 30,
    "Ti": 1 << 40,
    "Pi": 1 << 50,
}


def to_bytes(quantity: str) -> int:
    """Bytes of a quantity that the schema has accepted: "64Gi", "1500M", "8"."""
    digits = quantity.rstrip("mkKMGTPi")
    return int(Decimal(digits) * _FACTORS[quantity[len(digits) :]])


def words(size: int) -> str:
    """Bytes with three digits or so in decimal units, as hardware is sold: "84.9 GB", "1.18 TB"."""
    for factor, unit, digits in ((10**12, "TB", 2), (10**9, "GB", 1), (10**6, "MB", 0)):
        if size >= factor:
            value = size / factor
            return f"{value:.0f} {unit}" if value >= 100 else f"{value:.{digits}f} {unit}"
    return f"{size} bytes"


def gibibytes(size: int) -> str:
    """The smallest quantity in whole Gi that holds so many bytes."""
    return f"{-(-size // (1 << 30))}Gi"
