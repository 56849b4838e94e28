/* SPDX-License-Identifier: Apache-2.0 */
/* delivery_http.c - one POST to somebody who may be slow, hostile, or not who they say. */
#include "server/delivery_address.h"
#include "server/delivery_parts.h"

#include <curl/curl.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#define TOTAL_MS 15000L
#define CONNECT_MS 5000L
#define ANSWER_BYTES_MAX ((size_t)64 << 10)

struct call {
    const struct delivery_post *post;
    size_t answer_bytes;
    bool is_private; /* it was led to an address that it may not reach */
};

/* The address of the connection that is really made, whatever a name said before. */
static curl_socket_t open_socket(void *context, curlsocktype purpose, struct curl_sockaddr *address)
{
    struct call *call = context;
    (void)purpose;
    if (!call->post->may_be_private &&
        !delivery_address_is_public(&address->addr, address->addrlen)) {
        call->is_private = true;
        return CURL_SOCKET_BAD;
    }
    return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

/* Counts, and ends the transfer beyond what is allowed. */
static size_t take_answer(char *data, size_t size, size_t n, void *context)
{
    struct call *call = context;
    (void)data;
    call->answer_bytes += size * n;
    return call->answer_bytes > ANSWER_BYTES_MAX ? 0 : size * n;
}

/* Not 0: give up. */
static int look_around(void *context, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
    const struct call *call = context;
    (void)a, (void)b, (void)c, (void)d;
    return call->post->is_stopping != NULL && *call->post->is_stopping;
}

static struct curl_slist *header_list(const struct delivery_post *post)
{
    struct curl_slist *list = curl_slist_append(NULL, "Expect:");
    for (size_t i = 0; i < post->n_headers && list != NULL; i++) {
        struct curl_slist *longer = curl_slist_append(list, post->headers[i]);
        if (longer == NULL) {
            curl_slist_free_all(list);
            return NULL;
        }
        list = longer;
    }
    return list;
}

static void set_options(CURL *curl, struct call *call, const struct curl_slist *headers,
                        char *message)
{
    const struct delivery_post *post = call->post;
    curl_easy_setopt(curl, CURLOPT_URL, post->url);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, post->may_be_private ? "https,http" : "https");
    curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(curl, CURLOPT_PROXY, ""); /* a proxy would connect where we may not look */
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, TOTAL_MS);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_MS);
    curl_easy_setopt(curl, CURLOPT_OPENSOCKETFUNCTION, open_socket);
    curl_easy_setopt(curl, CURLOPT_OPENSOCKETDATA, call);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_answer);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, call);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_POSTFIELDS, post->body.data);
    curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)post->body.size);
    curl_easy_setopt(curl, CURLOPT_USERAGENT, "tidemill/" TIDEMILL_VERSION);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, message);
    curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, look_around);
    curl_easy_setopt(curl, CURLOPT_XFERINFODATA, call);
}

static enum delivery_end judge(long status, char outcome[DELIVERY_OUTCOME_BYTES])
{
    snprintf(outcome, DELIVERY_OUTCOME_BYTES, "HTTP status %ld%s", status,
             status >= 300 && status < 400 ? "; redirects are not followed" : "");
    if (status >= 200 && status < 300) return DELIVERY_DONE;
    return status == 410 ? DELIVERY_GONE : DELIVERY_AGAIN;
}

static enum delivery_end perform(CURL *curl, struct call *call,
                                 char outcome[DELIVERY_OUTCOME_BYTES])
{
    char message[CURL_ERROR_SIZE] = "";
    long status = 0;
    struct curl_slist *headers = header_list(call->post);
    if (headers == NULL) {
        snprintf(outcome, DELIVERY_OUTCOME_BYTES, "out of memory");
        return DELIVERY_AGAIN;
    }
    set_options(curl, call, headers, message);
    CURLcode code = curl_easy_perform(curl);
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    curl_slist_free_all(headers);
    /* A 2xx whose body is endless, or breaks off, was a 2xx. */
    if (code == CURLE_OK || (status >= 200 && status < 300 && call->answer_bytes > 0))
        return judge(status, outcome);
    snprintf(outcome, DELIVERY_OUTCOME_BYTES, "%s",
             call->is_private     ? "it leads to an address of a private network"
             : message[0] != '\0' ? message
                                  : curl_easy_strerror(code));
    return DELIVERY_AGAIN;
}

enum delivery_end delivery_http_post(const struct delivery_post *post,
                                     char outcome[DELIVERY_OUTCOME_BYTES])
{
    struct call call = {.post = post};
    CURL *curl = curl_easy_init();
    if (curl == NULL) {
        snprintf(outcome, DELIVERY_OUTCOME_BYTES, "out of memory");
        return DELIVERY_AGAIN;
    }
    enum delivery_end end = perform(curl, &call, outcome);
    curl_easy_cleanup(curl);
    return end;
}
