/* SPDX-License-Identifier: Apache-2.0 */
/* net_tls_test.c - the same server behind TLS, with a certificate made here; and what is no certificate. */
#include "net_client.h"
#include "tempdir.h"

#include <fcntl.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

static struct tempdir folder;

static void echo(struct exchange *exchange, void *context)
{
    struct slice body = exchange_body(exchange);
    (void)context;
    exchange_answer(exchange, 200, "text/plain", body.data, body.size);
}

static void file(struct exchange *exchange, void *context)
{
    (void)context;
    int fd = open(tempdir_path(&folder, "file"), O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    exchange_answer_file(exchange, 200, "text/plain", fd, 0, 1000000);
}

static const struct net_route routes[] = {
    {.method = NET_POST, .pattern = "/echo", .handle = echo, .body = NET_BODY_WHOLE},
    {.method = NET_GET, .pattern = "/file", .handle = file},
};

static void make_certificate(const char *certificate_path, const char *key_path)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *certificate = X509_new();
    assert_true(key != NULL && certificate != NULL);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
    X509_gmtime_adj(X509_getm_notBefore(certificate), -60);
    X509_gmtime_adj(X509_getm_notAfter(certificate), 3600);
    X509_set_pubkey(certificate, key);
    X509_NAME *name = X509_get_subject_name(certificate);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"localhost", -1, -1,
                               0);
    X509_set_issuer_name(certificate, name);
    assert_true(X509_sign(certificate, key, EVP_sha256()) > 0);
    FILE *out = fopen(certificate_path, "w");
    assert_true(PEM_write_X509(out, certificate) == 1 && fclose(out) == 0);
    out = fopen(key_path, "w");
    assert_true(PEM_write_PrivateKey(out, key, NULL, NULL, 0, NULL, NULL) == 1 && fclose(out) == 0);
    X509_free(certificate);
    EVP_PKEY_free(key);
}

static struct net_options tls_options(void)
{
    static char certificate[256], key[256];
    snprintf(certificate, sizeof certificate, "%s/cert.pem", folder.path);
    snprintf(key, sizeof key, "%s/key.pem", folder.path);
    make_certificate(certificate, key);
    return (struct net_options){.routes = routes,
                                .n_routes = COUNT_OF(routes),
                                .tls_certificate = certificate,
                                .tls_key = key};
}

/* NULL: the handshake failed. */
static SSL *greet(SSL_CTX *context, int fd)
{
    SSL *ssl = SSL_new(context);
    SSL_set_fd(ssl, fd);
    if (SSL_connect(ssl) == 1) return ssl;
    SSL_free(ssl);
    return NULL;
}

static void hear(SSL *ssl, size_t size, struct buffer *ret)
{
    char piece[16384];
    size_t n;
    while (ret->size < size && SSL_read_ex(ssl, piece, sizeof piece, &n) == 1)
        buffer_append(ret, piece, n);
    buffer_byte(ret, '\0');
    ret->size--;
}

#define HOST " HTTP/1.1\r\nHost: a\r\n"

static void requests_are_answered(void **state)
{
    (void)state;
    struct net_server *server = server_open(tls_options());
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_alpn_protos(context, (const unsigned char *)"\x02h2\x08http/1.1", 12);
    struct buffer content = {0}, request = {0}, heard = {0};
    uint64_t random = 1;
    for (int i = 0; i < 125000; i++) {
        uint64_t word = random_next(&random) | 0x0101010101010101u;
        buffer_append(&content, &word, sizeof word);
    }
    tempdir_write(tempdir_path(&folder, "file"), content.data, content.size);
    int fd = client_open(server);
    SSL *ssl = greet(context, fd);
    assert_non_null(ssl);
    const unsigned char *protocol;
    unsigned int protocol_size;
    SSL_get0_alpn_selected(ssl, &protocol, &protocol_size);
    assert_int_equal(protocol_size, 8);
    size_t n;
    buffer_printf(&request, "POST /echo" HOST "Content-Length: %zu\r\n\r\n", content.size);
    buffer_append(&request, content.data, content.size);
    buffer_text(&request, "GET /file" HOST "Connection: close\r\n\r\n");
    for (size_t at = 0; at < request.size; at += n)
        assert_int_equal(SSL_write_ex(ssl, request.data + at, MIN(request.size - at, 70000), &n),
                         1);
    hear(ssl, SIZE_MAX, &heard);
    assert_int_equal(SSL_get_shutdown(ssl) & SSL_RECEIVED_SHUTDOWN, SSL_RECEIVED_SHUTDOWN);
    const char *first = strstr(heard.data, "\r\n\r\n") + 4;
    assert_memory_equal(first, content.data, content.size);
    const char *second = strstr(first + content.size, "\r\n\r\n") + 4;
    assert_memory_equal(second, content.data, content.size);
    SSL_free(ssl);
    close(fd);
    buffer_free(&content);
    buffer_free(&request);
    buffer_free(&heard);
    SSL_CTX_free(context);
    server_close(server);
}

static void what_is_not_tls_is_closed(void **state)
{
    (void)state;
    struct net_options options = tls_options();
    options.limits.header_ms = 300;
    struct net_server *server = server_open(options);
    struct buffer heard = {0};
    int fd = client_open(server), silent = client_open(server);
    client_say(fd, "POST /echo" HOST "\r\n");
    client_receive_all(fd, &heard); /* an alert, perhaps */
    assert_null(strstr(heard.data, "HTTP"));
    client_expect_end(silent); /* no handshake either */
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_max_proto_version(context, TLS1_1_VERSION);
    int old = client_open(server);
    assert_null(greet(context, old));
    SSL_CTX_free(context);
    close(old);
    close(fd);
    close(silent);
    buffer_free(&heard);
    server_close(server);
}

static void wrong_files_are_told(void **state)
{
    (void)state;
    struct net_options options = tls_options();
    struct net_server *server;
    static char other[256], nothing[256];
    snprintf(other, sizeof other, "%s/other.pem", folder.path);
    snprintf(nothing, sizeof nothing, "%s/nothing.pem", folder.path);
    char scratch[256];
    snprintf(scratch, sizeof scratch, "%s/scratch.pem", folder.path);
    make_certificate(scratch, other);
    const char *certificate = options.tls_certificate, *key = options.tls_key;
    options.tls_certificate = nothing;
    expect_error(net_server_new(&options, &server), ERROR_USAGE, "certificate", "no certificate");
    options.tls_certificate = key;
    expect_error(net_server_new(&options, &server), ERROR_USAGE, "certificate", "a key");
    options.tls_certificate = certificate;
    options.tls_key = nothing;
    expect_error(net_server_new(&options, &server), ERROR_USAGE, "key", "no key");
    options.tls_key = other;
    expect_error(net_server_new(&options, &server), ERROR_USAGE, "key", "another's key");
    options.tls_key = NULL;
    expect_error(net_server_new(&options, &server), ERROR_USAGE, "key", "none");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_are_answered),
        cmocka_unit_test(what_is_not_tls_is_closed),
        cmocka_unit_test(wrong_files_are_told),
    };
    tempdir_open(&folder);
    int result = cmocka_run_group_tests(tests, NULL, NULL);
    tempdir_close(&folder);
    return result;
}
