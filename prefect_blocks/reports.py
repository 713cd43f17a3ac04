"""What Prefect shows of a new version: an asset with its lineage, and a table of what changed.

The version stands by the time it is shown. When Prefect's API can't take the report, that is logged and the task goes on:
failing here would tell people that a version was not made which is there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias

import httpx
from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact
from prefect.assets import Asset, AssetProperties, add_asset_metadata, materialize
from prefect.cache_policies import NO_CACHE
from prefect.exceptions import PrefectException
from prefect.logging import get_run_logger

from dataset_tasks import model
from dataset_tasks.model import Version, asset_uri
from dataset_tasks.ops.requests import BuildResult, FinalizeResult, Result
from dataset_tasks.spec.explain import explain
from dataset_tasks.spec.graph import graph_of

if TYPE_CHECKING:
    import pyarrow as pa

    from dataset_tasks.session import Session
    from dataset_tasks.spec.plan import Plan

#: How many paths a table of changes names; the others are counted.
SHOWN_CHANGES = 200
_DESCRIPTION_LENGTH = 2500
_NOT_IN_KEY = re.compile(r"[^a-z0-9]+")
#: What Markdown reads in the middle of a line; an underscore inside of a word it does not.
_MEANS_SOMETHING = re.compile(r"[\\`*\[\]|~]|(?<!\w)_|_(?!\w)")

Row: TypeAlias = dict[str, str | int | None]


def show_version(session: Session, result: Result, *, sources: Iterable[str] = ()) -> None:
    """Shows a version that an operation just made final; other results show nothing.

    Args:
        session: Where the version is.
        result: What the operation gave.
        sources: References it was made from, beside its parents and inputs.
    """
    if not isinstance(result, FinalizeResult | BuildResult):
        return
    version = session.catalog.version(result.version_id)
    materialize_version(version, read_from(session, version, sources))
    title = f"What {version.label} changed"
    with shown(title):
        rows, left_out = changes(session, version)
        more = f" {left_out:,} more changes are not listed." if left_out else ""
        files = f"{version.files:,} file{'' if version.files == 1 else 's'}"
        counted = f"{files}, {version.bytes:,} bytes, of which {version.new_bytes:,} newly stored."
        create_table_artifact(
            rows,
            key=artifact_key(version.dataset, "changes"),
            description=f"{markdown(title)}: {counted}{more}",
            _sync=True,  # type: ignore[call-arg]  # Prefect's way to say: no coroutine, please
        )


def read_from(session: Session, version: Version, sources: Iterable[str] = ()) -> tuple[str, ...]:
    """The other datasets (`project/name`) that a version was made from, sorted."""
    ids = [*version.parents, *(one.ref for one in version.inputs), *sources]
    found = {session.catalog.resolve(one).dataset for one in ids}
    return tuple(sorted(found - {version.dataset}))


def materialize_version(version: Version, read: Iterable[str]) -> None:
    """Records a new version as a materialization of the asset `dataset://project/name`.

    A nested task, because Prefect's `@materialize` emits on every success, also of a task that finds nothing to do.
    """
    if not _can_be_asset(version.dataset):
        get_run_logger().info(
            "%s is no Prefect asset: only letters, digits and ._- can be in its name", version.dataset
        )
        return
    key = asset_uri(version.project, version.name)
    description = version.description[:_DESCRIPTION_LENGTH] or None
    asset = Asset(key=key, properties=AssetProperties(name=version.dataset, description=description))

    @materialize(
        asset,
        by="dataset-tasks",
        name="record_version",
        task_run_name=_literal(f"record {version.label}"),
        asset_deps=[f"dataset://{dataset}" for dataset in read if _can_be_asset(dataset)],
        cache_policy=NO_CACHE,
        persist_result=False,
    )
    def record() -> None:
        add_asset_metadata(
            asset,
            {
                "version_id": version.id,
                "version": version.version,
                "content_hash": version.content_hash,
                "files": version.files,
                "bytes": version.bytes,
                "catalog_id": version.catalog_id,
            },
        )

    record()


def changes(session: Session, version: Version) -> tuple[list[Row], int]:
    """What a version changed against the one before it: at most `SHOWN_CHANGES` rows, and how many more there are."""
    from dataset_tasks.manifest import EMPTY, Manifest
    from dataset_tasks.manifest import changes as compared  # loads pyarrow

    before = _before(session, version)
    old = session.manifest(before) if before is not None else Manifest(EMPTY, session.objects.read)
    rows: list[Row] = []
    count = 0
    for part in compared(old, session.manifest(version)):
        for change, was, now in (
            ("added", None, part.added),
            ("modified", part.before, part.after),
            ("removed", part.removed, None),
        ):
            table = now if now is not None else was
            assert table is not None
            count += len(table)
            rows.extend(
                {
                    "change": change,
                    "path": one_line(table["path"][i].as_py().decode()),
                    "bytes before": was["size"][i].as_py() if was is not None else None,
                    "bytes now": now["size"][i].as_py() if now is not None else None,
                }
                | _link(table, i)
                for i in range(min(len(table), SHOWN_CHANGES - len(rows)))
            )
    return rows, count - len(rows)


def show_lineage(plan: Plan, versions: Mapping[str, str]) -> None:
    """Shows what a spec makes from what as a Markdown artifact: a picture, and the same in words.

    Args:
        plan: The compiled spec.
        versions: The version string that stands for each dataset of this run, by key; where there is one.
    """
    with shown("the lineage"):
        create_markdown_artifact(
            lineage_markdown(plan, versions),
            key=artifact_key(plan.name, "lineage"),
            description=f"What {markdown(plan.name)} makes, and from what",
            _sync=True,  # type: ignore[call-arg]  # as above
        )


def lineage_markdown(plan: Plan, versions: Mapping[str, str]) -> str:
    """The lineage as Markdown with a Mermaid picture; every text in it is escaped."""
    graph = graph_of(plan)
    lines = [
        "```mermaid",
        explain(plan, "mermaid"),
        "```",
        "",
        "| dataset | version | made from |",
        "| --- | --- | --- |",
    ]
    for node in graph.nodes:
        if node.dataset is None:
            continue
        made_from = ", ".join(f"{markdown(label)} ({kind})" for label, kind in graph.above(node.id))
        full = f"{node.dataset.project}/{node.dataset.name}"
        lines.append(f"| {markdown(full)} | {markdown(versions.get(node.dataset.key, ''))} | {made_from} |")
    return "\n".join(lines) + "\n"


def show_table(name: str, what: str, rows: Sequence[Row], description: str) -> None:
    """Shows rows as a table artifact `<name>-<what>`."""
    with shown(f"the table of {what}"):
        create_table_artifact(
            list(rows),
            key=artifact_key(name, what),
            description=description,
            _sync=True,  # type: ignore[call-arg]  # as above
        )


def show_link(name: str, what: str, url: str, text: str, description: str) -> None:
    """Shows a link as an artifact `<name>-<what>`."""
    with shown(f"the link to {what}"):
        create_link_artifact(
            url,
            link_text=text,
            key=artifact_key(name, what),
            description=description,
            _sync=True,  # type: ignore[call-arg]  # as above
        )


@contextmanager
def shown(what: str) -> Iterator[None]:
    """Goes on, with a warning in the log, when Prefect's API does not take what is to be shown."""
    try:
        yield
    except (httpx.HTTPError, PrefectException) as error:
        get_run_logger().warning("%s could not be shown in Prefect: %s", what, error)


