/* SPDX-License-Identifier: BSD-2-Clause */
#define _GNU_SOURCE
#include "bio.h"

#include <errno.h>
#include <string.h>
#include <sys/uio.h>

#include "buf.h"
#include "ktls.h"
#include "sys.h"

#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0
#endif

/* openssl/bio.h and internal/bio.h, unchanged from 1.1.1 to 4.0. */
enum {
	CTRL_EOF = 2,
	CTRL_SET_CLOSE = 9,
	CTRL_PENDING = 10,
	CTRL_FLUSH = 11,
	CTRL_WPENDING = 13,
	CTRL_SET_KTLS = 72, /* num: 0 for RX; for TX 2 in 3.0, 1 from 3.2 on */
	CTRL_GET_KTLS_SEND = 73,
	CTRL_SET_RECORD_TYPE = 74,
	CTRL_CLEAR_RECORD_TYPE = 75,
	CTRL_GET_KTLS_RECV = 76,
	CTRL_SET_ZEROCOPY = 90, /* from 3.2 on, with SSL_OP_ENABLE_KTLS_TX_ZEROCOPY_SENDFILE */
	CTRL_GET_FD = 105,

	FLAG_READ = 0x01,
	FLAG_WRITE = 0x02,
	FLAG_RETRY = 0x08,
	FLAGS_RETRY_ALL = 0x0f,

	TYPE_DESCRIPTOR = 0x100, /* without it SSL_get_wfd() is -1 and SSL_sendfile fails */
	TYPE_SOURCE_SINK = 0x400,
};

enum { HEADER = 5, TAG = 16, APPLICATION_DATA = 23 };

struct library {
	struct ossl_api api;
	BIO_METHOD *method;
	unsigned refs, slot;
};

struct datapath {
	struct library *lib;
	struct ring *ring; /* NULL: plain system calls */
	struct buf_cache cache;
	unsigned refs, bios, leaked;
	uint64_t calls;
};

struct dbio {
	struct datapath *dp;
	BIO *bio;
	SSL *ssl;
	unsigned refs; /* the caller's and the BIO's */
	int fd, wait_ms, drain_ms;
	uint8_t policy[2]; /* [tx] */
	bool in_kernel[2]; /* [tx] */
	bool eof, closed;
	uint8_t read_size; /* of the next buffer for reading ahead */
	int error;	   /* sticky: a send failed after its bytes were accepted */
	int next_type;	   /* record type of the next write, -1: application data */
	struct buf *ahead; /* read and not yet asked for */
	struct buf *backlog; /* accepted and not yet taken by the socket */
	int backlog_type;
	struct op send, poll;
	short polled;
	struct msghdr msg; /* of the send in flight: the kernel's until it completes */
	struct iovec iov;
	union ktls_cmsg control;
	uint64_t sent, received;
	uint32_t records[2][DP_TYPES]; /* [tx] */
	uint32_t event_count;
	struct dp_event events[DP_EVENTS];
};

const char *const ossl_symbols[] = {
#define X(type, name, args) #name,
	OSSL_FUNCTIONS(X)
#undef X
	NULL,
};

static const struct ossl_api *api(const struct dbio *b)
{
	return &b->dp->lib->api;
}

/* ---- moving bytes -------------------------------------------------------------------------------------- */

static ssize_t plain_call(struct dbio *b, enum ring_opcode code, void *addr, size_t len)
{
	const int flags = MSG_DONTWAIT | MSG_NOSIGNAL;

	b->dp->calls++;
	switch (code) {
	case RING_SEND:
		return SYS(send)(b->fd, addr, len, flags);
	case RING_RECV:
		return SYS(recv)(b->fd, addr, len, MSG_DONTWAIT);
	case RING_SENDMSG:
		return SYS(sendmsg)(b->fd, addr, flags);
	default:
		return SYS(recvmsg)(b->fd, addr, MSG_DONTWAIT);
	}
}

