"""The recipe of a dataset: a text that changes when, and only when, its definition asks for other content.

"Unchanged" compares three things: the ids of what was read, the staged content, and this recipe. So the recipe holds
what neither ids nor content can show:

- the names and file patterns of the inputs, as the transform sees them (the ids stand for the references);
- the transform: call, run, with, env, names of env_from, python, code_version (its code has a fingerprint of its own);
- beside a transform also previous, sync, add and remove: an unchanged transform is not run again, so these would not be
  staged before the decision. Without a transform their effect is in the staged content, and moving a source folder or
  writing a pattern another way makes no version;
- the values of all placeholders used in these parts.

Tags, texts, metadata, store, upload, checks, verify, publish, retries, schedule and the order of keys are not in it.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Final

from dataset_tasks.spec.definition import Definition
from dataset_tasks.spec.plan import PLACEHOLDER

#: Raised when the rule above changes: every dataset is then looked at anew once.
_RULE: Final = 1


def recipe(definition: Definition) -> str:
    """The recipe of a dataset: a digest, then the placeholders it depends on, for `bind` to fill in.

    A dataset that only inherits, adds or syncs has an empty one.
    """
    model = definition.model
    if model.transform is None:
        return ""
    parts: dict[str, Any] = {  # Any: JSON values of the models
        "rule": _RULE,
        "inputs": {name: files for name, _, files in definition.inputs},
        "transform": model.transform.model_dump(by_alias=True, exclude_defaults=True, exclude={"always"}),
        "previous": bool(model.previous if model.previous is not None else model.sync),
        "sync": model.sync and model.sync.model_dump(exclude_defaults=True),
        "add": [held.model_dump(exclude_defaults=True) for held in model.add],
        "remove": model.remove,
    }
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    names = sorted({name for name in PLACEHOLDER.findall(text) if not name.startswith(("inputs.", "output"))})
    digest = hashlib.sha256(text.encode()).hexdigest()
    return "; ".join((digest, *(f"{name}=${{{name}}}" for name in names)))
