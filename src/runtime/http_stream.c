/* SPDX-License-Identifier: Apache-2.0 */
/* http_stream.c - a stream of server-sent events put together into the answer that would have come at
 * once. Chunks of chat completions and completions are joined; of the Responses API, the last event
 * has the whole.
 *
 * Chunks are objects that are laid over one another. Text inside "delta", and a completion's "text", is
 * continued; other text, numbers and truth values replace what was there; lists are continued, or, where
 * their elements have an "index", laid over one another element by element. So fields that we do not
 * know come through.
 *
 * Source: the chunk objects of OpenAI's specification; HTML's section 9.2 for events. */
#include "format/decode_text.h"
#include "runtime/http_dialects.h"

#include <stdlib.h>

#define DEPTH_MAX 8      /* of what is laid over one another; deeper values are taken whole */
#define NODES_MAX 16384u /* fields of one answer */
#define INDEX_MAX 4096u
/* Looking for fields, in all: under a second. What servers send needs a few million; one that is out
 * to harm could keep the job busy for minutes with an answer that is not too large. */
#define STEPS_MAX (UINT64_C(1) << 28)

enum node_kind { NODE_NULL, NODE_TEXT, NODE_PLAIN, NODE_LIST, NODE_OBJECT, NODE_INDEXED };

struct node {
    enum node_kind kind;
    struct slice name; /* of an object's member */
    uint64_t index;    /* of an element */
    struct buffer
        text; /* TEXT: without quotes and escapes; PLAIN: JSON; LIST: JSON without brackets */
    struct node *first_child, *next;
    struct node *made_before; /* all nodes, for freeing */
};

struct joining {
    struct arena arena;
    struct node *last_made;
    size_t n_nodes;
    uint64_t steps;
    struct node *root;
    struct buffer *out;
    char *message;
    bool is_done;
};

/* --- events --- */

struct events {
    const char *p, *end;
    struct buffer data; /* of the last event */
};

static struct slice take_line(struct events *events)
{
    const char *start = events->p, *p = start;
    while (p < events->end && *p != '\n' && *p != '\r') p++;
    events->p = p;
    if (events->p < events->end) events->p++;
    if (events->p < events->end && *p == '\r' && *events->p == '\n') events->p++;
    return (struct slice){start, (size_t)(p - start)};
}

/* False: that was all. Names, ids and comments are of no interest. */
static bool take_event(struct events *events)
{
    buffer_reset(&events->data, (size_t)1 << 20);
    while (events->p < events->end) {
        struct slice line = take_line(events);
        if (line.size == 0 && events->data.size > 0) return true;
        if (line.size < 5 || memcmp(line.data, "data:", 5) != 0) continue;
        size_t skip = line.size > 5 && line.data[5] == ' ' ? 6 : 5;
        if (events->data.size > 0) buffer_byte(&events->data, '\n');
        buffer_append(&events->data, line.data + skip, line.size - skip);
    }
    return events->data.size > 0;
}

/* --- laying over --- */

static bool refuse(struct joining *j, const char *problem)
{
    http_say(j->message, "the stream %s", problem);
    return false;
}

static struct node *add_node(struct joining *j, struct node **place)
{
    struct node *node = j->n_nodes < NODES_MAX ? arena_alloc(&j->arena, sizeof *node) : NULL;
    if (node == NULL) {
        refuse(j, j->n_nodes < NODES_MAX ? "is too large: out of memory" : "has too many fields");
        return NULL;
    }
    *node = (struct node){.made_before = j->last_made, .next = *place};
    j->last_made = node;
    j->n_nodes++;
    *place = node;
    return node;
}

/* One more field was looked at whose name has so many bytes. */
static bool can_step(struct joining *j, size_t name_size)
{
    j->steps += 1 + name_size / 16;
    return j->steps <= STEPS_MAX || refuse(j, "has too many fields");
}

static struct node *member_of(struct joining *j, struct node *parent, yyjson_val *key)
{
    struct slice name = {yyjson_get_str(key), yyjson_get_len(key)};
    struct node **place = &parent->first_child;
    for (; *place != NULL; place = &(*place)->next) {
        if (!can_step(j, name.size)) return NULL;
        if ((*place)->name.size == name.size &&
            memcmp((*place)->name.data, name.data, name.size) == 0)
            return *place;
    }
    struct node *node = add_node(j, place);
    char *copy = node == NULL ? NULL : arena_alloc(&j->arena, name.size + 1);
    if (copy == NULL) return NULL;
    memcpy(copy, name.data, name.size);
    node->name = (struct slice){copy, name.size};
    return node;
}

static struct node *element_of(struct joining *j, struct node *list, uint64_t index)
{
    struct node **place = &list->first_child;
    while (*place != NULL && (*place)->index < index) {
        if (!can_step(j, 0)) return NULL;
        place = &(*place)->next;
    }
    if (*place != NULL && (*place)->index == index) return *place;
    struct node *node = add_node(j, place);
    if (node != NULL)
        *node = (struct node){.index = index,
                              .kind = NODE_OBJECT,
                              .next = node->next,
                              .made_before = node->made_before};
    return node;
}

