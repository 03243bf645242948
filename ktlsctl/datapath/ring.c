/* SPDX-License-Identifier: BSD-2-Clause */
#define _GNU_SOURCE
#include "ring.h"

#include <errno.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "sys.h"

int64_t clock_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

#ifdef DATAPATH_HAS_RING

#include <fcntl.h>
#include <linux/time_types.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

/* Grace for what should be immediate: a NOP, a MSG_DONTWAIT transfer, a cancellation. */
#define GRACE_MS 1000

/* SINGLE_MMAP 5.4, NODROP 5.5, FAST_POLL 5.7, EXT_ARG 5.11. */
#define FEATURES (IORING_FEAT_SINGLE_MMAP | IORING_FEAT_NODROP | IORING_FEAT_FAST_POLL | IORING_FEAT_EXT_ARG)

struct ring {
	int fd;
	unsigned refs;
	volatile char *owner; /* a page that reads 1 here and 0 in a forked child; getpid() is a system call each time */
	unsigned tail; /* our copy of *sq_tail; only we write it */
	unsigned sq_entries, sq_mask, cq_mask;
	unsigned *sq_head, *sq_tail, *cq_head, *cq_tail;
	struct io_uring_cqe *cqes;
	struct io_uring_sqe *sqes;
	void *rings;
	size_t rings_len, sqes_len;
	struct ring_stats stats;
};

#ifndef DATAPATH_FAULTS
static int setup(unsigned entries, struct io_uring_params *p)
{
	return (int)syscall(__NR_io_uring_setup, entries, p);
}

static int enter(int fd, unsigned submit, unsigned want, unsigned flags, const void *arg, size_t len)
{
	return (int)syscall(__NR_io_uring_enter, fd, submit, want, flags, arg, len);
}

#define submitted(sqe) ((void)0)
#define completed(cqe) ((void)0)
#endif

static unsigned load(const unsigned *p)
{
	return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}

static void store(unsigned *p, unsigned v)
{
	__atomic_store_n(p, v, __ATOMIC_RELEASE);
}

bool ring_owned(const struct ring *r)
{
	return r->owner && *r->owner;
}

static void finish(uint64_t user_data, int res)
{
	struct op *op = (struct op *)(uintptr_t)user_data;

	if (op) { /* a cancellation has no operation of its own */
		op->res = res;
		op->state = OP_DONE;
	}
}

static void reap(struct ring *r)
{
	unsigned head = *r->cq_head, tail = load(r->cq_tail);

	for (; head != tail; head++) {
		struct io_uring_cqe *cqe = &r->cqes[head & r->cq_mask];

		SYS(completed)(cqe);
		finish(cqe->user_data, cqe->res);
		r->stats.completed++;
	}
	store(r->cq_head, head);
}

/* The kernel took nothing from the queue, and will not: complete what is in it with the error. */
static void withdraw(struct ring *r, int error)
{
	unsigned head = load(r->sq_head);

	for (; r->tail != head; r->tail--)
		finish(r->sqes[(r->tail - 1) & r->sq_mask].user_data, -error);
	store(r->sq_tail, r->tail);
}

