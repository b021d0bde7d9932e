from collections.abc import Callable
from typing import Any, TypeVar

_Record = TypeVar("_Record", bound=tuple[Any, ...])

class Sender:
    """The C version of the function from `net.wire._direct`, for one plain TCP transport."""

    def __init__(self, transport: Any, failed: Callable[[], object], /) -> None: ...
    def __call__(self, data: bytes, /) -> bool: ...

class FastPath:
    """
    Forwards a body, as `_receive_body` of its source and `bodyReceived` of its direction would.

    It handles whole chunks without extensions, except the last one, of a chunked body, and all but the last
    byte of a body with a length (`counted`).  It does so only while the source's attribute `role` is
    `receiver`, the direction's sink is `sink`, and no attribute in `must_be_false` is true.
    """

    @property
    def passed(self) -> int:
        """Bytes of payload that it has forwarded."""

    def __init__(
        self,
        *,
        source: Any,
        role: str,
        receiver: Any,
        direction: Any,
        sink: Any,
        send: Sender,
        exchange: int | None,
        writer: Any,
        writing: Writing | None,
        kind: int,
        must_be_false: tuple[tuple[object, str], ...],
        counted: Any,
        shared: memoryview | None,
        sending: Callable[[], object] | None,
        now: Callable[[], float],
        patience: float,
        least: int,
        largest: int,
    ) -> None: ...

class Reader:
    """The C version of the `doRead` that `net.wire.read_directly` installs."""

    fast_path: FastPath | None
    """Gets data first; `received` gets the data that it does not handle."""

    def __init__(
        self,
        transport: Any,
        received: Callable[[bytes], object],
        read_buffer: Callable[[], memoryview | None],
        filled: Callable[[Any], object],
        largest: int,
        /,
    ) -> None: ...
    def __call__(self) -> Exception | None: ...

class Writing:
    """The C version of `CaptureWriter.write` for the ordinary case; in any other it calls `writer.write`."""

    def __init__(
        self,
        writer: Any,
        ring: Any,
        stored: Callable[[], None],
        now: Callable[[], int],
        /,
    ) -> None: ...
    def __call__(self, exchange: int, records: Any, /) -> None: ...

def create(name: str, data: bytes, folder: int, /) -> bool:
    """`logserver.store.system.System.create` in one call, which releases the interpreter's lock once."""

def split(
    data: bytes, record: type[_Record], kinds: tuple[int, ...], most: int, /
) -> tuple[list[_Record], int]:
    """The whole records at the beginning of `data`, as from `RecordReader.feed`, and where they end."""
