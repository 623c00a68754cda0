from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class StatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Status(_message.Message):
    __slots__ = ("module", "uid", "node", "role", "reason", "reason_code", "generation", "in_sync", "sync", "virtual_ips", "application", "peer", "events", "last_order", "last_failover", "problems", "config_hash", "replicated_bytes", "replicated_operations", "incarnation", "farm", "failover_held", "replication_latency", "checkers", "witnesses", "verification")
    MODULE_FIELD_NUMBER: _ClassVar[int]
    UID_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    REASON_CODE_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    IN_SYNC_FIELD_NUMBER: _ClassVar[int]
    SYNC_FIELD_NUMBER: _ClassVar[int]
    VIRTUAL_IPS_FIELD_NUMBER: _ClassVar[int]
    APPLICATION_FIELD_NUMBER: _ClassVar[int]
    PEER_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    LAST_ORDER_FIELD_NUMBER: _ClassVar[int]
    LAST_FAILOVER_FIELD_NUMBER: _ClassVar[int]
    PROBLEMS_FIELD_NUMBER: _ClassVar[int]
    CONFIG_HASH_FIELD_NUMBER: _ClassVar[int]
    REPLICATED_BYTES_FIELD_NUMBER: _ClassVar[int]
    REPLICATED_OPERATIONS_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    FARM_FIELD_NUMBER: _ClassVar[int]
    FAILOVER_HELD_FIELD_NUMBER: _ClassVar[int]
    REPLICATION_LATENCY_FIELD_NUMBER: _ClassVar[int]
    CHECKERS_FIELD_NUMBER: _ClassVar[int]
    WITNESSES_FIELD_NUMBER: _ClassVar[int]
    VERIFICATION_FIELD_NUMBER: _ClassVar[int]
    module: str
    uid: str
    node: str
    role: str
    reason: str
    reason_code: str
    generation: str
    in_sync: bool
    sync: SyncProgress
    virtual_ips: _containers.RepeatedCompositeFieldContainer[VirtualIP]
    application: Application
    peer: Peer
    events: _containers.RepeatedCompositeFieldContainer[Event]
    last_order: LastOrder
    last_failover: Timeline
    problems: _containers.RepeatedCompositeFieldContainer[Problem]
    config_hash: str
    replicated_bytes: int
    replicated_operations: int
    incarnation: str
    farm: Farm
    failover_held: bool
    replication_latency: Latency
    checkers: _containers.RepeatedCompositeFieldContainer[Checker]
    witnesses: _containers.RepeatedCompositeFieldContainer[Witness]
    verification: Verification
    def __init__(self, module: _Optional[str] = ..., uid: _Optional[str] = ..., node: _Optional[str] = ..., role: _Optional[str] = ..., reason: _Optional[str] = ..., reason_code: _Optional[str] = ..., generation: _Optional[str] = ..., in_sync: _Optional[bool] = ..., sync: _Optional[_Union[SyncProgress, _Mapping[str, object]]] = ..., virtual_ips: _Optional[_Iterable[_Union[VirtualIP, _Mapping[str, object]]]] = ..., application: _Optional[_Union[Application, _Mapping[str, object]]] = ..., peer: _Optional[_Union[Peer, _Mapping[str, object]]] = ..., events: _Optional[_Iterable[_Union[Event, _Mapping[str, object]]]] = ..., last_order: _Optional[_Union[LastOrder, _Mapping[str, object]]] = ..., last_failover: _Optional[_Union[Timeline, _Mapping[str, object]]] = ..., problems: _Optional[_Iterable[_Union[Problem, _Mapping[str, object]]]] = ..., config_hash: _Optional[str] = ..., replicated_bytes: _Optional[int] = ..., replicated_operations: _Optional[int] = ..., incarnation: _Optional[str] = ..., farm: _Optional[_Union[Farm, _Mapping[str, object]]] = ..., failover_held: _Optional[bool] = ..., replication_latency: _Optional[_Union[Latency, _Mapping[str, object]]] = ..., checkers: _Optional[_Iterable[_Union[Checker, _Mapping[str, object]]]] = ..., witnesses: _Optional[_Iterable[_Union[Witness, _Mapping[str, object]]]] = ..., verification: _Optional[_Union[Verification, _Mapping[str, object]]] = ...) -> None: ...

class Verification(_message.Message):
    __slots__ = ("running", "repair", "begun", "ended", "files", "bytes", "found", "repaired", "stopped", "differences", "resync")
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    REPAIR_FIELD_NUMBER: _ClassVar[int]
    BEGUN_FIELD_NUMBER: _ClassVar[int]
    ENDED_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    FOUND_FIELD_NUMBER: _ClassVar[int]
    REPAIRED_FIELD_NUMBER: _ClassVar[int]
    STOPPED_FIELD_NUMBER: _ClassVar[int]
    DIFFERENCES_FIELD_NUMBER: _ClassVar[int]
    RESYNC_FIELD_NUMBER: _ClassVar[int]
    running: bool
    repair: bool
    begun: float
    ended: float
    files: int
    bytes: int
    found: int
    repaired: int
    stopped: str
    differences: _containers.RepeatedCompositeFieldContainer[Difference]
    resync: bool
    def __init__(self, running: _Optional[bool] = ..., repair: _Optional[bool] = ..., begun: _Optional[float] = ..., ended: _Optional[float] = ..., files: _Optional[int] = ..., bytes: _Optional[int] = ..., found: _Optional[int] = ..., repaired: _Optional[int] = ..., stopped: _Optional[str] = ..., differences: _Optional[_Iterable[_Union[Difference, _Mapping[str, object]]]] = ..., resync: _Optional[bool] = ...) -> None: ...