/* `flags` 0 only submits, which costs less and is enough for what completes at once. */
static int turn(struct ring *r, int64_t deadline, unsigned flags)
{
	struct __kernel_timespec ts;
	struct io_uring_getevents_arg arg = {.ts = (uintptr_t)&ts};
	int64_t left = deadline ? deadline - clock_ms() : 0;
	unsigned queued;
	int rc, error;

	if (r->fd < 0 || !ring_owned(r))
		return r->fd < 0 ? -EBADF : -EOWNERDEAD;
	ts.tv_sec = left > 0 ? left / 1000 : 0;
	ts.tv_nsec = left > 0 ? left % 1000 * 1000000 : 0;
	queued = r->tail - load(r->sq_head);
	for (unsigned i = 0; i < queued; i++)
		SYS(submitted)(&r->sqes[(r->tail - queued + i) & r->sq_mask]);
	r->stats.enters++;
	r->stats.submitted += queued;
	/* A wait that fails after a submission is not reported (io_uring_enter(2)), so callers look at their
	 * operation, not at this result.  SO_RCVTIMEO and O_NONBLOCK mean nothing here: only EXT_ARG bounds it. */
	if (left > 0)
		rc = SYS(enter)(r->fd, queued, 1, flags | IORING_ENTER_EXT_ARG, &arg, sizeof(arg));
	else
		rc = SYS(enter)(r->fd, queued, 0, flags, NULL, 0);
	error = rc < 0 ? errno : 0;
	reap(r);
	if (!error || error == ETIME)
		return 0;
	if (error == EINTR)
		return -EINTR;
	if (error != EBUSY) /* EBUSY: completions overflowed; reap() has just made room */
		withdraw(r, error);
	/* EAGAIN: no memory for a request; the withdrawn operation says so, the ring itself is fine. */
	return error == EBUSY || error == EAGAIN ? 0 : -error;
}

int ring_turn(struct ring *r, int64_t deadline)
{
	return turn(r, deadline, IORING_ENTER_GETEVENTS);
}

/* POLL_ADD's 32 event bits are stored word-reversed on big-endian machines (linux/io_uring.h). */
static unsigned poll_bits(unsigned events)
{
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	return events << 16 | events >> 16;
#else
	return events;
#endif
}

static struct io_uring_sqe *take_sqe(struct ring *r, int *error)
{
	struct io_uring_sqe *sqe;

	*error = r->fd < 0 ? EBADF : !ring_owned(r) ? EOWNERDEAD : 0;
	if (*error)
		return NULL;
	if (r->tail - load(r->sq_head) == r->sq_entries) { /* full: the kernel must take some first */
		int rc = ring_turn(r, 0);

		r->stats.sq_full++;
		if (r->tail - load(r->sq_head) == r->sq_entries) {
			*error = rc ? -rc : EBUSY;
			return NULL;
		}
	}
	sqe = &r->sqes[r->tail & r->sq_mask];
	memset(sqe, 0, sizeof(*sqe));
	store(r->sq_tail, ++r->tail); /* without SQPOLL the kernel looks only during enter */
	return sqe;
}

void ring_queue(struct ring *r, struct op *op, enum ring_opcode code, int fd, const void *addr, size_t len,
		unsigned flags)
{
	static const uint8_t opcodes[] = {
		[RING_NOP] = IORING_OP_NOP,	    [RING_SEND] = IORING_OP_SEND,
		[RING_RECV] = IORING_OP_RECV,	    [RING_SENDMSG] = IORING_OP_SENDMSG,
		[RING_RECVMSG] = IORING_OP_RECVMSG, [RING_POLL] = IORING_OP_POLL_ADD,
		[RING_SPLICE] = IORING_OP_SPLICE,
	};
	struct io_uring_sqe *sqe;
	int error;

	op->state = OP_FLYING;
	sqe = take_sqe(r, &error);
	if (!sqe) {
		finish((uintptr_t)op, -error);
		return;
	}
	sqe->opcode = opcodes[code];
	sqe->fd = fd;
	sqe->addr = (uintptr_t)addr;
	sqe->len = (uint32_t)len;
	sqe->msg_flags = code == RING_POLL ? poll_bits(flags) : flags;
	sqe->user_data = (uintptr_t)op;
	if (code == RING_SPLICE) {
		const struct ring_source *from = addr;

		sqe->splice_fd_in = from->fd;
		sqe->splice_off_in = (uint64_t)from->offset;
		sqe->off = UINT64_MAX; /* neither a pipe nor a socket has an offset */
	}
}