/* The first value that is not null says what a node is. */
static bool becomes(struct joining *j, struct node *node, enum node_kind kind)
{
    if (node->kind == NODE_NULL) node->kind = kind;
    return node->kind == kind || refuse(j, "contradicts itself: a field changes its type");
}

static bool is_name(const struct node *node, const char *name)
{
    return node->name.size == strlen(name) && memcmp(node->name.data, name, node->name.size) == 0;
}

/* What is inside a delta and still said once. */
static bool is_continued(const struct node *node, bool is_delta)
{
    if (!is_delta) return is_name(node, "text");
    return !is_name(node, "role") && !is_name(node, "id") && !is_name(node, "type") &&
           !is_name(node, "name");
}

static bool lay_text(struct joining *j, struct node *node, yyjson_val *value, bool is_delta)
{
    if (!becomes(j, node, NODE_TEXT)) return false;
    size_t size = yyjson_get_len(value);
    if (size > 0 && !is_continued(node, is_delta)) node->text.size = 0;
    buffer_append(&node->text, yyjson_get_str(value), size);
    return true;
}

static bool lay_plain(struct joining *j, struct node *node, yyjson_val *value)
{
    if (!becomes(j, node, NODE_PLAIN)) return false;
    node->text.size = 0;
    http_json_put(&node->text, value);
    return true;
}

static bool lay_object(struct joining *j, struct node *node, yyjson_val *value, int depth,
                       bool is_delta);

static bool lay_list(struct joining *j, struct node *node, yyjson_val *value, int depth,
                     bool is_delta)
{
    size_t i, n;
    yyjson_val *element;
    if (node->kind != NODE_INDEXED && !becomes(j, node, NODE_LIST)) return false;
    yyjson_arr_foreach(value, i, n, element)
    {
        uint64_t index;
        bool is_indexed = http_json_count(yyjson_obj_get(element, "index"), &index);
        if (is_indexed && node->kind == NODE_LIST && node->text.size == 0)
            node->kind = NODE_INDEXED;
        if (is_indexed != (node->kind == NODE_INDEXED) || (is_indexed && index >= INDEX_MAX))
            return refuse(j, "contradicts itself: elements with and without an index");
        if (is_indexed) {
            struct node *place = element_of(j, node, index);
            if (place == NULL || !lay_object(j, place, element, depth + 1, is_delta)) return false;
            continue;
        }
        if (node->text.size > 0) buffer_byte(&node->text, ',');
        http_json_put(&node->text, element);
    }
    return true;
}

/* Goes down at most DEPTH_MAX levels, so calling itself is bounded. */
static bool lay_value(struct joining *j, struct node *node, yyjson_val *value, int depth,
                      bool is_delta)
{
    if (yyjson_is_null(value)) return true;
    if (yyjson_is_str(value)) return lay_text(j, node, value, is_delta);
    if (depth < DEPTH_MAX && yyjson_is_arr(value)) return lay_list(j, node, value, depth, is_delta);
    if (depth < DEPTH_MAX && yyjson_is_obj(value))
        return becomes(j, node, NODE_OBJECT) && lay_object(j, node, value, depth, is_delta);
    return lay_plain(j, node, value);
}

static bool lay_object(struct joining *j, struct node *node, yyjson_val *value, int depth,
                       bool is_delta)
{
    size_t i, n;
    yyjson_val *key, *member;
    yyjson_obj_foreach(value, i, n, key, member)
    {
        struct node *place = member_of(j, node, key);
        if (place == NULL) return refuse(j, "is too large, or has too many fields");
        if (!lay_value(j, place, member, depth + 1, is_delta || is_name(place, "delta")))
            return false;
    }
    return true;
}

/* --- writing --- */

static void put_text(struct buffer *out, const struct node *node, struct slice text)
{
    static const char suffix[] = ".chunk"; /* "object":"chat.completion.chunk" */
    size_t cut = sizeof suffix - 1;
    if (is_name(node, "object") && text.size > cut &&
        memcmp(text.data + text.size - cut, suffix, cut) == 0)
        text.size -= cut;
    http_json_put_string(out, text.size == 0 ? "" : text.data, text.size);
}

static void put_node(struct buffer *out, const struct node *node, const struct node *list);

/* In answers that come at once choices have their index, calls of tools do not. */
static void put_members(struct buffer *out, const struct node *node, const struct node *list)
{
    bool is_first = true;
    buffer_byte(out, '{');
    for (const struct node *member = node->first_child; member != NULL; member = member->next) {
        struct slice name = member->name;
        if (list != NULL && !is_name(list, "choices") && is_name(member, "index")) continue;
        if (list != NULL && is_name(member, "delta")) name = (struct slice){"message", 7};
        if (!is_first) buffer_byte(out, ',');
        is_first = false;
        http_json_put_string(out, name.data, name.size);
        buffer_byte(out, ':');
        put_node(out, member, NULL);
    }
    buffer_byte(out, '}');
}

