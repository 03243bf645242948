/* SPDX-License-Identifier: BSD-2-Clause */
#define _GNU_SOURCE
#include "ktls.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <string.h>

#include "sys.h"

static void put_type(struct msghdr *msg, union ktls_cmsg *space, int level, int kind, unsigned char type)
{
	struct cmsghdr *c;

	memset(space, 0, sizeof(*space));
	msg->msg_control = space;
	msg->msg_controllen = CMSG_SPACE(1);
	c = CMSG_FIRSTHDR(msg);
	c->cmsg_level = level;
	c->cmsg_type = kind;
	c->cmsg_len = CMSG_LEN(1);
	*CMSG_DATA(c) = type;
}

/* The type is the first byte of either kernel's message. */
static int get_type(const struct msghdr *msg, int level, int kind)
{
	const struct cmsghdr *c = msg->msg_controllen ? CMSG_FIRSTHDR(msg) : NULL;

	if (!c || c->cmsg_level != level || c->cmsg_type != kind)
		return -1;
	return *CMSG_DATA(c);
}

#if defined(__linux__)

/* linux/tls.h, by value: C libraries and older headers lack some.  Layouts: tls12_crypto_info_*, all begin with
 * struct tls_crypto_info {u16 version, u16 cipher_type}. */
#define SOL_TLS_ 282
#define TLS_TX_ 1
#define TLS_RX_ 2
#define TLS_TX_ZEROCOPY_RO_ 3
#define TLS_SET_RECORD_TYPE_ 1
#define TLS_GET_RECORD_TYPE_ 2
#ifndef TCP_ULP
#define TCP_ULP 31
#endif

void ktls_describe(const void *info, int *version, int *cipher)
{
	uint16_t head[2];

	memcpy(head, info, sizeof(head));
	*version = head[0];
	*cipher = head[1];
}

/* OpenSSL stores the length behind a union whose size depends on the headers it was built with, so it cannot be
 * read; the cipher decides it anyway, and the kernel demands it exactly (net/tls/tls_main.c). */
static socklen_t info_length(int cipher)
{
	switch (cipher) {
	case 51: /* AES_GCM_128 */
	case 53: /* AES_CCM_128 */
	case 55: /* SM4_GCM */
	case 56: /* SM4_CCM */
	case 57: /* ARIA_GCM_128 */
		return 40;
	case 52: /* AES_GCM_256 */
	case 54: /* CHACHA20_POLY1305 */
	case 58: /* ARIA_GCM_256 */
		return 56;
	default:
		return 0;
	}
}

enum ktls_step ktls_enable(int fd, bool tx, const void *info, int *error)
{
	int version, cipher;

	ktls_describe(info, &version, &cipher);
	*error = EINVAL;
	if (!info_length(cipher))
		return KTLS_CIPHER;
	/* EEXIST: the other direction has attached it. */
	if (SYS(setsockopt)(fd, IPPROTO_TCP, TCP_ULP, "tls", 4) < 0 && errno != EEXIST) {
		*error = errno;
		return KTLS_ULP;
	}
	if (SYS(setsockopt)(fd, SOL_TLS_, tx ? TLS_TX_ : TLS_RX_, info, info_length(cipher)) < 0) {
		*error = errno;
		return KTLS_KEY;
	}
	*error = 0;
	return KTLS_OK;
}

bool ktls_zerocopy(int fd)
{
	int on = 1;

	return SYS(setsockopt)(fd, SOL_TLS_, TLS_TX_ZEROCOPY_RO_, &on, sizeof(on)) == 0;
}

int ktls_sequence(int fd, bool tx, uint64_t *number)
{
	unsigned char info[64];
	socklen_t length = 4;
	int version, cipher, error = 0;
	unsigned i;

	if (getsockopt(fd, SOL_TLS_, tx ? TLS_TX_ : TLS_RX_, info, &length) < 0)
		return errno;
	ktls_describe(info, &version, &cipher);
	length = info_length(cipher);
	if (!length)
		return EINVAL;
	if (getsockopt(fd, SOL_TLS_, tx ? TLS_TX_ : TLS_RX_, info, &length) < 0)
		error = errno;
	*number = 0;
	/* rec_seq is the last member of every tls12_crypto_info_*: 8 bytes, big-endian */
	for (i = 8; !error && i > 0; i--)
		*number = *number << 8 | info[length - i];
	explicit_bzero(info, sizeof(info));
	return error;
}

