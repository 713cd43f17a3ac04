"""The small file that loads a spec as a DAG or a flow: what `compile` writes."""

from __future__ import annotations

import keyword
import os
import re
from collections.abc import Mapping
from typing import Final

from dataset_tasks.errors import InvalidArgumentError
from dataset_tasks.spec.plan import Plan

_AIRFLOW = '''\
"""The DAG of {spec}: Airflow loads the spec each time it parses this file."""

from pathlib import Path

from airflow_provider.dags import dag_from_spec

{variable} = dag_from_spec((Path(__file__).parent / {path}).resolve())
'''
_PREFECT = '''\
"""The flow of {spec}: serve or deploy it as `{variable}`, or run this file."""

from pathlib import Path

from prefect_blocks import flow_from_spec

{variable} = flow_from_spec((Path(__file__).parent / {path}).resolve(), variable={variable!r})

if __name__ == "__main__":
    {variable}()
'''
_FORMS: Final[Mapping[str, str]] = {"airflow": _AIRFLOW, "prefect": _PREFECT}


def compiled_file(plan: Plan, to: str, output: str | None) -> str:
    """The text of a file that loads the spec of a plan.

    Args:
        plan: The compiled spec.
        to: `airflow` or `prefect`.
        output: Where the file will be; None: beside the spec.

    Raises:
        InvalidArgumentError: There is no such orchestrator.
    """
    if to not in _FORMS:
        raise InvalidArgumentError(f"--to {to!r} is unknown", hint=f"Write one of {', '.join(_FORMS)}.")
    folder = os.path.dirname(os.path.abspath(output)) if output is not None else os.path.dirname(plan.source)
    variable = variable_of(plan)
    path = os.path.relpath(plan.source, folder)
    return _FORMS[to].format(spec=re.sub(r"[^\w.-]", "_", os.path.basename(path)), variable=variable, path=repr(path))


def variable_of(plan: Plan) -> str:
    """What the DAG or flow is called in that file."""
    variable = re.sub(r"\W", "_", plan.name)
    return variable if variable.isidentifier() and not keyword.iskeyword(variable) else f"_{variable}"
