/* SPDX-License-Identifier: BSD-2-Clause */
#include "buf.h"

#include "sys.h"

#define KEEP 2 /* of each size: one being filled and one being emptied */

/* A handshake message; one TLS record (5 + 16384 + 256, RFC 8446 5.2); four of them, worth a system call. */
static const uint32_t capacity[BUF_SIZES] = {4096 - sizeof(struct buf), 17 * 1024, 68 * 1024};

size_t buf_capacity(unsigned size)
{
	return capacity[size];
}

unsigned buf_size_for(size_t bytes)
{
	unsigned size = BUF_SMALL;

	while (size < BUF_LARGE && bytes > capacity[size])
		size++;
	return size;
}

struct buf *buf_get(struct buf_cache *c, unsigned size)
{
	struct buf *b = c->free[size];

	if (b) {
		c->free[size] = b->next;
		c->cached[size]--;
	} else {
		b = SYS(malloc)(sizeof(*b) + capacity[size]);
		if (!b)
			return NULL;
		b->size = size;
	}
	b->off = b->len = 0;
	c->live++;
	return b;
}

void buf_put(struct buf_cache *c, struct buf *b)
{
	c->live--;
	if (c->cached[b->size] >= KEEP) {
		free(b);
		return;
	}
	b->next = c->free[b->size];
	c->free[b->size] = b;
	c->cached[b->size]++;
}

void buf_cache_drop(struct buf_cache *c)
{
	for (unsigned size = 0; size < BUF_SIZES; size++)
		while (c->free[size]) {
			struct buf *b = c->free[size];

			c->free[size] = b->next;
			c->cached[size]--;
			free(b);
		}
}