/* One transfer, over when this returns, so that OpenSSL's own memory may be used: bytes or -errno. */
static ssize_t transfer(struct dbio *b, enum ring_opcode code, void *addr, size_t len)
{
	int64_t deadline = b->wait_ms ? clock_ms() + b->wait_ms : 0;
	short events = code == RING_SEND || code == RING_SENDMSG ? POLLOUT : POLLIN;

	if (b->dp->ring)
		return ring_call(b->dp->ring, code, b->fd, addr, len,
				 (events == POLLOUT ? MSG_NOSIGNAL : 0) | (deadline ? 0 : MSG_DONTWAIT), deadline);
	for (;;) {
		ssize_t n = plain_call(b, code, addr, len);
		struct pollfd p = {.fd = b->fd, .events = events};
		int64_t left;

		if (n >= 0)
			return n;
		if ((errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) || !deadline)
			return -errno;
		left = deadline - clock_ms();
		if (left <= 0)
			return -ETIMEDOUT;
		if (SYS(poll)(&p, 1, (int)left) < 0 && errno != EINTR)
			return -errno;
	}
}

static bool transient(ssize_t res)
{
	return res == -EAGAIN || res == -EWOULDBLOCK || res == -EINTR;
}

static void count_record(struct dbio *b, bool tx, int type)
{
	int slot = type - DP_TYPE_FIRST;

	if (b->in_kernel[tx])
		b->records[tx][slot >= 0 && slot < DP_TYPES - 1 ? slot : DP_TYPES - 1]++;
}

/* Point b->msg at bytes to send as one record of a type. */
static void address(struct dbio *b, const void *data, size_t len, int type)
{
	memset(&b->msg, 0, sizeof(b->msg));
	b->iov.iov_base = (void *)(uintptr_t)data;
	b->iov.iov_len = len;
	b->msg.msg_iov = &b->iov;
	b->msg.msg_iovlen = 1;
	ktls_put_type(&b->msg, &b->control, (unsigned char)type);
}

/* ---- the backlog: what OpenSSL was told is written and the socket has not taken ------------------------- */

static void drop_backlog(struct dbio *b, int error)
{
	buf_put(&b->dp->cache, b->backlog);
	b->backlog = NULL;
	if (error && !b->error)
		b->error = error;
}

/* Note what a send of backlog did. */
static void advance(struct dbio *b, ssize_t res)
{
	if (res >= 0) {
		b->backlog->off += (uint32_t)res;
		if (b->backlog->off == b->backlog->len)
			drop_backlog(b, 0);
	} else if (!transient(res) && res != -ECANCELED) {
		drop_backlog(b, (int)-res);
	}
}

static void start_send(struct dbio *b)
{
	struct buf *q = b->backlog;
	bool typed = b->backlog_type >= 0;
	const void *addr = typed ? (const void *)&b->msg : q->data + q->off;
	size_t len = q->len - q->off;

	if (typed)
		address(b, q->data + q->off, len, b->backlog_type);
	if (b->dp->ring) { /* no MSG_DONTWAIT: the kernel sends it when there is room */
		ring_queue(b->dp->ring, &b->send, typed ? RING_SENDMSG : RING_SEND, b->fd, addr, typed ? 1 : len,
			   MSG_NOSIGNAL);
	} else {
		ssize_t n = plain_call(b, typed ? RING_SENDMSG : RING_SEND, (void *)(uintptr_t)addr, len);

		advance(b, n < 0 ? -errno : n);
	}
}

/* Let the backlog move as far as it can without waiting.  True: nothing is left. */
static bool settle(struct dbio *b)
{
	if (!b->backlog)
		return true;
	if (!b->dp->ring) {
		start_send(b);
		return !b->backlog;
	}
	for (int tries = 0; b->backlog && tries < 4; tries++) {
		if (b->send.state == OP_IDLE)
			start_send(b);
		if (b->send.state == OP_FLYING) {
			int rc = ring_turn(b->dp->ring, 0);

			if (rc < 0 && rc != -EINTR && !b->error)
				b->error = -rc;
		}
		if (b->send.state == OP_FLYING)
			break;
		b->send.state = OP_IDLE;
		advance(b, b->send.res);
	}
	return !b->backlog;
}

/* Empty the backlog within `ms`. */
static bool drain(struct dbio *b, int ms)
{
	int64_t deadline = b->backlog ? clock_ms() + ms : 0;

	while (!settle(b)) {
		int64_t left = deadline - clock_ms();
		struct pollfd p = {.fd = b->fd, .events = POLLOUT};

		if (b->error || left <= 0)
			return false;
		if (b->dp->ring) {
			if (b->send.state == OP_FLYING)
				ring_turn(b->dp->ring, deadline);
		} else if (SYS(poll)(&p, 1, (int)left) < 0 && errno != EINTR) {
			b->error = errno;
		}
	}
	return !b->error;
}

