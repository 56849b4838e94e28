/* SPDX-License-Identifier: Apache-2.0 */
/* wire.c - messages between engine and host: sent and received whole, and the model's signature. */
#include "runtime/wire.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define FDS_MAX 4
#define BATCH_FIXED_MAX ((int64_t)1 << 30)

union fd_control {
    char bytes[CMSG_SPACE(FDS_MAX * sizeof(int))];
    struct cmsghdr alignment;
};

static int send_message(int fd, const struct msghdr *header, size_t size, int flags)
{
    ssize_t sent;
    do {
        sent = sendmsg(fd, header, MSG_NOSIGNAL | flags);
    } while (sent < 0 && errno == EINTR);
    if (sent >= 0) return (size_t)sent == size ? 0 : EMSGSIZE;
    if (errno == EWOULDBLOCK) return EAGAIN;
    return errno == EPIPE ? ECONNRESET : errno;
}

int wire_send_with_fds(int fd, const void *message, size_t size, const int *fds, size_t n_fds)
{
    if (n_fds > FDS_MAX) return EINVAL;
    struct iovec part = {.iov_base = (void *)(uintptr_t)message, .iov_len = size};
    struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1};
    union fd_control control = {0};
    if (n_fds > 0) {
        header.msg_control = control.bytes;
        header.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
        struct cmsghdr *cmsg = CMSG_FIRSTHDR(&header);
        cmsg->cmsg_level = SOL_SOCKET;
        cmsg->cmsg_type = SCM_RIGHTS;
        cmsg->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
        memcpy(CMSG_DATA(cmsg), fds, n_fds * sizeof(int));
    }
    return send_message(fd, &header, size, 0);
}

int wire_send(int fd, const void *message, size_t size)
{
    return wire_send_with_fds(fd, message, size, NULL, 0);
}

int wire_try_send(int fd, const void *message, size_t size)
{
    struct iovec part = {.iov_base = (void *)(uintptr_t)message, .iov_len = size};
    struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1};
    return send_message(fd, &header, size, MSG_DONTWAIT);
}

/* Takes the descriptors out of a message; those nobody asked for are closed. */
static void take_fds(struct msghdr *header, int *fds, size_t n_fds)
{
    size_t taken = 0;
    for (size_t i = 0; i < n_fds; i++) fds[i] = -1;
    for (struct cmsghdr *cmsg = CMSG_FIRSTHDR(header); cmsg != NULL;
         cmsg = CMSG_NXTHDR(header, cmsg)) {
        if (cmsg->cmsg_level != SOL_SOCKET || cmsg->cmsg_type != SCM_RIGHTS) continue;
        size_t count = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(cmsg) + i * sizeof fd, sizeof fd);
            if (taken < n_fds)
                fds[taken++] = fd;
            else
                close(fd);
        }
    }
}

int wire_receive(int fd, void *message, size_t capacity, int *fds, size_t n_fds, bool is_waiting,
                 size_t *ret_size)
{
    *ret_size = 0;
    struct iovec part = {.iov_base = message, .iov_len = capacity};
    union fd_control control = {0};
    struct msghdr header = {.msg_iov = &part,
                            .msg_iovlen = 1,
                            .msg_control = control.bytes,
                            .msg_controllen = sizeof control.bytes};
    ssize_t received;
    do {
        received = recvmsg(fd, &header, MSG_CMSG_CLOEXEC | (is_waiting ? 0 : MSG_DONTWAIT));
    } while (received < 0 && errno == EINTR);
    if (received < 0) {
        for (size_t i = 0; i < n_fds; i++) fds[i] = -1;
        return errno == EWOULDBLOCK ? EAGAIN : errno;
    }
    take_fds(&header, fds, n_fds);
    if (received == 0) return 0;

    struct wire_header head;
    if ((header.msg_flags & MSG_TRUNC) != 0 || (size_t)received < sizeof head) return EPROTO;
    memcpy(&head, message, sizeof head);
    if (head.version != WIRE_VERSION) return EPROTO;
    *ret_size = (size_t)received;
    return 0;
}

/* The signature. */

static void write_spec(const struct value_spec *spec, struct buffer *buffer)
{
    struct wire_spec wire = {.kind = spec->kind,
                             .type = spec->type,
                             .key_type = spec->key_type,
                             .rank = spec->shape.rank,
                             .name_bytes = (uint32_t)strlen(spec->name),
                             .is_json = spec->is_json,
                             .is_optional = spec->is_optional};
    for (int32_t d = 0; d < spec->shape.rank; d++) {
        wire.dims[d] = spec->shape.dims[d];
        if (spec->dim_names[d] != NULL)
            wire.dim_name_bytes[d] = (uint32_t)strlen(spec->dim_names[d]);
    }
    buffer_append(buffer, &wire, sizeof wire);
}

