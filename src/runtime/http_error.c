/* SPDX-License-Identifier: Apache-2.0 */
/* http_error.c - an answer that is no answer, as one sentence. */
#include "runtime/http_dialects.h"

#define ERROR_BODY_MAX ((size_t)1 << 20) /* more than that is no error message */

static const struct {
    int status;
    const char *text;
} statuses[] = {
    {400, "bad request"},
    {401, "the key is missing or wrong"},
    {403, "forbidden"},
    {404, "not found"},
    {405, "method not allowed"},
    {408, "the server waited too long for the request"},
    {409, "conflict"},
    {413, "the request is too large"},
    {415, "unsupported type"},
    {422, "the request does not fit"},
    {429, "too many requests"},
    {500, "internal error"},
    {501, "not implemented"},
    {502, "bad gateway"},
    {503, "unavailable"},
    {504, "gateway timeout"},
    {507, "out of memory there"},
    {529, "overloaded"},
};

static const char *status_text(int status)
{
    for (size_t i = 0; i < COUNT_OF(statuses); i++) {
        if (statuses[i].status == status) return statuses[i].text;
    }
    return status >= 300 && status < 400 ? "a redirect, which is not followed" : NULL;
}

static struct slice trim(struct slice text)
{
    while (text.size > 0 && (unsigned char)text.data[0] <= ' ') text.data++, text.size--;
    while (text.size > 0 && (unsigned char)text.data[text.size - 1] <= ' ') text.size--;
    return text;
}

void http_error_text(int status, struct slice body, char message[512])
{
    const char *what = status_text(status);
    char problem[HTTP_MESSAGE_SIZE];
    yyjson_doc *doc = body.size > ERROR_BODY_MAX ? NULL : http_json_read(body, problem);
    const char *said = http_json_error(yyjson_doc_get_root(doc));
    struct slice plain = trim(body);
    if (said != NULL) plain = (struct slice){said, strlen(said)};
    /* A page of HTML says nothing that the status does not. */
    if (said == NULL &&
        (doc != NULL || plain.size > 4096 || (plain.size > 0 && *plain.data == '<')))
        plain.size = 0;
    http_say(message, "the server answered %d%s%s%s%s%.*s", status, what == NULL ? "" : " (",
             what == NULL ? "" : what, what == NULL ? "" : ")", plain.size == 0 ? "" : ": ",
             (int)MIN(plain.size, (size_t)HTTP_MESSAGE_SIZE), plain.size == 0 ? "" : plain.data);
    yyjson_doc_free(doc);
}
