/* SPDX-License-Identifier: Apache-2.0 */
/* tls.c - TLS 1.2 and later by OpenSSL, over the same non-blocking sockets. A connection gives its record
 * buffers back while it is idle. */
#include "net/impl.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

static tidemill_error *tls_error(const char *what, const char *path)
{
    char text[256] = "";
    unsigned long code = ERR_get_error();
    if (code != 0) ERR_error_string_n(code, text, sizeof text);
    ERR_clear_error();
    return error_new(ERROR_USAGE, "TLS: the %s in %s cannot be used: %s", what, path, text);
}

/* We speak one protocol; who offers others as well gets that one. */
static int choose_protocol(SSL *ssl, const unsigned char **out, unsigned char *out_size,
                           const unsigned char *in, unsigned int in_size, void *context)
{
    static const unsigned char ours[] = "\x08http/1.1";
    (void)ssl, (void)context;
    unsigned char *chosen;
    if (SSL_select_next_proto(&chosen, out_size, ours, sizeof ours - 1, in, in_size) !=
        OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_NOACK;
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

tidemill_error *tls_context(const char *certificate, const char *key, struct ssl_ctx_st **ret)
{
    if (key == NULL) return error_new(ERROR_USAGE, "TLS: a certificate without a key");
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    if (context == NULL) return error_memory();
    tidemill_error *error = NULL;
    SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
    SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                                     SSL_OP_CIPHER_SERVER_PREFERENCE);
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                  SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_alpn_select_cb(context, choose_protocol, NULL);
    if (SSL_CTX_use_certificate_chain_file(context, certificate) != 1)
        error = tls_error("certificate", certificate);
    else if (SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) != 1 ||
             SSL_CTX_check_private_key(context) != 1)
        error = tls_error("key", key);
    if (error != NULL) {
        SSL_CTX_free(context);
        return error;
    }
    *ret = context;
    return NULL;
}

void tls_context_free(struct ssl_ctx_st *context)
{
    SSL_CTX_free(context);
}

struct ssl_st *tls_new(struct ssl_ctx_st *context, int fd)
{
    SSL *ssl = SSL_new(context);
    if (ssl == NULL) return NULL;
    if (SSL_set_fd(ssl, fd) != 1) {
        SSL_free(ssl);
        return NULL;
    }
    SSL_set_accept_state(ssl);
    return ssl;
}

void tls_close(struct ssl_st *ssl, bool is_clean)
{
    ERR_clear_error();
    if (is_clean) SSL_shutdown(ssl);
    ERR_clear_error();
    SSL_free(ssl);
}

bool tls_is_ready(struct ssl_st *ssl)
{
    return SSL_is_init_finished(ssl) != 0;
}

/* What went wrong, as errno says it. */
static ssize_t outcome(SSL *ssl, int result)
{
    switch (SSL_get_error(ssl, result)) {
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE: errno = EAGAIN; return -1;
    case SSL_ERROR_ZERO_RETURN: return 0;
    default:
        ERR_clear_error();
        errno = ECONNRESET;
        return -1;
    }
}

ssize_t tls_recv(struct ssl_st *ssl, void *data, size_t size)
{
    size_t n = 0;
    ERR_clear_error();
    int result = SSL_read_ex(ssl, data, size, &n);
    return result == 1 ? (ssize_t)n : outcome(ssl, result);
}

ssize_t tls_send(struct ssl_st *ssl, const void *data, size_t size)
{
    size_t n = 0;
    ERR_clear_error();
    int result = SSL_write_ex(ssl, data, size, &n);
    return result == 1 ? (ssize_t)n : outcome(ssl, result);
}
