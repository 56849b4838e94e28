/* SPDX-License-Identifier: Apache-2.0 */
/* http_target_fuzz.c - any text as a server's address and as a record's own url. What is taken has an
 * origin, and paths that are safe to send. The first byte chooses the protocol. */
#include "runtime/http_protocol.h"

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
        require(strncmp(target.origin, "http", 4) == 0 && strchr(target.origin, '@') == NULL);
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