/* Accept bytes that the socket would not take.  How many, or -EAGAIN. */
static ssize_t keep(struct dbio *b, const char *in, size_t len)
{
	unsigned size = buf_size_for(len);

	if (len > buf_capacity(size))
		len = buf_capacity(size);
	b->backlog = buf_get(&b->dp->cache, size);
	if (!b->backlog)
		return -EAGAIN; /* no memory: OpenSSL keeps them and tries again */
	memcpy(b->backlog->data, in, len);
	b->backlog->len = (uint32_t)len;
	b->backlog_type = b->next_type;
	settle(b);
	return (ssize_t)len;
}

/* ---- BIO_read and BIO_write ----------------------------------------------------------------------------- */

/* What OpenSSL expects of a failure: -1 with errno, and the retry flags exactly when trying again may help. */
static int failed(struct dbio *b, ssize_t res, int direction)
{
	if (transient(res))
		api(b)->BIO_set_flags(b->bio, FLAG_RETRY | direction);
	errno = transient(res) ? EAGAIN : (int)-res;
	return -1;
}

static int bio_write(struct dbio *b, const char *in, int len)
{
	ssize_t n;

	api(b)->BIO_clear_flags(b->bio, FLAGS_RETRY_ALL);
	if (!in || len <= 0)
		return 0;
	if (b->closed || b->error)
		return failed(b, b->closed ? -EBADF : -b->error, FLAG_WRITE);
	if (!drain(b, b->wait_ms))
		return failed(b, b->error ? -b->error : b->wait_ms ? -ETIMEDOUT : -EAGAIN, FLAG_WRITE);
	if (b->next_type >= 0) {
		address(b, in, (size_t)len, b->next_type);
		n = transfer(b, RING_SENDMSG, &b->msg, 1);
	} else {
		n = transfer(b, RING_SEND, (void *)(uintptr_t)in, (size_t)len);
	}
	/* Nothing is kept once the kernel has TX.  It would make flush() fail, and in a handshake with early data the
	 * BIO_f_buffer above drops a flush's retry flags: OpenSSL 3.0 took that for the end. */
	if (transient(n) && !b->in_kernel[true])
		n = keep(b, in, (size_t)len);
	if (n < 0)
		return failed(b, n, FLAG_WRITE);
	count_record(b, true, b->next_type >= 0 ? b->next_type : APPLICATION_DATA);
	b->next_type = -1; /* a retry keeps it */
	b->sent += (uint64_t)n;
	return (int)n;
}

/* One whole record out of the kernel, with the header that OpenSSL expects before it. */
static ssize_t read_record(struct dbio *b, unsigned char *out, size_t len)
{
	struct iovec iov;
	union ktls_cmsg control;
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
	ssize_t n;
	int type;

	if (len <= HEADER + TAG)
		return -EINVAL;
	iov.iov_base = out + HEADER;
	iov.iov_len = len - HEADER - TAG; /* OpenSSL up to 3.6 wants room for a tag that is not there */
	n = transfer(b, RING_RECVMSG, &msg, 1);
	if (n < 0)
		return n;
	type = ktls_get_type(&msg);
	if (type < 0) /* nothing at all is the end of the stream; bytes of unknown type must not pass for data */
		return n == 0 ? 0 : type < -1 ? type : -EBADMSG;
	out[0] = (unsigned char)type;
	out[1] = out[2] = 3; /* in TLS 1.3 too */
	out[3] = (unsigned char)(n >> 8);
	out[4] = (unsigned char)n;
	count_record(b, false, type);
	return n + HEADER;
}

static void drop_ahead(struct dbio *b)
{
	buf_put(&b->dp->cache, b->ahead);
	b->ahead = NULL;
}

/* Hand out what was read ahead. */
static int take(struct dbio *b, char *out, size_t len)
{
	struct buf *q = b->ahead;
	uint32_t left;

	if (len > q->len - q->off)
		len = q->len - q->off;
	memcpy(out, q->data + q->off, len);
	q->off += (uint32_t)len;
	left = q->len - q->off;
	if (!left) {
		drop_ahead(b);
	} else if (len == HEADER && left * 8 <= buf_capacity(q->size)) {
		/* At the edge of a record, and little is left: whoever stops reading here holds a small buffer. */
		struct buf *fit = buf_size_for(left) < q->size ? buf_get(&b->dp->cache, buf_size_for(left)) : NULL;

		if (fit) {
			memcpy(fit->data, q->data + q->off, left);
			fit->len = left;
			drop_ahead(b);
			b->ahead = fit;
		}
	}
	return (int)len;
}

