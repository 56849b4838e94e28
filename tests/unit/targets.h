/* SPDX-License-Identifier: Apache-2.0 */
/* targets.h - addresses of servers and models of theirs, for tests of what is said to them. */
#ifndef TIDEMILL_TESTS_TARGETS_H
#define TIDEMILL_TESTS_TARGETS_H

#include "expect.h"
#include "runtime/http_protocol.h"

#define OPENAI "http://h/v1/chat/completions"
#define TF "http://h/v1/models/m:predict"
#define TORCH "http://h/predictions/m"
#define KSERVE "http://h/v2/models/m/infer"

/* Models of KServe's by what they take. */
#define META_ONE                                                                                   \
    "{\"name\":\"m\",\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[-1,2]}],"        \
    "\"outputs\":[{\"name\":\"y\",\"datatype\":\"FP32\",\"shape\":[-1,1]}]}"
#define META_TWO                                                                                   \
    "{\"inputs\":[{\"name\":\"a\",\"datatype\":\"INT64\",\"shape\":[-1,-1]},"                      \
    "{\"name\":\"b\",\"datatype\":\"BYTES\",\"shape\":[-1]}],\"outputs\":[]}"
#define META_ALONE "{\"inputs\":[{\"name\":\"x\",\"datatype\":\"UINT8\",\"shape\":[2,-1]}]}"
#define META_INTS                                                                                  \
    "{\"inputs\":[{\"name\":\"i\",\"datatype\":\"INT8\",\"shape\":[-1]},"                          \
    "{\"name\":\"u\",\"datatype\":\"UINT64\",\"shape\":[-1]}]}"
#define META_BOOL "{\"inputs\":[{\"name\":\"x\",\"datatype\":\"BOOL\",\"shape\":[-1]}]}"

static inline struct slice slice_of(const char *text)
{
    return (struct slice){text, strlen(text)};
}

static inline struct http_target open_target(const char *address, const char *metadata)
{
    struct http_target target;
    enum http_protocol protocol = strstr(address, "score") != NULL ? PROTOCOL_JSON : PROTOCOL_AUTO;
    expect_fine(http_target_parse(address, protocol, &target), address);
    if (metadata != NULL)
        expect_fine(http_target_take_metadata(&target, slice_of(metadata)), metadata);
    return target;
}

#endif
