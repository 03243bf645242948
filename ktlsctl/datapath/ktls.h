/* SPDX-License-Identifier: BSD-2-Clause */
/* What the two kernels want: the switch, and record types as control messages.  Two halves in ktls.c. */
#ifndef DATAPATH_KTLS_H
#define DATAPATH_KTLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/socket.h>

/* What became of one BIO_CTRL_SET_KTLS. */
enum ktls_step {
	KTLS_OK,       /* the kernel took the key */
	KTLS_POLICY,   /* refused: the policy of this direction says so */
	KTLS_OBSERVED, /* everything but the system calls was done */
	KTLS_LEFTOVER, /* RX refused: bytes were read ahead of the switch */
	KTLS_DRAIN,    /* TX refused: the socket did not take what was queued in time */
	KTLS_CIPHER,   /* a cipher whose structure is not known here */
	KTLS_ULP,      /* setsockopt(TCP_ULP, "tls") failed */
	KTLS_KEY,      /* setsockopt of the key failed */
};

#define KTLS_CMSG_SPACE CMSG_SPACE(8) /* holds one byte on Linux, struct tls_get_record (6) on FreeBSD */

union ktls_cmsg {
	size_t align; /* as struct cmsghdr, whose flexible member must not stand inside another struct */
	unsigned char space[KTLS_CMSG_SPACE];
};

/* Version (0x0303, 0x0304) and cipher out of OpenSSL's ktls_crypto_info_t; nothing else of it is looked at. */
void ktls_describe(const void *info, int *version, int *cipher);
/* Hand it to the kernel.  KTLS_OK, or the step that failed with its errno.  The key is not copied. */
enum ktls_step ktls_enable(int fd, bool tx, const void *info, int *error);

/* Let sendfile of a socket whose TX is in the kernel take pages as they are; matters only where the NIC encrypts.
 * Whether it could be set: Linux 5.19 and later. */
bool ktls_zerocopy(int fd);

/* The number of the next record, 0 or an errno.  The kernel tells it only together with the traffic key, so this is
 * the one place that asks for the whole structure, and wipes it before it returns. */
int ktls_sequence(int fd, bool tx, uint64_t *number);

void ktls_put_type(struct msghdr *msg, union ktls_cmsg *space, unsigned char type);
/* The type of the record that recvmsg has just returned; -1: no such message; -EMSGSIZE: not a whole record. */
int ktls_get_type(const struct msghdr *msg);

#endif