/* Reading more than OpenSSL asks for saves a call per record, and is wrong while the kernel may still take over:
 * it would never see those bytes.  After the handshake it will not. */
static bool may_read_ahead(const struct dbio *b)
{
	return b->ssl && !b->in_kernel[false] && api(b)->SSL_is_init_finished(b->ssl);
}

static ssize_t read_ahead(struct dbio *b, char *out, size_t len)
{
	struct buf *q = buf_get(&b->dp->cache, b->read_size);
	ssize_t n;

	if (!q)
		return transfer(b, RING_RECV, out, len);
	n = transfer(b, RING_RECV, q->data, buf_capacity(q->size));
	b->ahead = q;
	if (n <= 0) {
		drop_ahead(b);
		return n;
	}
	q->len = (uint32_t)n;
	if ((size_t)n == buf_capacity(q->size) && b->read_size < BUF_LARGE)
		b->read_size++;
	else if (b->read_size > BUF_SMALL && (size_t)n <= buf_capacity(b->read_size - 1U))
		b->read_size--;
	return take(b, out, len);
}

static int bio_read(struct dbio *b, char *out, int len)
{
	ssize_t n;

	api(b)->BIO_clear_flags(b->bio, FLAGS_RETRY_ALL);
	if (!out || len <= 0)
		return 0;
	if (b->closed)
		return failed(b, -EBADF, FLAG_READ);
	if (b->eof)
		return 0;
	settle(b);
	if (b->ahead)
		n = take(b, out, (size_t)len);
	else if (b->in_kernel[false])
		n = read_record(b, (unsigned char *)out, (size_t)len);
	else if (may_read_ahead(b))
		n = read_ahead(b, out, (size_t)len);
	else
		n = transfer(b, RING_RECV, out, (size_t)len);
	/* What was promised to be sent is lost: no answer will come.  And if it was lost to a reset, the send has
	 * taken the socket's error, which reads as an orderly end from then on. */
	if ((transient(n) || n == 0) && b->error)
		n = -b->error;
	if (n < 0)
		return failed(b, n, FLAG_READ);
	b->eof = n == 0;
	b->received += (uint64_t)n;
	return (int)n;
}

/* ---- BIO_ctrl ------------------------------------------------------------------------------------------- */

static uint32_t held(const struct buf *q)
{
	return q ? q->len - q->off : 0;
}

static int in_flight(const struct dbio *b)
{
	return (b->send.state == OP_FLYING) + (b->poll.state == OP_FLYING);
}

static void note(struct dbio *b, const struct dp_event *e)
{
	if (b->event_count < DP_EVENTS)
		b->events[b->event_count] = *e;
	b->event_count++;
}

bool dbio_cancel(struct dbio *b)
{
	bool ok = true;

	if (!b->dp->ring)
		return true;
	ok = ring_cancel(b->dp->ring, &b->poll);
	b->poll.state = OP_IDLE;
	if (!ring_cancel(b->dp->ring, &b->send)) {
		ok = false;
		b->dp->leaked++;
		b->dp->cache.live--;
		b->backlog = NULL;
		b->error = b->error ? b->error : EIO;
	} else if (b->send.state == OP_DONE) {
		advance(b, b->send.res);
	}
	b->send.state = OP_IDLE;
	return ok;
}

