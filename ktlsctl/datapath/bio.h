/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One OpenSSL BIO for both directions of a TCP socket, over a ring or over plain system calls.
 *
 * It never closes the socket, never looks at keys, and needs no OpenSSL header: the functions come in by address.
 * A `datapath` is one ring (or none), one buffer cache and the BIOs on them; one thread at a time.
 */
#ifndef DATAPATH_BIO_H
#define DATAPATH_BIO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ring.h"

typedef struct bio_st BIO;
typedef struct bio_method_st BIO_METHOD;
typedef struct ssl_st SSL;

/* All of it exists as real functions from 1.1.0 to 4.x. */
#define OSSL_FUNCTIONS(X)                                                               \
	X(int, BIO_get_new_index, (void))                                               \
	X(BIO_METHOD *, BIO_meth_new, (int, const char *))                              \
	X(void, BIO_meth_free, (BIO_METHOD *))                                          \
	X(int, BIO_meth_set_write, (BIO_METHOD *, int (*)(BIO *, const char *, int)))   \
	X(int, BIO_meth_set_read, (BIO_METHOD *, int (*)(BIO *, char *, int)))          \
	X(int, BIO_meth_set_ctrl, (BIO_METHOD *, long (*)(BIO *, int, long, void *)))   \
	X(int, BIO_meth_set_destroy, (BIO_METHOD *, int (*)(BIO *)))                    \
	X(BIO *, BIO_new, (const BIO_METHOD *))                                         \
	X(int, BIO_free, (BIO *))                                                       \
	X(void, BIO_set_data, (BIO *, void *))                                          \
	X(void *, BIO_get_data, (BIO *))                                                \
	X(void, BIO_set_init, (BIO *, int))                                             \
	X(void, BIO_set_flags, (BIO *, int))                                            \
	X(void, BIO_clear_flags, (BIO *, int))                                          \
	X(void, SSL_set_bio, (SSL *, BIO *, BIO *))                                     \
	X(int, SSL_is_init_finished, (const SSL *))

struct ossl_api {
#define X(type, name, args) type(*name) args;
	OSSL_FUNCTIONS(X)
#undef X
};

struct library; /* one libssl and the BIO_METHOD made for it */
struct datapath;
struct dbio;

enum dp_policy { DP_ACCEPT, DP_REFUSE, DP_OBSERVE };

struct dp_event {
	int tx, version, cipher_type, step, error, leftover, in_flight;
};

/* Record types as the kernel saw them, so only of a direction that is in the kernel: 20 .. 24, then all others. */
enum { DP_TYPE_FIRST = 20, DP_TYPES = 6, DP_EVENTS = 8 };

struct dp_bio_stats {
	uint64_t sent, received;
	uint32_t records_sent[DP_TYPES], records_received[DP_TYPES];
	uint32_t backlog, read_ahead; /* bytes held here now */
	uint32_t in_flight, events, events_lost;
	bool ktls_send, ktls_recv, eof, closed;
	int error; /* the one that ended sending; 0: none */
};

struct dp_stats {
	uint64_t calls; /* system calls of the plain transport */
	struct ring_stats ring;
	uint32_t buffers_live, buffers_cached, buffers_leaked, bios;
};

/* The names that library_new() wants the addresses of, in its order, NULL at the end. */
extern const char *const ossl_symbols[];

/* NULL: no memory, an address missing, or OpenSSL's 127 BIO types are used up: bind a libssl once. */
struct library *library_new(const uintptr_t *addresses, size_t count);
void library_free(struct library *lib);

struct datapath *datapath_new(struct library *lib, struct ring *ring);
void datapath_free(struct datapath *dp);
void datapath_get_stats(const struct datapath *dp, struct dp_stats *out);

/* `wait_ms` 0: never blocks, retry flags instead; else reads and writes wait that long, then fail with ETIMEDOUT.
 * `drain_ms` bounds emptying the backlog before the TX switch and at close. */
struct dbio *dbio_new(struct datapath *dp, int fd, enum dp_policy tx, enum dp_policy rx, int wait_ms, int drain_ms);
BIO *dbio_pointer(const struct dbio *b);
/* SSL_set_bio(ssl, b, b): the SSL owns the BIO from here on. */
void dbio_attach(struct dbio *b, SSL *ssl);
/* Take back every operation in flight; unsent bytes stay queued.  False: the ring is gone. */
bool dbio_cancel(struct dbio *b);
/* Drain, cancel, release buffers; the BIO then answers EBADF.  Do it before close(2): a request pins the file. */
void dbio_close(struct dbio *b);
/* The caller's own reference; dbio_close() first, or leave the BIO to its SSL. */
void dbio_free(struct dbio *b);
size_t dbio_events(const struct dbio *b, struct dp_event *out, size_t count);
void dbio_get_stats(const struct dbio *b, struct dp_bio_stats *out);

/* Wait until one of them can do what `events` (POLLIN, POLLOUT) says.  How many; 0 at the deadline or after a
 * signal; -errno.  After POLLIN read until retry: with kernel RX from Linux 6.14 on, poll may miss what waits
 * behind a KeyUpdate (tls_sk_poll). */
int datapath_wait(struct datapath *dp, struct dbio *const *bios, const short *events, short *ready, size_t count,
		  int timeout_ms);

#endif