static void write_spec_names(const struct value_spec *spec, struct buffer *buffer)
{
    buffer_text(buffer, spec->name);
    for (int32_t d = 0; d < spec->shape.rank; d++)
        if (spec->dim_names[d] != NULL) buffer_text(buffer, spec->dim_names[d]);
}

tidemill_error *wire_write_ready(const struct model_signature *signature, const char *description,
                                 uint32_t units_max, struct buffer *buffer)
{
    struct wire_ready ready = {.header = {.version = WIRE_VERSION, .type = WIRE_READY},
                               .n_inputs = (uint32_t)signature->n_inputs,
                               .n_outputs = (uint32_t)signature->n_outputs,
                               .is_batched = signature->is_batched,
                               .batch_fixed = signature->batch_fixed,
                               .units_max = units_max,
                               .description_bytes = (uint32_t)strlen(description)};
    buffer_append(buffer, &ready, sizeof ready);
    for (size_t i = 0; i < signature->n_inputs; i++) write_spec(&signature->inputs[i], buffer);
    for (size_t i = 0; i < signature->n_outputs; i++) write_spec(&signature->outputs[i], buffer);
    for (size_t i = 0; i < signature->n_inputs; i++)
        write_spec_names(&signature->inputs[i], buffer);
    for (size_t i = 0; i < signature->n_outputs; i++)
        write_spec_names(&signature->outputs[i], buffer);
    buffer_text(buffer, description);
    if (buffer->is_failed) return error_memory();
    if (buffer->size > WIRE_MESSAGE_BYTES_MAX)
        return error_new(ERROR_UNSUPPORTED,
                         "the names of the model's inputs and outputs are %zu "
                         "bytes long; %zu is the limit",
                         buffer->size, WIRE_MESSAGE_BYTES_MAX);
    return NULL;
}

/* What is left of a message that is being read. */
struct reader {
    const unsigned char *at;
    size_t left;
};

static bool read_bytes(struct reader *reader, void *target, size_t size)
{
    if (size > reader->left) return false;
    memcpy(target, reader->at, size);
    reader->at += size;
    reader->left -= size;
    return true;
}

/* A string of its own from the message; NUL bytes inside are refused. */
static bool read_text(struct reader *reader, size_t size, char **ret)
{
    if (size > reader->left || size > WIRE_NAME_BYTES_MAX || memchr(reader->at, 0, size) != NULL)
        return false;
    *ret = malloc(size + 1);
    if (*ret == NULL) return false;
    memcpy(*ret, reader->at, size);
    (*ret)[size] = '\0';
    wire_clean_text(*ret, size + 1);
    reader->at += size;
    reader->left -= size;
    return true;
}

static bool spec_is_sane(const struct wire_spec *spec)
{
    if (spec->kind > VALUE_MAP || spec->rank < -1 || spec->rank > TENSOR_RANK_MAX) return false;
    if (spec->type >= TENSOR_TYPE_COUNT || spec->key_type >= TENSOR_TYPE_COUNT) return false;
    if (spec->kind == VALUE_TENSOR && spec->type == TENSOR_UNDEFINED) return false;
    bool is_string = spec->kind == VALUE_TENSOR && spec->type == TENSOR_STRING;
    if (!is_string && (spec->is_json != 0 || spec->is_optional != 0)) return false;
    for (int32_t d = 0; d < spec->rank; d++)
        if (spec->dims[d] < -1) return false;
    return true;
}

static bool read_specs(struct reader *reader, struct value_spec *specs, uint32_t count,
                       struct wire_spec *wire)
{
    for (uint32_t i = 0; i < count; i++) {
        if (!read_bytes(reader, &wire[i], sizeof wire[i]) || !spec_is_sane(&wire[i])) return false;
        specs[i].kind = (enum value_kind)wire[i].kind;
        specs[i].type = (enum tensor_type)wire[i].type;
        specs[i].key_type = (enum tensor_type)wire[i].key_type;
        specs[i].is_json = wire[i].is_json != 0;
        specs[i].is_optional = wire[i].is_optional != 0;
        specs[i].shape.rank = wire[i].rank;
        memcpy(specs[i].shape.dims, wire[i].dims, sizeof wire[i].dims);
    }
    return true;
}

static bool read_spec_names(struct reader *reader, struct value_spec *specs, uint32_t count,
                            const struct wire_spec *wire)
{
    for (uint32_t i = 0; i < count; i++) {
        if (!read_text(reader, wire[i].name_bytes, &specs[i].name)) return false;
        for (int32_t d = 0; d < specs[i].shape.rank; d++)
            if (wire[i].dim_name_bytes[d] > 0 &&
                !read_text(reader, wire[i].dim_name_bytes[d], &specs[i].dim_names[d]))
                return false;
    }
    return true;
}

