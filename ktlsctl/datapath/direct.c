/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "direct.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "ktls.h"

#ifndef SPLICE_F_NONBLOCK /* Linux's own; elsewhere there is no ring that would take it */
#define SPLICE_F_NONBLOCK 2
#endif

/* O_NONBLOCK does not keep io_uring's operations from waiting, MSG_DONTWAIT does. */
int direct_send(struct ring *r, int fd, const void *data, size_t len, int timeout_ms)
{
	return ring_call(r, RING_SEND, fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL, clock_ms() + timeout_ms);
}

int direct_splice(struct ring *r, int from, int64_t offset, int to, size_t len, int timeout_ms)
{
	struct ring_source source = {.fd = from, .offset = offset};

	return ring_call(r, RING_SPLICE, to, &source, len, SPLICE_F_NONBLOCK, clock_ms() + timeout_ms);
}

int direct_receive(struct ring *r, int fd, void *room, size_t len, int *type, int timeout_ms)
{
	union ktls_cmsg control = {0};
	struct iovec piece = {.iov_base = room, .iov_len = len};
	struct msghdr msg = {
		.msg_iov = &piece, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)
	};
	int got = ring_call(r, RING_RECVMSG, fd, &msg, 1, MSG_DONTWAIT, clock_ms() + timeout_ms);

	*type = got >= 0 ? ktls_get_type(&msg) : -1;
	return got;
}
