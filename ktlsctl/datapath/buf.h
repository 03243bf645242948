/* SPDX-License-Identifier: BSD-2-Clause */
/* Buffers in three sizes, with a small cache: an idle connection holds none, a busy one does not call malloc. */
#ifndef DATAPATH_BUF_H
#define DATAPATH_BUF_H

#include <stddef.h>
#include <stdint.h>

enum { BUF_SMALL, BUF_RECORD, BUF_LARGE, BUF_SIZES };

struct buf {
	struct buf *next;
	uint32_t off, len; /* what is in it: data[off] up to data[len] */
	uint32_t size;	   /* BUF_SMALL .. BUF_LARGE */
	unsigned char data[];
};

struct buf_cache {
	struct buf *free[BUF_SIZES];
	uint32_t cached[BUF_SIZES];
	uint32_t live;
};

size_t buf_capacity(unsigned size);
/* The smallest size that holds `bytes`, or the largest there is. */
unsigned buf_size_for(size_t bytes);
/* NULL: no memory. */
struct buf *buf_get(struct buf_cache *c, unsigned size);
void buf_put(struct buf_cache *c, struct buf *b);
void buf_cache_drop(struct buf_cache *c);

#endif