/* False when waiting is no use: the kernel refuses io_uring_enter. */
static bool wait_done(struct ring *r, const struct op *op, int64_t deadline)
{
	int rc = 0;

	while (op->state == OP_FLYING && (rc == 0 || rc == -EINTR) && clock_ms() < deadline)
		rc = ring_turn(r, deadline);
	return rc == 0 || rc == -EINTR;
}

bool ring_cancel(struct ring *r, struct op *op)
{
	int64_t deadline = clock_ms() + GRACE_MS;
	bool usable = true;

	if (!ring_owned(r)) /* the parent's operation, of which a forked child has only a copy */
		op->state = OP_IDLE;
	while (op->state == OP_FLYING && usable && clock_ms() < deadline) {
		int error;
		struct io_uring_sqe *sqe = take_sqe(r, &error);

		if (sqe) {
			sqe->opcode = IORING_OP_ASYNC_CANCEL;
			sqe->fd = -1;
			sqe->addr = (uintptr_t)op;
			r->stats.cancelled++;
		}
		usable = (sqe || error == EBUSY) && wait_done(r, op, clock_ms() + GRACE_MS / 10);
	}
	if (op->state != OP_FLYING)
		return true;
	ring_kill(r); /* the kernel now cancels everything by itself, but does not say when it is done */
	return false;
}

int ring_call(struct ring *r, enum ring_opcode code, int fd, const void *addr, size_t len, unsigned flags,
	      int64_t deadline)
{
	struct op op = {0};

	ring_queue(r, &op, code, fd, addr, len, flags);
	if (op.state == OP_FLYING)
		turn(r, 0, 0); /* most transfers are complete after this one system call */
	if (op.state == OP_FLYING)
		wait_done(r, &op, deadline ? deadline : clock_ms() + GRACE_MS);
	if (op.state == OP_FLYING) {
		/* OpenSSL's own memory may be on loan: it must come back before we return. */
		if (!ring_cancel(r, &op))
			return -EIO;
		if (op.res == -ECANCELED)
			return -ETIMEDOUT;
	}
	return op.res;
}