class Difference(_message.Message):
    __slots__ = ("volume", "path", "what", "offset", "length", "detail", "repaired")
    VOLUME_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    WHAT_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    REPAIRED_FIELD_NUMBER: _ClassVar[int]
    volume: str
    path: str
    what: str
    offset: int
    length: int
    detail: str
    repaired: bool
    def __init__(self, volume: _Optional[str] = ..., path: _Optional[str] = ..., what: _Optional[str] = ..., offset: _Optional[int] = ..., length: _Optional[int] = ..., detail: _Optional[str] = ..., repaired: _Optional[bool] = ...) -> None: ...

class Witness(_message.Message):
    __slots__ = ("name", "type", "deciding", "answers", "silent_seconds", "mine", "holder", "generation", "detail")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    DECIDING_FIELD_NUMBER: _ClassVar[int]
    ANSWERS_FIELD_NUMBER: _ClassVar[int]
    SILENT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    MINE_FIELD_NUMBER: _ClassVar[int]
    HOLDER_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    name: str
    type: str
    deciding: bool
    answers: bool
    silent_seconds: float
    mine: bool
    holder: str
    generation: str
    detail: str
    def __init__(self, name: _Optional[str] = ..., type: _Optional[str] = ..., deciding: _Optional[bool] = ..., answers: _Optional[bool] = ..., silent_seconds: _Optional[float] = ..., mine: _Optional[bool] = ..., holder: _Optional[str] = ..., generation: _Optional[str] = ..., detail: _Optional[str] = ...) -> None: ...

class Latency(_message.Message):
    __slots__ = ("counts", "sum_microseconds")
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    SUM_MICROSECONDS_FIELD_NUMBER: _ClassVar[int]
    counts: _containers.RepeatedScalarFieldContainer[int]
    sum_microseconds: int
    def __init__(self, counts: _Optional[_Iterable[int]] = ..., sum_microseconds: _Optional[int] = ...) -> None: ...

class Farm(_message.Message):
    __slots__ = ("share", "announcing", "connections", "draining", "checkers")
    SHARE_FIELD_NUMBER: _ClassVar[int]
    ANNOUNCING_FIELD_NUMBER: _ClassVar[int]
    CONNECTIONS_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    CHECKERS_FIELD_NUMBER: _ClassVar[int]
    share: float
    announcing: bool
    connections: int
    draining: bool
    checkers: _containers.RepeatedCompositeFieldContainer[Checker]
    def __init__(self, share: _Optional[float] = ..., announcing: _Optional[bool] = ..., connections: _Optional[int] = ..., draining: _Optional[bool] = ..., checkers: _Optional[_Iterable[_Union[Checker, _Mapping[str, object]]]] = ...) -> None: ...

class Checker(_message.Message):
    __slots__ = ("name", "passing", "detail")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PASSING_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    name: str
    passing: bool
    detail: str
    def __init__(self, name: _Optional[str] = ..., passing: _Optional[bool] = ..., detail: _Optional[str] = ...) -> None: ...

class SyncProgress(_message.Message):
    __slots__ = ("bytes_done", "bytes_total", "files_done", "files_total", "seconds_left")
    BYTES_DONE_FIELD_NUMBER: _ClassVar[int]
    BYTES_TOTAL_FIELD_NUMBER: _ClassVar[int]
    FILES_DONE_FIELD_NUMBER: _ClassVar[int]
    FILES_TOTAL_FIELD_NUMBER: _ClassVar[int]
    SECONDS_LEFT_FIELD_NUMBER: _ClassVar[int]
    bytes_done: int
    bytes_total: int
    files_done: int
    files_total: int
    seconds_left: float
    def __init__(self, bytes_done: _Optional[int] = ..., bytes_total: _Optional[int] = ..., files_done: _Optional[int] = ..., files_total: _Optional[int] = ..., seconds_left: _Optional[float] = ...) -> None: ...

class VirtualIP(_message.Message):
    __slots__ = ("address", "interface", "held", "problem")
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    INTERFACE_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    address: str
    interface: str
    held: bool
    problem: str
    def __init__(self, address: _Optional[str] = ..., interface: _Optional[str] = ..., held: _Optional[bool] = ..., problem: _Optional[str] = ...) -> None: ...

