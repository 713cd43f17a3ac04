"""The recipe of a dataset: a text that changes when, and only when, its definition asks for other content.

"Unchanged" compares the ids of what was read, the names and patterns of the inputs, the code of the transform, the
content before the transform, and the content in the end. The recipe holds what none of these can show:

- how the transform is called: call, run, with, env, the names of env_from, python;
- beside a transform also `remove`: it comes after the transform, and a transform that would give the same is not run;
- the values of all placeholders in these parts.

Nothing else. Where files come from (add, sync, previous) shows in the staged content, so moving a source folder or
writing a pattern another way makes no version, and tags, texts, metadata, store, upload, checks, verify, publish,
retries, schedule and the order of keys don't shape content at all.
"""

from __future__ import annotations

import hashlib
import json
from typing import Final

from dataset_tasks.spec.definition import Definition
from dataset_tasks.spec.plan import PLACEHOLDER, is_late

#: Moved when the rule above changes: every dataset with a transform is then made anew once.
_RULE: Final = 1
_JSON: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"))
#: Keys of a transform that its code's own fingerprint covers, or that only say when it runs.
_ELSEWHERE: Final = frozenset({"always", "code_version"})


def recipe(definition: Definition) -> str:
    """The recipe of a dataset: a digest, then the placeholders it depends on, for `bind` to fill in.

    It is empty without a transform: the content says it all.
    """
    model = definition.model
    if model.transform is None:
        return ""
    transform = model.transform.model_dump(by_alias=True, exclude_defaults=True, exclude=set(_ELSEWHERE))
    parts = {"rule": _RULE, "transform": transform, "remove": model.remove}
    text = _JSON.encode(parts)
    names = sorted({name for name in PLACEHOLDER.findall(text) if not is_late(name)})
    digest = hashlib.sha256(text.encode()).hexdigest()
    return "; ".join((digest, *(f"{name}=${{{name}}}" for name in names)))
