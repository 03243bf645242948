# SPDX-License-Identifier: BSD-2-Clause
"""The child that asks for io_uring: one NOP through a real ring.

Imports nothing of the project: the child starts in half the time.
"""

from __future__ import annotations

import errno
import os
import struct

TYPE_CHECKING = False  # typing's own would cost the child its import
if TYPE_CHECKING:
    from typing import Any

# include/uapi/asm-generic/unistd.h; alpha and mips number otherwise
_SETUP, _ENTER = 425, 426
_NUMBERED_OTHERWISE = ("alpha", "mips")

# include/uapi/linux/io_uring.h
_PARAMS_SIZE, _SQE_SIZE, _CQE_SIZE = 120, 64, 16
_OFF_SQ_RING, _OFF_CQ_RING, _OFF_SQES = 0, 0x8000000, 0x10000000
_ENTER_GETEVENTS = 1
_USER_DATA = 0x6B746C73


def probe(argument: Any) -> Any:
    """Set up a ring of two entries, send a NOP through it, close it.  Returns Nop as a JSON value."""
    import ctypes

    from ktlsctl.servant import ProbeError

    if os.uname().machine.startswith(_NUMBERED_OTHERWISE):
        raise ProbeError(f"ktlsctl does not know io_uring's system calls on {os.uname().machine}")
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    params = ctypes.create_string_buffer(_PARAMS_SIZE)
    ring = libc.syscall(ctypes.c_long(_SETUP), ctypes.c_uint(2), params)
    if ring < 0:
        return _nop("setup", _symbol(ctypes.get_errno()))
    try:
        return _round_trip(libc, ring, params.raw)
    finally:
        os.close(ring)


def _nop(step: str, symbol: str | None, features: int = 0) -> dict[str, Any]:
    return {"step": step, "errno": symbol, "features": features}


def _symbol(number: int) -> str:
    return "EOPNOTSUPP" if number == errno.EOPNOTSUPP else errno.errorcode.get(number, f"errno {number}")


def _round_trip(libc: Any, ring: int, params: bytes) -> dict[str, Any]:
    import ctypes
    import mmap

    sq_entries, cq_entries, _flags, _cpu, _idle, features = struct.unpack_from("=6I", params, 0)
    _sq_head, sq_tail, _sq_mask, _n, _sq_flags, _dropped, sq_array = struct.unpack_from("=7I", params, 40)
    cq_head, cq_tail, cq_mask_at, _cq_n, _overflow, cqes = struct.unpack_from("=6I", params, 80)
    try:
        sq = mmap.mmap(ring, sq_array + 4 * sq_entries, offset=_OFF_SQ_RING)
        cq = mmap.mmap(ring, cqes + _CQE_SIZE * cq_entries, offset=_OFF_CQ_RING)
        sqes = mmap.mmap(ring, _SQE_SIZE * sq_entries, offset=_OFF_SQES)
    except OSError as error:
        return _nop("mmap", _symbol(error.errno or 0), features)
    with sq, cq, sqes:
        # opcode 0 is IORING_OP_NOP; the kernel reads the ring only inside io_uring_enter, so order needs no barrier
        struct.pack_into("=BxxxiQQII Q", sqes, 0, 0, -1, 0, 0, 0, 0, _USER_DATA)
        tail = struct.unpack_from("=I", sq, sq_tail)[0]
        struct.pack_into("=I", sq, sq_array, 0)
        struct.pack_into("=I", sq, sq_tail, tail + 1)
        enter = libc.syscall(
            ctypes.c_long(_ENTER),
            ctypes.c_int(ring),
            ctypes.c_uint(1),
            ctypes.c_uint(1),
            ctypes.c_uint(_ENTER_GETEVENTS),
            None,
            ctypes.c_size_t(0),
        )
        if enter < 0:
            return _nop("enter", _symbol(ctypes.get_errno()), features)
        head, mask = struct.unpack_from("=I", cq, cq_head)[0], struct.unpack_from("=I", cq, cq_mask_at)[0]
        data, result = struct.unpack_from("=Qi", cq, cqes + _CQE_SIZE * (head & mask))
        if head == struct.unpack_from("=I", cq, cq_tail)[0] or data != _USER_DATA:
            return _nop("complete", None, features)
        return _nop("", None, features) if result == 0 else _nop("complete", _symbol(-result), features)
