"""What pytest is told inside a forked process: which tests, in which order, what to report."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Generator, Iterable
from typing import Any

import pytest

Send = Callable[[dict[str, Any]], None]


def sender(descriptor: int) -> Send:
    """Return a function that writes one line of JSON to a pipe."""

    def send(message: dict[str, Any]) -> None:
        os.write(descriptor, json.dumps(message).encode() + b"\n")

    return send


def wide_fixtures(item: pytest.Item) -> list[str]:
    """Return the fixtures of a test that are set up once for several tests."""
    found = getattr(item, "_fixtureinfo", None)
    last = [each[-1] for each in found.name2fixturedefs.values()] if found else []
    return [_fixture_name(each) for each in last if each.scope != "function"]


def _fixture_name(fixture: Any) -> str:
    return f"fixture {fixture.baseid} {fixture.argname}"


def cpu_seconds() -> float:
    """Return the processor time of this process and of the programs that it has waited for."""
    times = os.times()
    return time.process_time() + times.children_user + times.children_system


class Timekeeper:
    """Report each test before it starts, its processor time after it, and failures."""

    def __init__(self, send: Send) -> None:
        self.send = send

    def pytest_configure(self) -> None:
        # The same examples each time, and no limits of time: no mutant dies by chance.
        from hypothesis import HealthCheck, settings

        settings.register_profile(
            "mutation",
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        settings.load_profile("mutation")

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, Any, Any]:
        self.send({"start": item.nodeid})
        started = cpu_seconds()
        result = yield
        self.send({"end": item.nodeid, "seconds": cpu_seconds() - started})
        return result

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            crash = getattr(report.longrepr, "reprcrash", None)
            text = str(crash.message if crash else report.longrepr).strip()
            self.send({"failed": report.nodeid, "why": text.partition("\n")[0][:200]})
        if report.skipped:
            self.send({"skipped": report.nodeid})

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Generator[None, Any, Any]:
        started = cpu_seconds()
        result = yield
        if fixturedef.scope != "function":
            self.send({"fixture": _fixture_name(fixturedef), "seconds": cpu_seconds() - started})
        return result


class Selection:
    """Run the tests that were chosen, in their order.

    A mutant may change the names of parametrised tests. Where a chosen test is gone, all run.
    """

    def __init__(self, chosen: Iterable[str]) -> None:
        self.order = {nodeid: i for i, nodeid in enumerate(chosen)}

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        if self.order.keys() <= {item.nodeid for item in items}:
            items[:] = [item for item in items if item.nodeid in self.order]
            items.sort(key=lambda item: self.order[item.nodeid])


class Recorder:
    """Tell coverage which test, or which wide fixture, runs. Report which tests use which."""

    def __init__(self, send: Send, coverage: Any) -> None:
        self.send = send
        self.coverage = coverage
        self.context = ""

    def _switch(self, context: str) -> str:
        before, self.context = self.context, context
        self.coverage.switch_context(context)
        os.environ["SQUEEZENET_CONTEXT"] = context
        return before

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        for item in session.items:
            self.send({"test": item.nodeid, "uses": wide_fixtures(item)})

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, Any, Any]:
        self._switch(item.nodeid)
        result = yield
        self._switch("")
        return result

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Generator[None, Any, Any]:
        if fixturedef.scope == "function":
            return (yield)
        before = self._switch(_fixture_name(fixturedef))
        try:
            return (yield)
        finally:
            self._switch(before)
