from indelible.kurrentdb.proto import shared_pb2 as _shared_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ClusterInfo(_message.Message):
    __slots__ = ("members",)
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    members: _containers.RepeatedCompositeFieldContainer[Member]
    def __init__(self, members: _Optional[_Iterable[_Union[Member, _Mapping]]] = ...) -> None: ...

class Member(_message.Message):
    __slots__ = ("instance_id", "time_stamp", "state", "is_alive", "http_end_point")
    class EndPoint(_message.Message):
        __slots__ = ("address", "port")
        ADDRESS_FIELD_NUMBER: _ClassVar[int]
        PORT_FIELD_NUMBER: _ClassVar[int]
        address: str
        port: int
        def __init__(self, address: _Optional[str] = ..., port: _Optional[int] = ...) -> None: ...
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    TIME_STAMP_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    IS_ALIVE_FIELD_NUMBER: _ClassVar[int]
    HTTP_END_POINT_FIELD_NUMBER: _ClassVar[int]
    instance_id: _shared_pb2.Uuid
    time_stamp: int
    state: int
    is_alive: bool
    http_end_point: Member.EndPoint
    def __init__(self, instance_id: _Optional[_Union[_shared_pb2.Uuid, _Mapping]] = ..., time_stamp: _Optional[int] = ..., state: _Optional[int] = ..., is_alive: _Optional[bool] = ..., http_end_point: _Optional[_Union[Member.EndPoint, _Mapping]] = ...) -> None: ...

class SupportedMethods(_message.Message):
    __slots__ = ("methods", "event_store_server_version")
    class Method(_message.Message):
        __slots__ = ("method_name", "service_name", "features")
        METHOD_NAME_FIELD_NUMBER: _ClassVar[int]
        SERVICE_NAME_FIELD_NUMBER: _ClassVar[int]
        FEATURES_FIELD_NUMBER: _ClassVar[int]
        method_name: str
        service_name: str
        features: _containers.RepeatedScalarFieldContainer[str]
        def __init__(self, method_name: _Optional[str] = ..., service_name: _Optional[str] = ..., features: _Optional[_Iterable[str]] = ...) -> None: ...
    METHODS_FIELD_NUMBER: _ClassVar[int]
    EVENT_STORE_SERVER_VERSION_FIELD_NUMBER: _ClassVar[int]
    methods: _containers.RepeatedCompositeFieldContainer[SupportedMethods.Method]
    event_store_server_version: str
    def __init__(self, methods: _Optional[_Iterable[_Union[SupportedMethods.Method, _Mapping]]] = ..., event_store_server_version: _Optional[str] = ...) -> None: ...
