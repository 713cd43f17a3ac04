"""Work in threads when the flow run is told to stop. That it is so with Prefect's own signal is in `e2e/prefect/test_server`."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress

import pytest
from prefect.exceptions import TerminationSignal

from dataset_tasks.progress import SILENT, Progress, Watched
from prefect_blocks.stopping import ASKED, Stop, is_ending


def stoppable() -> Progress:
    return Watched(SILENT, Stop().look)


def many_pieces(progress: Progress, done: list[int], go_on: Callable[[], object]) -> None:
    with progress.task("upload") as task:
        for piece in range(1000):
            task.advance(files=1)
            done.append(piece)
            go_on()


def test_a_thread_stops_at_its_next_piece_once_the_main_thread_leaves_the_flow() -> None:
    """As Prefect does it: the signal is an exception, and the end of the task runner waits for its threads."""
    done: list[int] = []
    first, leaving = threading.Event(), threading.Event()

    @contextmanager
    def task_runner() -> Iterator[ThreadPoolExecutor]:
        with ThreadPoolExecutor(1) as pool:
            try:
                yield pool
            finally:
                leaving.set()

    def after_each() -> None:
        first.set()
        leaving.wait()

    with pytest.raises(TerminationSignal), ExitStack() as stack:
        pool = stack.enter_context(task_runner())
        future = pool.submit(many_pieces, stoppable(), done, after_each)
        first.wait()
        raise TerminationSignal(signal=signal.SIGTERM)
    assert isinstance(future.exception(), TerminationSignal)
    assert done == [0]


def test_a_function_that_reports_nothing_is_stopped_where_it_stands_once_the_main_thread_leaves_the_flow() -> None:
    """The main thread waits for the thread, as the end of Prefect's task runner does."""
    began, given_up = threading.Event(), threading.Event()

    def users_own() -> None:
        with Stop(look=0.01, asked=0.01):
            began.set()
            while not given_up.is_set():
                pass

    timer = threading.Timer(60.0, given_up.set)  # a failure ends, too
    timer.start()
    with ThreadPoolExecutor(1) as pool:
        try:
            raise TerminationSignal(signal=signal.SIGTERM)
        except TerminationSignal:
            error = pool.submit(users_own).exception()
    timer.cancel()
    assert began.is_set()
    assert isinstance(error, TerminationSignal)


def test_nothing_is_raised_into_a_thread_once_its_work_is_over() -> None:
    """The watch has seen the end of the flow, and waits for the work to end by itself, when it does."""
    waiting, done = threading.Event(), threading.Event()

    class Waits(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            if timeout == ASKED:
                waiting.set()
                done.wait()
                return False  # the time is up just when the work ends
            return super().wait(0)

    def work() -> str:
        stop = Stop(look=0.01)
        stop._over = Waits()
        with stop:
            waiting.wait()
        done.set()
        for thread in threading.enumerate():
            if thread.name == "dataset-stop":
                thread.join()
        return "done"

    with ThreadPoolExecutor(1) as pool:
        try:
            raise TerminationSignal(signal=signal.SIGTERM)
        except TerminationSignal:
            assert pool.submit(work).result() == "done"


@pytest.mark.parametrize("in_main_thread", [True, False])
def test_a_watch_ends_with_what_it_watches(in_main_thread: bool) -> None:
    def watches() -> set[threading.Thread]:
        return {thread for thread in threading.enumerate() if thread.name == "dataset-stop"} - before

    def during() -> set[threading.Thread]:
        with Stop(look=0.01):
            return watches()

    before: set[threading.Thread] = set()
    before = watches()

    with ThreadPoolExecutor(1) as pool:
        assert bool(during() if in_main_thread else pool.submit(during).result()) is not in_main_thread
    for thread in watches():
        thread.join(60)
    assert not watches()


def test_what_cleans_up_is_not_stopped_again() -> None:
    progress = stoppable()
    done: list[int] = []

    def work() -> None:
        try:
            many_pieces(progress, done, int)
        finally:
            many_pieces(progress, done, int)

    with ThreadPoolExecutor(1) as pool:
        try:
            raise TerminationSignal(signal=signal.SIGTERM)
        except TerminationSignal:
            assert isinstance(pool.submit(work).exception(), TerminationSignal)
    assert len(done) == 1000


def test_the_main_thread_itself_is_left_alone_as_prefect_has_told_it_already() -> None:
    done: list[int] = []
    try:
        raise TerminationSignal(signal=signal.SIGTERM)
    except TerminationSignal:
        many_pieces(stoppable(), done, int)
    assert len(done) == 1000


@pytest.mark.parametrize("error", [None, ValueError("of the flow"), KeyboardInterrupt()])
def test_a_flow_that_ends_in_another_way_lets_its_threads_come_to_their_end(error: BaseException | None) -> None:
    done: list[int] = []
    with ThreadPoolExecutor(1) as pool, suppress(ValueError, KeyboardInterrupt):
        try:
            if error is not None:
                raise error
        finally:
            pool.submit(many_pieces, stoppable(), done, int).result()
    assert len(done) == 1000


def test_an_error_on_the_way_out_does_not_hide_the_signal() -> None:
    with ThreadPoolExecutor(1) as pool:
        try:
            raise TerminationSignal(signal=signal.SIGTERM)
        except TerminationSignal:
            try:
                raise OSError("the API is away")
            except OSError:
                assert pool.submit(is_ending).result()
    assert not is_ending()
