/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Drives ring and BIO without OpenSSL, and lets every call to the kernel fail: `harness [every=N] [ring|plain]...`.
 *
 * Two ends of a loopback connection exchange a stream in which every byte is known by its position.  Each run injects
 * one fault, at the k-th call of a kind, for every k the clean run makes.  Whatever happens: no wrong byte, no hang, no
 * operation or buffer left; without a fatal fault everything arrives; an injected errno is the one OpenSSL would see.
 * Crashes, leaks and undefined behaviour are for the sanitizers and for valgrind to find.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bio.h"
#include "sys.h"

static const char *running = "";
static unsigned checks, runs, leaked;
static bool verbose;

#define CHECK(what)                                                                                        \
	do {                                                                                               \
		checks++;                                                                                  \
		if (!(what)) {                                                                             \
			fprintf(stderr, "%s: %s:%d: %s\n", running, __FILE__, __LINE__, #what);            \
			abort();                                                                           \
		}                                                                                          \
	} while (0)

/* ---- a fake OpenSSL ------------------------------------------------------------------------------------- */

struct bio_method_st {
	int type;
	int (*write)(BIO *, const char *, int);
	int (*read)(BIO *, char *, int);
	long (*ctrl)(BIO *, int, long, void *);
	int (*destroy)(BIO *);
};

struct bio_st {
	const BIO_METHOD *method;
	void *data;
	int flags;
};

struct ssl_st {
	BIO *bio;
	int finished;
};

static int fake_index(void) { return 129; }

static BIO_METHOD *fake_meth_new(int type, const char *name)
{
	BIO_METHOD *m = calloc(1, sizeof(*m));

	(void)name;
	m->type = type;
	return m;
}

static void fake_meth_free(BIO_METHOD *m) { free(m); }
static int fake_set_write(BIO_METHOD *m, int (*f)(BIO *, const char *, int)) { m->write = f; return 1; }
static int fake_set_read(BIO_METHOD *m, int (*f)(BIO *, char *, int)) { m->read = f; return 1; }
static int fake_set_ctrl(BIO_METHOD *m, long (*f)(BIO *, int, long, void *)) { m->ctrl = f; return 1; }
static int fake_set_destroy(BIO_METHOD *m, int (*f)(BIO *)) { m->destroy = f; return 1; }

static BIO *fake_bio_new(const BIO_METHOD *m)
{
	BIO *b = calloc(1, sizeof(*b));

	b->method = m;
	return b;
}

static int fake_bio_free(BIO *b)
{
	if (b)
		b->method->destroy(b);
	free(b);
	return 1;
}

static void fake_set_data(BIO *b, void *data) { b->data = data; }
static void *fake_get_data(BIO *b) { return b->data; }
static void fake_set_init(BIO *b, int on) { (void)b; (void)on; }
static void fake_set_flags(BIO *b, int flags) { b->flags |= flags; }
static void fake_clear_flags(BIO *b, int flags) { b->flags &= ~flags; }
static void fake_ssl_set_bio(SSL *s, BIO *r, BIO *w) { (void)w; s->bio = r; }
static int fake_finished(const SSL *s) { return s->finished; }

static const struct ossl_api fake = {
	.BIO_get_new_index = fake_index, .BIO_meth_new = fake_meth_new, .BIO_meth_free = fake_meth_free,
	.BIO_meth_set_write = fake_set_write, .BIO_meth_set_read = fake_set_read,
	.BIO_meth_set_ctrl = fake_set_ctrl, .BIO_meth_set_destroy = fake_set_destroy, .BIO_new = fake_bio_new,
	.BIO_free = fake_bio_free, .BIO_set_data = fake_set_data, .BIO_get_data = fake_get_data,
	.BIO_set_init = fake_set_init, .BIO_set_flags = fake_set_flags, .BIO_clear_flags = fake_clear_flags,
	.SSL_set_bio = fake_ssl_set_bio, .SSL_is_init_finished = fake_finished,
};

/* ---- faults --------------------------------------------------------------------------------------------- */

enum kind { K_NONE, K_SEND, K_RECV, K_POLL, K_CANCEL, K_ENTER, K_MALLOC, K_SETSOCKOPT, K_SETUP, K_MMAP, KINDS };
static const char *const kind_names[] = {"none", "send", "recv", "poll", "cancel", "enter", "malloc", "setsockopt",
					 "setup", "mmap"};

static struct {
	enum kind kind;
	int at;	     /* the how-manieth call of that kind */
	int error;   /* errno, or 0: */
	size_t limit; /* move no more than this */
	bool forever; /* from there on, not only there */
	bool fired;
	int fired_fd;
} fault;

static int counts[KINDS];
static bool fake_kernel; /* setsockopt says yes and recvmsg tells record types */
static int fake_type = 23;

static bool hit(enum kind kind)
{
	int n = counts[kind]++;

	if (fault.kind != kind || (fault.forever ? n < fault.at : n != fault.at))
		return false;
	fault.fired = true;
	return true;
}

static bool plain_fault(enum kind kind, int fd, size_t *len)
{
	if (!hit(kind))
		return false;
	fault.fired_fd = fd;
	if (fault.error) {
		errno = fault.error;
		return true;
	}
	if (*len > fault.limit)
		*len = fault.limit;
	return false;
}

static ssize_t x_send(int fd, const void *p, size_t n, int flags)
{
	return plain_fault(K_SEND, fd, &n) ? -1 : send(fd, p, n, flags);
}

static ssize_t x_recv(int fd, void *p, size_t n, int flags)
{
	return plain_fault(K_RECV, fd, &n) ? -1 : recv(fd, p, n, flags);
}

static ssize_t x_sendmsg(int fd, const struct msghdr *m, int flags)
{
	return plain_fault(K_SEND, fd, &m->msg_iov->iov_len) ? -1 : sendmsg(fd, m, flags);
}

/* What a kernel with TLS would have added. */
static void add_type(struct msghdr *m, ssize_t n)
{
	struct cmsghdr *c = m->msg_control;

	if (!fake_kernel || n <= 0)
		return;
	m->msg_controllen = CMSG_SPACE(1);
	c->cmsg_level = 282;
	c->cmsg_type = 2;
	c->cmsg_len = CMSG_LEN(1);
	*CMSG_DATA(c) = (unsigned char)fake_type;
}

static ssize_t x_recvmsg(int fd, struct msghdr *m, int flags)
{
	ssize_t n = plain_fault(K_RECV, fd, &m->msg_iov->iov_len) ? -1 : recvmsg(fd, m, flags);

	add_type(m, n);
	return n;
}

static int x_poll(struct pollfd *p, nfds_t n, int ms)
{
	size_t ignored = 0;

	return plain_fault(K_POLL, -1, &ignored) ? -1 : poll(p, n, ms);
}

static int x_setsockopt(int fd, int level, int name, const void *p, socklen_t n)
{
	size_t ignored = 0;

	if (plain_fault(K_SETSOCKOPT, fd, &ignored))
		return -1;
	return fake_kernel ? 0 : setsockopt(fd, level, name, p, n);
}

#ifdef __SANITIZE_ADDRESS__
void __lsan_disable(void);
void __lsan_enable(void);
#endif

static void *x_malloc(size_t n)
{
	void *p;

	if (hit(K_MALLOC))
		return NULL;
	/* When io_uring_enter is refused for good, a buffer in flight is given up on purpose, and counted. */
#ifdef __SANITIZE_ADDRESS__
	if (fault.kind == K_ENTER && fault.forever)
		__lsan_disable();
#endif
	p = malloc(n);
#ifdef __SANITIZE_ADDRESS__
	if (fault.kind == K_ENTER && fault.forever)
		__lsan_enable();
#endif
	return p;
}

static void *x_mmap(void *a, size_t n, int prot, int flags, int fd, off_t off)
{
	size_t ignored = 0;

	return plain_fault(K_MMAP, fd, &ignored) ? MAP_FAILED : mmap(a, n, prot, flags, fd, off);
}

#ifdef DATAPATH_HAS_RING

/* A faulty entry becomes a NOP; its completion, known by its operation, is given the error. */
static struct {
	uint64_t user_data;
	int res;
	bool set;
} planned;
static struct msghdr *receiving[2]; /* by fd parity would be a guess: kept by operation instead */
static uint64_t receiving_op[2];

static int x_setup(unsigned n, struct io_uring_params *p)
{
	size_t ignored = 0;

	return plain_fault(K_SETUP, -1, &ignored) ? -1 : (int)syscall(__NR_io_uring_setup, n, p);
}

static int x_enter(int fd, unsigned submit, unsigned want, unsigned flags, const void *arg, size_t len)
{
	size_t ignored = 0;

	if (plain_fault(K_ENTER, -1, &ignored))
		return -1;
	return (int)syscall(__NR_io_uring_enter, fd, submit, want, flags, arg, len);
}

static void x_submitted(struct io_uring_sqe *e)
{
	enum kind kind = K_NONE;
	struct msghdr *m = (struct msghdr *)(uintptr_t)e->addr;

	switch (e->opcode) {
	case IORING_OP_SEND:
	case IORING_OP_SENDMSG:
		kind = K_SEND;
		break;
	case IORING_OP_RECV:
	case IORING_OP_RECVMSG:
		kind = K_RECV;
		break;
	case IORING_OP_POLL_ADD:
		kind = K_POLL;
		break;
	case IORING_OP_ASYNC_CANCEL:
		kind = K_CANCEL;
		break;
	}
	if (e->opcode == IORING_OP_RECVMSG) {
		int slot = receiving_op[0] ? 1 : 0;

		receiving[slot] = m;
		receiving_op[slot] = e->user_data;
	}
	if (kind == K_NONE || !hit(kind))
		return;
	fault.fired_fd = e->fd;
	if (fault.error) {
		planned.user_data = e->user_data;
		planned.res = -fault.error;
		planned.set = e->user_data != 0;
		e->opcode = IORING_OP_NOP;
		e->fd = -1;
		e->addr = e->len = e->msg_flags = 0;
	} else if (e->opcode == IORING_OP_SEND || e->opcode == IORING_OP_RECV) {
		e->len = e->len > fault.limit ? (uint32_t)fault.limit : e->len;
	} else if (e->opcode == IORING_OP_SENDMSG || e->opcode == IORING_OP_RECVMSG) {
		if (m->msg_iov->iov_len > fault.limit)
			m->msg_iov->iov_len = fault.limit;
	}
}

static void x_completed(struct io_uring_cqe *c)
{
	for (int i = 0; i < 2; i++)
		if (c->user_data && receiving_op[i] == c->user_data) {
			if (!planned.set || planned.user_data != c->user_data)
				add_type(receiving[i], c->res);
			receiving_op[i] = 0;
		}
	if (planned.set && c->user_data == planned.user_data) {
		c->res = planned.res;
		planned.set = false;
	}
}

#endif

struct datapath_sys datapath_sys = {
	.send = x_send, .recv = x_recv, .sendmsg = x_sendmsg, .recvmsg = x_recvmsg, .poll = x_poll,
	.setsockopt = x_setsockopt, .malloc = x_malloc, .mmap = x_mmap,
#ifdef DATAPATH_HAS_RING
	.setup = x_setup, .enter = x_enter, .submitted = x_submitted, .completed = x_completed,
#endif
};

/* ---- two ends ------------------------------------------------------------------------------------------- */

static const int sizes[] = {1, 5, 100, 4096, 16384, 3, 17000, 16384, 16384, 9000, 16384, 2};
#define RECORDS ((int)(sizeof(sizes) / sizeof(sizes[0])))

struct scenario {
	bool ring, kernel, finished, tiny, blocking;
	int reset_at; /* the client resets the connection at this turn, -1: never */
};

struct end {
	struct dbio *b;
	BIO *bio;
	struct ssl_st ssl;
	int fd, seed;
	long out, in; /* stream positions */
	int out_record, out_done, in_record, in_done;
	bool eof;
	int error;
};

static unsigned char pattern(int seed, long at)
{
	return (unsigned char)(at * 131 + (at >> 8) * 7 + (at >> 16) + seed * 29);
}

static void socket_pair(int fd[2], bool tiny)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(a);
	int l = socket(AF_INET, SOCK_STREAM, 0), one = 1, small = 2304, medium = 32768;

	if (tiny) /* before listen: the window is agreed on with the connection */
		setsockopt(l, SOL_SOCKET, SO_RCVBUF, &medium, sizeof(medium));
	CHECK(l >= 0 && bind(l, (void *)&a, sizeof(a)) == 0 && listen(l, 1) == 0);
	CHECK(getsockname(l, (void *)&a, &len) == 0);
	fd[0] = socket(AF_INET, SOCK_STREAM, 0);
	if (tiny)
		setsockopt(fd[0], SOL_SOCKET, SO_RCVBUF, &medium, sizeof(medium));
	CHECK(connect(fd[0], (void *)&a, sizeof(a)) == 0);
	fd[1] = accept(l, NULL, NULL);
	CHECK(fd[1] >= 0);
	close(l);
	for (int i = 0; i < 2; i++) {
		setsockopt(fd[i], IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		if (tiny) {
			setsockopt(fd[i], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
		}
	}
}

/* The outcome of a BIO call that moved nothing: 0 retry, -1 the end. */
static int stopped(struct end *e, int rc, int direction)
{
	if (rc == 0) {
		CHECK(e->bio->method->ctrl(e->bio, 2, 0, NULL) == 1);
		e->eof = true;
		return -1;
	}
	CHECK(rc == -1);
	if (e->bio->flags & 8) {
		CHECK((e->bio->flags & 0xf) == (8 | direction));
		return 0;
	}
	CHECK((e->bio->flags & 0xf) == 0 && errno > 0);
	e->error = errno;
	return -1;
}

static int step_out(struct end *e)
{
	static char buf[32768];
	int left, n;

	if (e->out_record == RECORDS)
		return 2;
	left = sizes[e->out_record] - e->out_done;
	for (int i = 0; i < left; i++)
		buf[i] = (char)pattern(e->seed, e->out + i);
	if (e->out_record % 3 == 2 && e->bio->method->ctrl(e->bio, 73, 0, NULL))
		e->bio->method->ctrl(e->bio, 74, 22, NULL);
	n = e->bio->method->write(e->bio, buf, left);
	memset(buf, 0xee, sizeof(buf)); /* OpenSSL may reuse its memory as soon as the call is back */
	if (n <= 0)
		return stopped(e, n, 2);
	CHECK(n <= left && (e->bio->flags & 0xf) == 0);
	if (e->out_record % 2) { /* after the switch a flush is a promise: SSL_sendfile writes past the BIO next */
		long flushed = e->bio->method->ctrl(e->bio, 11, 0, NULL), pending = e->bio->method->ctrl(e->bio, 13, 0, NULL);

		if (flushed != 1)
			CHECK((e->bio->flags & 0xf) == 10 || errno != EAGAIN);
		else if (e->bio->method->ctrl(e->bio, 73, 0, NULL))
			CHECK(pending == 0);
	}
	e->out += n;
	e->out_done += n;
	if (e->out_done == sizes[e->out_record]) {
		e->out_record++;
		e->out_done = 0;
	}
	return 1;
}

static int step_in(struct end *e, const struct end *peer)
{
	static unsigned char buf[65536];
	bool kernel = e->bio->method->ctrl(e->bio, 76, 0, NULL) == 1;
	int ask, n;

	if (e->in == peer->out && peer->out_record == RECORDS)
		return 2;
	if (kernel) {
		ask = 16384 + 5 + 21;
	} else {
		ask = sizes[e->in_record] - e->in_done;
		if (e->in_done == 0 && ask > 5)
			ask = 5; /* OpenSSL asks for the header first */
	}
	n = e->bio->method->read(e->bio, (char *)buf, ask);
	if (n <= 0)
		return stopped(e, n, 1);
	CHECK(n <= ask);
	if (kernel) {
		CHECK(n > 5 && buf[0] == fake_type && buf[1] == 3 && buf[2] == 3 && buf[3] * 256 + buf[4] == n - 5);
		n -= 5;
	}
	for (int i = 0; i < n; i++)
		CHECK(buf[i + 5 * kernel] == pattern(peer->seed, e->in + i));
	e->in += n;
	for (e->in_done += n; e->in_record < RECORDS && e->in_done >= sizes[e->in_record]; e->in_record++)
		e->in_done -= sizes[e->in_record];
	return 1;
}

static unsigned char crypto_info[64] = {0x04, 0x03, 51}; /* TLS 1.3, AES-GCM-128; the key is all zero */

static bool fatal(int error)
{
	return error && error != EAGAIN && error != EINTR;
}

static struct library *library;
static int turns;

static void reset(int fd)
{
	struct linger l = {.l_onoff = 1, .l_linger = 0};

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l));
}

