# SPDX-License-Identifier: BSD-2-Clause
"""Builds `ktlsctl.datapath._datapath` with cffi's API mode; no OpenSSL header, no liburing.

Used by setuptools (`cffi_modules=["ktlsctl/datapath/build.py:ffibuilder"]`), or by hand from the project's root:
`python3 ktlsctl/datapath/build.py`.  Paths are relative to that root, as setuptools wants them.
"""

from cffi import FFI

HERE = "ktlsctl/datapath"

CDEF = """
struct ring_failure { int stage, error, sysctl, seccomp; ...; };
struct ring_stats { uint64_t enters, submitted, completed, sq_full, cancelled; ...; };
struct ring;
struct ring *ring_open(unsigned entries, struct ring_failure *why);
void ring_kill(struct ring *r);
void ring_unref(struct ring *r);
void ring_get_stats(const struct ring *r, struct ring_stats *out);

struct dp_event { int tx, version, cipher_type, step, error, leftover, in_flight; ...; };
struct dp_bio_stats {
    uint64_t sent, received;
    uint32_t records_sent[6], records_received[6];
    uint32_t backlog, read_ahead, in_flight, events, events_lost;
    bool ktls_send, ktls_recv, eof, closed;
    int error;
    ...;
};
struct dp_stats {
    uint64_t calls;
    struct ring_stats ring;
    uint32_t buffers_live, buffers_cached, buffers_leaked, bios;
    ...;
};
enum dp_policy { DP_ACCEPT, DP_REFUSE, DP_OBSERVE, ... };

struct library;
struct datapath;
struct dbio;
typedef struct bio_st BIO;
typedef struct ssl_st SSL;

extern const char *const ossl_symbols[];
struct library *library_new(const uintptr_t *addresses, size_t count);
void library_free(struct library *lib);
struct datapath *datapath_new(struct library *lib, struct ring *ring);
void datapath_free(struct datapath *dp);
void datapath_get_stats(const struct datapath *dp, struct dp_stats *out);
int datapath_wait(struct datapath *dp, struct dbio *const *bios, const short *events, short *ready, size_t count,
                  int timeout_ms);
struct dbio *dbio_new(struct datapath *dp, int fd, enum dp_policy tx, enum dp_policy rx, int wait_ms, int drain_ms);
BIO *dbio_pointer(const struct dbio *b);
void dbio_attach(struct dbio *b, SSL *ssl);
bool dbio_cancel(struct dbio *b);
void dbio_close(struct dbio *b);
void dbio_free(struct dbio *b);
int ktls_sequence(int fd, bool tx, uint64_t *number);
int direct_send(struct ring *r, int fd, const void *data, size_t len, int timeout_ms);
int direct_splice(struct ring *r, int from, int64_t offset, int to, size_t len, int timeout_ms);
int direct_receive(struct ring *r, int fd, void *room, size_t len, int *type, int timeout_ms);
size_t dbio_events(const struct dbio *b, struct dp_event *out, size_t count);
void dbio_get_stats(const struct dbio *b, struct dp_bio_stats *out);
"""

ffibuilder = FFI()
ffibuilder.cdef(CDEF)
ffibuilder.set_source(
    "ktlsctl.datapath._datapath",
    '#include "bio.h"\n#include "direct.h"\n#include "ktls.h"\n',
    sources=[f"{HERE}/{name}.c" for name in ("ring", "buf", "ktls", "bio", "direct")],
    depends=[f"{HERE}/{name}.h" for name in ("ring", "buf", "ktls", "bio", "direct", "sys")],
    include_dirs=[HERE],
    extra_compile_args=["-std=gnu11", "-Wall", "-Wextra"],
)

if __name__ == "__main__":
    ffibuilder.compile(verbose=True)
