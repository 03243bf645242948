# SPDX-License-Identifier: BSD-2-Clause
"""FreeBSD's binary interface, as far as this tool speaks it: the one home of every number out of its headers.

Nothing is imported from FreeBSD, so that a capture of it is judged anywhere.  tests/test_freebsd_headers.py compiles
each table against FreeBSD's own headers for amd64, arm64 and i386; docs/freebsd.md lists them.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

# --- constants: the member's name, behind the prefix that CONSTANTS names, is the macro's ---

IPPROTO_TCP = 6
MAXPATHLEN = 1024
CTL_MAXNAME = 24
#: size of xktls_session_onedir.iv
XKTLS_SESSION_IV_BUF_LEN = 32
#: in in_conninfo.inc_flags: the addresses are IPv6
INC_ISIPV6 = 1


class TcpOption(IntEnum):
    """Socket options of level IPPROTO_TCP."""

    TCP_TXTLS_ENABLE = 39
    TCP_TXTLS_MODE = 40
    TCP_RXTLS_ENABLE = 41
    TCP_RXTLS_MODE = 42


class Mode(IntEnum):
    """What TCP_*TLS_MODE answer: who does the record work of one direction."""

    NONE = 0
    SW = 1
    IFNET = 2
    TOE = 3


class Cmsg(IntEnum):
    """Control messages of level IPPROTO_TCP."""

    TLS_SET_RECORD_TYPE = 1
    TLS_GET_RECORD = 2


class Tls(IntEnum):
    """Version bytes, the content type of data, and limits.  A version is major << 8 | minor, the number on the wire."""

    MAJOR_VER_ONE = 3
    MINOR_VER_ZERO = 1
    MINOR_VER_ONE = 2
    MINOR_VER_TWO = 3
    MINOR_VER_THREE = 4
    RLTYPE_APP = 23
    MAX_MSG_SIZE_V10_2 = 16384
    AEAD_GCM_LEN = 4
    #: the value of TLS_1_3_GCM_IV_LEN too
    CHACHA20_IV_LEN = 12
    CBC_IMPLICIT_IV_LEN = 16


class Crypto(IntEnum):
    """Algorithms in struct tls_enable."""

    SHA1_HMAC = 7
    AES_CBC = 11
    SHA2_256_HMAC = 18
    SHA2_384_HMAC = 19
    AES_NIST_GCM_16 = 25
    CHACHA20_POLY1305 = 41


class Msg(IntEnum):
    """Flags of sendmsg(2) and recvmsg(2)."""

    PEEK = 0x2
    EOR = 0x8
    CTRUNC = 0x20


class Errno(IntEnum):
    """Errors that kernel TLS answers with; many differ from Linux's numbers."""

    EPERM = 1
    ENOENT = 2
    EINTR = 4
    EIO = 5
    ENXIO = 6
    ENOMEM = 12
    EACCES = 13
    EFAULT = 14
    EBUSY = 16
    EINVAL = 22
    EAGAIN = 35
    EALREADY = 37
    EMSGSIZE = 40
    ENOPROTOOPT = 42
    EPROTONOSUPPORT = 43
    EOPNOTSUPP = 45
    ECONNABORTED = 53
    ECONNRESET = 54
    ENOBUFS = 55
    ENOTCONN = 57
    EBADMSG = 89


def errno_name(number: int) -> str:
    return Errno(number).name if number in Errno._value2member_map_ else f"errno {number}"


class CtlType(IntEnum):
    """The kind of a sysctl: the low four bits (CTLTYPE) of what CTL_SYSCTL_OIDFMT answers."""

    NODE = 1
    INT = 2
    STRING = 3
    S64 = 4
    OPAQUE = 5
    UINT = 6
    LONG = 7
    ULONG = 8
    U64 = 9
    U8 = 10
    U16 = 11
    S8 = 12
    S16 = 13
    S32 = 14
    U32 = 15


class CtlFlag(IntEnum):
    """The other bits of that answer.  RDTUN, loader only, is TUN without WR."""

    RD = 0x80000000
    WR = 0x40000000
    TUN = 0x00080000


class CtlSysctl(IntEnum):
    """The sysctl tree that speaks about sysctls; its root is CTL_SYSCTL, 0."""

    OIDFMT = 4


class IfCapBit(IntEnum):
    """Bits of an interface's capabilities; ifconfig(8) prints the member's name."""

    MEXTPG = 26
    TXTLS4 = 27
    TXTLS6 = 28
    RXTLS4 = 32
    RXTLS6 = 33


@dataclass(frozen=True, slots=True)
class Constants:
    """`values` by the macro's name without `prefix`, and the header that defines them."""

    header: str
    prefix: str
    values: Mapping[str, int]