/* BIO_CTRL_SET_KTLS.  1 only when the kernel has the key: any non-zero answer makes OpenSSL stop encrypting. */
static long set_ktls(struct dbio *b, bool tx, const void *info)
{
	struct dp_event e = {.tx = tx, .in_flight = in_flight(b), .leftover = (int)held(tx ? b->backlog : b->ahead)};

	ktls_describe(info, &e.version, &e.cipher_type);
	if (b->policy[tx] == DP_REFUSE || b->closed) {
		e.step = KTLS_POLICY;
	} else if (!tx && b->ahead) {
		e.step = KTLS_LEFTOVER; /* the kernel would never see them: stay in user space */
	} else if (tx && !drain(b, b->drain_ms)) {
		e.step = KTLS_DRAIN; /* what is queued must precede the first record of the kernel */
		e.error = b->error ? b->error : ETIMEDOUT;
	} else if (!dbio_cancel(b)) {
		e.step = KTLS_DRAIN;
		e.error = EIO;
	} else if (b->policy[tx] == DP_OBSERVE) {
		e.step = KTLS_OBSERVED;
	} else {
		e.step = (int)ktls_enable(b->fd, tx, info, &e.error);
	}
	note(b, &e);
	if (e.step != KTLS_OK)
		return 0;
	b->in_kernel[tx] = true;
	return 1;
}

/* With a TLS record layer of its own above, OpenSSL only needs to know that its bytes are owned, and says 1.  With
 * the kernel's, SSL_sendfile writes past this BIO right after the flush: nothing may be left here. */
static long flush(struct dbio *b)
{
	api(b)->BIO_clear_flags(b->bio, FLAGS_RETRY_ALL);
	if (b->in_kernel[true] ? drain(b, b->wait_ms) : (settle(b), !b->error))
		return 1;
	return failed(b, b->error ? -b->error : b->wait_ms ? -ETIMEDOUT : -EAGAIN, FLAG_WRITE);
}

static long bio_ctrl(struct dbio *b, int cmd, long num, void *ptr)
{
	switch (cmd) {
	case CTRL_EOF:
		return b->eof;
	case CTRL_SET_CLOSE:
		return 1; /* the socket is never ours to close */
	case CTRL_PENDING:
		return held(b->ahead);
	case CTRL_WPENDING:
		return held(b->backlog);
	case CTRL_FLUSH:
		return flush(b);
	case CTRL_SET_KTLS:
		return ptr ? set_ktls(b, num != 0, ptr) : 0;
	case CTRL_GET_KTLS_SEND:
		return b->in_kernel[true];
	case CTRL_GET_KTLS_RECV:
		return b->in_kernel[false];
	case CTRL_SET_RECORD_TYPE:
		b->next_type = (int)num;
		return 0;
	case CTRL_CLEAR_RECORD_TYPE:
		b->next_type = -1;
		return 0;
	case CTRL_SET_ZEROCOPY:
		return b->in_kernel[true] && ktls_zerocopy(b->fd);
	case CTRL_GET_FD:
		if (ptr)
			*(int *)ptr = b->fd;
		return b->fd;
	default: /* everything unknown must be 0: OpenSSL takes other answers for a yes */
		return 0;
	}
}

/* ---- life and death ------------------------------------------------------------------------------------- */

void dbio_close(struct dbio *b)
{
	if (b->closed)
		return;
	if (!b->error)
		drain(b, b->drain_ms);
	dbio_cancel(b);
	if (b->backlog)
		drop_backlog(b, ECANCELED);
	if (b->ahead)
		drop_ahead(b);
	b->closed = true;
}

static void dbio_unref(struct dbio *b)
{
	if (--b->refs)
		return;
	b->dp->bios--;
	datapath_free(b->dp);
	free(b);
}

static int bio_destroy(struct dbio *b)
{
	dbio_close(b);
	b->bio = NULL;
	b->ssl = NULL;
	dbio_unref(b);
	return 1;
}

/*
 * A callback is given a BIO and must find its dbio with BIO_get_data(), which is another function in each libssl:
 * so every library has callbacks of its own.
 */
enum { SLOTS = 4 };
static struct library *slots[SLOTS];

