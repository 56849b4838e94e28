/* SPDX-License-Identifier: Apache-2.0 */
/* server_delivery_address_test.c - what a webhook must not reach, however it is spelled. */
#include "server/delivery_address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

struct text_row {
    const char *url;
    bool is_fine, is_fine_private;
};

static const struct text_row texts[] = {
    {"https://example.com/hook", true, true},
    {"https://example.com:8443/hook?x=1", true, true},
    {"https://8.8.8.8/", true, true},
    {"https://[2606:4700:4700::1111]/", true, true},
    {"http://example.com/hook", false, true},
    {"https://127.0.0.1/", false, true},
    {"https://127.1/", false, true},
    {"https://0x7f.1/", false, true},
    {"https://0177.0.0.1/", false, true},
    {"https://2130706433/", false, true},
    {"https://2852039166/latest/meta-data", false, true}, /* 169.254.169.254 */
    {"https://169.254.169.254/latest/meta-data", false, true},
    {"https://0xa9fea9fe/", false, true},
    {"https://100.100.100.200/", false, true},
    {"https://192.0.0.192/", false, true},
    {"https://168.63.129.16/", false, true},
    {"https://10.0.0.1/", false, true},
    {"https://172.16.0.1/", false, true},
    {"https://172.31.255.255/", false, true},
    {"https://172.32.0.1/", true, true},
    {"https://192.168.1.1/", false, true},
    {"https://0.0.0.0/", false, true},
    {"https://[::1]/", false, true},
    {"https://[::]/", false, true},
    {"https://[::ffff:127.0.0.1]/", false, true},
    {"https://[::ffff:7f00:1]/", false, true},
    {"https://[::127.0.0.1]/", false, true},
    {"https://[64:ff9b::7f00:1]/", false, true},
    {"https://[2002:7f00:1::]/", false, true},
    {"https://[fe80::1%25eth0]/", false, true},
    {"https://[fd00:ec2::254]/", false, true},
    {"https://[fc00::1]/", false, true},
    {"https://[ff02::1]/", false, true},
    {"https://[2001::1]/", false, true},
    {"https://localhost/", false, true},
    {"https://LOCALHOST./", false, true},
    {"https://a.localhost/", false, true},
    {"https://metadata.google.internal/", false, true},
    {"https://notlocalhost/", true, true},
    {"https://example.com@127.0.0.1/", false, false},
    {"https://user:password@example.com/", false, false},
    {"https://example.com\\@127.0.0.1/", false, false},
    {"https:\\\\127.0.0.1/", false, false},
    {"https://example.com /", false, false},
    {"https://example.com/\r\nHost: x", false, false},
    {"https://ex\xc3\xa4mple.com/", false, false},
    {"file:///etc/passwd", false, false},
    {"gopher://127.0.0.1:6379/_FLUSHALL", false, false},
    {"ftp://example.com/", false, false},
    {"dict://127.0.0.1:11211/stat", false, false},
    {"javascript:alert(1)", false, false},
    {"example.com", false, false},
    {"//example.com/", false, false},
    {"https://", false, false},
    {"", false, false},
};

static void checks_texts(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        for (int is_private = 0; is_private < 2; is_private++) {
            tidemill_error *error = delivery_address_check(texts[i].url, is_private != 0);
            bool is_expected = is_private ? texts[i].is_fine_private : texts[i].is_fine;
            if ((error == NULL) != is_expected)
                fail_msg("%s (private %d): %s", texts[i].url, is_private, error_message(error));
            if (error != NULL) assert_int_equal(error_code_of(error), ERROR_USAGE);
            error_free(error);
        }
    }
}

struct address_row {
    const char *address;
    bool is_public;
};

/* What a name may turn out to be when it is connected to. */
static const struct address_row addresses[] = {
    {"1.1.1.1", true},          {"9.255.255.255", true},    {"10.0.0.0", false},
    {"10.255.255.255", false},  {"11.0.0.0", true},         {"100.63.255.255", true},
    {"100.64.0.1", false},      {"100.128.0.0", true},      {"127.255.255.254", false},
    {"169.254.169.254", false}, {"169.253.1.1", true},      {"172.15.255.255", true},
    {"198.17.255.255", true},   {"198.19.0.1", false},      {"223.255.255.255", true},
    {"224.0.0.1", false},       {"255.255.255.255", false}, {"::1", false},
    {"::ffff:8.8.8.8", true},   {"::ffff:10.0.0.1", false}, {"64:ff9b::808:808", true},
    {"64:ff9b::a00:1", false},  {"64:ff9b:1::1", false},    {"2002:808:808::", true},
    {"2002:a00:1::", false},    {"2600::1", true},          {"2001:200::1", true},
    {"2001:1ff::1", false},     {"2001:db8::1", false},     {"3fff::1", false},
    {"3ffe::1", true},          {"4000::1", false},         {"fe80::1", false},
    {"fec0::1", false},         {"100::1", false},
};

static void checks_addresses(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(addresses); i++) {
        struct sockaddr_in in4 = {.sin_family = AF_INET};
        struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
        bool is_public = false;
        if (inet_pton(AF_INET, addresses[i].address, &in4.sin_addr) == 1)
            is_public = delivery_address_is_public((struct sockaddr *)&in4, sizeof in4);
        else if (inet_pton(AF_INET6, addresses[i].address, &in6.sin6_addr) == 1)
            is_public = delivery_address_is_public((struct sockaddr *)&in6, sizeof in6);
        else
            fail_msg("%s", addresses[i].address);
        if (is_public != addresses[i].is_public) fail_msg("%s", addresses[i].address);
    }
    struct sockaddr other = {.sa_family = AF_UNIX};
    assert_false(delivery_address_is_public(&other, sizeof other));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(checks_texts),
        cmocka_unit_test(checks_addresses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