def _of(header: str, prefix: str, kind: type[IntEnum]) -> Constants:
    return Constants(header, prefix, {name: member.value for name, member in kind.__members__.items()})


CONSTANTS: tuple[Constants, ...] = (
    Constants("netinet/in.h", "", {"IPPROTO_TCP": IPPROTO_TCP}),
    Constants("sys/param.h", "", {"MAXPATHLEN": MAXPATHLEN}),
    Constants("sys/sysctl.h", "", {"CTL_SYSCTL": 0, "CTL_MAXNAME": CTL_MAXNAME}),
    Constants("sys/ktls.h", "", {"XKTLS_SESSION_IV_BUF_LEN": XKTLS_SESSION_IV_BUF_LEN, "TLS_1_3_GCM_IV_LEN": 12}),
    Constants("netinet/in_pcb.h", "", {"INC_ISIPV6": INC_ISIPV6}),
    _of("netinet/tcp.h", "", TcpOption),
    _of("netinet/tcp.h", "TCP_TLS_MODE_", Mode),
    _of("sys/ktls.h", "", Cmsg),
    _of("sys/ktls.h", "TLS_", Tls),
    _of("crypto/cryptodev.h", "CRYPTO_", Crypto),
    _of("sys/socket.h", "MSG_", Msg),
    _of("sys/errno.h", "", Errno),
    _of("sys/sysctl.h", "CTLTYPE_", CtlType),
    _of("sys/sysctl.h", "CTLFLAG_", CtlFlag),
    _of("sys/sysctl.h", "CTL_SYSCTL_", CtlSysctl),
    _of("net/if.h", "IFCAP_B_", IfCapBit),
)

# --- structures ---


@dataclass(frozen=True, slots=True)
class Field:
    """`name`: the C designator; `offset` in bytes; `code`: the struct module's code of its type (`n s`: raw bytes,
    also what stands in network order)."""

    name: str
    offset: int
    code: str

    @property
    def size(self) -> int:
        return struct.calcsize(f"={self.code}")


@dataclass(frozen=True, slots=True)
class Layout:
    """One structure of the headers in one data model; fields that this tool does not use are left out."""

    name: str
    header: str
    size: int
    fields: tuple[Field, ...]

    def field(self, name: str) -> Field:
        """Raises KeyError for one that the table does not have."""
        for field in self.fields:
            if field.name == name:
                return field
        raise KeyError(name)

    def value(self, name: str, content: bytes, at: int = 0) -> Any:
        """One field of the structure that begins at byte `at`.  Raises KeyError, struct.error when it is cut off."""
        field = self.field(name)
        return struct.unpack_from(f"={field.code}", content, at + field.offset)[0]

    @property
    def format(self) -> str:
        """For the struct module: the machine's own byte order, every gap written out."""
        out, at = "=", 0
        for field in self.fields:
            gap = field.offset - at
            out += (f"{gap}x" if gap else "") + field.code
            at = field.offset + field.size
        return out + (f"{self.size - at}x" if at < self.size else "")

    def pack(self, *values: Any) -> bytes:
        """The structure with `values` in the order of the fields.  Raises struct.error."""
        return struct.pack(self.format, *values)

    def unpack(self, content: bytes, at: int = 0) -> tuple[Any, ...]:
        """The fields' values of the structure that begins at byte `at`.  Raises struct.error when it is cut off."""
        return struct.unpack_from(self.format, content, at)


def _tls_enable(pointer: int) -> Layout:
    """What both TCP_*TLS_ENABLE take.  `pointer`: its size in bytes."""
    code, ints = ("Q", 24) if pointer == 8 else ("I", 12)
    return Layout(
        "tls_enable",
        "sys/ktls.h",
        ints + 40 if pointer == 8 else ints + 36,
        (
            Field("cipher_key", 0, code),
            Field("iv", pointer, code),
            Field("auth_key", 2 * pointer, code),
            Field("cipher_algorithm", ints, "i"),
            Field("cipher_key_len", ints + 4, "i"),
            Field("iv_len", ints + 8, "i"),
            Field("auth_algorithm", ints + 12, "i"),
            Field("auth_key_len", ints + 16, "i"),
            Field("flags", ints + 20, "i"),
            Field("tls_vmajor", ints + 24, "B"),
            Field("tls_vminor", ints + 25, "B"),
            Field("rec_seq", ints + 26, "8s"),
        ),
    )


#: by the size of a pointer
TLS_ENABLE: Mapping[int, Layout] = {pointer: _tls_enable(pointer) for pointer in (8, 4)}