def artifact_key(*words: str) -> str:
    """An artifact key, in the letters Prefect allows: lower case, digits and dashes.

    >>> artifact_key("crm/eu/Features", "changes")
    'crm-eu-features-changes'
    """
    return _NOT_IN_KEY.sub("-", "-".join(words).lower()).strip("-") or "dataset"


def one_line(text: str) -> str:
    r"""The text with control characters and line ends shown as escapes.

    >>> one_line("a\nb")
    'a\\nb'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def markdown(text: str) -> str:
    r"""The text so that Markdown and HTML in it mean nothing.

    >>> markdown("<b>*x*</b> | [y](z)")
    '&lt;b&gt;\\*x\\*&lt;/b&gt; \\| \\[y\\](z)'
    """
    escaped = one_line(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MEANS_SOMETHING.sub(r"\\\g<0>", escaped)


def _link(table: pa.Table, row: int) -> Row:
    """Where the bytes of an external link are; nothing for other files."""
    link = table["link"][row].as_py()
    return {} if link is None else {"link": one_line(link)}


def _before(session: Session, version: Version) -> Version | None:
    if version.previous_id is not None:
        return session.catalog.version(version.previous_id)
    earlier = [
        one
        for one in session.catalog.versions(project=version.project, name=version.name)
        if one.state.is_final and one.sequence < version.sequence and one.partition == version.partition
    ]
    return max(earlier, key=lambda one: one.sequence, default=None)


def _can_be_asset(dataset: str) -> bool:
    return all(model.is_dataset_word(word) for word in dataset.split("/"))


def _literal(text: str) -> str:
    """Prefect fills in `{}` of run names."""
    return text.replace("{", "{{").replace("}", "}}")
