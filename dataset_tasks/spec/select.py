"""Which datasets of a plan a command is about: `raw`, `raw+` (and all below), `+training` (and all above)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from dataset_tasks.errors import InvalidArgumentError
from dataset_tasks.nearest import did_you_mean
from dataset_tasks.spec.plan import Plan
from dataset_tasks.spec.problems import listed


def needs_by_dataset(plan: Plan) -> dict[str, tuple[str, ...]]:
    """For each dataset of the plan the datasets it waits for, both by key, in the plan's order."""
    owner = {step.id: step.dataset for step in plan.steps}
    needs: dict[str, dict[str, None]] = {dataset.key: {} for dataset in plan.datasets}
    for step in plan.steps:
        for need in step.needs:
            if owner[need] != step.dataset:
                needs[step.dataset][owner[need]] = None
    return {key: tuple(held) for key, held in needs.items()}


def select(plan: Plan, chosen: Sequence[str] | None = None, excluded: Sequence[str] | None = None) -> tuple[str, ...]:
    """The keys of the datasets that are meant, in the plan's order.

    Args:
        plan: The plan.
        chosen: Expressions; None or none of them: every dataset. A comma joins several in one text.
        excluded: Expressions of what is taken out again.

    Raises:
        InvalidArgumentError: An expression names no dataset of the plan, or nothing is left.

    `raw` is the dataset itself, `raw+` it and all that read it, directly or not, `+raw` it and all that it reads.
    """
    needs = needs_by_dataset(plan)
    above = dict(needs)
    below: dict[str, list[str]] = {key: [] for key in needs}
    for key, held in needs.items():
        for need in held:
            below[need].append(key)
    meant = _matched(chosen, above, below) if chosen else set(needs)
    meant -= _matched(excluded or (), above, below)
    if not meant:
        raise InvalidArgumentError(
            f"no dataset of {plan.name} is left to run", hint=f"There are {listed(list(needs))}."
        )
    return tuple(key for key in needs if key in meant)


def _matched(
    expressions: Iterable[str], above: Mapping[str, Sequence[str]], below: Mapping[str, Sequence[str]]
) -> set[str]:
    found: set[str] = set()
    for expression in (word.strip() for text in expressions for word in text.split(",")):
        key = expression.removeprefix("+").removesuffix("+")
        if key not in above:
            raise InvalidArgumentError(
                f"no dataset {key!r} in this spec{did_you_mean(key, above)}",
                hint=f"There are {listed(list(above))}; write name, name+ or +name.",
            )
        found.add(key)
        if expression.startswith("+"):
            found |= _reached(key, above)
        if expression.endswith("+"):
            found |= _reached(key, below)
    return found


def _reached(key: str, edges: Mapping[str, Sequence[str]]) -> set[str]:
    found: set[str] = set()
    todo = [key]
    while todo:
        for other in edges[todo.pop()]:
            if other not in found:
                found.add(other)
                todo.append(other)
    return found
