"""transform: runs the user's code over the inputs of a draft, and adds what it wrote."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from dataset_tasks.errors import DatasetError, InvalidArgumentError, TransformError
from dataset_tasks.failpoints import failpoint
from dataset_tasks.model import JsonValue, Version
from dataset_tasks.ops import add, code, scratch, unchanged
from dataset_tasks.ops.content import BEFORE, head_from, head_of
from dataset_tasks.ops.context import Context, about, digest, draft
from dataset_tasks.ops.get import read_only_copy
from dataset_tasks.ops.requests import AddFiles, Transform, TransformResult

_PASSED_ON = ("PATH", "HOME", "LANG", "TMPDIR")
_TAIL_BYTES = 4000
_LOOK_SECONDS = 1.0
_LEASH = Path(__file__).with_name("leash.py")
_CALLER = Path(__file__).with_name("caller.py")
#: Names that mean our own interpreter, or the one of `python`.
_PYTHONS = ("python", "python3")


def run(context: Context, request: Transform) -> TransformResult:
    """Runs a transform, unless the last good version was made by the same code from the same.

    Inputs are read-only folders; the output folder starts empty. What a function returns as a dict becomes metadata.

    Raises:
        InvalidArgumentError: Neither or both of `call` and `run`, or no such function.
        TransformError: The code raised, or the program ended with an error.
        SourceError: What it wrote can't be added.
        IntegrityError: An input can't be read back as it was finalized.
    """
    if (request.call is None) == (request.run is None):
        raise InvalidArgumentError("a transform is either a function or a program", hint="Give one of `call`, `run`.")
    version = _before(context, request, draft(context, request.ref))
    made_from = {
        **version.origin,
        unchanged.CODE: code_digest(context, request),
        unchanged.STAGED: version.content_hash,
        BEFORE: head_of(version),
    }
    parts = {**unchanged.parts_of(version), "code": made_from[unchanged.CODE], "staged": version.content_hash}
    fingerprint = unchanged.fingerprint(parts)
    standing = _made_already(context, request, version, fingerprint)
    if standing is not None:
        unchanged.drop_for(context, request, version, standing)
        why = unchanged.same_as(standing)
        return TransformResult(**about(standing), unchanged=True, why=why)
    failpoint("transform.after_rewind")
    output = scratch.fresh(context.session, version, f"transform-{digest(request)[:16]}")
    started = time.monotonic()
    inputs = {each.name: read_only_copy(context, each.ref, files=each.files) for each in version.inputs}
    metadata: Mapping[str, JsonValue] | None = None
    failpoint("transform.before_code")
    if request.call is not None and _is_elsewhere(request):
        metadata = _call_elsewhere(context, request, inputs, output, version)
    elif request.call is not None:
        metadata = _call(context, request, inputs, output)
    else:
        _run(request, inputs, output)
    seconds = time.monotonic() - started
    failpoint("transform.after_code")
    added = add.add_folder(
        context,
        AddFiles(ref=version.id, path=str(output), dataset_path=request.dataset_path),
        origin=made_from,
        fingerprint=fingerprint,
        result=lambda now, counts: TransformResult(
            **about(now),
            added=counts.added,
            modified=counts.modified,
            files=counts.files,
            bytes=counts.bytes,
            seconds=round(seconds, 3),
        ),
        request=request,
    )
    failpoint("transform.after_add")
    if metadata:
        catalog = context.session.catalog
        record = context.part("metadata").record(request, lambda now: TransformResult(**about(now)))
        catalog.change(catalog.version(version.id), record, metadata=metadata)
    return added


def _before(context: Context, request: Transform, version: Version) -> Version:
    """The draft as it was before the transform: what an earlier try wrote is taken out again."""
    saved = version.origin.get(BEFORE)
    if not isinstance(saved, Mapping):
        return version
    record = context.part("rewind").record(request, lambda now: TransformResult(**about(now)))
    return context.session.catalog.commit_content(version, head_from(saved), record)


def _made_already(context: Context, request: Transform, version: Version, fingerprint: str) -> Version | None:
    if not version.skip_unchanged or request.always or not unchanged.reads_something(version):
        return None
    known = unchanged.candidates(
        context.session, version.project, version.name, version.partition, unchanged.holds(version), version.window
    )
    return next((each for each in known if each.fingerprint == fingerprint), None)


def code_digest(context: Context, request: Transform) -> str:
    """What tells one state of the transform's code from another."""
    if request.code_version is not None:
        return f"version:{request.code_version}"
    if request.call is not None and request.python is not None:
        return code.file_digest(request.call, request.folder, request.python)
    if request.call is not None:
        function = code.find(request.call, request.folder, context.functions)
        return code.digest(function, live=request.call in context.functions)
    return code.program_digest(request.run or (), request.folder)