#: The content of a TLS_GET_RECORD message; the length stands in network order.
TLS_GET_RECORD = Layout(
    "tls_get_record",
    "sys/ktls.h",
    6,
    (
        Field("tls_type", 0, "B"),
        Field("tls_vmajor", 1, "B"),
        Field("tls_vminor", 2, "B"),
        Field("tls_length", 4, "2s"),
    ),
)

#: Before and after the records of net.inet.tcp.ktlslist.
XINPGEN = Layout(
    "xinpgen",
    "netinet/in_pcb.h",
    64,
    (
        Field("xig_len", 0, "Q"),
        Field("xig_count", 8, "I"),
        Field("xig_gen", 16, "Q"),
        Field("xig_sogen", 24, "Q"),
    ),
)

#: One direction inside struct xktls_session.  Its `iv` is secret material: whoever holds the bytes wipes it at once.
XKTLS_SESSION_ONEDIR = Layout(
    "xktls_session_onedir",
    "sys/ktls.h",
    176,
    (
        Field("gen", 0, "Q"),
        Field("iv", 104, f"{XKTLS_SESSION_IV_BUF_LEN}s"),
        Field("cipher_algorithm", 136, "i"),
        Field("auth_algorithm", 140, "i"),
        Field("cipher_key_len", 144, "H"),
        Field("iv_len", 146, "H"),
        Field("auth_key_len", 148, "H"),
        Field("max_frame_len", 150, "H"),
        Field("tls_vmajor", 152, "B"),
        Field("tls_vminor", 153, "B"),
        Field("flags", 157, "B"),
        Field("drv_st_len", 158, "H"),
        Field("ifnet", 160, "16s"),
    ),
)

#: One record of net.inet.tcp.ktlslist; the next begins `tsz` bytes on.  Ports and addresses stand in network order, an
#: IPv4 address in the last four of its 16 bytes.  `rcv` and `snd` are XKTLS_SESSION_ONEDIR.
XKTLS_SESSION = Layout(
    "xktls_session",
    "netinet/in_pcb.h",
    424,
    (
        Field("tsz", 0, "I"),
        Field("fsz", 4, "I"),
        Field("inp_gencnt", 8, "Q"),
        Field("so_pcb", 16, "Q"),
        Field("coninf.inc_flags", 24, "B"),
        Field("coninf.inc_ie.ie_fport", 28, "2s"),
        Field("coninf.inc_ie.ie_lport", 30, "2s"),
        Field("coninf.inc_ie.ie_dependfaddr", 32, "16s"),
        Field("coninf.inc_ie.ie_dependladdr", 48, "16s"),
        Field("coninf.inc_ie.ie6_zoneid", 64, "I"),
        Field("rcv", 72, "176s"),
        Field("snd", 248, "176s"),
    ),
)


def _kld_file_stat(pointer: int) -> Layout:
    at = 4 + MAXPATHLEN
    address = at + 12 if pointer == 8 else at + 8
    size = address + 2 * pointer + MAXPATHLEN
    return Layout(
        "kld_file_stat",
        "sys/linker.h",
        size,
        (
            Field("version", 0, "i"),
            Field("name", 4, f"{MAXPATHLEN}s"),
            Field("refs", at, "i"),
            Field("id", at + 4, "i"),
        ),
    )


#: What kldstat(2) fills in, by the size of a pointer; `version` holds the size of the structure when it is called.
KLD_FILE_STAT: Mapping[int, Layout] = {pointer: _kld_file_stat(pointer) for pointer in (8, 4)}


def layouts(pointer: int) -> tuple[Layout, ...]:
    """Every structure, for machines whose pointers have `pointer` bytes."""
    return (
        TLS_ENABLE[pointer],
        TLS_GET_RECORD,
        XINPGEN,
        XKTLS_SESSION_ONEDIR,
        XKTLS_SESSION,
        KLD_FILE_STAT[pointer],
    )


# --- functions of libc.so.7 ---


@dataclass(frozen=True, slots=True)
class Function:
    """A C function that is called by ctypes: `result` and `arguments` as C writes them."""

    name: str
    header: str
    result: str
    arguments: tuple[str, ...]


FUNCTIONS: tuple[Function, ...] = (
    Function(
        "sendfile",
        "sys/socket.h",
        "int",
        ("int", "int", "off_t", "size_t", "struct sf_hdtr *", "off_t *", "int"),
    ),
    Function("sysctlnametomib", "sys/sysctl.h", "int", ("const char *", "int *", "size_t *")),
    Function(
        "sysctl", "sys/sysctl.h", "int", ("const int *", "unsigned int", "void *", "size_t *", "const void *", "size_t")
    ),
    Function("kldnext", "sys/linker.h", "int", ("int",)),
    Function("kldstat", "sys/linker.h", "int", ("int", "struct kld_file_stat *")),
)

#: Bytes of an off_t: ctypes has no name for it.
OFF_T = 8
