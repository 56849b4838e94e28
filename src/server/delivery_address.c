/* SPDX-License-Identifier: Apache-2.0 */
/* delivery_address.c - what is public, by the registries of special-purpose addresses of IANA
 * (RFC 6890 and those that came after). */
#include "server/delivery_address.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <strings.h>

#define URL_BYTES_MAX 2048

struct block4 {
    uint32_t address;
    int bits;
};

#define IPV4(a, b, c, d)                                                                           \
    ((uint32_t)(a) << 24 | (uint32_t)(b) << 16 | (uint32_t)(c) << 8 | (uint32_t)(d))

static const struct block4 special4[] = {
    {IPV4(0, 0, 0, 0), 8},       /* this network */
    {IPV4(10, 0, 0, 0), 8},      /* private */
    {IPV4(100, 64, 0, 0), 10},   /* behind a carrier's NAT; some clouds' metadata */
    {IPV4(127, 0, 0, 0), 8},     /* loopback */
    {IPV4(169, 254, 0, 0), 16},  /* link-local; clouds' metadata */
    {IPV4(172, 16, 0, 0), 12},   /* private */
    {IPV4(192, 0, 0, 0), 24},    /* IETF protocols; a cloud's metadata */
    {IPV4(192, 0, 2, 0), 24},    /* documentation */
    {IPV4(192, 88, 99, 0), 24},  /* 6to4 relays */
    {IPV4(192, 168, 0, 0), 16},  /* private */
    {IPV4(198, 18, 0, 0), 15},   /* benchmarks */
    {IPV4(198, 51, 100, 0), 24}, /* documentation */
    {IPV4(203, 0, 113, 0), 24},  /* documentation */
    {IPV4(224, 0, 0, 0), 4},     /* multicast */
    {IPV4(240, 0, 0, 0), 4},     /* reserved, broadcast */
    /* Public by its number, but the virtual host address of one cloud. */
    {IPV4(168, 63, 129, 16), 32},
};

static bool is_public4(uint32_t address)
{
    for (size_t i = 0; i < COUNT_OF(special4); i++)
        if ((address ^ special4[i].address) >> (32 - special4[i].bits) == 0) return false;
    return true;
}

struct block6 {
    unsigned char prefix[6];
    int bits;
};

/* Of 2000::/3, which is all that is given out; the rest is special as a whole. */
static const struct block6 special6[] = {
    {{0x20, 0x01, 0x00}, 23},             /* IETF protocols, Teredo, benchmarks, ORCHID */
    {{0x20, 0x01, 0x0d, 0xb8}, 32},       /* documentation */
    {{0x3f, 0xff, 0x00}, 20},             /* documentation */
    {{0x26, 0x20, 0x00, 0x4f, 0x80}, 48}, /* AS112 */
};

static bool is_in(const unsigned char *address, const struct block6 *block)
{
    int whole = block->bits / 8, rest = block->bits % 8;
    if (memcmp(address, block->prefix, (size_t)whole) != 0) return false;
    return rest == 0 || (address[whole] ^ block->prefix[whole]) >> (8 - rest) == 0;
}

static uint32_t word4(const unsigned char *p)
{
    return IPV4(p[0], p[1], p[2], p[3]);
}

static bool is_public6(const unsigned char *address)
{
    static const unsigned char mapped[12] = {[10] = 0xff, [11] = 0xff};
    static const unsigned char nat64[12] = {0x00, 0x64, 0xff, 0x9b};
    if (memcmp(address, mapped, sizeof mapped) == 0 || memcmp(address, nat64, sizeof nat64) == 0)
        return is_public4(word4(address + 12));
    if (address[0] == 0x20 && address[1] == 0x02) return is_public4(word4(address + 2)); /* 6to4 */
    if (address[0] >> 5 != 1) return false;
    for (size_t i = 0; i < COUNT_OF(special6); i++)
        if (is_in(address, &special6[i])) return false;
    return true;
}

