"""From a checked spec to a plan: pure, so that an orchestrator can do it at every parse of a file."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from dataset_tasks.external.urls import BUCKETS, with_connection
from dataset_tasks.model import Input, JsonValue, Keep
from dataset_tasks.ops.requests import (
    AddExternal,
    AddFiles,
    Approve,
    Build,
    Check,
    Create,
    Finalize,
    Publish,
    RemoveFiles,
    Request,
    Squash,
    Stage,
    SyncFolder,
    TableCheck,
    Transform,
    Upload,
    Verify,
)
from dataset_tasks.spec import schema
from dataset_tasks.spec.definition import Definition, Spec
from dataset_tasks.spec.load import load_spec
from dataset_tasks.spec.plan import Plan, PlannedDataset, Step
from dataset_tasks.spec.recipe import recipe
from dataset_tasks.spec.sources import Source


def compile_spec(
    path: str | os.PathLike[str],
    *,
    profile: str | None = None,
    environ: Mapping[str, str] | None = None,
    check_sources: bool = True,
) -> Plan:
    """Reads a spec and compiles it; arguments and errors are those of `load_spec`.

    Loads no SQLAlchemy, boto3, pyarrow or pandas and touches neither catalog nor network.

    Raises:
        SpecError: The file has problems; `problems` holds all of them.
    """
    return compile_loaded(load_spec(path, profile=profile, environ=environ, check_sources=check_sources))


def compile_loaded(spec: Spec) -> Plan:
    """The plan of a spec that was loaded."""
    planned: dict[str, PlannedDataset] = {}
    steps: list[Step] = []
    for definition in spec.definitions:
        dataset, made = _compile_dataset(spec, definition, planned)
        planned[definition.key] = dataset
        steps.extend(made)
    return Plan(
        name=spec.pipeline.name,
        source=str(spec.path),
        digest=spec.digest,
        steps=tuple(steps),
        datasets=tuple(planned.values()),
        description=spec.pipeline.description,
        project=spec.pipeline.project or "",
        params=spec.params,
        schedule=spec.schedule,
        connection=spec.connection,
        store=spec.store,
        profile=spec.profile,
        airflow=spec.airflow,
        prefect=spec.prefect,
    )


def _compile_dataset(
    spec: Spec, definition: Definition, planned: Mapping[str, PlannedDataset]
) -> tuple[PlannedDataset, list[Step]]:
    key, model = definition.key, definition.model

    def reference(source: Source) -> str:
        return source.text if source.key is None else f"step:{planned[source.key].version_step}"

    parents = tuple(reference(source) for source in (*definition.parents, *definition.squash))
    inputs = tuple(Input(name=name, ref=reference(source), files=files) for name, source, files in definition.inputs)
    needs = tuple(planned[need].last_step for need in definition.needs)
    if model.squash is not None:
        stages = list(_squash_stages(definition, parents))
        version_step = f"{key}.squash"
    else:
        stages = list(_stages(spec, definition, parents, inputs))
        version_step = f"{key}.finalize"
        if definition.granularity == "dataset":
            version_step = f"{key}.build"
            stages = [Stage(id=version_step, request=Build(stages=tuple(stages)))]
    publish_step = approve_step = None
    if model.publish:
        publish_step = f"{key}.publish"
        how = model.publish if isinstance(model.publish, schema.Publish) else schema.Publish()
        alias = how.alias
        if how.approval:
            approve_step = f"{key}.approve"
            stages.append(Stage(id=approve_step, request=_approve(f"step:{version_step}", how)))
        stages.append(Stage(id=publish_step, request=Publish(ref=f"step:{version_step}", alias=alias)))
    steps: list[Step] = []
    for stage in stages:
        steps.append(
            Step(
                id=stage.id,
                dataset=key,
                request=stage.request,
                needs=(steps[-1].id,) if steps else needs,
                retries=definition.retries,
                retry_delay=definition.retry_delay,
                timeout=definition.timeout,
            )
        )
    dataset = PlannedDataset(
        key=key,
        project=definition.project,
        name=definition.name,
        steps=tuple(step.id for step in steps),
        version_step=version_step,
        last_step=steps[-1].id,
        publish_step=publish_step,
        approve_step=approve_step,
        parents=parents,
        inputs=tuple(held.ref for held in inputs),
        description=model.description,
        doc=model.doc,
        partition=model.partition,
        connection=definition.connection,
        airflow=_task_options(spec.airflow, model.airflow),
        prefect=_task_options(spec.prefect, model.prefect),
    )
    return dataset, steps


def _stages(spec: Spec, definition: Definition, parents: tuple[str, ...], inputs: tuple[Input, ...]) -> Iterator[Stage]:
    """Create to verify, in the order of SPEC: sync, add, external, transform, then remove."""
    key, model = definition.key, definition.model
    draft = f"step:{key}.create"

    def stage(what: str, request: Request) -> Stage:
        return Stage(id=f"{key}.{what}", request=request)

    yield stage("create", _create(definition, parents, inputs))
    if model.sync is not None:
        yield stage("sync", _sync(spec, draft, model.sync))
    for place, add in enumerate(model.add):
        yield stage(f"add.{place}", _add(spec, draft, add))
    for place, link in enumerate(model.external):
        yield stage(f"external.{place}", _external(draft, link))
    if model.transform is not None:
        yield stage("transform", _transform(spec, draft, model.transform))
    if model.remove:
        yield stage("remove", RemoveFiles(ref=draft, patterns=tuple(model.remove)))
    if model.check is not None:
        yield stage("check", _check(spec, draft, model.check))
    yield stage("upload", _upload(draft, model.upload))
    yield stage("finalize", Finalize(ref=draft))
    if model.verify is not None:
        yield stage("verify", Verify(ref=f"step:{key}.finalize", mode=model.verify, quarantine=True))


def _squash_stages(definition: Definition, refs: tuple[str, ...]) -> Iterator[Stage]:
    key, model = definition.key, definition.model
    request = Squash(
        name=definition.name,
        refs=refs,
        project=definition.project,
        store=_store(definition),
        tags=tuple(model.tags),
        description=model.description,
        metadata=model.metadata,
        skip_unchanged=definition.on_unchanged == "skip",
        hold=_hold(model),
        keep=_keep(model.keep),
    )
    yield Stage(id=f"{key}.squash", request=request)
    if model.verify is not None:
        verify = Verify(ref=f"step:{key}.squash", mode=model.verify, quarantine=True)
        yield Stage(id=f"{key}.verify", request=verify)


def _create(definition: Definition, parents: tuple[str, ...], inputs: tuple[Input, ...]) -> Create:
    model = definition.model
    return Create(
        name=definition.name,
        project=definition.project,
        parents=parents,
        inputs=inputs,
        previous=model.previous if model.previous is not None else model.sync is not None,
        tags=tuple(model.tags),
        description=model.description,
        metadata=model.metadata,
        store=_store(definition),
        partition=model.partition,
        skip_unchanged=definition.on_unchanged == "skip",
        recipe=recipe(definition),
        hold=_hold(model),
        keep=_keep(model.keep),
    )


def _store(definition: Definition) -> str | None:
    """The URL of the store, with the connection it is reached through, where it is no folder."""
    url, connection = definition.store, definition.connection
    if url is None or not connection or urlsplit(url).scheme not in BUCKETS or "connection=" in url:
        return url
    return with_connection(url, connection)


def _keep(keep: schema.Keep | None) -> Keep:
    """The retention; an empty one where the spec has none, so that one it had before goes."""
    if keep is None:
        return Keep()
    return Keep(last=keep.last, published=keep.published, seconds=None if keep.for_ is None else round(keep.for_))


def _hold(model: schema.Dataset) -> tuple[str, ...]:
    """What a new version waits for before any consumer finds it: verify, where there is one, and approval."""
    asks = isinstance(model.publish, schema.Publish) and model.publish.approval
    return (*(("verify",) if model.verify is not None else ()), *(("approve",) if asks else ()))


def _approve(ref: str, publish: schema.Publish) -> Approve:
    how = publish.approval if isinstance(publish.approval, schema.Approval) else schema.Approval()
    return Approve(ref=ref, by=tuple(how.by or ()), timeout=how.timeout, otherwise=how.otherwise, alias=publish.alias)


def _sync(spec: Spec, draft: str, sync: schema.Sync) -> SyncFolder:
    return SyncFolder(
        ref=draft,
        path=source_path(spec.folder, sync.path),
        dataset_path=sync.dataset_path,
        wildcard=_patterns(sync.wildcard),
        exclude=tuple(sync.exclude or ()),
        connection=sync.connection,
    )


def _add(spec: Spec, draft: str, add: schema.Add) -> AddFiles:
    base = add.local_base_folder
    return AddFiles(
        ref=draft,
        path=source_path(spec.folder, add.path),
        wildcard=_patterns(add.wildcard),
        exclude=tuple(add.exclude or ()),
        local_base_folder=None if base is None else source_path(spec.folder, base),
        dataset_path=add.dataset_path,
        recursive=add.recursive,
        on_error=add.on_error,
        connection=add.connection,
    )


def _external(draft: str, link: schema.External) -> AddExternal:
    return AddExternal(
        ref=draft,
        urls=(link.url,),
        wildcard=_patterns(link.wildcard),
        dataset_path=link.dataset_path,
        recursive=link.recursive,
        connection=link.connection,
    )


def _transform(spec: Spec, draft: str, transform: schema.Transform) -> Transform:
    return Transform(
        ref=draft,
        call=transform.call,
        run=None if transform.run is None else tuple(transform.run),
        arguments=transform.with_,
        env=transform.env,
        env_from=tuple(transform.env_from),
        python=transform.python,
        code_version=transform.code_version,
        always=transform.always,
        folder=str(spec.folder),
    )


def _check(spec: Spec, draft: str, check: schema.Check) -> Check:
    return Check(
        ref=draft,
        min_files=check.min_files,
        max_files=check.max_files,
        min_bytes=check.min_bytes,
        max_change=check.max_change,
        tables=tuple(TableCheck(files=table.files, schema=table.schema_) for table in check.tables),
        call=check.call,
        severity=check.severity,
        folder=str(spec.folder),
    )


def _upload(draft: str, upload: schema.Upload | None) -> Upload:
    if upload is None:
        return Upload(ref=draft)
    return Upload(
        ref=draft, compression=upload.compression, chunk_size=upload.chunk_size, max_workers=upload.max_workers
    )


def _patterns(patterns: list[str] | None) -> tuple[str, ...] | None:
    return None if patterns is None else tuple(patterns)


def source_path(folder: Path, text: str) -> str:
    """The absolute path of a source; a URL stays as it is, `bind` fills in placeholders."""
    if "://" in text:
        return text
    joined = os.path.join(folder, os.path.expanduser(text))
    return joined if "${" in text else os.path.normpath(joined)


def _task_options(
    pipeline: Mapping[str, JsonValue], dataset: schema.Airflow | schema.Prefect | None
) -> dict[str, JsonValue]:
    """The options of a dataset's tasks: the pipeline's, but for those that are the whole run's, then its own."""
    of_the_run = {"tags", "max_active_runs", "work_pool", "task_runner"}
    merged = {name: value for name, value in pipeline.items() if name not in of_the_run}
    return merged | (dataset.model_dump(exclude_none=True) if dataset is not None else {})
