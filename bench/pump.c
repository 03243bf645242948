/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The inner loop of the throughput benchmark: whole records one way between two ends in one thread, so that what
 * is measured is the cost of the datapath and not of Python.  Functions come in by pointer.
 */
#include <stddef.h>

struct pump {
	int (*write)(void *, const void *, int);
	int (*read)(void *, void *, int);
	void *source, *sink;
	char *out, *in;
	int record, window; /* bytes of one, how many may be under way */
	long long written, read_bytes;
};

/* Move `total` bytes; 0, or the count of loops without any progress that made it give up. */
int pump_run(struct pump *p, long long total)
{
	int idle = 0;

	p->written = p->read_bytes = 0;
	while (p->read_bytes < total) {
		int moved = 0;

		while (p->written < total && p->written - p->read_bytes < (long long)p->window * p->record) {
			int n = p->write(p->source, p->out, p->record);

			if (n <= 0)
				break;
			p->written += n;
			moved = 1;
		}
		while (p->read_bytes < p->written) {
			int n = p->read(p->sink, p->in, p->record);

			if (n <= 0)
				break;
			p->read_bytes += n;
			moved = 1;
		}
		idle = moved ? 0 : idle + 1;
		if (idle > 1000000)
			return idle;
	}
	return 0;
}
