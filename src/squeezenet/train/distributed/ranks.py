"""What the processes of one job say to each other.

Every method is called by all ranks, in the same order, or they wait for each other until the time
limit. An error that a rank meets in ``together`` or ``on_main`` ends all ranks with its message and
exit code, instead of leaving the others to wait.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from squeezenet.arch.serialization import to_plain
from squeezenet.errors import DistributedError, SqueezeNetError
from squeezenet.images.bad import BadImages
from squeezenet.launch import Launch

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """This process among those of its job.

    ``patient_group`` is a process group without a time limit, for waiting while one rank works
    alone. None if there is one rank.
    """

    launch: Launch = field(default_factory=Launch)
    patient_group: Any = None

    @property
    def rank(self) -> int:
        return self.launch.rank

    @property
    def size(self) -> int:
        return self.launch.num_ranks

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, which alone writes and shows progress."""
        return self.launch.is_main

    def sum(self, values: Sequence[float]) -> list[float]:
        """Return the sums over all ranks, the same on each.

        Raises:
            DistributedError: another rank is gone.
        """
        if self.size == 1:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.float64)
        self.call(lambda: dist.all_reduce(tensor))
        return tensor.tolist()

    def add(self, tensors: Sequence[torch.Tensor], factor: float = 1.0) -> None:
        """Replace tensors of one floating-point type by ``factor`` times their sums over ranks."""
        if self.size == 1 or not tensors:
            return
        flat = torch.cat([tensor.detach().flatten() for tensor in tensors])
        self.call(lambda: dist.all_reduce(flat))
        flat *= factor
        with torch.no_grad():
            parts = torch.split(flat, [tensor.numel() for tensor in tensors])
            for tensor, part in zip(tensors, parts, strict=True):
                tensor.copy_(part.view(tensor.shape))

    def gather(self, value: T) -> list[T]:
        """Return the value of every rank, in their order."""
        if self.size == 1:
            return [value]
        values: list[T] = [value] * self.size
        self.call(lambda: dist.all_gather_object(values, value, group=self.patient_group))
        return values

    def broadcast(self, value: T) -> T:
        """Return rank 0's value."""
        if self.size == 1:
            return value
        values: list[Any] = [value if self.is_main else None]
        self.call(lambda: dist.broadcast_object_list(values, src=0, group=self.patient_group))
        result: T = values[0]
        return result

    def on_main(self, work: Callable[[], T]) -> T:
        """Let rank 0 do something, and return what it returns.

        Raises:
            SqueezeNetError: rank 0's error, on every rank.
        """
        mine: Callable[[], T] = work if self.is_main else _nothing
        return self.broadcast(self.together(mine))

    def together(self, work: Callable[[], T]) -> T:
        """Return what ``work`` returns on this rank, once it has succeeded on all.

        Raises:
            SqueezeNetError: this rank's error, else that of the first rank that has one.
        """
        if self.size == 1:
            return work()
        try:
            result = work()
        except (SqueezeNetError, OSError) as error:
            self.fail_together(error)
        self.fail_together(None)
        return result

    def fail_together(self, error: SqueezeNetError | OSError | None) -> None:
        """Raise an error on every rank, if one of them has any.

        Raises:
            SqueezeNetError: as ``together`` does.
        """
        mine = None if error is None else (_message(error), getattr(error, "exit_code", 1))
        found = self.gather(mine)
        if error is not None:
            if not isinstance(error, SqueezeNetError):
                error = DistributedError(_message(error))
            error.is_shared = True
            raise error
        for rank, report in enumerate(found):
            if report is not None:
                message, exit_code = report
                other = DistributedError(f"rank {rank}: {message}", exit_code=exit_code)
                other.is_shared = True
                raise other

    def require_equal(self, settings: dict[str, Any]) -> None:
        """Refuse to go on with ranks that were given different settings.

        Raises:
            DistributedError: names the first rank, and the setting that differs from rank 0's.
        """
        if self.size == 1:
            return
        mine = json.loads(json.dumps(to_plain(settings)))
        main = self.broadcast(mine)
        self.together(lambda: _require_same(main, mine))

    def collect(self, bad: BadImages) -> None:
        """Add the unreadable images that other ranks met to rank 0's, which then reports them."""
        for found in self.gather(bad.found):
            if self.is_main:
                bad.merge(found)

    def call(self, work: Callable[[], Any]) -> Any:
        """Do something that waits for other ranks.

        Raises:
            DistributedError: another rank is gone, or did not answer within the time limit.
        """
        try:
            return work()
        except RuntimeError as error:
            if self.size == 1 or not is_connection_error(error):
                raise
            raise DistributedError(
                f"lost another rank ({connection_reason(error)}), whose own message says why; "
                "start all ranks again to go on from the last checkpoint, as torchrun "
                "--max-restarts does by itself"
            ) from None


ONE_RANK = Ranks()
"""A process alone."""


def is_connection_error(error: RuntimeError) -> bool:
    """Whether the error is of the connection between ranks, not of what they compute."""
    text = str(error)
    return isinstance(error, dist.DistError) or any(
        sign in text for sign in ("gloo", "Connection", "Timed out", "NCCL", "Socket")
    )


def connection_reason(error: Exception) -> str:
    """Return why a connection failed, without what is for torch's developers."""
    text = " ".join(str(error).split())
    known = re.search(
        r"(Connection (?:closed|reset) by peer|[Tt]imed out[^.(]*|[Rr]efused|No route to host|"
        r"Name or service not known|Address already in use)",
        text,
    )
    return known[0].strip() if known else text[:160]


def _nothing() -> Any:
    return None


def _message(error: SqueezeNetError | OSError) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


def _require_same(main: dict[str, Any], mine: dict[str, Any]) -> None:
    for key in sorted(set(main) | set(mine)):
        a, b, path = main.get(key), mine.get(key), key
        if a == b:
            continue
        while isinstance(a, dict) and isinstance(b, dict):
            inner = next(k for k in sorted(set(a) | set(b)) if a.get(k) != b.get(k))
            path, a, b = f"{path}.{inner}", a.get(inner), b.get(inner)
        raise DistributedError(
            f"{path} is {_short(b)} here and {_short(a)} on rank 0; start all ranks with the same "
            "arguments",
            exit_code=2,
        )


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