class Application(_message.Message):
    __slots__ = ("phase", "restarts", "ready", "detail")
    PHASE_FIELD_NUMBER: _ClassVar[int]
    RESTARTS_FIELD_NUMBER: _ClassVar[int]
    READY_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    phase: str
    restarts: int
    ready: bool
    detail: str
    def __init__(self, phase: _Optional[str] = ..., restarts: _Optional[int] = ..., ready: _Optional[bool] = ..., detail: _Optional[str] = ...) -> None: ...

class Peer(_message.Message):
    __slots__ = ("node", "heard", "silent_seconds", "role", "links")
    NODE_FIELD_NUMBER: _ClassVar[int]
    HEARD_FIELD_NUMBER: _ClassVar[int]
    SILENT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    LINKS_FIELD_NUMBER: _ClassVar[int]
    node: str
    heard: bool
    silent_seconds: float
    role: str
    links: _containers.RepeatedCompositeFieldContainer[Link]
    def __init__(self, node: _Optional[str] = ..., heard: _Optional[bool] = ..., silent_seconds: _Optional[float] = ..., role: _Optional[str] = ..., links: _Optional[_Iterable[_Union[Link, _Mapping[str, object]]]] = ...) -> None: ...

class Link(_message.Message):
    __slots__ = ("name", "up", "silent_seconds", "heartbeats", "lost")
    NAME_FIELD_NUMBER: _ClassVar[int]
    UP_FIELD_NUMBER: _ClassVar[int]
    SILENT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    HEARTBEATS_FIELD_NUMBER: _ClassVar[int]
    LOST_FIELD_NUMBER: _ClassVar[int]
    name: str
    up: bool
    silent_seconds: float
    heartbeats: int
    lost: int
    def __init__(self, name: _Optional[str] = ..., up: _Optional[bool] = ..., silent_seconds: _Optional[float] = ..., heartbeats: _Optional[int] = ..., lost: _Optional[int] = ...) -> None: ...

class Event(_message.Message):
    __slots__ = ("time", "type", "code", "message")
    TIME_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    time: float
    type: str
    code: str
    message: str
    def __init__(self, time: _Optional[float] = ..., type: _Optional[str] = ..., code: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class LastOrder(_message.Message):
    __slots__ = ("id", "action", "state", "message")
    ID_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    id: str
    action: str
    state: str
    message: str
    def __init__(self, id: _Optional[str] = ..., action: _Optional[str] = ..., state: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class Problem(_message.Message):
    __slots__ = ("field", "message", "mend")
    FIELD_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    MEND_FIELD_NUMBER: _ClassVar[int]
    field: str
    message: str
    mend: str
    def __init__(self, field: _Optional[str] = ..., message: _Optional[str] = ..., mend: _Optional[str] = ...) -> None: ...

class Timeline(_message.Message):
    __slots__ = ("cause", "peer_lost", "detected", "promoted", "vip_announced", "application_started", "application_ready", "code", "lease_over", "vip_probed", "recorded", "first_write")
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    PEER_LOST_FIELD_NUMBER: _ClassVar[int]
    DETECTED_FIELD_NUMBER: _ClassVar[int]
    PROMOTED_FIELD_NUMBER: _ClassVar[int]
    VIP_ANNOUNCED_FIELD_NUMBER: _ClassVar[int]
    APPLICATION_STARTED_FIELD_NUMBER: _ClassVar[int]
    APPLICATION_READY_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    LEASE_OVER_FIELD_NUMBER: _ClassVar[int]
    VIP_PROBED_FIELD_NUMBER: _ClassVar[int]
    RECORDED_FIELD_NUMBER: _ClassVar[int]
    FIRST_WRITE_FIELD_NUMBER: _ClassVar[int]
    cause: str
    peer_lost: float
    detected: float
    promoted: float
    vip_announced: float
    application_started: float
    application_ready: float
    code: str
    lease_over: float
    vip_probed: float
    recorded: float
    first_write: float
    def __init__(self, cause: _Optional[str] = ..., peer_lost: _Optional[float] = ..., detected: _Optional[float] = ..., promoted: _Optional[float] = ..., vip_announced: _Optional[float] = ..., application_started: _Optional[float] = ..., application_ready: _Optional[float] = ..., code: _Optional[str] = ..., lease_over: _Optional[float] = ..., vip_probed: _Optional[float] = ..., recorded: _Optional[float] = ..., first_write: _Optional[float] = ...) -> None: ...

class OrderRequest(_message.Message):
    __slots__ = ("action", "user", "discard_peer", "id")
    ACTION_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    DISCARD_PEER_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    action: str
    user: str
    discard_peer: bool
    id: str
    def __init__(self, action: _Optional[str] = ..., user: _Optional[str] = ..., discard_peer: _Optional[bool] = ..., id: _Optional[str] = ...) -> None: ...

class OrderReply(_message.Message):
    __slots__ = ("accepted", "message", "id")
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    accepted: bool
    message: str
    id: str
    def __init__(self, accepted: _Optional[bool] = ..., message: _Optional[str] = ..., id: _Optional[str] = ...) -> None: ...
