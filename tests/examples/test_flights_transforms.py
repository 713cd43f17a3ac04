"""The transforms of the flights spec, over a thousandth of the data."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pandas as pd
import pytest

from example_flows.demo.source import packaged_files, put_source_files
from example_flows.transforms.flights import by_month, delays


def _rows(archive: Path) -> list[str]:
    with zipfile.ZipFile(archive) as whole:
        return whole.read("flights.csv").decode().splitlines()


@pytest.fixture
def months(flights_source: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "months"
    folder.mkdir()
    by_month({"raw": flights_source}, folder)
    return folder


def test_the_package_carries_the_five_files() -> None:
    names = [path.name for path in packaged_files()]
    assert names == ["airlines.csv", "airports.csv", "flights.csv.zip", "planes.csv", "weather.csv"]


def test_source_files_that_were_edited_stay(tmp_path: Path) -> None:
    put_source_files(tmp_path)
    (tmp_path / "airlines.csv").write_text("edited")
    put_source_files(tmp_path)
    assert (tmp_path / "airlines.csv").read_text() == "edited"


def test_by_month_keeps_every_row_as_it_stands(flights_source: Path, months: Path) -> None:
    head, *rows = _rows(flights_source / "flights.csv.zip")
    files = sorted((months / "flights").iterdir())
    assert [file.name for file in files] == [f"2013-{month:02d}.csv" for month in range(1, 13)]
    written = [line for file in files for line in file.read_text().splitlines()]
    assert sorted(written) == sorted([*rows, *[head] * 12])


def test_by_month_keeps_only_the_carriers_asked_for(flights_source: Path, tmp_path: Path) -> None:
    told = by_month({"raw": flights_source}, tmp_path, carriers=["AA"])
    kept = pd.concat(map(pd.read_csv, (tmp_path / "flights").iterdir()))
    assert set(kept["carrier"]) == {"AA"}
    assert told["flights"] == len(kept)


def test_delays_counts_every_flight_once_in_each_table(flights_source: Path, months: Path, tmp_path: Path) -> None:
    out = tmp_path / "delays_made"
    out.mkdir()
    delays({"by_month": months, "weather": flights_source}, out)
    counted = {file.name: int(pd.read_csv(file)["flights"].sum()) for file in (out / "delays").iterdir()}
    flights = len(_rows(flights_source / "flights.csv.zip")) - 1
    assert counted == dict.fromkeys(["by_hour.csv", "by_wind_speed.csv", "by_visib.csv", "by_precip.csv"], flights)


def test_delays_calls_more_flights_late_when_late_begins_earlier(
    flights_source: Path, months: Path, tmp_path: Path
) -> None:
    shares = []
    for minutes in (5, 60):
        out = tmp_path / str(minutes)
        out.mkdir()
        shares.append(delays({"by_month": months, "weather": flights_source}, out, late=minutes)["late"])
    assert shares[0] > shares[1] > 0


def test_the_same_input_gives_the_same_bytes(flights_source: Path, months: Path, tmp_path: Path) -> None:
    made = []
    for name in ("first", "second"):
        out = tmp_path / name
        out.mkdir()
        delays({"by_month": months, "weather": flights_source}, out)
        made.append({path.name: path.read_bytes() for path in out.rglob("*") if path.is_file()})
    assert made[0] == made[1]
    assert len(made[0]) == 5
