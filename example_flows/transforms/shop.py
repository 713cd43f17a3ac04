"""What the specs of a small shop call: plain pandas, folders in, a folder out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd


def features(inputs: Mapping[str, Path], output: Path, least: int) -> dict[str, int]:
    """Counts orders and visits of each customer with at least so many orders."""
    orders = _table(inputs["orders"]).groupby("customer").size().rename("orders")
    visits = _table(inputs["visits"]).groupby("customer").size().rename("visits")
    both = pd.concat([orders, visits], axis=1).fillna(0).astype("int64").reset_index()
    chosen = both[both["orders"] >= least].sort_values("customer")
    chosen.to_csv(output / "features.csv", index=False)
    return {"customers": len(chosen)}


def totals(inputs: Mapping[str, Path], output: Path, month: str) -> None:
    """The sum of all amounts of a month."""
    (output / f"{month}.txt").write_text(f"{_table(inputs['month'])['amount'].sum()}\n")


def addresses(inputs: Mapping[str, Path], output: Path, least: int) -> None:
    """Customers with so many orders or more."""
    table = pd.read_csv(inputs["features"] / "features.csv")
    (output / "addresses.txt").write_text("".join(f"{name}\n" for name in table[table["orders"] >= least]["customer"]))


def _table(folder: Path) -> pd.DataFrame:
    """All CSV files below a folder, one after the other."""
    return pd.concat([pd.read_csv(path) for path in sorted(folder.rglob("*.csv"))], ignore_index=True)
