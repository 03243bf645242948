/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Every call that leaves this code for the kernel or the allocator, by name, so that the test build
 * (-DDATAPATH_FAULTS, tests/datapath/harness.c) can put a failing one in its place.
 */
#ifndef DATAPATH_SYS_H
#define DATAPATH_SYS_H

#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/types.h>

#if defined(__linux__) && defined(__has_include)
#if __has_include(<linux/io_uring.h>)
#include <linux/io_uring.h>
#ifdef IORING_ENTER_EXT_ARG /* headers from Linux 5.11 on; older ones build the plain transport alone */
#define DATAPATH_HAS_RING 1
#endif
#endif
#endif

#ifdef DATAPATH_FAULTS

struct datapath_sys {
	ssize_t (*send)(int, const void *, size_t, int);
	ssize_t (*recv)(int, void *, size_t, int);
	ssize_t (*sendmsg)(int, const struct msghdr *, int);
	ssize_t (*recvmsg)(int, struct msghdr *, int);
	int (*poll)(struct pollfd *, nfds_t, int);
	int (*setsockopt)(int, int, int, const void *, socklen_t);
	void *(*malloc)(size_t);
	void *(*mmap)(void *, size_t, int, int, int, off_t);
#ifdef DATAPATH_HAS_RING
	int (*setup)(unsigned, struct io_uring_params *);
	int (*enter)(int, unsigned, unsigned, unsigned, const void *, size_t);
	void (*submitted)(struct io_uring_sqe *);	/* may alter an entry before the kernel sees it */
	void (*completed)(struct io_uring_cqe *);	/* may alter what the kernel answered */
#endif
};
extern struct datapath_sys datapath_sys;
#define SYS(name) datapath_sys.name

#else

#define SYS(name) name

#endif
#endif
