from collections.abc import Callable
from typing import Any, TypeVar

_Record = TypeVar("_Record", bound=tuple[Any, ...])

class Sender:
    """What `http.wire._direct` makes, for one plain TCP transport."""

    def __init__(self, transport: Any, failed: Callable[[], object], /) -> None: ...
    def __call__(self, data: bytes, /) -> bool: ...

class Passage:
    """
    Passes a body on, as `_receive_body` of its source and `bodyReceived` of its direction do.

    Of a chunked body only what comes as whole chunks without extensions, and not the last of them; of
    one with a length (`counted`) all but its last byte.  Only while the source's attribute `role` is
    `receiver`, the direction's sink is `sink`, and nothing of `unusual` is true.
    """

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
        unusual: tuple[tuple[object, str], ...],
        counted: Any,
        shared: memoryview | None,
        sending: Callable[[], object] | None,
        now: Callable[[], float],
        patience: float,
        least: int,
        largest: int,
    ) -> None: ...

class Reader:
    """What `http.wire.read_directly` puts in the place of a transport's `doRead`."""

    passage: Passage | None
    """Where what was read goes first."""

    def __init__(
        self,
        transport: Any,
        received: Callable[[bytes], object],
        landing: Callable[[], memoryview | None],
        filled: Callable[[Any], object],
        largest: int,
        /,
    ) -> None: ...
    def __call__(self) -> Exception | None: ...

class Writing:
    """`CaptureWriter.write`, where all is as usual; where it is not, `writer.write` is called."""

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
    """`logserver.system.System.create`, with one call and the interpreter's lock let go of once."""

def split(
    data: bytes, record: type[_Record], kinds: tuple[int, ...], most: int, /
) -> tuple[list[_Record], int]:
    """The whole records that `data` begins with, as `RecordReader.feed` gives them, and where they end."""
