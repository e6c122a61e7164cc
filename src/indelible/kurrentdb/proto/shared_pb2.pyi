from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Nothing(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Uuid(_message.Message):
    __slots__ = ("structured", "text")
    class Halves(_message.Message):
        __slots__ = ("most_significant_bits", "least_significant_bits")
        MOST_SIGNIFICANT_BITS_FIELD_NUMBER: _ClassVar[int]
        LEAST_SIGNIFICANT_BITS_FIELD_NUMBER: _ClassVar[int]
        most_significant_bits: int
        least_significant_bits: int
        def __init__(self, most_significant_bits: _Optional[int] = ..., least_significant_bits: _Optional[int] = ...) -> None: ...
    STRUCTURED_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    structured: Uuid.Halves
    text: str
    def __init__(self, structured: _Optional[_Union[Uuid.Halves, _Mapping]] = ..., text: _Optional[str] = ...) -> None: ...

class StreamIdentifier(_message.Message):
    __slots__ = ("stream_name",)
    STREAM_NAME_FIELD_NUMBER: _ClassVar[int]
    stream_name: bytes
    def __init__(self, stream_name: _Optional[bytes] = ...) -> None: ...

class Position(_message.Message):
    __slots__ = ("commit_position", "prepare_position")
    COMMIT_POSITION_FIELD_NUMBER: _ClassVar[int]
    PREPARE_POSITION_FIELD_NUMBER: _ClassVar[int]
    commit_position: int
    prepare_position: int
    def __init__(self, commit_position: _Optional[int] = ..., prepare_position: _Optional[int] = ...) -> None: ...

class WrongExpectedVersion(_message.Message):
    __slots__ = ("current_stream_revision", "current_no_stream", "expected_stream_position", "expected_any", "expected_stream_exists", "expected_no_stream")
    CURRENT_STREAM_REVISION_FIELD_NUMBER: _ClassVar[int]
    CURRENT_NO_STREAM_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_STREAM_POSITION_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_ANY_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_STREAM_EXISTS_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_NO_STREAM_FIELD_NUMBER: _ClassVar[int]
    current_stream_revision: int
    current_no_stream: Nothing
    expected_stream_position: int
    expected_any: Nothing
    expected_stream_exists: Nothing
    expected_no_stream: Nothing
    def __init__(self, current_stream_revision: _Optional[int] = ..., current_no_stream: _Optional[_Union[Nothing, _Mapping]] = ..., expected_stream_position: _Optional[int] = ..., expected_any: _Optional[_Union[Nothing, _Mapping]] = ..., expected_stream_exists: _Optional[_Union[Nothing, _Mapping]] = ..., expected_no_stream: _Optional[_Union[Nothing, _Mapping]] = ...) -> None: ...

class StreamDeleted(_message.Message):
    __slots__ = ("stream_identifier",)
    STREAM_IDENTIFIER_FIELD_NUMBER: _ClassVar[int]
    stream_identifier: StreamIdentifier
    def __init__(self, stream_identifier: _Optional[_Union[StreamIdentifier, _Mapping]] = ...) -> None: ...

class MaximumAppendSizeExceeded(_message.Message):
    __slots__ = ("max_append_size",)
    MAX_APPEND_SIZE_FIELD_NUMBER: _ClassVar[int]
    max_append_size: int
    def __init__(self, max_append_size: _Optional[int] = ...) -> None: ...

class MaximumAppendEventSizeExceeded(_message.Message):
    __slots__ = ("event_id", "proposed_event_size", "max_append_event_size")
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    PROPOSED_EVENT_SIZE_FIELD_NUMBER: _ClassVar[int]
    MAX_APPEND_EVENT_SIZE_FIELD_NUMBER: _ClassVar[int]
    event_id: str
    proposed_event_size: int
    max_append_event_size: int
    def __init__(self, event_id: _Optional[str] = ..., proposed_event_size: _Optional[int] = ..., max_append_event_size: _Optional[int] = ...) -> None: ...

class BadRequest(_message.Message):
    __slots__ = ("message",)
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    message: str
    def __init__(self, message: _Optional[str] = ...) -> None: ...