bool delivery_address_is_public(const struct sockaddr *address, size_t size)
{
    struct sockaddr_in in4;
    struct sockaddr_in6 in6;
    if (size >= sizeof in4 && address->sa_family == AF_INET) {
        memcpy(&in4, address, sizeof in4);
        return is_public4(ntohl(in4.sin_addr.s_addr));
    }
    if (size >= sizeof in6 && address->sa_family == AF_INET6) {
        memcpy(&in6, address, sizeof in6);
        return is_public6(in6.sin6_addr.s6_addr);
    }
    return false;
}

/* --- the text --------------------------------------------------------------------------------- */

/* A literal address, as libcurl has it after reading (so 0x7f.1 is 127.0.0.1). Names are checked when
 * they are connected to. */
static bool is_private_literal(const char *host)
{
    struct in_addr in4;
    struct in6_addr in6;
    char text[INET6_ADDRSTRLEN];
    size_t size = strlen(host);
    if (inet_pton(AF_INET, host, &in4) == 1) return !is_public4(ntohl(in4.s_addr));
    if (size < 2 || host[0] != '[') return false;
    size = strcspn(host + 1, "%]");
    if (size >= sizeof text) return true;
    memcpy(text, host + 1, size);
    text[size] = '\0';
    return inet_pton(AF_INET6, text, &in6) != 1 || !is_public6(in6.s6_addr);
}

/* Names that mean this machine or its network wherever they are asked. */
static bool is_private_name(const char *host)
{
    static const char *const ends[] = {"localhost", ".localhost", ".local", ".internal"};
    size_t size = strlen(host);
    if (size > 0 && host[size - 1] == '.') size--;
    for (size_t i = 0; i < COUNT_OF(ends); i++) {
        size_t n = strlen(ends[i]);
        bool is_suffix = ends[i][0] == '.';
        if (size >= n && (is_suffix || size == n) && strncasecmp(host + size - n, ends[i], n) == 0)
            return true;
    }
    return false;
}

static const char *why_not_text(const char *url)
{
    if (strlen(url) > URL_BYTES_MAX) return "it is longer than 2,048 bytes";
    for (const char *p = url; *p != '\0'; p++)
        if ((unsigned char)*p <= ' ' || (unsigned char)*p >= 0x7f || *p == '\\')
            return "it holds a space, a backslash, or a character that is not ASCII";
    return NULL;
}

/* A part of the parsed address; "" where there is none. Freed with curl_free unless it is "". */
static char *part_of(CURLU *parsed, CURLUPart part)
{
    char *text = NULL;
    if (curl_url_get(parsed, part, &text, 0) != CURLUE_OK) return NULL;
    return text;
}

static bool has_part(CURLU *parsed, CURLUPart part)
{
    char *text = part_of(parsed, part);
    curl_free(text);
    return text != NULL;
}

static const char *why_not_parsed(CURLU *parsed, bool may_be_private)
{
    char *scheme = part_of(parsed, CURLUPART_SCHEME), *host = part_of(parsed, CURLUPART_HOST);
    const char *why = NULL;
    if (scheme == NULL || (strcmp(scheme, "https") != 0 && strcmp(scheme, "http") != 0))
        why = "only https is allowed";
    else if (strcmp(scheme, "http") == 0 && !may_be_private)
        why = "only https is allowed, unless webhooks_private is set";
    else if (host == NULL || host[0] == '\0')
        why = "it names no host";
    else if (has_part(parsed, CURLUPART_USER) || has_part(parsed, CURLUPART_PASSWORD))
        why = "it holds a user or password; use the signature instead";
    else if (!may_be_private && (is_private_literal(host) || is_private_name(host)))
        why = "it is an address of this machine or a private network";
    curl_free(scheme);
    curl_free(host);
    return why;
}

tidemill_error *delivery_address_check(const char *url, bool may_be_private)
{
    const char *why = why_not_text(url);
    if (why == NULL) {
        CURLU *parsed = curl_url();
        if (parsed == NULL) return error_memory();
        if (curl_url_set(parsed, CURLUPART_URL, url, 0) != CURLUE_OK)
            why = "it is no address";
        else
            why = why_not_parsed(parsed, may_be_private);
        curl_url_cleanup(parsed);
    }
    if (why == NULL) return NULL;
    return error_new(ERROR_USAGE, "the webhook %.*s cannot be used: %s", 200, url, why);
}