static int read_sysctl(void)
{
	char digit = 0;
	int fd = open("/proc/sys/kernel/io_uring_disabled", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -1;
	if (read(fd, &digit, 1) != 1)
		digit = 0;
	close(fd);
	return digit >= '0' && digit <= '9' ? digit - '0' : -1;
}

static struct ring *fail(struct ring *r, struct ring_failure *why, int stage, int error)
{
	why->stage = stage;
	why->error = error;
	why->sysctl = read_sysctl();
	why->seccomp = prctl(PR_GET_SECCOMP);
	ring_unref(r);
	return NULL;
}

struct ring *ring_open(unsigned entries, struct ring_failure *why)
{
	struct io_uring_params p = {.flags = IORING_SETUP_CLAMP};
	struct ring *r = calloc(1, sizeof(*r));
	char *base;
	int rc;

	if (!r)
		return fail(NULL, why, RING_STAGE_SETUP, ENOMEM);
	r->refs = 1;
	r->fd = SYS(setup)(entries, &p);
	if (r->fd < 0)
		return fail(r, why, RING_STAGE_SETUP, errno);
	if ((p.features & FEATURES) != FEATURES)
		return fail(r, why, RING_STAGE_FEATURES, ENOSYS);
	r->rings_len = p.sq_off.array + p.sq_entries * sizeof(unsigned);
	if (r->rings_len < p.cq_off.cqes + p.cq_entries * sizeof(struct io_uring_cqe))
		r->rings_len = p.cq_off.cqes + p.cq_entries * sizeof(struct io_uring_cqe);
	r->sqes_len = p.sq_entries * sizeof(struct io_uring_sqe);
	base = SYS(mmap)(NULL, r->rings_len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, r->fd,
			 IORING_OFF_SQ_RING);
	if (base == MAP_FAILED)
		return fail(r, why, RING_STAGE_MMAP, errno);
	r->rings = base;
	r->sqes = SYS(mmap)(NULL, r->sqes_len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, r->fd,
			    IORING_OFF_SQES);
	if (r->sqes == MAP_FAILED) {
		r->sqes = NULL;
		return fail(r, why, RING_STAGE_MMAP, errno);
	}
	base = SYS(mmap)(NULL, 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (base == MAP_FAILED)
		return fail(r, why, RING_STAGE_MMAP, errno);
	r->owner = base;
	if (madvise(base, 1, MADV_WIPEONFORK) < 0) /* Linux 4.14, older than io_uring */
		return fail(r, why, RING_STAGE_MMAP, errno);
	*r->owner = 1;
	base = r->rings;
	r->sq_entries = p.sq_entries;
	r->sq_mask = *(unsigned *)(base + p.sq_off.ring_mask);
	r->cq_mask = *(unsigned *)(base + p.cq_off.ring_mask);
	r->sq_head = (unsigned *)(base + p.sq_off.head);
	r->sq_tail = (unsigned *)(base + p.sq_off.tail);
	r->cq_head = (unsigned *)(base + p.cq_off.head);
	r->cq_tail = (unsigned *)(base + p.cq_off.tail);
	r->cqes = (struct io_uring_cqe *)(base + p.cq_off.cqes);
	for (unsigned i = 0; i < p.sq_entries; i++) /* entry i always sits in slot i */
		((unsigned *)(base + p.sq_off.array))[i] = i;
	/* A filter may let setup pass and refuse enter: only a round trip proves the ring. */
	rc = ring_call(r, RING_NOP, -1, NULL, 0, 0, clock_ms() + GRACE_MS);
	if (rc < 0)
		return fail(r, why, RING_STAGE_NOP, -rc);
	return r;
}

void ring_kill(struct ring *r)
{
	if (r->fd >= 0)
		close(r->fd);
	r->fd = -1;
}

void ring_ref(struct ring *r)
{
	r->refs++;
}

void ring_unref(struct ring *r)
{
	if (!r || --r->refs)
		return;
	ring_kill(r);
	if (r->owner)
		munmap((void *)(uintptr_t)r->owner, 1);
	if (r->sqes)
		munmap(r->sqes, r->sqes_len);
	if (r->rings)
		munmap(r->rings, r->rings_len);
	free(r);
}

void ring_get_stats(const struct ring *r, struct ring_stats *out)
{
	*out = r->stats;
}

#else /* no io_uring: there is never a ring, so nothing below ring_open() is reached */

struct ring *ring_open(unsigned entries, struct ring_failure *why)
{
	(void)entries;
	*why = (struct ring_failure){RING_STAGE_BUILD, ENOSYS, -1, -1};
	return NULL;
}

void ring_ref(struct ring *r) { (void)r; }
void ring_unref(struct ring *r) { (void)r; }
void ring_kill(struct ring *r) { (void)r; }
bool ring_owned(const struct ring *r) { (void)r; return true; }
bool ring_cancel(struct ring *r, struct op *op) { (void)r; (void)op; return true; }
int ring_turn(struct ring *r, int64_t deadline) { (void)r; (void)deadline; return -ENOSYS; }

void ring_get_stats(const struct ring *r, struct ring_stats *out)
{
	(void)r;
	memset(out, 0, sizeof(*out));
}

void ring_queue(struct ring *r, struct op *op, enum ring_opcode code, int fd, const void *addr, size_t len,
		unsigned flags)
{
	(void)r; (void)code; (void)fd; (void)addr; (void)len; (void)flags;
	op->res = -ENOSYS;
	op->state = OP_DONE;
}

int ring_call(struct ring *r, enum ring_opcode code, int fd, const void *addr, size_t len, unsigned flags,
	      int64_t deadline)
{
	(void)r; (void)code; (void)fd; (void)addr; (void)len; (void)flags; (void)deadline;
	return -ENOSYS;
}

#endif
