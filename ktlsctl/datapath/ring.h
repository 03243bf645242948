/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A raw io_uring, as small as the BIO needs it.  One thread at a time, and only in the process that opened it.
 *
 * An operation belongs to the kernel from ring_queue() until its state is OP_DONE: neither it nor the memory
 * it points to may go away before.  What cannot be submitted is completed with the error instead, so that
 * there is one place to look for an outcome: op->res, bytes or -errno.
 */
#ifndef DATAPATH_RING_H
#define DATAPATH_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum op_state { OP_IDLE, OP_FLYING, OP_DONE };

struct op {
	int32_t res;
	uint8_t state;
};

enum ring_opcode { RING_NOP, RING_SEND, RING_RECV, RING_SENDMSG, RING_RECVMSG, RING_POLL, RING_SPLICE };

/* What RING_SPLICE takes from: a file at `offset`, or a pipe (-1).  `addr` of ring_queue() points to it. */
struct ring_source {
	int fd;
	int64_t offset;
};

enum ring_stage { RING_STAGE_BUILD, RING_STAGE_SETUP, RING_STAGE_FEATURES, RING_STAGE_MMAP, RING_STAGE_NOP };

/* Why there is no ring.  `sysctl` is kernel.io_uring_disabled, `seccomp` the mode of PR_GET_SECCOMP; -1: unknown. */
struct ring_failure {
	int stage, error, sysctl, seccomp;
};

struct ring_stats {
	uint64_t enters, submitted, completed, sq_full, cancelled;
};

struct ring;

struct ring *ring_open(unsigned entries, struct ring_failure *why);
void ring_ref(struct ring *r);
void ring_unref(struct ring *r);
/* Close the ring now; whoever still holds a reference gets -EBADF from then on. */
void ring_kill(struct ring *r);
/* False in a child of the process that opened it: its completions belong to the parent. */
bool ring_owned(const struct ring *r);
void ring_get_stats(const struct ring *r, struct ring_stats *out);

/* Hand an operation over.  `addr`/`len` are a buffer, a msghdr (len 1), a ring_source and how much of it, or nothing;
 * `flags` MSG_*, SPLICE_F_* or poll events. */
void ring_queue(struct ring *r, struct op *op, enum ring_opcode code, int fd, const void *addr, size_t len,
		unsigned flags);
/* Submit what is queued, take what is completed; wait for one completion until `deadline` (0: do not wait).
 * 0, or -errno: -EINTR after a signal, else the ring is unusable. */
int ring_turn(struct ring *r, int64_t deadline);
/* Queue, submit and wait; cancelled and reaped at the deadline.  Returns bytes, -ETIMEDOUT or -errno. */
int ring_call(struct ring *r, enum ring_opcode code, int fd, const void *addr, size_t len, unsigned flags,
	      int64_t deadline);
/* Cancel and reap.  False: the kernel refused even that (seccomp); the ring is then closed, nothing will touch
 * `op` any more, but the buffer behind it may still be read or written and must be leaked. */
bool ring_cancel(struct ring *r, struct op *op);

/* Milliseconds, CLOCK_MONOTONIC: the clock of every deadline here. */
int64_t clock_ms(void);

#endif
