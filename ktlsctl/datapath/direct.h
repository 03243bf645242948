/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Plaintext in and out of a socket whose records the kernel makes, by io_uring alone: what a program does that leaves
 * OpenSSL aside after the handshake.  Each call is one operation: bytes, or -errno (-EAGAIN: not now).
 */
#ifndef DATAPATH_DIRECT_H
#define DATAPATH_DIRECT_H

#include <stddef.h>
#include <stdint.h>

#include "ring.h"

int direct_send(struct ring *r, int fd, const void *data, size_t len, int timeout_ms);
/* From a file at `offset`, or from a pipe (-1), into a pipe or a socket. */
int direct_splice(struct ring *r, int from, int64_t offset, int to, size_t len, int timeout_ms);
/* `*type` is the record type that came with the bytes, -1 where none did. */
int direct_receive(struct ring *r, int fd, void *room, size_t len, int *type, int timeout_ms);

#endif