void ktls_put_type(struct msghdr *msg, union ktls_cmsg *space, unsigned char type)
{
	put_type(msg, space, SOL_TLS_, TLS_SET_RECORD_TYPE_, type);
}

int ktls_get_type(const struct msghdr *msg)
{
	return get_type(msg, SOL_TLS_, TLS_GET_RECORD_TYPE_);
}

#elif defined(__FreeBSD__)

int ktls_sequence(int fd, bool tx, uint64_t *number)
{
	(void)fd, (void)tx, (void)number;
	return EOPNOTSUPP;
}

/* sys/ktls.h and netinet/tcp.h by value: OpenSSL hands over a struct tls_enable, which is passed on as it is. */
#define TCP_TXTLS_ENABLE_ 39
#define TCP_RXTLS_ENABLE_ 41
#define TLS_SET_RECORD_TYPE_ 1
#define TLS_GET_RECORD_ 2

struct tls_enable_ {
	const uint8_t *cipher_key, *iv, *auth_key;
	int cipher_algorithm, cipher_key_len, iv_len, auth_algorithm, auth_key_len, flags;
	uint8_t tls_vmajor, tls_vminor, rec_seq[8];
};
_Static_assert(sizeof(struct tls_enable_) == (sizeof(void *) == 8 ? 64 : 48), "struct tls_enable of 13.0 and later");

void ktls_describe(const void *info, int *version, int *cipher)
{
	const struct tls_enable_ *en = info;

	*version = en->tls_vmajor << 8 | en->tls_vminor; /* TLS_MINOR_VER_TWO is 3: the same 0x0303 */
	*cipher = en->cipher_algorithm;
}

enum ktls_step ktls_enable(int fd, bool tx, const void *info, int *error)
{
	int name = tx ? TCP_TXTLS_ENABLE_ : TCP_RXTLS_ENABLE_;

	*error = SYS(setsockopt)(fd, IPPROTO_TCP, name, info, sizeof(struct tls_enable_)) < 0 ? errno : 0;
	return *error ? KTLS_KEY : KTLS_OK;
}

bool ktls_zerocopy(int fd)
{
	(void)fd;
	return false;
}

void ktls_put_type(struct msghdr *msg, union ktls_cmsg *space, unsigned char type)
{
	put_type(msg, space, IPPROTO_TCP, TLS_SET_RECORD_TYPE_, type);
}

int ktls_get_type(const struct msghdr *msg)
{
	/* One record per recvmsg; MSG_EOR only on the read that finishes it, the message only with its first bytes. */
	if (msg->msg_flags & MSG_CTRUNC || (msg->msg_controllen && !(msg->msg_flags & MSG_EOR)))
		return -EMSGSIZE;
	return get_type(msg, IPPROTO_TCP, TLS_GET_RECORD_);
}

#else

int ktls_sequence(int fd, bool tx, uint64_t *number)
{
	(void)fd, (void)tx, (void)number;
	return EOPNOTSUPP;
}

void ktls_describe(const void *info, int *version, int *cipher)
{
	(void)info;
	*version = *cipher = 0;
}

enum ktls_step ktls_enable(int fd, bool tx, const void *info, int *error)
{
	(void)fd; (void)tx; (void)info;
	*error = ENOPROTOOPT;
	return KTLS_KEY;
}

void ktls_put_type(struct msghdr *msg, union ktls_cmsg *space, unsigned char type)
{
	put_type(msg, space, IPPROTO_TCP, 0, type);
}

int ktls_get_type(const struct msghdr *msg)
{
	return get_type(msg, IPPROTO_TCP, 0);
}

#endif