static void run(const struct scenario *s)
{
	struct ring_failure why;
	struct ring *ring = NULL;
	struct datapath *dp;
	struct dp_stats stats;
	struct dp_bio_stats bs;
	struct end e[2];
	int fd[2];
	int64_t deadline = clock_ms() + 5000;
	bool over = false, clean = fault.kind == K_NONE;

	memset(counts, 0, sizeof(counts));
	fault.fired = false;
	fake_kernel = s->kernel;
	if (s->ring) {
		ring = ring_open(8, &why);
		if (!ring) { /* a fault in opening: that is an answer, too */
			CHECK(fault.fired && why.error == fault.error);
			return;
		}
	}
	socket_pair(fd, s->tiny);
	dp = datapath_new(library, ring);
	memset(e, 0, sizeof(e));
	for (int i = 0; i < 2; i++) {
		e[i].fd = fd[i];
		e[i].seed = i;
		e[i].b = dbio_new(dp, fd[i], DP_ACCEPT, DP_ACCEPT, s->blocking ? 300 : 0, 20);
		dbio_attach(e[i].b, &e[i].ssl);
		e[i].bio = e[i].ssl.bio;
		e[i].ssl.finished = s->finished;
	}
	{ /* nothing is there: the polls stay in flight, until a switch, other wishes or close take them back */
		struct dbio *b[2] = {e[0].b, e[1].b};
		short want[2] = {POLLIN, POLLIN}, ready[2];

		datapath_wait(dp, b, want, ready, 2, 1);
		dbio_get_stats(e[0].b, &bs);
		CHECK(bs.in_flight == (s->ring ? 1 : 0) || fault.fired);
	}
	for (int i = 0; i < 2; i++) {
		if (s->kernel) {
			long tx = e[i].bio->method->ctrl(e[i].bio, 72, 1, crypto_info);
			long rx = e[i].bio->method->ctrl(e[i].bio, 72, 0, crypto_info);
			struct dp_event ev[2];

			CHECK(dbio_events(e[i].b, ev, 2) == 2);
			CHECK((tx == 1) == (ev[0].step == 0) && (rx == 1) == (ev[1].step == 0));
			CHECK(ev[0].in_flight == (s->ring ? 1 : 0) || fault.fired);
			CHECK(ev[1].in_flight == 0 || fault.fired);
			CHECK(ev[0].tx == 1 && ev[1].tx == 0 && ev[0].version == 0x0304 && ev[0].cipher_type == 51);
			CHECK(e[i].bio->method->ctrl(e[i].bio, 73, 0, NULL) == tx);
			CHECK(e[i].bio->method->ctrl(e[i].bio, 76, 0, NULL) == rx);
		}
	}
	for (turns = 0; !over; turns++) {
		bool moved = false;
		int done = 0;

		CHECK(clock_ms() < deadline);
		if (turns == s->reset_at)
			break;
		for (int i = 0; i < 2; i++) {
			int in = 1, out = s->blocking && e[i].out - e[!i].in > 30000 ? 0 : step_out(&e[i]);

			if (s->tiny && out == 1)
				in = 0; /* reads only when it cannot write: the sockets fill up */
			while (out >= 0 && in == 1 && (!s->blocking || e[i].in < e[!i].out)) {
				in = step_in(&e[i], &e[!i]);
				moved |= in == 1;
			}
			if (s->blocking && e[i].in == e[!i].out && e[!i].out_record == RECORDS)
				in = 2;
			moved |= out == 1;
			over |= in < 0 || out < 0;
			done += (in == 2) + (out == 2);
		}
		over |= done == 4;
		if (!moved && !over) {
			struct dbio *b[2] = {e[0].b, e[1].b};
			short want[2], ready[2];

			for (int i = 0; i < 2; i++)
				want[i] = (short)((e[i].in < e[!i].out || e[!i].out_record < RECORDS ? POLLIN : 0) |
						  (e[i].out_record < RECORDS ? POLLOUT : 0));
			if (datapath_wait(dp, b, want, ready, 2, 100) < 0)
				over = true;
		}
	}
	if (turns == s->reset_at || e[0].error || e[1].error || e[0].eof || e[1].eof ||
	    e[0].in != e[1].out || e[1].in != e[0].out) {
		int rc;

		CHECK(turns == s->reset_at || (fault.fired && (fatal(fault.error) || fault.kind == K_ENTER ||
							       fault.kind == K_CANCEL || fault.kind == K_MALLOC)));
		/* the other end must notice the end of its peer, whatever state it is in */
		int dead = e[1].error ? 1 : 0, alive = !dead;

		reset(fd[dead]);
		dbio_close(e[dead].b);
		CHECK(e[dead].bio->method->read(e[dead].bio, (char *)&rc, 1) == -1 && errno == EBADF);
		close(fd[dead]);
		e[dead].fd = -1;
		fault.kind = fault.forever ? fault.kind : K_NONE;
		while ((rc = step_in(&e[alive], &e[dead])) != -1 && rc != 2) {
			struct dbio *b = e[alive].b;
			short want = POLLIN, ready;

			CHECK(clock_ms() < deadline);
			if (rc == 0 && datapath_wait(dp, &b, &want, &ready, 1, 1000) < 0)
				break;
		}
	}
	if (clean && turns != s->reset_at) { /* the clean run: an orderly end is an end */
		char none[16384 + 26];

		shutdown(fd[0], SHUT_WR);
		for (int rc = -1; rc != 0;) {
			CHECK(clock_ms() < deadline);
			CHECK(e[1].bio->method->ctrl(e[1].bio, 2, 0, NULL) == 0);
			rc = e[1].bio->method->read(e[1].bio, none, sizeof(none));
			CHECK(rc == 0 || (rc == -1 && e[1].bio->flags == 9));
		}
		CHECK(e[1].bio->method->ctrl(e[1].bio, 2, 0, NULL) == 1 && e[1].bio->flags == 0);
		dbio_get_stats(e[0].b, &bs);
		CHECK(bs.eof == false && bs.records_sent[22 - DP_TYPE_FIRST] >= (s->kernel ? 4 : 0));
		CHECK(s->kernel || bs.records_sent[23 - DP_TYPE_FIRST] == 0);
	}
	if (fault.fired && fatal(fault.error) && (fault.kind == K_SEND || fault.kind == K_RECV) && turns != s->reset_at)
		CHECK(e[0].error == fault.error || e[1].error == fault.error || fault.error == ECANCELED);
	for (int i = 0; i < 2; i++) {
		dbio_close(e[i].b);
		dbio_get_stats(e[i].b, &bs);
		CHECK(bs.in_flight == 0 && bs.backlog == 0 && bs.read_ahead == 0 && bs.closed);
		if (i)
			dbio_free(e[i].b); /* either order: handle first, or SSL first */
		fake_bio_free(e[i].bio);
		if (!i)
			dbio_free(e[i].b);
		if (e[i].fd >= 0)
			close(e[i].fd);
	}
	datapath_get_stats(dp, &stats);
	CHECK(stats.buffers_live == 0 && stats.bios == 0);
	CHECK(stats.buffers_leaked == 0 || (fault.kind == K_ENTER && fault.fired));
	leaked += stats.buffers_leaked;
	datapath_free(dp);
	ring_unref(ring);
}