static void put_elements(struct buffer *out, const struct node *list)
{
    buffer_byte(out, '[');
    for (const struct node *element = list->first_child; element != NULL; element = element->next) {
        if (element != list->first_child) buffer_byte(out, ',');
        put_node(out, element, list);
    }
    buffer_byte(out, ']');
}

/* `list`: what the node is an element of. As deep as lay_value went. */
static void put_node(struct buffer *out, const struct node *node, const struct node *list)
{
    struct slice text = {node->text.data, node->text.size};
    if (node->text.is_failed) out->is_failed = true;
    switch (node->kind) {
    case NODE_NULL: buffer_text(out, "null"); break;
    case NODE_TEXT: put_text(out, node, text); break;
    case NODE_PLAIN: buffer_append(out, text.data, text.size); break;
    case NODE_LIST:
        buffer_byte(out, '[');
        buffer_append(out, text.data, text.size);
        buffer_byte(out, ']');
        break;
    case NODE_OBJECT: put_members(out, node, list); break;
    case NODE_INDEXED: put_elements(out, node); break;
    }
}

/* --- the whole --- */

/* "response.completed", "response.incomplete" and "response.failed" bring the response. */
static bool take_response_event(struct joining *j, yyjson_val *event, const char *type)
{
    yyjson_val *response = yyjson_obj_get(event, "response");
    if (strcmp(type, "response.completed") != 0 && strcmp(type, "response.incomplete") != 0 &&
        strcmp(type, "response.failed") != 0)
        return true;
    if (!yyjson_is_obj(response)) return refuse(j, "ends without the response");
    http_json_put(j->out, response);
    j->is_done = true;
    return true;
}

static bool take_object(struct joining *j, yyjson_val *event)
{
    yyjson_val *error = yyjson_obj_get(event, "error");
    const char *type = yyjson_get_str(yyjson_obj_get(event, "type"));
    if (yyjson_is_obj(error) || yyjson_is_str(error) ||
        (type != NULL && strcmp(type, "error") == 0)) {
        const char *said = http_json_error(event);
        http_say(j->message, "the stream ends with an error: %s", said == NULL ? "unnamed" : said);
        return false;
    }
    if (type != NULL && strncmp(type, "response.", 9) == 0)
        return take_response_event(j, event, type);
    if (type != NULL && yyjson_obj_get(event, "choices") == NULL)
        return refuse(j, "is of a kind that cannot be put together; ask without \"stream\"");
    return lay_object(j, j->root, event, 0, false);
}

static bool finish_chunks(struct joining *j)
{
    if (j->root->first_child == NULL) return refuse(j, "has no answer in it");
    put_node(j->out, j->root, NULL);
    j->is_done = true;
    return true;
}

static bool take_data(struct joining *j, struct slice data)
{
    char problem[HTTP_MESSAGE_SIZE];
    if (data.size == 6 && memcmp(data.data, "[DONE]", 6) == 0) return finish_chunks(j);
    yyjson_doc *doc = http_json_read(data, problem);
    yyjson_val *root = yyjson_doc_get_root(doc);
    bool is_fine = yyjson_is_obj(root);
    if (is_fine)
        is_fine = take_object(j, root);
    else if (doc != NULL)
        refuse(j, "has an event that is not an object");
    else
        http_say(j->message, "an event of the stream is %s", problem);
    yyjson_doc_free(doc);
    return is_fine;
}

static bool ends_with_line(struct slice body)
{
    char last = body.size == 0 ? '\0' : body.data[body.size - 1];
    return last == '\n' || last == '\r';
}

/* A line at the very end that nothing ends may be half of one. */
static bool take_events(struct joining *j, struct slice body)
{
    struct events events = {.p = body.data, .end = body.data + body.size};
    bool is_fine = true;
    if (body.size >= 3 && memcmp(body.data, "\xef\xbb\xbf", 3) == 0) events.p += 3;
    while (is_fine && !j->is_done && take_event(&events)) {
        if (events.data.is_failed) is_fine = refuse(j, "is too large: out of memory");
        struct slice data = {events.data.data, events.data.size};
        bool is_whole = events.p < events.end || ends_with_line(body);
        if (is_fine && !is_whole && (data.size != 6 || memcmp(data.data, "[DONE]", 6) != 0)) break;
        if (is_fine) is_fine = take_data(j, data);
    }
    buffer_free(&events.data);
    if (is_fine && !j->is_done) return refuse(j, "was cut short: its end is not there");
    return is_fine;
}

enum error_code http_stream_join(struct slice body, struct buffer *out, char *message)
{
    struct joining joining = {.out = out, .message = message};
    struct node *root = NULL;
    bool is_fine = add_node(&joining, &root) != NULL;
    if (is_fine) {
        root->kind = NODE_OBJECT;
        joining.root = root;
        is_fine = take_events(&joining, body);
    }
    for (struct node *node = joining.last_made; node != NULL; node = node->made_before)
        buffer_free(&node->text);
    arena_free(&joining.arena);
    return is_fine ? ERROR_OK : ERROR_UPSTREAM;
}
