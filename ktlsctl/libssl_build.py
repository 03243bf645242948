# SPDX-License-Identifier: BSD-2-Clause
"""C declarations of the libssl and libcrypto functions that ktlsctl calls, compiled ahead of time by cffi.

ABI mode, out of line: the build writes ktlsctl/_libssl.py (no compiler), so that one installation opens any libssl by
path at run time and parses no C then.  Only functions that exist from OpenSSL 1.1.1 to 4.x stand here, or ones that
libssl.py asks for by name before it calls them.  Every object stays opaque: no header, no layout, no version.
"""

from cffi import FFI

ffibuilder = FFI()
ffibuilder.set_source("ktlsctl._libssl", None)
ffibuilder.cdef(
    """
    typedef struct ssl_method_st SSL_METHOD;
    typedef struct ssl_ctx_st SSL_CTX;
    typedef struct ssl_st SSL;
    typedef struct ssl_cipher_st SSL_CIPHER;
    typedef struct bio_st BIO;
    typedef struct bio_method_st BIO_METHOD;
    typedef struct x509_st X509;
    typedef struct asn1_string_st ASN1_TIME;
    typedef struct evp_pkey_st EVP_PKEY;
    typedef struct evp_pkey_ctx_st EVP_PKEY_CTX;
    typedef struct evp_md_st EVP_MD;

    /* what it is, and what it reads */
    const char *OpenSSL_version(int);
    int OPENSSL_init_ssl(uint64_t, const void *);
    char *CONF_get1_default_file(void);
    unsigned long ERR_get_error(void);
    void ERR_clear_error(void);
    const char *ERR_reason_error_string(unsigned long);

    /* contexts: options are 64 bits from 3.0 on, unsigned long before; LibreSSL has SSL_CTX_ctrl only */
    const SSL_METHOD *TLS_server_method(void);
    const SSL_METHOD *TLS_client_method(void);
    SSL_CTX *SSL_CTX_new(const SSL_METHOD *);
    void SSL_CTX_free(SSL_CTX *);
    uint64_t SSL_CTX_get_options(const SSL_CTX *);
    uint64_t SSL_CTX_set_options(SSL_CTX *, uint64_t);
    long SSL_CTX_ctrl(SSL_CTX *, int, long, void *);
    int SSL_CTX_use_certificate(SSL_CTX *, X509 *);
    int SSL_CTX_use_PrivateKey(SSL_CTX *, EVP_PKEY *);

    int SSL_CTX_set_cipher_list(SSL_CTX *, const char *);
    int SSL_CTX_set_ciphersuites(SSL_CTX *, const char *);
    /* since 1.1.0; LibreSSL got them later, so libssl.py asks first */
    int SSL_CTX_get_security_level(const SSL_CTX *);
    void SSL_CTX_set_security_level(SSL_CTX *, int);
    void SSL_CTX_set_verify(SSL_CTX *, int, void *);

    /* what it offers; STACK_OF(SSL_CIPHER) is an OPENSSL_STACK */
    typedef struct stack_st OPENSSL_STACK;
    OPENSSL_STACK *SSL_get1_supported_ciphers(SSL *);
    int OPENSSL_sk_num(const OPENSSL_STACK *);
    void *OPENSSL_sk_value(const OPENSSL_STACK *, int);
    void OPENSSL_sk_free(OPENSSL_STACK *);
    int SSL_CIPHER_get_auth_nid(const SSL_CIPHER *);
    int SSL_CIPHER_get_kx_nid(const SSL_CIPHER *);
    const char *SSL_CIPHER_get_version(const SSL_CIPHER *);

    /* sessions */
    int SSL_set_fd(SSL *, int);
    int SSL_shutdown(SSL *);
    int SSL_is_init_finished(const SSL *);
    BIO *SSL_get_rbio(const SSL *);
    BIO *SSL_get_wbio(const SSL *);
    long BIO_ctrl(BIO *, int, long, void *);
    SSL *SSL_new(SSL_CTX *);
    void SSL_free(SSL *);
    long SSL_ctrl(SSL *, int, long, void *);
    int SSL_set_cipher_list(SSL *, const char *);
    int SSL_set_ciphersuites(SSL *, const char *);
    void SSL_set_bio(SSL *, BIO *, BIO *);
    void SSL_set_accept_state(SSL *);
    void SSL_set_connect_state(SSL *);
    int SSL_do_handshake(SSL *);
    int SSL_read(SSL *, void *, int);
    int SSL_write(SSL *, const void *, int);
    int SSL_get_error(const SSL *, int);
    const SSL_CIPHER *SSL_get_current_cipher(const SSL *);
    const char *SSL_CIPHER_get_name(const SSL_CIPHER *);
    const char *SSL_get_version(const SSL *);

    /* what scenarios do to them; libssl.py asks for each by name first */
    typedef struct ssl_session_st SSL_SESSION;
    ptrdiff_t SSL_sendfile(SSL *, int, long, size_t, int);
    int SSL_key_update(SSL *, int);
    int SSL_get_key_update_type(const SSL *);
    int SSL_renegotiate(SSL *);
    int SSL_renegotiate_pending(const SSL *);
    int SSL_pending(const SSL *);
    int SSL_has_pending(const SSL *);
    int SSL_peek(SSL *, void *, int);
    int SSL_get_shutdown(const SSL *);
    int SSL_set_num_tickets(SSL *, size_t);
    void SSL_set_read_ahead(SSL *, int);
    uint64_t SSL_get_options(const SSL *);
    uint64_t SSL_set_options(SSL *, uint64_t);
    uint64_t SSL_clear_options(SSL *, uint64_t);
    int SSL_set_block_padding(SSL *, size_t);
    void SSL_set_record_padding_callback(SSL *, size_t (*)(SSL *, int, size_t, void *));
    int SSL_set_tlsext_max_fragment_length(SSL *, uint8_t);
    int SSL_set_max_early_data(SSL *, uint32_t);
    int SSL_write_early_data(SSL *, const void *, size_t, size_t *);
    int SSL_read_early_data(SSL *, void *, size_t, size_t *);
    int SSL_get_early_data_status(const SSL *);
    SSL_SESSION *SSL_get1_session(SSL *);
    int SSL_set_session(SSL *, SSL_SESSION *);
    void SSL_SESSION_free(SSL_SESSION *);
    int SSL_SESSION_is_resumable(const SSL_SESSION *);
    uint32_t SSL_SESSION_get_max_early_data(const SSL_SESSION *);
    int SSL_session_reused(const SSL *);
    void SSL_CTX_sess_set_new_cb(SSL_CTX *, int (*)(SSL *, SSL_SESSION *));
    int SSL_CTX_set_max_early_data(SSL_CTX *, uint32_t);
    int SSL_CTX_set_session_id_context(SSL_CTX *, const unsigned char *, unsigned int);
    const void *SSL_get_current_compression(const SSL *);

    /* memory BIOs */
    const BIO_METHOD *BIO_s_mem(void);
    int BIO_read(BIO *, void *, int);
    int BIO_write(BIO *, const void *, int);

    /* a BIO of our own */
    int BIO_get_new_index(void);
    BIO_METHOD *BIO_meth_new(int, const char *);
    int BIO_meth_set_write(BIO_METHOD *, int (*)(BIO *, const char *, int));
    int BIO_meth_set_read(BIO_METHOD *, int (*)(BIO *, char *, int));
    int BIO_meth_set_ctrl(BIO_METHOD *, long (*)(BIO *, int, long, void *));
    int BIO_meth_set_destroy(BIO_METHOD *, int (*)(BIO *));
    void BIO_meth_free(BIO_METHOD *);
    BIO *BIO_new(const BIO_METHOD *);
    int BIO_free(BIO *);
    void BIO_set_data(BIO *, void *);
    void *BIO_get_data(BIO *);
    void BIO_set_init(BIO *, int);
    void BIO_set_flags(BIO *, int);
    void BIO_clear_flags(BIO *, int);

    /* a throw-away certificate */
    EVP_PKEY_CTX *EVP_PKEY_CTX_new_id(int, void *);
    void EVP_PKEY_CTX_free(EVP_PKEY_CTX *);
    int EVP_PKEY_keygen_init(EVP_PKEY_CTX *);
    int EVP_PKEY_CTX_ctrl_str(EVP_PKEY_CTX *, const char *, const char *);
    int EVP_PKEY_keygen(EVP_PKEY_CTX *, EVP_PKEY **);
    void EVP_PKEY_free(EVP_PKEY *);
    const EVP_MD *EVP_sha256(void);
    X509 *X509_new(void);
    void X509_free(X509 *);
    int X509_set_version(X509 *, long);
    ASN1_TIME *X509_getm_notBefore(const X509 *);
    ASN1_TIME *X509_getm_notAfter(const X509 *);
    ASN1_TIME *X509_gmtime_adj(ASN1_TIME *, long);
    int X509_set_pubkey(X509 *, EVP_PKEY *);
    int X509_sign(X509 *, EVP_PKEY *, const EVP_MD *);

    /* every object that the dynamic linker has mapped: link.h of glibc, musl and FreeBSD begin the record alike */
    struct dl_phdr_info {
        uintptr_t dlpi_addr;
        const char *dlpi_name;
    };
    int dl_iterate_phdr(int (*)(struct dl_phdr_info *, size_t, void *), void *);
    """
)

if __name__ == "__main__":
    ffibuilder.compile()
