/* SPDX-License-Identifier: BSD-2-Clause */
/* Direct operations on a ring: bytes, refusals, a full buffer, an end, a ring that is gone.  Run under sanitizers. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "direct.h"

#define CHECK(what)                                                                      \
	do {                                                                             \
		if (!(what)) {                                                           \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #what);       \
			abort();                                                         \
		}                                                                        \
	} while (0)

enum { SIZE = 100000, WAIT = 2000 };

static void connected(int fd[2])
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t size = sizeof(at);
	int listener = socket(AF_INET, SOCK_STREAM, 0);

	CHECK(listener >= 0 && !bind(listener, (struct sockaddr *)&at, size) && !listen(listener, 1));
	CHECK(!getsockname(listener, (struct sockaddr *)&at, &size));
	fd[0] = socket(AF_INET, SOCK_STREAM, 0);
	CHECK(!connect(fd[0], (struct sockaddr *)&at, size));
	fd[1] = accept(listener, NULL, NULL);
	CHECK(fd[1] >= 0);
	close(listener);
}

static void receive_all(struct ring *r, int fd, const unsigned char *sent, size_t size)
{
	static unsigned char room[SIZE];
	size_t got = 0;
	int type;

	while (got < size) {
		int n = direct_receive(r, fd, room, sizeof(room), &type, WAIT);

		if (n == -EAGAIN)
			continue;
		CHECK(n > 0 && type == -1 && !memcmp(room, sent + got, (size_t)n));
		got += (size_t)n;
	}
}

int main(void)
{
	struct ring_failure why;
	struct ring *r = ring_open(8, &why);
	static unsigned char data[SIZE], room[16];
	int fd[2], pipes[2], file = memfd_create("direct", MFD_CLOEXEC), type, n;
	size_t sent = 0, held = 0;

	if (!r) {
		printf("no ring: stage %d, errno %d\n", why.stage, why.error);
		return 77;
	}
	for (int i = 0; i < SIZE; i++)
		data[i] = (unsigned char)(i * 7 + i / 251);
	connected(fd);
	CHECK(direct_receive(r, fd[1], room, sizeof(room), &type, WAIT) == -EAGAIN && type == -1);
	CHECK(direct_send(r, fd[0], data, SIZE, WAIT) == SIZE);
	receive_all(r, fd[1], data, SIZE);

	/* from a file, through a pipe, in pieces of what the pipe holds */
	CHECK(file >= 0 && write(file, data, SIZE) == SIZE && !pipe(pipes));
	while (sent < SIZE) {
		if (!held) {
			n = direct_splice(r, file, (int64_t)sent, pipes[1], SIZE - sent, WAIT);
			CHECK(n > 0);
			held = (size_t)n;
		}
		n = direct_splice(r, pipes[0], -1, fd[0], held, WAIT);
		CHECK(n > 0);
		held -= (size_t)n;
		sent += (size_t)n;
	}
	receive_all(r, fd[1], data, SIZE);

	/* a full send buffer says not now, and takes no more than it said */
	for (sent = 0; (n = direct_send(r, fd[0], data, SIZE, WAIT)) > 0; sent += (size_t)n)
		;
	CHECK(n == -EAGAIN && sent > 0);
	CHECK(direct_splice(r, file, SIZE, pipes[1], 1, WAIT) == 0); /* the end of the file */
	CHECK(direct_send(r, file, data, 1, WAIT) == -ENOTSOCK);
	CHECK(direct_send(r, -1, data, 1, WAIT) == -EBADF && direct_receive(r, -1, room, 1, &type, WAIT) == -EBADF);
	close(fd[0]);
	while ((n = direct_receive(r, fd[1], data, SIZE, &type, WAIT)) > 0 || n == -EAGAIN)
		;
	CHECK(n == 0 || n == -ECONNRESET);
	ring_kill(r);
	CHECK(direct_send(r, fd[1], data, 1, WAIT) == -EBADF);
	ring_unref(r);
	close(fd[1]);
	close(file);
	close(pipes[0]);
	close(pipes[1]);
	puts("checks passed");
	return 0;
}
