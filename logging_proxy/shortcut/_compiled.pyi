from collections.abc import Callable
from typing import Any, TypeVar

_Record = TypeVar("_Record", bound=tuple[Any, ...])

class Sender:
    """What `http.wire._direct` makes, for one plain TCP transport."""

    def __init__(self, transport: Any, /) -> None: ...
    def __call__(self, data: bytes, /) -> bool: ...

class Passage:
    """
    Passes on a chunked body, as `ProxyClient._receive_body` and `ResponseHalf.bodyReceived` do.

    Only what comes as whole chunks without extensions, and not the last of them.
    """

    def __init__(
        self,
        *,
        source: Any,
        body: Any,
        half: Any,
        send: Sender,
        passed: Callable[..., object] | None,
        writer: Any,
        kind: int,
        now: Callable[[], float],
        patience: float,
    ) -> None: ...

class Reader:
    """What `http.wire.read_directly` puts in the place of a transport's `doRead`."""

    passage: Passage | None
    """Where what was read goes first, as long as its half is the receiver of its source."""

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
    """`logserver.files.System.create`, with one call and the interpreter's lock let go of once."""

def split(
    data: bytes, record: type[_Record], kinds: tuple[int, ...], most: int, /
) -> tuple[list[_Record], int]:
    """The whole records that `data` begins with, as `RecordReader.feed` gives them, and where they end."""