def _call(
    context: Context, request: Transform, inputs: Mapping[str, Path], output: Path
) -> Mapping[str, JsonValue] | None:
    call = request.call or ""
    function = code.find(call, request.folder, context.functions)
    try:
        given = function(inputs, output, **request.arguments)
    except DatasetError:
        raise
    except Exception as error:
        raise TransformError(
            f"{call} raised {type(error).__name__}: {error}",
            hint="The traceback below is the function's own; no version was made.",
        ) from error
    return given if isinstance(given, Mapping) else None


def _is_elsewhere(request: Transform) -> bool:
    """Whether the function gets a process of its own: another interpreter, or an environment that is not ours."""
    return request.python is not None or bool(request.env or request.env_from)


def _call_elsewhere(
    context: Context, request: Transform, inputs: Mapping[str, Path], output: Path, version: Version
) -> Mapping[str, JsonValue] | None:
    call = str(request.call)
    module_place = code.place_of(call, request.folder, here=request.python is None)
    place = scratch.fresh(context.session, version, f"call-{digest(request)[:16]}")
    result = place / "result.json"
    asked = {
        "call": call,
        "place": str(module_place) if module_place is not None else None,
        "inputs": {name: str(folder) for name, folder in inputs.items()},
        "output": str(output),
        "arguments": request.arguments,
        "result": str(result),
    }
    (place / "call.json").write_text(json.dumps(asked), encoding="utf-8")
    argv = [_interpreter(request), str(_CALLER), str(place / "call.json")]
    _must_succeed(request, argv, _environment(request, inputs, output), output, call)
    if not result.exists():
        return None
    given: Mapping[str, JsonValue] = json.loads(result.read_text(encoding="utf-8"))
    return given


def _run(request: Transform, inputs: Mapping[str, Path], output: Path) -> None:
    argv = _command(request, [_filled(word, inputs, output) for word in request.run or ()])
    _must_succeed(request, argv, _environment(request, inputs, output), output, argv[0])


def _command(request: Transform, argv: list[str]) -> list[str]:
    """The argument vector, its program and a script of Python's looked up beside the spec: the working folder is another."""
    if request.python is None and argv[0] not in _PYTHONS:
        return [_beside(request, argv[0]), *argv[1:]]
    script = argv[1:] if argv[0] in _PYTHONS else argv
    if script and (file := Path(request.folder or ".", script[0])).is_file():
        script = [str(file.absolute()), *script[1:]]
    return [_interpreter(request), *script]


def _interpreter(request: Transform) -> str:
    return sys.executable if request.python is None else _beside(request, request.python)


def _beside(request: Transform, program: str) -> str:
    """A program that is given with its folder, relative to the spec; a bare name is looked up on PATH."""
    return str(Path(request.folder or ".", os.path.expanduser(program)).absolute()) if "/" in program else program


def _must_succeed(request: Transform, argv: list[str], env: Mapping[str, str], output: Path, what: str) -> None:
    code_of_exit, said = _process(argv, env, output)
    if code_of_exit:
        tail = said.decode(errors="replace").strip()
        for secret in sorted({env[name] for name in request.env_from if env.get(name)}, key=len, reverse=True):
            tail = tail.replace(secret, "***")  # passed on from outside, never written down
        raise TransformError(
            f"{what} ended with exit code {code_of_exit}" + (f"; its last output:\n{tail}" if tail else ""),
            hint="No version was made; mend the program and run again.",
        )


def _process(argv: list[str], env: Mapping[str, str], output: Path) -> tuple[int, bytes]:
    """Runs a program to its end: exit code and the end of its output. It and its children end with us."""
    if shutil.which(argv[0], path=env.get("PATH")) is None:
        raise InvalidArgumentError(
            f"the program {argv[0]!r} is not there, or can't be executed",
            hint="Give its path relative to the spec, or a name found on PATH.",
        )
    process = subprocess.Popen(  # an argument vector from the user's own spec, and no shell
        [sys.executable, "-I", "-S", _LEASH, str(os.getpid()), *argv], env=dict(env), cwd=output,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    try:
        while True:
            try:
                said, _ = process.communicate(
                    timeout=_LOOK_SECONDS
                )  # returns now and then, so that a stop gets through
            except subprocess.TimeoutExpired:
                continue
            return process.returncode, said[-_TAIL_BYTES:]
    except BaseException:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise


def _environment(request: Transform, inputs: Mapping[str, Path], output: Path) -> dict[str, str]:
    env = {name: os.environ[name] for name in (*_PASSED_ON, *request.env_from) if name in os.environ}
    env |= request.env
    env |= {
        f"DATASET_TASKS_INPUT_{name.upper().replace('-', '_').replace('.', '_')}": str(p) for name, p in inputs.items()
    }
    return env | {"DATASET_TASKS_OUTPUT": str(output)}


def _filled(word: str, inputs: Mapping[str, Path], output: Path) -> str:
    word = word.replace("${output}", str(output))
    for name, place in inputs.items():
        word = word.replace(f"${{inputs.{name}}}", str(place))
    return word
