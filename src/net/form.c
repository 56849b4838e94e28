/* SPDX-License-Identifier: Apache-2.0 */
/* form.c - multipart/form-data through a window of fixed size: what stands before the next boundary is
 * handed on, all but as many bytes as the boundary could begin with. Not taken: nested multiparts, encodings
 * other than the bytes themselves, a part without a name. */
#include "net/form.h"

#include "net/impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#define WINDOW_BYTES ((size_t)64 << 10)

struct form_reader {
    const struct form_source *source;
    const struct net_form *form;
    char delimiter[FORM_BOUNDARY_BYTES + 5]; /* CR LF -- boundary */
    size_t delimiter_size;
    char *window;
    size_t start, end;
    bool is_end;
    char name[FORM_NAME_BYTES], filename[FORM_NAME_BYTES];
};

static tidemill_error *malformed(const char *why)
{
    return error_new(ERROR_INPUT, "the form is malformed: %s", why);
}

/* --- parameters of a header: name=token, name="quoted \" string" --------------------------------- */

static const char *skip_blanks(const char *p)
{
    while (*p == ' ' || *p == '\t') p++;
    return p;
}

/* Reads a value into `out`; NULL: malformed or too long. Returns what stands behind it. */
static const char *read_value(const char *p, char *out, size_t room)
{
    size_t size = 0;
    bool is_quoted = *p == '"';
    if (is_quoted) p++;
    for (; *p != '\0'; p++) {
        if (is_quoted ? *p == '"' : (*p == ';' || *p == ' ' || *p == '\t')) break;
        if (is_quoted && *p == '\\' && (p[1] == '"' || p[1] == '\\')) p++;
        if ((unsigned char)*p < ' ' || *p == 0x7f || size + 1 >= room) return NULL;
        out[size++] = *p;
    }
    if (is_quoted && *p++ != '"') return NULL;
    out[size] = '\0';
    return p;
}

/* Finds parameter `name` behind the first ';'. False: malformed. Not there: `out` stays. */
static bool read_parameter(const char *header, const char *name, char *out, size_t room)
{
    size_t name_size = strlen(name);
    char scratch[FORM_HEAD_BYTES / 8];
    const char *p = strchr(header, ';');
    bool is_found = false;
    while (p != NULL && *p == ';') {
        p = skip_blanks(p + 1);
        if (*p == '\0') return true; /* a ';' at the end */
        size_t n = strcspn(p, "=; \t");
        if (p[n] != '=') return false;
        bool is_it = n == name_size && strncasecmp(p, name, n) == 0;
        if (is_it && is_found) return false;
        p = read_value(p + n + 1, is_it ? out : scratch, is_it ? room : sizeof scratch);
        if (p == NULL) return false;
        is_found |= is_it;
        p = skip_blanks(p);
    }
    return p == NULL || *p == '\0';
}

static tidemill_error *read_boundary(struct form_reader *reader, const char *type)
{
    static const char multipart[] = "multipart/form-data";
    char boundary[FORM_BOUNDARY_BYTES + 1] = "";
    if (type == NULL || strncasecmp(type, multipart, sizeof multipart - 1) != 0)
        return error_new(ERROR_INPUT, "the body has to be multipart/form-data");
    if (!read_parameter(type, "boundary", boundary, sizeof boundary) || boundary[0] == '\0')
        return malformed("its Content-Type has no boundary of 1 to 70 characters");
    int n = snprintf(reader->delimiter, sizeof reader->delimiter, "\r\n--%s", boundary);
    reader->delimiter_size = (size_t)n;
    return NULL;
}

/* --- the window -------------------------------------------------------------------------------- */

static size_t have(const struct form_reader *reader)
{
    return reader->end - reader->start;
}

static char *at(const struct form_reader *reader)
{
    return reader->window + reader->start;
}

static tidemill_error *refill(struct form_reader *reader)
{
    size_t n = 0;
    if (reader->start > 0) {
        memmove(reader->window, at(reader), have(reader));
        reader->end -= reader->start;
        reader->start = 0;
    }
    if (reader->is_end || reader->end == WINDOW_BYTES) return NULL;
    TRY(reader->source->read(reader->source->context, reader->window + reader->end,
                             WINDOW_BYTES - reader->end, &n));
    reader->end += n;
    reader->is_end = n == 0;
    return NULL;
}

/* As many bytes as asked for are in the window. */
static tidemill_error *need(struct form_reader *reader, size_t size)
{
    while (have(reader) < size) {
        if (reader->is_end) return malformed("it ends before its last boundary");
        TRY(refill(reader));
    }
    return NULL;
}

static char *find(const struct form_reader *reader, const char *what, size_t size)
{
    return memmem(at(reader), have(reader), what, size);
}

/* --- parts ------------------------------------------------------------------------------------- */