/* ---- campaigns ------------------------------------------------------------------------------------------ */

static const int errnos[] = {EAGAIN,	   EINTR,  ECONNRESET, EPIPE,	ETIMEDOUT, ENOMEM, ENOBUFS, EPERM,    EACCES, EINVAL,
			     EBADMSG,	   EIO,	   EMSGSIZE,   EBADF,	ECANCELED, EBUSY,  ENOSYS,  ENOTCONN, EFAULT, EKEYEXPIRED,
			     EHOSTUNREACH, ENETDOWN};

static void one(const struct scenario *s)
{
	static char text[200];
	int64_t start = clock_ms();

	snprintf(text, sizeof(text), "%s%s%s%s%s reset %d, %s %d: errno %d limit %zu%s", s->ring ? "ring" : "plain",
		 s->kernel ? " kernel" : "", s->finished ? " finished" : "", s->tiny ? " tiny" : "",
		 s->blocking ? " blocking" : "", s->reset_at, kind_names[fault.kind], fault.at, fault.error,
		 fault.limit, fault.forever ? " forever" : "");
	running = text;
	runs++;
	alarm(20); /* a hang is a failure, with the label of the last run on stderr */
	run(s);
	alarm(0);
	if (verbose && clock_ms() - start > 50)
		fprintf(stderr, "%lld ms: %s\n", (long long)(clock_ms() - start), text);
}