/* What is_batched promises: every input has a first dimension, and it is the one named. */
static bool batch_is_sane(const struct model_signature *signature)
{
    if (signature->batch_fixed < 0 || signature->batch_fixed > BATCH_FIXED_MAX) return false;
    if (!signature->is_batched) return signature->batch_fixed == 0;
    for (size_t i = 0; i < signature->n_inputs; i++) {
        const struct shape *shape = &signature->inputs[i].shape;
        if (shape->rank < 1) return false;
        if (shape->dims[0] >= 0 && shape->dims[0] != signature->batch_fixed) return false;
    }
    return signature->n_inputs > 0;
}

static bool read_ready(struct reader *reader, struct model_signature *signature,
                       struct wire_spec *wire, char **ret_description, uint32_t *ret_units_max)
{
    struct wire_ready ready;
    if (!read_bytes(reader, &ready, sizeof ready)) return false;
    if (ready.units_max < 1 || ready.units_max > WIRE_UNITS_MAX) return false;
    *ret_units_max = ready.units_max;
    if (ready.n_inputs > MODEL_VALUES_MAX || ready.n_outputs > MODEL_VALUES_MAX) return false;
    signature->inputs = calloc(ready.n_inputs + 1u, sizeof *signature->inputs);
    signature->outputs = calloc(ready.n_outputs + 1u, sizeof *signature->outputs);
    if (signature->inputs == NULL || signature->outputs == NULL) return false;
    signature->n_inputs = ready.n_inputs;
    signature->n_outputs = ready.n_outputs;
    signature->is_batched = ready.is_batched != 0;
    signature->batch_fixed = ready.batch_fixed;
    struct wire_spec *output_wire = wire + ready.n_inputs;
    return read_specs(reader, signature->inputs, ready.n_inputs, wire) &&
           read_specs(reader, signature->outputs, ready.n_outputs, output_wire) &&
           read_spec_names(reader, signature->inputs, ready.n_inputs, wire) &&
           read_spec_names(reader, signature->outputs, ready.n_outputs, output_wire) &&
           read_text(reader, ready.description_bytes, ret_description) && reader->left == 0 &&
           batch_is_sane(signature);
}

tidemill_error *wire_read_ready(const void *message, size_t size, struct model_signature *ret,
                                char *description, size_t description_size, uint32_t *ret_units_max)
{
    struct reader reader = {.at = message, .left = size};
    struct wire_spec *wire = calloc((size_t)2 * MODEL_VALUES_MAX, sizeof *wire);
    char *text = NULL;
    *ret = (struct model_signature){0};
    bool is_fine = wire != NULL && read_ready(&reader, ret, wire, &text, ret_units_max);
    if (is_fine) {
        snprintf(description, description_size, "%s", text);
    } else {
        model_signature_free(ret);
        *ret = (struct model_signature){0};
    }
    free(text);
    free(wire);
    if (is_fine) return NULL;
    return error_new(ERROR_MODEL_LOAD, "the model process describes a model that cannot be");
}

size_t wire_utf8_length(const unsigned char *text, size_t left)
{
    static const struct {
        unsigned char first_min, first_max, second_min, second_max, length;
    } forms[] = {
        {0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3}, {0xe1, 0xec, 0x80, 0xbf, 3},
        {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3}, {0xf0, 0xf0, 0x90, 0xbf, 4},
        {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4},
    };
    if (text[0] < 0x80) return 1;
    for (size_t i = 0; i < COUNT_OF(forms); i++) {
        if (text[0] < forms[i].first_min || text[0] > forms[i].first_max) continue;
        if (left < forms[i].length || text[1] < forms[i].second_min ||
            text[1] > forms[i].second_max)
            return 0;
        for (size_t k = 2; k < forms[i].length; k++)
            if ((text[k] & 0xc0) != 0x80) return 0;
        return forms[i].length;
    }
    return 0;
}

void wire_clean_text(char *text, size_t size)
{
    if (size == 0) return;
    text[size - 1] = '\0';
    unsigned char *bytes = (unsigned char *)text;
    size_t length = strlen(text);
    for (size_t i = 0; i < length;) {
        size_t step = wire_utf8_length(bytes + i, length - i);
        if (step == 0) bytes[i] = '?';
        if (bytes[i] < 0x20 || bytes[i] == 0x7f) bytes[i] = ' ';
        i += MAX(step, (size_t)1);
    }
    while (length > 0 && text[length - 1] == ' ') text[--length] = '\0';
}
