import datetime

from google.protobuf import any_pb2 as _any_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import empty_pb2 as _empty_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from indelible.kurrentdb.proto import shared_pb2 as _shared_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ReadRequest(_message.Message):
    __slots__ = ("options",)
    class Direction(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        FORWARDS: _ClassVar[ReadRequest.Direction]
        BACKWARDS: _ClassVar[ReadRequest.Direction]
    FORWARDS: ReadRequest.Direction
    BACKWARDS: ReadRequest.Direction
    class StreamStart(_message.Message):
        __slots__ = ("stream_identifier", "revision", "first", "end")
        STREAM_IDENTIFIER_FIELD_NUMBER: _ClassVar[int]
        REVISION_FIELD_NUMBER: _ClassVar[int]
        FIRST_FIELD_NUMBER: _ClassVar[int]
        END_FIELD_NUMBER: _ClassVar[int]
        stream_identifier: _shared_pb2.StreamIdentifier
        revision: int
        first: _shared_pb2.Nothing
        end: _shared_pb2.Nothing
        def __init__(self, stream_identifier: _Optional[_Union[_shared_pb2.StreamIdentifier, _Mapping]] = ..., revision: _Optional[int] = ..., first: _Optional[_Union[_shared_pb2.Nothing, _Mapping]] = ..., end: _Optional[_Union[_shared_pb2.Nothing, _Mapping]] = ...) -> None: ...
    class LogStart(_message.Message):
        __slots__ = ("position", "first", "end")
        POSITION_FIELD_NUMBER: _ClassVar[int]
        FIRST_FIELD_NUMBER: _ClassVar[int]
        END_FIELD_NUMBER: _ClassVar[int]
        position: _shared_pb2.Position
        first: _shared_pb2.Nothing
        end: _shared_pb2.Nothing
        def __init__(self, position: _Optional[_Union[_shared_pb2.Position, _Mapping]] = ..., first: _Optional[_Union[_shared_pb2.Nothing, _Mapping]] = ..., end: _Optional[_Union[_shared_pb2.Nothing, _Mapping]] = ...) -> None: ...
    class Expression(_message.Message):
        __slots__ = ("regex", "prefix")
        REGEX_FIELD_NUMBER: _ClassVar[int]
        PREFIX_FIELD_NUMBER: _ClassVar[int]
        regex: str
        prefix: _containers.RepeatedScalarFieldContainer[str]
        def __init__(self, regex: _Optional[str] = ..., prefix: _Optional[_Iterable[str]] = ...) -> None: ...
    class Filter(_message.Message):
        __slots__ = ("stream_identifier", "event_type", "max", "count", "checkpoint_interval_multiplier")
        STREAM_IDENTIFIER_FIELD_NUMBER: _ClassVar[int]
        EVENT_TYPE_FIELD_NUMBER: _ClassVar[int]
        MAX_FIELD_NUMBER: _ClassVar[int]
        COUNT_FIELD_NUMBER: _ClassVar[int]
        CHECKPOINT_INTERVAL_MULTIPLIER_FIELD_NUMBER: _ClassVar[int]
        stream_identifier: ReadRequest.Expression
        event_type: ReadRequest.Expression
        max: int
        count: _shared_pb2.Nothing
        checkpoint_interval_multiplier: int
        def __init__(self, stream_identifier: _Optional[_Union[ReadRequest.Expression, _Mapping]] = ..., event_type: _Optional[_Union[ReadRequest.Expression, _Mapping]] = ..., max: _Optional[int] = ..., count: _Optional[_Union[_shared_pb2.Nothing, _Mapping]] = ..., checkpoint_interval_multiplier: _Optional[int] = ...) -> None: ...
    class UuidForm(_message.Message):
        __slots__ = ("structured", "text")
        STRUCTURED_FIELD_NUMBER: _ClassVar[int]
        TEXT_FIELD_NUMBER: _ClassVar[int]
        structured: _shared_pb2.Nothing
        text: _shared_pb2.Nothing
        def __init__(self, structured: _Optional[_Union[_shared_pb2.Nothing, _Mapping]] = ..., text: _Optional[_Union[_shared_pb2.Nothing, _Mapping]] = ...) -> None: ...
    class Control(_message.Message):
        __slots__ = ("compatibility",)
        COMPATIBILITY_FIELD_NUMBER: _ClassVar[int]
        compatibility: int
        def __init__(self, compatibility: _Optional[int] = ...) -> None: ...
    class Options(_message.Message):
        __slots__ = ("stream", "all", "read_direction", "resolve_links", "count", "subscription", "filter", "no_filter", "uuid_option", "control_option")
        STREAM_FIELD_NUMBER: _ClassVar[int]
        ALL_FIELD_NUMBER: _ClassVar[int]
        READ_DIRECTION_FIELD_NUMBER: _ClassVar[int]
        RESOLVE_LINKS_FIELD_NUMBER: _ClassVar[int]
        COUNT_FIELD_NUMBER: _ClassVar[int]
        SUBSCRIPTION_FIELD_NUMBER: _ClassVar[int]
        FILTER_FIELD_NUMBER: _ClassVar[int]
        NO_FILTER_FIELD_NUMBER: _ClassVar[int]
        UUID_OPTION_FIELD_NUMBER: _ClassVar[int]
        CONTROL_OPTION_FIELD_NUMBER: _ClassVar[int]
        stream: ReadRequest.StreamStart
        all: ReadRequest.LogStart
        read_direction: ReadRequest.Direction
        resolve_links: bool
        count: int
        subscription: _shared_pb2.Nothing
        filter: ReadRequest.Filter
        no_filter: _shared_pb2.Nothing
        uuid_option: ReadRequest.UuidForm
        control_option: ReadRequest.Control
        def __init__(self, stream: _Optional[_Union[ReadRequest.StreamStart, _Mapping]] = ..., all: _Optional[_Union[ReadRequest.LogStart, _Mapping]] = ..., read_direction: _Optional[_Union[ReadRequest.Direction, str]] = ..., resolve_links: _Optional[bool] = ..., count: _Optional[int] = ..., subscription: _Optional[_Union[_shared_pb2.Nothing, _Mapping]] = ..., filter: _Optional[_Union[ReadRequest.Filter, _Mapping]] = ..., no_filter: _Optional[_Union[_shared_pb2.Nothing, _Mapping]] = ..., uuid_option: _Optional[_Union[ReadRequest.UuidForm, _Mapping]] = ..., control_option: _Optional[_Union[ReadRequest.Control, _Mapping]] = ...) -> None: ...
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    options: ReadRequest.Options
    def __init__(self, options: _Optional[_Union[ReadRequest.Options, _Mapping]] = ...) -> None: ...

class RecordedEvent(_message.Message):
    __slots__ = ("id", "stream_identifier", "stream_revision", "prepare_position", "commit_position", "metadata", "custom_metadata", "data")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    STREAM_IDENTIFIER_FIELD_NUMBER: _ClassVar[int]
    STREAM_REVISION_FIELD_NUMBER: _ClassVar[int]
    PREPARE_POSITION_FIELD_NUMBER: _ClassVar[int]
    COMMIT_POSITION_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    CUSTOM_METADATA_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    id: _shared_pb2.Uuid
    stream_identifier: _shared_pb2.StreamIdentifier
    stream_revision: int
    prepare_position: int
    commit_position: int
    metadata: _containers.ScalarMap[str, str]
    custom_metadata: bytes
    data: bytes
    def __init__(self, id: _Optional[_Union[_shared_pb2.Uuid, _Mapping]] = ..., stream_identifier: _Optional[_Union[_shared_pb2.StreamIdentifier, _Mapping]] = ..., stream_revision: _Optional[int] = ..., prepare_position: _Optional[int] = ..., commit_position: _Optional[int] = ..., metadata: _Optional[_Mapping[str, str]] = ..., custom_metadata: _Optional[bytes] = ..., data: _Optional[bytes] = ...) -> None: ...

class ReadEvent(_message.Message):
    __slots__ = ("event", "link", "commit_position", "no_position")
    EVENT_FIELD_NUMBER: _ClassVar[int]
    LINK_FIELD_NUMBER: _ClassVar[int]
    COMMIT_POSITION_FIELD_NUMBER: _ClassVar[int]
    NO_POSITION_FIELD_NUMBER: _ClassVar[int]
    event: RecordedEvent
    link: RecordedEvent
    commit_position: int
    no_position: _shared_pb2.Nothing
    def __init__(self, event: _Optional[_Union[RecordedEvent, _Mapping]] = ..., link: _Optional[_Union[RecordedEvent, _Mapping]] = ..., commit_position: _Optional[int] = ..., no_position: _Optional[_Union[_shared_pb2.Nothing, _Mapping]] = ...) -> None: ...

class ReadAnswer(_message.Message):
    __slots__ = ("event", "confirmation", "checkpoint", "stream_not_found", "first_stream_position", "last_stream_position", "last_all_stream_position", "caught_up", "fell_behind")
    class Confirmation(_message.Message):
        __slots__ = ("subscription_id",)
        SUBSCRIPTION_ID_FIELD_NUMBER: _ClassVar[int]
        subscription_id: str
        def __init__(self, subscription_id: _Optional[str] = ...) -> None: ...
    class Checkpoint(_message.Message):
        __slots__ = ("commit_position", "prepare_position", "timestamp")
        COMMIT_POSITION_FIELD_NUMBER: _ClassVar[int]
        PREPARE_POSITION_FIELD_NUMBER: _ClassVar[int]
        TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
        commit_position: int
        prepare_position: int
        timestamp: _timestamp_pb2.Timestamp
        def __init__(self, commit_position: _Optional[int] = ..., prepare_position: _Optional[int] = ..., timestamp: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...
    class StreamNotFound(_message.Message):
        __slots__ = ("stream_identifier",)
        STREAM_IDENTIFIER_FIELD_NUMBER: _ClassVar[int]
        stream_identifier: _shared_pb2.StreamIdentifier
        def __init__(self, stream_identifier: _Optional[_Union[_shared_pb2.StreamIdentifier, _Mapping]] = ...) -> None: ...
    class Progress(_message.Message):
        __slots__ = ("timestamp", "stream_revision", "position")
        TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
        STREAM_REVISION_FIELD_NUMBER: _ClassVar[int]
        POSITION_FIELD_NUMBER: _ClassVar[int]
        timestamp: _timestamp_pb2.Timestamp
        stream_revision: int
        position: _shared_pb2.Position
        def __init__(self, timestamp: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., stream_revision: _Optional[int] = ..., position: _Optional[_Union[_shared_pb2.Position, _Mapping]] = ...) -> None: ...
    EVENT_FIELD_NUMBER: _ClassVar[int]
    CONFIRMATION_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    STREAM_NOT_FOUND_FIELD_NUMBER: _ClassVar[int]
    FIRST_STREAM_POSITION_FIELD_NUMBER: _ClassVar[int]
    LAST_STREAM_POSITION_FIELD_NUMBER: _ClassVar[int]
    LAST_ALL_STREAM_POSITION_FIELD_NUMBER: _ClassVar[int]
    CAUGHT_UP_FIELD_NUMBER: _ClassVar[int]
    FELL_BEHIND_FIELD_NUMBER: _ClassVar[int]
    event: ReadEvent
    confirmation: ReadAnswer.Confirmation
    checkpoint: ReadAnswer.Checkpoint
    stream_not_found: ReadAnswer.StreamNotFound
    first_stream_position: int
    last_stream_position: int
    last_all_stream_position: _shared_pb2.Position
    caught_up: ReadAnswer.Progress
    fell_behind: ReadAnswer.Progress
    def __init__(self, event: _Optional[_Union[ReadEvent, _Mapping]] = ..., confirmation: _Optional[_Union[ReadAnswer.Confirmation, _Mapping]] = ..., checkpoint: _Optional[_Union[ReadAnswer.Checkpoint, _Mapping]] = ..., stream_not_found: _Optional[_Union[ReadAnswer.StreamNotFound, _Mapping]] = ..., first_stream_position: _Optional[int] = ..., last_stream_position: _Optional[int] = ..., last_all_stream_position: _Optional[_Union[_shared_pb2.Position, _Mapping]] = ..., caught_up: _Optional[_Union[ReadAnswer.Progress, _Mapping]] = ..., fell_behind: _Optional[_Union[ReadAnswer.Progress, _Mapping]] = ...) -> None: ...

class ProposedMessage(_message.Message):
    __slots__ = ("id", "metadata", "custom_metadata", "data")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    CUSTOM_METADATA_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    id: _shared_pb2.Uuid
    metadata: _containers.ScalarMap[str, str]
    custom_metadata: bytes
    data: bytes
    def __init__(self, id: _Optional[_Union[_shared_pb2.Uuid, _Mapping]] = ..., metadata: _Optional[_Mapping[str, str]] = ..., custom_metadata: _Optional[bytes] = ..., data: _Optional[bytes] = ...) -> None: ...

class AppendRequest(_message.Message):
    __slots__ = ("options", "proposed_message")
    class Options(_message.Message):
        __slots__ = ("stream_identifier", "revision", "no_stream", "any", "stream_exists")
        STREAM_IDENTIFIER_FIELD_NUMBER: _ClassVar[int]
        REVISION_FIELD_NUMBER: _ClassVar[int]
        NO_STREAM_FIELD_NUMBER: _ClassVar[int]
        ANY_FIELD_NUMBER: _ClassVar[int]
        STREAM_EXISTS_FIELD_NUMBER: _ClassVar[int]
        stream_identifier: _shared_pb2.StreamIdentifier
        revision: int
        no_stream: _shared_pb2.Nothing
        any: _shared_pb2.Nothing
        stream_exists: _shared_pb2.Nothing
        def __init__(self, stream_identifier: _Optional[_Union[_shared_pb2.StreamIdentifier, _Mapping]] = ..., revision: _Optional[int] = ..., no_stream: _Optional[_Union[_shared_pb2.Nothing, _Mapping]] = ..., any: _Optional[_Union[_shared_pb2.Nothing, _Mapping]] = ..., stream_exists: _Optional[_Union[_shared_pb2.Nothing, _Mapping]] = ...) -> None: ...
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    PROPOSED_MESSAGE_FIELD_NUMBER: _ClassVar[int]
    options: AppendRequest.Options
    proposed_message: ProposedMessage
    def __init__(self, options: _Optional[_Union[AppendRequest.Options, _Mapping]] = ..., proposed_message: _Optional[_Union[ProposedMessage, _Mapping]] = ...) -> None: ...

class AppendAnswer(_message.Message):
    __slots__ = ("success", "wrong_expected_version")
    class Success(_message.Message):
        __slots__ = ("current_revision", "no_stream", "position", "no_position")
        CURRENT_REVISION_FIELD_NUMBER: _ClassVar[int]
        NO_STREAM_FIELD_NUMBER: _ClassVar[int]
        POSITION_FIELD_NUMBER: _ClassVar[int]
        NO_POSITION_FIELD_NUMBER: _ClassVar[int]
        current_revision: int
        no_stream: _shared_pb2.Nothing
        position: _shared_pb2.Position
        no_position: _shared_pb2.Nothing
        def __init__(self, current_revision: _Optional[int] = ..., no_stream: _Optional[_Union[_shared_pb2.Nothing, _Mapping]] = ..., position: _Optional[_Union[_shared_pb2.Position, _Mapping]] = ..., no_position: _Optional[_Union[_shared_pb2.Nothing, _Mapping]] = ...) -> None: ...
    class WrongVersion(_message.Message):
        __slots__ = ("old_current_revision", "old_no_stream", "old_expected_revision", "old_any", "old_stream_exists", "current_revision", "current_no_stream", "expected_revision", "expected_any", "expected_stream_exists", "expected_no_stream")
        OLD_CURRENT_REVISION_FIELD_NUMBER: _ClassVar[int]
        OLD_NO_STREAM_FIELD_NUMBER: _ClassVar[int]
        OLD_EXPECTED_REVISION_FIELD_NUMBER: _ClassVar[int]
        OLD_ANY_FIELD_NUMBER: _ClassVar[int]
        OLD_STREAM_EXISTS_FIELD_NUMBER: _ClassVar[int]
        CURRENT_REVISION_FIELD_NUMBER: _ClassVar[int]
        CURRENT_NO_STREAM_FIELD_NUMBER: _ClassVar[int]
        EXPECTED_REVISION_FIELD_NUMBER: _ClassVar[int]
        EXPECTED_ANY_FIELD_NUMBER: _ClassVar[int]
        EXPECTED_STREAM_EXISTS_FIELD_NUMBER: _ClassVar[int]
        EXPECTED_NO_STREAM_FIELD_NUMBER: _ClassVar[int]
        old_current_revision: int
        old_no_stream: _shared_pb2.Nothing
        old_expected_revision: int
        old_any: _shared_pb2.Nothing
        old_stream_exists: _shared_pb2.Nothing
        current_revision: int
        current_no_stream: _shared_pb2.Nothing
        expected_revision: int
        expected_any: _shared_pb2.Nothing
        expected_stream_exists: _shared_pb2.Nothing
        expected_no_stream: _shared_pb2.Nothing
        def __init__(self, old_current_revision: _Optional[int] = ..., old_no_stream: _Optional[_Union[_shared_pb2.Nothing, _Mapping]] = ..., old_expected_revision: _Optional[int] = ..., old_any: _Optional[_Union[_shared_pb2.Nothing, _Mapping]] = ..., old_stream_exists: _Optional[_Union[_shared_pb2.Nothing, _Mapping]] = ..., current_revision: _Optional[int] = ..., current_no_stream: _Optional[_Union[_shared_pb2.Nothing, _Mapping]] = ..., expected_revision: _Optional[int] = ..., expected_any: _Optional[_Union[_shared_pb2.Nothing, _Mapping]] = ..., expected_stream_exists: _Optional[_Union[_shared_pb2.Nothing, _Mapping]] = ..., expected_no_stream: _Optional[_Union[_shared_pb2.Nothing, _Mapping]] = ...) -> None: ...
    SUCCESS_FIELD_NUMBER: _ClassVar[int]
    WRONG_EXPECTED_VERSION_FIELD_NUMBER: _ClassVar[int]
    success: AppendAnswer.Success
    wrong_expected_version: AppendAnswer.WrongVersion
    def __init__(self, success: _Optional[_Union[AppendAnswer.Success, _Mapping]] = ..., wrong_expected_version: _Optional[_Union[AppendAnswer.WrongVersion, _Mapping]] = ...) -> None: ...

class BatchAppendRequest(_message.Message):
    __slots__ = ("correlation_id", "options", "proposed_messages", "is_final")
    class Options(_message.Message):
        __slots__ = ("stream_identifier", "stream_position", "no_stream", "any", "stream_exists", "at", "within")
        STREAM_IDENTIFIER_FIELD_NUMBER: _ClassVar[int]
        STREAM_POSITION_FIELD_NUMBER: _ClassVar[int]
        NO_STREAM_FIELD_NUMBER: _ClassVar[int]
        ANY_FIELD_NUMBER: _ClassVar[int]
        STREAM_EXISTS_FIELD_NUMBER: _ClassVar[int]
        AT_FIELD_NUMBER: _ClassVar[int]
        WITHIN_FIELD_NUMBER: _ClassVar[int]
        stream_identifier: _shared_pb2.StreamIdentifier
        stream_position: int
        no_stream: _empty_pb2.Empty
        any: _empty_pb2.Empty
        stream_exists: _empty_pb2.Empty
        at: _timestamp_pb2.Timestamp
        within: _duration_pb2.Duration
        def __init__(self, stream_identifier: _Optional[_Union[_shared_pb2.StreamIdentifier, _Mapping]] = ..., stream_position: _Optional[int] = ..., no_stream: _Optional[_Union[_empty_pb2.Empty, _Mapping]] = ..., any: _Optional[_Union[_empty_pb2.Empty, _Mapping]] = ..., stream_exists: _Optional[_Union[_empty_pb2.Empty, _Mapping]] = ..., at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., within: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...
    CORRELATION_ID_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    PROPOSED_MESSAGES_FIELD_NUMBER: _ClassVar[int]
    IS_FINAL_FIELD_NUMBER: _ClassVar[int]
    correlation_id: _shared_pb2.Uuid
    options: BatchAppendRequest.Options
    proposed_messages: _containers.RepeatedCompositeFieldContainer[ProposedMessage]
    is_final: bool
    def __init__(self, correlation_id: _Optional[_Union[_shared_pb2.Uuid, _Mapping]] = ..., options: _Optional[_Union[BatchAppendRequest.Options, _Mapping]] = ..., proposed_messages: _Optional[_Iterable[_Union[ProposedMessage, _Mapping]]] = ..., is_final: _Optional[bool] = ...) -> None: ...

class BatchStatus(_message.Message):
    __slots__ = ("code", "message", "details")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    DETAILS_FIELD_NUMBER: _ClassVar[int]
    code: int
    message: str
    details: _any_pb2.Any
    def __init__(self, code: _Optional[int] = ..., message: _Optional[str] = ..., details: _Optional[_Union[_any_pb2.Any, _Mapping]] = ...) -> None: ...

class BatchAppendAnswer(_message.Message):
    __slots__ = ("correlation_id", "error", "success", "stream_identifier", "stream_position", "no_stream", "any", "stream_exists")
    class Success(_message.Message):
        __slots__ = ("current_revision", "no_stream", "position", "no_position")
        CURRENT_REVISION_FIELD_NUMBER: _ClassVar[int]
        NO_STREAM_FIELD_NUMBER: _ClassVar[int]
        POSITION_FIELD_NUMBER: _ClassVar[int]
        NO_POSITION_FIELD_NUMBER: _ClassVar[int]
        current_revision: int
        no_stream: _empty_pb2.Empty
        position: _shared_pb2.Position
        no_position: _empty_pb2.Empty
        def __init__(self, current_revision: _Optional[int] = ..., no_stream: _Optional[_Union[_empty_pb2.Empty, _Mapping]] = ..., position: _Optional[_Union[_shared_pb2.Position, _Mapping]] = ..., no_position: _Optional[_Union[_empty_pb2.Empty, _Mapping]] = ...) -> None: ...
    CORRELATION_ID_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    SUCCESS_FIELD_NUMBER: _ClassVar[int]
    STREAM_IDENTIFIER_FIELD_NUMBER: _ClassVar[int]
    STREAM_POSITION_FIELD_NUMBER: _ClassVar[int]
    NO_STREAM_FIELD_NUMBER: _ClassVar[int]
    ANY_FIELD_NUMBER: _ClassVar[int]
    STREAM_EXISTS_FIELD_NUMBER: _ClassVar[int]
    correlation_id: _shared_pb2.Uuid
    error: BatchStatus
    success: BatchAppendAnswer.Success
    stream_identifier: _shared_pb2.StreamIdentifier
    stream_position: int
    no_stream: _empty_pb2.Empty
    any: _empty_pb2.Empty
    stream_exists: _empty_pb2.Empty
    def __init__(self, correlation_id: _Optional[_Union[_shared_pb2.Uuid, _Mapping]] = ..., error: _Optional[_Union[BatchStatus, _Mapping]] = ..., success: _Optional[_Union[BatchAppendAnswer.Success, _Mapping]] = ..., stream_identifier: _Optional[_Union[_shared_pb2.StreamIdentifier, _Mapping]] = ..., stream_position: _Optional[int] = ..., no_stream: _Optional[_Union[_empty_pb2.Empty, _Mapping]] = ..., any: _Optional[_Union[_empty_pb2.Empty, _Mapping]] = ..., stream_exists: _Optional[_Union[_empty_pb2.Empty, _Mapping]] = ...) -> None: ...