static int every = 1, turn_of;

/* With `every=N` only each N-th fault is tried, another set of them in each scenario. */
static bool due(void)
{
	return turn_of++ % every == 0;
}

static void campaign(struct scenario s)
{
	int clean[KINDS], clean_turns;

	memset(&fault, 0, sizeof(fault));
	s.reset_at = -1;
	one(&s);
	memcpy(clean, counts, sizeof(clean));
	clean_turns = turns;
	for (int kind = 1; verbose && kind < KINDS; kind++)
		fprintf(stderr, "%s %d, ", kind_names[kind], clean[kind]);
	if (verbose)
		fprintf(stderr, "turns %d: %s\n", turns, running);
	for (int kind = 1; kind < KINDS; kind++) {
		for (int at = 0; at < clean[kind]; at++) {
			for (unsigned n = 0; n < sizeof(errnos) / sizeof(errnos[0]); n++) {
				memset(&fault, 0, sizeof(fault));
				fault.kind = (enum kind)kind;
				fault.at = at;
				fault.error = errnos[n];
				if (due())
					one(&s);
				if (kind == K_MALLOC || kind == K_CANCEL)
					break; /* the errno does not matter */
			}
			if (kind == K_SEND || kind == K_RECV) {
				static const size_t limits[] = {1, 2, 4, 6, 100, 16383};

				for (unsigned n = 0; n < sizeof(limits) / sizeof(limits[0]); n++) {
					memset(&fault, 0, sizeof(fault));
					fault.kind = (enum kind)kind;
					fault.at = at;
					fault.limit = limits[n];
					if (due())
						one(&s);
					fault.forever = true;
					if (limits[n] >= 100 && due())
						one(&s);
				}
			}
			if (kind == K_ENTER || kind == K_MALLOC) { /* as seccomp, installed in mid-flight; as no memory at all */
				memset(&fault, 0, sizeof(fault));
				fault.kind = (enum kind)kind;
				fault.at = at;
				fault.error = EPERM;
				fault.forever = true;
				if (due())
					one(&s);
			}
		}
	}
	for (int at = 0; at < clean_turns; at++) {
		memset(&fault, 0, sizeof(fault));
		s.reset_at = at;
		one(&s);
	}
	memset(&fault, 0, sizeof(fault));
}

int main(int argc, char **argv)
{
	uintptr_t addresses[sizeof(fake) / sizeof(uintptr_t)];

	verbose = getenv("VERBOSE") != NULL;
	memcpy(addresses, &fake, sizeof(fake));
	library = library_new(addresses, sizeof(addresses) / sizeof(addresses[0]));
	CHECK(library);
	CHECK(!library_new(addresses, 3));
	for (int i = 1; i < argc; i++) {
		bool ring = !strcmp(argv[i], "ring");

		if (!strncmp(argv[i], "every=", 6)) {
			every = atoi(argv[i] + 6);
			continue;
		}
		CHECK(ring || !strcmp(argv[i], "plain"));
		for (int bits = 0; bits < 16; bits++) {
			struct scenario s = {.ring = ring, .kernel = bits & 1, .finished = bits & 2, .tiny = bits & 4,
					     .blocking = bits & 8};

			if (s.kernel && s.finished)
				continue; /* the same thing */
			if (s.tiny && s.blocking)
				continue; /* one thread cannot block on itself */
			campaign(s);
		}
	}
	library_free(library);
	printf("%u runs, %u checks, %u buffers given up on purpose\n", runs, checks, leaked);
	return 0;
}
