"""Transforms over the NYC flights of 2013: plain pandas, with no word of datasets, Airflow or Prefect in it.

Each is called as `function(inputs, output, **with)`: read-only folders by name, an empty folder to write to, and the
arguments of the spec. The same input gives the same bytes, so a run that changes nothing makes no version.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import pandas as pd

#: Columns with gaps that hold whole numbers: minutes, and clock times such as 517 for 5:17.
_WHOLE = ("dep_time", "dep_delay", "arr_time", "arr_delay", "air_time")

#: Edges of the bins: wind in miles an hour, visibility in miles, precipitation in inches an hour. What lies outside
#: (the source has a wind of 1,048 miles an hour) counts as unknown.
_EDGES: Mapping[str, Sequence[float]] = {
    "wind_speed": (0, 5, 10, 15, 20, 25, 50),
    "visib": (0, 1, 2, 4, 6, 8, 10, 20),
    "precip": (0, 0.001, 0.02, 0.1, 0.25, 2),
}


def by_month(inputs: Mapping[str, Path], output: Path, *, carriers: Sequence[str] = ()) -> dict[str, int]:
    """Cuts the year's flights into one file a month: `flights/2013-01.csv` and so on.

    Args:
        inputs: `raw` holds `flights.csv.zip`.
        output: Where the files go.
        carriers: IATA codes of the carriers to keep; empty keeps all.

    Returns:
        How many flights and months there are.
    """
    flights = _read_flights(inputs["raw"] / "flights.csv.zip")
    if carriers:
        flights = flights[flights["carrier"].isin(carriers)]
    folder = output / "flights"
    folder.mkdir()
    months = flights.groupby(["year", "month"])
    for (year, month), rows in months:
        _write(rows, folder / f"{year:04d}-{month:02d}.csv")
    return {"flights": len(flights), "months": months.ngroups}


def delays(inputs: Mapping[str, Path], output: Path, *, late: int = 15) -> dict[str, float]:
    """Says at what hour and in what weather flights leave late or not at all.

    Writes `delays/by_hour.csv`, `by_wind_speed.csv`, `by_visib.csv` and `by_precip.csv`, one row a bin, and
    `report.md` for people. The weather is that of the airport in the scheduled hour of departure.

    Args:
        inputs: `by_month` holds `flights/*.csv`, `weather` holds `weather.csv`.
        output: Where the files go.
        late: From how many minutes after schedule a departure counts as late.

    Returns:
        The share (0 to 1) of flights that left late, and of those that never left.
    """
    flights = pd.concat(map(_read_flights, sorted((inputs["by_month"] / "flights").glob("*.csv"))), ignore_index=True)
    weather = pd.read_csv(inputs["weather"] / "weather.csv", usecols=["origin", "time_hour", *_EDGES])
    joined = flights.merge(weather, on=["origin", "time_hour"], how="left", validate="many_to_one")
    joined["late"] = (joined["dep_delay"] >= late).fillna(False)
    joined["cancelled"] = joined["dep_delay"].isna()

    tables = {"hour": _rates(joined, joined["hour"].astype("str").str.zfill(2))}
    for column, edges in _EDGES.items():
        tables[column] = _rates(joined, _binned(joined[column], edges))
    folder = output / "delays"
    folder.mkdir()
    for name, table in tables.items():
        _write(table, folder / f"by_{name}.csv")
    (output / "report.md").write_text(_report(tables, late), encoding="utf-8")
    return {name: round(float(joined[name].mean()), 4) for name in ("late", "cancelled")}


def _read_flights(file: Path) -> pd.DataFrame:
    return pd.read_csv(file, dtype=dict.fromkeys(_WHOLE, "Int32"))


def _write(table: pd.DataFrame, file: Path) -> None:
    table.to_csv(file, index=False, na_rep="NA", lineterminator="\n")


def _binned(values: pd.Series, edges: Sequence[float]) -> pd.Series:
    """The bin of each value as an ordered category, `0 to 5` (without 5) and so on, and `unknown` as the last."""
    labels = [f"{low:g} to {high:g}" for low, high in pairwise(edges)]
    bins = pd.cut(values, list(edges), right=False, labels=labels)
    return bins.cat.add_categories("unknown").fillna("unknown")


def _rates(flights: pd.DataFrame, by: pd.Series) -> pd.DataFrame:
    """Flights, mean delay in minutes of those that left, shares of late and of cancelled ones: one row a bin."""
    groups = flights.groupby(by.rename("bin"), observed=True)
    table = pd.DataFrame(
        {
            "flights": groups.size(),
            "mean_delay": groups["dep_delay"].mean().round(2),
            "late": groups["late"].mean().round(4),
            "cancelled": groups["cancelled"].mean().round(4),
        }
    )
    return table.reset_index()


def _report(tables: Mapping[str, pd.DataFrame], late: int) -> str:
    lines = ["# Departure delays", "", f"A departure is late from {late} minutes after schedule.", ""]
    for name, table in tables.items():
        worst = table[table["bin"] != "unknown"].nlargest(1, "late").iloc[0]
        lines.append(f"- by {name}: worst at {worst['bin']}, {worst['late']:.1%} of {worst['flights']:,} flights late")
    return "\n".join(lines) + "\n"
