/* SPDX-License-Identifier: Apache-2.0 */
/* http_target_fuzz.c - any text as a server's address and as a record's own url. What is taken has paths
 * that are safe to send, and is asked at the host that the address names. The first byte chooses the
 * protocol. */
#include "runtime/http_protocol.h"

#include <curl/curl.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool is_true)
{
    if (!is_true) abort();
}

static void check_path(const char *path)
{
    if (path == NULL) return;
    require(path[0] == '/');
    for (const char *p = path; *p != '\0'; p++) require(*p > ' ' && *p < 0x7f && *p != '\\');
}

static char *host_of(const char *address)
{
    char *host = NULL;
    CURLU *url = curl_url();
    require(url != NULL && curl_url_set(url, CURLUPART_URL, address, 0) == CURLUE_OK);
    require(curl_url_get(url, CURLUPART_HOST, &host, 0) == CURLUE_OK);
    curl_url_cleanup(url);
    return host;
}

/* What is asked: the origin and a path behind it. */
static void check_host(const char *address, const struct http_target *target)
{
    struct buffer asked = {0};
    buffer_printf(&asked, "%s%s", target->origin,
                  target->path == NULL ? "/v1/chat/completions" : target->path);
    buffer_byte(&asked, '\0');
    char *host = host_of(address), *found = host_of(asked.data);
    require(strcmp(host, found) == 0);
    curl_free(host);
    curl_free(found);
    buffer_free(&asked);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[2048], message[512];
    struct http_target target;
    if (size < 1) return 0;
    char *address = malloc(size);
    if (address == NULL) return 0;
    memcpy(address, data + 1, size - 1);
    if (http_record_path((struct slice){address, size - 1}, path, message) == ERROR_OK)
        check_path(path);
    address[size - 1] = '\0';
    tidemill_error *error =
        http_target_parse(address, (enum http_protocol)(data[0] % (PROTOCOL_JSON + 1)), &target);
    require(error == NULL || error_code_of(error) == ERROR_USAGE);
    if (error == NULL) {
        require(target.protocol != PROTOCOL_AUTO);
        require(strncmp(target.origin, "http", 4) == 0);
        check_host(address, &target);
        require(target.path != NULL || target.protocol == PROTOCOL_OPENAI);
        check_path(target.path);
        check_path(target.health_path);
        check_path(target.metadata_path);
        http_target_free(&target);
    }
    error_free(error);
    free(address);
    return 0;
}