/* One line of a part's head, ended by a NUL. */
static tidemill_error *read_head_line(struct form_reader *reader, const char *line, bool *has_name)
{
    static const char disposition[] = "content-disposition:",
                      encoding[] = "content-transfer-encoding:";
    if (strncasecmp(line, encoding, sizeof encoding - 1) == 0) {
        const char *value = skip_blanks(line + sizeof encoding - 1);
        if (strcasecmp(value, "binary") != 0 && strcasecmp(value, "8bit") != 0 &&
            strcasecmp(value, "7bit") != 0)
            return malformed("a part is encoded; send the bytes as they are");
    }
    if (strncasecmp(line, disposition, sizeof disposition - 1) != 0) return NULL;
    const char *value = skip_blanks(line + sizeof disposition - 1);
    if (*has_name || strncasecmp(value, "form-data", 9) != 0 ||
        !read_parameter(value, "name", reader->name, sizeof reader->name) ||
        !read_parameter(value, "filename", reader->filename, sizeof reader->filename))
        return malformed("a part's Content-Disposition cannot be read");
    *has_name = true;
    return NULL;
}

/* From behind a boundary's line to the empty line. */
static tidemill_error *read_head(struct form_reader *reader)
{
    bool has_name = false;
    size_t total = 0;
    reader->name[0] = reader->filename[0] = '\0';
    for (;;) {
        char *end;
        while ((end = find(reader, "\r\n", 2)) == NULL) {
            if (have(reader) + total > FORM_HEAD_BYTES)
                return malformed("a part's head is over 8 KiB");
            TRY(need(reader, have(reader) + 1));
        }
        size_t size = (size_t)(end - at(reader));
        total += size + 2;
        if (total > FORM_HEAD_BYTES) return malformed("a part's head is over 8 KiB");
        if (memchr(at(reader), '\0', size) != NULL) return malformed("a part's head has a NUL");
        *end = '\0';
        TRY(size == 0 ? NULL : read_head_line(reader, at(reader), &has_name));
        reader->start += size + 2;
        if (size == 0) break;
    }
    return has_name ? NULL : malformed("a part has no Content-Disposition");
}

static tidemill_error *give(struct form_reader *reader, size_t size, bool is_forgotten)
{
    tidemill_error *error = NULL;
    if (size > 0 && !is_forgotten)
        error = reader->form->data(reader->form->context, at(reader), size);
    reader->start += size;
    return error;
}

/* Up to the next boundary and past it. */
static tidemill_error *read_data(struct form_reader *reader, bool is_preamble)
{
    size_t total = 0;
    for (;;) {
        char *end = find(reader, reader->delimiter, reader->delimiter_size);
        size_t size = end != NULL ? (size_t)(end - at(reader))
                      : have(reader) < reader->delimiter_size
                          ? 0
                          : have(reader) - (reader->delimiter_size - 1);
        total += size;
        if (is_preamble && total > FORM_HEAD_BYTES)
            return malformed("no boundary in its first 8 KiB");
        TRY(give(reader, size, is_preamble));
        if (end != NULL) break;
        TRY(need(reader, have(reader) + 1));
    }
    reader->start += reader->delimiter_size;
    return NULL;
}

/* Behind a boundary: "--" ends the form, an end of line begins a part. */
static tidemill_error *read_boundary_end(struct form_reader *reader, bool *ret_is_last)
{
    TRY(need(reader, 2));
    for (int i = 0; i < 64 && (*at(reader) == ' ' || *at(reader) == '\t'); i++) {
        reader->start++;
        TRY(need(reader, 2));
    }
    *ret_is_last = memcmp(at(reader), "--", 2) == 0;
    if (!*ret_is_last && memcmp(at(reader), "\r\n", 2) != 0)
        return malformed("a boundary's line does not end with it");
    reader->start += 2;
    return NULL;
}

static tidemill_error *read_parts(struct form_reader *reader)
{
    const struct net_form *form = reader->form;
    bool is_last = false;
    TRY(read_data(reader, true));
    TRY(read_boundary_end(reader, &is_last));
    for (int n = 1; !is_last; n++) {
        if (n > FORM_PARTS_MAX) return malformed("it has more than 64 parts");
        TRY(read_head(reader));
        TRY(form->begin(form->context, reader->name, reader->filename));
        TRY(read_data(reader, false));
        TRY(form->end(form->context));
        TRY(read_boundary_end(reader, &is_last));
    }
    /* What follows means nothing. A little of it is taken, so that the connection can go on. */
    for (int i = 0; i < 16 && !reader->is_end; i++) {
        reader->start = reader->end = 0;
        TRY(refill(reader));
    }
    return NULL;
}

tidemill_error *form_read(const char *type, const struct form_source *source,
                          const struct net_form *form)
{
    struct form_reader reader = {.source = source, .form = form};
    TRY(read_boundary(&reader, type));
    reader.window = malloc(WINDOW_BYTES);
    if (reader.window == NULL) return error_memory();
    memcpy(reader.window, "\r\n", 2); /* as if a line had ended before the first boundary */
    reader.end = 2;
    tidemill_error *error = read_parts(&reader);
    free(reader.window);
    return error;
}

static tidemill_error *read_exchange(void *context, void *data, size_t size, size_t *ret_size)
{
    return exchange_read(context, data, size, ret_size);
}

tidemill_error *exchange_read_form(struct exchange *exchange, const struct net_form *form)
{
    struct form_source source = {.context = exchange, .read = read_exchange};
    return form_read(exchange_header(exchange, "content-type"), &source, form);
}
