"""What a row of the table is, and how rounds are played."""

import dataclasses
import os
import statistics

ROUNDS = int(os.environ.get("ROUNDS", "3"))
IS_FULL = os.environ.get("CAMPAIGN_BENCH") == "full"


@dataclasses.dataclass
class Measured:
    """One line of the table. `values` hold one figure a round: a ratio to the peer, or what `unit` says."""

    what: str
    peer: str
    values: list
    target: float
    unit: str = "×"
    # Whether more is better.
    at_least: bool = True
    # Absolute figures and circumstances.
    note: str = ""

    @property
    def median(self):
        return statistics.median(self.values)

    @property
    def is_met(self):
        return self.median >= self.target if self.at_least else self.median <= self.target

    def line(self):
        bound = ("≥ " if self.at_least else "≤ ") + number(self.target) + spaced(self.unit)
        spread = f" ({number(min(self.values))}–{number(max(self.values))})" if len(self.values) > 1 else ""
        reached = number(self.median) + spaced(self.unit) + spread
        verdict = "yes" if self.is_met else "**no**"
        return f"| {self.what} | {self.peer} | {bound} | {reached} | {verdict} | {self.note} |"

    def as_json(self):
        return {**dataclasses.asdict(self), "median": self.median, "is_met": self.is_met}


@dataclasses.dataclass
class Stated:
    """A figure that is stated and has no limit."""

    what: str
    text: str

    def line(self):
        return f"| {self.what} | – | stated | {self.text} | | |"

    def as_json(self):
        return dataclasses.asdict(self)


def number(value):
    for limit, digits in ((100, 0), (10, 1), (0, 2)):
        if abs(value) >= limit:
            return f"{value:,.{digits}f}"
    return f"{value:.2f}"


def spaced(unit):
    return unit if unit in ("×", "") else " " + unit


def rounds(*sides, count=None):
    """Plays all sides in turn, round after round, each time with another one first, so that whatever disturbs the
    machine disturbs all alike. One list of results a side."""
    results = [[] for _ in sides]
    for turn in range(count or ROUNDS):
        order = [(at + turn) % len(sides) for at in range(len(sides))]
        for at in order:
            results[at].append(sides[at](turn))
    return results


def ratios(ours, theirs):
    return [our / their for our, their in zip(ours, theirs)]


def median(values):
    return statistics.median(values)
