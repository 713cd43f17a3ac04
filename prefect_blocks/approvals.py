"""Questions to people: the flow run pauses and asks for an answer, while the rest of it goes on.

The catalog holds the question and its answer. Whoever answers first wins: the form of the paused run, `dataset-tasks approve`
and `reject`, a page of Airflow. An answer given elsewhere resumes the run; one given here is written into the catalog. A
deadline is the catalog's own, since Prefect's would fail the run.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from contextvars import copy_context
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import TYPE_CHECKING, Final, Literal
from uuid import UUID

import httpx
from prefect.context import FlowRunContext, SyncClientContext
from prefect.exceptions import FlowPauseTimeout, NotPausedError, PrefectException
from prefect.flow_runs import pause_flow_run, resume_flow_run
from prefect.input import RunInput
from prefect.logging import get_run_logger

from dataset_tasks.errors import InvalidArgumentError, StateError

if TYPE_CHECKING:
    from dataset_tasks.model import Approval
    from dataset_tasks.ops.references import Ref
    from dataset_tasks.session import Session
    from prefect_blocks.running import Catalog, Json

#: Seconds between two looks for an answer, in the catalog and in Prefect.
POLL: Final = 5
#: Seconds that a pause may last at most: ten years. The deadline of a question is the catalog's.
_FOREVER: Final = 10 * 365 * 86_400
_TIMEOUT: Final = 60.0


class Answer(RunInput):
    """The form of a paused run."""

    decision: Literal["approve", "reject"] = "reject"
    who: str = ""
    note: str = ""


@dataclass(slots=True, kw_only=True)
class Question:
    """One open question: `name` is told back when it is answered, `label` says which version it is about."""

    name: str
    label: str
    session: Session
    version_id: str
    is_paused: bool = False
    ended: threading.Event = field(default_factory=threading.Event)

    def look(self) -> Approval | None:
        """The question as the catalog has it."""
        return self.session.catalog.approval(self.version_id)

    def is_open(self) -> bool:
        """Whether nobody answered, and there is time left."""
        now = self.look()
        return now is not None and now.outcome == "open"


class Questions:
    """All questions of a flow run. They are asked one after another: a run pauses as a whole; answers are seen at once.

    Args:
        answered: Called with the name of a question when it is answered, from a thread of this object.

    Raises:
        InvalidArgumentError: No flow is running.
    """

    def __init__(self, answered: Callable[[str], None]) -> None:
        context = FlowRunContext.get()
        if context is None or context.flow_run is None:
            raise InvalidArgumentError(
                "an approval pauses its flow, and no flow is running", hint="Call it inside of a flow."
            )
        self._flow_run_id: UUID = context.flow_run.id
        self._answered = answered
        self._waiting: SimpleQueue[Question] = SimpleQueue()
        self._open: list[Question] = []
        self._log = get_run_logger()
        self._is_begun = False

    def ask(self, question: Question) -> None:
        """Takes a question on; gives at once."""
        self._open.append(question)
        self._waiting.put(question)
        if not self._is_begun:
            self._is_begun = True
            for work in (self._pause_for_each, self._watch):
                threading.Thread(target=copy_context().run, args=(self._with_client, work), daemon=True).start()

    def _with_client(self, work: Callable[[], None]) -> None:
        """Runs work with clients of its own: those of the flow belong to its thread."""
        with SyncClientContext(httpx_settings={"timeout": _TIMEOUT}):
            work()

    def _pause_for_each(self) -> None:
        while True:
            question = self._waiting.get()
            if question.is_open():
                question.is_paused = True
                try:
                    self._pause(question)
                except (FlowPauseTimeout, RuntimeError, PrefectException, httpx.HTTPError) as error:
                    self._log.warning("%s: the run could not be paused to ask: %s", question.label, error)
                question.is_paused = False
            if not question.is_open():
                self._end(question)

    def _pause(self, question: Question) -> None:
        self._log.info(
            "%s waits for approval: resume this run with an answer, or use `dataset-tasks approve %s`",
            question.label,
            question.label,
        )
        given = pause_flow_run(
            wait_for_input=Answer.with_initial_data(description=f"May **{question.label}** be published?"),
            timeout=_FOREVER,
            poll_interval=POLL,
            key=pause_key(question.name),
        )
        if not question.is_open():
            return
        try:
            question.session.catalog.answer(
                question.version_id, given.decision == "approve", given.who or "a user of Prefect", given.note
            )
        except StateError as error:  # somebody answered otherwise in the same moment
            self._log.warning("%s", error)

    def _watch(self) -> None:
        """Sees answers that were given elsewhere, and deadlines that passed."""
        wait = threading.Event()
        while True:
            wait.wait(POLL)
            for question in [one for one in self._open if not one.ended.is_set()]:
                if question.is_open():
                    continue
                if not question.is_paused:
                    self._end(question)
                    continue
                self._resume(question)

    def _resume(self, question: Question) -> None:
        told = question.look()
        decision = "approve" if told is not None and told.outcome == "approved" else "reject"
        note = told.told if told is not None else ""
        try:
            resume_flow_run(self._flow_run_id, run_input={"decision": decision, "note": note})
        except NotPausedError:
            return  # it pauses in a moment, or was resumed just now
        except (RuntimeError, PrefectException, httpx.HTTPError) as error:
            self._log.warning("%s: the run could not be resumed yet: %s", question.label, error)

    def _end(self, question: Question) -> None:
        if not question.ended.is_set():
            question.ended.set()
            self._answered(question.name)


def wait_for_approval(
    ref: Ref,
    *,
    by: str | Sequence[str] = (),
    timeout: float | None = None,
    otherwise: Literal["reject", "approve"] = "reject",
    alias: str | None = None,
    catalog: Catalog = None,
    step: str | None = None,
) -> Json:
    """Asks whether a version may be published, and pauses the flow run until there is an answer.

    To be called in a flow, not in a task. Without it a worker would be kept waiting.

    Args:
        ref: The version.
        by: User names of those who are asked; Prefect does not know who answers, so they are only recorded.
        timeout: Seconds after which `otherwise` is the answer.
        otherwise: The answer when nobody gave one in time.
        alias: The name that publishing will move; shown to whoever answers.
        catalog: A block, the name of a saved one, or None: what the environment names.
        step: The operation's name within the flow run; see `prefect_blocks.tasks`.

    Returns:
        The fields of `ApproveResult`, its `state` being `approved`.

    Raises:
        StateError: The answer was no.
        InvalidArgumentError: No flow is running.
    """
    from prefect_blocks.running import find_catalog
    from prefect_blocks.tasks import approve_dataset

    block = find_catalog(catalog)

    def look() -> Json:
        return approve_dataset(
            ref, by=by, timeout=timeout, otherwise=otherwise, alias=alias, wait=False, catalog=block, step=step
        )

    result = look()
    if result["state"] != "open":
        return result
    label = f"{result['project']}/{result['name']}@{result['version']}"
    answered: SimpleQueue[str] = SimpleQueue()
    question = Question(name=label, label=label, session=block.session(), version_id=str(result["version_id"]))
    Questions(answered.put).ask(question)
    answered.get()
    return look()


def pause_key(name: str) -> str:
    """A key of a pause, in the letters that Prefect allows.

    >>> pause_key("nyc.training_v2.approve")
    'nyc-training-v2-approve'
    """
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "approve"