#define SLOT(n)                                                                         \
	static struct dbio *data_##n(BIO *bio)                                          \
	{                                                                               \
		return slots[n]->api.BIO_get_data(bio);                                 \
	}                                                                               \
	static int write_##n(BIO *bio, const char *in, int len)                         \
	{                                                                               \
		return bio_write(data_##n(bio), in, len);                               \
	}                                                                               \
	static int read_##n(BIO *bio, char *out, int len)                               \
	{                                                                               \
		return bio_read(data_##n(bio), out, len);                               \
	}                                                                               \
	static long ctrl_##n(BIO *bio, int cmd, long num, void *ptr)                    \
	{                                                                               \
		return bio_ctrl(data_##n(bio), cmd, num, ptr);                          \
	}                                                                               \
	static int destroy_##n(BIO *bio)                                                \
	{                                                                               \
		return bio_destroy(data_##n(bio));                                      \
	}

SLOT(0)
SLOT(1)
SLOT(2)
SLOT(3)

static const struct {
	int (*write)(BIO *, const char *, int);
	int (*read)(BIO *, char *, int);
	long (*ctrl)(BIO *, int, long, void *);
	int (*destroy)(BIO *);
} callbacks[SLOTS] = {
	{write_0, read_0, ctrl_0, destroy_0},
	{write_1, read_1, ctrl_1, destroy_1},
	{write_2, read_2, ctrl_2, destroy_2},
	{write_3, read_3, ctrl_3, destroy_3},
};

struct library *library_new(const uintptr_t *addresses, size_t count)
{
	struct library *lib;
	unsigned slot = 0;
	int index;

	_Static_assert(sizeof(struct ossl_api) % sizeof(uintptr_t) == 0, "functions are addresses");
	if (count != sizeof(struct ossl_api) / sizeof(uintptr_t))
		return NULL;
	for (size_t i = 0; i < count; i++)
		if (!addresses[i])
			return NULL;
	while (slot < SLOTS && slots[slot])
		slot++;
	if (slot == SLOTS)
		return NULL;
	lib = calloc(1, sizeof(*lib));
	if (!lib)
		return NULL;
	memcpy(&lib->api, addresses, sizeof(lib->api));
	index = lib->api.BIO_get_new_index();
	if (index > 0)
		lib->method = lib->api.BIO_meth_new(index | TYPE_SOURCE_SINK | TYPE_DESCRIPTOR, "ktlsctl");
	if (!lib->method) {
		free(lib);
		return NULL;
	}
	lib->api.BIO_meth_set_write(lib->method, callbacks[slot].write);
	lib->api.BIO_meth_set_read(lib->method, callbacks[slot].read);
	lib->api.BIO_meth_set_ctrl(lib->method, callbacks[slot].ctrl);
	lib->api.BIO_meth_set_destroy(lib->method, callbacks[slot].destroy);
	lib->refs = 1;
	lib->slot = slot;
	slots[slot] = lib;
	return lib;
}

void library_free(struct library *lib)
{
	if (!lib || --lib->refs)
		return;
	slots[lib->slot] = NULL;
	lib->api.BIO_meth_free(lib->method);
	free(lib);
}

struct datapath *datapath_new(struct library *lib, struct ring *ring)
{
	struct datapath *dp = calloc(1, sizeof(*dp));

	if (!dp)
		return NULL;
	dp->lib = lib;
	lib->refs++;
	dp->ring = ring;
	if (ring)
		ring_ref(ring);
	dp->refs = 1;
	return dp;
}

void datapath_free(struct datapath *dp)
{
	if (!dp || --dp->refs)
		return;
	buf_cache_drop(&dp->cache);
	ring_unref(dp->ring);
	library_free(dp->lib);
	free(dp);
}

void datapath_get_stats(const struct datapath *dp, struct dp_stats *out)
{
	memset(out, 0, sizeof(*out));
	out->calls = dp->calls;
	if (dp->ring)
		ring_get_stats(dp->ring, &out->ring);
	out->buffers_live = dp->cache.live;
	for (unsigned size = 0; size < BUF_SIZES; size++)
		out->buffers_cached += dp->cache.cached[size];
	out->buffers_leaked = dp->leaked;
	out->bios = dp->bios;
}

struct dbio *dbio_new(struct datapath *dp, int fd, enum dp_policy tx, enum dp_policy rx, int wait_ms, int drain_ms)
{
	struct dbio *b = calloc(1, sizeof(*b));

	if (!b)
		return NULL;
	b->bio = dp->lib->api.BIO_new(dp->lib->method);
	if (!b->bio) {
		free(b);
		return NULL;
	}
	b->dp = dp;
	dp->refs++;
	dp->bios++;
	b->refs = 2;
	b->fd = fd;
	b->policy[true] = tx;
	b->policy[false] = rx;
	b->wait_ms = wait_ms;
	b->drain_ms = drain_ms;
	b->next_type = -1;
	b->read_size = BUF_RECORD;
	api(b)->BIO_set_data(b->bio, b);
	api(b)->BIO_set_init(b->bio, 1);
	return b;
}

BIO *dbio_pointer(const struct dbio *b)
{
	return b->bio;
}

void dbio_attach(struct dbio *b, SSL *ssl)
{
	b->ssl = ssl;
	api(b)->SSL_set_bio(ssl, b->bio, b->bio);
}

void dbio_free(struct dbio *b)
{
	if (b->bio && !b->ssl)
		api(b)->BIO_free(b->bio); /* never attached: nobody else will */
	dbio_unref(b);
}

size_t dbio_events(const struct dbio *b, struct dp_event *out, size_t count)
{
	size_t have = b->event_count < DP_EVENTS ? b->event_count : DP_EVENTS;

	for (size_t i = 0; i < have && i < count; i++)
		out[i] = b->events[i];
	return have < count ? have : count;
}

void dbio_get_stats(const struct dbio *b, struct dp_bio_stats *out)
{
	*out = (struct dp_bio_stats){
		.sent = b->sent,
		.received = b->received,
		.backlog = held(b->backlog),
		.read_ahead = held(b->ahead),
		.in_flight = (uint32_t)in_flight(b),
		.events = b->event_count < DP_EVENTS ? b->event_count : DP_EVENTS,
		.events_lost = b->event_count < DP_EVENTS ? 0 : b->event_count - DP_EVENTS,
		.ktls_send = b->in_kernel[true],
		.ktls_recv = b->in_kernel[false],
		.eof = b->eof,
		.closed = b->closed,
		.error = b->error,
	};
	memcpy(out->records_sent, b->records[true], sizeof(out->records_sent));
	memcpy(out->records_received, b->records[false], sizeof(out->records_received));
}

/* ---- waiting for several -------------------------------------------------------------------------------- */

/* What a BIO can do now; if not what is wanted, leave a poll with the ring.  A poll holds no buffer. */
static short readiness(struct dbio *b, short events)
{
	short ready = 0;

	if (b->closed)
		return POLLNVAL;
	settle(b);
	if (b->error)
		return POLLERR;
	if (b->backlog)
		events &= (short)~POLLOUT; /* the send in flight is the better sign */
	if (b->ahead && events & POLLIN)
		return POLLIN;
	if (b->poll.state == OP_DONE) {
		b->poll.state = OP_IDLE;
		ready = b->poll.res < 0 ? (short)(POLLERR) : (short)(b->poll.res & (events | POLLERR | POLLHUP | POLLNVAL));
	} else if (b->poll.state == OP_FLYING && b->polled != events) {
		ring_cancel(b->dp->ring, &b->poll);
		b->poll.state = OP_IDLE;
	}
	if (!ready && events && b->dp->ring && b->poll.state == OP_IDLE) {
		b->polled = events;
		ring_queue(b->dp->ring, &b->poll, RING_POLL, b->fd, NULL, 0, (unsigned)events);
	}
	return ready;
}

static int plain_wait(struct dbio *const *bios, const short *events, short *ready, size_t count, int64_t left)
{
	struct pollfd *p = calloc(count, sizeof(*p));
	int rc;

	if (!p)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++) {
		p[i].fd = bios[i]->fd;
		p[i].events = (short)(events[i] | (bios[i]->backlog ? POLLOUT : 0));
	}
	rc = SYS(poll)(p, count, (int)left);
	if (rc < 0)
		rc = -errno;
	for (size_t i = 0; i < count; i++)
		ready[i] = p[i].revents;
	free(p);
	return rc;
}

int datapath_wait(struct datapath *dp, struct dbio *const *bios, const short *events, short *ready, size_t count,
		  int timeout_ms)
{
	int64_t deadline = clock_ms() + timeout_ms;

	for (;;) {
		int64_t left = deadline - clock_ms();
		int n = 0, rc;

		for (size_t i = 0; i < count; i++) {
			ready[i] = readiness(bios[i], events[i]);
			n += ready[i] != 0;
		}
		if (n)
			return n;
		if (!dp->ring) {
			rc = plain_wait(bios, events, ready, count, left > 0 ? left : 0);
			return rc == -EINTR ? 0 : rc;
		}
		rc = ring_turn(dp->ring, left > 0 ? deadline : 0);
		if (rc == -EINTR)
			return 0;
		if (rc < 0)
			return rc;
		if (left <= 0)
			return 0;
	}
}
